//! What a classic group has to say about its offsets (coordination.md §3).

use std::collections::BTreeSet;

use palisade_protocol::Str;
use palisade_protocol::types::TimestampMs;

use super::{CONSUMER, ClassicGroup, Effects, State, topics_of_subscription};
use crate::group::error::GroupError;

/// From when the retention of a group's offsets counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ExpiryBase {
    /// Nothing expires at present.
    Never,
    /// From each commit on.
    Commit,
    /// From when the group lost its last member.
    Instant(TimestampMs),
}

impl ClassicGroup {
    /// Whether a commit may be made in this state by this member, and what it refreshes.
    ///
    /// # Errors
    /// `UnknownMember`, `FencedInstanceId`, `IllegalGeneration`, `RebalanceInProgress`.
    pub(crate) fn commit(
        &self,
        member: &Str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<Effects, GroupError> {
        let mut fx = Effects::default();
        if generation < 0 && self.is_empty() {
            return Ok(fx);
        }
        if generation < 0 && member.is_empty() && instance.is_none() {
            // Who is no member may not move the offsets of those who are.
            return Err(GroupError::UnknownMember);
        }
        self.check_member(member, instance)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if self.state == State::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        self.touch(member, &mut fx);
        Ok(fx)
    }

    /// The topics that members subscribe to; none when it cannot be told.
    fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type() != CONSUMER {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol.as_ref());
            topics.extend(topics_of_subscription(&metadata)?);
        }
        Some(topics)
    }

    /// Checks that offsets may be deleted, and says which topics are in use.
    ///
    /// # Errors
    /// `NonEmptyGroup` for a group whose members do not say what they consume.
    pub(crate) fn topics_in_use(&self) -> Result<InUse, GroupError> {
        if self.is_empty() {
            return Ok(InUse::Topics(BTreeSet::new()));
        }
        if self.protocol_type() != CONSUMER {
            return Err(GroupError::NonEmptyGroup);
        }
        Ok(self.subscribed_topics().map_or(InUse::All, InUse::Topics))
    }

    /// How the group's offsets expire, and which topics are spared.
    pub(crate) fn expiry(&self) -> (ExpiryBase, InUse) {
        let none = || InUse::Topics(BTreeSet::new());
        if self.protocol_type.is_none() {
            return (ExpiryBase::Commit, none());
        }
        match self.state {
            State::Empty if self.since == TimestampMs::NONE => (ExpiryBase::Commit, none()),
            State::Empty => (ExpiryBase::Instant(self.since), none()),
            State::Stable => match self.subscribed_topics() {
                Some(topics) => (ExpiryBase::Commit, InUse::Topics(topics)),
                None => (ExpiryBase::Never, InUse::All),
            },
            State::PreparingRebalance | State::CompletingRebalance => {
                (ExpiryBase::Never, InUse::All)
            }
        }
    }
}

/// Topics that a group's members consume.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum InUse {
    /// It cannot be told: any of them.
    All,
    /// These.
    Topics(BTreeSet<String>),
}

impl InUse {
    /// Whether the topic may be consumed.
    pub(crate) fn contains(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Topics(topics) => topics.contains(topic),
        }
    }
}
