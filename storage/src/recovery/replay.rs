//! Rebuilding the producer state from a snapshot and the batches after it.

use std::sync::Arc;

use crate::batch::Walk;
use crate::error::StorageError;
use crate::marker;
use crate::producer_state::{ProducerStates, snapshot};
use crate::segment::{Segment, SegmentHome};
use crate::types::Offset;

/// Producer state at `end`: the newest snapshot at or below `newest` that verifies, and the
/// batches between it and `end`.
///
/// Transactions found aborted on the way are entered in the index of segments that have theirs in
/// memory, so `newest` must not lie above the first of those. Unsealed segments that are passed
/// get the snapshot at their end which their seal should have brought.
pub(crate) fn replay_producers(
    home: &SegmentHome,
    segments: &[Arc<Segment>],
    start: Offset,
    newest: Offset,
    end: Offset,
) -> Result<ProducerStates, StorageError> {
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
        let mut walk = Walk::new(&region, u64::from(entry.position), tail.position, expected);
        // Damage hides the rest of its segment; it is reported where it is found.
        while let Some(Ok(found)) = walk.next() {
            let header = &found.header;
            let wanted = found.next > from && header.base_offset < end;
            if !wanted || header.producer_id.value() < 0 {
                continue;
            }
            if !header.is_control() {
                states.apply(header, header.base_offset);
                continue;
            }
            let bytes = found.position as usize..found.end() as usize;
            let Some(marker) = region
                .make_resident(bytes.clone())
                .ok()
                .and_then(|()| marker::parse(header, region.slice(bytes)))
            else {
                continue;
            };
            let aborted = states.apply_marker(header, header.base_offset, marker);
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
    Ok(states)
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
                tracing::warn!(dir = %home.dir.display(), %offset, %error, "snapshot ignored");
            }
        }
    }
    Ok(None)
}
