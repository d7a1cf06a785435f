//! Taking in one segment file: sealed, to be scanned, or the one to go on with.

use std::path::Path;
use std::sync::Arc;

use super::scan::{Scan, Scanned};
use super::{Recovery, quarantine};
use crate::batch::{Bad, Found, Walk};
use crate::damage::{Known, mark_suspect};

use crate::error::StorageError;
use crate::fs::{FsFile, OpenHow, keeping_age};
use crate::seal::Seal;
use crate::segment::{Segment, Tail};
use crate::segment_index::{IndexBuilder, SegmentIndex, stored_aborted};
use crate::sync::PublishedEnd;
use crate::txn_index::AbortedTxn;
use crate::types::{LeaderEpoch, Offset};

/// Batches of a segment whose leader epochs are asked for: of three the median.
const FIRST_EPOCHS: usize = 3;

/// One segment file as it lies there.
struct Present {
    base: Offset,
    /// Base of the next one.
    next_base: Option<Offset>,
    path: Arc<Path>,
    file: Arc<dyn FsFile>,
    size: u64,
    /// Its seal, unless that is of another day.
    seal: Option<Seal>,
    /// Some segment behind it is sealed, so all of this one was synced.
    sealed_later: bool,
}

/// What the seal of a segment says of it.
enum Sealed {
    /// It is what was sealed, and has been taken in.
    Taken,
    /// It may be, or was before it was written on, but its batches are to be looked at.
    Unproven,
    /// It is not, though it has the length of what was.
    Differs(Seal),
}

