//! How DescribeConfigs and CreateTopics show a topic's settings (configs.md §4).

use super::effective::default_text;
use super::table::{INTERNAL_SEGMENT_BYTES, TopicKey, keys};
use super::value::canonical;
use crate::config::TopicDefaults;
use crate::metadata::image::ConfigMap;

/// Where a value comes from, with the code of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// In the node's file.
    StaticBroker,
    /// Built in.
    Default,
}

impl ConfigSource {
    /// Kafka's code.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            ConfigSource::Topic => 1,
            ConfigSource::StaticBroker => 4,
            ConfigSource::Default => 5,
        }
    }
}

/// One entry of DescribeConfigs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConfig {
    /// Key.
    pub name: &'static str,
    /// Canonical text; for CreateTopics the text as it was set.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
    /// Type code.
    pub config_type: i8,
    /// What the key is for.
    pub documentation: &'static str,
    /// Every place that has a value, the one in force first.
    pub synonyms: Vec<ConfigSynonym>,
}

impl DescribedConfig {
    /// Topic keys can always be changed.
    pub const READ_ONLY: bool = false;
    /// No topic key holds a secret.
    pub const SENSITIVE: bool = false;
}

/// One place that has a value for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The key there.
    pub name: &'static str,
    /// The value there.
    pub value: Option<String>,
    /// What kind of place it is.
    pub source: ConfigSource,
}

/// A topic's entries for DescribeConfigs, by name.
#[must_use]
pub fn describe(defaults: &TopicDefaults, settings: &ConfigMap) -> Vec<DescribedConfig> {
    listed(settings)
        .map(|key| {
            let mut synonyms = broker_synonyms(defaults, key);
            let own = settings.get(key.name).map(|text| {
                canonical(key.kind, &key.valid, text).unwrap_or_else(|_| text.to_owned())
            });
            let source = match (&own, synonyms.first()) {
                (Some(_), _) => ConfigSource::Topic,
                (None, Some(first)) => first.source,
                (None, None) => ConfigSource::Default,
            };
            if let Some(own) = &own {
                let own = ConfigSynonym {
                    name: key.name,
                    value: Some(own.clone()),
                    source: ConfigSource::Topic,
                };
                synonyms.insert(0, own);
            }
            let value = own.unwrap_or_else(|| default_text(defaults, key).to_owned());
            entry(key, value, source, synonyms)
        })
        .collect()
}

/// A topic's entries for the answer of CreateTopics, by name: texts as set, and the source of the
/// setting that applies even where DescribeConfigs would not name it.
#[must_use]
pub fn created(defaults: &TopicDefaults, settings: &ConfigMap) -> Vec<DescribedConfig> {
    listed(settings)
        .map(|key| {
            let (value, source) = match settings.get(key.name) {
                Some(text) => (text, ConfigSource::Topic),
                None => {
                    let set = defaults
                        .get(key.name)
                        .is_some_and(|default| default.set_by.is_some());
                    let source = if set {
                        ConfigSource::StaticBroker
                    } else {
                        ConfigSource::Default
                    };
                    (default_text(defaults, key), source)
                }
            };
            entry(key, value.to_owned(), source, Vec::new())
        })
        .collect()
}

fn entry(
    key: &'static TopicKey,
    value: String,
    source: ConfigSource,
    synonyms: Vec<ConfigSynonym>,
) -> DescribedConfig {
    DescribedConfig {
        name: key.name,
        value: Some(value),
        source,
        config_type: key.kind.code(),
        documentation: key.documentation,
        synonyms,
    }
}

/// The keys to list: all of the table, and the internal one where it is set.
fn listed(settings: &ConfigMap) -> impl Iterator<Item = &'static TopicKey> {
    let internal = settings
        .get(INTERNAL_SEGMENT_BYTES.name)
        .map(|_| &INTERNAL_SEGMENT_BYTES);
    let (before, after) =
        keys().split_at(keys().partition_point(|key| key.name < INTERNAL_SEGMENT_BYTES.name));
    before.iter().chain(internal).chain(after)
}

/// The broker's places for a key: what the file sets, then what is built in. Kafka leaves out
/// everything before the first place that bears the wanted key's own name.
fn broker_synonyms(defaults: &TopicDefaults, key: &'static TopicKey) -> Vec<ConfigSynonym> {
    let Some((wanted, _)) = key.synonyms.first() else {
        return Vec::new();
    };
    let set = defaults.get(key.name).and_then(|default| {
        let name = default.set_by?;
        let value = Some(default.value.clone());
        Some(ConfigSynonym {
            name,
            value,
            source: ConfigSource::StaticBroker,
        })
    });
    let built_in = key.synonyms.iter().filter_map(|(name, default)| {
        let value = Some((*default)?.to_owned());
        Some(ConfigSynonym {
            name,
            value,
            source: ConfigSource::Default,
        })
    });
    set.into_iter()
        .chain(built_in)
        .skip_while(|synonym| synonym.name != *wanted)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(entries: &'a [DescribedConfig], name: &str) -> &'a DescribedConfig {
        entries.iter().find(|entry| entry.name == name).unwrap()
    }

    fn synonyms(entry: &DescribedConfig) -> Vec<(&str, &str, i8)> {
        let text = |synonym: &'_ ConfigSynonym| synonym.source.code();
        entry
            .synonyms
            .iter()
            .map(|synonym| {
                (
                    synonym.name,
                    synonym.value.as_deref().unwrap(),
                    text(synonym),
                )
            })
            .collect()
    }

    #[test]
    fn defaults_show_their_broker_key_only_under_its_own_name() {
        let entries = describe(&TopicDefaults::default(), &ConfigMap::default());
        assert_eq!(entries.len(), 33);
        assert!(entries.is_sorted_by(|a, b| a.name < b.name));
        let retention = find(&entries, "retention.ms");
        assert_eq!(retention.value.as_deref(), Some("604800000"));
        assert_eq!(retention.source, ConfigSource::Default);
        assert!(retention.synonyms.is_empty());
        let segment = find(&entries, "segment.bytes");
        assert_eq!(synonyms(segment), [("log.segment.bytes", "1073741824", 5)]);
    }

    #[test]
    fn own_settings_come_first_in_canonical_form() {
        let settings: ConfigMap = [
            ("segment.bytes", " +2097152"),
            ("internal.segment.bytes", "9"),
        ]
        .into_iter()
        .collect();
        let entries = describe(&TopicDefaults::default(), &settings);
        assert_eq!(entries.len(), 34);
        assert!(entries.is_sorted_by(|a, b| a.name < b.name));
        let segment = find(&entries, "segment.bytes");
        assert_eq!(segment.source.code(), 1);
        assert_eq!(
            synonyms(segment),
            [
                ("segment.bytes", "2097152", 1),
                ("log.segment.bytes", "1073741824", 5)
            ]
        );
        let created = created(&TopicDefaults::default(), &settings);
        assert_eq!(
            find(&created, "segment.bytes").value.as_deref(),
            Some(" +2097152")
        );
    }
}
