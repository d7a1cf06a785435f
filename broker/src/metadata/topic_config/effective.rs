//! What a topic's settings come to, together with the node's defaults.

use super::table::{TopicKey, lookup};
use super::value::{canonical, double, integer, list_items};
use crate::config::TopicDefaults;
use crate::metadata::image::ConfigMap;

/// Turns texts into typed settings.
#[derive(Debug)]
pub struct TopicConfig;

/// Typed settings of one topic.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectiveTopicConfig {
    /// `cleanup.policy` holds `delete`: retention by age and size applies.
    pub cleanup_delete: bool,
    /// `cleanup.policy` holds `compact`.
    pub cleanup_compact: bool,
    /// Codec of stored batches.
    pub compression: CompressionType,
    /// Milliseconds.
    pub delete_retention_ms: i64,
    /// Milliseconds.
    pub file_delete_delay_ms: i64,
    /// Records between syncs; `None` where no count asks for one.
    pub flush_messages: Option<i64>,
    /// Milliseconds between syncs; `None` where no time asks for one.
    pub flush_ms: Option<i64>,
    /// Bytes.
    pub index_interval_bytes: i32,
    /// Bytes.
    pub max_message_bytes: i32,
    /// Milliseconds.
    pub max_compaction_lag_ms: i64,
    /// Milliseconds.
    pub min_compaction_lag_ms: i64,
    /// How far timestamps may lie ahead, in milliseconds.
    pub timestamp_after_max_ms: i64,
    /// How far timestamps may lie behind, in milliseconds.
    pub timestamp_before_max_ms: i64,
    /// Whose time records carry.
    pub timestamp_type: TimestampType,
    /// Share from 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// Replicas.
    pub min_insync_replicas: i32,
    /// Whether remote storage is asked for; never true for a topic that passed validation.
    pub remote_storage_enable: bool,
    /// Bytes of a partition above which old segments go; `None` for no bound.
    pub retention_bytes: Option<i64>,
    /// Age in milliseconds at which records go; `None` for no bound.
    pub retention_ms: Option<i64>,
    /// Bytes.
    pub segment_bytes: i32,
    /// Bytes.
    pub segment_index_bytes: i32,
    /// Milliseconds.
    pub segment_jitter_ms: i64,
    /// Milliseconds.
    pub segment_ms: i64,
    /// Whether a replica out of sync may lead.
    pub unclean_leader_election_enable: bool,
}

/// Codec of stored batches (`compression.type` with the level of its codec).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent it.
    Producer,
    /// None.
    Uncompressed,
    /// Level 1 to 9, or -1 for the codec's default.
    Gzip {
        /// Level.
        level: i32,
    },
    /// Without levels.
    Snappy,
    /// Level 1 to 17.
    Lz4 {
        /// Level.
        level: i32,
    },
    /// Level -131072 to 22.
    Zstd {
        /// Level.
        level: i32,
    },
}

/// Whose time records carry (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// That of the append.
    LogAppendTime,
}

impl TopicConfig {
    /// The settings in force for a topic with these own settings.
    ///
    /// Own settings were validated when they were set; one that no longer reads, as after a
    /// downgrade, counts as not set.
    #[must_use]
    pub fn effective(defaults: &TopicDefaults, settings: &ConfigMap) -> EffectiveTopicConfig {
        let texts = Texts { defaults, settings };
        let policy = list_items(&texts.get("cleanup.policy"));
        let has = |item: &str| policy.iter().any(|policy| policy == item);
        EffectiveTopicConfig {
            cleanup_delete: has("delete"),
            cleanup_compact: has("compact"),
            compression: texts.compression(),
            delete_retention_ms: texts.long("delete.retention.ms"),
            file_delete_delay_ms: texts.long("file.delete.delay.ms"),
            flush_messages: texts.bounded("flush.messages"),
            flush_ms: texts.bounded("flush.ms"),
            index_interval_bytes: texts.int("index.interval.bytes"),
            max_message_bytes: texts.int("max.message.bytes"),
            max_compaction_lag_ms: texts.long("max.compaction.lag.ms"),
            min_compaction_lag_ms: texts.long("min.compaction.lag.ms"),
            timestamp_after_max_ms: texts.long("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: texts.long("message.timestamp.before.max.ms"),
            timestamp_type: if texts.get("message.timestamp.type") == "LogAppendTime" {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            min_cleanable_dirty_ratio: double(&texts.get("min.cleanable.dirty.ratio"))
                .unwrap_or(0.5),
            min_insync_replicas: texts.int("min.insync.replicas"),
            remote_storage_enable: texts.boolean("remote.storage.enable"),
            retention_bytes: Some(texts.long("retention.bytes")).filter(|bytes| *bytes >= 0),
            retention_ms: Some(texts.long("retention.ms")).filter(|ms| *ms >= 0),
            segment_bytes: texts.int("segment.bytes"),
            segment_index_bytes: texts.int("segment.index.bytes"),
            segment_jitter_ms: texts.long("segment.jitter.ms"),
            segment_ms: texts.long("segment.ms"),
            unclean_leader_election_enable: texts.boolean("unclean.leader.election.enable"),
        }
    }
}

/// The canonical text of a key's value, from the first place that has one.
struct Texts<'a> {
    defaults: &'a TopicDefaults,
    settings: &'a ConfigMap,
}

impl Texts<'_> {
    fn get(&self, name: &str) -> String {
        let key = lookup(name).expect("every key read here is in the table");
        self.settings
            .get(name)
            .and_then(|text| canonical(key.kind, &key.valid, text).ok())
            .unwrap_or_else(|| default_text(self.defaults, key).to_owned())
    }

