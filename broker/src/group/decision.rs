//! What an engine decides: records to append, the answer for when they are safe, and timers.

use std::time::Duration;

use palisade_protocol::Str;

use super::error::GroupError;
use super::record::GroupRecord;

/// The outcome of one event, decided against the state and changing none of it.
///
/// The records are appended and replayed into the state together; the answer leaves once the high
/// watermark has passed them and everything that was decided before.
#[derive(Debug)]
pub(crate) struct Decision<T> {
    /// To append, in order; all or none.
    pub(crate) records: Vec<GroupRecord>,
    /// For who asked.
    pub(crate) answer: Result<T, GroupError>,
    /// Timers to set and cancel when the records are appended.
    pub(crate) timers: Vec<TimerChange>,
}

impl<T> Decision<T> {
    /// An answer that changes nothing.
    pub(crate) fn answer(answer: T) -> Self {
        Self {
            records: Vec::new(),
            answer: Ok(answer),
            timers: Vec::new(),
        }
    }

    /// A refusal that changes nothing.
    pub(crate) fn refuse(error: GroupError) -> Self {
        Self {
            records: Vec::new(),
            answer: Err(error),
            timers: Vec::new(),
        }
    }
}

/// What becomes of a timer; setting one that runs starts it anew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum TimerChange {
    /// It goes off `after` from now, once.
    Set {
        /// Which.
        key: TimerKey,
        /// How long from now.
        after: Duration,
    },
    /// It does not go off.
    Cancel {
        /// Which.
        key: TimerKey,
    },
}

/// A timer by what it is for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum TimerKey {
    /// A member was silent for its session timeout.
    Session {
        /// The group.
        group: Str,
        /// The member.
        member: Str,
    },
    /// A member of a consumer group did not give up its partitions in time.
    Rebalance {
        /// The group.
        group: Str,
        /// The member.
        member: Str,
    },
    /// A classic member of a consumer group did not ask for its assignment in time.
    MemberSync {
        /// The group.
        group: Str,
        /// The member.
        member: Str,
    },
    /// A member id was handed out and not used (KIP-394).
    Pending {
        /// The group.
        group: Str,
        /// The member id.
        member: Str,
    },
    /// The join phase of a classic group is over.
    Join {
        /// The group.
        group: Str,
    },
    /// Members of a classic group should have asked for their assignment.
    Sync {
        /// The group.
        group: Str,
    },
}

impl TimerKey {
    /// The group it is of.
    pub(crate) fn group(&self) -> &Str {
        match self {
            Self::Session { group, .. }
            | Self::Rebalance { group, .. }
            | Self::MemberSync { group, .. }
            | Self::Pending { group, .. }
            | Self::Join { group }
            | Self::Sync { group } => group,
        }
    }
}
