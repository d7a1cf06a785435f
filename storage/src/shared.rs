//! What the logs of one directory have in common.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::checkpoint::Checkpoint;
use crate::config::LogDirOptions;
use crate::disk::JobQueue;
use crate::error::StorageError;
use crate::flusher::FlushQueue;
use crate::fs::Fs;
use crate::graveyard::Graveyard;
use crate::log::Log;
use crate::map_cache::MapCache;
use crate::space::SpaceGuard;
use crate::types::TimestampMs;

/// State shared by a directory, its threads and its logs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) path: PathBuf,
    pub(crate) options: LogDirOptions,
    pub(crate) flusher: FlushQueue,
    pub(crate) disk: JobQueue,
    pub(crate) space: SpaceGuard,
    pub(crate) maps: Arc<MapCache>,
    pub(crate) graveyard: Graveyard,
    /// Per log: everything below is on stable storage and was verified.
    pub(crate) recovery_points: Checkpoint,
    pub(crate) log_starts: Checkpoint,
    pub(crate) high_watermarks: Checkpoint,
    /// Per log: below it no key has an older record, and tombstones hide nothing any more.
    pub(crate) cleaner_points: Checkpoint,
    pub(crate) logs: Mutex<BTreeMap<String, Weak<Log>>>,
    /// The last life of the directory ended with a clean stop.
    pub(crate) was_clean: bool,
    offline: AtomicBool,
    now: AtomicI64,
}

impl Shared {
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        path: PathBuf,
        options: LogDirOptions,
    ) -> Result<Self, StorageError> {
        let checkpoint = |name: &str, without| Checkpoint::load(&*fs, path.join(name), without);
        Ok(Self {
            recovery_points: checkpoint(
                "recovery-point-checkpoint",
                "logs are read from end to end, logs that vanished are not missed, and damage in the \
                 last segment of a log that was not stopped cleanly is cut like a torn tail",
            )?,
            log_starts: checkpoint(
                "log-start-offset-checkpoint",
                "records that were deleted may be served again, as far as their segments are there",
            )?,
            high_watermarks: checkpoint(
                "replication-offset-checkpoint",
                "high watermarks are found anew, from the log starts up",
            )?,
            cleaner_points: checkpoint(
                "cleaner-offset-checkpoint",
                "compacted logs are cleaned from their start, and one that is not compacted any more \
                 may seem damaged",
            )?,
            space: SpaceGuard::new(fs.clone(), path.clone(), &options),
            maps: Arc::new(MapCache::new(options.mapped_segments)),
            flusher: FlushQueue::default(),
            disk: JobQueue::default(),
            graveyard: Graveyard::default(),
            logs: Mutex::default(),
            was_clean: false,
            offline: AtomicBool::new(false),
            now: AtomicI64::new(0),
            fs,
            path,
            options,
        })
    }

    /// True after a failed sync or a failed device.
    pub(crate) fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    /// Takes the directory and all its logs offline, for good.
    pub(crate) fn go_offline(&self, error: &StorageError) {
        if self.offline.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!(path = %self.path.display(), %error, "log directory is offline");
        for log in self.open_logs() {
            log.observer().failed();
        }
    }

    /// The logs that are open now.
    pub(crate) fn open_logs(&self) -> Vec<Arc<Log>> {
        self.logs
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Latest time anyone has told.
    pub(crate) fn now(&self) -> TimestampMs {
        TimestampMs::new(self.now.load(Ordering::Relaxed))
    }

    pub(crate) fn note_now(&self, now: TimestampMs) {
        self.now.store(now.value(), Ordering::Relaxed);
    }

    /// Turns an I/O error into ours and draws the consequences for the directory.
    ///
    /// Must not be called with an append lock held.
    pub(crate) fn judge(self: &Arc<Self>, error: StorageError) -> StorageError {
        match &error {
            StorageError::DiskFull { .. } => self.disk_is_full(),
            // What is read once the directory is open belongs to one log.
            error if error.is_failed_read() => {}
            StorageError::Io {
                kind: std::io::ErrorKind::ReadOnlyFilesystem,
                ..
            } => {
                self.go_offline(&error);
            }
            StorageError::Io {
                os_code: Some(libc::EIO),
                ..
            } => self.go_offline(&error),
            _ => {}
        }
        error
    }

    /// A write met a full disk: give back the ballast and let retention run at once.
    pub(crate) fn disk_is_full(self: &Arc<Self>) {
        if !self.space.note_full() {
            return;
        }
        tracing::warn!(path = %self.path.display(), "disk is full");
        let shared = self.clone();
        self.disk.push(Box::new(move || {
            shared.space.drop_ballast();
            let now = shared.now();
            for log in shared.open_logs() {
                if let Err(error) = log.apply_retention(log.noted_high_watermark(), now) {
                    tracing::warn!(log = log.dir_name(), %error, "retention failed");
                }
            }
            shared.graveyard.bury_all(&*shared.fs);
            shared.space.check();
        }));
    }

    /// Writes a checkpoint file; on a full disk the ballast makes room for it. Blocks.
    pub(crate) fn store(self: &Arc<Self>, table: &Checkpoint) -> Result<(), StorageError> {
        let stored = match table.store(&*self.fs) {
            Err(StorageError::DiskFull { .. }) => {
                self.space.drop_ballast();
                table.store(&*self.fs)
            }
            other => other,
        };
        stored.map_err(|error| self.judge(error))
    }

    /// Looks at the free space on the disk thread.
    pub(crate) fn check_space(self: &Arc<Self>) {
        let shared = self.clone();
        self.disk.push(Box::new(move || {
            shared.space.check();
        }));
    }
}
