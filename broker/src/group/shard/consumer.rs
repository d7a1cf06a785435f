//! Consumer groups in a shard: their members of either protocol, and what becomes of a group when
//! the other kind comes or the last of its own goes.

use std::borrow::Cow;
#[cfg(test)]
use std::collections::BTreeSet;
use std::time::Duration;

use palisade_auth::principal::Principal;
use palisade_protocol::Str;
use palisade_protocol::messages::consumer_group_describe::DescribedGroup;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use palisade_protocol::types::Offset;

use super::admission::Admitted;
use super::expire::group_tombstone;
use super::{Group, Parked, Shard};
use crate::foreign;
use crate::group::classic::{
    ClassicGroup, Identity, JoinAnswer, JoinAsk, JoinRefused, Joined, SyncAnswer, SyncAsk, Synced,
    Token,
};
use crate::group::config::ConsumerGroupConfig;
use crate::group::consumer::{
    self, ClassicIdentity, ClassicJoined, ClassicView, Client, ConsumerGroup, Found, Heartbeat,
    Removed,
};
use crate::group::decision::{Decision, TimerChange, TimerKey};
use crate::group::error::GroupError;
use crate::group::expressions::Judgement;
use crate::group::record::GroupRecord;
use crate::group::step::{Asker, Moment, Step, deliver};
use crate::logging::Throttle;
use crate::metadata::ConfigResourceType;

/// How long to wait before a removal that could not be stored is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A ConsumerGroupHeartbeat, and how its expressions are looked up.
pub(crate) struct HeartbeatAsk {
    /// The request; its texts are copied before they are kept.
    pub(crate) request: ConsumerGroupHeartbeatRequest,
    /// The member's id, or one that was made for it.
    pub(crate) member_id: Str,
    /// Who sends it.
    pub(crate) client: Client,
    /// Of the request's expression, which the group cannot wait for.
    pub(crate) judged: Judgement,
    /// Looks expressions up in the background, with the sender's rights.
    pub(crate) look_up: Box<dyn FnOnce(Vec<Str>) + Send>,
}

/// What expressions were found to stand for.
pub(crate) struct LookedUp {
    /// The expressions with their topics.
    pub(crate) found: Found,
    /// The metadata they were found in.
    pub(crate) version: Offset,
    /// Others of the same look-up follow.
    pub(crate) more: bool,
    /// Whose rights they were found with.
    pub(crate) principal: Principal,
}

/// Members whose records are new, and for whom they count.
pub(super) type Owners = Vec<(Str, Principal)>;

/// The answer to a LeaveGroup: one for each member.
type Leaving = Result<Vec<Result<(), GroupError>>, GroupError>;

/// The settings of a group: the node's, and its own on top.
fn config_of<'a>(id: &str, now: &'a Moment<'_>) -> Cow<'a, ConsumerGroupConfig> {
    let config = &now.config.consumer;
    let configs = &now.image.configs;
    match configs.get(ConfigResourceType::Group, id) {
        Some(own) => Cow::Owned(config.with(own)),
        None => Cow::Borrowed(config),
    }
}

fn moment<'a>(now: &'a Moment<'_>, config: &'a ConsumerGroupConfig) -> consumer::Moment<'a> {
    consumer::Moment {
        now: now.now,
        config,
        image: now.image,
        max_batch_bytes: now.max_batch_bytes,
    }
}

/// A decision, and what follows once its records are stored or refused. Timers wait for them.
fn decided<T: Send + 'static>(
    decision: Decision<T>,
    then: impl FnOnce(&mut Shard, &Moment<'_>, Result<T, GroupError>) -> Step + Send + 'static,
) -> Step {
    let Decision {
        records,
        answer,
        mut timers,
    } = decision;
    Step {
        records,
        after: Some(Box::new(move |shard, moment, result| {
            let stored = result.is_ok();
            let mut step = then(shard, moment, result.and(answer));
            if stored {
                timers.append(&mut step.timers);
                step.timers = timers;
            }
            step
        })),
        ..Step::default()
    }
}

pub(super) fn answer<T: Send + 'static>(asker: Asker<T>, answer: T) -> Step {
    Step {
        deliveries: vec![deliver(asker, answer)],
        ..Step::default()
    }
}

fn no_such_group<T>(id: &Str) -> Result<T, GroupError> {
    Err(GroupError::group_not_found(id))
}

impl Shard {
    pub(super) fn consumer(&mut self, id: &str) -> Option<&mut ConsumerGroup> {
        match &mut self.groups.get_mut(id)?.group {
            Group::Consumer(group) => Some(group),
            Group::Classic(_) => None,
        }
    }

