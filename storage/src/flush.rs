//! Bringing a log's bytes to stable storage.

use std::sync::atomic::Ordering;

use crate::config::FlushPolicy;
use crate::error::{SYNC_DIR, StorageError};
use crate::flusher::Asker;
use crate::log::Log;
use crate::types::{Offset, TimestampMs};

impl Log {
    /// Registers the log with the flusher, in the line of `asker`; the observer is told once `end`
    /// is durable.
    ///
    /// Under the policy `Ack` every append does this itself.
    pub fn request_flush(&self, end: Offset, asker: Asker) {
        if self.durable.load() >= end || self.is_failed() {
            return;
        }
        // Who was the last to ask has the log in his line, or in a round that has not come to it.
        if self.queued.swap(asker.number(), Ordering::AcqRel) != asker.number()
            && let Some(me) = self.me.upgrade()
        {
            self.shared.flusher.push(me, asker);
        }
    }

    /// The flusher's share of a round.
    pub(crate) fn flush_registered(&self) {
        // Before the end is read: whoever appends after this registers again.
        // A swap, so that the end is read after it and not before.
        self.queued.swap(Asker::NOBODY, Ordering::AcqRel);
        if self.is_failed() {
            return;
        }
        if let Err(error) = self.sync_appended()
            && self.shared.is_offline()
        {
            tracing::error!(log = %self.name, %error, "flush failed");
        }
    }

    /// Syncs everything appended so far; blocks. Answers the durable end.
    ///
    /// # Errors
    /// `Poisoned` or `Io`: the sync failed, now or before; nothing more is written to the log,
    /// unless it only found no file descriptor: then [`crate::LogDir::tick`] has it tried again.
    /// `Offline`: the log is closed.
    pub fn flush_blocking(&self) -> Result<Offset, StorageError> {
        self.sync_appended()
    }

    pub(crate) fn sync_appended(&self) -> Result<Offset, StorageError> {
        let durable = {
            let _syncing = self.syncing.lock();
            if self.shared.is_offline() {
                return Err(StorageError::Poisoned);
            }
            self.unflushed.store(0, Ordering::Relaxed);
            self.unflushed_since.store(i64::MAX, Ordering::Relaxed);
            // The end before the sync, the list after the end: it holds all bytes below the end.
            let end = self.end.load();
            let before = self.durable.load();
            if end <= before {
                return Ok(before);
            }
            // Under the lock: a deletion lets the sync in work end, and takes the names away then.
            self.check_writable()?;
            let hit = |name| crate::failpoint::hit(name).map_err(|error| self.sync_error(&error));
            hit("flusher.before_sync")
                .and_then(|()| self.sync_files(before))
                .and_then(|()| hit("flusher.after_sync"))
                .inspect_err(|error| self.not_synced(error))?;
            self.sync_put_off.store(false, Ordering::Release);
            self.durable.raise(end);
            end
        };
        self.observer.durable(durable);
        Ok(durable)
    }

    fn not_synced(&self, error: &StorageError) {
        if !error.is_unopened_dir() {
            // Final, whatever the reason: the kernel may have dropped the dirty pages.
            self.shared.go_offline(error);
        } else if !self.sync_put_off.swap(true, Ordering::AcqRel) {
            tracing::warn!(log = %self.name, %error, "sync put off");
        }
    }

    fn sync_error(&self, error: &std::io::Error) -> StorageError {
        StorageError::io("sync", &self.home.dir, error)
    }

    fn sync_files(&self, durable: Offset) -> Result<(), StorageError> {
        let segments = self.segments.load_full();
        let last = segments.len().saturating_sub(1);
        for (n, segment) in segments.iter().enumerate() {
            if segment.is_synced() || segment.tail().next < durable {
                continue;
            }
            if let Some(file) = segment.file() {
                file.sync().map_err(|error| self.sync_error(&error))?;
            }
            if segment.take_name_unsynced() {
                let synced = self.shared.fs.sync_dir(&self.home.dir);
                synced.map_err(|error| {
                    segment.set_name_unsynced();
                    StorageError::io(SYNC_DIR, &self.home.dir, &error)
                })?;
            }
            if n < last {
                // Rolled before the list was read: no byte can have come since.
                segment.set_synced();
            }
        }
        Ok(())
    }

    /// Starts writeback of a range of the active segment (all of it for an empty range).
    pub(crate) fn start_writeback(&self, from: u64, to: u64) {
        let segments = self.segments.load();
        if let Some(file) = segments.last().and_then(|segment| segment.file()) {
            // A hint: a failure shows in the next sync.
            let _ = file.start_writeback(from, to.saturating_sub(from));
        }
    }

    /// True when the policy asks for a sync at `now`.
    pub(crate) fn flush_is_due(&self, now: TimestampMs) -> bool {
        let FlushPolicy::Interval { ms, .. } = self.config.load().flush_policy else {
            return false;
        };
        let since = self.unflushed_since.load(Ordering::Relaxed);
        since != i64::MAX && now.value().saturating_sub(since) >= ms
    }
}

#[cfg(test)]
mod tests {
    use std::thread::yield_now;

    use super::*;
    use crate::testing::*;

    #[test]
    fn no_log_is_synced_while_it_is_deleted() {
        // Never written before a clean stop: its first sync syncs the names as well.
        let bench = Bench::new(small()).reopen(small());
        bench.put(batch(0, 1, 100, 0));
        std::thread::scope(|scope| {
            let in_work = bench.log.syncing.lock();
            let deletion = scope.spawn(|| bench.dir.delete_log(&bench.log));
            while !bench.log.is_failed() {
                yield_now();
            }
            // Time to take the name away, if it did not wait.
            let mut turns = 0..10_000;
            while !deletion.is_finished() && turns.next().is_some() {
                yield_now();
            }
            let synced = bench.log.sync_files(Offset::ZERO);
            drop(in_work);
            synced.unwrap();
            deletion.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_sync_that_comes_after_a_deletion_is_nobodys_failure() {
        let bench = Bench::new(small()).reopen(small());
        bench.put(batch(0, 1, 100, 0));
        bench.dir.delete_log(&bench.log).unwrap();
        let late = bench.log.sync_appended();
        assert!(matches!(late, Err(StorageError::Offline)), "{late:?}");
        assert!(!bench.dir.is_offline() && !*bench.ear.failed.lock());
    }
}
