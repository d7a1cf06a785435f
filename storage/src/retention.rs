//! Taking whole segments off the front: by age, by size, and by DeleteRecords.
//!
//! The new log start is stored and synced before any file goes, so deleted records never come
//! back after a crash.

use std::sync::Arc;

use crate::error::StorageError;
use crate::failpoint;
use crate::graveyard::Grave;
use crate::log::Log;
use crate::producer_state::snapshot;
use crate::recovery::{SEGMENT_EXTENSIONS, replay_producers};
use crate::segment::Segment;
use crate::types::{Offset, TimestampMs};

impl Log {
    /// Raises the log start to `offset` (DeleteRecords, KIP-107) and removes the segments wholly
    /// below it; blocks. Answers the log start after it.
    ///
    /// An offset at or below the log start changes nothing. Producer state stays.
    ///
    /// # Errors
    /// `OutOfRange` above the log end (the caller bounds it by the high watermark); `DiskFull` or
    /// `Io` when the log start cannot be stored: it is then raised in memory only. Segments that
    /// cannot be removed below a stored start are no error: retention tries again.
    pub fn delete_records_before(&self, offset: Offset) -> Result<Offset, StorageError> {
        let _maintenance = self.maintenance.lock();
        let (start, end) = (self.start.load(), self.end.load());
        if offset > end {
            return Err(StorageError::OutOfRange {
                requested: offset,
                start,
                end,
            });
        }
        if offset <= self.stored_start.load() {
            return Ok(start);
        }
        self.check_writable()?;
        let start = start.max(offset);
        self.advance_start(start)?;
        if let Err(error) = self.drop_below(start, self.shared.now()) {
            tracing::warn!(log = %self.name, %error, "segments below the log start not removed");
        }
        Ok(start)
    }

    /// Deletes what retention allows below `high_watermark`; blocks. Answers segments removed.
    ///
    /// The active segment goes only after a roll, when all of it has expired.
    ///
    /// # Errors
    /// `DiskFull` or `Io` when the log start cannot be stored, and nothing is removed; or when the
    /// active segment cannot be replaced, or one cannot go, and those before it are removed.
    pub fn apply_retention(
        &self,
        high_watermark: Offset,
        now: TimestampMs,
    ) -> Result<usize, StorageError> {
        let _maintenance = self.maintenance.lock();
        self.check_writable()?;
        self.shared.note_now(now);
        let (expired, roll) = self.expired(high_watermark, now);
        let Some(active) = roll else {
            return self.let_go(expired, now);
        };
        // First those before it: to replace the active segment takes room, which a full disk has
        // only once they are gone.
        let before = self.let_go(active.base, now);
        if let Some((at, producers)) = self.roll_locked(&active, now)? {
            self.seal_locked(&active, Some((at, &producers)))?;
        }
        let behind = self.let_go(expired, now);
        Ok(before? + behind?)
    }

    /// Raises the log start to `expired`, unless it is above that, and removes what is below it.
    fn let_go(&self, expired: Offset, now: TimestampMs) -> Result<usize, StorageError> {
        if expired > self.stored_start.load() {
            self.advance_start(expired)?;
        }
        self.drop_below(self.start.load(), now)
    }

    /// Offset below which everything has expired, and the active segment if it is among it.
    fn expired(&self, high_watermark: Offset, now: TimestampMs) -> (Offset, Option<Arc<Segment>>) {
        let config = self.config.load();
        let list = self.segments.load();
        let mut start = self.start.load();
        if !config.delete {
            return (start, None);
        }
        let mut left: u64 = list.iter().map(|segment| segment.tail().position).sum();
        for (n, segment) in list.iter().enumerate() {
            let tail = segment.tail();
            if tail.next > high_watermark {
                break;
            }
            if tail.position == 0 {
                // The active one, or one that somebody emptied: it goes with those behind it.
                continue;
            }
            let age = now.value().saturating_sub(segment.newest().value());
            let too_old = config.retention_ms.is_some_and(|limit| age > limit);
            let active = n + 1 == list.len();
            let too_large = !active
                && config
                    .retention_bytes
                    .is_some_and(|limit| left.saturating_sub(tail.position) >= limit);
            if !too_old && !too_large {
                break;
            }
            left -= tail.position;
            start = start.max(tail.next);
            if active {
                return (start, Some(segment.clone()));
            }
        }
        (start, None)
    }

