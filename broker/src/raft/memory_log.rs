//! A raft log in memory: the double that engine and controller tests run on.
//!
//! It keeps apart what was appended and what was synced, so that a test can lose the difference.

use std::sync::Arc;

use palisade_protocol::types::TimestampMs;
use parking_lot::Mutex;

use super::RaftError;
use super::entry::LogEntry;
use super::log::EntryLog;

/// A log that several owners share, as a disk is shared by the lives of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryLog {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    before_first: (u64, u64),
    entries: Vec<LogEntry>,
    synced: usize,
}

impl MemoryLog {
    /// An empty log that starts at index 1.
    pub(crate) fn new() -> MemoryLog {
        MemoryLog::default()
    }

    /// Loses what was not synced, as a power cut does.
    pub(crate) fn crash(&self) {
        let mut state = self.state.lock();
        let synced = state.synced;
        state.entries.truncate(synced);
    }
}

impl State {
    fn position(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.before_first.0 + 1)?).ok()
    }
}

impl EntryLog for MemoryLog {
    fn first_index(&self) -> u64 {
        self.state.lock().before_first.0 + 1
    }

    fn last_index(&self) -> u64 {
        let state = self.state.lock();
        state.before_first.0 + state.entries.len() as u64
    }

    fn term(&self, index: u64) -> Option<u64> {
        let state = self.state.lock();
        if index == state.before_first.0 {
            return Some(state.before_first.1);
        }
        state
            .entries
            .get(state.position(index)?)
            .map(|entry| entry.term)
    }

    fn append(&mut self, entries: &[LogEntry], _now: TimestampMs) -> Result<(), RaftError> {
        let mut state = self.state.lock();
        for entry in entries {
            let at = state
                .position(entry.index)
                .filter(|at| *at <= state.entries.len());
            let expected = state.before_first.0 + state.entries.len() as u64 + 1;
            let at = at.ok_or(RaftError::Misplaced {
                expected,
                found: entry.index,
            })?;
            if state.entries.get(at) == Some(entry) {
                continue;
            }
            state.entries.truncate(at);
            state.synced = state.synced.min(at);
            state.entries.push(entry.clone());
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), RaftError> {
        let mut state = self.state.lock();
        state.synced = state.entries.len();
        Ok(())
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<LogEntry>, RaftError> {
        let state = self.state.lock();
        let mut bytes = 0_u64;
        let mut found = Vec::new();
        for entry in state
            .entries
            .iter()
            .filter(|entry| (low..high).contains(&entry.index))
        {
            bytes += entry.data.len() as u64;
            if !found.is_empty() && bytes > max_bytes {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn discard_through(&mut self, index: u64, term: u64) -> Result<(), RaftError> {
        let mut state = self.state.lock();
        state.entries.retain(|entry| entry.index > index);
        state.before_first = (index, term);
        state.synced = state.entries.len();
        Ok(())
    }
}
