//! Rolling to a new segment, sealing the old one, and allocating blocks ahead.
//!
//! A roll creates the next file and syncs the directory before any byte depends on it. The segment
//! left behind stays readable as it is; its seal follows on the disk thread.

use std::sync::Arc;

use crate::error::StorageError;
use crate::failpoint;
use crate::fs::{FsFile, OpenHow, keeping_age};
use crate::log::Log;
use crate::producer_state::{ProducerStates, snapshot};
use crate::seal::Seal;
use crate::segment::{Segment, Tail};
use crate::segment_index::IndexBuilder;
use crate::types::{Offset, TimestampMs};

/// Bytes of a segment that are brought into memory at once for its checksum.
const CRC_STEP: u64 = 4 << 20;

impl Log {
    /// Has the disk thread roll `active` for a timer: at most one such roll stands in its queue.
    ///
    /// One that fails is no append's failure: the next tick tries again.
    pub(crate) fn queue_roll(&self, active: Arc<Segment>, now: TimestampMs) {
        let Some(me) = self.me.upgrade() else { return };
        {
            let Some(mut writer) = self.try_lock_writer() else {
                return;
            };
            if writer.roll_queued || writer.exclusive {
                return;
            }
            writer.roll_queued = true;
        }
        self.shared.disk.push(Box::new(move || {
            // A full disk is told of by the directory.
            let failed = me
                .roll(&active, now)
                .err()
                .filter(|error| !matches!(error, StorageError::DiskFull { .. }));
            let told = {
                let mut writer = me.lock_writer();
                writer.roll_queued = false;
                std::mem::replace(&mut writer.roll_failed, failed.is_some())
            };
            if let Some(error) = failed
                && !told
                && !me.is_failed()
            {
                tracing::warn!(log = %me.name, %error, "segment not rolled");
            }
        }));
    }

    /// Clean stop of one log: everything synced, the active segment sealed, the state kept.
    pub(crate) fn close_cleanly(&self) -> Result<(), StorageError> {
        let _maintenance = self.maintenance.lock();
        if self.closed.load(std::sync::atomic::Ordering::Acquire) {
            // Deleted, or failed: its files are as they are.
            return Ok(());
        }
        let producers = {
            let mut writer = self.lock_writer();
            writer.exclusive = true;
            writer.producers.clone()
        };
        let sealed = self.seal_all(&producers);
        // Closed either way: a log that could not be sealed is left to recovery.
        self.closed
            .store(true, std::sync::atomic::Ordering::Release);
        self.lock_writer().exclusive = false;
        sealed
    }

    fn seal_all(&self, producers: &ProducerStates) -> Result<(), StorageError> {
        let end = self.end.load();
        if end == Offset::ZERO {
            // Nothing was ever appended, so there is nothing that a seal could spare the next
            // start.
            return self.store_epochs();
        }
        self.sync_appended()?;
        let list = self.segments.load_full();
        let last = list.len().saturating_sub(1);
        for (n, segment) in list.iter().enumerate() {
            let state = (n == last).then_some((end, producers));
            if n < last && !segment.is_sealed() {
                // Its own seal found no room, or its turn did not come: neither did the snapshot.
                self.keep_producers(list.get(..=n).unwrap_or_default())?;
            }
            match self.seal_locked(segment, state) {
                // Like a damaged one: the next start looks through it and asks for no more.
                Err(error) if error.is_failed_read() => tracing::warn!(
                    log = %self.name, %error, "segment left without a seal; check the disk"
                ),
                sealed => sealed?,
            }
        }
        self.store_epochs()
    }

    /// Rolls `active`, unless someone else already has; blocks.
    ///
    /// # Errors
    /// `DiskFull` or `Io`: the log goes on with its old segment.
    pub(crate) fn roll(&self, active: &Arc<Segment>, now: TimestampMs) -> Result<(), StorageError> {
        let _maintenance = self.maintenance.lock();
        if let Some((at, producers)) = self.roll_locked(active, now)? {
            self.queue_seal(active.clone(), at, producers);
        }
        Ok(())
    }

