//! Cutting the end off a log: a follower that diverged, a raft suffix, a restart elsewhere.
//!
//! A reader may hold slices of what is cut. A file is shortened in place only when nobody can
//! touch its mapping; otherwise its front is copied to a new file that takes its name, and the
//! readers keep the old one. So no reader ever sees other bytes or a signal, and none is waited
//! for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::batch::Walk;
use crate::error::{SYNC_DIR, StorageError};
use crate::failpoint;
use crate::fs::{FsFile, OpenHow, keeping_age, set_age, write_all_at};
use crate::log::Log;
use crate::producer_state::snapshot;
use crate::recovery::replay_producers;
use crate::segment::{Segment, Tail};
use crate::segment_index::IndexBuilder;
use crate::types::{Offset, TimestampMs};

/// Bytes copied at a time.
const COPY_STEP: u64 = 4 << 20;

/// The place where the last segment will end.
struct Cut {
    tail: Tail,
    since_index: u32,
    first_timestamp: Option<TimestampMs>,
    max_timestamp: TimestampMs,
}

impl Log {
    /// Removes everything at and above `offset`; blocks.
    ///
    /// A batch that spans `offset` goes as a whole, so the log may end below it. An offset at or
    /// above the log end changes nothing.
    ///
    /// # Errors
    /// `OutOfRange` below the log start; `Io` when the disk fails, which closes the log.
    pub fn truncate_to(&self, offset: Offset) -> Result<(), StorageError> {
        let _maintenance = self.maintenance.lock();
        self.check_writable()?;
        self.exclusively(|| {
            let (start, end) = (self.start.load(), self.end.load());
            if offset < start {
                return Err(StorageError::OutOfRange {
                    requested: offset,
                    start,
                    end,
                });
            }
            if offset >= end {
                Ok(())
            } else {
                self.cut(offset)
            }
        })
    }

    /// Empties the log and lets it start again at `offset` (a follower whose end lies below the
    /// leader's log start); blocks.
    ///
    /// # Errors
    /// `Io` when the disk fails, which closes the log.
    pub fn reset_to(&self, offset: Offset) -> Result<(), StorageError> {
        let _maintenance = self.maintenance.lock();
        self.check_writable()?;
        self.exclusively(|| self.start_over(offset))
    }

    /// Keeps appends and syncs away while `work` changes the end of the log.
    fn exclusively(
        &self,
        work: impl FnOnce() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let result = {
            let _syncing = self.syncing.lock();
            self.lock_writer().exclusive = true;
            let result = work();
            self.lock_writer().exclusive = false;
            result
        };
        match result {
            Ok(()) | Err(StorageError::OutOfRange { .. }) => result,
            Err(error) => {
                // Files and memory may disagree now; only recovery can tell.
                tracing::error!(log = %self.name, %error, "truncation failed, log closed");
                self.closed.store(true, Ordering::Release);
                self.observer.failed();
                Err(self.shared.judge(error))
            }
        }
    }

    fn cut(&self, offset: Offset) -> Result<(), StorageError> {
        let list = self.segments.load_full();
        let keep = list
            .partition_point(|segment| segment.base <= offset)
            .saturating_sub(1);
        let target = list
            .get(keep)
            .cloned()
            .expect("a log has a segment at or below its end");
        let cut = self.find_cut(&target, offset)?;
        let end = cut.tail.next;
        let start = self.start.load();
        if end < start {
            // The first batch is cut, of which the log start had taken a part: nothing is left.
            drop((list, target));
            return self.start_over(start);
        }
        let index = target.index()?.to_memory(cut.tail.position, end);
        self.lower_recovery_point(end)?;

        // Readers now find nothing at or above the cut, and in the target nothing at all.
        self.end.store(end);
        self.segments
            .store(Arc::new(list.iter().take(keep).cloned().collect()));
        self.epochs.write().truncate_from_end(end);
        self.forget_damage_from(end);

        // Newest first: a crash in between leaves a whole, only longer log.
        let dropped: Vec<Offset> = list.iter().skip(keep + 1).rev().map(|s| s.base).collect();
        drop(list);
        dropped
            .into_iter()
            .try_for_each(|base| self.home.remove_segment(base))?;
        self.remove_snapshots_above(end)?;
        self.step("truncate.after_removal")?;
        self.sync_dir()?;

        let (base, created) = (target.base, target.created);
        let file = self.shorten(target, cut.tail.position)?;
        self.step("truncate.before_sync")?;
        file.sync().map_err(|error| self.sync_failed(error))?;
        self.sync_dir()?;
        self.step("truncate.after_sync")?;
        if self.durable.load() >= base {
            // The segments before were durable already, and now this one is.
            self.durable.store(end);
        }

        let content = IndexBuilder::resume(base, index, cut.first_timestamp, cut.max_timestamp);
        let capacity = self.new_capacity();
        let tail = cut.tail;
        let segment = Segment::open(
            &self.home,
            base,
            capacity,
            file.clone(),
            tail,
            content,
            created,
        );
        self.reopen(Arc::new(segment), file, cut.since_index)?;
        self.store_epochs()
    }

