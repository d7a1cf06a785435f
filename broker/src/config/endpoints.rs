//! The texts of `listeners`, `advertised.listeners` and the protocol map, taken apart.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Endpoint, SecurityProtocol};

/// `NAME://host:port`, taken apart; the name in upper case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) endpoint: Endpoint,
}

/// Reads one item of a listener list.
///
/// # Errors
/// A sentence that says what is wrong with the item.
pub(crate) fn parse(item: &str) -> Result<Named, String> {
    let shape = || format!("{item}: expected NAME://host:port");
    let (name, address) = item.split_once("://").ok_or_else(shape)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(shape)?;
    let name = name.trim();
    if name.is_empty() || !name.chars().all(is_name_char) {
        return Err(format!(
            "{item}: a listener's name consists of letters, digits, '_', '-' and '.'"
        ));
    }
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bracketed.unwrap_or(host);
    let is_v6 = host.contains(':');
    let fits = host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%'));
    if !fits || is_v6 != bracketed.is_some() || (is_v6 && v6_literal(host).is_none()) {
        return Err(format!(
            "{item}: the host is a name, an IPv4 address, or an IPv6 address in brackets"
        ));
    }
    let port = port
        .parse()
        .map_err(|_| format!("{item}: the port is a number from 0 to 65535"))?;
    Ok(Named {
        name: name.to_uppercase(),
        endpoint: Endpoint {
            host: host.to_owned(),
            port,
        },
    })
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// An IPv6 literal, a zone index behind it left aside.
fn v6_literal(host: &str) -> Option<IpAddr> {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    address.parse().ok().filter(IpAddr::is_ipv6)
}

/// Whether a host is the literal that means every interface.
pub(crate) fn is_wildcard(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// Whether two listeners on one port can be told apart: one IPv4 and one IPv6 literal.
pub(crate) fn are_two_families(one: &str, other: &str) -> bool {
    let family = |host: &str| {
        if v6_literal(host).is_some() {
            Some(6)
        } else {
            host.parse::<IpAddr>().ok().map(|_| 4)
        }
    };
    matches!((family(one), family(other)), (Some(a), Some(b)) if a != b)
}

/// Reads `NAME:PROTOCOL,…` into a map by upper-case name, and collects what is wrong.
pub(crate) fn protocol_map(items: &[&str]) -> (BTreeMap<String, SecurityProtocol>, Vec<String>) {
    let mut map = BTreeMap::new();
    let mut problems = Vec::new();
    for item in items {
        match item.rsplit_once(':').map(|(name, protocol)| {
            (
                name.trim().to_uppercase(),
                SecurityProtocol::from_name(protocol.trim()),
            )
        }) {
            Some((name, Some(protocol))) if !name.is_empty() => {
                if map.insert(name.clone(), protocol).is_some() {
                    problems.push(format!("{name} is mapped twice"));
                }
            }
            Some((_, None)) => problems.push(format!(
                "{item}: the protocol is one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"
            )),
            _ => problems.push(format!("{item}: expected NAME:PROTOCOL")),
        }
    }
    (map, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_taken_apart() {
        for (item, name, host, port) in [
            ("PLAINTEXT://:9092", "PLAINTEXT", "", 9092),
            ("client://0.0.0.0:0", "CLIENT", "0.0.0.0", 0),
            ("A-b.c_1://host.example:1", "A-B.C_1", "host.example", 1),
            ("A://[::1]:9092", "A", "::1", 9092),
            ("A://[fe80::1%eth0]:9092", "A", "fe80::1%eth0", 9092),
        ] {
            let named = parse(item).unwrap();
            assert_eq!(named.name, name, "{item}");
            assert_eq!(named.endpoint.host, host, "{item}");
            assert_eq!(named.endpoint.port, port, "{item}");
        }
        for item in [
            "",
            "PLAINTEXT",
            "PLAINTEXT:9092",
            "://host:1",
            "A b://host:1",
            "A://host",
            "A://host:",
            "A://host:70000",
            "A://host:-1",
            "A://::1:9092",
            "A://[host]:9092",
            "A://[::1:9092",
            "A://ho st:1",
            "A://host/x:1",
        ] {
            assert!(parse(item).is_err(), "{item}");
        }
    }

    #[test]
    fn one_port_serves_one_listener_of_each_family() {
        for (one, other, apart) in [
            ("127.0.0.1", "::1", true),
            ("::", "0.0.0.0", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("", "::1", false),
            ("localhost", "::1", false),
        ] {
            assert_eq!(are_two_families(one, other), apart, "{one} {other}");
        }
    }

    #[test]
    fn the_protocol_map_is_read_whole() {
        let (map, problems) = protocol_map(&["client:sasl_ssl", "B:SSL"]);
        assert_eq!(map["CLIENT"], SecurityProtocol::SaslSsl);
        assert_eq!(map["B"], SecurityProtocol::Ssl);
        assert!(problems.is_empty(), "{problems:?}");
        for bad in [&["A:TLS"][..], &["A"], &[":SSL"], &["A:SSL", "a:SSL"]] {
            assert_eq!(protocol_map(bad).1.len(), 1, "{bad:?}");
        }
    }
}
