//! The raft log on a `storage::Log`: one entry per batch, offset = index - 1, epoch = term.
//!
//! Beside it lies the mark `raft-synced`: the index of the last entry that a sync has covered,
//! written after that sync and before anyone is told of it. What a node has told of, the group may
//! count as committed; so bytes that do not verify at or below the mark are damage, which stops the
//! start, and only above it are they what a crash left half written. The log's own recovery point
//! is as old as the last checkpoint and could not tell the two apart.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use palisade_protocol::batch::{
    BATCH_HEADER_LEN, BatchBuilder, BatchHeader, Codec, RecordIter, verify_crc,
};
use palisade_protocol::types::{LeaderEpoch, Offset, TimestampMs};
use palisade_storage::fs::Fs;
use palisade_storage::{
    AppendAs, FlushPolicy, Log, LogConfig, LogDir, LogSpec, NoObserver, RecoveryReport,
    StorageError, SyncedMark,
};

use super::codec::CodecError;
use super::engine::Recovered;
use super::entry::LogEntry;
use super::log::EntryLog;
use super::{METADATA_TOPIC_ID, RaftError};

/// Directory of the log, as Kafka names its own.
pub const DIRECTORY: &str = "__cluster_metadata-0";

/// File of the last synced index.
const MARK: &str = "raft-synced";

/// What is missing without it.
const NO_MARK: &str = "the file raft-synced (which the first builds did not write: a directory that \
                       only those have used cannot be taken over)";

/// Bytes asked of the log at once when entries are read.
const READ_BYTES: usize = 1 << 20;

/// Settings of the log: every append counts only once synced, and only a snapshot shortens it.
#[must_use]
pub fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 20,
        segment_ms: i64::MAX,
        retention_ms: None,
        retention_bytes: None,
        max_message_bytes: 64 << 20,
        flush_policy: FlushPolicy::Ack,
        delete: false,
        compact: false,
        essential: true,
        ..LogConfig::default()
    }
}

/// The raft log of this node.
pub struct DiskLog {
    log: Arc<Log>,
    mark: SyncedMark,
    /// Index and term of the entry before the first.
    before_first: (u64, u64),
    /// First index of each run of entries of one term, ascending in both.
    terms: Vec<(u64, u64)>,
    last_index: u64,
}

