//! A directory of logs, with its flusher thread and its disk thread.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::config::{Background, LogConfig, LogDirOptions};
use crate::disk::Job;
use crate::error::StorageError;
use crate::failpoint;
use crate::fs::{Fs, OpenHow, write_all_at};
use crate::graveyard::Grave;
use crate::log::Log;
use crate::meta::{self, MetaProperties};
use crate::observer::LogObserver;
use crate::recovery::{self, METADATA_FILE, RecoveryReport};
use crate::shared::Shared;
use crate::sync::PublishedEnd;
use crate::types::{PartitionIndex, TimestampMs, TopicId};

/// Longest directory name, as of most file systems.
const LONGEST_NAME: usize = 255;
/// Suffix of a deleted log's directory.
const DELETED: &str = "-delete";

/// A log directory found on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLog {
    /// Name of the directory.
    pub dir_name: String,
    /// Topic part of the name.
    pub topic: String,
    /// Partition part of the name.
    pub partition: PartitionIndex,
    /// Topic id stored in it, if its metadata file can be read.
    pub topic_id: Option<TopicId>,
}

/// Names a log to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// Directory name, `<topic>-<partition>`.
    pub dir_name: String,
    /// Topic id; a directory with another one is refused.
    pub topic_id: TopicId,
}

/// Space of a log directory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Size of the file system.
    pub total_bytes: u64,
    /// Bytes free for this process.
    pub free_bytes: u64,
    /// Bytes of record batches in open logs.
    pub log_bytes: u64,
    /// Below the reserve: only essential logs are written.
    pub below_reserve: bool,
}

