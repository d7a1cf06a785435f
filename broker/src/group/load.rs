//! Reading a partition of `__consumer_offsets` into a shard.

use bytes::Bytes;
use palisade_protocol::batch::{
    BATCH_HEADER_LEN, BatchError, BatchIter, Codec, RecordIter, compression,
};
use palisade_protocol::types::Offset;
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
    Partition(#[from] PartitionError),
    /// A batch.
    #[error("batch: {0}")]
    Batch(#[from] BatchError),
    /// A record that this release cannot have written and does not understand.
    #[error("record at offset {offset}: {error}")]
    Record {
        /// Where it is.
        offset: Offset,
        /// What is wrong with it.
        error: RecordError,
    },
}

/// What a load found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Loaded {
    /// Records replayed.
    pub(crate) records: usize,
    /// Records of kinds that are not known, skipped.
    pub(crate) skipped: usize,
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
        let chunk = partition.read_with(next, end, CHUNK, decode).await??;
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

pub(super) fn decode(bytes: &[u8]) -> Result<Chunk, LoadError> {
    let mut chunk = Chunk {
        records: Vec::new(),
        skipped: 0,
        bytes: bytes.len(),
        next: None,
    };
    for batch in BatchIter::new(bytes) {
        let (header, batch) = batch?;
        chunk.next = Some(header.next_offset());
        if header.is_control() {
            continue;
        }
        let section = batch.get(BATCH_HEADER_LEN..).unwrap_or_default();
        let section = match header.codec()? {
            Codec::None => Bytes::copy_from_slice(section),
            codec => compression::decompress(codec, section, MAX_UNPACKED)?,
        };
        for record in RecordIter::new(&section, header.records_count) {
            let record = record?;
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