impl fmt::Debug for DiskLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskLog")
            .field("before_first", &self.before_first)
            .field("last_index", &self.last_index)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl DiskLog {
    /// Opens the log in its directory behind what `recovered` says, creating it for a new group;
    /// also answers the log itself and what its recovery found. Blocks.
    ///
    /// # Errors
    /// `Incomplete` without the mark, `DamagedFile` for one that does not read, `Damaged` and
    /// `LostEntries` where synced entries do not verify or are gone, `Storage`, `Codec`,
    /// `Misplaced`.
    pub fn open(
        log_dir: &LogDir,
        fs: &Arc<dyn Fs>,
        recovered: &Recovered,
        now: TimestampMs,
    ) -> Result<(DiskLog, Arc<Log>, RecoveryReport), RaftError> {
        let path = log_dir.path().join(MARK);
        let mark = SyncedMark::open(fs.as_ref(), &path);
        let mark =
            match mark.map_err(RaftError::reading("how far the metadata was acknowledged"))? {
                Some(mark) => mark,
                None if recovered.is_new() => SyncedMark::create(fs.as_ref(), &path)?,
                None => return Err(RaftError::Incomplete(NO_MARK)),
            };
        let spec = LogSpec {
            dir_name: DIRECTORY.to_owned(),
            topic_id: METADATA_TOPIC_ID,
            leader_epoch: None,
        };
        let synced = offset_of(mark.value() + 1);
        let observer = Arc::new(NoObserver);
        let (log, report) =
            log_dir.open_log_synced_to(synced, spec, log_config(), observer, now)?;
        let opened = DiskLog::read(Arc::clone(&log), mark, recovered.log_starts_behind())?;
        opened.check_term(recovered.term())?;
        Ok((opened, log, report))
    }

    /// Reads the log behind a snapshot of this index and term.
    fn read(log: Arc<Log>, mark: SyncedMark, snapshot: (u64, u64)) -> Result<DiskLog, RaftError> {
        let mut opened = DiskLog {
            log,
            mark,
            before_first: snapshot,
            terms: Vec::new(),
            last_index: snapshot.0,
        };
        let end = opened.log.log_end_offset();
        let behind = offset_of(snapshot.0 + 1);
        if let Some(range) = opened.log.damage().iter().find(|range| range.to > behind) {
            return Err(RaftError::Damaged {
                from: index_of(range.from),
                to: index_of(range.to) - 1,
                path: Arc::clone(&range.path),
                reason: range.reason,
            });
        }
        let (last, commit) = (index_of(end) - 1, opened.mark.value());
        if last < commit && snapshot.0 < commit {
            return Err(RaftError::LostEntries { last, commit });
        }
        if last <= snapshot.0 {
            // The log ends below the snapshot, as after a crash between the two: all of it is
            // covered, and what comes next must find its place.
            opened.log.reset_to(behind)?;
            return Ok(opened);
        }
        let first = index_of(opened.log.log_start_offset());
        if first > snapshot.0 + 1 {
            return Err(RaftError::Misplaced {
                expected: snapshot.0 + 1,
                found: first,
            });
        }
        let mut next = snapshot.0 + 1;
        while next < index_of(end) {
            let entries = opened.read_some(next, index_of(end))?;
            for entry in &entries {
                opened.note(entry);
            }
            next = opened.last_index + 1;
        }
        // Recovery has synced what it kept, so from here on it may be told of.
        opened.mark.raise(opened.last_index)?;
        Ok(opened)
    }

    /// Refuses entries of a term that this node has not entered: the term stands outside the
    /// checksum of a batch, and the hard state is always written first.
    fn check_term(&self, entered: Option<u64>) -> Result<(), RaftError> {
        match (self.terms.last(), entered) {
            (Some((first, term)), Some(entered)) if *term > entered => Err(RaftError::Damaged {
                from: *first,
                to: self.last_index,
                path: Path::new(DIRECTORY).into(),
                reason: "term above that of the hard state",
            }),
            _ => Ok(()),
        }
    }

    /// Notes an appended entry in the table of terms.
    fn note(&mut self, entry: &LogEntry) {
        if self.terms.last().map_or(self.before_first.1, |run| run.1) != entry.term
            || self.terms.is_empty()
        {
            self.terms.push((entry.index, entry.term));
        }
        self.last_index = entry.index;
    }

    /// Reads entries from `from` on, one piece of the log at a time; at least one.
    fn read_some(&self, from: u64, below: u64) -> Result<Vec<LogEntry>, RaftError> {
        let read = self
            .log
            .read(offset_of(from), offset_of(below), READ_BYTES, true)
            .map_err(damaged)?;
        let missing = RaftError::Misplaced {
            expected: from,
            found: index_of(read.start_offset),
        };
        let Some(slice) = read.slice else {
            return Err(missing);
        };
        slice
            .make_resident(0..slice.len())
            .map_err(|error| StorageError::Io {
                operation: "read",
                path: Arc::from(Path::new(DIRECTORY)),
                kind: error.kind(),
                os_code: error.raw_os_error(),
            })?;
        let mut bytes = slice.as_ref();
        let mut entries: Vec<LogEntry> = Vec::new();
        while !bytes.is_empty() {
            let expected = from + entries.len() as u64;
            // The log checks it above its recovery point only, and a client is not there to do so.
            if !verify_crc(bytes) {
                return Err(RaftError::Damaged {
                    from: expected,
                    to: expected,
                    path: Path::new(DIRECTORY).into(),
                    reason: "wrong checksum",
                });
            }
            let (entry, length) = parse(bytes).map_err(|source| RaftError::Codec {
                file: DIRECTORY,
                source,
            })?;
            if entry.index != expected {
                return Err(RaftError::Misplaced {
                    expected,
                    found: entry.index,
                });
            }
            entries.push(entry);
            bytes = bytes.get(length..).unwrap_or_default();
        }
        if entries.is_empty() {
            Err(missing)
        } else {
            Ok(entries)
        }
    }
}

/// Says in indexes what the log says in offsets.
fn damaged(error: StorageError) -> RaftError {
    match error {
        StorageError::Corrupt {
            from,
            to,
            path,
            reason,
        } => RaftError::Damaged {
            from: index_of(from),
            to: index_of(to) - 1,
            path,
            reason,
        },
        other => RaftError::Storage(other),
    }
}