    /// The same, for a caller that holds the maintenance lock and seals what is left behind with
    /// the answer: the base of the new segment, and the producers as of then.
    pub(crate) fn roll_locked(
        &self,
        active: &Arc<Segment>,
        now: TimestampMs,
    ) -> Result<Option<(Offset, ProducerStates)>, StorageError> {
        self.check_writable()?;
        let producers = {
            let mut writer = self.lock_writer();
            // An empty segment is replaced only where the new one holds more.
            let useless = writer.position == 0 && active.capacity >= self.new_capacity();
            if !Arc::ptr_eq(&writer.active, active) || useless {
                return Ok(None);
            }
            writer.exclusive = true;
            writer.producers.clone()
        };
        // The end stands still now.
        let base = self.end.load();
        // With the seal of before the last start it would end where that says, if a crash takes
        // what was appended since, and what follows would be a gap. Synced with the new name.
        let unsealed = self.home.remove_seal(active.base);
        let created = unsealed.and_then(|_| self.create_segment(base, now));
        {
            let mut writer = self.lock_writer();
            writer.exclusive = false;
            if let Ok((segment, file)) = &created {
                self.install(&mut writer, segment.clone(), file.clone());
            }
        }
        created.map_err(|error| self.shared.judge(error))?;
        Ok(Some((base, producers)))
    }

    /// Creates the file of an empty segment at `base`.
    pub(crate) fn create_segment(
        &self,
        base: Offset,
        now: TimestampMs,
    ) -> Result<(Arc<Segment>, Arc<dyn FsFile>), StorageError> {
        let config = self.config.load();
        let path = self.home.path(base);
        let file = (|| {
            failpoint::hit("roll.before_create")?;
            let file = self.shared.fs.open(&path, OpenHow::Create)?;
            failpoint::hit("roll.before_dir_sync")?;
            self.shared.fs.sync_dir(&self.home.dir)?;
            failpoint::hit("roll.after_dir_sync")?;
            Ok(file)
        })()
        .map_err(|error| self.not_created(&path, &error))?;
        let content = IndexBuilder::new(base, config.index_interval_bytes);
        let tail = Tail {
            position: 0,
            next: base,
        };
        let segment = Segment::open(
            &self.home,
            base,
            self.new_capacity(),
            file.clone(),
            tail,
            content,
            now,
        );
        Ok((Arc::new(segment), file))
    }

