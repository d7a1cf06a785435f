//! What goes into the engine, and what the engine asks of the machine it replicates into.

use palisade_protocol::types::BrokerId;
use raft::RawNode;
use raft::StateRole;
use raft::eraftpb::Message;
use thiserror::Error;

use super::broker_of;
use super::log::RaftStorage;

/// Why a machine cannot go on with what the log says.
pub type MachineError = Box<dyn std::error::Error + Send + Sync>;

/// One thing that happens to the raft thread.
#[derive(Debug)]
pub enum Input<R> {
    /// A caller on this node wants something of the machine.
    Request(R),
    /// Another node sent a message; already decoded by our own codec.
    Message(Box<Message>),
    /// Leave: write down what a clean stop writes.
    Stop,
}

/// What the group replicates into, on the raft thread.
pub trait Machine: Send + 'static {
    /// What callers on this node may ask.
    type Request: Send + 'static;

    /// Replaces all state by that of a snapshot.
    ///
    /// # Errors
    /// The bytes do not read as state; the engine then stops.
    fn restore(&mut self, index: u64, term: u64, snapshot: &[u8]) -> Result<(), MachineError>;

    /// All state as bytes, as of the last entry applied.
    fn snapshot(&self) -> Vec<u8>;

    /// Applies a committed entry; `data` is empty for the first entry of a leader's term.
    ///
    /// # Errors
    /// The entry does not fit the state; the engine then stops: state may be half applied.
    fn apply(&mut self, index: u64, term: u64, data: &[u8]) -> Result<(), MachineError>;

    /// Ends a run of entries: time to publish, and to answer those who waited for them.
    fn applied(&mut self, proposer: &mut Proposer<'_>);

    /// This node's part in the group changed.
    fn role_changed(&mut self, role: RoleChange);

    /// Deals with a request of this node.
    fn handle(&mut self, request: Self::Request, proposer: &mut Proposer<'_>);
}

/// This node's part in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleChange {
    /// The leader, as far as known.
    pub leader: Option<BrokerId>,
    /// Current term.
    pub term: u64,
    /// Whether that leader is this node.
    pub is_leader: bool,
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// This node does not lead.
    #[error("this node does not lead the metadata group")]
    NotLeader {
        /// Who does, as far as known.
        leader: Option<BrokerId>,
    },
    /// Too many bytes wait to be committed.
    #[error("too many bytes wait to be committed")]
    Full,
}

/// Lets a machine propose entries while it handles a request.
pub struct Proposer<'a> {
    raft: &'a mut RawNode<RaftStorage>,
}

impl<'a> Proposer<'a> {
    pub(super) fn new(raft: &'a mut RawNode<RaftStorage>) -> Proposer<'a> {
        Proposer { raft }
    }

    /// The index that the next accepted proposal gets, while this node leads.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.raft.raft.raft_log.last_index() + 1
    }

    /// Current term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.raft.raft.term
    }

    /// Proposes an entry; answers its index. It counts once it is applied with the current term.
    ///
    /// # Errors
    /// `NotLeader`, `Full`; nothing was proposed then.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<u64, ProposeError> {
        // A follower would pass the proposal on, and nobody here would learn its index.
        if self.raft.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeader {
                leader: broker_of(self.raft.raft.leader_id),
            });
        }
        let index = self.next_index();
        match self.raft.propose(Vec::new(), data) {
            Ok(()) => {
                assert_eq!(
                    self.raft.raft.raft_log.last_index(),
                    index,
                    "one proposal, one entry"
                );
                Ok(index)
            }
            Err(_) => Err(ProposeError::Full),
        }
    }
}
