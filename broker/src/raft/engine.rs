//! The library driven by hand: each ready becomes writes, sends and applied entries, in the one
//! order that is safe (reliability.md §8).
//!
//! 1. messages that may leave at once leave;
//! 2. entries and hard state are written and synced;
//! 3. only then the messages that promise them leave, and the library learns of it;
//! 4. committed entries are applied, what waits for them is answered;
//! 5. when the log has grown, hard state (with the commit index), snapshot and cut, in this order.
//!
//! The engine has no clock and no thread: `now` is an argument, [`super::node`] runs it.

use std::path::Path;
use std::sync::Arc;

use palisade_protocol::types::{BrokerId, TimestampMs};
use palisade_storage::fs::Fs;
use raft::eraftpb::{ConfState, Entry, Message};
use raft::{Config, RawNode, ReadOnlyOption, Ready, StateRole};

use super::command::{Machine, Proposer, RoleChange};
use super::hard_state::{HardState, HardStateFile};
use super::log::{EntryLog, RaftStorage};
use super::snapshot::{Snapshot, SnapshotFile};
use super::transport::Outbox;
use super::{RaftError, broker_of, logging, raft_id};

/// Ticks of a follower's patience; with a tick of 100 ms one to two seconds, as Kafka's default.
const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 2;

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// This node.
    pub node_id: BrokerId,
    /// Members of a group that does not exist yet; of no effect where one is on disk.
    pub initial_voters: Vec<BrokerId>,
    /// Bytes of applied entries after which a snapshot is taken
    /// (`metadata.log.max.record.bytes.between.snapshots`).
    pub snapshot_bytes: u64,
}

/// Where a group's small files are.
#[derive(Debug)]
pub struct EngineFiles {
    hard_state: HardStateFile,
    snapshot: SnapshotFile,
}

/// What the small files said at start, before the log is opened behind the snapshot.
#[derive(Debug)]
pub struct Recovered {
    hard_state: Option<HardState>,
    snapshot: Option<Snapshot>,
}

impl EngineFiles {
    /// Names the files in a directory.
    #[must_use]
    pub fn new(fs: &Arc<dyn Fs>, directory: &Path) -> EngineFiles {
        EngineFiles {
            hard_state: HardStateFile::new(Arc::clone(fs), directory),
            snapshot: SnapshotFile::new(Arc::clone(fs), directory),
        }
    }

    /// Reads both files.
    ///
    /// # Errors
    /// `Storage`, `Codec` for files that do not read.
    pub fn recover(&self) -> Result<Recovered, RaftError> {
        Ok(Recovered {
            hard_state: self.hard_state.read()?,
            snapshot: self.snapshot.read()?,
        })
    }
}

impl Recovered {
    /// Whether neither file is there: a group that has not begun, or one that was lost.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.hard_state.is_none() && self.snapshot.is_none()
    }

    /// Latest term this node has entered; `None` without a hard state.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        self.hard_state.map(|state| state.term)
    }

    /// Index and term that the log begins behind.
    #[must_use]
    pub fn log_starts_behind(&self) -> (u64, u64) {
        self.snapshot
            .as_ref()
            .map_or((0, 0), |snapshot| (snapshot.index, snapshot.term))
    }
}

/// A member of the group, and the machine it replicates into.
pub struct Engine<M: Machine> {
    raft: RawNode<RaftStorage>,
    machine: M,
    files: EngineFiles,
    outbox: Box<dyn Outbox>,
    /// As it is on disk.
    hard_state: HardState,
    /// A ready that could not be written yet: the library must not be touched before it is.
    pending: Option<Ready>,
    applied: u64,
    applied_term: u64,
    bytes_since_snapshot: u64,
    snapshot_bytes: u64,
    role: Option<RoleChange>,
}

impl<M: Machine> Engine<M> {
    /// Restores the machine from the snapshot and makes the member; nothing is elected yet.
    ///
    /// # Errors
    /// `Incomplete` where a part is missing, `LostEntries` where the log lost committed ones,
    /// those of files and log, and `Machine` for a snapshot the machine refuses.
    pub fn open(
        options: &EngineOptions,
        files: EngineFiles,
        recovered: Recovered,
        log: Box<dyn EntryLog>,
        outbox: Box<dyn Outbox>,
        mut machine: M,
    ) -> Result<Engine<M>, RaftError> {
        let (hard_state, snapshot) = complete(options, &files, recovered, &*log)?;
        if snapshot.index > 0 {
            machine
                .restore(snapshot.index, snapshot.term, &snapshot.state)
                .map_err(|source| RaftError::Machine {
                    index: snapshot.index,
                    source,
                })?;
        }
        let members = ConfState {
            voters: snapshot.voters,
            learners: snapshot.learners,
            ..ConfState::default()
        };
        let config = library_config(options, snapshot.index)?;
        let storage = RaftStorage::new(log, hard_state, members);
        Ok(Engine {
            raft: RawNode::new(&config, storage, &logging::logger())?,
            machine,
            files,
            outbox,
            hard_state,
            pending: None,
            applied: snapshot.index,
            applied_term: snapshot.term,
            bytes_since_snapshot: 0,
            snapshot_bytes: options.snapshot_bytes,
            role: None,
        })
    }

