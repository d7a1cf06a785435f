//! What a SASL listener offers: its mechanisms, and the users written down for PLAIN.
//!
//! Source: security.md §1.1 and §3.2.

use std::fmt;

use palisade_auth::Secret;

/// A mechanism that this broker can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SaslMechanism {
    /// RFC 4616.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// RFC 5802 with SHA-512, as Kafka defines it (KIP-84).
    ScramSha512,
}

impl SaslMechanism {
    /// All of them, weakest first.
    pub const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// The registered name, compared exactly on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism of exactly that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
    }

    /// Whether its credentials live in the cluster's metadata.
    pub fn is_scram(self) -> bool {
        self != Self::Plain
    }
}

impl fmt::Display for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// SASL settings of one listener.
#[derive(Debug, Clone)]
pub struct SaslConfig {
    /// Enabled mechanisms in the order of `sasl.enabled.mechanisms`; never empty.
    pub mechanisms: Vec<SaslMechanism>,
    /// Users of the PLAIN login module's text (`user_<name>="<password>"`), in its order.
    ///
    /// Whoever builds the credential store hashes the passwords and drops this list.
    pub plain_users: Vec<(String, Secret)>,
    /// Whether librdkafka's doubled client nonce is refused (`palisade.sasl.scram.strict.nonce`).
    pub strict_nonce: bool,
}

impl SaslConfig {
    /// Whether any SCRAM mechanism is enabled.
    pub fn has_scram(&self) -> bool {
        self.mechanisms.iter().any(|mechanism| mechanism.is_scram())
    }
}
