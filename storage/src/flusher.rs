//! The flusher: one thread per directory that syncs dirty logs in rounds (group commit).
//!
//! Appends register their log in the line of who asked for them. A round takes one log of each line
//! in turn, [`ROUND`] at most; what registers meanwhile waits for the next one. So whoever waits
//! for few logs waits for the present round and as few of each other line, however long those are.
//! A log may stand in several lines: the first whose turn comes has it synced for all, and those
//! whose turns come in the same round have had theirs with that.
//!
//! A log's end is read before its sync starts and published after it, so bytes that arrive during
//! the sync are never called durable by it.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::log::Log;

/// Logs that a round syncs at most.
const ROUND: usize = 64;
/// Rounds of more logs than this start writeback on all of them before the first sync.
const FEW: usize = 4;

/// Who asks for a sync: all logs that one of them waits for stand in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asker(u64);

impl Asker {
    /// In [`Log::queued`]: nobody has asked.
    pub(crate) const NOBODY: u64 = 0;
    /// The process itself.
    pub const NODE: Self = Self(1);
    /// The time that a flush policy gives.
    pub(crate) const TIMER: Self = Self(2);

    /// The same for equal users, and for no two others but by a rare chance, who then share a line.
    pub fn user(user: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        user.hash(&mut hasher);
        Self(hasher.finish().max(3))
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// Logs waiting for the flusher.
#[derive(Debug, Default)]
pub(crate) struct FlushQueue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The logs of each asker that has some, in the order in which they were asked for.
    lines: HashMap<Asker, VecDeque<Arc<Log>>>,
    /// Whose turn it is; who has a line stands here once.
    turns: VecDeque<Asker>,
    /// Which logs stand in which lines, by their addresses.
    standing: HashSet<(Asker, usize)>,
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
    /// Registers a log in the line of `asker`, where it stands once.
    pub(crate) fn push(&self, log: Arc<Log>, asker: Asker) {
        let mut state = self.state.lock();
        if !state.stopping {
            state.enter(log, asker);
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
            state.turns.clear();
            state.standing.clear();
            (
                std::mem::take(&mut state.lines),
                std::mem::take(&mut state.writeback),
            )
        };
        self.arrived.notify_all();
        drop(dropped);
    }
}

impl State {
    fn enter(&mut self, log: Arc<Log>, asker: Asker) {
        if !self.standing.insert((asker, address(&log))) {
            return;
        }
        let line = self.lines.entry(asker).or_default();
        if line.is_empty() {
            self.turns.push_back(asker);
        }
        line.push_back(log);
    }

    fn take(&mut self) -> Option<Round> {
        if self.turns.is_empty() && self.writeback.is_empty() {
            return None;
        }
        let mut sync = Vec::new();
        let mut taken = HashSet::new();
        while sync.len() < ROUND
            && let Some(asker) = self.turns.pop_front()
        {
            let Some(line) = self.lines.get_mut(&asker) else {
                continue;
            };
            if let Some(log) = line.pop_front() {
                self.standing.remove(&(asker, address(&log)));
                // Its one sync reads the end after all of these turns: nobody needs another.
                if taken.insert(address(&log)) {
                    sync.push(log);
                }
            }
            if line.is_empty() {
                self.lines.remove(&asker);
            } else {
                self.turns.push_back(asker);
            }
        }
        let writeback = std::mem::take(&mut self.writeback);
        Some(Round { sync, writeback })
    }
}

/// Tells logs apart for as long as they stand in a line.
fn address(log: &Arc<Log>) -> usize {
    Arc::as_ptr(log).addr()
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

#[cfg(test)]
mod tests;
