//! Scanning one segment file.

use std::path::Path;
use std::sync::Arc;

use crate::batch::{Bad, Culprit, Found, Misfits, Walk, Whole, resync};
use crate::damage::{DamagedRange, MOST_BLAMED};
use crate::error::StorageError;
use crate::fs::FsFile;
use crate::segment::Tail;
use crate::segment_index::IndexBuilder;
use crate::sync::PublishedEnd;
use crate::types::{LeaderEpoch, Offset};

/// How a segment is scanned.
pub(super) struct Scan<'a> {
    pub(super) path: &'a Arc<Path>,
    pub(super) base: Offset,
    pub(super) interval: u32,
    /// Offsets must follow without gaps.
    pub(super) exact: bool,
    /// Batches that end above it are checked with their CRC.
    pub(super) recovery_point: Offset,
    /// Base of the next segment.
    pub(super) next_base: Option<Offset>,
    /// Offset after the last batch, by the seal.
    pub(super) sealed_end: Option<Offset>,
    /// A bad batch at or above the recovery point is a torn tail.
    pub(super) may_be_torn: bool,
    pub(super) epoch: LeaderEpoch,
    /// The highest leader epoch that a batch may have, by the first batches of the next segment
    /// that verify.
    pub(super) epoch_behind: Option<LeaderEpoch>,
    /// The same by the metadata, which may have been put back from a copy: two batches that agree
    /// are believed before it.
    pub(super) partition_epoch: Option<LeaderEpoch>,
}

/// What a scan found.
pub(super) struct Scanned {
    pub(super) tail: Tail,
    pub(super) content: IndexBuilder,
    /// Where the torn tail starts.
    pub(super) torn: Option<Bad>,
    pub(super) damage: Vec<DamagedRange>,
    /// The bytes after `tail` are damaged: nothing may be appended here.
    pub(super) dead_end: bool,
    /// First batches of the epochs met, in order.
    pub(super) epochs: Vec<(LeaderEpoch, Offset)>,
    pub(super) scanned_bytes: u64,
    /// Position of the first batch above the recovery point.
    pub(super) unsynced_from: Option<u64>,
    /// Position of the last batch that raised the leader epoch, where the next segment or the
    /// metadata shows that to be wrong.
    raised_last: Option<u64>,
}

impl Scanned {
    fn nothing(base: Offset, interval: u32) -> Self {
        Self {
            tail: Tail {
                position: 0,
                next: base,
            },
            content: IndexBuilder::new(base, interval),
            torn: None,
            damage: Vec::new(),
            dead_end: false,
            epochs: Vec::new(),
            scanned_bytes: 0,
            unsynced_from: None,
            raised_last: None,
        }
    }

    /// Takes in the next batch that verifies.
    fn add(&mut self, found: &Found, recovery_point: Offset, after_gap: bool) {
        if after_gap {
            self.content.add_after_gap(found);
        } else {
            self.content.add(found);
        }
        let (epoch, at) = (
            found.header.partition_leader_epoch,
            found.header.base_offset,
        );
        if self.epochs.last().is_none_or(|(latest, _)| epoch > *latest) {
            self.epochs.push((epoch, at));
        }
        if found.next > recovery_point {
            self.scanned_bytes += found.header.total_len() as u64;
            self.unsynced_from.get_or_insert(found.position);
        }
        self.tail = Tail {
            position: found.end(),
            next: found.next,
        };
    }
}

