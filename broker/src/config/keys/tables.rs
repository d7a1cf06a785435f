//! Looking keys up, exactly and nearly.

use super::{Key, cluster, groups, log, network, own, remote, security};

const TABLES: [&[Key]; 8] = [
    network::KEYS,
    log::KEYS,
    remote::KEYS,
    cluster::KEYS,
    cluster::GONE,
    groups::KEYS,
    security::KEYS,
    own::KEYS,
];

/// Every key of the table.
pub fn all() -> impl Iterator<Item = &'static Key> {
    TABLES.into_iter().flatten()
}

/// The key of exactly that name, without prefixes.
pub fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

/// The known key that takes the fewest edits to reach, if they are few for its length.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(name, all().map(|key| key.name))
}

/// The same among other names.
pub(crate) fn nearest_of(
    name: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    // A name from a hostile environment must not cost more than a glance.
    let name: Vec<char> = name.chars().take(128).collect();
    known
        .map(|key| (distance(&name, key), key))
        .min()
        .filter(|(edits, key)| *edits <= 1 + key.len() / 4)
        .map(|(_, key)| key)
}

/// Edits (insert, delete, replace, swap of neighbours) that lead from one text to the other.
fn distance(from: &[char], to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in to.iter().enumerate() {
            let mut best = (above[column] + usize::from(a != b))
                .min(above[column + 1] + 1)
                .min(current[column] + 1);
            let swapped = row > 0 && column > 0 && *a == to[column - 1] && from[row - 1] == *b;
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{
        keys::{Dynamic, Kind, Use},
        value,
    };

    #[test]
    fn names_are_unique_and_defaults_fit_their_rows() {
        let mut seen = BTreeSet::new();
        for key in all() {
            assert!(seen.insert(key.name), "{} twice", key.name);
            if let Some(default) = key.default {
                let canonical = value::canonical(key, default);
                assert_eq!(canonical.as_deref(), Ok(default), "{}", key.name);
            }
            if key.is_own() {
                assert_ne!(key.usage, Use::NoMeaning, "{}", key.name);
                assert_eq!(key.dynamic, Dynamic::No, "{}", key.name);
            }
        }
        assert!(seen.len() > 300, "{}", seen.len());
    }

    #[test]
    fn secrets_are_the_ones_of_the_specification() {
        for name in [
            "ssl.keystore.password",
            "ssl.key.password",
            "ssl.keystore.key",
            "ssl.keystore.certificate.chain",
            "ssl.truststore.password",
            "ssl.truststore.certificates",
            "sasl.jaas.config",
            "delegation.token.secret.key",
            "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.assertion.private.key.passphrase",
        ] {
            assert_eq!(
                find(name).map(|key| key.kind),
                Some(Kind::Password),
                "{name}"
            );
        }
    }

    #[test]
    fn the_nearest_key_is_found_by_few_edits() {
        for (typed, meant) in [
            ("listner", Some("listeners")),
            ("advertised.listener", Some("advertised.listeners")),
            ("log.dri", Some("log.dir")),
            (
                "palisade.log.flush.polcy",
                Some("palisade.log.flush.policy"),
            ),
            ("log.retention.hour", Some("log.retention.hours")),
            ("SUPER.USERS", None),
            ("something.else.entirely.of.another.program", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
    }
}
