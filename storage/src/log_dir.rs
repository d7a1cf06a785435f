//! A directory of logs, with its flusher thread and its disk thread.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};

use crate::config::{Background, LogConfig, LogDirOptions};
use crate::error::StorageError;
use crate::flusher::Asker;
use crate::fs::{Fs, OpenHow, read_all};
use crate::log::Log;
use crate::meta::{self, MetaProperties};
use crate::observer::LogObserver;
use crate::recovery::{self, METADATA_FILE, RecoveryReport};
use crate::shared::Shared;
use crate::types::{LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicId};

mod closing;
mod coherence;
mod deletion;
mod threads;

/// Longest directory name, as of most file systems.
const LONGEST_NAME: usize = 255;

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
    /// It holds bytes of records, or nobody could tell.
    pub has_records: bool,
    /// It is what a creation that was cut short leaves, and nothing else.
    pub is_half_made: bool,
}

/// Whether any segment of a log's directory has bytes; true where that cannot be seen.
fn has_records(fs: &dyn Fs, dir: &Path) -> bool {
    let Ok(entries) = fs.list(dir) else {
        return true;
    };
    entries
        .iter()
        .filter(|entry| entry.name.ends_with(".log") || entry.name.ends_with(".log.swap"))
        .any(|entry| {
            let size = fs
                .open(&dir.join(&entry.name), OpenHow::Read)
                .and_then(|file| file.size());
            !matches!(size, Ok(0))
        })
}

/// Names a log to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// Directory name, `<topic>-<partition>`.
    pub dir_name: String,
    /// Topic id; a directory with another one is refused.
    pub topic_id: TopicId,
    /// The partition's leader epoch by the metadata: a last batch above it that no other bears out
    /// is damage. `None` where that is not known, or may be an older one.
    pub leader_epoch: Option<LeaderEpoch>,
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
    background: Background,
    meta: Mutex<Option<MetaProperties>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Read while a log is opened; true once the directory is closed.
    closed: RwLock<bool>,
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

impl fmt::Debug for LogDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDir")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}