/// An open log directory.
///
/// Dropping it without [`LogDir::close`] is an unclean stop: nothing more is written.
pub struct LogDir {
    shared: Arc<Shared>,
    clean_epoch: Option<i64>,
    meta: Mutex<Option<MetaProperties>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

impl fmt::Debug for LogDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDir")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}

impl LogDir {
    /// Opens and locks a directory, creating it where absent; starts its two threads.
    ///
    /// # Errors
    /// - `Locked`: another process has it.
    /// - `FormatTooNew`: a newer release has written here.
    /// - `IncoherentMapping`: the file system cannot serve as log directory.
    /// - `BadFile`, `DiskFull`, `Io`.
    pub fn open(
        path: &Path,
        fs: Arc<dyn Fs>,
        options: LogDirOptions,
    ) -> Result<Self, StorageError> {
        let io = |error| StorageError::io("open", path, &error);
        if !fs.exists(path).map_err(io)? {
            fs.create_dir(path).map_err(io)?;
            fs.sync_dir(path.parent().unwrap_or(path)).map_err(io)?;
        }
        let lock = fs.lock(&path.join(".lock")).map_err(io)?;
        let Some(lock) = lock else {
            return Err(StorageError::Locked {
                path: path.to_owned(),
            });
        };
        let meta = MetaProperties::load(&*fs, path)?;
        if options.check_coherence {
            check_coherence(&*fs, path)?;
        }
        let background = options.background;
        let shared = Arc::new(Shared::open(fs, path.to_owned(), options)?);
        let clean_epoch = meta::take_clean(&*shared.fs, path)?;
        shared.space.check();
        if !shared.space.is_full() {
            shared.space.hold_ballast();
        }
        let dir = Self {
            shared,
            clean_epoch,
            meta: Mutex::new(meta),
            threads: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        };
        dir.resume_deletions()?;
        if background == Background::Threads {
            dir.start_threads().map_err(io)?;
        }
        Ok(dir)
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Identity of the directory; `None` before the first start.
    pub fn meta(&self) -> Option<MetaProperties> {
        self.meta.lock().clone()
    }

    /// Stores the identity of a new directory, or compares it with the stored one.
    ///
    /// # Errors
    /// `MetaMismatch` when a different one is stored; `DiskFull`, `Io`.
    pub fn set_meta(&self, meta: MetaProperties) -> Result<(), StorageError> {
        let mut stored = self.meta.lock();
        if let Some(stored) = &*stored {
            return meta.check(stored);
        }
        meta.store(&*self.shared.fs, &self.shared.path)?;
        *stored = Some(meta);
        Ok(())
    }

    /// Broker epoch of the clean stop before this start; `None` after an unclean one.
    pub fn was_clean(&self) -> Option<i64> {
        self.clean_epoch
    }

    /// The logs present on disk, in order of their names.
    ///
    /// # Errors
    /// `Io` when the directory cannot be listed.
    pub fn list(&self) -> Result<Vec<FoundLog>, StorageError> {
        let fs = &*self.shared.fs;
        let path = &self.shared.path;
        let entries = fs
            .list(path)
            .map_err(|error| StorageError::io("list", path, &error))?;
        let mut found: Vec<FoundLog> = entries
            .into_iter()
            .filter(|entry| entry.is_dir)
            .filter_map(|entry| {
                let (topic, partition) = parse_name(&entry.name)?;
                let metadata = path.join(&entry.name).join(METADATA_FILE);
                let topic_id = recovery::stored_topic_id(fs, &metadata).ok().flatten();
                Some(FoundLog {
                    topic,
                    partition,
                    topic_id,
                    dir_name: entry.name,
                })
            })
            .collect();
        found.sort_unstable_by(|a, b| a.dir_name.cmp(&b.dir_name));
        Ok(found)
    }

    /// Opens a log, creating it where absent, after recovery; blocks.
    ///
    /// Different logs may be opened from several threads at once.
    ///
    /// # Errors
    /// - `TopicIdMismatch`: the directory belongs to a deleted topic of the same name.
    /// - `BadName`, `Offline` (it is open already, or the directory is offline).
    /// - `FormatTooNew`, `BadFile`, `DiskFull`, `Io`.
    pub fn open_log(
        &self,
        spec: LogSpec,
        config: LogConfig,
        observer: Arc<dyn LogObserver>,
        now: TimestampMs,
    ) -> Result<(Arc<Log>, RecoveryReport), StorageError> {
        if parse_name(&spec.dir_name).is_none() {
            return Err(StorageError::BadName(spec.dir_name));
        }
        if self.shared.is_offline() || self.is_open(&spec.dir_name) {
            return Err(StorageError::Offline);
        }
        self.shared.note_now(now);
        let (log, report) = recovery::open_log(&self.shared, &spec, config, observer, now)
            .map_err(|error| self.shared.judge(error))?;
        self.shared
            .logs
            .lock()
            .insert(spec.dir_name, Arc::downgrade(&log));
        Ok((log, report))
    }

    fn is_open(&self, name: &str) -> bool {
        let open = self
            .shared
            .logs
            .lock()
            .get(name)
            .and_then(std::sync::Weak::upgrade);
        open.is_some_and(|log| !log.closed.load(Ordering::Acquire))
    }

    /// Renames the log away, which deletes it, and removes its files on the disk thread.
    ///
    /// # Errors
    /// `Io`: the log is closed, but still there.
    pub fn delete_log(&self, log: &Arc<Log>) -> Result<(), StorageError> {
        let _maintenance = log.maintenance.lock();
        log.closed.store(true, Ordering::Release);
        // Whoever holds the append lock has finished when it is ours.
        drop(log.lock_writer());
        self.shared.logs.lock().remove(&log.name);
        let segments = log.segments.load_full();
        let target = self.rename_away(&log.name, log.topic_id)?;
        let mut graves: Vec<Grave> = Vec::new();
        for segment in segments.iter() {
            let name = segment.path.file_name().unwrap_or_default();
            graves.push(Grave {
                due: TimestampMs::new(i64::MIN),
                segment: Some(segment.clone()),
                files: vec![target.join(name)],
                dir: None,
            });
        }
        self.bury(graves, &target)
    }

    /// Removes a log that was found on disk and is not open (a leftover).
    ///
    /// # Errors
    /// `Offline` when it is open; `BadName`, `Io`.
    pub fn delete_found(&self, dir_name: &str) -> Result<(), StorageError> {
        if parse_name(dir_name).is_none() {
            return Err(StorageError::BadName(dir_name.to_owned()));
        }
        if self.is_open(dir_name) {
            return Err(StorageError::Offline);
        }
        let target = self.rename_away(dir_name, TopicId::NIL)?;
        self.bury(Vec::new(), &target)
    }

    fn rename_away(
        &self,
        name: &str,
        topic_id: TopicId,
    ) -> Result<std::path::PathBuf, StorageError> {
        let fs = &*self.shared.fs;
        let from = self.shared.path.join(name);
        let io = |error| self.shared.judge(StorageError::io("delete", &from, &error));
        // The name alone could pass the longest one, and a second deletion must not collide.
        let mut count = 0;
        let target = loop {
            let short: String = name.chars().take(200).collect();
            let candidate = self
                .shared
                .path
                .join(format!("{short}.{topic_id}.{count}{DELETED}"));
            if !fs.exists(&candidate).map_err(io)? {
                break candidate;
            }
            count += 1;
        };
        failpoint::hit("delete.before_rename").map_err(io)?;
        fs.rename(&from, &target).map_err(io)?;
        failpoint::hit("delete.before_dir_sync").map_err(io)?;
        fs.sync_dir(&self.shared.path).map_err(io)?;
        let shared = &self.shared;
        for table in [
            &shared.recovery_points,
            &shared.log_starts,
            &shared.high_watermarks,
        ] {
            table.remove(name);
        }
        Ok(target)
    }

    /// Has the disk thread remove the graves, then what else is in `dir`, then `dir`.
    fn bury(&self, graves: Vec<Grave>, dir: &Path) -> Result<(), StorageError> {
        let fs = &*self.shared.fs;
        let io = |error| StorageError::io("list", dir, &error);
        let known: Vec<_> = graves
            .iter()
            .flat_map(|grave| grave.files.clone())
            .collect();
        let rest = fs
            .list(dir)
            .map_err(io)?
            .into_iter()
            .map(|entry| dir.join(entry.name));
        let rest = rest.filter(|path| !known.contains(path)).collect();
        graves
            .into_iter()
            .for_each(|grave| self.shared.graveyard.add(grave));
        let due = TimestampMs::new(i64::MIN);
        let dir = Some(dir.to_owned());
        self.shared.graveyard.add(Grave {
            due,
            segment: None,
            files: rest,
            dir,
        });
        let shared = self.shared.clone();
        self.shared.disk.push(Box::new(move || {
            shared
                .graveyard
                .bury_due(&*shared.fs, TimestampMs::new(i64::MIN));
        }));
        Ok(())
    }

    /// Goes on with deletions that a stop interrupted.
    fn resume_deletions(&self) -> Result<(), StorageError> {
        let path = &self.shared.path;
        let entries = self
            .shared
            .fs
            .list(path)
            .map_err(|error| StorageError::io("list", path, &error))?;
        for entry in entries
            .iter()
            .filter(|e| e.is_dir && e.name.ends_with(DELETED))
        {
            self.bury(Vec::new(), &path.join(&entry.name))?;
        }
        Ok(())
    }

    /// Writes the recovery points, log starts and high watermarks of all logs; blocks.
    ///
    /// # Errors
    /// `DiskFull` or `Io`: the files on disk are then the older ones, which is safe.
    pub fn checkpoint(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        for log in shared.open_logs() {
            if log.closed.load(Ordering::Acquire) {
                continue;
            }
            let _maintenance = log.maintenance.lock();
            // The durable end first, then the epochs: their file covers every batch below it.
            let durable = log.durable.load();
            log.store_epochs()?;
            let (name, id) = (&log.name, log.topic_id);
            shared.recovery_points.set(name, id, durable);
            shared.log_starts.set(name, id, log.start.load());
            shared
                .high_watermarks
                .set(name, id, log.high_watermark.load());
        }
        self.store_checkpoints()
    }

    fn store_checkpoints(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        let step = |name| {
            failpoint::hit(name).map_err(|e| StorageError::io("checkpoint", &shared.path, &e))
        };
        (|| {
            // Log starts before recovery points: no file below a start is ever missed.
            step("checkpoint.before_log_starts")?;
            shared.log_starts.store(&*shared.fs)?;
            step("checkpoint.before_recovery_points")?;
            shared.recovery_points.store(&*shared.fs)?;
            step("checkpoint.before_high_watermarks")?;
            shared.high_watermarks.store(&*shared.fs)?;
            step("checkpoint.after")
        })()
        .map_err(|error| shared.judge(error))
    }

    /// Does what is due at `now`: interval flushes, rolls by age, delayed removals, idle producers,
    /// the free space.
    ///
    /// Call it about once a second; the work itself runs on the directory's threads.
    pub fn tick(&self, now: TimestampMs) {
        let shared = &self.shared;
        shared.note_now(now);
        for log in shared.open_logs() {
            if log.is_failed() {
                continue;
            }
            if log.flush_is_due(now) {
                log.request_flush(log.log_end_offset());
            }
            if let Some(active) = log.roll_is_due(now) {
                log.queue_roll_once(active, now);
            }
        }
        let due = shared.graveyard.is_due(now);
        let check = shared.space.recheck_due(now);
        if due || check {
            let shared = shared.clone();
            self.shared.disk.push(Box::new(move || {
                shared.graveyard.bury_due(&*shared.fs, now);
                shared.space.check();
            }));
        }
    }

    /// Forgets idle producers of all logs (every few minutes is enough).
    pub fn expire_producers(&self, now: TimestampMs) {
        self.shared
            .open_logs()
            .iter()
            .for_each(|log| log.expire_producers(now));
    }

    /// Clean stop: syncs, seals and snapshots all logs, writes checkpoints and the marker, ends the
    /// threads and unlocks; blocks.
    ///
    /// # Errors
    /// `Poisoned` when the directory went offline before; `DiskFull` or `Io`. There is no marker
    /// then, and the next start recovers.
    pub fn close(&self, broker_epoch: i64) -> Result<(), StorageError> {
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

    fn close_logs(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        if shared.is_offline() {
            return Err(StorageError::Poisoned);
        }
        let mut result = Ok(());
        for log in shared.open_logs() {
            match log.close_cleanly() {
                Ok(()) => {
                    let (name, id) = (&log.name, log.topic_id);
                    shared.recovery_points.set(name, id, log.durable.load());
                    shared.log_starts.set(name, id, log.start.load());
                    shared
                        .high_watermarks
                        .set(name, id, log.high_watermark.load());
                }
                Err(error) => {
                    tracing::error!(log = %log.name, %error, "log not closed cleanly");
                    result = Err(error);
                }
            }
        }
        result
    }

    /// Runs `job` on the disk thread, after the jobs already there.
    pub fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        self.shared.disk.push(Box::new(job));
    }

    /// Space taken and left.
    pub fn usage(&self) -> Usage {
        let space = self.shared.space.space().ok();
        Usage {
            total_bytes: space.map_or(0, |space| space.total),
            free_bytes: space.map_or(0, |space| space.free),
            log_bytes: self
                .shared
                .open_logs()
                .iter()
                .map(|log| log.size_bytes())
                .sum(),
            below_reserve: self.shared.space.is_full(),
        }
    }

    /// A sync failed: all logs of the directory are offline, for good.
    pub fn is_offline(&self) -> bool {
        self.shared.is_offline()
    }

    /// Does all waiting work of the two threads on the caller's; for [`Background::Manual`].
    pub fn run_pending(&self) {
        loop {
            if let Some(round) = self.shared.flusher.poll() {
                round.run();
            } else if let Some(job) = self.shared.disk.poll() {
                job();
            } else {
                return;
            }
        }
    }

    fn start_threads(&self) -> std::io::Result<()> {
        let mut threads = self.threads.lock();
        let shared = self.shared.clone();
        threads.push(
            std::thread::Builder::new()
                .name("flusher".into())
                .spawn(move || {
                    while let Some(round) = shared.flusher.wait() {
                        guarded(&shared, || round.run());
                    }
                })?,
        );
        let shared = self.shared.clone();
        threads.push(
            std::thread::Builder::new()
                .name("disk".into())
                .spawn(move || {
                    while let Some(job) = shared.disk.wait() {
                        let job: Job = job;
                        guarded(&shared, job);
                    }
                })?,
        );
        Ok(())
    }

    fn stop_threads(&self) {
        self.shared.flusher.stop();
        self.shared.disk.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the log directory has panicked");
            }
        }
    }
}

