//! Members of the classic protocol in a consumer group: the broker is the leader of them all.
//!
//! JoinGroup is their heartbeat with a subscription: it says what they own and is answered at
//! once. SyncGroup fetches the assignment, and Heartbeat tells them to rejoin where there is more
//! to say.

use std::collections::HashSet;

use bytes::Bytes;
use palisade_protocol::{Str, Uuid};

use super::convert::{CONSUMER, common_protocol};
use super::decide::{Change, Draft};
use super::heartbeat::{Place, millis};
use super::removal::Removed;
use super::{ConsumerGroup, Member, MemberState, Moment, Subscriptions};
use crate::group::classic::JoinAsk;
use crate::group::config::MigrationPolicy;
use crate::group::decision::Decision;
use crate::group::embedded::Subscription;
use crate::group::error::GroupError;
use crate::group::record::{ClassicMemberMetadata, ClassicProtocol};

/// The answer to a classic member's JoinGroup: it leads nothing and sees no members.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ClassicJoined {
    /// It must come again with this id (KIP-394).
    IdRequired(Str),
    /// It is a member.
    Member {
        /// Its id.
        member_id: Str,
        /// Its epoch, which stands for the generation.
        generation: i32,
        /// The protocol it shares with the other classic members.
        protocol: Str,
    },
}

/// Who of a classic member's requests speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassicIdentity<'a> {
    /// Its id; may be empty beside an instance id where it leaves.
    pub(crate) member_id: &'a str,
    /// The id of a static member.
    pub(crate) instance_id: Option<&'a str>,
}

/// The answer to LeaveGroup: an outcome per member asked for, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClassicRemoval {
    /// Per member.
    pub(crate) outcomes: Vec<Result<(), GroupError>>,
    /// What is left.
    pub(crate) removed: Removed,
}

impl ConsumerGroup {
    /// Decides a JoinGroup; the session timeout is within its bounds.
    pub(crate) fn classic_join(
        &mut self,
        ask: &JoinAsk,
        at: &Moment<'_>,
    ) -> Decision<ClassicJoined> {
        self.try_classic_join(ask, at)
            .unwrap_or_else(Decision::refuse)
    }