    /// What the members of a consumer group subscribe to.
    #[cfg(test)]
    pub(crate) fn subscribed_topics(&mut self, id: &str) -> BTreeSet<String> {
        self.consumer(id)
            .map(|group| group.subscribed_topics())
            .unwrap_or_default()
    }

    /// Whether it is a consumer group, which answers classic requests itself.
    pub(super) fn is_consumer(&self, id: &str) -> bool {
        matches!(
            self.groups.get(id).map(|entry| &entry.group),
            Some(Group::Consumer(_))
        )
    }

    /// Whether a consumer group has no members.
    pub(super) fn is_left(&self, id: &str) -> bool {
        let group = self.groups.get(id).map(|entry| &entry.group);
        matches!(group, Some(Group::Consumer(group)) if group.is_empty())
    }

    /// ConsumerGroupHeartbeat.
    pub(crate) fn consumer_heartbeat(
        &mut self,
        id: &Str,
        ask: HeartbeatAsk,
        asker: Asker<Result<Heartbeat, GroupError>>,
        now: &Moment<'_>,
    ) -> Step {
        self.hear(id, &ask.member_id, &ask.client.principal);
        match self.reserve_for_heartbeat(id, &ask) {
            Ok(Admitted { reserved, owner }) => {
                let owner = owner.map(|owner| (ask.member_id.clone(), owner));
                let owners = owner.into_iter().collect();
                let mut step = self.beat(id, ask, owners, asker, now);
                step.reserved.extend(reserved);
                step
            }
            Err(error) => {
                let timers = self.told_to_come_again(id, &ask.member_id, &error, now);
                Step {
                    timers,
                    ..answer(asker, Err(error))
                }
            }
        }
    }

    /// A member that is told to come again lives: until the sessions of others are over, which
    /// began with its own, it may hear nothing else.
    pub(super) fn told_to_come_again(
        &mut self,
        id: &Str,
        member: &Str,
        error: &GroupError,
        now: &Moment<'_>,
    ) -> Vec<TimerChange> {
        if !matches!(error, GroupError::MembersUnheard | GroupError::RewroteMuch) {
            return Vec::new();
        }
        match self.groups.get(id.as_str()).map(|entry| &entry.group) {
            Some(Group::Classic(group)) => group.lives(member).timers,
            Some(Group::Consumer(group)) => {
                let session = group.lives(member, &config_of(id, now));
                session.into_iter().collect()
            }
            None => Vec::new(),
        }
    }

    fn beat(
        &mut self,
        id: &Str,
        ask: HeartbeatAsk,
        owners: Owners,
        asker: Asker<Result<Heartbeat, GroupError>>,
        now: &Moment<'_>,
    ) -> Step {
        let config = config_of(id, now);
        let at = moment(now, &config);
        let beat = |group: &mut ConsumerGroup| {
            group.heartbeat(&ask.request, &ask.member_id, &ask.client, &ask.judged, &at)
        };
        let joins = ask.request.member_epoch == 0;
        let group = self
            .groups
            .get_mut(id.as_str())
            .map(|entry| &mut entry.group);
        match group {
            Some(Group::Consumer(group)) => {
                let anew =
                    group.written_anew(&ask.request, &ask.member_id, &ask.client, &ask.judged);
                let by = &ask.client.principal;
                if let Err(error) = self.budget.rewrites().admit(by, anew, now.now) {
                    let timers = self.told_to_come_again(id, &ask.member_id, &error, now);
                    return Step {
                        timers,
                        ..answer(asker, Err(error))
                    };
                }
                let decision = beat(group);
                self.heard(id, decision, owners, ask.look_up, asker)
            }
            _ if !joins => answer(asker, no_such_group(id)),
            None => {
                let decision = beat(&mut ConsumerGroup::new(id.clone()));
                self.heard(id, decision, owners, ask.look_up, asker)
            }
            Some(Group::Classic(group)) if group.is_empty() => {
                let mut decision = beat(&mut ConsumerGroup::new(id.clone()));
                if decision.answer.is_ok() {
                    decision.records.insert(0, group_tombstone(id));
                }
                self.heard(id, decision, owners, ask.look_up, asker)
            }
            Some(Group::Classic(_)) => self.upgrade(id, ask, owners, asker, &at),
        }
    }

