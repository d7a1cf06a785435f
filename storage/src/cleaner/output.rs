//! The segment a cleaner writes: `<base>.<extension>.cleaned` until it is complete.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Halt, Pace};
use crate::batch::{BatchHeader, Found, parse};
use crate::error::StorageError;
use crate::failpoint;
use crate::fs::{FsFile, OpenHow, write_all_at};
use crate::log::Log;
use crate::seal::Seal;
use crate::segment::Segment;
use crate::segment_index::{IndexBuilder, SegmentIndex};
use crate::swap::{CLEANED, OUTPUTS, with_state};
use crate::txn_index::AbortedTxn;
use crate::types::{Offset, TimestampMs};

/// Bytes collected for one write.
const WRITE_STEP: usize = 512 << 10;
/// Bytes between two starts of writeback.
const WRITEBACK_STEP: u64 = 8 << 20;

/// A segment on its way; dropped before it is committed, its files are removed.
pub(super) struct Output<'a> {
    log: &'a Log,
    pub(super) base: Offset,
    path: PathBuf,
    file: Arc<dyn FsFile>,
    /// Batches not written yet.
    buffer: Vec<u8>,
    /// End of what is written.
    written: u64,
    written_back: u64,
    crc: u32,
    content: IndexBuilder,
    committed: bool,
}

impl<'a> Output<'a> {
    /// Creates the file of an output at `base`.
    pub(super) fn create(log: &'a Log, base: Offset, buffer: Vec<u8>) -> Result<Self, Halt> {
        let path = log.home.path(base);
        let name = with_state(&path, "log", CLEANED);
        // The name is the log's only while nobody renames its directory.
        let _maintenance = log.maintenance.lock();
        log.check_writable()?;
        let file = failpoint::hit("clean.before_create")
            .and_then(|()| log.shared.fs.open(&name, OpenHow::Create))
            .map_err(|error| StorageError::io("create", &name, &error))?;
        let interval = log.config.load().index_interval_bytes;
        Ok(Self {
            log,
            base,
            path,
            file,
            buffer,
            written: 0,
            written_back: 0,
            crc: 0,
            content: IndexBuilder::new(base, interval),
            committed: false,
        })
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Entries of the offset index so far.
    pub(super) fn entries(&self) -> usize {
        self.content.index.len()
    }

    /// Takes in one batch.
    pub(super) fn push(&mut self, batch: &[u8], pace: &mut dyn Pace) -> Result<(), Halt> {
        let header = parse(batch).map_err(|reason| StorageError::InvalidBatch { reason })?;
        let position = self.len();
        if position + batch.len() as u64 > u64::from(u32::MAX >> 1) {
            return Err(StorageError::InvalidBatch {
                reason: "the cleaned segment would be too large",
            }
            .into());
        }
        self.content.add(&found(position, header));
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= WRITE_STEP {
            self.flush(pace)?;
        }
        Ok(())
    }

    fn flush(&mut self, pace: &mut dyn Pace) -> Result<(), Halt> {
        let path = with_state(&self.path, "log", CLEANED);
        write_all_at(&*self.file, &self.buffer, self.written)
            .map_err(|error| StorageError::io("write", &path, &error))?;
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        let length = self.buffer.len() as u64;
        self.written += length;
        self.buffer.clear();
        if self.written - self.written_back >= WRITEBACK_STEP {
            // Only a hint: the sync at the end then has little left to wait for.
            let pending = self.written - self.written_back;
            let _ = self.file.start_writeback(self.written_back, pending);
            self.written_back = self.written;
        }
        if pace.spend(length) {
            Ok(())
        } else {
            Err(Halt::Stopped)
        }
    }

    /// Writes and syncs what is left of the records.
    pub(super) fn complete(&mut self, pace: &mut dyn Pace) -> Result<(), Halt> {
        self.flush(pace)?;
        failpoint::hit("clean.before_sync")
            .and_then(|()| self.file.sync())
            .map_err(|error| StorageError::io("sync", &self.path, &error).into())
    }

    /// Writes indexes and seal; the caller holds the maintenance lock. `next`: offset after the
    /// last input.
    pub(super) fn seal(&mut self, next: Offset, aborted: Vec<AbortedTxn>) -> Result<Seal, Halt> {
        let fs = &*self.log.shared.fs;
        let step =
            |name| failpoint::hit(name).map_err(|e| StorageError::io("seal", &self.path, &e));
        step("clean.before_indexes")?;
        let interval = self.log.config.load().index_interval_bytes;
        let empty = IndexBuilder::new(self.base, interval);
        let content = std::mem::replace(&mut self.content, empty);
        aborted
            .into_iter()
            .for_each(|txn| content.index.push_aborted(txn));
        let index = SegmentIndex::Memory(content.index);
        let crcs = index.store_as(fs, |kind| with_state(&self.path, kind, CLEANED))?;
        let seal = Seal {
            size: self.written,
            next_offset: next,
            max_timestamp: content.max_timestamp,
            first_timestamp: content.first_timestamp.unwrap_or(TimestampMs::new(-1)),
            log_crc: self.crc,
            index_crc: crcs.index,
            time_crc: crcs.time,
            txn_crc: crcs.txn,
            suspect: false,
        };
        step("clean.before_seal")?;
        // Its directory sync covers the other files too.
        seal.store(fs, &with_state(&self.path, "seal", CLEANED))?;
        Ok(seal)
    }

    /// Makes records without timestamps as old as they were in `inputs`.
    pub(super) fn set_age_of(&self, inputs: &[Arc<Segment>]) {
        let newest = inputs.iter().map(|segment| segment.newest()).max();
        if let Some(Err(error)) = newest.map(|newest| self.file.set_modified(newest)) {
            tracing::debug!(log = %self.log.name, %error, "records count as written anew");
        }
    }

    /// The files are another's to finish.
    pub(super) fn set_committed(&mut self) {
        self.committed = true;
    }

    /// Gives the write buffer back, emptied.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        let _maintenance = self.log.maintenance.try_lock();
        if self.log.is_failed() {
            return;
        }
        for extension in OUTPUTS {
            // What stays is removed at the next start, or written over by the next pass.
            let path = with_state(&self.path, extension, CLEANED);
            let _ = self.log.shared.fs.remove_file(&path);
        }
    }
}

fn found(position: u64, header: BatchHeader) -> Found {
    Found {
        position,
        next: header.next_offset(),
        header,
    }
}

/// Offsets of the markers that were dropped on the way into one output.
pub(super) type DroppedMarkers = HashSet<Offset>;