    /// The members that the sender of a JoinGroup continues and replaces, with an id that it has
    /// or gets.
    pub(super) fn classic_place(&self, ask: &JoinAsk, id: &Str) -> Result<Place<'_>, GroupError> {
        let anonymous = ask.member_id.is_empty();
        let Some(instance) = ask.instance_id.as_ref() else {
            return Ok((self.members.get(id), None));
        };
        match self.instance(instance) {
            Some(holder) if anonymous => Ok((None, Some(holder))),
            Some(holder) if holder.id == *id => Ok((Some(holder), None)),
            Some(_) => Err(GroupError::FencedInstanceId),
            None if anonymous => Ok((None, None)),
            None => Err(GroupError::UnknownMember),
        }
    }

    fn try_classic_join(
        &mut self,
        ask: &JoinAsk,
        at: &Moment<'_>,
    ) -> Result<Decision<ClassicJoined>, GroupError> {
        self.may_join(ask, at)?;
        self.settle(at.image);
        let anonymous = ask.member_id.is_empty();
        let fresh_id = plain_id(ask.chance);
        if anonymous && ask.needs_known_id && ask.instance_id.is_none() {
            return Ok(Decision::answer(ClassicJoined::IdRequired(fresh_id)));
        }
        let id = if anonymous { &fresh_id } else { &ask.member_id };
        let (before, replaced) = self.classic_place(ask, id)?;
        let subscription = first_subscription(ask)?;
        let mut after = match replaced.or(before) {
            Some(known) => Member {
                id: id.detached(),
                ..known.clone()
            },
            None => Member::new(id.detached()),
        };
        if replaced.is_some() {
            // It owns nothing yet that it could be asked to give up, whatever its place had.
            after.epoch = self.target_epoch;
            after.previous_epoch = self.target_epoch;
            // Of a target that was made meanwhile it has not heard.
            if after.state == MemberState::Stable {
                after.state = MemberState::Unreleased;
            }
        }
        describe_itself(&mut after, ask, &subscription);
        let reported = Self::partitions_of(&subscription.owned_partitions, at.image);
        let change = Change {
            before,
            replaced,
            after,
            reported: Some(&reported),
        };
        let mut draft = Draft::default();
        let after = self.advance(change, at, &mut draft);
        self.note_target(&draft, at)?;
        draft.set(self.sync_key(&after.id), after.rebalance_timeout());
        let protocol = self
            .protocol_of(&after)
            .ok_or(GroupError::InconsistentProtocol)?;
        if draft.checked.is_some() {
            self.remembered.checked = draft.checked;
        }
        self.remembered.asked_to_rejoin.remove(&after.id);
        Ok(draft.into_decision(ClassicJoined::Member {
            member_id: after.id,
            generation: after.epoch,
            protocol,
        }))
    }

    /// Refuses who finds no place, or has nothing in common with the others.
    fn may_join(&self, ask: &JoinAsk, at: &Moment<'_>) -> Result<(), GroupError> {
        if self.members.len() >= at.config.max_size && !self.members.contains_key(&ask.member_id) {
            return Err(GroupError::GroupMaxSizeReached(at.config.max_size));
        }
        if at.config.migration == MigrationPolicy::Disabled
            || ask.protocol_type != CONSUMER
            || ask.protocols.is_empty()
            || !self.have_common_protocol(ask)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        Ok(())
    }

    /// Whether some protocol of a joining member is every other classic member's too.
    fn have_common_protocol(&self, ask: &JoinAsk) -> bool {
        ask.protocols.iter().any(|(name, _)| {
            self.members()
                .filter(|member| member.id != ask.member_id)
                .filter_map(|member| member.classic.as_ref())
                .all(|classic| supports(classic, name))
        })
    }

    /// The protocol a member is told: the first of its own that the other classic members have.
    fn protocol_of(&self, member: &Member) -> Option<Str> {
        let others = self.members().filter(|other| other.id != member.id);
        common_protocol(&others.collect::<Vec<_>>(), member)
    }

    /// Decides a SyncGroup: the member's assignment, in its own words.
    ///
    /// `protocol`: type and name, as far as the request has them.
    pub(crate) fn classic_sync(
        &mut self,
        identity: ClassicIdentity<'_>,
        generation: i32,
        protocol: (Option<&str>, Option<&str>),
        at: &Moment<'_>,
    ) -> Decision<Bytes> {
        let member = match self.classic_member(identity, generation) {
            Ok(member) => member,
            Err(error) => return Decision::refuse(error),
        };
        let known = member.classic.as_ref().is_some_and(|classic| {
            protocol.0.is_none_or(|kind| kind == CONSUMER)
                && protocol.1.is_none_or(|name| supports(classic, name))
        });
        if !known {
            return Decision::refuse(GroupError::InconsistentProtocol);
        }
        let must_rejoin = self.is_ahead_of(member, at) && member.state != MemberState::Unrevoked;
        let mut draft = Draft::default();
        if must_rejoin {
            return self.tell_to_rejoin(&member.id.clone(), draft);
        }
        let assignment = Self::assignment_bytes(member, at.image);
        draft.set(
            self.session_key(&member.id),
            member.session_timeout(at.config),
        );
        draft.cancel(self.sync_key(&member.id));
        draft.into_decision(assignment)
    }

    /// Decides a Heartbeat.
    pub(crate) fn classic_heartbeat(
        &mut self,
        identity: ClassicIdentity<'_>,
        generation: i32,
        at: &Moment<'_>,
    ) -> Decision<()> {
        let topics_changed = self.topics_changed(at);
        let member = match self.classic_member(identity, generation) {
            Ok(member) => member,
            Err(error) => return Decision::refuse(error),
        };
        let mut draft = Draft::default();
        draft.set(
            self.session_key(&member.id),
            member.session_timeout(at.config),
        );
        let may_have_more =
            member.state == MemberState::Unreleased && !self.waits_for_others(member);
        if topics_changed
            || self.is_ahead_of(member, at)
            || member.state == MemberState::Unrevoked
            || may_have_more
        {
            return self.tell_to_rejoin(&member.id.clone(), draft);
        }
        draft.into_decision(())
    }

    /// Whether a member is to come again for the group's epoch: not while it has the last target,
    /// and the assignor has to wait or no batch holds the next one.
    fn is_ahead_of(&self, member: &Member, at: &Moment<'_>) -> bool {
        let of = (self.epoch, self.metadata_hash);
        let must_wait = || self.was_too_large(of, at) || !self.remembered.pace.is_due();
        let stays = member.epoch == self.target_epoch && must_wait();
        self.epoch > member.epoch && !stays
    }

    /// Whether the topics subscribed to are no longer those that the epoch stands for.
    ///
    /// A native member's heartbeat raises the epoch itself; without one a classic member's next
    /// JoinGroup has to.
    fn topics_changed(&mut self, at: &Moment<'_>) -> bool {
        if self.remembered.checked == Some(at.image.offset) {
            return false;
        }
        self.settle(at.image);
        if Subscriptions::of(self).hash(at.image) != self.metadata_hash {
            return true;
        }
        self.remembered.checked = Some(at.image.offset);
        false
    }

    /// Whether something of a member's target is still another's.
    fn waits_for_others(&self, member: &Member) -> bool {
        self.targets.get(&member.id).is_some_and(|target| {
            target.iter().any(|(topic, partition)| {
                self.owner(topic, partition)
                    .is_some_and(|owner| *owner != member.id)
            })
        })
    }

    /// Answers REBALANCE_IN_PROGRESS; from the first time on the member has its rebalance timeout.
    fn tell_to_rejoin<T>(&mut self, member: &Str, mut draft: Draft) -> Decision<T> {
        if let Some(known) = self.members.get(member)
            && self.remembered.asked_to_rejoin.insert(member.clone())
        {
            draft.set(self.sync_key(member), known.rebalance_timeout());
        }
        Decision {
            records: draft.records,
            answer: Err(GroupError::RebalanceInProgress),
            timers: draft.timers,
        }
    }

    /// A classic member by what a request says of it.
    fn classic_member(
        &self,
        identity: ClassicIdentity<'_>,
        generation: i32,
    ) -> Result<&Member, GroupError> {
        let member = match identity.instance_id {
            None => self.members.get(identity.member_id),
            Some(instance) => self.instance(instance),
        };
        let member = member.ok_or(GroupError::UnknownMember)?;
        if member.id != identity.member_id {
            return Err(GroupError::FencedInstanceId);
        }
        if member.classic.is_none() {
            return Err(GroupError::UnknownMember);
        }
        match member.epoch == generation {
            true => Ok(member),
            false => Err(GroupError::IllegalGeneration),
        }
    }

    /// Decides a LeaveGroup, of members of either protocol.
    pub(crate) fn classic_leave(
        &mut self,
        leaving: &[ClassicIdentity<'_>],
        at: &Moment<'_>,
    ) -> Decision<ClassicRemoval> {
        self.settle(at.image);
        let mut members: Vec<&Member> = Vec::with_capacity(leaving.len().min(self.members.len()));
        let mut gone: HashSet<&Str> = HashSet::with_capacity(members.capacity());
        let mut outcomes = Vec::with_capacity(leaving.len());
        for identity in leaving {
            let found = match identity.instance_id {
                None => self.members.get(identity.member_id),
                Some(instance) => self.instance(instance),
            };
            let outcome = match found {
                Some(member) if gone.contains(&member.id) => Err(GroupError::UnknownMember),
                Some(member)
                    if identity.instance_id.is_some()
                        && !identity.member_id.is_empty()
                        && member.id != identity.member_id =>
                {
                    Err(GroupError::FencedInstanceId)
                }
                Some(member) => {
                    gone.insert(&member.id);
                    members.push(member);
                    Ok(())
                }
                None => Err(GroupError::UnknownMember),
            };
            outcomes.push(outcome);
        }
        let mut draft = Draft::default();
        let removed = self.remove(&members, at, &mut draft);
        draft.into_decision(ClassicRemoval { outcomes, removed })
    }
}