impl Scan<'_> {
    /// Scans the file, again where the fault of a batch shows only in one after it.
    ///
    /// The passes are few: one finds all wrong leader epochs, and of other faults those past
    /// [`MOST_BLAMED`] show by themselves.
    pub(super) fn run(&self, file: &dyn FsFile) -> Result<Scanned, StorageError> {
        let mut blamed = Vec::new();
        let mut contradicted = Vec::new();
        loop {
            let scanned = match self.pass(file, &blamed, &contradicted)? {
                Ok(scanned) => scanned,
                Err(more) => {
                    blamed.extend(more);
                    blamed.sort_unstable();
                    continue;
                }
            };
            match scanned.raised_last {
                Some(raised) if contradicted.len() < MOST_BLAMED => contradicted.push(raised),
                _ => return Ok(scanned),
            }
            blamed.extend(scanned.raised_last);
            blamed.sort_unstable();
        }
    }

    /// One pass over the file; `blamed` is ascending, and those `contradicted` are among them.
    /// `Err` names batches that were passed and must be bad: at least one.
    fn pass(
        &self,
        file: &dyn FsFile,
        blamed: &[u64],
        contradicted: &[u64],
    ) -> Result<Result<Scanned, Vec<u64>>, StorageError> {
        // Where they are many every batch has to verify by itself: then only a leader epoch, which
        // no checksum covers, still shows in what follows.
        let crc_from = match blamed.len() < MOST_BLAMED {
            true => self.recovery_point,
            false => Offset::new(-1),
        };
        let io = |error| StorageError::io("read", self.path, &error);
        let size = file.size().map_err(io)?;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let region = file
            .map(length, Arc::new(PublishedEnd::new(size)))
            .map_err(io)?;
        let mut walk = Walk::new(&region, 0, size, self.base)
            .exact(self.exact)
            .within(self.base, self.sealed_end.or(self.next_base))
            .epoch(self.epoch)
            .crc_from(crc_from)
            .blaming(blamed);
        let mut scanned = Scanned::nothing(self.base, self.interval);
        let mut after_gap = false;
        let mut culprits = Vec::new();
        while let Some(step) = walk.next() {
            match step {
                Ok(found) => {
                    scanned.add(&found, self.recovery_point, after_gap);
                    after_gap = false;
                }
                Err(bad)
                    if blamed.binary_search(&bad.position).is_err()
                        && let Some(culprit) = walk.culprit(&bad) =>
                {
                    culprits.push(culprit.position());
                    match culprit {
                        // What is behind it fits without it, and may hold more of them.
                        Culprit::Raises(_) => walk.take_raise_back(),
                        // Where the next batch begins is not known.
                        Culprit::Unverified(_) => break,
                    }
                }
                Err(bad) => {
                    let misfit = self.misfit(&mut walk, &bad);
                    let wrong = misfit.as_ref().map(|met| walk.weigh(met));
                    if let Some(wrong) = wrong.filter(|wrong| !wrong.is_empty()) {
                        culprits.extend(wrong);
                        continue;
                    }
                    // The next segment was written behind it: no write was cut short there.
                    let is_behind = contradicted.contains(&bad.position);
                    if misfit.is_none() && !is_behind && self.is_torn(&bad) {
                        scanned.torn = Some(bad);
                        break;
                    }
                    let next = misfit.map(|misfit| walk.next_fitting(&misfit, bad.offset));
                    let (misfits, next) = match next {
                        Some(Ok(found)) => (None, Some(found)),
                        Some(Err(misfits)) => (Some(misfits), None),
                        None => (None, None),
                    };
                    let next = next.or_else(|| {
                        let below = self.next_base.unwrap_or(self.recovery_point);
                        let from = misfits.map_or(bad.position, |misfits| misfits.end - 1);
                        let below = below.max(bad.offset);
                        resync(&region, from, size, bad.offset, below, blamed)
                    });
                    let Some(next) = next else {
                        self.stop_at(bad, misfits, size, &mut scanned);
                        break;
                    };
                    let (from, to) = (bad.offset, next.header.base_offset);
                    let range = self.range(bad, to, next.position);
                    range.add_to(&mut scanned.damage);
                    walk.resume(next.position, from, to);
                    after_gap = true;
                }
            }
        }
        let by_next = self.epoch_behind.and_then(|epoch| walk.raised_above(epoch));
        let by_metadata = || walk.raised_alone_above(self.partition_epoch?);
        scanned.raised_last = by_next.or_else(by_metadata);
        match culprits.is_empty() {
            true => Ok(Ok(scanned)),
            false => Ok(Err(culprits)),
        }
    }

    fn is_torn(&self, bad: &Bad) -> bool {
        self.may_be_torn && bad.offset >= self.recovery_point
    }

    /// The batch that was met, where it was written whole and only its leader epoch, or where there
    /// may be gaps its place, is wrong. That is damage at any height: a write that was cut short
    /// leaves none of it.
    fn misfit(&self, walk: &mut Walk<'_>, bad: &Bad) -> Option<Whole> {
        if self.exact && !bad.contradicts_others() {
            return None;
        }
        let whole = walk.whole(bad.position)?;
        (!self.is_torn(bad) || !whole.may_be_torn(bad.offset)).then_some(whole)
    }

    /// Gives up on the rest of the file.
    fn stop_at(&self, bad: Bad, misfits: Option<Misfits>, size: u64, scanned: &mut Scanned) {
        let end = self.next_base.or(self.sealed_end);
        // At least the one offset that stood at the bad byte is lost.
        let least = misfits.map_or(1, |misfits| misfits.offsets);
        let to = Offset::new(bad.offset.value().saturating_add(least));
        let to = end.unwrap_or(self.recovery_point.max(to));
        self.range(bad, to, size).add_to(&mut scanned.damage);
        scanned.dead_end = true;
    }

    pub(super) fn range(&self, bad: Bad, to: Offset, end: u64) -> DamagedRange {
        DamagedRange {
            from: bad.offset,
            to,
            path: self.path.clone(),
            start: bad.position,
            end,
            reason: bad.reason,
        }
    }
}

#[cfg(test)]
mod tests;
