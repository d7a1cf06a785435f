//! What an event of a classic group leads to.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use palisade_auth::principal::Principal;
use palisade_protocol::Str;

use crate::group::decision::{TimerChange, TimerKey};
use crate::group::error::GroupError;
use crate::group::record::GroupRecord;

/// A request that waits, by number.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Token(pub(crate) u64);

/// Everything that follows from one event.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Answers, in order.
    pub(crate) replies: Vec<Reply>,
    /// Timers to set and cancel.
    pub(crate) timers: Vec<TimerChange>,
    /// A record to append; its fate is told to [`super::ClassicGroup::stored`] before any other
    /// event of the group.
    pub(crate) store: Option<(GroupRecord, Then)>,
}

/// What becomes of a request that waits.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    /// A JoinGroup is answered.
    Join(Token, JoinAnswer),
    /// A SyncGroup is answered.
    Sync(Token, SyncAnswer),
    /// It is never answered: another request of the same member took its place, or the member left.
    Forget(Token),
}

/// What happens once a record is stored, or not.
#[derive(Debug)]
pub(crate) enum Then {
    /// The leader's assignment takes effect, and counts for the leader's principal.
    Assigned(BTreeMap<Str, Bytes>, Principal),
    /// A static member's new id takes effect, or its old one comes back.
    Replaced(Box<super::static_member::Replacement>),
    /// Nothing: the group is empty either way.
    Emptied,
}

/// The answer to a JoinGroup.
pub(crate) type JoinAnswer = Result<Joined, JoinRefused>;

/// The answer to a SyncGroup.
pub(crate) type SyncAnswer = Result<Synced, GroupError>;

/// A member of a generation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Joined {
    /// The generation.
    pub(crate) generation: i32,
    /// The group's protocol type.
    pub(crate) protocol_type: Option<Str>,
    /// The protocol chosen.
    pub(crate) protocol: Option<Str>,
    /// The leading member.
    pub(crate) leader: Str,
    /// The leader need not assign (KIP-814).
    pub(crate) skip_assignment: bool,
    /// The member itself.
    pub(crate) member_id: Str,
    /// All members, for the leader.
    pub(crate) members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JoinedMember {
    /// Its id.
    pub(crate) member_id: Str,
    /// Its instance id, of a static member.
    pub(crate) instance_id: Option<Str>,
    /// Its metadata for the protocol chosen.
    pub(crate) metadata: Bytes,
}

/// Why a JoinGroup is refused, and the member id beside the code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JoinRefused {
    /// Why.
    pub(crate) error: GroupError,
    /// The id to use from now on, or the one that was sent.
    pub(crate) member_id: Str,
}

/// What a member is to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Synced {
    /// The group's protocol type.
    pub(crate) protocol_type: Option<Str>,
    /// The protocol chosen.
    pub(crate) protocol: Option<Str>,
    /// The leader's words for the member.
    pub(crate) assignment: Bytes,
}

impl Effects {
    pub(super) fn refuse_join(&mut self, token: Token, error: GroupError, member_id: Str) {
        let refused = JoinRefused { error, member_id };
        self.replies.push(Reply::Join(token, Err(refused)));
    }

    pub(super) fn forget(&mut self, token: Option<Token>) {
        self.replies.extend(token.map(Reply::Forget));
    }

    pub(super) fn set(&mut self, key: TimerKey, after: Duration) {
        self.timers.push(TimerChange::Set { key, after });
    }

    pub(super) fn cancel(&mut self, key: TimerKey) {
        self.timers.push(TimerChange::Cancel { key });
    }
}
