//! Settings of groups (configs.md §6.1): what a group of the consumer protocol has of its own.
//!
//! Keys of share and streams groups are no keys here: nothing would heed them.

use palisade_protocol::Str;
use thiserror::Error;

use super::image::ConfigMap;
use crate::config::Config;
use crate::foreign;

/// One group key. Values are of type INT, in milliseconds.
#[derive(Debug)]
pub struct GroupKey {
    /// Name.
    pub name: &'static str,
    /// The node's key for groups whose own settings are silent.
    pub node_key: &'static str,
    /// The node's keys for the least and the largest value.
    bounds: [&'static str; 2],
    /// What it is for.
    pub documentation: &'static str,
}

/// Every key, by name.
pub static KEYS: [GroupKey; 3] = [
    GroupKey {
        name: "consumer.assignment.interval.ms",
        node_key: "group.consumer.assignment.interval.ms",
        bounds: [
            "group.consumer.min.assignment.interval.ms",
            "group.consumer.max.assignment.interval.ms",
        ],
        documentation: "Shortest time between two assignments of the group's partitions.",
    },
    GroupKey {
        name: "consumer.heartbeat.interval.ms",
        node_key: "group.consumer.heartbeat.interval.ms",
        bounds: [
            "group.consumer.min.heartbeat.interval.ms",
            "group.consumer.max.heartbeat.interval.ms",
        ],
        documentation: "How often members of the consumer protocol are to say that they live.",
    },
    GroupKey {
        name: "consumer.session.timeout.ms",
        node_key: "group.consumer.session.timeout.ms",
        bounds: [
            "group.consumer.min.session.timeout.ms",
            "group.consumer.max.session.timeout.ms",
        ],
        documentation: "How long a member of the consumer protocol may be silent.",
    },
];

const ASSIGNMENT: usize = 0;
const HEARTBEAT: usize = 1;
const SESSION: usize = 2;

/// Why a group may not have these settings; the text is what clients read, the code is
/// INVALID_CONFIG.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupConfigError {
    /// No group key has this name.
    #[error("Unknown group config name: {0}")]
    UnknownKey(String),
    /// The value is no number of the key's type.
    #[error("Invalid value {value} for configuration {key}: Not a number of type INT")]
    NotANumber {
        /// Key.
        key: &'static str,
        /// Value, fit to be shown.
        value: String,
    },
    /// The value is below what the node allows.
    #[error("{key} must be greater than or equal to {bound}, which is {limit}")]
    TooSmall {
        /// Key.
        key: &'static str,
        /// The node's key.
        bound: &'static str,
        /// Its value.
        limit: i64,
    },
    /// The value is above what the node allows.
    #[error("{key} must be less than or equal to {bound}, which is {limit}")]
    TooLarge {
        /// Key.
        key: &'static str,
        /// The node's key.
        bound: &'static str,
        /// Its value.
        limit: i64,
    },
    /// Members would be taken for dead between two heartbeats.
    #[error(
        "consumer.session.timeout.ms ({session}) must be greater than \
         consumer.heartbeat.interval.ms ({heartbeat})"
    )]
    SessionTooShort {
        /// Session timeout in force.
        session: i64,
        /// Heartbeat interval in force.
        heartbeat: i64,
    },
}

/// What the node says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    value: i64,
    least: i64,
    most: i64,
}

/// What the node says of the keys: for groups whose own settings are silent, and as bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDefaults {
    ranges: [Range; 3],
}

/// The settings in force for one group, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EffectiveGroupConfig {
    /// consumer.assignment.interval.ms.
    pub assignment_interval_ms: i64,
    /// consumer.heartbeat.interval.ms.
    pub heartbeat_interval_ms: i64,
    /// consumer.session.timeout.ms.
    pub session_timeout_ms: i64,
}

impl GroupDefaults {
    /// Those of a node.
    #[must_use]
    pub fn of(config: &Config) -> GroupDefaults {
        let ranges = KEYS.each_ref().map(|key| {
            let [least, most] = key.bounds;
            Range {
                value: config.number(key.node_key),
                least: config.number(least),
                most: config.number(most),
            }
        });
        GroupDefaults { ranges }
    }

    /// Checks the complete settings of a group.
    ///
    /// # Errors
    /// The first fault: unknown keys before bad values, bad values before conflicts.
    pub fn validate(&self, settings: &ConfigMap) -> Result<(), GroupConfigError> {
        for (name, _) in settings.iter() {
            if lookup(name).is_none() {
                return Err(GroupConfigError::UnknownKey(foreign::name(name)));
            }
        }
        for (key, range) in KEYS.iter().zip(self.ranges) {
            if let Some(text) = settings.get(key.name) {
                range.check(key, text)?;
            }
        }
        let (session, heartbeat) = (
            self.in_force(SESSION, settings),
            self.in_force(HEARTBEAT, settings),
        );
        if session <= heartbeat {
            return Err(GroupConfigError::SessionTooShort { session, heartbeat });
        }
        Ok(())
    }

    /// What is in force for a group with these settings. A value that the node would not take any
    /// more counts as the nearest one that it takes.
    #[must_use]
    pub fn effective(&self, settings: &ConfigMap) -> EffectiveGroupConfig {
        EffectiveGroupConfig {
            assignment_interval_ms: self.in_force(ASSIGNMENT, settings),
            heartbeat_interval_ms: self.in_force(HEARTBEAT, settings),
            session_timeout_ms: self.in_force(SESSION, settings),
        }
    }

