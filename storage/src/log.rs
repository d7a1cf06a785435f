//! One log: a partition, a coordinator topic or the raft log.
//!
//! Locks, in the order in which they may be taken:
//! 1. `maintenance`: one of roll, seal, truncation, retention, close at a time; held across disk
//!    work, never taken by readers, the flusher, or an append that does not wait.
//! 2. `syncing`: one sync at a time, so that a truncation can keep syncs away.
//! 3. `writer`: the append lock; one `pwrite` and memory, never across a sync or allocation.
//! 4. `epochs`, and the small locks inside segments.
//!
//! Readers take none of the first three.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use crate::append::Writer;
use crate::config::LogConfig;
use crate::damage::DamagedRange;
use crate::epoch_cache::{self, EpochCache};
use crate::error::StorageError;
use crate::flusher::Asker;
use crate::graveyard::Grave;
use crate::observer::LogObserver;
use crate::segment::{Segment, SegmentHome};
use crate::shared::Shared;
use crate::sync::AtomicOffset;
use crate::txn_index::AbortedTxn;
use crate::types::{LeaderEpoch, Offset, TimestampMs, TopicId};
use crate::writer_guard::WriterGuard;

/// File of the leader epochs.
pub(crate) const EPOCH_FILE: &str = "leader-epoch-checkpoint";

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Offset of the record.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// Leader epoch of its batch.
    pub epoch: Option<LeaderEpoch>,
}

/// Answer to "where does this leader epoch end" (OffsetForLeaderEpoch, KIP-279).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochEnd {
    /// No epoch above the one asked for is known, and it is not the latest.
    Unknown,
    /// The largest epoch at or below the one asked for, and its end, exclusive.
    Known {
        /// The epoch found.
        epoch: LeaderEpoch,
        /// Its end offset, exclusive.
        end: Offset,
    },
}

/// One log: a partition, a coordinator topic or the raft log.
pub struct Log {
    pub(crate) me: Weak<Log>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: String,
    pub(crate) home: SegmentHome,
    pub(crate) topic_id: TopicId,
    pub(crate) observer: Arc<dyn LogObserver>,
    pub(crate) config: ArcSwap<LogConfig>,
    pub(crate) segments: ArcSwap<Vec<Arc<Segment>>>,
    pub(crate) start: AtomicOffset,
    /// The log start on disk; files below the other one stay until this has followed.
    pub(crate) stored_start: AtomicOffset,
    pub(crate) end: AtomicOffset,
    pub(crate) durable: AtomicOffset,
    pub(crate) high_watermark: AtomicOffset,
    pub(crate) epochs: RwLock<EpochCache>,
    pub(crate) damage: ArcSwap<Vec<DamagedRange>>,
    pub(crate) maintenance: Mutex<()>,
    pub(crate) syncing: Mutex<()>,
    /// Segments that were retired, and whose new names could not be synced yet. Their files stay
    /// until they are: a power loss may bring the old names back. Taken behind `maintenance`.
    pub(crate) unsynced_graves: Mutex<Vec<Grave>>,
    /// One pass of the cleaner at a time; taken before every other lock.
    pub(crate) cleaning: Mutex<()>,
    /// A pass met bytes that do not verify: there are no more until the log is opened again.
    pub(crate) uncleanable: AtomicBool,
    /// How often the end was taken back; changed with the maintenance lock held.
    pub(crate) cuts: AtomicU64,
    writer: Mutex<Writer>,
    /// Some transaction may bound what is stable; readers ask for the lock only then.
    pub(crate) transactions: AtomicBool,
    pub(crate) closed: AtomicBool,
    /// Who was the last to register it with the flusher since its sync began
    /// ([`crate::flusher::Asker`]).
    pub(crate) queued: AtomicU64,
    /// Records appended since the last sync was asked for (policy `Interval`).
    pub(crate) unflushed: AtomicU64,
    /// Time of the first of them; `i64::MAX` when there are none.
    pub(crate) unflushed_since: AtomicI64,
    /// The last sync found no file descriptor; the next tick asks for another.
    pub(crate) sync_put_off: AtomicBool,
}