    /// Answers a heartbeat; its expressions are looked up once its records are stored.
    pub(super) fn heard(
        &self,
        id: &Str,
        decision: Decision<Heartbeat>,
        owners: Owners,
        look_up: Box<dyn FnOnce(Vec<Str>) + Send>,
        asker: Asker<Result<Heartbeat, GroupError>>,
    ) -> Step {
        self.upgraded(id, decision, (Vec::new(), owners), look_up, asker)
    }

    /// The same where the group was a classic one, in which requests may wait.
    pub(super) fn upgraded(
        &self,
        id: &Str,
        decision: Decision<Heartbeat>,
        (parked, owners): (Vec<(Str, Token)>, Owners),
        look_up: Box<dyn FnOnce(Vec<Str>) + Send>,
        asker: Asker<Result<Heartbeat, GroupError>>,
    ) -> Step {
        let id = id.clone();
        let looks_up = decision
            .answer
            .as_ref()
            .is_ok_and(|heartbeat| !heartbeat.look_up.is_empty());
        decided(decision, move |shard, moment, answer| {
            let mut step = Step::none();
            match &answer {
                Ok(heartbeat) => {
                    if let Some(group) = shard.consumer(&id) {
                        for (member, owner) in owners {
                            group.own(&member, owner);
                        }
                    }
                    step = shard.downgraded(&id, &heartbeat.removed, moment);
                    shard.send_to_rejoin(parked, &mut step);
                    if looks_up && let Some(group) = shard.consumer(&id) {
                        group.patterns_are_looked_up(moment.now);
                        look_up(heartbeat.look_up.clone());
                    }
                }
                Err(error) => {
                    if let Some(group) = shard.consumer(&id) {
                        // Otherwise another's look-up goes on.
                        if looks_up {
                            group.patterns_not_found();
                        }
                    } else if let (Some(group), GroupError::Unknown(_), Some((_, by))) =
                        (shard.classic(&id), error, owners.last())
                    {
                        // Whoever joins is the last of them.
                        group.upgrade_failed(by.clone(), moment.now);
                    }
                }
            }
            step.deliveries.push(deliver(asker, answer));
            step
        })
    }

    /// Tells everyone who waits in a classic group that is none any more to rejoin.
    fn send_to_rejoin(&mut self, parked: Vec<(Str, Token)>, step: &mut Step) {
        let error = GroupError::RebalanceInProgress;
        for (member_id, token) in parked {
            match self.parked.remove(&token) {
                Some(Parked::Join(asker)) => {
                    let refused = JoinRefused {
                        error: error.clone(),
                        member_id,
                    };
                    step.deliveries.push(deliver(asker, Err(refused)));
                }
                Some(Parked::Sync(asker)) => {
                    step.deliveries.push(deliver(asker, Err(error.clone())));
                }
                None => {}
            }
        }
    }

    /// Puts the classic group in place that a removal's records made of a consumer group.
    fn downgraded(&mut self, id: &Str, removed: &Removed, now: &Moment<'_>) -> Step {
        let Some(view) = &removed.downgraded else {
            return Step::none();
        };
        self.restore(id, view, now)
    }

    fn restore(&mut self, id: &Str, view: &ClassicView, now: &Moment<'_>) -> Step {
        let (group, effects) = ClassicGroup::from_view(id.clone(), view, now.now, now.config);
        self.place(id, Group::Classic(Box::new(group)));
        self.step(id, effects)
    }

    /// The outcome of a look-up of expressions, or a part of it.
    pub(crate) fn patterns_found(
        &mut self,
        id: &Str,
        looked_up: LookedUp,
        asker: Asker<Result<(), GroupError>>,
        now: &Moment<'_>,
    ) -> Step {
        let LookedUp {
            mut found,
            version,
            more,
            principal,
        } = looked_up;
        let Some(group) = self.consumer(id) else {
            return answer(asker, no_such_group(id));
        };
        let (growth, his) = group.growth_by_patterns(&found, &principal);
        let reserved = self.reserve(id, &growth, &principal);
        let Some(group) = self.consumer(id) else {
            return answer(asker, no_such_group(id));
        };
        let config = config_of(id, now);
        let at = moment(now, &config);
        let (reserved, decision) = match reserved {
            Ok(reserved) => (
                reserved,
                group.patterns_found(&mut found, version, more, &at),
            ),
            // As if the log did not take them: they are looked up again after a while.
            Err(_) => {
                let none = &mut Found::new();
                (None, group.patterns_found(none, version, more, &at))
            }
        };
        let too_large = decision.answer.clone().unwrap_or(0);
        let id = id.clone();
        let step = decided(decision, move |shard, now, _| {
            if let Some(group) = shard.consumer(&id) {
                let lost = too_large + group.patterns_stored(&found, now.now);
                group.own_patterns(&his, &found, &principal);
                tell_lost(&id, lost);
            }
            answer(asker, Ok(()))
        });
        // Each expression is of use by itself.
        Step {
            divisible: true,
            reserved: reserved.into_iter().collect(),
            ..step
        }
    }

