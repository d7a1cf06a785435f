//! Appending one batch.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::batch::{self, BatchHeader, HEADER_LEN};
use crate::config::{FlushPolicy, LogConfig};
use crate::error::StorageError;
use crate::failpoint;
use crate::flusher::Asker;
use crate::fs::{is_full, set_age, write_all_two_at};
use crate::log::Log;
use crate::offset_index::IndexEntry;
use crate::segment::{Segment, Tail};
use crate::types::{LeaderEpoch, Offset, TimestampMs};

mod judge;
mod writer;

pub(crate) use judge::jitter;
use judge::{Checked, Place, apply_producer, check, check_fits, must_roll, place};
pub(crate) use writer::{Allocation, Writer};

/// Most bytes of records in a single write.
const WRITE_STEP: usize = 1 << 20;
/// Bytes between two starts of writeback.
const WRITEBACK_STEP: u64 = 8 << 20;
/// First allocation step and largest one, in bytes; each step is four times the one before.
const FIRST_ALLOCATION: u64 = 256 << 10;
const LARGEST_ALLOCATION: u64 = 64 << 20;

/// In which role a batch is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendAs {
    /// The leader: offsets and epoch are stamped, producer sequences are judged.
    Leader {
        /// The leader epoch to stamp.
        epoch: LeaderEpoch,
    },
    /// A follower: the batch is stored as it came, its producer state is applied unjudged.
    Replica,
    /// The raft log: the term is stamped as leader epoch, there is no producer state.
    Raft {
        /// The raft term of the entry.
        term: LeaderEpoch,
    },
}

/// Where a batch landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record, inclusive.
    pub last_offset: Offset,
    /// Log end offset after the append, exclusive.
    pub log_end_offset: Offset,
    /// The batch was stored before (KIP-98); the offsets are those of the first time.
    pub duplicate: bool,
    /// Largest timestamp of the batch.
    pub max_timestamp: TimestampMs,
    /// The timestamp to answer as log append time; `None` under CreateTime.
    pub log_append_time: Option<TimestampMs>,
}

/// Answer of an append that does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAppend {
    /// The batch is in the log (not yet durable).
    Done(Appended),
    /// The lock is taken or the segment must be rolled; nothing was written, the batch is as it
    /// was.
    ///
    /// Call [`Log::append_split`] where blocking is allowed: it waits, and rolls.
    Busy,
}

/// What came of an append under the lock.
enum Outcome {
    /// The batch is in the log, maybe from before.
    Done(Appended, After),
    /// Someone owns the end of the log.
    Exclusive,
    /// The active segment must be rolled first.
    Roll(Arc<Segment>),
}

/// One encoded batch, in the two pieces in which it lies.
struct Pieces<'a> {
    head: &'a mut [u8; HEADER_LEN],
    section: &'a [u8],
}

impl<'a> Pieces<'a> {
    fn of(batch: &'a mut [u8]) -> Result<Self, StorageError> {
        let pieces = batch.split_first_chunk_mut();
        let (head, section) = pieces.ok_or(StorageError::InvalidBatch {
            reason: "batch header does not parse",
        })?;
        Ok(Pieces { head, section })
    }

    fn len(&self) -> usize {
        HEADER_LEN + self.section.len()
    }
}

/// What to do once the lock is released.
#[derive(Default)]
struct After {
    flush: Option<Offset>,
    writeback: Option<(u64, u64)>,
    allocate: bool,
    check_space: bool,
}

impl Log {
    /// Appends one batch if that needs no waiting.
    ///
    /// `head` and `section`: the two pieces of exactly one encoded RecordBatch v2 (KIP-98), header
    /// and CRC already validated, together at most `segment_bytes` bytes. Base offset and leader
    /// epoch are stamped into it, except for [`AppendAs::Replica`]. Where the flush policy asks for
    /// a sync, the log waits for it in the line of `asker`.
    ///
    /// # Errors
    /// - `OutOfOrderSequence`, `InvalidProducerEpoch`, `InvalidTxnState`,
    ///   `TransactionCoordinatorFenced`: the producer's state forbids it (KIP-98, KIP-360,
    ///   KIP-890).
    /// - `FencedEpoch`: the epoch is older than the log's (KIP-320).
    /// - `OffsetMismatch`: a replicated batch does not continue the log.
    /// - `RecordBatchTooLarge`, `InvalidBatch`.
    /// - `DiskFull`: nothing was written, the log keeps its old end.
    /// - `Poisoned`, `Offline`, `Io`: the log takes no writes.
    pub fn try_append_split(
        &self,
        head: &mut [u8; HEADER_LEN],
        section: &[u8],
        how: AppendAs,
        asker: Asker,
        now: TimestampMs,
    ) -> Result<TryAppend, StorageError> {
        let mut batch = Pieces { head, section };
        let checked = check(&batch, how)?;
        let Some(mut writer) = self.try_lock_writer() else {
            return Ok(TryAppend::Busy);
        };
        let outcome = self.append_locked(&mut writer, &mut batch, &checked, how, now);
        drop(writer);
        match outcome {
            Ok(Outcome::Done(appended, after)) => {
                self.finish(after, asker);
                Ok(TryAppend::Done(appended))
            }
            Ok(Outcome::Exclusive | Outcome::Roll(_)) => Ok(TryAppend::Busy),
            Err(error) => Err(self.append_failed(error, now)),
        }
    }