    fn in_force(&self, key: usize, settings: &ConfigMap) -> i64 {
        let (key, range) = (&KEYS[key], self.ranges[key]);
        let own = settings.get(key.name).and_then(number);
        own.map_or(range.value, |own| own.max(range.least).min(range.most))
    }
}

impl Default for GroupDefaults {
    /// Kafka's.
    fn default() -> GroupDefaults {
        let range = |value, least, most| Range { value, least, most };
        GroupDefaults {
            ranges: [
                range(1000, 0, 15_000),
                range(5000, 5000, 15_000),
                range(45_000, 45_000, 60_000),
            ],
        }
    }
}

impl Range {
    fn check(self, key: &'static GroupKey, text: &str) -> Result<(), GroupConfigError> {
        let [least, most] = key.bounds;
        let key = key.name;
        let Some(value) = number(text) else {
            let value = foreign::name(text);
            return Err(GroupConfigError::NotANumber { key, value });
        };
        if value < self.least {
            return Err(GroupConfigError::TooSmall {
                key,
                bound: least,
                limit: self.least,
            });
        }
        if value > self.most {
            return Err(GroupConfigError::TooLarge {
                key,
                bound: most,
                limit: self.most,
            });
        }
        Ok(())
    }
}

/// The key of a name.
#[must_use]
pub fn lookup(name: &str) -> Option<&'static GroupKey> {
    KEYS.iter().find(|key| key.name == name)
}

/// A value as it is shown: without what surrounds the number.
#[must_use]
pub fn canonical(text: &str) -> Str {
    match number(text) {
        Some(number) => Str::from(number.to_string()),
        None => Str::copy(text),
    }
}

fn number(text: &str) -> Option<i64> {
    text.trim().parse::<i32>().ok().map(i64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn check(pairs: &[(&str, &str)]) -> Result<(), String> {
        let settings: ConfigMap = pairs.iter().copied().collect();
        let checked = GroupDefaults::default().validate(&settings);
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn keys_are_in_order_and_the_defaults_are_those_of_a_node() {
        assert!(KEYS.is_sorted_by(|one, other| one.name < other.name));
        let text = "node.id=1\nlisteners=PLAINTEXT://:9092\n";
        let sources = Sources::new().text("test", text).host_name("host");
        let (config, _) = Config::load(&sources).unwrap();
        assert_eq!(GroupDefaults::of(&config), GroupDefaults::default());
    }

    #[test]
    fn values_within_the_bounds_of_the_node() {
        for good in [
            ("consumer.session.timeout.ms", "45000"),
            ("consumer.session.timeout.ms", " +60000 "),
            ("consumer.heartbeat.interval.ms", "15000"),
            ("consumer.assignment.interval.ms", "0"),
        ] {
            assert_eq!(check(&[good]), Ok(()), "{good:?}");
        }
        for (key, value, text) in [
            ("consumer.session.timeout.ms", "44999", "min.session"),
            ("consumer.session.timeout.ms", "60001", "max.session"),
            ("consumer.heartbeat.interval.ms", "4999", "min.heartbeat"),
            ("consumer.heartbeat.interval.ms", "15001", "max.heartbeat"),
            ("consumer.assignment.interval.ms", "-1", "min.assignment"),
            ("consumer.assignment.interval.ms", "15001", "max.assignment"),
            ("consumer.session.timeout.ms", "2147483648", "Not a number"),
            ("consumer.session.timeout.ms", "soon", "Not a number"),
            ("share.session.timeout.ms", "45000", "Unknown group config"),
        ] {
            let error = check(&[(key, value)]).unwrap_err();
            assert!(error.contains(text), "{key}={value}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_before_a_bad_value() {
        let error = check(&[("consumer.session.timeout.ms", "x"), ("zz", "1")]).unwrap_err();
        assert_eq!(error, "Unknown group config name: zz");
    }

    #[test]
    fn sessions_outlast_heartbeats() {
        let mut defaults = GroupDefaults::default();
        defaults.ranges[SESSION].least = 1;
        let settings = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<ConfigMap>();
        let short = settings(&[("consumer.session.timeout.ms", "5000")]);
        let error = defaults.validate(&short).unwrap_err();
        let (session, heartbeat) = (5000, 5000);
        assert_eq!(
            error,
            GroupConfigError::SessionTooShort { session, heartbeat }
        );
        let longer = settings(&[("consumer.session.timeout.ms", "5001")]);
        assert_eq!(defaults.validate(&longer), Ok(()));
    }

    #[test]
    fn what_the_node_no_longer_takes_is_bounded() {
        let settings = [
            ("consumer.session.timeout.ms", "1000"),
            ("consumer.heartbeat.interval.ms", "90000"),
        ];
        let effective = GroupDefaults::default().effective(&settings.into_iter().collect());
        let expected = EffectiveGroupConfig {
            assignment_interval_ms: 1000,
            heartbeat_interval_ms: 15_000,
            session_timeout_ms: 45_000,
        };
        assert_eq!(effective, expected);
    }
}
