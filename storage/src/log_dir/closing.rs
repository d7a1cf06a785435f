//! Checkpoints, and the clean stop.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::LogDir;
use crate::config::Background;
use crate::error::StorageError;
use crate::failpoint;
use crate::log::Log;
use crate::meta;
use crate::side_by_side::{DISK_WAITERS, side_by_side};

impl LogDir {
    /// The logs that have leader epochs which their files do not.
    pub fn logs_with_new_epochs(&self) -> Vec<Arc<Log>> {
        let mut logs = self.shared.open_logs();
        logs.retain(|log| log.has_new_epochs());
        logs
    }

    /// Writes the recovery points, log starts and high watermarks of all logs; blocks.
    ///
    /// A log whose epochs cannot be stored keeps its older points, and holds up no other.
    ///
    /// # Errors
    /// `DiskFull` or `Io`, the first of them: what is on disk is then older in part, which is safe.
    pub fn checkpoint(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        let mut starts = Vec::new();
        let mut stored = Ok(());
        for log in shared.open_logs() {
            let _maintenance = log.maintenance.lock();
            // Looked at under the lock: a log that is deleted must not come back into the tables.
            if log.closed.load(Ordering::Acquire) {
                continue;
            }
            // The durable end first, then the epochs: their file covers every batch below it.
            let durable = log.durable.load();
            if let Err(error) = log.store_epochs() {
                if shared.is_offline() {
                    return Err(error);
                }
                stored = stored.and(Err(error));
                continue;
            }
            let (name, id) = (&log.name, log.topic_id);
            shared.recovery_points.set(name, id, durable);
            let start = log.start.load();
            shared.log_starts.set(name, id, start);
            shared
                .high_watermarks
                .set(name, id, log.high_watermark.load());
            starts.push((log.clone(), start));
        }
        self.store_checkpoints()?;
        starts.into_iter().for_each(|(log, start)| {
            log.stored_start.raise(start);
        });
        stored
    }

    fn store_checkpoints(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        let step = |name| {
            failpoint::hit(name).map_err(|e| StorageError::io("checkpoint", &shared.path, &e))
        };
        (|| {
            // Log starts before recovery points: no file below a start is ever missed.
            step("checkpoint.before_log_starts")?;
            shared.store(&shared.log_starts)?;
            step("checkpoint.before_recovery_points")?;
            shared.store(&shared.recovery_points)?;
            step("checkpoint.before_high_watermarks")?;
            shared.store(&shared.high_watermarks)?;
            step("checkpoint.after")
        })()
        .map_err(|error| shared.judge(error))
    }

    /// Clean stop: syncs, seals and snapshots all logs, writes checkpoints and the marker, ends the
    /// threads and unlocks; blocks, first until the logs that are being opened are open. None is
    /// opened after it.
    ///
    /// # Errors
    /// `Poisoned` when the directory went offline before; `DiskFull` or `Io`. There is no marker
    /// then, and the next start recovers.
    pub fn close(&self, broker_epoch: i64) -> Result<(), StorageError> {
        *self.closed.write() = true;
        let closed = self.close_logs().and_then(|()| {
            self.store_checkpoints()?;
            failpoint::hit("close.before_marker")
                .map_err(|e| StorageError::io("close", &self.shared.path, &e))?;
            meta::write_clean(&*self.shared.fs, &self.shared.path, broker_epoch)
        });
        self.stop_threads();
        *self.lock.lock() = None;
        closed
    }

    /// Ends the threads and unlocks a directory in which no log was opened: it is as it was found,
    /// with the marker of the clean stop before, if there was one. Blocks, and no log is opened
    /// after it.
    ///
    /// # Errors
    /// `DiskFull` or `Io`: there is no marker then, as after an unclean stop.
    pub fn give_back(&self) -> Result<(), StorageError> {
        *self.closed.write() = true;
        let is_as_found = self.shared.logs.lock().is_empty();
        let marked = match self.clean_epoch.filter(|_| is_as_found) {
            Some(epoch) => meta::write_clean(&*self.shared.fs, &self.shared.path, epoch),
            None => Ok(()),
        };
        self.stop_threads();
        *self.lock.lock() = None;
        marked
    }

    fn close_logs(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        if shared.is_offline() {
            return Err(StorageError::Poisoned);
        }
        let threads = match self.background {
            Background::Threads => DISK_WAITERS,
            Background::Manual => 1,
        };
        let closed = side_by_side(shared.open_logs(), threads, |log| self.close_log(&log));
        closed.into_iter().collect()
    }

    fn close_log(&self, log: &Log) -> Result<(), StorageError> {
        let shared = &self.shared;
        log.close_cleanly().inspect_err(
            |error| tracing::error!(log = %log.name, %error, "log not closed cleanly"),
        )?;
        let (name, id) = (&log.name, log.topic_id);
        shared.recovery_points.set(name, id, log.durable.load());
        shared.log_starts.set(name, id, log.start.load());
        shared
            .high_watermarks
            .set(name, id, log.high_watermark.load());
        Ok(())
    }
}
