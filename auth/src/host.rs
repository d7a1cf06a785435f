//! Hosts of ACLs and of callers (spec/security.md §4.5).
//!
//! The reference compares the text that Java prints for an address. Here both sides are
//! addresses, so that an ACL written as `::1` works, and ranges (KIP-1276) are understood.

use std::fmt::Write;
use std::net::IpAddr;

use thiserror::Error;

/// A host field that looks like a range but is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    /// The number after the slash is missing, not a number or too large.
    #[error("host `{0}`: the prefix length is not valid for this address")]
    PrefixLength(String),
    /// The address has bits set below its prefix.
    #[error("host `{host}`: the range begins at {expected}")]
    HostBits {
        /// The text as given.
        host: String,
        /// The range that was probably meant.
        expected: String,
    },
}

/// What the host field of one ACL matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostRule {
    /// `*`.
    Any,
    /// One address.
    Address(IpAddr),
    /// A range: the network address and the number of leading bits that count.
    Range(IpAddr, u8),
    /// A text that is no address: kept and returned, matches nobody.
    Nobody,
}

impl HostRule {
    /// Reads the host field of an ACL.
    pub(crate) fn parse(text: &str) -> Result<Self, HostError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let Some((address, length)) = text.split_once('/') else {
            return Ok(Self::Nobody);
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return Ok(Self::Nobody);
        };
        let bad_length = || HostError::PrefixLength(text.escape_debug().to_string());
        if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad_length());
        }
        let length: u8 = length.parse().map_err(|_| bad_length())?;
        if length > width(address) {
            return Err(bad_length());
        }
        let network = masked(address, length);
        if network != address {
            return Err(HostError::HostBits {
                host: text.to_owned(),
                expected: format!("{network}/{length}"),
            });
        }
        // Callers are canonical, so a range inside ::ffff:0:0/96 must become an IPv4 one.
        Ok(match (network.to_canonical(), length) {
            (IpAddr::V4(v4), length) if network.is_ipv6() && length >= 96 => {
                Self::Range(IpAddr::V4(v4), length - 96)
            }
            _ => Self::Range(network, length),
        })
    }

    /// Tells whether a caller at `host` (canonical) is meant.
    pub(crate) fn matches(self, host: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Address(address) => address == host,
            Self::Range(network, length) => {
                network.is_ipv4() == host.is_ipv4() && masked(host, length) == network
            }
            Self::Nobody => false,
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// The text that Java prints for an address: IPv6 as eight groups without zero compression.
pub fn java_text(host: IpAddr) -> String {
    match host.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let mut text = String::with_capacity(39);
            for (i, group) in v6.segments().iter().enumerate() {
                if i > 0 {
                    text.push(':');
                }
                // Writing to a string cannot fail.
                let _ = write!(text, "{group:x}");
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in ".{0,40}", near in "[0-9a-f:.]{0,20}/[0-9]{0,4}") {
            let host = IpAddr::from([10, 0, 0, 1]);
            for text in [text, near] {
                let _ = HostRule::parse(&text).map(|rule| rule.matches(host));
            }
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn prints_as_java_does() {
        let cases = [
            ("10.1.2.3", "10.1.2.3"),
            ("::1", "0:0:0:0:0:0:0:1"),
            ("2001:db8::1", "2001:db8:0:0:0:0:0:1"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
        ];
        for (address, text) in cases {
            assert_eq!(java_text(ip(address)), text);
        }
    }

    #[test]
    fn compares_addresses_not_texts() {
        let yes = [
            ("*", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("::1", "::1"),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("10.0.0.0/8", "10.255.0.1"),
            ("0.0.0.0/0", "1.2.3.4"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("2001:db8::/32", "2001:db8:ffff::1"),
            ("::/0", "::1"),
            ("::ffff:10.0.0.0/104", "10.9.9.9"),
        ];
        for (acl, host) in yes {
            assert!(HostRule::parse(acl).unwrap().matches(ip(host)), "{acl}");
        }
        let no = [
            ("10.1.2.3", "10.1.2.4"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("0.0.0.0/0", "::1"),
            ("::/0", "1.2.3.4"),
            ("localhost", "127.0.0.1"),
            ("", "127.0.0.1"),
            ("fe80::1%eth0", "fe80::1"),
            ("name/8", "10.0.0.1"),
        ];
        for (acl, host) in no {
            assert!(!HostRule::parse(acl).unwrap().matches(ip(host)), "{acl}");
        }
    }

    #[test]
    fn refuses_ranges_that_are_none() {
        for text in [
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "::/129",
            "::/1000",
        ] {
            let error = HostRule::parse(text).unwrap_err();
            assert!(matches!(error, HostError::PrefixLength(_)), "{text}");
        }
        assert_eq!(
            HostRule::parse("10.1.2.3/8").unwrap_err().to_string(),
            "host `10.1.2.3/8`: the range begins at 10.0.0.0/8"
        );
    }
}
