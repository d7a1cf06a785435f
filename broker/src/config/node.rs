//! The parts of the configuration that are neither listeners nor limits.

use std::{path::PathBuf, time::Duration};

/// Who may do what, before any ACL is looked at (security.md §4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizerSettings {
    /// False only with `palisade.danger.disable.authorizer=true`.
    pub enabled: bool,
    /// Principals as written, `User:name`, that are allowed everything (`super.users`).
    pub super_users: Vec<String>,
    /// What a resource without any ACL does to strangers (`allow.everyone.if.no.acl.found`).
    pub allow_everyone_if_no_acl_found: bool,
}

/// Where and how the audit log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// Directory of the log files (`palisade.audit.dir`), by default `audit` in the data directory.
    pub dir: PathBuf,
    /// Most bytes of events waiting for the disk (`palisade.audit.queue.max.bytes`).
    pub queue_max_bytes: usize,
    /// How long a connection waits for room in the queue (`palisade.audit.block.max.ms`).
    pub block_max: Duration,
    /// What a permitted request does then (`palisade.audit.full.policy`).
    pub full_policy: AuditFullPolicy,
    /// Bytes of disk kept for what must be written when it is full
    /// (`palisade.audit.reserve.bytes`).
    pub reserve_bytes: u64,
}

/// What becomes of a permitted request for whose event the audit log has no room in time
/// (`palisade.audit.full.policy`; security.md §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditFullPolicy {
    /// It waits on, and its connection with it.
    Block,
    /// It goes on, and its event is counted.
    Count,
}

/// When an appended batch is synced (`palisade.log.flush.policy`; design.md, Durability).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushPolicyName {
    /// Before it is acknowledged, in groups.
    Ack,
    /// After `log.flush.interval.messages` records or `log.flush.interval.ms`.
    Interval,
    /// When the operating system likes.
    Os,
}

/// How much of a produced batch is opened (`palisade.record.validation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordValidation {
    /// The header always, records where something depends on them.
    Header,
    /// Every record, as Kafka does.
    Full,
}

/// How compacted topics are cleaned (`log.cleaner.*`).
#[derive(Debug, Clone, PartialEq)]
pub struct CleanerSettings {
    /// Number of threads; none cleans nothing (`log.cleaner.threads`, `log.cleaner.enable`).
    pub threads: usize,
    /// Wait after a look that found nothing to do (`log.cleaner.backoff.ms`).
    pub backoff: Duration,
    /// Bytes read and written per second by all threads (`log.cleaner.io.max.bytes.per.second`).
    pub max_bytes_per_second: f64,
    /// Bytes of the key maps of all threads (`log.cleaner.dedupe.buffer.size`).
    pub map_bytes: usize,
    /// Share of a key map that may be taken (`log.cleaner.io.buffer.load.factor`).
    pub map_load: f64,
    /// Bytes of each thread's read buffer (`log.cleaner.io.buffer.size`).
    pub buffer_bytes: usize,
}

/// How sealed segments are read again to find damage (`palisade.log.scrub.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubSettings {
    /// From the beginning of one pass to that of the next.
    pub interval: Duration,
    /// Most bytes read per second and directory.
    pub bytes_per_second: u64,
}

/// Settings of the logs as a whole; those of one topic are its configuration's.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    /// When appended batches are synced.
    pub flush_policy: FlushPolicyName,
    /// How much of a produced batch is opened.
    pub record_validation: RecordValidation,
    /// Between two looks for expired segments (`log.retention.check.interval.ms`).
    pub retention_check_interval: Duration,
    /// After this long without a word a producer id is forgotten (`producer.id.expiration.ms`).
    pub producer_id_expiration: Duration,
    /// Between two notes of how far the logs are synced
    /// (`log.flush.offset.checkpoint.interval.ms`).
    pub checkpoint_interval: Duration,
    /// Threads that open logs at start (`num.recovery.threads.per.data.dir`).
    pub recovery_threads: usize,
    /// How compacted topics are cleaned.
    pub cleaner: CleanerSettings,
    /// How sealed segments are read again; `None` for not at all.
    pub scrub: Option<ScrubSettings>,
}

/// What is done about topics on their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// Whether Metadata and Produce may create topics (`auto.create.topics.enable`).
    pub auto_create: bool,
    /// Whether DeleteTopics is served (`delete.topic.enable`).
    pub delete_enabled: bool,
    /// Partitions of a topic created without a count (`num.partitions`).
    pub num_partitions: i32,
    /// Replicas of a topic created without a count (`default.replication.factor`).
    pub default_replication_factor: i16,
}
