//! Planning a read: which bytes of the log answer a fetch.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use palisade_protocol::Records;
use palisade_protocol::records::RecordSource;
use palisade_protocol::types::Offset;
use palisade_storage::{LogSlice, TryRead};
use tracing::debug;

use super::error::PartitionError;
use super::replica::Replica;

/// Most bytes of one partition that are read ahead at a time.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// Up to which position a reader sees the log (records.md §8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset.
    ReadCommitted,
}

/// Bounds of one read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// What the reader may see.
    pub isolation: Isolation,
    /// Most bytes to return.
    pub max_bytes: usize,
    /// Return the first batch even if it is larger.
    pub at_least_one: bool,
}

/// What a read found. Positions were loaded before the bytes were planned.
pub struct ReadOutcome {
    /// High watermark of the answer.
    pub high_watermark: Offset,
    /// Last stable offset of the answer.
    pub last_stable_offset: Offset,
    /// Log start offset of the answer.
    pub log_start_offset: Offset,
    /// Whole batches, possibly none.
    pub slice: Option<LogSlice>,
    /// The reader's limit was not reached: there is more.
    pub more: bool,
    replica: Arc<Replica>,
}

impl ReadOutcome {
    /// Bytes found.
    pub fn len(&self) -> usize {
        self.slice.as_ref().map_or(0, LogSlice::len)
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every byte found is in memory.
    pub fn is_resident(&self) -> bool {
        self.slice
            .as_ref()
            .is_none_or(|slice| slice.is_resident(0..slice.len()))
    }

    /// Has the first bytes read into memory by the disk thread, for the next request; left out
    /// while that thread has enough to do.
    pub(crate) fn read_ahead(&self) {
        let Some(slice) = self.slice.clone() else {
            return;
        };
        // One at a time: clients that ask for the same again would only queue the same again.
        let Some(turn) = ReadAhead::begin(&self.replica) else {
            return;
        };
        let length = slice.len().min(READ_AHEAD_BYTES);
        self.replica.directory.read_ahead(length, move || {
            if let Err(error) = slice.make_resident(0..length) {
                debug!(%error, "read ahead failed");
            }
            drop(turn);
        });
    }
}

/// The turn of a partition to be read ahead; given back when dropped.
struct ReadAhead(Arc<Replica>);

impl ReadAhead {
    fn begin(replica: &Arc<Replica>) -> Option<ReadAhead> {
        let begun = replica.reading_ahead.swap(true, Ordering::AcqRel);
        (!begun).then(|| ReadAhead(Arc::clone(replica)))
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.0.reading_ahead.store(false, Ordering::Release);
    }
}

/// Plans a read from `from`.
///
/// In place while the index and header pages that it looks at are in memory; what would have to be
/// read from disk is planned on the directory's thread.
///
/// # Errors
/// `OffsetOutOfRange` below the log start or above the log end, `Storage` for damage.
pub(crate) async fn read(
    replica: &Arc<Replica>,
    from: Offset,
    limits: ReadLimits,
) -> Result<ReadOutcome, PartitionError> {
    if replica.is_offline() {
        return Err(PartitionError::Offline);
    }
    let high_watermark = replica.high_watermark();
    let last_stable_offset = replica.last_stable_offset().min(high_watermark);
    let up_to = match limits.isolation {
        Isolation::ReadUncommitted => high_watermark,
        Isolation::ReadCommitted => last_stable_offset,
    };
    let start = replica.log.log_start_offset();
    let end = replica.log.log_end_offset();
    if from < start || from > end {
        return Err(PartitionError::OffsetOutOfRange {
            requested: from,
            start,
            end,
        });
    }
    let mut outcome = ReadOutcome {
        high_watermark,
        last_stable_offset,
        log_start_offset: start,
        slice: None,
        more: false,
        replica: Arc::clone(replica),
    };
    // Between the limit and the log end there is nothing to see yet, which is no error.
    if from < up_to {
        let (max_bytes, at_least_one) = (limits.max_bytes, limits.at_least_one);
        let found = match replica.log.try_read(from, up_to, max_bytes, at_least_one)? {
            TryRead::Done(found) => found,
            TryRead::Cold => {
                let log = Arc::clone(&replica.log);
                let read = move || log.read(from, up_to, max_bytes, at_least_one);
                replica.directory.run(read).await??
            }
        };
        outcome.more = !found.at_end;
        outcome.slice = found.slice;
    }
    Ok(outcome)
}

/// Lends a range of the log to a response.
pub(crate) fn records(slice: Option<LogSlice>) -> Records {
    match slice {
        Some(slice) if !slice.is_empty() => Records::Shared(Arc::new(SliceSource(slice))),
        // Zero length, never null: older clients choke on null (apis.md §9).
        _ => Records::default(),
    }
}

/// A range of the log as the encoder and the sender see it.
#[derive(Debug)]
struct SliceSource(LogSlice);

impl RecordSource for SliceSource {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn slice(&self, range: Range<usize>) -> &[u8] {
        // A range outside the slice is a bug of the sender; nothing is what it gets.
        self.0.as_ref().get(range).unwrap_or_default()
    }

    fn is_resident(&self, range: Range<usize>) -> bool {
        self.0.is_resident(range)
    }

    fn make_resident(&self, range: Range<usize>) -> io::Result<()> {
        self.0.make_resident(range)
    }
}
