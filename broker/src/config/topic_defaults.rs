//! What a topic is like whose own configuration is silent (configs.md §2).

use std::collections::BTreeMap;

use super::values::Values;

/// The value that the node's configuration gives to one topic key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDefault {
    /// Canonical text, as DescribeConfigs returns it.
    pub value: String,
    /// The broker key that was written down for it, `None` for the built-in default.
    pub set_by: Option<&'static str>,
}

/// Defaults of every topic key of configs.md §2, resolved through the broker's synonyms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicDefaults(BTreeMap<&'static str, TopicDefault>);

impl TopicDefaults {
    /// The default of a topic key; `None` for names that are no topic keys.
    pub fn get(&self, topic_key: &str) -> Option<&TopicDefault> {
        self.0.get(topic_key)
    }

    /// All topic keys with their defaults, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &TopicDefault)> {
        self.0.iter().map(|(key, default)| (*key, default))
    }
}

/// How a broker key's number becomes the topic key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As it is.
    Same,
    /// Minutes become milliseconds; negative numbers become -1.
    Minutes,
    /// Hours become milliseconds; negative numbers become -1.
    Hours,
}

impl Unit {
    fn convert(self, text: &str) -> String {
        let factor = match self {
            Self::Same => return text.to_owned(),
            Self::Minutes => 60_000,
            Self::Hours => 3_600_000,
        };
        match text.parse::<i64>() {
            Ok(number) if number >= 0 => number.saturating_mul(factor).to_string(),
            Ok(_) => "-1".to_owned(),
            Err(_) => text.to_owned(),
        }
    }
}

/// One topic key: its built-in default, and the broker keys that stand in, first wins.
pub struct TopicKey {
    /// The key.
    pub name: &'static str,
    /// Canonical text of the built-in default.
    pub default: &'static str,
    /// Broker keys with the unit of each, in order of precedence.
    pub synonyms: &'static [(&'static str, Unit)],
}

const fn topic(
    name: &'static str,
    default: &'static str,
    synonyms: &'static [(&'static str, Unit)],
) -> TopicKey {
    TopicKey {
        name,
        default,
        synonyms,
    }
}

const I64_MAX: &str = "9223372036854775807";
const WEEK_MS: &str = "604800000";

/// Every topic key, sorted by name.
pub const TOPIC_KEYS: &[TopicKey] = &[
    topic(
        "cleanup.policy",
        "delete",
        &[("log.cleanup.policy", Unit::Same)],
    ),
    topic(
        "compression.gzip.level",
        "-1",
        &[("compression.gzip.level", Unit::Same)],
    ),
    topic(
        "compression.lz4.level",
        "9",
        &[("compression.lz4.level", Unit::Same)],
    ),
    topic(
        "compression.type",
        "producer",
        &[("compression.type", Unit::Same)],
    ),
    topic(
        "compression.zstd.level",
        "3",
        &[("compression.zstd.level", Unit::Same)],
    ),
    topic(
        "delete.retention.ms",
        "86400000",
        &[("log.cleaner.delete.retention.ms", Unit::Same)],
    ),
    topic(
        "file.delete.delay.ms",
        "60000",
        &[("log.segment.delete.delay.ms", Unit::Same)],
    ),
    topic(
        "flush.messages",
        I64_MAX,
        &[("log.flush.interval.messages", Unit::Same)],
    ),
    topic(
        "flush.ms",
        I64_MAX,
        &[
            ("log.flush.interval.ms", Unit::Same),
            ("log.flush.scheduler.interval.ms", Unit::Same),
        ],
    ),
    topic("follower.replication.throttled.replicas", "", &[]),
    topic(
        "index.interval.bytes",
        "4096",
        &[("log.index.interval.bytes", Unit::Same)],
    ),
    topic("leader.replication.throttled.replicas", "", &[]),
    topic(
        "local.retention.bytes",
        "-2",
        &[("log.local.retention.bytes", Unit::Same)],
    ),
    topic(
        "local.retention.ms",
        "-2",
        &[("log.local.retention.ms", Unit::Same)],
    ),
    topic(
        "max.compaction.lag.ms",
        I64_MAX,
        &[("log.cleaner.max.compaction.lag.ms", Unit::Same)],
    ),
    topic(
        "max.message.bytes",
        "1048588",
        &[("message.max.bytes", Unit::Same)],
    ),
    topic(
        "message.timestamp.after.max.ms",
        "3600000",
        &[("log.message.timestamp.after.max.ms", Unit::Same)],
    ),
    topic(
        "message.timestamp.before.max.ms",
        I64_MAX,
        &[("log.message.timestamp.before.max.ms", Unit::Same)],
    ),
    topic(
        "message.timestamp.type",
        "CreateTime",
        &[("log.message.timestamp.type", Unit::Same)],
    ),
    topic(
        "min.cleanable.dirty.ratio",
        "0.5",
        &[("log.cleaner.min.cleanable.ratio", Unit::Same)],
    ),
    topic(
        "min.compaction.lag.ms",
        "0",
        &[("log.cleaner.min.compaction.lag.ms", Unit::Same)],
    ),
    topic(
        "min.insync.replicas",
        "1",
        &[("min.insync.replicas", Unit::Same)],
    ),
    topic("preallocate", "false", &[("log.preallocate", Unit::Same)]),
    topic("remote.log.copy.disable", "false", &[]),
    topic("remote.log.delete.on.disable", "false", &[]),
    topic("remote.storage.enable", "false", &[]),
    topic(
        "retention.bytes",
        "-1",
        &[("log.retention.bytes", Unit::Same)],
    ),
    topic(
        "retention.ms",
        WEEK_MS,
        &[
            ("log.retention.ms", Unit::Same),
            ("log.retention.minutes", Unit::Minutes),
            ("log.retention.hours", Unit::Hours),
        ],
    ),
    topic(
        "segment.bytes",
        "1073741824",
        &[("log.segment.bytes", Unit::Same)],
    ),
    topic(
        "segment.index.bytes",
        "10485760",
        &[("log.index.size.max.bytes", Unit::Same)],
    ),
    topic(
        "segment.jitter.ms",
        "0",
        &[
            ("log.roll.jitter.ms", Unit::Same),
            ("log.roll.jitter.hours", Unit::Hours),
        ],
    ),
    topic(
        "segment.ms",
        WEEK_MS,
        &[("log.roll.ms", Unit::Same), ("log.roll.hours", Unit::Hours)],
    ),
    topic(
        "unclean.leader.election.enable",
        "false",
        &[("unclean.leader.election.enable", Unit::Same)],
    ),
];