/// What recovery hands over to a new log.
#[derive(Debug)]
pub(crate) struct LogParts {
    pub(crate) name: String,
    pub(crate) topic_id: TopicId,
    pub(crate) home: SegmentHome,
    pub(crate) config: LogConfig,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) start: Offset,
    pub(crate) stored_start: Offset,
    pub(crate) end: Offset,
    pub(crate) durable: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) epochs: EpochCache,
    pub(crate) damage: Vec<DamagedRange>,
    pub(crate) writer: Writer,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("name", &self.name)
            .field("start", &self.start.load())
            .field("durable", &self.durable.load())
            .field("end", &self.end.load())
            .finish_non_exhaustive()
    }
}

impl Log {
    pub(crate) fn new(
        shared: Arc<Shared>,
        observer: Arc<dyn LogObserver>,
        parts: LogParts,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            shared,
            name: parts.name,
            home: parts.home,
            topic_id: parts.topic_id,
            observer,
            config: ArcSwap::from_pointee(parts.config),
            segments: ArcSwap::from_pointee(parts.segments),
            start: AtomicOffset::new(parts.start),
            stored_start: AtomicOffset::new(parts.stored_start),
            end: AtomicOffset::new(parts.end),
            durable: AtomicOffset::new(parts.durable),
            high_watermark: AtomicOffset::new(parts.high_watermark),
            epochs: RwLock::new(parts.epochs),
            damage: ArcSwap::from_pointee(parts.damage),
            maintenance: Mutex::new(()),
            syncing: Mutex::new(()),
            unsynced_graves: Mutex::new(Vec::new()),
            cleaning: Mutex::new(()),
            uncleanable: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
            writer: Mutex::new(parts.writer),
            closed: AtomicBool::new(false),
            // Until the first release of the append lock has looked.
            transactions: AtomicBool::new(true),
            queued: AtomicU64::new(Asker::NOBODY),
            unflushed: AtomicU64::new(0),
            unflushed_since: AtomicI64::new(i64::MAX),
            sync_put_off: AtomicBool::new(false),
        })
    }

    /// Name of the log's directory (`<topic>-<partition>`).
    pub fn dir_name(&self) -> &str {
        &self.name
    }

    /// The topic id the log belongs to.
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    pub(crate) fn dir(&self) -> &PathBuf {
        &self.home.dir
    }

    pub(crate) fn observer(&self) -> &dyn LogObserver {
        &*self.observer
    }

    /// First readable offset.
    pub fn log_start_offset(&self) -> Offset {
        self.start.load()
    }

    /// Next offset to assign; exclusive end of the log.
    pub fn log_end_offset(&self) -> Offset {
        self.end.load()
    }

    /// Everything below is on stable storage.
    pub fn durable_end_offset(&self) -> Offset {
        self.durable.load()
    }

    /// The high watermark last noted; at start that of the checkpoint, bounded by the log end.
    pub fn noted_high_watermark(&self) -> Offset {
        self.high_watermark.load()
    }

    /// Remembers the high watermark for the next checkpoint, and for retention on a full disk.
    pub fn note_high_watermark(&self, high_watermark: Offset) {
        self.high_watermark.store(high_watermark);
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    /// Changes the settings; segment sizes count from the next segment on.
    pub fn set_config(&self, config: LogConfig) {
        self.config.store(Arc::new(config));
    }

    /// Bytes of record batches in the log, deleted ones included until their segment goes.
    pub fn size_bytes(&self) -> u64 {
        self.segments
            .load()
            .iter()
            .map(|segment| segment.tail().position)
            .sum()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        self.segments.load().len()
    }

    /// The log takes no more writes: closed, deleted, or its directory is offline.
    pub fn is_failed(&self) -> bool {
        self.closed.load(Ordering::Acquire) || self.shared.is_offline()
    }

    /// Takes the append lock.
    pub(crate) fn lock_writer(&self) -> WriterGuard<'_> {
        WriterGuard::new(self, self.writer.lock())
    }

    /// Takes the append lock if it is free.
    pub(crate) fn try_lock_writer(&self) -> Option<WriterGuard<'_>> {
        self.writer
            .try_lock()
            .map(|guard| WriterGuard::new(self, guard))
    }

    /// Refuses changes to a log that is offline.
    pub(crate) fn check_writable(&self) -> Result<(), StorageError> {
        if self.shared.is_offline() {
            Err(StorageError::Poisoned)
        } else if self.closed.load(Ordering::Acquire) {
            Err(StorageError::Offline)
        } else {
            Ok(())
        }
    }

    // Leader epochs.

    /// End of a leader epoch (OffsetForLeaderEpoch, KIP-279).
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        self.epochs.read().end_of(epoch, self.end.load())
    }

    /// Epoch of the record at `offset`, where known.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.read().at(offset)
    }

    /// Enters a new leader epoch that starts at `start` (a new leader calls it with the log end).
    ///
    /// # Errors
    /// `FencedEpoch` when the log has a newer epoch.
    pub fn assign_epoch(&self, epoch: LeaderEpoch, start: Offset) -> Result<(), StorageError> {
        let mut epochs = self.epochs.write();
        match epochs.latest() {
            Some(current) if current > epoch => Err(StorageError::FencedEpoch {
                found: epoch,
                current,
            }),
            _ => {
                epochs.assign(epoch, start);
                Ok(())
            }
        }
    }

    /// Enters a new leader epoch that starts at the log end, which no append can move meanwhile;
    /// answers the start. An epoch that the log has already keeps its own start.
    ///
    /// # Errors
    /// `FencedEpoch` when the log has a newer epoch.
    pub fn enter_epoch(&self, epoch: LeaderEpoch) -> Result<Offset, StorageError> {
        // A batch of the epoch before is either below the start, or refused by the new epoch.
        let _writer = self.lock_writer();
        let start = self.end.load();
        self.assign_epoch(epoch, start)?;
        Ok(start)
    }

    /// Whether the file of leader epochs lacks some of the log's.
    pub(crate) fn has_new_epochs(&self) -> bool {
        let end = self.end.load();
        self.epochs.read().unstored(end).is_some()
    }

    /// Writes the file of leader epochs where the log has others; blocks. The checkpoint does so
    /// too, and has less to do then.
    ///
    /// # Errors
    /// `DiskFull` or `Io`.
    pub fn store_new_epochs(&self) -> Result<(), StorageError> {
        let _maintenance = self.maintenance.lock();
        match self.closed.load(Ordering::Acquire) {
            true => Ok(()),
            false => self.store_epochs(),
        }
    }

    /// Writes the epochs of all batches if they are others than before; blocks.
    pub(crate) fn store_epochs(&self) -> Result<(), StorageError> {
        let Some(entries) = self.epochs.read().unstored(self.end.load()) else {
            return Ok(());
        };
        let path = self.dir().join(EPOCH_FILE);
        epoch_cache::store(&*self.shared.fs, &path, &entries)
            .map_err(|error| self.shared.judge(error))?;
        self.epochs.write().set_stored(entries);
        Ok(())
    }

    // Producers and transactions.

    /// Upper bound of the last stable offset: the start of the earliest transaction that is open,
    /// or whose marker is not yet below `high_watermark`; `None` when there is none.
    pub fn last_stable_bound(&self, high_watermark: Offset) -> Option<Offset> {
        // Readers of ordinary logs must not wait for an append.
        if !self.transactions.load(Ordering::Acquire) {
            return None;
        }
        self.lock_writer()
            .producers
            .last_stable_bound(high_watermark)
    }

    /// Forgets idle producers; called by [`crate::LogDir::tick`].
    pub(crate) fn expire_producers(&self, now: TimestampMs) {
        let idle_ms = self.config.load().producer_id_expiration_ms;
        self.lock_writer().producers.expire(now, idle_ms);
    }

    /// The aborted transactions that touch `from..up_to`; may block on a cold index.
    ///
    /// # Errors
    /// `Io` when an index cannot be read.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        up_to: Offset,
    ) -> Result<Vec<AbortedTxn>, StorageError> {
        let mut found = Vec::new();
        // A transaction is listed where its marker stands, which may be any segment from here on.
        for segment in self.segments.load().iter().filter(|s| s.tail().next > from) {
            let aborted = segment.index()?.aborted();
            let done = aborted.iter().any(|txn| txn.last_stable_offset >= up_to);
            found.extend(
                aborted
                    .into_iter()
                    .filter(|txn| txn.last_offset >= from && txn.first_offset < up_to),
            );
            if done {
                break;
            }
        }
        Ok(found)
    }
}