    fn start_over(&self, offset: Offset) -> Result<(), StorageError> {
        self.lower_recovery_point(offset)?;
        self.shared
            .log_starts
            .set(&self.name, self.topic_id, offset);
        self.shared.store(&self.shared.log_starts)?;
        self.stored_start.store(offset);
        let list = self.segments.swap(Arc::default());
        self.start.store(offset);
        self.end.store(offset);
        self.epochs.write().clear();
        self.forget_damage_from(Offset::ZERO);
        // Unlinked, not shortened: readers keep what they hold.
        list.iter()
            .rev()
            .try_for_each(|segment| self.home.remove_segment(segment.base))?;
        self.remove_snapshots_above(Offset::new(-1))?;
        self.sync_dir()?;
        let (segment, file) = self.create_segment(offset, self.shared.now())?;
        self.durable.store(offset);
        self.high_watermark.store(offset);
        self.reopen(segment, file, 0)?;
        self.store_epochs()
    }

    /// Lowers the stored recovery point before files shrink: below it that would be damage.
    fn lower_recovery_point(&self, end: Offset) -> Result<(), StorageError> {
        self.cuts.fetch_add(1, Ordering::AcqRel);
        let durable = self.durable.load().min(end);
        self.durable.store(durable);
        self.high_watermark
            .store(self.high_watermark.load().min(end));
        let points = &self.shared.recovery_points;
        if points
            .get(&self.name, self.topic_id)
            .is_some_and(|point| point > durable)
        {
            points.set(&self.name, self.topic_id, durable);
            self.shared.store(points)?;
        }
        self.lower_cleaner_point(end)
    }

    /// Takes back how far the log is clean: what takes the place of lost records is not.
    pub(crate) fn lower_cleaner_point(&self, end: Offset) -> Result<(), StorageError> {
        let cleaned = &self.shared.cleaner_points;
        if cleaned
            .get(&self.name, self.topic_id)
            .is_some_and(|point| point > end)
        {
            cleaned.set(&self.name, self.topic_id, end);
            self.shared.store(cleaned)?;
        }
        Ok(())
    }

    fn forget_damage_from(&self, end: Offset) {
        self.damage.rcu(|ranges| {
            let mut ranges = ranges.as_ref().clone();
            ranges.retain(|range| range.from < end);
            ranges
        });
    }

    /// Position and offset where the segment must end, and what stands before.
    fn find_cut(&self, target: &Arc<Segment>, offset: Offset) -> Result<Cut, StorageError> {
        let tail = target.tail();
        let index = target.index()?;
        let relative = u32::try_from(offset.distance(target.base)).unwrap_or(u32::MAX);
        let place = u64::from(index.floor_offset(relative).position);
        let (entry, mut max_timestamp) = index.floor_with_time(place);
        let from = Offset::new(target.base.value() + i64::from(entry.relative));
        let region = target.region()?;
        let mut walk = Walk::new(&region, u64::from(entry.position), tail.position, from);
        // In a gap, which only compaction leaves, the log ends at the offset itself.
        let mut cut = Tail {
            position: tail.position,
            next: offset,
        };
        while let Some(found) = walk.next() {
            let found = found.map_err(|bad| StorageError::Corrupt {
                from: bad.offset,
                to: tail.next,
                path: target.path.clone(),
                reason: bad.reason,
            })?;
            if found.next > offset {
                cut.position = found.position;
                cut.next = found.header.base_offset.min(offset);
                break;
            }
            max_timestamp = max_timestamp.max(found.header.max_timestamp);
        }
        Ok(Cut {
            tail: cut,
            since_index: (cut.position - u64::from(entry.position)) as u32,
            first_timestamp: target.first_timestamp().filter(|_| cut.position > 0),
            max_timestamp,
        })
    }