    /// Raises the log start and stores it; the caller holds the maintenance lock.
    fn advance_start(&self, offset: Offset) -> Result<(), StorageError> {
        let before = self.start.raise(offset);
        self.shared
            .log_starts
            .set(&self.name, self.topic_id, offset);
        let stored = failpoint::hit("retention.before_checkpoint")
            .map_err(|error| StorageError::io("write", self.shared.log_starts.path(), &error))
            .and_then(|()| self.shared.store(&self.shared.log_starts));
        self.epochs.write().truncate_from_start(offset);
        if before < offset {
            self.observer.log_start_advanced(offset);
        }
        stored?;
        self.stored_start.raise(offset);
        failpoint::hit("retention.after_checkpoint")
            .map_err(|error| StorageError::io("delete", &self.home.dir, &error))
    }

    /// Removes the segments wholly below `start`, the active one excepted.
    fn drop_below(&self, start: Offset, now: TimestampMs) -> Result<usize, StorageError> {
        let list = self.segments.load_full();
        let last = list.len().saturating_sub(1);
        let mut count = list
            .iter()
            .take(last)
            .take_while(|segment| segment.tail().next <= start)
            .count();
        if count == 0 {
            return self.bury_retired(now).map(|()| 0);
        }
        let kept = self.keep_producers(list.get(..count).unwrap_or_default());
        if kept.is_err() {
            // Up to the last one that has its snapshot they can go without another.
            let mut going = list.iter().take(count);
            count = going
                .rposition(|s| self.has_snapshot(s))
                .map_or(0, |n| n + 1);
            if count == 0 || self.is_failed() {
                return kept.map(|()| 0);
            }
        }
        self.segments
            .store(Arc::new(list.iter().skip(count).cloned().collect()));
        let dropped: Vec<Arc<Segment>> = list.iter().take(count).cloned().collect();
        let mut first = list.get(count).map_or(start, |segment| segment.base);
        drop(list);
        self.damage.rcu(|ranges| {
            let mut ranges = ranges.as_ref().clone();
            ranges.retain(|range| range.to > start);
            ranges
        });
        let delay = match self.shared.space.is_full() {
            // Nobody can write before they are gone.
            true => 0,
            false => self.config.load().file_delete_delay_ms,
        };
        let due = TimestampMs::new(now.value().saturating_add(delay));
        let mut dropped = dropped.into_iter();
        let mut failed = None;
        for segment in dropped.by_ref() {
            match self.retire_files(&segment) {
                Ok(files) => self.unsynced_graves.lock().push(Grave {
                    due,
                    segment: Some(segment),
                    files,
                    dir: None,
                }),
                Err(error) => {
                    failed = Some((segment, error));
                    break;
                }
            }
        }
        if let Some((segment, _)) = &failed {
            // It stays, and so do those behind it, until they can go in order: a start takes a hole
            // between segments for a loss.
            first = segment.base;
            let rest = self.segments.load_full();
            let stay = std::iter::once(segment.clone()).chain(dropped);
            let list = stay.chain(rest.iter().cloned()).collect();
            self.segments.store(Arc::new(list));
        }
        self.remove_old_snapshots(first);
        self.bury_retired(now)?;
        failed.map_or(kept.map(|()| count), |(_, error)| Err(error))
    }