    /// A file left behind would end the log at its base on the next start; but that of an empty
    /// segment, which a larger one should have replaced, is what the log goes on with.
    fn not_created(&self, path: &std::path::Path, error: &std::io::Error) -> StorageError {
        let list = self.segments.load();
        if list.last().is_some_and(|active| *active.path == *path) {
            return StorageError::io("create", path, error);
        }
        drop(list);
        let removed = self.shared.fs.remove_file(path);
        if removed.is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound) {
            self.closed
                .store(true, std::sync::atomic::Ordering::Release);
            self.observer.failed();
        }
        StorageError::io("create", path, error)
    }

    fn install(
        &self,
        writer: &mut crate::append::Writer,
        segment: Arc<Segment>,
        file: Arc<dyn FsFile>,
    ) {
        let index = segment
            .memory_index()
            .expect("a new segment has its index in memory");
        let mut list = self.segments.load().as_ref().clone();
        // An empty segment at the same base would only shadow the new one.
        list.retain(|old| old.base < segment.base);
        list.push(segment.clone());
        self.segments.store(Arc::new(list));
        writer.switch(segment, file, index, 0);
    }

    fn queue_seal(&self, segment: Arc<Segment>, at: Offset, producers: ProducerStates) {
        let Some(me) = self.me.upgrade() else { return };
        self.shared.disk.push(Box::new(move || {
            let _maintenance = me.maintenance.lock();
            if me.is_failed() {
                return;
            }
            if let Err(error) = me.seal_locked(&segment, Some((at, &producers))) {
                // Not lost: recovery scans an unsealed segment, and close tries again.
                tracing::warn!(log = %me.name, %error, "segment not sealed");
            }
        }));
    }

    /// Seals a segment that takes no more appends; the caller holds the maintenance lock.
    pub(crate) fn seal_locked(
        &self,
        segment: &Arc<Segment>,
        producers: Option<(Offset, &ProducerStates)>,
    ) -> Result<(), StorageError> {
        let there = self.segments.load().iter().any(|s| Arc::ptr_eq(s, segment));
        let damaged = self
            .damage
            .load()
            .iter()
            .any(|range| range.path == segment.path);
        // A damaged segment stays unsealed, so that every start finds the damage again.
        if !there || segment.is_sealed() || damaged {
            return Ok(());
        }
        let tail = segment.tail();
        if let Some(file) = segment.file() {
            // To the system a trim is a write, even one that frees nothing.
            failpoint::hit("seal.before_truncate")
                .and_then(|()| keeping_age(&*file, || file.set_len(tail.position)))
                .map_err(|e| {
                    self.shared
                        .judge(StorageError::io("trim", &segment.path, &e))
                })?;
        }
        self.sync_appended()?;
        self.write_seal(segment, producers)
            .map_err(|error| self.shared.judge(error))
    }

    fn write_seal(
        &self,
        segment: &Arc<Segment>,
        producers: Option<(Offset, &ProducerStates)>,
    ) -> Result<(), StorageError> {
        let fs = &*self.shared.fs;
        let step =
            |name| failpoint::hit(name).map_err(|e| StorageError::io("seal", &segment.path, &e));
        let tail = segment.tail();
        step("seal.before_indexes")?;
        let crcs = segment.index()?.store(fs, &segment.path)?;
        if let Some((at, states)) = producers {
            step("seal.before_snapshot")?;
            snapshot::store(fs, &self.home.dir, at, states)?;
        }
        let seal = Seal {
            size: tail.position,
            next_offset: tail.next,
            max_timestamp: segment.max_timestamp(),
            first_timestamp: segment.first_timestamp().unwrap_or(TimestampMs::new(-1)),
            log_crc: checksum(segment, tail.position)?,
            index_crc: crcs.index,
            time_crc: crcs.time,
            txn_crc: crcs.txn,
            suspect: false,
        };
        step("seal.before_seal")?;
        // Its directory sync covers the index files too.
        seal.store(fs, &segment.path.with_extension("seal"))?;
        step("seal.after_seal")?;
        segment.set_sealed(seal);
        Ok(())
    }

    /// Seals the segments that a crash left unsealed.
    pub(crate) fn queue_missing_seals(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let list = self.segments.load_full();
        let last = list.len().saturating_sub(1);
        for segment in list
            .iter()
            .take(last)
            .filter(|segment| !segment.is_sealed())
        {
            let (me, segment) = (me.clone(), segment.clone());
            self.shared.disk.push(Box::new(move || {
                let _maintenance = me.maintenance.lock();
                if !me.is_failed()
                    && let Err(error) = me.seal_locked(&segment, None)
                {
                    tracing::warn!(log = %me.name, %error, "segment not sealed");
                }
            }));
        }
    }

    /// Has the disk thread allocate the next step of the active segment.
    pub(crate) fn queue_allocation(&self, me: Arc<Self>) {
        self.shared.disk.push(Box::new(move || me.allocate_ahead()));
    }

    fn allocate_ahead(&self) {
        let (active, file, from, to) = {
            let writer = self.lock_writer();
            let from = writer.allocation.end.max(writer.position);
            let to = (from + writer.allocation.step).min(writer.active.capacity);
            (writer.active.clone(), writer.file.clone(), from, to)
        };
        let allocated = if from < to {
            file.allocate(from, to - from)
        } else {
            Ok(())
        };
        let mut writer = self.lock_writer();
        if !Arc::ptr_eq(&writer.active, &active) {
            // Rolled meanwhile: the seal trims what was allocated.
            return;
        }
        writer.allocation.under_way = false;
        if writer.exclusive {
            // A truncation owns the file, and trims it itself.
            return;
        }
        if allocated.is_ok() {
            writer.allocation.end = to;
            return;
        }
        // A failed allocation keeps the blocks it got; give them back at once. Under the lock, as
        // an append could grow the file at this moment.
        writer.allocation.refused = true;
        let cut = writer.file.set_len(writer.position);
        drop(writer);
        if let Err(error) = cut {
            tracing::warn!(log = %self.name, %error, "surplus blocks not freed");
        }
        self.shared.check_space();
    }
}

/// CRC-32C of the first `end` bytes of a segment.
pub(crate) fn checksum(segment: &Arc<Segment>, end: u64) -> Result<u32, StorageError> {
    let region = segment.region()?;
    let mut crc = 0;
    let mut at = 0;
    while at < end {
        let to = (at + CRC_STEP).min(end);
        let range = at as usize..to as usize;
        region
            .make_resident(range.clone())
            .map_err(|error| StorageError::io("read", &segment.path, &error))?;
        crc = crc32c::crc32c_append(crc, region.slice(range));
        at = to;
    }
    Ok(crc)
}