    /// Gives the segment's file its new length, in place or as a copy.
    fn shorten(
        &self,
        target: Arc<Segment>,
        position: u64,
    ) -> Result<Arc<dyn FsFile>, StorageError> {
        let path = target.path.clone();
        self.home.remove_seal(target.base)?;
        self.sync_dir()?;
        let fs = &*self.shared.fs;
        // The writer does not read, and it does not write now either.
        let holders = 1 + usize::from(Arc::ptr_eq(&self.lock_writer().active, &target));
        if target.is_unread(holders) {
            let file = fs
                .open(&path, OpenHow::Write)
                .map_err(|e| self.io("open", &e))?;
            keeping_age(&*file, || file.set_len(position)).map_err(|e| self.io("truncate", &e))?;
            return Ok(file);
        }
        let temporary = path.with_extension("log.tmp");
        let source = fs
            .open(&path, OpenHow::Read)
            .map_err(|e| self.io("open", &e))?;
        let copy = fs
            .open(&temporary, OpenHow::Create)
            .map_err(|e| self.io("create", &e))?;
        copy_front(&*source, &*copy, position).map_err(|e| self.io("copy", &e))?;
        if let Ok(written) = source.modified() {
            set_age(&*copy, written);
        }
        copy.sync().map_err(|e| self.sync_failed(e))?;
        fs.rename(&temporary, &path)
            .map_err(|e| self.io("rename", &e))?;
        Ok(copy)
    }

    /// Puts a new last segment behind those that stayed.
    fn reopen(
        &self,
        segment: Arc<Segment>,
        file: Arc<dyn FsFile>,
        since_index: u32,
    ) -> Result<(), StorageError> {
        let mut list = self.segments.load().as_ref().clone();
        list.push(segment.clone());
        let end = segment.tail().next;
        let first = list.first().map_or(end, |first| first.base);
        let (producers, met) =
            replay_producers(&self.home, &list, &self.damage.load(), (first, end, end))?;
        met.into_iter().for_each(|range| self.note_damage(range));
        let index = segment
            .memory_index()
            .expect("an opened segment has its index in memory");
        let mut writer = self.lock_writer();
        writer.switch(segment, file, index, since_index);
        writer.producers = producers;
        self.segments.store(Arc::new(list));
        Ok(())
    }

    fn remove_snapshots_above(&self, end: Offset) -> Result<(), StorageError> {
        let entries = self
            .shared
            .fs
            .list(&self.home.dir)
            .map_err(|e| self.io("list", &e))?;
        for entry in entries {
            if snapshot::offset_of(&entry.name).is_some_and(|offset| offset > end) {
                self.remove_if_there(&self.home.dir.join(&entry.name))?;
            }
        }
        Ok(())
    }

    fn remove_if_there(&self, path: &std::path::Path) -> Result<(), StorageError> {
        match self.shared.fs.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("remove", path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Syncs the names in the log's directory. A failure is final, as everywhere, unless the
    /// directory could not be opened ([`StorageError::is_unopened_dir`]).
    pub(crate) fn sync_dir(&self) -> Result<(), StorageError> {
        let synced = self.shared.fs.sync_dir(&self.home.dir);
        synced.map_err(|error| {
            let error = self.io(SYNC_DIR, &error);
            if !error.is_unopened_dir() {
                self.shared.go_offline(&error);
            }
            error
        })
    }

    fn step(&self, name: &str) -> Result<(), StorageError> {
        failpoint::hit(name).map_err(|error| self.io("truncate", &error))
    }

    fn io(&self, operation: &'static str, error: &io::Error) -> StorageError {
        StorageError::io(operation, &self.home.dir, error)
    }

    /// A failed sync is final, here as everywhere.
    fn sync_failed(&self, error: io::Error) -> StorageError {
        let error = self.io("sync", &error);
        self.shared.go_offline(&error);
        error
    }

    pub(crate) fn new_capacity(&self) -> u64 {
        self.config
            .load()
            .segment_bytes
            .min(u64::from(u32::MAX >> 1))
    }
}

fn copy_front(from: &dyn FsFile, to: &dyn FsFile, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_STEP.min(length).max(1) as usize];
    let mut at = 0;
    while at < length {
        let want = (length - at).min(COPY_STEP) as usize;
        let chunk = buffer.get_mut(..want).unwrap_or_default();
        let count = from.read_at(chunk, at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all_at(to, chunk.get(..count).unwrap_or_default(), at)?;
        at += count as u64;
    }
    Ok(())
}
