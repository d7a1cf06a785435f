//! What a topic's configuration means to its partitions.

use palisade_protocol::batch::Codec;
use palisade_storage::LogConfig;

/// Which records a partition accepts and how it rewrites them (records.md §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRules {
    /// Largest batch as received and as stored, in bytes (`max.message.bytes`).
    pub max_message_bytes: usize,
    /// Largest batch a segment can hold, in bytes (`segment.bytes`).
    pub segment_bytes: usize,
    /// The broker's clock replaces the records' timestamps (`message.timestamp.type`).
    pub log_append_time: bool,
    /// How far a timestamp may lie in the past, in ms (`message.timestamp.before.max.ms`).
    pub timestamp_before_max_ms: i64,
    /// How far a timestamp may lie in the future, in ms (`message.timestamp.after.max.ms`).
    pub timestamp_after_max_ms: i64,
    /// The codec to store with; `None` keeps the producer's (`compression.type`).
    pub codec: Option<Codec>,
    /// The level to compress with (`compression.gzip.level`, `compression.zstd.level`).
    pub compression_level: Option<i32>,
    /// Records need a key (`cleanup.policy` contains `compact`).
    pub compacted: bool,
    /// Compressed batches are always opened (`palisade.record.validation=full`).
    pub open_all: bool,
}

impl Default for RecordRules {
    fn default() -> Self {
        RecordRules {
            max_message_bytes: 1_048_588,
            segment_bytes: 1 << 30,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            codec: None,
            compression_level: None,
            compacted: false,
            open_all: false,
        }
    }
}

/// Everything of a topic's configuration that has an effect on its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSettings {
    /// Which batches are accepted.
    pub records: RecordRules,
    /// Fewest in-sync replicas for acks=-1 (`min.insync.replicas`).
    pub min_insync_replicas: usize,
    /// `DeleteRecords` is allowed: the cleanup policy is not `compact` alone.
    pub deletable: bool,
    /// The log's part.
    pub log: LogConfig,
}

impl Default for PartitionSettings {
    fn default() -> Self {
        PartitionSettings {
            records: RecordRules::default(),
            min_insync_replicas: 1,
            deletable: true,
            log: LogConfig::default(),
        }
    }
}