    /// Stands for election at once where nobody else votes: there is no leader to wait for.
    ///
    /// # Errors
    /// `Library`.
    pub fn campaign_if_sole(&mut self) -> Result<(), RaftError> {
        if self.raft.store().conf_state().voters == [self.raft.raft.id] {
            self.raft.campaign()?;
        }
        Ok(())
    }

    /// Lets a tick of time pass.
    pub fn tick(&mut self) {
        self.raft.tick();
    }

    /// Takes a message of another member.
    pub fn step(&mut self, message: Message) {
        // A stale or foreign message is refused by the library; raft repeats what matters.
        if let Err(error) = self.raft.step(message) {
            tracing::debug!(%error, "raft message refused");
        }
    }

    /// Lets the machine deal with a request of this node.
    pub fn handle(&mut self, request: M::Request) {
        self.machine
            .handle(request, &mut Proposer::new(&mut self.raft));
    }

    /// Whether a ready waits to be written: nothing may go in before [`Self::drive`] succeeds.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.pending.is_some()
    }

    /// Does everything there is to do now.
    ///
    /// # Errors
    /// A full disk leaves the engine blocked: call again. After any other error it must stop.
    pub fn drive(&mut self, now: TimestampMs) -> Result<(), RaftError> {
        loop {
            let mut ready = match self.pending.take() {
                Some(ready) => ready,
                None if self.raft.has_ready() => self.raft.ready(),
                None => return Ok(()),
            };
            self.send(ready.take_messages());
            assert!(
                ready.snapshot().is_empty(),
                "no other member can have sent a snapshot"
            );
            if let Err(error) = self.persist(&ready, now) {
                self.pending = Some(ready);
                return Err(error);
            }
            self.send(ready.take_persisted_messages());
            let committed = ready.take_committed_entries();
            let mut light = self.raft.advance_append(ready);
            self.note_role();
            let before = self.applied;
            self.apply(&committed)?;
            self.send(light.take_messages());
            self.apply(&light.take_committed_entries())?;
            self.raft.advance_apply();
            if self.applied > before {
                self.machine.applied(&mut Proposer::new(&mut self.raft));
                self.snapshot_if_due()?;
            }
        }
    }

    /// Writes what a clean stop writes: the commit index, so that a start applies at once.
    ///
    /// # Errors
    /// Those of the file; nothing is lost then.
    pub fn close(&mut self) -> Result<(), RaftError> {
        self.write_hard_state(HardState {
            commit: self.applied,
            ..self.hard_state
        })
    }

    /// Takes a snapshot now and shortens the log.
    ///
    /// # Errors
    /// Those of files and log; a snapshot that failed leaves the old one in place.
    pub fn take_snapshot(&mut self) -> Result<(), RaftError> {
        // The commit index goes first: applied state above the commit index on disk cannot start.
        self.write_hard_state(HardState {
            commit: self.applied,
            ..self.hard_state
        })?;
        let members = self.raft.store().conf_state();
        self.files.snapshot.write(&Snapshot {
            index: self.applied,
            term: self.applied_term,
            voters: members.voters.clone(),
            learners: members.learners.clone(),
            state: self.machine.snapshot(),
        })?;
        self.bytes_since_snapshot = 0;
        self.raft
            .mut_store()
            .discard_through(self.applied, self.applied_term)
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Lets a test play the library's part towards a machine.
    #[cfg(test)]
    pub(crate) fn with_proposer<T>(&mut self, play: impl FnOnce(&mut Proposer<'_>) -> T) -> T {
        play(&mut Proposer::new(&mut self.raft))
    }

    /// Lets a test play the library's part towards this machine.
    #[cfg(test)]
    pub(crate) fn with_machine<T>(
        &mut self,
        play: impl FnOnce(&mut M, &mut Proposer<'_>) -> T,
    ) -> T {
        play(&mut self.machine, &mut Proposer::new(&mut self.raft))
    }

    /// The library's state, for status reports.
    #[must_use]
    pub fn raft(&self) -> &RawNode<RaftStorage> {
        &self.raft
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.outbox.send(message);
        }
    }

    fn persist(&mut self, ready: &Ready, now: TimestampMs) -> Result<(), RaftError> {
        if let Some(state) = ready.hs()
            && (state.term, state.vote) != (self.hard_state.term, self.hard_state.vote)
        {
            // The commit index of the library may cover entries that are not written yet.
            let commit = self.hard_state.commit;
            self.write_hard_state(HardState {
                term: state.term,
                vote: state.vote,
                commit,
            })?;
        }
        self.raft.mut_store().persist(ready.entries(), now)
    }

    fn write_hard_state(&mut self, state: HardState) -> Result<(), RaftError> {
        assert!(state.term >= self.hard_state.term, "a term never goes back");
        assert!(
            state.commit >= self.hard_state.commit,
            "a commit index never goes back"
        );
        if state != self.hard_state {
            self.files.hard_state.write(state)?;
            self.hard_state = state;
        }
        Ok(())
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<(), RaftError> {
        for entry in entries {
            assert_eq!(
                entry.index,
                self.applied + 1,
                "entries are applied without gaps"
            );
            self.machine
                .apply(entry.index, entry.term, &entry.data)
                .map_err(|source| RaftError::Machine {
                    index: entry.index,
                    source,
                })?;
            self.applied = entry.index;
            self.applied_term = entry.term;
            self.bytes_since_snapshot += entry.data.len() as u64;
        }
        Ok(())
    }

    fn note_role(&mut self) {
        let raft = &self.raft.raft;
        let role = RoleChange {
            leader: broker_of(raft.leader_id),
            term: raft.term,
            is_leader: raft.state == StateRole::Leader,
        };
        if self.role != Some(role) {
            self.role = Some(role);
            self.machine.role_changed(role);
        }
    }

    fn snapshot_if_due(&mut self) -> Result<(), RaftError> {
        if self.bytes_since_snapshot < self.snapshot_bytes {
            return Ok(());
        }
        match self.take_snapshot() {
            // A snapshot only saves space and time: without room for it, the log simply grows.
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "no metadata snapshot");
                self.bytes_since_snapshot = self.snapshot_bytes / 2;
                Ok(())
            }
            other => other,
        }
    }
}

