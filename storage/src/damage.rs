//! What is done about bytes on disk that do not verify (storage page, §10).
//!
//! With no other copy of them, the batches before and after are served, those that do not verify
//! are refused, and nothing is cut: only an operator moves past them. A sealed segment that was
//! found damaged is marked in its seal, so that the next start finds the same before it serves
//! anything.

use std::io;
use std::path::Path;
use std::sync::Arc;

use palisade_protocol::batch::BatchIter;

use crate::aside::Aside;
use crate::batch::{self, Bad, BatchHeader, Culprit, Walk};
use crate::cleaner::Pace;
use crate::error::StorageError;
use crate::fs::{OpenHow, read_part};
use crate::log::Log;
use crate::seal::Seal;
use crate::segment::{Segment, Tail};
use crate::segment_index::SegmentIndex;
use crate::types::{LeaderEpoch, Offset};

mod known;

pub(crate) use known::{Hurdle, Known, Readable};

/// Most batches of a segment whose fault shows only in the one after it; each costs another pass.
pub(crate) const MOST_BLAMED: usize = 16;

/// A range of offsets whose stored bytes do not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// First damaged offset.
    pub from: Offset,
    /// End of the damaged offsets, exclusive.
    pub to: Offset,
    /// The segment file.
    pub path: Arc<Path>,
    /// First damaged byte in it.
    pub start: u64,
    /// End of the damaged bytes, exclusive.
    pub end: u64,
    /// Which check failed.
    pub reason: &'static str,
}

impl DamagedRange {
    pub(crate) fn error(&self) -> StorageError {
        StorageError::Corrupt {
            from: self.from,
            to: self.to,
            path: self.path.clone(),
            reason: self.reason,
        }
    }

    /// Adds it behind `ranges`, to the last of them where it continues that: a file may be nothing
    /// but damage.
    pub(crate) fn add_to(self, ranges: &mut Vec<Self>) {
        match ranges.last_mut() {
            Some(before) if before.end == self.start && before.to == self.from => {
                before.end = self.end;
                before.to = self.to;
            }
            _ => ranges.push(self),
        }
    }

    /// Tells the operator.
    pub(crate) fn report(&self, log: &str) {
        tracing::error!(
            log, path = %self.path.display(), from = %self.from, to = %self.to,
            reason = self.reason,
            "records are damaged on disk and refused to readers, all others are served; check the \
             disk, then put a copy of the file in its place while the node is stopped, or let \
             consumers go on at the end of the range"
        );
    }
}

/// Tells the operator of a segment that is not what it was, while nobody can tell where.
pub(crate) fn report_unlocated(log: &str, path: &Path) {
    tracing::error!(
        log, path = %path.display(),
        "segment is not as it was sealed, though each batch of it verifies: a leader epoch or an \
         offset may be wrong; check the disk, then put a copy of the file in its place while the \
         node is stopped, or remove the .seal beside it to keep the file as it is"
    );
}

/// What a closer look at a segment came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Examined {
    /// It is the log's no more: cleaned, deleted, cut, or the log itself is gone.
    NotListed,
    /// All of it verifies.
    Intact,
    /// What does not verify lies below the log start.
    Outlived,
    /// Every batch verifies, and still the whole is not what was sealed.
    Unlocated,
    /// So many ranges are damaged, and noted.
    Damaged(usize),
    /// The pace ended it, and nothing was judged.
    Stopped,
}

impl Log {
    /// Ranges that are known not to verify.
    pub fn damage(&self) -> Vec<DamagedRange> {
        self.damage.load().as_ref().clone()
    }

    /// The bytes of the damage at `from` and the offset behind it, where nothing but leader epochs
    /// speaks against its batches; blocks.
    ///
    /// For who depends on no leader epoch. The batches fill the range, each has the checksum of its
    /// bytes, and their offsets ascend within it. `None` where that is not so.
    ///
    /// # Errors
    /// `Io`.
    pub fn read_contradicted(
        &self,
        from: Offset,
    ) -> Result<Option<(Vec<u8>, Offset)>, StorageError> {
        let damage = self.damage.load();
        let range = damage.iter().find(|r| r.from <= from && from < r.to);
        let Some(range) = range.filter(|range| batch::contradicts_others(range.reason)) else {
            return Ok(None);
        };
        let read = || {
            let file = self.shared.fs.open(&range.path, OpenHow::Read)?;
            // Not by a mapping: who cuts the file would not know of it.
            let bytes = read_part(&*file, range.start, range.end - range.start)?;
            io::Result::Ok((bytes, file.size()? <= range.end))
        };
        let (bytes, is_last) = read().map_err(|e| StorageError::io("read", &range.path, &e))?;
        let mut end = range.from;
        for found in BatchIter::new(&bytes) {
            let found = found.ok().filter(|(_, found)| batch::verify_crc(found));
            let header = found.and_then(|(_, found)| batch::parse(found).ok());
            let header = header.filter(|header| header.base_offset >= end);
            let Some(next) = header.and_then(|header| batch::next_offset(&header)) else {
                return Ok(None);
            };
            end = next;
        }
        // What is missing at the end of a file was lost; before a batch it may be compaction's gap.
        let fits = end == range.to || (end < range.to && !is_last);
        Ok(fits.then_some((bytes, range.to)))
    }

