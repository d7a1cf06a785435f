//! The producer state of a log at one offset, as a file `<offset>.snapshot`.
//!
//! ```text
//! 0  4  magic "PLPS"
//! 4  4  format version: 1
//! 8  4  number of producers
//! 12 .. per producer:
//!       8 producer id, 2 epoch, 4 coordinator epoch, 8 first offset of the open transaction
//!       (-1 none), 8 last timestamp, 1 number of batches (0 to 5), then per batch:
//!       4 first sequence, 4 last sequence, 8 first offset, 8 last offset, 8 timestamp
//! ```
//!
//! Integers are little endian. The checksum line of [`crate::durable`] ends the file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{BatchMeta, ProducerEntry, ProducerStates, WINDOW};
use crate::durable;
use crate::error::StorageError;
use crate::fs::Fs;
use crate::segment::Segment;
use crate::types::{Offset, ProducerEpoch, ProducerId, TimestampMs};

const MAGIC: &[u8; 4] = b"PLPS";
const VERSION: u32 = 1;

/// File name of the snapshot at `offset`.
pub(crate) fn path(dir: &Path, offset: Offset) -> PathBuf {
    dir.join(format!("{:020}.snapshot", offset.value()))
}

/// Offset in the name of a snapshot file.
pub(crate) fn offset_of(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".snapshot")?;
    (digits.len() == 20)
        .then(|| digits.parse().ok().map(Offset::new))
        .flatten()
}

/// Removes the snapshots inside sealed segments, which cleaning or a clean stop left behind.
///
/// The one at a segment's base says all that a replay needs besides the segment; where it is
/// missing, the lowest one inside takes its place.
pub(crate) fn remove_inside(fs: &dyn Fs, dir: &Path, sealed: &[Arc<Segment>]) {
    let Ok(entries) = fs.list(dir) else {
        return;
    };
    let found: BTreeSet<Offset> = entries.iter().filter_map(|e| offset_of(&e.name)).collect();
    for segment in sealed {
        let (base, next) = (segment.base, segment.tail().next);
        // Nothing came before the first record of all.
        let has_base = base == Offset::ZERO || found.contains(&base);
        let inside = found
            .range(base..next.max(base))
            .filter(|offset| **offset > base);
        for offset in inside.skip(usize::from(!has_base)) {
            // Left over, it only takes room.
            let _ = fs.remove_file(&path(dir, *offset));
        }
    }
}

/// Writes the snapshot at `offset`.
pub(crate) fn store(
    fs: &dyn Fs,
    dir: &Path,
    offset: Offset,
    states: &ProducerStates,
) -> Result<(), StorageError> {
    durable::write_small_file(fs, &path(dir, offset), &encode(states))
}

/// Reads the snapshot at `offset`.
pub(crate) fn load(
    fs: &dyn Fs,
    dir: &Path,
    offset: Offset,
) -> Result<Option<ProducerStates>, StorageError> {
    let path = path(dir, offset);
    let Some(bytes) = durable::read_small_file(fs, &path)? else {
        return Ok(None);
    };
    match bytes.split_first_chunk::<4>() {
        Some((MAGIC, rest)) => {
            let mut reader = Reader(rest);
            let found = reader.u32().unwrap_or(0);
            if found > VERSION {
                return Err(StorageError::FormatTooNew {
                    path,
                    found,
                    supported: VERSION,
                });
            }
            decode(&mut reader).map(Some).ok_or(StorageError::BadFile {
                path,
                reason: "snapshot does not parse",
            })
        }
        _ => Err(StorageError::BadFile {
            path,
            reason: "not a producer snapshot",
        }),
    }
}

fn encode(states: &ProducerStates) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + states.len() * 64);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(
        &u32::try_from(states.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    for (producer_id, entry) in states.iter() {
        out.extend_from_slice(&producer_id.value().to_le_bytes());
        out.extend_from_slice(&entry.epoch.value().to_le_bytes());
        out.extend_from_slice(&entry.coordinator_epoch.to_le_bytes());
        let open = entry.txn_first_offset.map_or(-1, Offset::value);
        out.extend_from_slice(&open.to_le_bytes());
        out.extend_from_slice(&entry.last_timestamp.value().to_le_bytes());
        out.push(entry.batches().count() as u8);
        for batch in entry.batches() {
            out.extend_from_slice(&batch.first_sequence.to_le_bytes());
            out.extend_from_slice(&batch.last_sequence.to_le_bytes());
            out.extend_from_slice(&batch.first_offset.value().to_le_bytes());
            out.extend_from_slice(&batch.last_offset.value().to_le_bytes());
            out.extend_from_slice(&batch.timestamp.value().to_le_bytes());
        }
    }
    out
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_le_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }
}

fn decode(reader: &mut Reader<'_>) -> Option<ProducerStates> {
    let mut states = ProducerStates::default();
    for _ in 0..reader.u32()? {
        let producer_id = ProducerId::new(reader.i64()?);
        let mut entry = ProducerEntry::new(ProducerEpoch::new(reader.i16()?));
        entry.coordinator_epoch = reader.i32()?;
        let open = reader.i64()?;
        entry.txn_first_offset = (open >= 0).then_some(Offset::new(open));
        entry.last_timestamp = TimestampMs::new(reader.i64()?);
        let [count] = reader.take::<1>()?;
        if usize::from(count) > WINDOW {
            return None;
        }
        for _ in 0..count {
            entry.remember(BatchMeta {
                first_sequence: reader.i32()?,
                last_sequence: reader.i32()?,
                first_offset: Offset::new(reader.i64()?),
                last_offset: Offset::new(reader.i64()?),
                timestamp: TimestampMs::new(reader.i64()?),
            });
        }
        states.restore(producer_id, entry);
    }
    reader.0.is_empty().then_some(states)
}
