//! The classic group protocol (coordination.md §1): joins, generations, a leader that assigns.
//!
//! A pure engine: an event goes in, effects come out. Requests that must wait are tokens here;
//! whoever runs the engine knows whom each token stands for. Most of a rebalance is in memory
//! only, as in the original: what is stored is each finished assignment and each return to Empty.

mod describe;
mod effects;
mod interop;
mod join;
mod member;
mod offsets;
mod presence;
mod rebalance;
mod static_member;
mod stored;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use palisade_auth::principal::Principal;
use palisade_protocol::types::TimestampMs;
use palisade_protocol::{Str, Uuid};

pub(crate) use describe::{DescribedMember, Description};
pub(crate) use effects::{
    Effects, JoinAnswer, JoinRefused, Joined, JoinedMember, Reply, SyncAnswer, Synced, Then, Token,
};
pub(crate) use join::JoinAsk;
use member::Member;
pub(crate) use member::Protocols;
pub(crate) use offsets::{ExpiryBase, InUse};
pub(crate) use presence::Identity;
pub(crate) use subscription::topics_of_subscription;
pub(crate) use sync::SyncAsk;

#[cfg(test)]
use super::budget::Part;
use super::budget::{Budget, Kept};
use super::decision::TimerKey;
use super::error::GroupError;

/// The protocol type of consumers; other kinds of groups have their own.
pub(crate) const CONSUMER: &str = "consumer";

/// Where a group is between two assignments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// No members.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// All have joined; the leader assigns.
    CompletingRebalance,
    /// Everyone has its assignment.
    Stable,
}

impl State {
    /// Kafka's name of the state.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One classic group.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    id: Str,
    state: State,
    /// When it came into its state; `NONE` for a group that only ever had offsets.
    since: TimestampMs,
    /// None for a group that never had members.
    protocol_type: Option<Str>,
    generation: i32,
    protocol: Option<Str>,
    leader: Option<Str>,
    members: Kept<Member>,
    /// Static members by instance id.
    instances: HashMap<Str, Str>,
    /// Ids that were handed out and not used yet (KIP-394).
    pending: Kept<Principal>,
    /// Members of this generation that have not sent SyncGroup.
    pending_sync: BTreeSet<Str>,
    /// How many members' JoinGroup is parked.
    awaiting_join: usize,
    /// How many members support each protocol.
    support: BTreeMap<Str, usize>,
    /// The first rebalance of an empty group: what is left of its delay.
    first_rebalance: Option<FirstRebalance>,
    /// When the log last refused to take it as a consumer group.
    upgrade_failed: HashMap<Principal, TimestampMs>,
}

/// The delay in which an empty group collects its first members.
#[derive(Clone, Copy, Debug)]
struct FirstRebalance {
    step: Duration,
    remaining: Duration,
    member_added: bool,
}

impl ClassicGroup {
    /// An empty group that nobody has joined.
    pub(crate) fn new(id: Str) -> Self {
        Self {
            id,
            state: State::Empty,
            since: TimestampMs::NONE,
            protocol_type: None,
            generation: 0,
            protocol: None,
            leader: None,
            members: Kept::default(),
            instances: HashMap::new(),
            pending: Kept::default(),
            pending_sync: BTreeSet::new(),
            awaiting_join: 0,
            support: BTreeMap::new(),
            first_rebalance: None,
            upgrade_failed: HashMap::new(),
        }
    }

    /// The state.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether the group has no members; ids that were only handed out do not count.
    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether the group has no members, never had any, and expects none.
    pub(crate) fn is_unused(&self) -> bool {
        let never_joined = self.generation == 0 && self.protocol_type.is_none();
        self.is_empty() && never_joined && self.members.is_empty() && self.pending.is_empty()
    }

    /// Bytes that its members keep, and ids that were handed out.
    pub(crate) fn held(&self) -> usize {
        self.members.held() + self.pending.held()
    }

    /// Has a node's budget hear of those bytes.
    pub(crate) fn attach(&mut self, budget: &Arc<Budget>) {
        self.members.attach(budget);
        self.pending.attach(budget);
    }

    /// The same bytes, weighed anew, and whose they are.
    #[cfg(test)]
    pub(crate) fn weighed_anew(&self) -> Vec<Part> {
        let mut parts = self.members.weighed_anew();
        parts.extend(self.pending.weighed_anew());
        parts
    }

    /// The protocol type, empty for a group that never had members.
    pub(crate) fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    /// Checks that a member with this id, and instance if one is named, is in the group.
    ///
    /// # Errors
    /// `FencedInstanceId`, `UnknownMember`.
    fn check_member(&self, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            let holder = self.instances.get(instance);
            let holder = holder.ok_or(GroupError::UnknownMember)?;
            if *holder != *member {
                return Err(GroupError::FencedInstanceId);
            }
        }
        match self.members.contains_key(member) {
            true => Ok(()),
            false => Err(GroupError::UnknownMember),
        }
    }

    fn enter(&mut self, state: State, now: TimestampMs) {
        self.state = state;
        self.since = now;
    }

    /// The longest rebalance timeout of all members.
    fn rebalance_timeout(&self) -> Duration {
        let timeouts = self.members.values().map(|member| member.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }

    fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    fn session_timer(&self, member: &Str) -> TimerKey {
        TimerKey::Session {
            group: self.id.clone(),
            member: member.clone(),
        }
    }

    fn pending_timer(&self, member: &Str) -> TimerKey {
        TimerKey::Pending {
            group: self.id.clone(),
            member: member.clone(),
        }
    }

    fn join_timer(&self) -> TimerKey {
        TimerKey::Join {
            group: self.id.clone(),
        }
    }

    fn sync_timer(&self) -> TimerKey {
        TimerKey::Sync {
            group: self.id.clone(),
        }
    }
}

/// Longest prefix of a made member id; a client may call itself by a name of 32 KiB.
const MAX_ID_PREFIX: usize = 255;

/// A member id: what its owner is called, and chance.
fn member_id(prefix: &str, chance: Uuid) -> Str {
    let prefix = prefix.get(..prefix.floor_char_boundary(MAX_ID_PREFIX));
    let hex: String = chance.as_bytes().iter().map(hex_byte).collect();
    let mut id = String::from(prefix.unwrap_or_default());
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
    for group in groups {
        id.push('-');
        id.push_str(hex.get(group).unwrap_or_default());
    }
    Str::from(id)
}

fn hex_byte(byte: &u8) -> String {
    format!("{byte:02x}")
}