/// A panic in background work leaves its logs in an unknown state: the directory goes offline.
fn guarded(shared: &Arc<Shared>, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        shared.go_offline(&StorageError::Poisoned);
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        // Nobody may write once the lock is gone.
        for log in self.shared.open_logs() {
            log.closed.store(true, Ordering::Release);
            drop(log.lock_writer());
        }
        self.stop_threads();
    }
}

/// Topic and partition of a directory name; `None` when it is no log's.
fn parse_name(name: &str) -> Option<(String, PartitionIndex)> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let (topic, partition) = name.rsplit_once('-')?;
    let digits = !partition.is_empty() && partition.bytes().all(|b| b.is_ascii_digit());
    let plain = !topic.is_empty() && topic != "." && topic != "..";
    if !digits || !plain || !name.bytes().all(legal) || name.len() > LONGEST_NAME {
        return None;
    }
    Some((
        topic.to_owned(),
        PartitionIndex::new(partition.parse().ok()?),
    ))
}

/// Proves that a positional write shows in a mapping.
fn check_coherence(fs: &dyn Fs, dir: &Path) -> Result<(), StorageError> {
    let path = dir.join(".coherence.tmp");
    let io = |error| StorageError::io("probe", &path, &error);
    let file = fs.open(&path, OpenHow::Create).map_err(io)?;
    let end = Arc::new(PublishedEnd::default());
    let region = file.map(8192, end.clone()).map_err(io)?;
    let page: Vec<u8> = (0..4096u32).map(|n| (n % 251) as u8).collect();
    let mut same = true;
    for at in [0, 4096] {
        write_all_at(&*file, &page, at as u64).map_err(io)?;
        end.publish(at as u64 + 4096);
        same &= region.slice(at..at + 4096) == page;
    }
    drop(region);
    fs.remove_file(&path).map_err(io)?;
    if same {
        Ok(())
    } else {
        Err(StorageError::IncoherentMapping {
            path: dir.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_at_the_last_dash() {
        let parsed = |name| parse_name(name).map(|(topic, n)| (topic, n.value()));
        assert_eq!(parsed("a-b-12"), Some(("a-b".into(), 12)));
        for bad in [
            "a",
            "a-",
            "-1",
            "a-x",
            "..-1",
            "a/b-1",
            "a b-1",
            "a-99999999999",
            "t-0.x-delete",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