/// Resolves every topic key through the broker keys that were set.
pub(crate) fn resolve(values: &Values) -> TopicDefaults {
    let resolved = TOPIC_KEYS.iter().map(|topic| {
        let set = topic
            .synonyms
            .iter()
            .find_map(|(key, unit)| Some((*key, *unit, values.set(key)?)));
        let default = match set {
            Some((key, unit, setting)) => TopicDefault {
                value: clamp(topic.name, unit.convert(setting.text.expose())),
                set_by: Some(key),
            },
            None => TopicDefault {
                value: topic.default.to_owned(),
                set_by: None,
            },
        };
        (topic.name, default)
    });
    TopicDefaults(resolved.collect())
}

/// Every negative `log.retention.ms` means "for ever", which a topic spells -1.
fn clamp(topic_key: &str, value: String) -> String {
    if topic_key == "retention.ms" && value.starts_with('-') {
        return "-1".to_owned();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources, keys};

    fn defaults(text: &str) -> TopicDefaults {
        let text = format!("node.id=1\nlisteners=PLAINTEXT://:9092\n{text}");
        let sources = Sources::new().text("test", &text).host_name("host");
        Config::load(&sources).unwrap().0.topic_defaults
    }

    #[test]
    fn built_in_defaults_agree_with_the_broker_keys() {
        let mut names: Vec<&str> = TOPIC_KEYS.iter().map(|topic| topic.name).collect();
        names.sort_unstable();
        assert!(TOPIC_KEYS.iter().map(|topic| topic.name).eq(names));
        for topic in TOPIC_KEYS {
            for (key, unit) in topic.synonyms {
                let key = keys::find(key).expect(key);
                if let Some(default) = key.default {
                    assert_eq!(unit.convert(default), topic.default, "{}", key.name);
                }
            }
        }
    }

    #[test]
    fn the_first_synonym_that_is_set_wins() {
        for (text, key, value, set_by) in [
            ("", "retention.ms", "604800000", None),
            (
                "log.retention.hours=24",
                "retention.ms",
                "86400000",
                Some("log.retention.hours"),
            ),
            (
                "log.retention.hours=24\nlog.retention.minutes=1",
                "retention.ms",
                "60000",
                Some("log.retention.minutes"),
            ),
            (
                "log.retention.minutes=1\nlog.retention.ms=5",
                "retention.ms",
                "5",
                Some("log.retention.ms"),
            ),
            (
                "log.retention.ms=-7",
                "retention.ms",
                "-1",
                Some("log.retention.ms"),
            ),
            (
                "log.retention.hours=-2",
                "retention.ms",
                "-1",
                Some("log.retention.hours"),
            ),
            (
                "log.roll.hours=1",
                "segment.ms",
                "3600000",
                Some("log.roll.hours"),
            ),
            (
                "log.cleanup.policy=compact, delete",
                "cleanup.policy",
                "compact,delete",
                Some("log.cleanup.policy"),
            ),
        ] {
            let all = defaults(text);
            let found = all.get(key).unwrap();
            assert_eq!(
                (found.value.as_str(), found.set_by),
                (value, set_by),
                "{text}"
            );
        }
    }
}
