//! The disk thread: jobs that may block, one after another.

use std::collections::VecDeque;
use std::fmt;

use parking_lot::{Condvar, Mutex};

/// A piece of work for the disk thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Jobs waiting for the disk thread, oldest first.
///
/// Nothing here bounds the queue; whoever adds to it does. A log has a few jobs at a time
/// (allocation, roll, one seal per rolled segment), and a roll waits for its turn before the next
/// can arise; so does a request with its cold read, its slow append or its deletion of records.
/// Retention adds a job per log and pass, and what is read ahead is bounded in bytes where it is
/// asked for.
#[derive(Default)]
pub(crate) struct JobQueue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    stopping: bool,
}

impl fmt::Debug for JobQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobQueue")
            .field("waiting", &self.state.lock().jobs.len())
            .finish()
    }
}

impl JobQueue {
    /// Adds a job; after `stop` it is dropped.
    pub(crate) fn push(&self, job: Job) {
        let mut state = self.state.lock();
        if !state.stopping {
            state.jobs.push_back(job);
            self.arrived.notify_one();
        }
    }

    /// The next job, waiting for one; `None` once stopped.
    pub(crate) fn wait(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.stopping {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            self.arrived.wait(&mut state);
        }
    }

    /// The next job, if there is one.
    pub(crate) fn poll(&self) -> Option<Job> {
        self.state.lock().jobs.pop_front()
    }

    /// Ends the thread after its present job; waiting jobs are dropped.
    pub(crate) fn stop(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.stopping = true;
            std::mem::take(&mut state.jobs)
        };
        self.arrived.notify_all();
        drop(dropped);
    }
}
