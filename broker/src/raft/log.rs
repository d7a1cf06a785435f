//! The raft log as the library reads it: a log of entries, with the newest kept in memory.

use std::collections::VecDeque;
use std::fmt::Debug;

use palisade_protocol::types::TimestampMs;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState as LibraryHardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError as LibraryStorageError};

use super::RaftError;
use super::entry::LogEntry;
use super::hard_state::HardState;

/// Bytes of entries kept in memory behind the last one: what is applied next is read from here.
const CACHE_BYTES: usize = 4 << 20;

/// A durable sequence of entries; the first may be any index above a snapshot's.
pub trait EntryLog: Send + Debug {
    /// Index of the first entry that can be read; one above the last where there is none.
    fn first_index(&self) -> u64;

    /// Index of the last entry; the one before the first where there is none.
    fn last_index(&self) -> u64;

    /// Term of an entry, from one before the first to the last.
    fn term(&self, index: u64) -> Option<u64>;

    /// Appends entries, after cutting off those they replace; not durable before [`Self::sync`].
    ///
    /// # Errors
    /// `Storage`; a prefix of the entries may be in the log, and offering all again is right.
    fn append(&mut self, entries: &[LogEntry], now: TimestampMs) -> Result<(), RaftError>;

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// `Storage`.
    fn sync(&mut self) -> Result<(), RaftError>;

    /// Reads entries from `low` to below `high`: at least one, then as many as fit in `max_bytes`.
    ///
    /// # Errors
    /// `Storage` and `Codec` for bytes that do not read.
    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<LogEntry>, RaftError>;

    /// Forgets entries up to `index`, of term `term`, which a durable snapshot covers.
    ///
    /// # Errors
    /// `Storage`; the entries are then still there, which is harmless.
    fn discard_through(&mut self, index: u64, term: u64) -> Result<(), RaftError>;
}

/// What the library reads: the log, the state it started from and the group's members.
#[derive(Debug)]
pub struct RaftStorage {
    log: Box<dyn EntryLog>,
    hard_state: HardState,
    conf_state: ConfState,
    cache: VecDeque<LogEntry>,
    cache_bytes: usize,
}

impl RaftStorage {
    /// Puts the parts together, as they were read from disk.
    #[must_use]
    pub fn new(
        log: Box<dyn EntryLog>,
        hard_state: HardState,
        conf_state: ConfState,
    ) -> RaftStorage {
        RaftStorage {
            log,
            hard_state,
            conf_state,
            cache: VecDeque::new(),
            cache_bytes: 0,
        }
    }

    /// The members of the group as of the last change applied.
    #[must_use]
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// Index of the last entry in the log.
    #[must_use]
    pub fn last_log_index(&self) -> u64 {
        self.log.last_index()
    }

    /// Term of an entry in the log.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.log.term(index)
    }

    /// Appends entries of the library and makes them durable.
    ///
    /// # Errors
    /// Those of the log; offering the same entries again is right.
    pub fn persist(&mut self, entries: &[Entry], now: TimestampMs) -> Result<(), RaftError> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let entries: Vec<LogEntry> = entries.iter().map(from_library).collect();
        while self
            .cache
            .back()
            .is_some_and(|cached| cached.index >= first.index)
        {
            let dropped = self.cache.pop_back().expect("the back was just seen");
            self.cache_bytes -= dropped.data.len();
        }
        self.log.append(&entries, now)?;
        self.log.sync()?;
        for entry in entries {
            self.cache_bytes += entry.data.len();
            self.cache.push_back(entry);
        }
        while self.cache_bytes > CACHE_BYTES && self.cache.len() > 1 {
            let dropped = self
                .cache
                .pop_front()
                .expect("more than one was just counted");
            self.cache_bytes -= dropped.data.len();
        }
        Ok(())
    }

    /// Forgets the entries that a durable snapshot covers.
    ///
    /// # Errors
    /// Those of the log.
    pub fn discard_through(&mut self, index: u64, term: u64) -> Result<(), RaftError> {
        while self
            .cache
            .front()
            .is_some_and(|cached| cached.index <= index)
        {
            let dropped = self.cache.pop_front().expect("the front was just seen");
            self.cache_bytes -= dropped.data.len();
        }
        self.log.discard_through(index, term)
    }

    fn cached(&self, low: u64, high: u64, max_bytes: u64) -> Option<Vec<Entry>> {
        let first = self.cache.front()?.index;
        let skip = usize::try_from(low.checked_sub(first)?).ok()?;
        let wanted = usize::try_from(high.saturating_sub(low)).ok()?;
        let mut entries = Vec::new();
        let mut bytes = 0_u64;
        for entry in self.cache.iter().skip(skip).take(wanted) {
            bytes = bytes.saturating_add(entry.data.len() as u64);
            if !entries.is_empty() && bytes > max_bytes {
                break;
            }
            entries.push(to_library(entry));
        }
        (!entries.is_empty()).then_some(entries)
    }
}

fn from_library(entry: &Entry) -> LogEntry {
    // Members do not change yet; an entry that says otherwise cannot come from this release.
    assert_eq!(
        entry.get_entry_type(),
        EntryType::EntryNormal,
        "only plain entries are proposed"
    );
    LogEntry {
        index: entry.index,
        term: entry.term,
        data: entry.data.clone(),
    }
}

fn to_library(entry: &LogEntry) -> Entry {
    Entry {
        index: entry.index,
        term: entry.term,
        data: entry.data.clone(),
        ..Entry::default()
    }
}

impl Storage for RaftStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let hard_state = LibraryHardState {
            term: self.hard_state.term,
            vote: self.hard_state.vote,
            commit: self.hard_state.commit,
            ..LibraryHardState::default()
        };
        Ok(RaftState::new(hard_state, self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.log.first_index() {
            return Err(LibraryStorageError::Compacted.into());
        }
        assert!(
            high <= self.log.last_index() + 1,
            "entries up to {high} are not there"
        );
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        if let Some(entries) = self.cached(low, high, max_bytes) {
            return Ok(entries);
        }
        let entries = self
            .log
            .entries(low, high, max_bytes)
            .map_err(|error| LibraryStorageError::Other(Box::new(error)))?;
        Ok(entries.iter().map(to_library).collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.log.term(index).ok_or_else(|| {
            if index < self.log.first_index() {
                LibraryStorageError::Compacted.into()
            } else {
                LibraryStorageError::Unavailable.into()
            }
        })
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.first_index())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.last_index())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Asked for only to bring a follower up. The links that would carry it come later, and the
        // library asks again after this answer.
        Err(LibraryStorageError::SnapshotTemporarilyUnavailable.into())
    }
}