    fn long(&self, name: &str) -> i64 {
        integer(&self.get(name)).expect("canonical numbers read back")
    }

    fn int(&self, name: &str) -> i32 {
        i32::try_from(self.long(name)).expect("canonical 32-bit numbers fit")
    }

    fn boolean(&self, name: &str) -> bool {
        self.get(name) == "true"
    }

    fn bounded(&self, name: &str) -> Option<i64> {
        Some(self.long(name)).filter(|value| *value != i64::MAX)
    }

    fn compression(&self) -> CompressionType {
        match self.get("compression.type").as_str() {
            "uncompressed" => CompressionType::Uncompressed,
            "gzip" => CompressionType::Gzip {
                level: self.int("compression.gzip.level"),
            },
            "snappy" => CompressionType::Snappy,
            "lz4" => CompressionType::Lz4 {
                level: self.int("compression.lz4.level"),
            },
            "zstd" => CompressionType::Zstd {
                level: self.int("compression.zstd.level"),
            },
            _ => CompressionType::Producer,
        }
    }
}

/// The node's default of a key, canonical; the built-in one where the node's does not read.
pub(super) fn default_text<'a>(defaults: &'a TopicDefaults, key: &'static TopicKey) -> &'a str {
    let built_in = key.default.unwrap_or_default();
    match defaults.get(key.name) {
        Some(default)
            if canonical(key.kind, &key.valid, &default.value).as_deref()
                == Ok(default.value.as_str()) =>
        {
            &default.value
        }
        _ => built_in,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective(pairs: &[(&str, &str)]) -> EffectiveTopicConfig {
        let settings: ConfigMap = pairs.iter().copied().collect();
        TopicConfig::effective(&TopicDefaults::default(), &settings)
    }

    #[test]
    fn built_in_defaults() {
        let config = effective(&[]);
        assert!(config.cleanup_delete && !config.cleanup_compact);
        assert_eq!(config.compression, CompressionType::Producer);
        assert_eq!(config.retention_ms, Some(604_800_000));
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.segment_bytes, 1 << 30);
        assert_eq!((config.flush_messages, config.flush_ms), (None, None));
        assert_eq!(config.min_insync_replicas, 1);
        assert_eq!(config.timestamp_type, TimestampType::CreateTime);
    }

    #[test]
    fn own_settings_win() {
        let config = effective(&[
            ("cleanup.policy", ""),
            ("compression.type", "zstd"),
            ("compression.zstd.level", "+7"),
            ("retention.ms", " -1 "),
            ("retention.bytes", "1000"),
            ("flush.messages", "1"),
            ("message.timestamp.type", "LogAppendTime"),
            ("unclean.leader.election.enable", "True"),
        ]);
        assert!(!config.cleanup_delete && !config.cleanup_compact);
        assert_eq!(config.compression, CompressionType::Zstd { level: 7 });
        assert_eq!(config.retention_ms, None);
        assert_eq!(config.retention_bytes, Some(1000));
        assert_eq!(config.flush_messages, Some(1));
        assert_eq!(config.timestamp_type, TimestampType::LogAppendTime);
        assert!(config.unclean_leader_election_enable);
    }

    #[test]
    fn what_does_not_read_counts_as_not_set() {
        assert_eq!(effective(&[("segment.bytes", "x")]).segment_bytes, 1 << 30);
    }
}