    /// Appends one batch of the node's own in one piece, waiting for the lock and for a roll where
    /// needed; blocks.
    ///
    /// # Errors
    /// Those of [`Log::try_append_split`].
    pub fn append(
        &self,
        batch: &mut [u8],
        how: AppendAs,
        now: TimestampMs,
    ) -> Result<Appended, StorageError> {
        self.append_pieces(Pieces::of(batch)?, how, Asker::NODE, now)
    }

    /// The same for a batch whose header lies elsewhere than its records, which are shared.
    ///
    /// # Errors
    /// Those of [`Log::try_append_split`].
    pub fn append_split(
        &self,
        head: &mut [u8; HEADER_LEN],
        section: &[u8],
        how: AppendAs,
        asker: Asker,
        now: TimestampMs,
    ) -> Result<Appended, StorageError> {
        self.append_pieces(Pieces { head, section }, how, asker, now)
    }

    fn append_pieces(
        &self,
        mut batch: Pieces<'_>,
        how: AppendAs,
        asker: Asker,
        now: TimestampMs,
    ) -> Result<Appended, StorageError> {
        let checked = check(&batch, how)?;
        loop {
            let mut writer = self.lock_writer();
            let outcome = self.append_locked(&mut writer, &mut batch, &checked, how, now);
            drop(writer);
            match outcome {
                Ok(Outcome::Done(appended, after)) => {
                    self.finish(after, asker);
                    return Ok(appended);
                }
                // Whoever owns the end holds this lock.
                Ok(Outcome::Exclusive) => drop(self.maintenance.lock()),
                Ok(Outcome::Roll(active)) => self.roll(&active, now)?,
                Err(error) => return Err(self.append_failed(error, now)),
            }
        }
    }

    fn append_locked(
        &self,
        writer: &mut Writer,
        batch: &mut Pieces<'_>,
        checked: &Checked,
        how: AppendAs,
        now: TimestampMs,
    ) -> Result<Outcome, StorageError> {
        self.check_writable()?;
        if writer.exclusive {
            return Ok(Outcome::Exclusive);
        }
        let config = self.config.load();
        if self.shared.space.is_full() && !config.essential {
            return Err(StorageError::DiskFull {
                path: self.home.dir.as_path().into(),
            });
        }
        let header = &checked.header;
        let size = batch.len() as u64;
        if size > writer.active.capacity.max(config.segment_bytes) {
            let limit = config.segment_bytes;
            return Err(StorageError::RecordBatchTooLarge { size, limit });
        }
        self.judge_epoch(header, how)?;
        if let Some(duplicate) = self.judge_producer(writer, checked, how)? {
            return Ok(Outcome::Done(duplicate, After::default()));
        }
        let place = place(header, how, self.end.load(), &config)?;
        if must_roll(writer, &config, header, size, place.last_offset, now) {
            return Ok(Outcome::Roll(writer.active.clone()));
        }
        check_fits(writer, &place, size)?;
        if !matches!(how, AppendAs::Replica) {
            batch::stamp(batch.head, place.base_offset, place.epoch);
        }
        self.write(writer, batch)?;

        // From here on nothing fails: the bytes are in the file.
        self.note(writer, &config, checked, &place, how);
        self.publish(writer, header, &place);
        let appended = Appended {
            base_offset: place.base_offset,
            last_offset: place.last_offset,
            log_end_offset: place.next,
            duplicate: false,
            max_timestamp: header.max_timestamp,
            log_append_time: (header.attributes & 8 != 0).then_some(header.max_timestamp),
        };
        let after = self.what_follows(writer, &config, header, place.next, now);
        Ok(Outcome::Done(appended, after))
    }

