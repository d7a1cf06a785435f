//! Helper threads that bring cold record bytes into memory before a connection sends them.
//!
//! Touching a page that is not resident would stop a whole worker for the length of a disk read.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use palisade_protocol::RecordSource;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// The outcome of one read; an error when the reading thread could not serve it.
pub(crate) type Populated = oneshot::Receiver<io::Result<()>>;

/// A few threads and one first-in-first-out line in front of them.
#[derive(Debug)]
pub(crate) struct PopulatePool {
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    max_threads: usize,
    closed: bool,
}

#[derive(Debug)]
struct Job {
    source: Arc<dyn RecordSource>,
    range: Range<usize>,
    done: oneshot::Sender<io::Result<()>>,
}

impl PopulatePool {
    /// A pool of at most `max_threads` threads, started when first needed.
    pub(crate) fn new(max_threads: usize) -> Self {
        PopulatePool {
            line: Arc::new(Line {
                state: Mutex::new(State {
                    jobs: VecDeque::new(),
                    threads: 0,
                    idle: 0,
                    max_threads: max_threads.max(1),
                    closed: false,
                }),
                filled: Condvar::new(),
            }),
        }
    }

    /// Reads `range` of `source` into memory on a helper thread.
    ///
    /// The line is bounded by its callers: a connection has at most two ranges in it.
    pub(crate) fn populate(&self, source: Arc<dyn RecordSource>, range: Range<usize>) -> Populated {
        let (done, populated) = oneshot::channel();
        let mut state = self.line.state.lock();
        state.jobs.push_back(Job {
            source,
            range,
            done,
        });
        if state.idle == 0 && state.threads < state.max_threads {
            let line = Arc::clone(&self.line);
            let thread = std::thread::Builder::new().name("populate".to_owned());
            match thread.spawn(move || line.work()) {
                Ok(_) => state.threads += 1,
                // With no thread at all nobody would ever answer: dropping the job is an answer.
                Err(_) if state.threads == 0 => state.jobs.clear(),
                Err(_) => {}
            }
        }
        drop(state);
        self.line.filled.notify_one();
        populated
    }
}

impl Drop for PopulatePool {
    fn drop(&mut self) {
        self.line.state.lock().closed = true;
        self.line.filled.notify_all();
    }
}

impl Line {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // A connection that is gone no longer cares.
                if !job.done.is_closed() {
                    let outcome = job.source.make_resident(job.range);
                    let _ = job.done.send(outcome);
                }
                state = self.state.lock();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                self.filled.wait(&mut state);
                state.idle -= 1;
            }
        }
    }
}
