//! The flusher thread and the disk thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::LogDir;
use crate::disk::Job;
use crate::error::StorageError;
use crate::shared::Shared;

impl LogDir {
    /// Does all waiting work of the two threads on the caller's; for `Background::Manual`.
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

    pub(super) fn start_threads(&self) -> std::io::Result<()> {
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

    pub(super) fn stop_threads(&self) {
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
