//! The two mechanisms, and their names and numbers elsewhere.

use std::fmt;

/// One of the two SCRAM mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScramMechanism {
    /// SCRAM-SHA-256.
    Sha256 = 1,
    /// SCRAM-SHA-512.
    Sha512 = 2,
}

impl ScramMechanism {
    /// Both, weaker first.
    pub const VALUES: &'static [Self] = &[Self::Sha256, Self::Sha512];

    /// The type code of the admin API.
    pub const fn code(self) -> i8 {
        self as i8
    }

    /// Finds the mechanism of a type code.
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The SASL name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// Finds the mechanism of a SASL name, which compares exactly.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::VALUES.iter().copied().find(|m| m.name() == name)
    }

    /// The length of keys, proofs and signatures in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for ScramMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