    /// Enters a batch that has just been written in the index, the epochs and the producers.
    fn note(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        checked: &Checked,
        place: &Place,
        how: AppendAs,
    ) {
        if writer.since_index > config.index_interval_bytes {
            let relative = place.base_offset.distance(writer.active.base) as u32;
            let entry = IndexEntry {
                relative,
                position: writer.position as u32,
            };
            if let Some(index) = writer.index.memory() {
                index.push(entry, writer.active.max_timestamp());
            }
            writer.since_index = 0;
        }
        let size = checked.header.total_len() as u32;
        writer.since_index = writer.since_index.saturating_add(size);
        let epoch = place.epoch;
        if epoch.value() >= 0 && self.epochs.read().latest() != Some(epoch) {
            self.epochs.write().assign(epoch, place.base_offset);
        }
        if !matches!(how, AppendAs::Raft { .. }) {
            apply_producer(writer, checked, place.base_offset);
        }
    }

    /// Shows it to readers.
    fn publish(&self, writer: &mut Writer, header: &BatchHeader, place: &Place) {
        writer.position += header.total_len() as u64;
        let tail = Tail {
            position: writer.position,
            next: place.next,
        };
        writer.active.publish(tail, header.max_timestamp);
        self.end.store(place.next);
    }

    /// Writes the bytes at the tracked end; on an error the file has its old end again.
    fn write(&self, writer: &mut Writer, batch: &Pieces<'_>) -> Result<(), StorageError> {
        let at = writer.position;
        // Records without timestamps are as old as their file, and to the system what is cut off
        // again was a write.
        let timeless = at > 0 && writer.active.max_timestamp().value() < 0;
        let age = timeless.then(|| writer.file.modified());
        let written = failpoint::hit("append.before_write").and_then(|()| {
            write_all_two_at(&*writer.file, batch.head, batch.section, at, WRITE_STEP)?;
            failpoint::hit("append.after_write")
        });
        let Err(error) = written else { return Ok(()) };
        if let Err(second) = writer.file.set_len(writer.position) {
            // Half a batch may lie below the next append: nothing more may be written here.
            self.closed.store(true, Ordering::Release);
            return Err(StorageError::io("truncate", &writer.active.path, &second));
        }
        if let Some(Ok(age)) = age {
            set_age(&*writer.file, age);
        }
        if is_full(&error) {
            // Cutting also freed what was allocated ahead.
            writer.allocation = Allocation {
                end: writer.position,
                ..writer.allocation
            };
        }
        Err(StorageError::io("write", &writer.active.path, &error))
    }

    fn what_follows(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        header: &BatchHeader,
        end: Offset,
        now: TimestampMs,
    ) -> After {
        let mut after = After::default();
        match config.flush_policy {
            FlushPolicy::Ack => after.flush = Some(end),
            FlushPolicy::Interval { messages, .. } => {
                let records = u64::from(header.last_offset_delta.unsigned_abs()) + 1;
                let before = self.unflushed.fetch_add(records, Ordering::Relaxed);
                if before == 0 {
                    self.unflushed_since.store(now.value(), Ordering::Relaxed);
                }
                if before + records >= messages {
                    after.flush = Some(end);
                }
            }
            FlushPolicy::Os => {}
        }
        let position = writer.position;
        if position - writer.written_back >= WRITEBACK_STEP {
            after.writeback = Some((writer.written_back, position));
            writer.written_back = position;
        }
        let ahead = &mut writer.allocation;
        if config.allocate_ahead && !ahead.under_way && !ahead.refused {
            let left = ahead.end.saturating_sub(position);
            if left < ahead.step.max(FIRST_ALLOCATION) / 4 && ahead.end < writer.active.capacity {
                ahead.step = (ahead.step * 4).clamp(FIRST_ALLOCATION, LARGEST_ALLOCATION);
                ahead.under_way = true;
                after.allocate = true;
            }
        }
        after.check_space = self.shared.space.appended(header.total_len() as u64);
        after
    }

    fn finish(&self, after: After, asker: Asker) {
        let Some(me) = self.me.upgrade() else { return };
        if let Some(end) = after.flush {
            self.request_flush(end, asker);
        }
        if let Some((from, to)) = after.writeback {
            self.shared.flusher.push_writeback(me.clone(), from, to);
        }
        if after.allocate {
            self.queue_allocation(me);
        }
        if after.check_space {
            self.shared.check_space();
        }
    }

    fn append_failed(&self, error: StorageError, now: TimestampMs) -> StorageError {
        self.shared.note_now(now);
        match &error {
            // Refused for the reserve, which is no news; but it may be over.
            StorageError::DiskFull { path } if **path == *self.home.dir => {
                if self.shared.space.recheck_due(now) {
                    self.shared.check_space();
                }
                return error;
            }
            StorageError::Io {
                operation: "truncate",
                ..
            } => self.observer.failed(),
            _ => {}
        }
        self.shared.judge(error)
    }
}
