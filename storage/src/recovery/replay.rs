//! Rebuilding the producer state from a snapshot and the batches after it.

use std::path::Path;
use std::sync::Arc;

use crate::batch::{Found, WRONG_CHECKSUM, Walk};
use crate::damage::{DamagedRange, Hurdle, Known};
use crate::error::StorageError;
use crate::fs::Fs;
use crate::marker;
use crate::mmap::Region;
use crate::producer_state::{ProducerStates, snapshot};
use crate::segment::{Segment, SegmentHome};
use crate::segment_index::MemoryIndex;
use crate::txn_index::AbortedTxn;
use crate::types::Offset;

/// Producer state at `end`: the newest snapshot at or below `newest` that verifies, and the
/// batches between it, or `start`, and `end`; and the damage that was met on the way. Batches
/// behind known damage are served, so they count.
///
/// Most batches were written long ago, and are not read whole for this: where a header is what its
/// producer had to send next, it is believed. Any other changes what is remembered of the producer,
/// so the checksum of its batch is asked first.
///
/// Transactions found aborted on the way are entered in the index of segments that have theirs in
/// memory, so `newest` must not lie above the first of those that lack them. Unsealed segments that
/// are passed get the snapshot at their end which their seal should have brought.
pub(crate) fn replay_producers(
    home: &SegmentHome,
    segments: &[Arc<Segment>],
    damage: &[DamagedRange],
    (start, newest, end): (Offset, Offset, Offset),
) -> Result<(ProducerStates, Vec<DamagedRange>), StorageError> {
    let mut met = Vec::new();
    let (from, mut states) = newest_snapshot(home, newest)?.unwrap_or((start, Default::default()));
    for segment in segments.iter().filter(|segment| segment.tail().next > from) {
        let tail = segment.tail();
        if tail.position == 0 || segment.base >= end {
            continue;
        }
        let (index, region) = (segment.index()?, segment.region()?);
        let relative = u32::try_from(from.distance(segment.base)).unwrap_or(0);
        let entry = index.floor_offset(relative);
        let expected = Offset::new(segment.base.value() + i64::from(entry.relative));
        let known = Known::of(damage, &segment.path);
        let mut walk = known.walk(&region, u64::from(entry.position), expected, tail);
        while let Some(step) = walk.next() {
            let found = match step {
                Ok(found) => found,
                Err(Hurdle::Known(_)) => continue,
                // It hides the rest of its segment, and is reported where it is found.
                Err(Hurdle::Fresh(_)) => break,
            };
            if found.next <= from || found.header.base_offset >= end {
                continue;
            }
            if !states.awaits(&found.header) && !found.verifies(&region) {
                met.push(DamagedRange {
                    from: found.header.base_offset,
                    to: found.next,
                    path: segment.path.clone(),
                    start: found.position,
                    end: found.end(),
                    reason: WRONG_CHECKSUM,
                });
                continue;
            }
            let aborted = replay_batch(&mut states, &region, &found);
            if let (Some(txn), Some(memory)) = (aborted, index.memory()) {
                memory.push_aborted_once(txn);
            }
        }
        if !segment.is_sealed() && tail.next < end {
            // Sealed next, after which the segment may go: the state at its end must be on disk.
            if let Err(error) = snapshot::store(&*home.fs, &home.dir, tail.next, &states) {
                tracing::warn!(dir = %home.dir.display(), %error, "snapshot not written");
            }
        }
    }
    Ok((states, met))
}

/// Takes a stored batch into account; answers the transaction that it aborts.
fn replay_batch(states: &mut ProducerStates, region: &Region, found: &Found) -> Option<AbortedTxn> {
    let header = &found.header;
    if header.producer_id.value() < 0 {
        return None;
    }
    if !header.is_control() {
        states.apply(header, header.base_offset);
        return None;
    }
    let bytes = found.position as usize..found.end() as usize;
    region.make_resident(bytes.clone()).ok()?;
    let marker = marker::parse(header, region.slice(bytes))?;
    states.apply_marker(header, header.base_offset, marker)
}

/// Enters the transactions that a segment aborts in its index, which was lost: from the producers
/// at its base, as the snapshot there has them. Where that is lost too, those that began in an
/// earlier segment are not found.
pub(crate) fn replay_aborted(
    fs: &dyn Fs,
    segment: &Segment,
    region: &Region,
    index: &MemoryIndex,
) -> Result<(), StorageError> {
    let base = segment.base;
    let dir = segment.path.parent().unwrap_or(Path::new("/"));
    let stored = match snapshot::load(fs, dir, base) {
        Err(error @ StorageError::FormatTooNew { .. }) => return Err(error),
        stored => stored.ok().flatten(),
    };
    if stored.is_none() && base > Offset::ZERO {
        tracing::warn!(
            path = %segment.path.display(),
            "producers at the base of the segment are not known: a transaction that began before it \
             and was aborted in it may be read as committed"
        );
    }
    let mut states = stored.unwrap_or_default();
    let mut walk = Walk::new(region, 0, segment.tail().position, base);
    while let Some(Ok(found)) = walk.next() {
        if let Some(txn) = replay_batch(&mut states, region, &found) {
            index.push_aborted_once(txn);
        }
    }
    Ok(())
}

fn newest_snapshot(
    home: &SegmentHome,
    newest: Offset,
) -> Result<Option<(Offset, ProducerStates)>, StorageError> {
    let entries = home
        .fs
        .list(&home.dir)
        .map_err(|error| StorageError::io("list", &home.dir, &error))?;
    let mut offsets: Vec<Offset> = entries
        .iter()
        .filter_map(|entry| snapshot::offset_of(&entry.name))
        .filter(|offset| *offset <= newest)
        .collect();
    offsets.sort_unstable_by(|a, b| b.cmp(a));
    for offset in offsets {
        match snapshot::load(&*home.fs, &home.dir, offset) {
            Ok(Some(states)) => return Ok(Some((offset, states))),
            Ok(None) => {}
            Err(error @ StorageError::FormatTooNew { .. }) => return Err(error),
            Err(error) => {
                let reason = match &error {
                    StorageError::BadFile { reason, .. } => (*reason).to_owned(),
                    other => other.to_string(),
                };
                tracing::warn!(
                    dir = %home.dir.display(), %offset, reason,
                    "snapshot of producers not read: they are taken from an older one and the records \
                     since"
                );
            }
        }
    }
    Ok(None)
}
