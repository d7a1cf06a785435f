//! Deleting whole logs: renamed first, removed in steps after that; and setting aside those that
//! nobody may delete.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{FoundLog, LogDir, parse_name};
use crate::error::StorageError;
use crate::failpoint;
use crate::graveyard::Grave;
use crate::log::Log;
use crate::types::{TimestampMs, TopicId};

/// Suffix of a deleted log's directory.
const DELETED: &str = "-delete";
/// Suffix of a log's directory that the metadata does not know, as Kafka names it.
const STRAY: &str = "-stray";

impl LogDir {
    /// Renames the log away, which deletes it, and removes its files on the disk thread.
    ///
    /// # Errors
    /// `Io`: the log is closed, but still there. Once it has its new name, [`LogDir::tick`] has the
    /// rest tried again.
    pub fn delete_log(&self, log: &Arc<Log>) -> Result<(), StorageError> {
        let _maintenance = log.maintenance.lock();
        log.closed.store(true, Ordering::Release);
        // Whoever holds one of these has finished when it is ours: nobody syncs a directory that is
        // not there any more.
        drop(log.syncing.lock());
        drop(log.lock_writer());
        self.shared.logs.lock().remove(&log.name);
        let segments = log.segments.load_full();
        let target = self.rename_away(&log.name, log.topic_id, DELETED)?;
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
        self.remove_renamed(graves, &target)
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
        let target = self.rename_away(dir_name, TopicId::NIL, DELETED)?;
        self.remove_renamed(Vec::new(), &target)
    }

    /// Removes a log that has its new name.
    fn remove_renamed(&self, graves: Vec<Grave>, target: &Path) -> Result<(), StorageError> {
        let removed = self.sync_names().and_then(|()| self.bury(graves, target));
        removed.inspect_err(|_| self.shared.graveyard.leave(target.to_owned()))
    }

    /// Renames a log that was found on disk and is not open, and keeps its files: no start looks
    /// at it again. Answers the new name.
    ///
    /// # Errors
    /// `Offline` when it is open; `BadName`, `Io`.
    pub fn set_aside(&self, found: &FoundLog) -> Result<String, StorageError> {
        let dir_name = &found.dir_name;
        if parse_name(dir_name).is_none() {
            return Err(StorageError::BadName(dir_name.clone()));
        }
        if self.is_open(dir_name) {
            return Err(StorageError::Offline);
        }
        let topic_id = found.topic_id.unwrap_or(TopicId::NIL);
        let target = self.rename_away(dir_name, topic_id, STRAY)?;
        self.sync_names()?;
        let name = target.file_name().and_then(|name| name.to_str());
        Ok(name.unwrap_or_default().to_owned())
    }

    /// Gives a log a name that no log has; whether that survives a crash, `sync_names` says.
    fn rename_away(
        &self,
        name: &str,
        topic_id: TopicId,
        suffix: &str,
    ) -> Result<PathBuf, StorageError> {
        let fs = &*self.shared.fs;
        let from = self.shared.path.join(name);
        let io = |error| self.shared.judge(StorageError::io("delete", &from, &error));
        // The name alone could pass the longest one, and a second deletion must not collide. Of a
        // long one the end of the topic is cut, and the partition stays.
        let mut count = 0;
        let (topic, partition) = name.rsplit_once('-').unwrap_or((name, "0"));
        let topic: String = topic.chars().take(200).collect();
        let target = loop {
            let candidate = self
                .shared
                .path
                .join(format!("{topic}-{partition}.{topic_id}.{count}{suffix}"));
            if !fs.exists(&candidate).map_err(io)? {
                break candidate;
            }
            count += 1;
        };
        failpoint::hit("delete.before_rename").map_err(io)?;
        fs.rename(&from, &target).map_err(io)?;
        // The name is free now: what is known of it must not become that of a new log.
        let shared = &self.shared;
        for table in [
            &shared.recovery_points,
            &shared.log_starts,
            &shared.high_watermarks,
            &shared.cleaner_points,
        ] {
            table.remove(name);
        }
        Ok(target)
    }

    fn sync_names(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        let io = |error| shared.judge(StorageError::io("delete", &shared.path, &error));
        failpoint::hit("delete.before_dir_sync").map_err(io)?;
        shared.fs.sync_dir(&shared.path).map_err(io)
    }

    /// Has the disk thread remove the graves, then what else is in `dir`, then `dir`.
    pub(super) fn bury(&self, graves: Vec<Grave>, dir: &Path) -> Result<(), StorageError> {
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
    pub(super) fn resume_deletions(&self) -> Result<(), StorageError> {
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
}

/// Whether a directory's name is that of a log, deleted and stray ones included.
pub(super) fn is_log_of_any_kind(name: &str) -> bool {
    parse_name(name).is_some() || name.ends_with(DELETED) || name.ends_with(STRAY)
}