    /// Adds a damaged range that a reader has met.
    pub(crate) fn note_damage(&self, range: DamagedRange) {
        if self.damage.load().contains(&range) {
            return;
        }
        self.damage.rcu(|ranges| {
            let mut ranges = ranges.as_ref().clone();
            if !ranges.contains(&range) {
                ranges.push(range.clone());
            }
            ranges
        });
        range.report(&self.name);
    }

    /// Looks for the batches that do not verify in a sealed segment that seems damaged, and has
    /// readers refuse them; blocks, for as long as reading the segment takes at that pace.
    ///
    /// # Errors
    /// `Io` when the segment cannot be read.
    pub(crate) fn examine(
        &self,
        segment: Arc<Segment>,
        pace: &mut dyn Pace,
    ) -> Result<Examined, StorageError> {
        let Some(seal) = self.listed_seal(&segment) else {
            return Ok(Examined::NotListed);
        };
        let suspect = Suspect {
            base: segment.base,
            path: segment.path.clone(),
            tail: segment.tail(),
            index: segment.index()?,
        };
        // Held, it would keep retention and truncation from cutting the file in place.
        let weak = Arc::downgrade(&segment);
        drop(segment);
        let io = |operation| {
            let path = &suspect.path;
            move |error| StorageError::io(operation, path, &error)
        };
        let file = self.shared.fs.open(&suspect.path, OpenHow::Read);
        let bytes = Aside::new(file.map_err(io("open"))?, seal.size, pace);
        let mut ranges = self.locate(&suspect, &bytes);
        let crc = ranges.is_empty().then(|| bytes.checksum());
        if bytes.is_stopped() {
            return Ok(Examined::Stopped);
        }
        let as_sealed = crc.transpose().map_err(io("read"))? == Some(seal.log_crc);
        // Cleaning, retention and truncation replace segments with this lock held. What was found
        // is told of this segment only while it still is the log's.
        let _maintenance = self.maintenance.lock();
        let listed = weak.upgrade().filter(|s| self.listed_seal(s).is_some());
        let Some(segment) = listed else {
            return Ok(Examined::NotListed);
        };
        let start = self.log_start_offset();
        let below = ranges.iter().filter(|range| range.to <= start).count();
        ranges.retain(|range| range.to > start);
        if ranges.is_empty() && below > 0 {
            return Ok(Examined::Outlived);
        }
        if ranges.is_empty() && as_sealed {
            return Ok(Examined::Intact);
        }
        self.mark_suspect(&segment, seal);
        if ranges.is_empty() {
            return Ok(Examined::Unlocated);
        }
        let count = ranges.len();
        self.replace_damage(&segment.path, ranges);
        Ok(Examined::Damaged(count))
    }

    /// The same at the start, for a segment that is not as it was sealed while each batch of it
    /// verifies.
    pub(crate) fn judge_doubtful(&self, segment: Arc<Segment>) {
        let path = segment.path.clone();
        match self.examine(segment, &mut ()) {
            Ok(Examined::Unlocated) => report_unlocated(&self.name, &path),
            Ok(_) => {}
            Err(error) => {
                tracing::error!(
                    log = %self.name, %error,
                    "sealed segment cannot be read; check the disk"
                );
            }
        }
    }

    /// The seal of a segment that is one of the log's; none of a segment that is not, or not
    /// sealed.
    pub(crate) fn listed_seal(&self, segment: &Arc<Segment>) -> Option<Seal> {
        let listed = self.segments.load().iter().any(|s| Arc::ptr_eq(s, segment));
        let seal = segment.seal_info().filter(|_| segment.is_sealed());
        seal.filter(|_| listed && !self.is_failed())
    }

    /// Has the next start look at each batch of the segment.
    fn mark_suspect(&self, segment: &Segment, seal: Seal) {
        if seal.suspect {
            return;
        }
        match mark_suspect(&*self.shared.fs, segment, seal) {
            Ok(()) => segment.set_suspect(),
            Err(error) => {
                tracing::warn!(log = %self.name, %error, "damaged segment not marked as such");
            }
        }
    }

    /// Takes `ranges` for all the damage of one segment; tells what is new.
    fn replace_damage(&self, path: &Arc<Path>, ranges: Vec<DamagedRange>) {
        let known = self.damage.load_full();
        self.damage.rcu(|all| {
            let mut all = all.as_ref().clone();
            all.retain(|range| range.path != *path);
            all.extend(ranges.iter().cloned());
            all
        });
        // Who reads of it finds them refused already.
        for range in ranges.iter().filter(|range| !known.contains(range)) {
            range.report(&self.name);
        }
    }