impl Recovery<'_> {
    /// Takes one segment in; answers whether the log ends in it with a torn tail.
    pub(super) fn load_segment(
        &mut self,
        base: Offset,
        next_base: Option<Offset>,
        seal: Option<Seal>,
        sealed_later: bool,
    ) -> Result<bool, StorageError> {
        let path: Arc<Path> = self.home.path(base).into();
        let open = |error| StorageError::io("open", &path, &error);
        let file = self.shared.fs.open(&path, OpenHow::Write).map_err(open)?;
        let size = file.size().map_err(open)?;
        // A longer file was appended to after a clean stop: the seal is of another day.
        let seal = seal.filter(|seal| {
            seal.size >= size && next_base.is_none_or(|next| seal.next_offset <= next)
        });
        let present = Present {
            base,
            next_base,
            path,
            file,
            size,
            seal,
            sealed_later,
        };
        let differs = match self.take_sealed(&present)? {
            Sealed::Taken => return Ok(false),
            Sealed::Unproven => None,
            Sealed::Differs(seal) => Some(seal),
        };
        let scanned = self.scan(&present)?;
        if let Some(seal) = differs.filter(|_| scanned.damage.is_empty()) {
            // Each batch verifies, and still something is not as it was: sealed anew, the segment
            // would never show that again.
            if next_base.is_some() && seal.next_offset > self.recovery_point {
                scanned
                    .epochs
                    .into_iter()
                    .for_each(|one| rise(&mut self.epochs, one));
            }
            let segment = Arc::new(Segment::sealed(&self.home, base, seal, self.now));
            self.doubtful.push(segment.clone());
            self.push_sealed(segment, next_base);
            return Ok(false);
        }
        self.take_scanned(present, scanned)
    }

    /// Takes in a segment that its seal answers for, without a look at its batches.
    fn take_sealed(&mut self, present: &Present) -> Result<Sealed, StorageError> {
        let (base, next_base) = (present.base, present.next_base);
        let Some(seal) = present.seal.filter(|seal| seal.size == present.size) else {
            return Ok(Sealed::Unproven);
        };
        let verified = seal.next_offset <= self.recovery_point && !seal.suspect;
        if next_base.is_none() && verified {
            self.reopen_last(base, seal, present.file.clone())?;
            return Ok(Sealed::Taken);
        }
        let segment = Arc::new(Segment::sealed(&self.home, base, seal, self.now));
        if !verified && !self.verify(&segment, &seal)? {
            return Ok(Sealed::Differs(seal));
        }
        if next_base.is_none() || seal.suspect {
            return Ok(Sealed::Unproven);
        }
        if !verified {
            self.take_epochs(&segment)?;
        }
        self.push_sealed(segment, next_base);
        Ok(Sealed::Taken)
    }

    /// Takes the leader epochs of a segment that is as it was sealed, since the stored ones were
    /// written.
    fn take_epochs(&mut self, segment: &Arc<Segment>) -> Result<(), StorageError> {
        let region = segment.region()?;
        let known = Known::of(&self.damage, &segment.path);
        let mut walk = known.walk(&region, 0, segment.base, segment.tail());
        while let Some(Ok(Found { header, .. })) = walk.next() {
            rise(
                &mut self.epochs,
                (header.partition_leader_epoch, header.base_offset),
            );
        }
        self.lowest_epoch = self
            .epochs
            .last()
            .map_or(self.lowest_epoch, |(epoch, _)| *epoch);
        Ok(())
    }

    /// Leader epochs of the first batches of the segment at `base`, as far as they verify.
    fn first_epochs(&self, base: Offset) -> Option<Vec<LeaderEpoch>> {
        let path = self.home.path(base);
        let file = self.shared.fs.open(&path, OpenHow::Read).ok()?;
        let size = file.size().ok()?;
        let end = Arc::new(PublishedEnd::new(size));
        let region = file.map(usize::try_from(size).ok()?, end).ok()?;
        let (mut position, mut expected) = (0, base);
        let mut epochs = Vec::new();
        while epochs.len() < FIRST_EPOCHS {
            // Each by itself: one epoch must not speak for the next.
            let mut walk = Walk::new(&region, position, size, expected)
                .exact(!self.sparse)
                .within(base, None)
                .crc_from(Offset::new(-1));
            let Some(Ok(found)) = walk.next() else { break };
            epochs.push(found.header.partition_leader_epoch);
            (position, expected) = (found.end(), found.next);
        }
        Some(epochs)
    }

    /// The highest epoch that a batch of the segment before one that begins with `epochs` may have:
    /// the median stays right though one of three is wrong. One alone says less than the metadata.
    fn bound(&self, mut epochs: Vec<LeaderEpoch>) -> Option<LeaderEpoch> {
        epochs.sort_unstable();
        match *epochs.as_slice() {
            [] => None,
            [one] => Some(one).filter(|_| self.leader_epoch.is_none()),
            [_, second, ..] => Some(second),
        }
    }

    fn scan(&mut self, present: &Present) -> Result<Scanned, StorageError> {
        let behind = present.next_base.and_then(|next| self.first_epochs(next));
        let scan = Scan {
            path: &present.path,
            base: present.base,
            interval: self.config.index_interval_bytes,
            exact: !self.sparse,
            // A sealed segment that does not match is looked through from its start.
            recovery_point: if present.seal.is_some() {
                Offset::ZERO
            } else {
                self.recovery_point
            },
            next_base: present.next_base,
            sealed_end: present.seal.map(|seal| seal.next_offset),
            may_be_torn: present.seal.is_none() && !present.sealed_later,
            epoch: self.lowest_epoch,
            epoch_behind: self.bound(behind.unwrap_or_default()),
            partition_epoch: self.leader_epoch,
        };
        let mut scanned = scan.run(&*present.file)?;
        if present.seal.is_none() {
            let latest = scanned.epochs.last().map(|(epoch, _)| *epoch);
            self.lowest_epoch = latest.unwrap_or(self.lowest_epoch);
        } else if present.next_base.is_some()
            && scan.epoch_behind.or(scan.partition_epoch).is_none()
        {
            // Nothing can tell which of them are wrong, and one that is would fence leaders off.
            scanned.epochs.clear();
        }
        self.report.scanned_bytes += scanned.scanned_bytes;
        Ok(scanned)
    }

    /// Takes in what a scan has found; answers whether the log ends there with a torn tail.
    fn take_scanned(
        &mut self,
        present: Present,
        mut scanned: Scanned,
    ) -> Result<bool, StorageError> {
        let (base, next_base, seal) = (present.base, present.next_base, present.seal);
        self.report.rebuilt_indexes += 1;
        if seal.is_some_and(|seal| seal.next_offset <= self.recovery_point) {
            // Synced long ago, and the stored epochs know it: what bytes in doubt say is no news.
            scanned.unsynced_from = None;
            scanned.epochs.clear();
        }
        // Below the recovery point of the next start, which without the mark would not look.
        let marked_now = seal.filter(|seal| !seal.suspect && !scanned.damage.is_empty());
        self.damage.append(&mut scanned.damage);
        let next = scanned.tail.next;
        let torn = match scanned.torn {
            Some(bad) => {
                self.cut_torn_tail(&present, &bad, scanned.tail)?;
                true
            }
            None => !scanned.dead_end && self.is_hole(next, next_base, present.sealed_later),
        };
        let lost_tail = seal.map_or(next, |seal| seal.next_offset);
        if !torn && !scanned.dead_end {
            if lost_tail > next {
                self.note_missing(next, lost_tail, base);
            }
            self.note_gap(next.max(lost_tail), next_base, base);
        }
        let dead_end = scanned.dead_end || lost_tail > next;
        // A clean stop leaves no seal where nothing was ever written, and nothing unsynced either.
        let as_left = self.shared.was_clean && present.size == 0 && !dead_end;
        match self.aborted_as_sealed(&present) {
            Some(aborted) => {
                let index = &scanned.content.index;
                aborted.into_iter().for_each(|txn| index.push_aborted(txn));
            }
            None => {
                self.replay_from.get_or_insert(base);
            }
        }
        self.push_scanned(base, present.file, scanned, dead_end, as_left);
        if let (Some(seal), Some(segment)) = (marked_now, self.segments.last())
            && let Err(error) = mark_suspect(&*self.shared.fs, segment, seal)
        {
            tracing::warn!(log = self.name, %error, "damaged segment not marked as such");
        }
        Ok(torn)
    }

    /// The transactions that a segment in the middle aborted, as they were stored with its seal:
    /// also those that its damage hides. With them at hand nothing makes a start pass over what
    /// snapshots of the producers behind it tell.
    fn aborted_as_sealed(&self, present: &Present) -> Option<Vec<AbortedTxn>> {
        // The last one is short, and is appended to; one that was cut is not what was sealed.
        present.next_base?;
        let seal = present.seal.filter(|seal| seal.size == present.size)?;
        stored_aborted(&*self.shared.fs, &present.path, &seal)
    }

    fn cut_torn_tail(
        &mut self,
        present: &Present,
        bad: &Bad,
        tail: Tail,
    ) -> Result<(), StorageError> {
        let (file, size) = (&*present.file, present.size);
        // That of before the last start would make a loss of the cut.
        self.unseal(present.base)?;
        tracing::warn!(
            log = self.name, offset = %bad.offset, reason = bad.reason,
            bytes = size - tail.position, "torn tail cut"
        );
        quarantine::keep_tail(
            self.shared,
            self.name,
            &present.path,
            file,
            tail.position,
            size,
        );
        keeping_age(file, || file.set_len(tail.position)).map_err(self.io("truncate"))?;
        self.report.cut_bytes += size - tail.position;
        Ok(())
    }

    fn push_sealed(&mut self, segment: Arc<Segment>, next_base: Option<Offset>) {
        self.note_gap(segment.tail().next, next_base, segment.base);
        self.segments.push(segment);
        // Appended is to the last one only, not to one before it that was left open for its damage.
        self.active = None;
        self.as_left = false;
    }

    fn push_scanned(
        &mut self,
        base: Offset,
        file: Arc<dyn FsFile>,
        scanned: Scanned,
        dead_end: bool,
        as_left: bool,
    ) {
        self.epochs.extend(scanned.epochs);
        let since_index = scanned.content.since();
        let tail = scanned.tail.position;
        let unsynced = scanned.unsynced_from.unwrap_or(tail)..tail;
        let segment = Segment::open(
            &self.home,
            base,
            self.config.segment_bytes.min(u64::from(u32::MAX >> 1)),
            file.clone(),
            scanned.tail,
            scanned.content,
            self.now,
        );
        self.active = (!dead_end).then(|| (file.clone(), since_index));
        self.as_left = as_left;
        if as_left {
            // No record depends on the name yet.
            segment.set_name_unsynced();
        } else {
            self.to_sync.push((file, unsynced));
        }
        self.segments.push(Arc::new(segment));
    }

    /// Goes on with the last segment of a clean stop: nothing is scanned.
    fn reopen_last(
        &mut self,
        base: Offset,
        seal: Seal,
        file: Arc<dyn FsFile>,
    ) -> Result<(), StorageError> {
        let fs = &*self.shared.fs;
        let path: Arc<Path> = self.home.path(base).into();
        let tail = Tail {
            position: seal.size,
            next: seal.next_offset,
        };
        let Some(index) = SegmentIndex::load(fs, &path, &seal) else {
            let scan = Scan {
                path: &path,
                base,
                interval: self.config.index_interval_bytes,
                exact: !self.sparse,
                recovery_point: self.recovery_point,
                next_base: None,
                sealed_end: Some(seal.next_offset),
                may_be_torn: false,
                epoch: LeaderEpoch::new(-1),
                epoch_behind: None,
                partition_epoch: self.leader_epoch,
            };
            let mut scanned = scan.run(&*file)?;
            self.report.rebuilt_indexes += 1;
            self.damage.append(&mut scanned.damage);
            let dead_end = scanned.dead_end;
            self.replay_from.get_or_insert(base);
            self.push_scanned(base, file, scanned, dead_end, false);
            return Ok(());
        };
        let (entry, _) = index.floor_with_time(seal.size);
        let since_index = (seal.size - u64::from(entry.position)) as u32;
        let memory = index.to_memory(seal.size, seal.next_offset);
        let first = (seal.size > 0).then_some(seal.first_timestamp);
        let content = IndexBuilder::resume(base, memory, first, seal.max_timestamp);

        let capacity = self.config.segment_bytes.min(u64::from(u32::MAX >> 1));
        let segment = Segment::open(
            &self.home,
            base,
            capacity,
            file.clone(),
            tail,
            content,
            self.now,
        );
        self.segments.push(Arc::new(segment));
        self.active = Some((file, since_index));
        self.as_left = true;
        Ok(())
    }

    /// Takes away the seal of a segment that was scanned and will be appended to, or cut: it speaks
    /// of other bytes.
    ///
    /// The seal that a segment was reopened by stays. Beside a longer file it counts for nothing,
    /// and where a crash loses what was appended since it is true again. Whoever cuts a file below
    /// its seal has to take that away first.
    pub(super) fn unseal(&self, base: Offset) -> Result<(), StorageError> {
        if self.home.remove_seal(base)? {
            let synced = self.shared.fs.sync_dir(&self.home.dir);
            synced.map_err(self.io("sync"))?;
        }
        Ok(())
    }

    /// Compares a segment that may not be as it was sealed with its seal.
    fn verify(&mut self, segment: &Arc<Segment>, seal: &Seal) -> Result<bool, StorageError> {
        self.report.scanned_bytes += seal.size;
        match crate::roll::checksum(segment, seal.size) {
            Ok(crc) => Ok(crc == seal.log_crc),
            // Which bytes of it cannot be read shows when each batch is looked at.
            Err(StorageError::Io {
                operation: "read", ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True when what follows a segment that was never synced does not continue it: even a
    /// compacted log has its gaps inside of segments only.
    fn is_hole(&self, next: Offset, next_base: Option<Offset>, sealed_later: bool) -> bool {
        let gap = next_base.is_some_and(|base| base > next);
        gap && next >= self.recovery_point && !sealed_later
    }

    /// Notes offsets that are missing between two segments.
    fn note_gap(&mut self, next: Offset, next_base: Option<Offset>, base: Offset) {
        if let Some(to) = next_base.filter(|to| *to > next) {
            self.note_missing(next, to, base);
        }
    }
}

/// Enters the first offset of a leader epoch, if that is a new one.
fn rise(epochs: &mut Vec<(LeaderEpoch, Offset)>, (epoch, start): (LeaderEpoch, Offset)) {
    if epochs.last().is_none_or(|(latest, _)| epoch > *latest) {
        epochs.push((epoch, start));
    }
}