fn supports(classic: &ClassicMemberMetadata, name: &str) -> bool {
    let mut protocols = classic.supported_protocols.iter();
    protocols.any(|protocol| protocol.name == *name)
}

pub(super) fn first_subscription(ask: &JoinAsk) -> Result<Subscription, GroupError> {
    let (_, metadata) = ask
        .protocols
        .first()
        .ok_or(GroupError::InconsistentProtocol)?;
    match Subscription::parse(metadata) {
        Ok((_, subscription)) => Ok(subscription),
        Err(error) => Err(GroupError::Unknown(format!(
            "the subscription cannot be read: {error}"
        ))),
    }
}

pub(super) fn describe_itself(member: &mut Member, ask: &JoinAsk, subscription: &Subscription) {
    if let Some(instance) = &ask.instance_id {
        member.instance_id = Some(instance.clone());
    }
    let rack = subscription.rack_id.as_ref();
    if let Some(rack) = rack.filter(|rack| !rack.is_empty()) {
        member.rack_id = Some(rack.detached());
    }
    member.rebalance_timeout_ms = millis(ask.rebalance_timeout);
    member.names = subscription.topics.iter().map(Str::detached).collect();
    member.pattern = None;
    member.client_id = ask.client_id.clone();
    member.client_host = ask.client_host.clone();
    let protocols = ask.protocols.iter();
    member.classic = Some(ClassicMemberMetadata {
        session_timeout_ms: millis(ask.session_timeout),
        supported_protocols: protocols
            .map(|(name, metadata)| ClassicProtocol {
                name: name.clone(),
                metadata: metadata.clone(),
            })
            .collect(),
    });
}

/// A member id as the broker makes them for this kind of group: chance alone.
pub(crate) fn plain_id(chance: Uuid) -> Str {
    Str::from(chance.to_string())
}
