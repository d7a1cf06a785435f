//! From a topic's configuration texts to what its partitions do (configs.md §2).

use palisade_protocol::batch::Codec;
use palisade_storage::{FlushPolicy, LogConfig};

use super::replica_manager::SettingsOf;
use super::settings::{PartitionSettings, RecordRules};
use crate::config::{Config, FlushPolicyName, RecordValidation, TopicDefaults};
use crate::metadata::TopicImage;
use crate::metadata::topic_config::{
    CompressionType, EffectiveTopicConfig, TimestampType, TopicConfig,
};

/// What of the node's own configuration bears on every topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NodePolicy {
    flush: FlushPolicyName,
    open_all: bool,
    producer_id_expiration_ms: i64,
}

/// Reads topics' settings with the node's defaults.
///
/// `compression.lz4.level` is stored and reported only: the library has one level.
pub fn settings_of(config: &Config) -> SettingsOf {
    let defaults: TopicDefaults = config.topic_defaults.clone();
    let policy = NodePolicy {
        flush: config.log.flush_policy,
        open_all: config.log.record_validation == RecordValidation::Full,
        producer_id_expiration_ms: i64::try_from(config.log.producer_id_expiration.as_millis())
            .unwrap_or(i64::MAX),
    };
    reader(defaults, policy)
}

/// The same with the defaults of a node that was told nothing.
#[cfg(test)]
pub(crate) fn settings_with(flush: FlushPolicyName) -> SettingsOf {
    let policy = NodePolicy {
        flush,
        open_all: false,
        producer_id_expiration_ms: LogConfig::default().producer_id_expiration_ms,
    };
    reader(TopicDefaults::default(), policy)
}

fn reader(defaults: TopicDefaults, policy: NodePolicy) -> SettingsOf {
    Box::new(move |topic: &TopicImage| {
        let effective = TopicConfig::effective(&defaults, &topic.config);
        partition_settings(topic, &effective, policy)
    })
}

fn partition_settings(
    topic: &TopicImage,
    config: &EffectiveTopicConfig,
    policy: NodePolicy,
) -> PartitionSettings {
    PartitionSettings {
        records: RecordRules {
            max_message_bytes: bytes(config.max_message_bytes),
            segment_bytes: bytes(config.segment_bytes),
            log_append_time: config.timestamp_type == TimestampType::LogAppendTime,
            timestamp_before_max_ms: config.timestamp_before_max_ms,
            timestamp_after_max_ms: config.timestamp_after_max_ms,
            codec: codec(config.compression),
            compression_level: level(config.compression),
            compacted: config.cleanup_compact,
            open_all: policy.open_all,
        },
        min_insync_replicas: usize::try_from(config.min_insync_replicas).unwrap_or(1),
        deletable: config.cleanup_delete || !config.cleanup_compact,
        log: log_config(topic, config, policy),
    }
}

fn log_config(topic: &TopicImage, config: &EffectiveTopicConfig, policy: NodePolicy) -> LogConfig {
    // A compacted topic may not leave records uncompacted for longer than its lag allows.
    let segment_ms = if config.cleanup_compact {
        config.segment_ms.min(config.max_compaction_lag_ms)
    } else {
        config.segment_ms
    };
    LogConfig {
        segment_bytes: u64::try_from(config.segment_bytes).unwrap_or(0),
        segment_ms,
        segment_jitter_ms: config.segment_jitter_ms,
        segment_index_bytes: u64::try_from(config.segment_index_bytes).unwrap_or(0),
        retention_ms: config.retention_ms,
        retention_bytes: config
            .retention_bytes
            .and_then(|bytes| u64::try_from(bytes).ok()),
        index_interval_bytes: u32::try_from(config.index_interval_bytes).unwrap_or(0),
        max_message_bytes: u32::try_from(config.max_message_bytes).unwrap_or(0),
        flush_policy: flush_policy(topic, config, policy.flush),
        producer_id_expiration_ms: policy.producer_id_expiration_ms,
        file_delete_delay_ms: config.file_delete_delay_ms,
        delete: config.cleanup_delete,
        compact: config.cleanup_compact,
        min_cleanable_millionths: (config.min_cleanable_dirty_ratio * 1_000_000.0) as u32,
        min_compaction_lag_ms: config.min_compaction_lag_ms,
        max_compaction_lag_ms: config.max_compaction_lag_ms,
        delete_retention_ms: config.delete_retention_ms,
        essential: topic.is_internal(),
        ..LogConfig::default()
    }
}

/// With one replica the node's policy holds, and the broker's own topics are always synced before
/// they are acknowledged; with more, copies stand in for the sync (design.md, "Durability").
fn flush_policy(
    topic: &TopicImage,
    config: &EffectiveTopicConfig,
    policy: FlushPolicyName,
) -> FlushPolicy {
    let by_interval = FlushPolicy::Interval {
        messages: config
            .flush_messages
            .and_then(|messages| u64::try_from(messages).ok())
            .unwrap_or(u64::MAX),
        ms: config.flush_ms.unwrap_or(i64::MAX),
    };
    let asked = config.flush_messages.is_some() || config.flush_ms.is_some();
    let single = topic.replication_factor() <= 1;
    match (single, policy) {
        (true, _) if topic.is_internal() => FlushPolicy::Ack,
        (true, FlushPolicyName::Ack) => FlushPolicy::Ack,
        (true, FlushPolicyName::Interval) => by_interval,
        (true, FlushPolicyName::Os) => FlushPolicy::Os,
        (false, _) if asked => by_interval,
        (false, _) => FlushPolicy::Os,
    }
}