/// Reads the entry of the batch at the front, and the batch's length.
fn parse(bytes: &[u8]) -> Result<(LogEntry, usize), CodecError> {
    let unreadable = |what| CodecError::Invalid { what, value: 0 };
    let header = BatchHeader::parse(bytes).map_err(|_| unreadable("raft batch header"))?;
    let length = header.total_len();
    let records = bytes
        .get(BATCH_HEADER_LEN..length)
        .ok_or_else(|| unreadable("raft batch length"))?;
    let term = u64::try_from(header.partition_leader_epoch.value())
        .map_err(|_| unreadable("raft batch epoch"))?;
    let mut records = RecordIter::new(records, header.records_count);
    let record = records
        .next()
        .ok_or_else(|| unreadable("raft batch without a record"))?
        .map_err(|_| unreadable("raft batch record"))?;
    let value = record
        .value
        .ok_or_else(|| unreadable("raft batch without a value"))?;
    // Outside the checksum, as the epoch is.
    let index =
        u64::try_from(header.base_offset.value()).map_err(|_| unreadable("raft batch offset"))? + 1;
    let entry = LogEntry::decode_value(index, term, value)?;
    Ok((entry, length))
}

/// Writes an entry as a batch.
fn batch(entry: &LogEntry, now: TimestampMs) -> BytesMut {
    let mut builder = BatchBuilder::new(Codec::None);
    builder
        .add(now, None, Some(&entry.encode_value()), &[])
        .and_then(|()| builder.build())
        .expect("an entry is far smaller than a batch may be")
}

fn offset_of(index: u64) -> Offset {
    Offset::new(i64::try_from(index).expect("raft indexes stay below 2^63") - 1)
}

fn index_of(offset: Offset) -> u64 {
    u64::try_from(offset.value()).expect("offsets of the log are not negative") + 1
}

fn epoch_of(term: u64) -> LeaderEpoch {
    LeaderEpoch::new(i32::try_from(term).expect("terms stay below 2^31"))
}

impl EntryLog for DiskLog {
    fn first_index(&self) -> u64 {
        self.before_first.0 + 1
    }

    fn last_index(&self) -> u64 {
        self.last_index
    }

    fn term(&self, index: u64) -> Option<u64> {
        if index == self.before_first.0 {
            return Some(self.before_first.1);
        }
        if !(self.first_index()..=self.last_index).contains(&index) {
            return None;
        }
        let after = self.terms.partition_point(|(first, _)| *first <= index);
        after.checked_sub(1).map(|at| self.terms[at].1)
    }

    fn append(&mut self, entries: &[LogEntry], now: TimestampMs) -> Result<(), RaftError> {
        for entry in entries {
            if entry.index <= self.last_index {
                if self.term(entry.index) == Some(entry.term) {
                    // Offered again after a full disk: same index and term, same entry.
                    continue;
                }
                // Before the cut: below the mark, what is missing counts as lost.
                self.mark.lower(entry.index - 1)?;
                self.log.truncate_to(offset_of(entry.index))?;
                self.terms.retain(|(first, _)| *first < entry.index);
                self.last_index = entry.index - 1;
            }
            let how = AppendAs::Raft {
                term: epoch_of(entry.term),
            };
            let appended = self.log.append(&mut batch(entry, now), how, now)?;
            if index_of(appended.base_offset) != entry.index {
                let found = index_of(appended.base_offset);
                return Err(RaftError::Misplaced {
                    expected: entry.index,
                    found,
                });
            }
            self.note(entry);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), RaftError> {
        self.log.flush_blocking()?;
        self.mark.raise(self.last_index)?;
        Ok(())
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<LogEntry>, RaftError> {
        let mut found: Vec<LogEntry> = Vec::new();
        let mut bytes = 0_u64;
        while low + (found.len() as u64) < high {
            for entry in self.read_some(low + found.len() as u64, high)? {
                bytes = bytes.saturating_add(entry.data.len() as u64);
                if entry.index >= high || (!found.is_empty() && bytes > max_bytes) {
                    return Ok(found);
                }
                found.push(entry);
            }
        }
        Ok(found)
    }

    fn discard_through(&mut self, index: u64, term: u64) -> Result<(), RaftError> {
        self.log.delete_records_before(offset_of(index + 1))?;
        let kept_from = self.terms.partition_point(|(first, _)| *first <= index + 1);
        self.terms.drain(..kept_from.saturating_sub(1));
        if let Some(run) = self.terms.first_mut() {
            run.0 = run.0.max(index + 1);
        }
        self.terms.retain(|(first, _)| *first <= self.last_index);
        self.before_first = (index, term);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
