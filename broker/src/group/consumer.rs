//! A consumer group (KIP-848): the broker assigns, members converge.
//!
//! A change of members or subscriptions raises the *group epoch*; the assignor computes a target
//! for it, the *assignment epoch*; each member moves there by itself, giving up partitions before
//! others get them, and its *member epoch* says how far it is. Every event is decided without
//! changing the group; the records of the decision change it in [`ConsumerGroup::replay`]. What a
//! restart may forget, when topics were last looked at, is kept beside ([`Remembered`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use palisade_auth::principal::Principal;
use palisade_protocol::Str;
use palisade_protocol::types::{Offset, TimestampMs, TopicId};

#[cfg(test)]
use super::budget::Part;
use super::budget::{Budget, Kept};
use super::config::ConsumerGroupConfig;
use super::partitions::PartitionSet;
use crate::metadata::ClusterImage;

mod classic_member;
mod convert;
mod decide;
mod describe;
mod growth;
mod heartbeat;
mod member;
mod names;
mod offsets;
mod pace;
mod patterns;
mod reconcile;
mod removal;
mod replay;
mod request;
mod subscription;
mod sum;
mod target;

#[cfg(test)]
mod tests;

pub(crate) use classic_member::{ClassicIdentity, ClassicJoined, plain_id};
pub(crate) use convert::{ClassicView, ClassicViewMember, Outlook};
pub(crate) use heartbeat::Heartbeat;
pub(crate) use member::{Member, MemberState};
pub(crate) use offsets::Committer;
use pace::Pace;
pub(crate) use patterns::Found;
pub(crate) use removal::Removed;
pub(crate) use request::check as check_request;
use subscription::Subscriptions;
use sum::KeptSum;

/// A consumer group.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    id: Str,
    epoch: i32,
    /// Over the topics subscribed to, as of `epoch`.
    metadata_hash: i64,
    target_epoch: i32,
    /// When the target was computed; 0 for never.
    target_timestamp: TimestampMs,
    members: Kept<Member>,
    /// Static members by instance id.
    instances: HashMap<Str, Str>,
    /// What each member is to own in the end.
    targets: HashMap<Str, PartitionSet>,
    /// Who owns a partition, or has not given it up yet.
    owners: HashMap<(TopicId, i32), Str>,
    /// Topics subscribed to by name, with the count of members that do.
    names: BTreeMap<Str, usize>,
    /// Expressions subscribed to, with the count of members that do.
    patterns: BTreeMap<Str, usize>,
    /// Topics of the expressions, as far as they were looked up.
    resolved: Kept<Resolved>,
    /// Those topics, with the count of expressions that stand for each.
    matched: BTreeMap<Str, usize>,
    /// Expressions whose topics are known and that nobody subscribes to.
    unused: BTreeSet<Str>,
    /// The number for all topics that are counted, as far as it is known.
    kept_sum: KeptSum,
    remembered: Remembered,
}

/// The topics of an expression.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Resolved {
    topics: BTreeSet<Str>,
    /// The metadata they were found in.
    version: Offset,
    /// When.
    timestamp: TimestampMs,
    /// For whom they are counted; no record says it.
    owner: Option<Principal>,
}

/// What a target is made for: an epoch, and the hash of the topics subscribed to.
type TargetOf = (i32, i64);

/// What need not outlive the process; forgetting it costs a look, not a decision.
#[derive(Debug, Default)]
struct Remembered {
    /// The metadata for which the hash was last seen to be right.
    checked: Option<Offset>,
    /// When a look-up of expressions began that has not ended.
    looking_up: Option<TimestampMs>,
    /// When expressions were last looked up, and in which metadata.
    looked_up: Option<(TimestampMs, Offset)>,
    /// Whether the look-up that goes on has found other topics than were known.
    found_changed: bool,
    /// Expressions whose topics the log did not take, with the time.
    not_stored: BTreeMap<Str, TimestampMs>,
    /// The last target that no batch would hold, and when it was made.
    too_large: Option<(TargetOf, TimestampMs)>,
    /// How long the assignor took last; it runs in decisions that come to nothing, too.
    pace: Pace,
    /// Classic members that were told to rejoin, and did not yet.
    asked_to_rejoin: BTreeSet<Str>,
}

/// The state of a group as tools show it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum GroupState {
    /// No members.
    Empty,
    /// The target is older than the group.
    Assigning,
    /// Some member is not where it is to be.
    Reconciling,
    /// Every member owns its target.
    Stable,
}

impl GroupState {
    /// Kafka's name of it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// What a decision may look at besides the group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    /// The time.
    pub(crate) now: TimestampMs,
    /// Settings of the group.
    pub(crate) config: &'a ConsumerGroupConfig,
    /// The cluster's topics.
    pub(crate) image: &'a ClusterImage,
    /// Bytes of the largest batch that the log takes.
    pub(crate) max_batch_bytes: usize,
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The name the client gave itself.
    pub(crate) id: Str,
    /// Its address, with a slash before it.
    pub(crate) host: Str,
    /// Who logged in: what the member keeps is counted for him.
    pub(crate) principal: Principal,
}

impl ConsumerGroup {
    /// A group that nobody has joined.
    pub(crate) fn new(id: Str) -> Self {
        Self {
            id,
            epoch: 1,
            metadata_hash: 0,
            target_epoch: 0,
            target_timestamp: TimestampMs::new(0),
            members: Kept::default(),
            instances: HashMap::new(),
            targets: HashMap::new(),
            owners: HashMap::new(),
            names: BTreeMap::new(),
            patterns: BTreeMap::new(),
            resolved: Kept::default(),
            matched: BTreeMap::new(),
            unused: BTreeSet::new(),
            kept_sum: KeptSum::default(),
            remembered: Remembered::default(),
        }
    }

    /// Bytes that its members keep, and the topics of their expressions.
    pub(crate) fn held(&self) -> usize {
        self.members.held() + self.resolved.held()
    }

    /// Topics that members subscribe to, and partitions that they own.
    pub(crate) fn topics_and_partitions(&self) -> usize {
        self.names.len() + self.matched.len() + self.owners.len()
    }

    /// Has a node's budget hear of those bytes.
    pub(crate) fn attach(&mut self, budget: &Arc<Budget>) {
        self.members.attach(budget);
        self.resolved.attach(budget);
    }

    /// The same bytes, weighed anew, and whose they are.
    #[cfg(test)]
    pub(crate) fn weighed_anew(&self) -> Vec<Part> {
        let mut parts = self.members.weighed_anew();
        parts.extend(self.resolved.weighed_anew());
        parts
    }

    /// Its epoch.
    #[cfg(test)]
    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Whether it has no members.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member by id.
    #[cfg(test)]
    pub(crate) fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    /// Every member, by id.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Its state.
    pub(crate) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.target_epoch {
            GroupState::Assigning
        } else if self
            .members()
            .any(|member| !member.is_at(self.target_epoch))
        {
            GroupState::Reconciling
        } else {
            GroupState::Stable
        }
    }

    /// The topics of an expression, as far as they are known.
    fn resolved_topics(&self, pattern: Option<&Str>) -> Option<&BTreeSet<Str>> {
        Some(&self.resolved.get(pattern?)?.topics)
    }
}