fn codec(compression: CompressionType) -> Option<Codec> {
    match compression {
        CompressionType::Producer => None,
        CompressionType::Uncompressed => Some(Codec::None),
        CompressionType::Gzip { .. } => Some(Codec::Gzip),
        CompressionType::Snappy => Some(Codec::Snappy),
        CompressionType::Lz4 { .. } => Some(Codec::Lz4),
        CompressionType::Zstd { .. } => Some(Codec::Zstd),
    }
}

fn level(compression: CompressionType) -> Option<i32> {
    match compression {
        CompressionType::Gzip { level } | CompressionType::Zstd { level } => Some(level),
        CompressionType::Producer
        | CompressionType::Uncompressed
        | CompressionType::Snappy
        | CompressionType::Lz4 { .. } => None,
    }
}

fn bytes(value: i32) -> usize {
    usize::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use imbl::Vector;
    use palisade_protocol::types::{BrokerId, LeaderEpoch, TopicId};

    use super::*;
    use crate::metadata::{ConfigMap, PartitionImage};

    fn topic(name: &str, replicas: &[i32], config: &[(&str, &str)]) -> TopicImage {
        let replicas: Vec<BrokerId> = replicas.iter().copied().map(BrokerId::new).collect();
        TopicImage {
            id: TopicId::from_bytes([7; 16]),
            name: name.into(),
            partitions: Vector::unit(PartitionImage {
                leader: replicas.first().copied(),
                leader_epoch: LeaderEpoch::new(0),
                partition_epoch: 0,
                isr: replicas.clone(),
                replicas,
            }),
            config: config.iter().copied().collect::<ConfigMap>(),
        }
    }

    fn settings(topic: &TopicImage, flush: FlushPolicyName) -> PartitionSettings {
        let effective = TopicConfig::effective(&TopicDefaults::default(), &topic.config);
        let policy = NodePolicy {
            flush,
            open_all: false,
            producer_id_expiration_ms: 86_400_000,
        };
        partition_settings(topic, &effective, policy)
    }

    #[test]
    fn the_nodes_expiration_of_producers_reaches_every_log() {
        let effective = TopicConfig::effective(&TopicDefaults::default(), &ConfigMap::default());
        let policy = NodePolicy {
            flush: FlushPolicyName::Ack,
            open_all: false,
            producer_id_expiration_ms: 7,
        };
        let log = log_config(&topic("t", &[1], &[]), &effective, policy);
        assert_eq!(log.producer_id_expiration_ms, 7);
    }

    #[test]
    fn a_plain_topic_has_kafkas_defaults() {
        let settings = settings(&topic("t", &[1], &[]), FlushPolicyName::Ack);
        let expected = PartitionSettings {
            log: LogConfig {
                flush_policy: FlushPolicy::Ack,
                ..LogConfig::default()
            },
            ..PartitionSettings::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn keys_reach_the_checks_and_the_log() {
        let config = [
            ("cleanup.policy", "compact"),
            ("compression.type", "zstd"),
            ("max.message.bytes", "2000"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.insync.replicas", "2"),
            ("retention.ms", "-1"),
            ("segment.bytes", "1048576"),
        ];
        let settings = settings(&topic("t", &[1], &config), FlushPolicyName::Os);
        assert!(settings.records.compacted && settings.records.log_append_time);
        assert!(!settings.deletable);
        assert_eq!(settings.records.codec, Some(Codec::Zstd));
        assert_eq!(settings.records.max_message_bytes, 2000);
        assert_eq!(settings.min_insync_replicas, 2);
        assert_eq!(settings.log.retention_ms, None);
        assert_eq!(settings.log.segment_bytes, 1 << 20);
        assert_eq!(settings.log.flush_policy, FlushPolicy::Os);
    }

    #[test]
    fn copies_stand_in_for_the_sync() {
        let replicated = topic("t", &[1, 2], &[]);
        let settings_of =
            |topic: &TopicImage| settings(topic, FlushPolicyName::Ack).log.flush_policy;
        assert_eq!(settings_of(&replicated), FlushPolicy::Os);
        let asked = topic("t", &[1, 2], &[("flush.messages", "1")]);
        let each = FlushPolicy::Interval {
            messages: 1,
            ms: i64::MAX,
        };
        assert_eq!(settings_of(&asked), each);
        let internal = topic("__consumer_offsets", &[1], &[]);
        let policy = settings(&internal, FlushPolicyName::Os).log.flush_policy;
        assert_eq!(policy, FlushPolicy::Ack);
    }
}
