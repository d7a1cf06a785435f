//! Reading a partition of `__consumer_offsets` into a shard.

use bytes::Bytes;
use palisade_protocol::batch::{
    BATCH_HEADER_LEN, BatchError, BatchIter, Codec, RecordIter, compression, verify_crc,
};
use palisade_protocol::types::Offset;
use palisade_storage::StorageError;
use thiserror::Error;
use tracing::warn;

use super::record::{GroupRecord, RecordError};
use super::shard::{Shard, Source};
use crate::partition::PartitionError;
use crate::partition::own::OwnPartition;
use crate::task::Budget;

/// Bytes read at a time; a larger batch is read whole.
const CHUNK: usize = 1 << 20;
/// Largest batch after decompression: nobody else writes here, so this is a guard only.
const MAX_UNPACKED: usize = 256 << 20;

/// Why a log was not read.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// The partition.
    #[error(transparent)]
    Partition(PartitionError),
    /// Bytes that are not those that were written.
    #[error(
        "the batch at offset {offset} is damaged ({reason}); with the node stopped, restore the \
         partition's directory from a copy, or give up the groups and offsets in it: put a new \
         directory with an empty file accept-loss in its place"
    )]
    Damaged {
        /// Where it is.
        offset: Offset,
        /// Which check failed.
        reason: &'static str,
    },
    /// A batch that verifies and does not open.
    #[error("batch at offset {offset}: {error}")]
    Batch {
        /// Where it is.
        offset: Offset,
        /// What is wrong with it.
        error: BatchError,
    },
    /// A record that this release cannot have written and does not understand.
    #[error("record at offset {offset}: {error}")]
    Record {
        /// Where it is.
        offset: Offset,
        /// What is wrong with it.
        error: RecordError,
    },
}

impl From<PartitionError> for LoadError {
    fn from(error: PartitionError) -> Self {
        match error {
            PartitionError::Storage(StorageError::Corrupt { from, reason, .. }) => Self::Damaged {
                offset: from,
                reason,
            },
            error => Self::Partition(error),
        }
    }
}

/// What a load found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Loaded {
    /// Records replayed.
    pub(crate) records: usize,
    /// Records of kinds that are not known, skipped.
    pub(crate) skipped: usize,
    /// Ranges of batches with wrong leader epochs, replayed like others.
    pub(crate) contradicted: usize,
}

/// A part of the log, decoded.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) records: Vec<GroupRecord>,
    skipped: usize,
    bytes: usize,
    next: Option<Offset>,
}

/// Replays everything below `end`, a chunk at a time; the bytes are read and decoded elsewhere.
///
/// # Errors
/// What could not be read; the shard is half full then.
pub(crate) async fn load(
    partition: &OwnPartition,
    end: Offset,
    shard: &mut Shard,
) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded::default();
    let mut next = partition.log_start_offset();
    while next < end {
        let work = move |bytes: &[u8]| decode(bytes, next, end);
        let chunk = match partition.read_with(next, end, CHUNK, work).await {
            Err(error @ PartitionError::Storage(StorageError::Corrupt { .. })) => {
                let work = move |bytes: &[u8], to| decode_up_to(bytes, next, to);
                let read = partition.read_contradicted(next, work).await?;
                loaded.contradicted += 1;
                read.ok_or(error)??
            }
            read => read??,
        };
        let mut budget = Budget::start();
        let each = chunk.bytes / chunk.records.len().max(1);
        for record in &chunk.records {
            shard.replay(record, Source::Log);
            budget.breathe(each).await;
        }
        loaded.records += chunk.records.len();
        loaded.skipped += chunk.skipped;
        match chunk.next {
            Some(behind) => next = behind,
            // Compaction may have taken the last records before the end.
            None => break,
        }
    }
    if loaded.skipped > 0 {
        warn!(
            skipped = loaded.skipped,
            "records of unknown kinds are ignored"
        );
    }
    Ok(loaded)
}

/// Decodes the batches from the one that holds `from`, none of which reaches beyond `end`.
pub(super) fn decode(bytes: &[u8], from: Offset, end: Offset) -> Result<Chunk, LoadError> {
    let mut chunk = Chunk {
        records: Vec::new(),
        skipped: 0,
        bytes: bytes.len(),
        next: None,
    };
    for batch in BatchIter::new(bytes) {
        let expected = chunk.next.unwrap_or(from);
        let damaged = |reason| LoadError::Damaged {
            offset: expected,
            reason,
        };
        let (header, batch) = batch.map_err(|_| damaged("no batch"))?;
        // The log checks it above its recovery point only, and no client is there to do so.
        if !verify_crc(batch) {
            return Err(damaged("wrong checksum"));
        }
        // The checksum does not cover it; only a log start may lie inside a batch.
        let is_behind = chunk.next.is_none() || header.base_offset >= expected;
        if !is_behind || header.next_offset() <= expected || header.next_offset() > end {
            return Err(damaged("wrong offset"));
        }
        chunk.next = Some(header.next_offset());
        if header.is_control() {
            continue;
        }
        let unread = |error| LoadError::Batch {
            offset: header.base_offset,
            error,
        };
        let section = batch.get(BATCH_HEADER_LEN..).unwrap_or_default();
        let section = match header.codec().map_err(unread)? {
            Codec::None => Bytes::copy_from_slice(section),
            codec => compression::decompress(codec, section, MAX_UNPACKED).map_err(unread)?,
        };
        for record in RecordIter::new(&section, header.records_count) {
            let record = record.map_err(unread)?;
            let key = record.key.map(|key| section.slice_ref(key));
            let value = record.value.map(|value| section.slice_ref(value));
            match GroupRecord::decode(key, value) {
                Ok(record) => chunk.records.push(record),
                Err(RecordError::UnknownKind(_)) => chunk.skipped += 1,
                Err(error) => {
                    let delta = i64::from(record.offset_delta);
                    let offset = header.base_offset.checked_add(delta);
                    let offset = offset.unwrap_or(header.base_offset);
                    return Err(LoadError::Record { offset, error });
                }
            }
        }
    }
    Ok(chunk)
}

/// The same of all that the log has before `to`, where offsets may be missing.
fn decode_up_to(bytes: &[u8], from: Offset, to: Offset) -> Result<Chunk, LoadError> {
    let next = Some(to);
    decode(bytes, from, to).map(|chunk| Chunk { next, ..chunk })
}
