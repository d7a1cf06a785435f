//! Bytes that must not be printed, compared in variable time, or left in memory.

use std::fmt;

use openssl::memcmp;
use zeroize::Zeroizing;

/// A password, key or token: wiped when dropped, printed as `[hidden]`.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of the bytes; copies made before stay the caller's concern.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// Shows the bytes. Named so that each use can be found.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Shows the bytes as text, if they are UTF-8.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Tells whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(&self.0, &other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Compares without telling by its duration where the first difference is.
///
/// The lengths are not hidden: those of keys and digests are public.
pub(crate) fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && memcmp::eq(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints() {
        let secret = Secret::from("open-sesame");
        assert_eq!(format!("{secret:?} {secret}"), "[hidden] [hidden]");
        assert_eq!(format!("{:?}", Some(&secret)), "Some([hidden])");
    }

    #[test]
    fn compares_by_content() {
        assert_eq!(Secret::from("a"), Secret::new(vec![b'a']));
        assert_ne!(Secret::from("a"), Secret::from("ab"));
        assert_ne!(Secret::from("ab"), Secret::from("aa"));
        assert!(constant_time_eq(b"", b""));
    }
}
