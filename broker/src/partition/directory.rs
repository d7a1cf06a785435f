//! A log directory with what the broker knows about its speed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use palisade_storage::LogDir;
use tokio::sync::oneshot;

use super::error::PartitionError;
use super::opener::Opener;

/// A write that takes longer than this blocks its thread: the kernel throttles dirty pages.
const SLOW_WRITE: Duration = Duration::from_millis(5);

/// Bytes that may wait at once for the disk thread to read them ahead; past it reading ahead, which
/// only saves time, is left out. The thread has syncs of checkpoints and deletions to do too.
const READ_AHEAD_BYTES: usize = 8 << 20;

/// An open log directory and the helper threads of its partitions.
pub(crate) struct Directory {
    dir: Arc<LogDir>,
    opener: Arc<Opener>,
    slow: AtomicBool,
    /// Logs of partitions opened here, to spread new ones.
    logs: AtomicUsize,
    /// Bytes that the disk thread has yet to read ahead.
    reading_ahead: AtomicUsize,
}

impl Directory {
    /// Takes over an open directory; the node has one opener for all.
    pub(crate) fn new(dir: Arc<LogDir>, opener: Arc<Opener>) -> Directory {
        Directory {
            dir,
            opener,
            slow: AtomicBool::new(false),
            logs: AtomicUsize::new(0),
            reading_ahead: AtomicUsize::new(0),
        }
    }

    /// Runs `job`, which reads `bytes` ahead, on the disk thread, unless too much waits there.
    pub(crate) fn read_ahead(
        self: &Arc<Self>,
        bytes: usize,
        job: impl FnOnce() + Send + 'static,
    ) -> bool {
        let before = self.reading_ahead.fetch_add(bytes, Ordering::Relaxed);
        let pass = Ahead(Arc::clone(self), bytes);
        if before.saturating_add(bytes) > READ_AHEAD_BYTES {
            return false;
        }
        self.dir.spawn(move || {
            job();
            drop(pass);
        });
        true
    }

    /// The directory itself.
    pub(crate) fn storage(&self) -> &LogDir {
        &self.dir
    }

    /// Where compressed batches are opened.
    pub(crate) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// How many partitions live here.
    pub(crate) fn logs(&self) -> usize {
        self.logs.load(Ordering::Relaxed)
    }

    /// Counts a partition that was opened here.
    pub(crate) fn note_opened(&self) {
        self.logs.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a partition that was removed from here.
    pub(crate) fn note_removed(&self) {
        self.logs.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the last write took so long that the next one belongs to the disk thread.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// Notes how long a write took; a quick one brings appends back to their tasks.
    pub(crate) fn note_write(&self, took: Duration) {
        let slow = took > SLOW_WRITE;
        if slow != self.is_slow() {
            self.slow.store(slow, Ordering::Relaxed);
        }
    }

    /// Runs `job` on the disk thread and waits for its answer.
    ///
    /// The job runs to its end even if the caller goes away.
    ///
    /// # Errors
    /// `Offline` when the thread ended before it could answer.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PartitionError> {
        let (answer, answered) = oneshot::channel();
        self.dir.spawn(move || {
            // The caller may have gone; then nobody wants the answer.
            let _ = answer.send(job());
        });
        answered.await.map_err(|_| PartitionError::Offline)
    }
}

/// Bytes on their way; taken off the count when dropped, with its job or without.
struct Ahead(Arc<Directory>, usize);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.reading_ahead.fetch_sub(self.1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use palisade_storage::LogDirOptions;

    use super::*;

    #[test]
    fn reading_ahead_is_bounded() {
        let home = tempfile::tempdir().unwrap();
        let options = LogDirOptions {
            ballast_bytes: 0,
            ..LogDirOptions::default()
        };
        let fs = palisade_storage::fs::real();
        let dir = LogDir::open(&home.path().join("logs"), fs, options).unwrap();
        let directory = Arc::new(Directory::new(Arc::new(dir), Arc::new(Opener::new())));
        let (release, held) = mpsc::channel::<()>();
        // The thread is busy until it is told otherwise.
        assert!(directory.read_ahead(1 << 20, move || held.recv().unwrap()));
        let taken = (0..100)
            .filter(|_| directory.read_ahead(1 << 20, || ()))
            .count();
        assert_eq!(taken, 7);
        release.send(()).unwrap();
        let (done, all_done) = mpsc::channel();
        directory.storage().spawn(move || done.send(()).unwrap());
        all_done.recv().unwrap();
        assert!(directory.read_ahead(8 << 20, || ()), "all were given back");
    }
}