    /// A timer of a member went off.
    pub(super) fn consumer_expired(&mut self, key: &TimerKey, now: &Moment<'_>) -> Step {
        let config = config_of(key.group(), now);
        let at = moment(now, &config);
        let (id, decision) = match key {
            TimerKey::Session { group, member } => match self.consumer(group) {
                Some(one) => (group, one.session_expired(member, &at)),
                None => return Step::none(),
            },
            TimerKey::Rebalance { group, member } => match self.consumer(group) {
                Some(one) => (group, one.rebalance_expired(member, &at)),
                None => return Step::none(),
            },
            TimerKey::MemberSync { group, member } => match self.consumer(group) {
                Some(one) => (group, one.sync_expired(member, &at)),
                None => return Step::none(),
            },
            TimerKey::Pending { .. } | TimerKey::Join { .. } | TimerKey::Sync { .. } => {
                return Step::none();
            }
        };
        let (id, key) = (id.clone(), key.clone());
        decided(decision, move |shard, now, removed| match removed {
            Ok(removed) => shard.downgraded(&id, &removed, now),
            // The member would stay for ever.
            Err(_) => Step {
                timers: vec![TimerChange::Set { key, after: RETRY }],
                ..Step::default()
            },
        })
    }

    /// JoinGroup of a consumer group.
    pub(super) fn join_consumer(
        &mut self,
        id: &Str,
        ask: JoinAsk,
        owner: Option<Principal>,
        asker: Asker<JoinAnswer>,
        now: &Moment<'_>,
    ) -> Step {
        let Some(group) = self.consumer(id) else {
            let refused = join_refused(GroupError::UnknownMember, ask.member_id);
            return answer(asker, Err(refused));
        };
        if let Some(records) = group.delete() {
            return join_in_its_place(id, records, ask, asker);
        }
        let config = config_of(id, now);
        let decision = group.classic_join(&ask, &moment(now, &config));
        let id = id.clone();
        decided(decision, move |shard, _, joined| {
            if let (Some(owner), Ok(ClassicJoined::Member { member_id, .. })) = (owner, &joined)
                && let Some(group) = shard.consumer(&id)
            {
                group.own(member_id, owner);
            }
            answer(asker, join_answer(joined, ask))
        })
    }

    /// SyncGroup of a consumer group.
    pub(super) fn sync_consumer(
        &mut self,
        id: &Str,
        ask: SyncAsk,
        asker: Asker<SyncAnswer>,
        now: &Moment<'_>,
    ) -> Step {
        let Some(group) = self.consumer(id) else {
            return answer(asker, Err(GroupError::UnknownMember));
        };
        let identity = ClassicIdentity {
            member_id: &ask.member_id,
            instance_id: ask.instance_id.as_deref(),
        };
        let protocol = (ask.protocol_type.as_deref(), ask.protocol.as_deref());
        let config = config_of(id, now);
        let decision =
            group.classic_sync(identity, ask.generation, protocol, &moment(now, &config));
        decided(decision, move |_, _, assignment| {
            let synced = assignment.map(|assignment| Synced {
                protocol_type: ask.protocol_type,
                protocol: ask.protocol,
                assignment,
            });
            answer(asker, synced)
        })
    }

    /// Heartbeat of a consumer group.
    pub(super) fn heartbeat_consumer(
        &mut self,
        id: &Str,
        identity: ClassicIdentity<'_>,
        generation: i32,
        asker: Asker<Result<(), GroupError>>,
        now: &Moment<'_>,
    ) -> Step {
        let Some(group) = self.consumer(id) else {
            return answer(asker, Err(GroupError::UnknownMember));
        };
        let config = config_of(id, now);
        let decision = group.classic_heartbeat(identity, generation, &moment(now, &config));
        decided(decision, move |_, _, beat| answer(asker, beat))
    }