    /// Hands retired segments to the graveyard, once their new names are synced.
    fn bury_retired(&self, now: TimestampMs) -> Result<(), StorageError> {
        let mut graves = self.unsynced_graves.lock();
        if graves.is_empty() {
            return Ok(());
        }
        self.sync_dir()?;
        let is_due = graves.iter().any(|grave| grave.due <= now);
        graves
            .drain(..)
            .for_each(|grave| self.shared.graveyard.add(grave));
        drop(graves);
        if is_due {
            self.bury_soon(now);
        }
        Ok(())
    }

    /// Sees to a snapshot at the end of the first segments of the log, which are about to go or to
    /// be sealed; a seal brings one, but the last of them may not have been sealed yet.
    pub(crate) fn keep_producers(&self, going: &[Arc<Segment>]) -> Result<(), StorageError> {
        let Some(last) = going.last() else {
            return Ok(());
        };
        if self.has_snapshot(last) {
            return Ok(());
        }
        let at = last.tail().next;
        // Damage in what is going matters to nobody any more.
        let (states, _) = replay_producers(
            &self.home,
            going,
            &self.damage.load(),
            (going.first().map_or(at, |first| first.base), at, at),
        )?;
        let store = || snapshot::store(&*self.shared.fs, &self.home.dir, at, &states);
        let stored = store().or_else(|error| match error {
            StorageError::DiskFull { .. } => {
                self.shared.space.drop_ballast();
                store()
            }
            other => Err(other),
        });
        stored.map_err(|error| self.shared.judge(error))
    }

    /// Whether the snapshot is there that came with the seal of a segment.
    fn has_snapshot(&self, segment: &Segment) -> bool {
        let path = snapshot::path(&self.home.dir, segment.tail().next);
        segment.is_sealed() && self.shared.fs.exists(&path).unwrap_or(false)
    }

    /// Renames the files of a segment so that no start takes them for part of the log.
    pub(crate) fn retire_files(
        &self,
        segment: &Segment,
    ) -> Result<Vec<std::path::PathBuf>, StorageError> {
        let fs = &*self.shared.fs;
        let mut files = Vec::new();
        for extension in SEGMENT_EXTENSIONS {
            let from = segment.path.with_extension(extension);
            let to = segment.path.with_extension(format!("{extension}.deleted"));
            match fs.rename(&from, &to) {
                Ok(()) => files.push(to),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(self.shared.judge(StorageError::io("rename", &from, &error)));
                }
            }
        }
        Ok(files)
    }

    /// Removes the snapshots that nothing can need: all below the newest one at or below `first`,
    /// the base of the first segment. One inside that segment, below the log start or not, does not
    /// make up for it: after a crash the segment is looked through from its base.
    fn remove_old_snapshots(&self, first: Offset) {
        let fs = &*self.shared.fs;
        let Ok(entries) = fs.list(&self.home.dir) else {
            return;
        };
        let offsets: Vec<Offset> = entries
            .iter()
            .filter_map(|entry| snapshot::offset_of(&entry.name))
            .collect();
        let Some(kept) = offsets
            .iter()
            .copied()
            .filter(|offset| *offset <= first)
            .max()
        else {
            return;
        };
        for offset in offsets.into_iter().filter(|offset| *offset < kept) {
            // Left over, it only takes room.
            let _ = fs.remove_file(&snapshot::path(&self.home.dir, offset));
        }
    }

    fn bury_soon(&self, now: TimestampMs) {
        let shared = self.shared.clone();
        self.shared.disk.push(Box::new(move || {
            shared.graveyard.bury_due(&*shared.fs, now)
        }));
    }

    /// True when the active segment has reached its age at `now`; the segment then.
    pub(crate) fn roll_is_due(&self, now: TimestampMs) -> Option<Arc<Segment>> {
        let config = self.config.load();
        let list = self.segments.load();
        let active = list.last()?;
        if active.tail().position == 0 {
            return None;
        }
        let age = now.value().saturating_sub(active.created.value());
        let limit = config
            .segment_ms
            .saturating_sub(crate::append::jitter(&config, active.base));
        (age > limit).then(|| active.clone())
    }
}
