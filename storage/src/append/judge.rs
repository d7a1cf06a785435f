//! Every check an append must pass before bytes move.

use super::{AppendAs, Appended, Pieces, Writer};
use crate::batch::{self, BatchHeader};
use crate::config::LogConfig;
use crate::error::StorageError;
use crate::log::Log;
use crate::marker;
use crate::producer_state::{Marker, Verdict};
use crate::types::{LeaderEpoch, Offset, TimestampMs};

/// A parsed batch that has passed every check which needs no lock.
pub(super) struct Checked {
    pub(super) header: BatchHeader,
    pub(super) marker: Option<Marker>,
}

pub(super) fn check(batch: &Pieces<'_>, how: AppendAs) -> Result<Checked, StorageError> {
    let header =
        batch::parse(batch.head).map_err(|reason| StorageError::InvalidBatch { reason })?;
    if header.total_len() != batch.len() {
        return Err(StorageError::InvalidBatch {
            reason: "not exactly one batch",
        });
    }
    let transactional = header.is_control() && header.is_transactional();
    let marker = if transactional && !matches!(how, AppendAs::Raft { .. }) {
        let marker = marker::parse_section(&header, batch.section);
        Some(marker.ok_or(StorageError::InvalidBatch {
            reason: "marker does not parse",
        })?)
    } else {
        None
    };
    Ok(Checked { header, marker })
}

/// Where in the log a batch goes.
pub(super) struct Place {
    pub(super) base_offset: Offset,
    /// Inclusive.
    pub(super) last_offset: Offset,
    /// The log end behind it, exclusive.
    pub(super) next: Offset,
    pub(super) epoch: LeaderEpoch,
}

/// The offsets and the epoch that the batch gets, or must have.
pub(super) fn place(
    header: &BatchHeader,
    how: AppendAs,
    end: Offset,
    config: &LogConfig,
) -> Result<Place, StorageError> {
    let (base_offset, epoch) = match how {
        AppendAs::Leader { epoch } => (end, epoch),
        AppendAs::Raft { term } => (end, term),
        AppendAs::Replica => {
            let found = header.base_offset;
            // Only compaction leaves gaps, and only the leader's log can have them first.
            if found != end && !(config.compact && found > end) {
                return Err(StorageError::OffsetMismatch { found, end });
            }
            (found, header.partition_leader_epoch)
        }
    };
    let last_offset = base_offset.checked_add(i64::from(header.last_offset_delta));
    last_offset
        .and_then(|last_offset| {
            Some(Place {
                base_offset,
                last_offset,
                next: last_offset.checked_add(1)?,
                epoch,
            })
        })
        .ok_or(StorageError::InvalidBatch {
            reason: "offsets overflow",
        })
}

/// Refuses a batch that the active segment cannot hold, though there is no need for another one.
pub(super) fn check_fits(writer: &Writer, place: &Place, size: u64) -> Result<(), StorageError> {
    let active = &writer.active;
    if place.next.distance(active.base) > i64::from(i32::MAX) || size > active.capacity {
        return Err(StorageError::InvalidBatch {
            reason: "batch does not fit the segment",
        });
    }
    Ok(())
}

pub(super) fn must_roll(
    writer: &Writer,
    config: &LogConfig,
    header: &BatchHeader,
    size: u64,
    last_offset: Offset,
    now: TimestampMs,
) -> bool {
    let segment = &writer.active;
    if writer.position == 0 {
        return size > segment.capacity;
    }
    if writer.position + size > segment.capacity.min(config.segment_bytes.max(size)) {
        return true;
    }
    if last_offset.distance(segment.base) >= i64::from(i32::MAX) {
        return true;
    }
    let entries = writer.index.len() as u64 + 1;
    if entries * crate::offset_index::ENTRY_LEN as u64 > config.segment_index_bytes {
        return true;
    }
    let newest = header.max_timestamp.value();
    let age = match segment.first_timestamp().map(TimestampMs::value) {
        Some(first) if first >= 0 && newest >= 0 => newest.saturating_sub(first),
        _ => now.value().saturating_sub(segment.created.value()),
    };
    age > config
        .segment_ms
        .saturating_sub(jitter(config, segment.base))
}

/// A number below the jitter that differs from segment to segment.
pub(crate) fn jitter(config: &LogConfig, base: Offset) -> i64 {
    let most = config.segment_jitter_ms.min(config.segment_ms);
    if most <= 0 {
        return 0;
    }
    let mixed = (base.value().cast_unsigned() ^ 0x9E37_79B9).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 1).cast_signed() % most
}

pub(super) fn apply_producer(writer: &mut Writer, checked: &Checked, base_offset: Offset) {
    let header = &checked.header;
    if header.producer_id.value() < 0 {
        return;
    }
    if let Some(marker) = checked.marker {
        let aborted = writer.producers.apply_marker(header, base_offset, marker);
        if let (Some(txn), Some(index)) = (aborted, writer.index.memory()) {
            index.push_aborted(txn);
        }
    } else if !header.is_control() {
        writer.producers.apply(header, base_offset);
    }
}

impl Log {
    pub(super) fn judge_epoch(
        &self,
        header: &BatchHeader,
        how: AppendAs,
    ) -> Result<(), StorageError> {
        let found = match how {
            AppendAs::Leader { epoch } => epoch,
            AppendAs::Raft { term } => term,
            AppendAs::Replica => header.partition_leader_epoch,
        };
        match self.epochs.read().latest() {
            Some(current) if current > found => Err(StorageError::FencedEpoch { found, current }),
            _ => Ok(()),
        }
    }

    /// The sequence is judged before the bytes move: a refused batch must leave no trace.
    pub(super) fn judge_producer(
        &self,
        writer: &Writer,
        checked: &Checked,
        how: AppendAs,
    ) -> Result<Option<Appended>, StorageError> {
        let header = &checked.header;
        if !matches!(how, AppendAs::Leader { .. }) || header.producer_id.value() < 0 {
            return Ok(None);
        }
        if let Some(marker) = checked.marker {
            return writer.producers.judge_marker(header, marker).map(|()| None);
        }
        if header.is_control() {
            return Ok(None);
        }
        match writer.producers.judge(header)? {
            Verdict::Accept => Ok(None),
            Verdict::Duplicate(first) => Ok(Some(Appended {
                base_offset: first.first_offset,
                last_offset: first.last_offset,
                log_end_offset: self.end.load(),
                duplicate: true,
                max_timestamp: first.timestamp,
                log_append_time: Some(first.timestamp),
            })),
        }
    }
}