    /// The ranges of a segment that do not verify, as far as the pace lets it come.
    fn locate(&self, suspect: &Suspect, bytes: &Aside<'_>) -> Vec<DamagedRange> {
        let points = &self.shared.cleaner_points;
        let sparse = self.config.load().compact || points.get(&self.name, self.topic_id).is_some();
        let mut blamed: Vec<u64> = Vec::new();
        loop {
            blamed.sort_unstable();
            let pass = Locating {
                suspect,
                bytes,
                exact: !sparse,
                blamed: &blamed,
                log: self,
            };
            match pass.run() {
                Ok(ranges) => return ranges,
                Err(more) => blamed.extend(more),
            }
        }
    }
}

/// Writes the seal of a segment anew, with the mark that its bytes do not verify.
pub(crate) fn mark_suspect(
    fs: &dyn crate::fs::Fs,
    segment: &Segment,
    seal: Seal,
) -> Result<(), StorageError> {
    let marked = Seal {
        suspect: true,
        ..seal
    };
    marked.store(fs, &segment.path.with_extension("seal"))
}

/// What is known of a segment that seems damaged, without holding it.
struct Suspect {
    base: Offset,
    path: Arc<Path>,
    tail: Tail,
    index: Arc<SegmentIndex>,
}

/// One pass over the batches of a segment.
struct Locating<'a, 'p> {
    suspect: &'a Suspect,
    bytes: &'a Aside<'p>,
    exact: bool,
    blamed: &'a [u64],
    log: &'a Log,
}

impl Locating<'_, '_> {
    /// The damaged ranges in order; `Err` names batches already passed that must be bad.
    fn run(&self) -> Result<Vec<DamagedRange>, Vec<u64>> {
        let tail = self.suspect.tail;
        let may_blame = self.blamed.len() < MOST_BLAMED;
        let first_epoch = self.log.epoch_at(self.suspect.base);
        let mut ranges = Vec::new();
        let mut walk = Walk::over(self.bytes, 0, tail.position, self.suspect.base)
            .exact(self.exact)
            .within(self.suspect.base, Some(tail.next))
            .epoch(first_epoch.unwrap_or(LeaderEpoch::new(-1)))
            .crc_from(Offset::new(-1))
            .blaming(self.blamed);
        while let Some(step) = walk.next() {
            if self.bytes.is_stopped() {
                break;
            }
            let bad = match step {
                // Outside the checksum, and a higher one makes all that follow look wrong.
                Ok(found) if may_blame && !self.has_its_epoch(&found.header) => {
                    return Err(vec![found.position]);
                }
                Ok(_) => continue,
                Err(bad) => bad,
            };
            if may_blame
                && first_epoch.is_none()
                && !self.blamed.contains(&bad.position)
                && let Some(culprit) = walk.culprit(&bad).map(Culprit::position)
                && !self.blamed.contains(&culprit)
            {
                return Err(vec![culprit]);
            }
            let whole = walk.whole(bad.position).filter(|_| !self.exact);
            if may_blame && let Some(met) = &whole {
                let wrong = walk.weigh(met);
                if !wrong.is_empty() {
                    return Err(wrong);
                }
            }
            let fitting = whole.map(|whole| walk.next_fitting(&whole, bad.offset));
            let (end, to) = match fitting {
                Some(Ok(next)) => (next.position, next.header.base_offset),
                Some(Err(misfits)) if misfits.end == tail.position => (tail.position, tail.next),
                _ => self.end_of(&bad),
            };
            let from = bad.offset;
            let range = DamagedRange {
                from,
                to,
                path: self.suspect.path.clone(),
                start: bad.position,
                end,
                reason: bad.reason,
            };
            range.add_to(&mut ranges);
            if end >= tail.position {
                break;
            }
            walk.resume(end, from, to);
        }
        Ok(ranges)
    }

    /// Whether a batch has the leader epoch that the log knows for its offset, if it knows one.
    fn has_its_epoch(&self, header: &BatchHeader) -> bool {
        let known = self.log.epoch_at(header.base_offset);
        known.is_none_or(|epoch| epoch == header.partition_leader_epoch)
    }

    /// Where batches can be believed again, and the offset there.
    fn end_of(&self, bad: &Bad) -> (u64, Offset) {
        let tail = self.suspect.tail;
        // A header that fits what is before it and after it tells where the next batch starts.
        let mut alone = Walk::over(self.bytes, bad.position, tail.position, bad.offset);
        if let Some(Ok(found)) = alone.next()
            && found.header.base_offset == bad.offset
        {
            let mut behind = Walk::over(self.bytes, found.end(), tail.position, found.next);
            // Up to the batch behind: its own end cannot be believed.
            let to = match behind.next() {
                Some(Ok(next)) => {
                    Some(next.header.base_offset).filter(|base| !self.exact || *base == found.next)
                }
                Some(Err(_)) => None,
                None => Some(tail.next)
                    .filter(|end| found.next == *end || (!self.exact && found.next < *end)),
            };
            if let Some(to) = to {
                return (found.end(), to);
            }
        }
        match self.suspect.index.after_position(bad.position) {
            Some(entry) => {
                let offset = self.suspect.base.value() + i64::from(entry.relative);
                (u64::from(entry.position), Offset::new(offset))
            }
            None => (tail.position, tail.next),
        }
    }
}
