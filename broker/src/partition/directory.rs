//! A log directory with what the broker knows about its speed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use palisade_storage::LogDir;
use tokio::sync::oneshot;

use super::error::PartitionError;

/// A write that takes longer than this blocks its thread: the kernel throttles dirty pages.
const SLOW_WRITE: Duration = Duration::from_millis(5);

/// An open log directory and its helper thread.
pub(crate) struct Directory {
    dir: Arc<LogDir>,
    slow: AtomicBool,
    /// Logs of partitions opened here, to spread new ones.
    logs: AtomicUsize,
}

impl Directory {
    /// Takes over an open directory.
    pub(crate) fn new(dir: Arc<LogDir>) -> Directory {
        Directory {
            dir,
            slow: AtomicBool::new(false),
            logs: AtomicUsize::new(0),
        }
    }

    /// The directory itself.
    pub(crate) fn storage(&self) -> &LogDir {
        &self.dir
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
