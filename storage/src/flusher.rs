//! The flusher: one thread per directory that syncs all dirty logs in rounds (group commit).
//!
//! Appends register their log; a round takes all that are registered, and what registers meanwhile
//! waits for the next one. A log's end is read before its sync starts and published after it, so
//! bytes that arrive during the sync are never called durable by it.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::log::Log;

/// Rounds of more logs than this start writeback on all of them before the first sync.
const FEW: usize = 4;

/// Logs waiting for the flusher.
#[derive(Debug, Default)]
pub(crate) struct FlushQueue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    sync: Vec<Arc<Log>>,
    writeback: Vec<(Arc<Log>, u64, u64)>,
    stopping: bool,
}

/// Work of one round.
#[derive(Debug)]
pub(crate) struct Round {
    sync: Vec<Arc<Log>>,
    writeback: Vec<(Arc<Log>, u64, u64)>,
}

impl FlushQueue {
    /// Registers a log for the next round; the log sees to it that it is here once.
    pub(crate) fn push(&self, log: Arc<Log>) {
        let mut state = self.state.lock();
        if !state.stopping {
            state.sync.push(log);
            self.arrived.notify_one();
        }
    }

    /// Asks for writeback of a range of the log's active segment, without durability.
    pub(crate) fn push_writeback(&self, log: Arc<Log>, from: u64, to: u64) {
        let mut state = self.state.lock();
        if !state.stopping {
            state.writeback.push((log, from, to));
            self.arrived.notify_one();
        }
    }

    /// The next round, waiting for work; `None` once stopped.
    pub(crate) fn wait(&self) -> Option<Round> {
        let mut state = self.state.lock();
        loop {
            if state.stopping {
                return None;
            }
            if let Some(round) = state.take() {
                return Some(round);
            }
            self.arrived.wait(&mut state);
        }
    }

    /// The next round, if there is work.
    pub(crate) fn poll(&self) -> Option<Round> {
        self.state.lock().take()
    }

    /// Ends the thread after its present round.
    pub(crate) fn stop(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.stopping = true;
            (
                std::mem::take(&mut state.sync),
                std::mem::take(&mut state.writeback),
            )
        };
        self.arrived.notify_all();
        drop(dropped);
    }
}

impl State {
    fn take(&mut self) -> Option<Round> {
        if self.sync.is_empty() && self.writeback.is_empty() {
            return None;
        }
        let (sync, writeback) = (
            std::mem::take(&mut self.sync),
            std::mem::take(&mut self.writeback),
        );
        Some(Round { sync, writeback })
    }
}

impl Round {
    /// Syncs the logs of the round.
    pub(crate) fn run(self) {
        for (log, from, to) in self.writeback {
            log.start_writeback(from, to);
        }
        if self.sync.len() > FEW {
            // The disk then works on all files at once while the syncs wait one by one.
            self.sync.iter().for_each(|log| log.start_writeback(0, 0));
        }
        for log in self.sync {
            log.flush_registered();
        }
    }
}