    /// LeaveGroup of a consumer group.
    pub(super) fn leave_consumer(
        &mut self,
        id: &Str,
        leaving: &[Identity],
        asker: Asker<Leaving>,
        now: &Moment<'_>,
    ) -> Step {
        let Some(group) = self.consumer(id) else {
            return answer(asker, no_such_group(id));
        };
        let leaving: Vec<ClassicIdentity<'_>> = leaving
            .iter()
            .map(|identity| ClassicIdentity {
                member_id: &identity.member_id,
                instance_id: identity.instance_id.as_deref(),
            })
            .collect();
        let config = config_of(id, now);
        let decision = group.classic_leave(&leaving, &moment(now, &config));
        let id = id.clone();
        decided(decision, move |shard, now, left| {
            let mut step = Step::none();
            if let Ok(left) = &left {
                step = shard.downgraded(&id, &left.removed, now);
            }
            step.deliveries
                .push(deliver(asker, left.map(|left| left.outcomes)));
            step
        })
    }

    /// ConsumerGroupDescribe of one group.
    pub(crate) fn describe_consumer(&self, id: &Str, now: &Moment<'_>) -> Decision<DescribedGroup> {
        let config = config_of(id, now);
        match self.groups.get(id.as_str()).map(|entry| &entry.group) {
            Some(Group::Consumer(group)) => Decision::answer(group.describe(&moment(now, &config))),
            Some(Group::Classic(_)) => {
                let text = format!("Group {} is not a consumer group.", foreign::name(id));
                Decision::refuse(GroupError::GroupNotFound(text))
            }
            None => match no_such_group(id) {
                Ok(never) => Decision::answer(never),
                Err(error) => Decision::refuse(error),
            },
        }
    }

    /// Sessions of a group that was read from the log begin.
    pub(super) fn consumer_loaded(&mut self, id: &Str, now: &Moment<'_>) -> Step {
        let config = config_of(id, now);
        let group = self.consumer(id);
        let timers = group.map(|group| group.timers(&moment(now, &config)));
        Step {
            timers: timers.unwrap_or_default(),
            ..Step::default()
        }
    }

    /// Changes a consumer group as a record of it says.
    pub(super) fn replay_consumer(&mut self, record: &GroupRecord, deletes: bool) {
        let id = record.group();
        if !deletes {
            let id = id.detached();
            if matches!(self.entry(&id).group, Group::Classic(_)) {
                let group = Group::Consumer(Box::new(ConsumerGroup::new(id.clone())));
                self.place(&id, group);
            }
        }
        let Some(group) = self.consumer(id) else {
            return;
        };
        group.replay(record);
        if deletes && matches!(record, GroupRecord::ConsumerGroup { .. }) {
            self.forget(id);
        }
    }
}

/// Tells of expressions whose topics the log did not take: their members get nothing of them.
fn tell_lost(group: &Str, expressions: usize) {
    static SAID: Throttle = Throttle::new();
    if expressions > 0 && SAID.may_speak() {
        let group = group.as_str();
        tracing::warn!(?group, expressions, "topics of expressions not stored");
    }
}

/// A new member joins where an empty consumer group is: that one goes, and a classic one begins.
fn join_in_its_place(
    id: &Str,
    records: Vec<GroupRecord>,
    ask: JoinAsk,
    asker: Asker<JoinAnswer>,
) -> Step {
    if !ask.member_id.is_empty() {
        let refused = join_refused(GroupError::UnknownMember, ask.member_id);
        return answer(asker, Err(refused));
    }
    let id = id.clone();
    let decision = Decision {
        records,
        answer: Ok(()),
        timers: Vec::new(),
    };
    let step = decided(decision, move |shard, now, stored| match stored {
        Ok(()) => shard.join(&id, ask, asker, now),
        Err(error) => answer(asker, Err(join_refused(error, ask.member_id))),
    });
    // What is left of an empty group goes bit by bit if it must.
    Step {
        divisible: true,
        ..step
    }
}

/// What a classic member is told of its join of a consumer group.
fn join_answer(joined: Result<ClassicJoined, GroupError>, ask: JoinAsk) -> JoinAnswer {
    match joined {
        Err(error) => Err(join_refused(error, ask.member_id)),
        Ok(ClassicJoined::IdRequired(member_id)) => {
            Err(join_refused(GroupError::MemberIdRequired, member_id))
        }
        Ok(ClassicJoined::Member {
            member_id,
            generation,
            protocol,
        }) => Ok(Joined {
            generation,
            protocol_type: Some(ask.protocol_type),
            protocol: Some(protocol),
            leader: Str::EMPTY,
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }),
    }
}

fn join_refused(error: GroupError, member_id: Str) -> JoinRefused {
    let member_id = match error {
        GroupError::GroupMaxSizeReached(_) => Str::EMPTY,
        _ => member_id,
    };
    JoinRefused { error, member_id }
}
