//! Where messages to other members of the group leave.
//!
//! A group of one sends none. Links between nodes come with replication; they will carry each
//! field in our own codec, and the engine needs no more of them than this trait.

use raft::eraftpb::Message;

/// Takes messages of the engine, in order, without waiting.
pub trait Outbox: Send {
    /// Sends a message to `message.to`, or drops it: raft repeats what matters.
    fn send(&mut self, message: Message);
}

/// The outbox of a group that has no other member.
#[derive(Debug, Default)]
pub struct NoPeers;

impl Outbox for NoPeers {
    fn send(&mut self, message: Message) {
        // A group of one has nobody to send to: a message here is a broken invariant, and going
        // on would mean that the members on disk are not those that raft counts.
        panic!(
            "raft message to node {}, but the group has no other member",
            message.to
        );
    }
}