/// What to begin with: as it was found, or as a group that is new begins.
///
/// # Errors
/// `Incomplete` where a part is missing, `LostEntries` where the log lost committed ones, and that
/// of writing the first snapshot.
fn complete(
    options: &EngineOptions,
    files: &EngineFiles,
    recovered: Recovered,
    log: &dyn EntryLog,
) -> Result<(HardState, Snapshot), RaftError> {
    let Recovered {
        hard_state,
        snapshot,
    } = recovered;
    let log_is_empty = log.last_index() < log.first_index();
    let snapshot = match snapshot {
        Some(snapshot) => snapshot,
        None if hard_state.is_some() || !log_is_empty => {
            return Err(RaftError::Incomplete("the file raft-snapshot"));
        }
        None => {
            let snapshot = Snapshot {
                index: 0,
                term: 0,
                voters: options
                    .initial_voters
                    .iter()
                    .copied()
                    .map(raft_id)
                    .collect(),
                learners: Vec::new(),
                state: Vec::new(),
            };
            files.snapshot.write(&snapshot)?;
            snapshot
        }
    };
    // The snapshot of a new group comes before its first hard state; without a hard state
    // nothing was voted for, so there can be no entry either.
    if hard_state.is_none() && (snapshot.index > 0 || !log_is_empty) {
        return Err(RaftError::Incomplete("the file raft-hard-state"));
    }
    let hard_state = hard_state.unwrap_or_default();
    let last = log.last_index();
    if hard_state.commit > last {
        return Err(RaftError::LostEntries {
            last,
            commit: hard_state.commit,
        });
    }
    Ok((hard_state, snapshot))
}

fn library_config(options: &EngineOptions, applied: u64) -> Result<Config, RaftError> {
    let config = Config {
        id: raft_id(options.node_id),
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        applied,
        max_size_per_msg: 1 << 20,
        max_inflight_msgs: 256,
        check_quorum: true,
        pre_vote: true,
        read_only_option: ReadOnlyOption::Safe,
        max_uncommitted_size: 64 << 20,
        max_committed_size_per_ready: 16 << 20,
        ..Config::default()
    };
    config.validate()?;
    Ok(config)
}

#[cfg(test)]
mod tests;
