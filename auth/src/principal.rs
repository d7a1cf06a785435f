//! Who is asking: a principal, and the address it asks from.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// The type of every principal that a built-in authenticator makes.
pub const USER: &str = "User";

/// The name of whoever reached a listener without proving who he is.
pub const ANONYMOUS: &str = "ANONYMOUS";

/// An authenticated name: `type:name`, compared byte for byte, case sensitive.
///
/// Cloning is cheap. The name may hold anything a client could prove, colons included; only
/// the first colon of the text form separates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal {
    /// The type, `User` for all built-in authenticators.
    pub kind: Arc<str>,
    /// The name within the type.
    pub name: Arc<str>,
}

impl Principal {
    /// Makes `User:<name>`.
    pub fn user(name: impl Into<Arc<str>>) -> Self {
        Self {
            kind: USER.into(),
            name: name.into(),
        }
    }

    /// Makes `User:ANONYMOUS`, the principal of unauthenticated connections.
    pub fn anonymous() -> Self {
        Self::user(ANONYMOUS)
    }

    /// Tells whether this is `User:ANONYMOUS`.
    pub fn is_anonymous(&self) -> bool {
        &*self.kind == USER && &*self.name == ANONYMOUS
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

/// A text that is not `type:name`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not of the form <type>:<name>, for example User:alice")]
pub struct PrincipalError(String);

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        match text.split_once(':') {
            Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(Self {
                kind: kind.into(),
                name: name.into(),
            }),
            _ => Err(PrincipalError(text.escape_debug().to_string())),
        }
    }
}

/// The asker of an authorization question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The authenticated principal.
    pub principal: Principal,
    /// The address of the TCP peer; an IPv4-mapped IPv6 address counts as IPv4.
    pub host: IpAddr,
}

impl Caller {
    /// Joins a principal and its address.
    pub fn new(principal: Principal, host: IpAddr) -> Self {
        Self {
            principal,
            host: host.to_canonical(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_the_first_colon_only() {
        let principal: Principal = "User:CN=a:b,O=x".parse().unwrap();
        assert_eq!(&*principal.kind, "User");
        assert_eq!(&*principal.name, "CN=a:b,O=x");
        assert_eq!(principal.to_string(), "User:CN=a:b,O=x");
    }

    #[test]
    fn half_a_principal_is_an_error() {
        for text in ["", "alice", ":", "User:", ":alice"] {
            assert!(text.parse::<Principal>().is_err(), "{text}");
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let caller = Caller::new(Principal::anonymous(), "::ffff:10.1.2.3".parse().unwrap());
        assert_eq!(caller.host, "10.1.2.3".parse::<IpAddr>().unwrap());
        assert!(caller.principal.is_anonymous());
    }
}
