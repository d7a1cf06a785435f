//! The raft group that agrees on the cluster's metadata; on a single node a group of one.
//!
//! The library decides, this module does: [`engine`] turns each of its readies into writes, sends
//! and applies in the one order that is safe (reliability.md §8), [`node`] runs the engine on a
//! thread of its own, and the rest is what the engine writes to. What the group replicates into
//! is a [`Machine`], which knows nothing of terms but those it is told.
//!
//! | file or log | holds | written |
//! |---|---|---|
//! | `__cluster_metadata-0/` | entries, one batch each ([`entry`]) | before an entry counts |
//! | `raft-synced` | index of the last synced entry ([`disk_log`]) | after each sync of entries |
//! | `raft-hard-state` | term, vote, commit ([`hard_state`]) | when term or vote change, and with a snapshot |
//! | `raft-snapshot` | the machine at one index, and the group's members ([`snapshot`]) | when the log has grown |
//!
//! Nothing here parses foreign bytes with the library's own serialisation: its parser recurses
//! without bound. Messages between nodes will travel in our own codec too ([`transport`]).

pub mod codec;
pub mod command;
pub mod disk_log;
pub mod engine;
pub mod entry;
pub mod error;
pub mod hard_state;
pub mod log;
mod logging;
#[cfg(test)]
pub(crate) mod memory_log;
pub mod node;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
pub mod transport;

pub use command::{Machine, MachineError, ProposeError, Proposer, RoleChange};
pub use error::RaftError;
pub use node::{RaftNode, RaftStatus};

use palisade_protocol::types::{BrokerId, Uuid};

/// Topic id of the metadata log, as Kafka reserves it.
pub const METADATA_TOPIC_ID: Uuid =
    Uuid::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// Raft's id of a broker: raft keeps 0 for "nobody".
#[must_use]
pub fn raft_id(broker: BrokerId) -> u64 {
    u64::try_from(broker.value()).expect("node ids are not negative") + 1
}

/// The broker with a raft id; `None` for raft's "nobody".
#[must_use]
pub fn broker_of(raft_id: u64) -> Option<BrokerId> {
    raft_id
        .checked_sub(1)
        .and_then(|id| i32::try_from(id).ok())
        .map(BrokerId::new)
}
