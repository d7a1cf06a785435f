//! Settings of one log and of a log directory.

/// When bytes of a log must reach stable storage (storage page of the specification, §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushPolicy {
    /// Every append is registered with the flusher at once; acks=all waits for it.
    Ack,
    /// After this many records, or this long after the first unsynced append.
    Interval {
        /// Records between syncs (`flush.messages`).
        messages: u64,
        /// Milliseconds between syncs (`flush.ms`); counted by [`crate::LogDir::tick`].
        ms: i64,
    },
    /// Left to the kernel; a seal still syncs.
    Os,
}

/// Settings of one log; the topic keys of the same names.
///
/// A change takes effect at once, the segment sizes with the next segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Largest size of a segment file, in bytes (`segment.bytes`, at most 2 GiB - 1).
    pub segment_bytes: u64,
    /// Age at which a segment is rolled, in milliseconds (`segment.ms`).
    pub segment_ms: i64,
    /// Upper bound of what is taken off `segment_ms` per segment (`segment.jitter.ms`).
    pub segment_jitter_ms: i64,
    /// Largest size of an offset index, in bytes (`segment.index.bytes`).
    pub segment_index_bytes: u64,
    /// Age at which a segment is deleted; `None` keeps it (`retention.ms`).
    pub retention_ms: Option<i64>,
    /// Size of the log above which its oldest segments go; `None` keeps them (`retention.bytes`).
    pub retention_bytes: Option<u64>,
    /// Bytes of log between two index entries (`index.interval.bytes`).
    pub index_interval_bytes: u32,
    /// Largest batch that recovery and reads find plausible, in bytes (`max.message.bytes`).
    ///
    /// Appends are checked against it by the caller, before a batch is stamped; the log itself
    /// refuses only what exceeds `segment_bytes`.
    pub max_message_bytes: u32,
    /// When appended bytes are synced.
    pub flush_policy: FlushPolicy,
    /// Idle time after which a producer is forgotten (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: i64,
    /// Delay between taking a segment out of the log and removing its files
    /// (`file.delete.delay.ms`).
    pub file_delete_delay_ms: i64,
    /// Cleanup policy contains `delete`: retention by time and size applies.
    pub delete: bool,
    /// Cleanup policy contains `compact`: batches may leave gaps between offsets.
    pub compact: bool,
    /// Share of uncleaned bytes from which the log is cleaned, in millionths
    /// (`min.cleanable.dirty.ratio`).
    pub min_cleanable_millionths: u32,
    /// Age below which records are not cleaned, in milliseconds (`min.compaction.lag.ms`).
    pub min_compaction_lag_ms: i64,
    /// Age above which records are cleaned whatever the ratio, in milliseconds
    /// (`max.compaction.lag.ms`).
    pub max_compaction_lag_ms: i64,
    /// How long a tombstone or marker stays after nothing before it depends on it any more, in
    /// milliseconds (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// Still written when free space is below the reserve (raft, coordinator topics).
    pub essential: bool,
    /// Blocks are allocated ahead of the end on the disk thread.
    pub allocate_ahead: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            retention_ms: Some(7 * 24 * 3600 * 1000),
            retention_bytes: None,
            index_interval_bytes: 4096,
            max_message_bytes: 1_048_588,
            flush_policy: FlushPolicy::Os,
            producer_id_expiration_ms: 86_400_000,
            file_delete_delay_ms: 60_000,
            delete: true,
            compact: false,
            min_cleanable_millionths: 500_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 86_400_000,
            essential: false,
            allocate_ahead: true,
        }
    }
}

/// Who does the work of the flusher and the disk thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Two threads of the directory.
    Threads,
    /// Nobody, until [`crate::LogDir::run_pending`] is called; for simulations, which want every
    /// step in one order.
    Manual,
}

/// Settings of a log directory.
#[derive(Clone, Debug)]
pub struct LogDirOptions {
    /// Bytes kept allocated for a full disk, at most a sixteenth of the file system; 0 keeps none.
    pub ballast_bytes: u64,
    /// Free bytes below which only essential logs are written; `None` means 2 % of the file
    /// system or 1 GiB, whichever is smaller.
    pub reserve_bytes: Option<u64>,
    /// Largest total size of the `quarantine` folder, in bytes.
    pub quarantine_bytes: u64,
    /// Largest number of sealed segments that are mapped at once; `None` takes a quarter of the
    /// process's limits.
    pub mapped_segments: Option<usize>,
    /// Prove at start that a positional write shows in a mapping.
    pub check_coherence: bool,
    /// Who does the work that may block.
    pub background: Background,
}

impl Default for LogDirOptions {
    fn default() -> Self {
        Self {
            ballast_bytes: 64 << 20,
            reserve_bytes: None,
            quarantine_bytes: 64 << 20,
            mapped_segments: None,
            check_coherence: true,
            background: Background::Threads,
        }
    }
}