/// The directory that names `path`; a name alone is in the working directory.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// The process that holds a lock, as far as its file says so.
fn holder(fs: &dyn Fs, lock: &Path) -> Option<u32> {
    let file = fs.open(lock, OpenHow::Read).ok()?;
    let bytes = read_all(&*file, 32).ok()?;
    std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
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
            fs.sync_dir(parent_of(path)).map_err(io)?;
        }
        let lock_path = path.join(".lock");
        let lock = fs.lock(&lock_path).map_err(io)?;
        let Some(lock) = lock else {
            return Err(StorageError::Locked {
                path: path.to_owned(),
                pid: holder(&*fs, &lock_path),
            });
        };
        // What a killed process renamed last is read now, so it must not go away later.
        fs.sync_dir(path).map_err(io)?;
        let meta = MetaProperties::load(&*fs, path)?;
        if options.check_coherence {
            coherence::check(&*fs, path)?;
        }
        let background = options.background;
        let mut shared = Shared::open(fs, path.to_owned(), options)?;
        // From here on a stop is unclean until it has been a clean one.
        let clean_epoch = meta::take_clean(&*shared.fs, path)?;
        shared.was_clean = clean_epoch.is_some();
        let shared = Arc::new(shared);
        shared.space.check();
        if !shared.space.is_full() {
            shared.space.hold_ballast();
        }
        let dir = Self {
            shared,
            clean_epoch,
            background,
            meta: Mutex::new(meta),
            threads: Mutex::default(),
            closed: RwLock::default(),
            lock: Mutex::new(Some(lock)),
        };
        dir.resume_deletions()?;
        if background == Background::Threads {
            dir.start_threads().map_err(io)?;
        }
        Ok(dir)
    }

    /// What its logs have in common.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
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
    /// `MetaMismatch` when a different one is stored, `MetaMissing` when none is but the directory
    /// was used before; `DiskFull`, `Io`.
    pub fn set_meta(&self, meta: MetaProperties) -> Result<(), StorageError> {
        let mut stored = self.meta.lock();
        if let Some(stored) = &*stored {
            return meta.check(stored);
        }
        if let Some(example) = self.earlier_state()? {
            return Err(StorageError::MetaMissing {
                path: self.shared.path.clone(),
                example,
            });
        }
        meta.store(&*self.shared.fs, &self.shared.path)?;
        *stored = Some(meta);
        Ok(())
    }

    /// Name of something that only a node with an identity can have written here.
    fn earlier_state(&self) -> Result<Option<String>, StorageError> {
        let path = &self.shared.path;
        let entries = self.shared.fs.list(path);
        let entries = entries.map_err(|error| StorageError::io("list", path, &error))?;
        let names = entries.into_iter().map(|entry| (entry.is_dir, entry.name));
        Ok(names
            .filter(|(is_dir, name)| match is_dir {
                true => deletion::is_log_of_any_kind(name),
                false => name.ends_with("-checkpoint"),
            })
            .map(|(_, name)| name)
            .min())
    }

    /// Whether the checkpoints name a log of this topic id that had records, or deleted ones.
    pub fn remembers(&self, dir_name: &str, topic_id: TopicId) -> bool {
        let shared = &self.shared;
        [
            &shared.recovery_points,
            &shared.high_watermarks,
            &shared.log_starts,
        ]
        .iter()
        .any(|table| {
            table
                .get(dir_name, topic_id)
                .is_some_and(|at| at > Offset::ZERO)
        })
    }

    /// Warns of the checkpoints that are missing, with what follows from that. For a directory that
    /// has served records: before it does, all but the cleaner's are written once.
    pub fn report_missing_checkpoints(&self) {
        let shared = &self.shared;
        for table in [
            &shared.recovery_points,
            &shared.log_starts,
            &shared.high_watermarks,
        ] {
            table.report_missing();
        }
    }

    /// Broker epoch of the clean stop before this start; `None` after an unclean one, and at the
    /// first start.
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
                let dir = path.join(&entry.name);
                let topic_id = recovery::stored_topic_id(fs, &dir.join(METADATA_FILE));
                let topic_id = topic_id.ok().flatten();
                Some(FoundLog {
                    topic,
                    partition,
                    topic_id,
                    has_records: has_records(fs, &dir),
                    is_half_made: topic_id.is_none() && recovery::is_half_made(fs, &dir),
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
    /// - `RecordsGone`: synced records of the log are no longer there.
    /// - `BadName`, `Offline` (it is open already, or the directory is closed or offline).
    /// - `FormatTooNew`, `BadFile`, `DiskFull`, `Io`.
    pub fn open_log(
        &self,
        spec: LogSpec,
        config: LogConfig,
        observer: Arc<dyn LogObserver>,
        now: TimestampMs,
    ) -> Result<(Arc<Log>, RecoveryReport), StorageError> {
        self.open_log_synced_to(Offset::ZERO, spec, config, observer, now)
    }

    /// The same for a log whose owner knows that everything below `synced` was on stable storage:
    /// bad bytes there are damage and never a torn tail, however old the last checkpoint is.
    ///
    /// # Errors
    /// As those of [`LogDir::open_log`].
    pub fn open_log_synced_to(
        &self,
        synced: Offset,
        spec: LogSpec,
        config: LogConfig,
        observer: Arc<dyn LogObserver>,
        now: TimestampMs,
    ) -> Result<(Arc<Log>, RecoveryReport), StorageError> {
        if parse_name(&spec.dir_name).is_none() {
            return Err(StorageError::BadName(spec.dir_name));
        }
        // Held to the end: what recovery writes must not come behind the mark of a clean stop.
        let closed = self.closed.read();
        if *closed || self.shared.is_offline() || self.is_open(&spec.dir_name) {
            return Err(StorageError::Offline);
        }
        self.shared.note_now(now);
        let (log, report) = recovery::open_log(&self.shared, &spec, synced, config, observer, now)
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

    /// Does what is due at `now`: interval flushes, syncs that were put off, rolls by age, delayed
    /// removals, idle producers, the free space.
    ///
    /// Call it about once a second; the work itself runs on the directory's threads.
    pub fn tick(&self, now: TimestampMs) {
        let shared = &self.shared;
        shared.note_now(now);
        for log in shared.open_logs() {
            if log.is_failed() {
                continue;
            }
            if log.flush_is_due(now) || log.sync_put_off.load(Ordering::Acquire) {
                log.request_flush(log.log_end_offset(), Asker::TIMER);
            }
            if let Some(active) = log.roll_is_due(now) {
                log.queue_roll(active, now);
            }
        }
        let due = shared.graveyard.is_due(now);
        let check = shared.space.recheck_due(now);
        if due || check || shared.graveyard.has_left() {
            let shared = shared.clone();
            self.shared.disk.push(Box::new(move || {
                shared.graveyard.bury_left(&*shared.fs, &shared.path);
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

    #[test]
    fn a_directory_named_by_one_word_is_in_the_working_directory() {
        let of = |path| parent_of(Path::new(path)).to_str().unwrap();
        assert_eq!(
            ["data", "a/data", "/data", "/"].map(of),
            [".", "a", "/", "/"]
        );
    }
}
