//! A member of the consumer protocol joins, keeps alive and leaves: ConsumerGroupHeartbeat.

use palisade_protocol::Str;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;

use super::decide::{Change, Draft};
use super::member::AWAY;
use super::removal::Removed;
use super::{Client, ConsumerGroup, Member, MemberState, Moment};
use crate::group::config::ConsumerGroupConfig;
use crate::group::decision::{Decision, TimerChange};
use crate::group::error::GroupError;
use crate::group::expressions::Judgement;
use crate::group::partitions::{OwnedPartitions, PartitionSet};

/// The epoch of who joins.
const JOIN: i32 = 0;
/// The epoch of who leaves for good.
const LEAVE: i32 = -1;

/// The member that a heartbeat continues, and the static one whose place it takes.
pub(super) type Place<'a> = (Option<&'a Member>, Option<&'a Member>);

/// The answer to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heartbeat {
    /// The member's id.
    pub(crate) member_id: Str,
    /// Its epoch from now on.
    pub(crate) member_epoch: i32,
    /// Milliseconds until its next heartbeat; 0 for who left.
    pub(crate) heartbeat_interval_ms: i32,
    /// What it may consume; `None` where that did not change.
    pub(crate) assignment: Option<PartitionSet>,
    /// Expressions to look up in the caller's name; the outcome goes to
    /// [`ConsumerGroup::patterns_found`].
    pub(crate) look_up: Vec<Str>,
    /// What the departure of the last native member made of the group.
    pub(crate) removed: Removed,
}

impl ConsumerGroup {
    /// Decides a heartbeat that [`super::check_request`] let pass.
    ///
    /// `member_id`: the request's, or a new one where the broker makes ids. `judged`: of the
    /// request's expression.
    pub(crate) fn heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &Str,
        client: &Client,
        judged: &Judgement,
        at: &Moment<'_>,
    ) -> Decision<Heartbeat> {
        let decided = match request.member_epoch {
            LEAVE => self.leave(request, member_id, at),
            AWAY => self.pause(request, member_id),
            _ => match self.unchanged(request, member_id, client, at) {
                Some(decision) => return decision,
                None => self.beat(request, member_id, client, judged, at),
            },
        };
        decided.unwrap_or_else(Decision::refuse)
    }

    /// The answer to a member that says no more than that it lives, in a group where nothing
    /// happened since it arrived at its target: what [`Self::beat`] would answer after comparing
    /// all that it owns. Nearly every heartbeat is one of these.
    pub(super) fn unchanged(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &Str,
        client: &Client,
        at: &Moment<'_>,
    ) -> Option<Decision<Heartbeat>> {
        let member = self.members.get(member_id)?;
        let has_arrived = member.epoch > JOIN
            && member.state == MemberState::Stable
            && member.epoch == self.target_epoch
            && self.target_epoch == self.epoch;
        // Expressions are looked up again by the clock.
        let is_known = self.patterns.is_empty() && self.remembered.checked == Some(at.image.offset);
        let is_the_same =
            request.member_epoch == member.epoch && says_nothing_new(member, request, client);
        if !(is_the_same && has_arrived && is_known) {
            return None;
        }
        let mut draft = Draft::default();
        draft.set(
            self.session_key(&member.id),
            member.session_timeout(at.config),
        );
        Some(draft.into_decision(Heartbeat {
            member_id: member.id.clone(),
            member_epoch: member.epoch,
            heartbeat_interval_ms: millis(at.config.heartbeat_interval),
            ..Heartbeat::default()
        }))
    }

    /// Bytes of names that a heartbeat has written anew without saying them: something else of its
    /// member is new.
    pub(crate) fn written_anew(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &Str,
        client: &Client,
        judged: &Judgement,
    ) -> usize {
        if request.subscribed_topic_names.is_some() {
            return 0;
        }
        let reported = reported(request);
        let Ok((before, replaced)) = self.place(request, member_id, reported.as_ref()) else {
            return 0;
        };
        let Some(known) = replaced.or(before).filter(|one| one.names.bytes() > 0) else {
            return 0;
        };
        // Most heartbeats say nothing: they copy no member.
        if replaced.is_none() && says_nothing_new(known, request, client) {
            return 0;
        }
        let mut after = successor(before, replaced, member_id);
        let described = self.describe_itself(&mut after, request, client, judged);
        match described.is_err() || (replaced.is_none() && known.same_subscription(&after)) {
            true => 0,
            false => after.names.bytes(),
        }
    }

    /// Starts the session anew of a member that spoke, and of whose words nothing else is taken.
    pub(crate) fn lives(&self, member: &str, config: &ConsumerGroupConfig) -> Option<TimerChange> {
        let member = self.members.get(member)?;
        Some(TimerChange::Set {
            key: self.session_key(&member.id),
            after: member.session_timeout(config),
        })
    }

    pub(super) fn beat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &Str,
        client: &Client,
        judged: &Judgement,
        at: &Moment<'_>,
    ) -> Result<Decision<Heartbeat>, GroupError> {
        if self.members.len() >= at.config.max_size && !self.members.contains_key(member_id) {
            return Err(GroupError::GroupMaxSizeReached(at.config.max_size));
        }
        self.settle(at.image);
        let reported = reported(request);
        let (before, replaced) = self.place(request, member_id, reported.as_ref())?;
        let mut after = successor(before, replaced, member_id);
        self.describe_itself(&mut after, request, client, judged)?;

        let mut draft = Draft::default();
        if before.is_some_and(|before| before.classic.is_some()) {
            draft.cancel(self.sync_key(&after.id));
        }
        let change = Change {
            before,
            replaced,
            after,
            reported: reported.as_ref(),
        };
        let after = self.advance(change, at, &mut draft);
        let changed = !replaced
            .or(before)
            .is_some_and(|before| before.assigned.same_partitions(&after.assigned));
        let answer = Heartbeat {
            member_id: after.id.clone(),
            member_epoch: after.epoch,
            heartbeat_interval_ms: millis(at.config.heartbeat_interval),
            assignment: (is_full(request) || changed).then(|| after.assigned.partitions()),
            look_up: self.patterns_to_look_up(before, replaced, &after, at),
            removed: Removed::default(),
        };
        self.note_target(&draft, at)?;
        if !answer.look_up.is_empty() {
            self.remembered.looking_up = Some(at.now);
        }
        if draft.checked.is_some() {
            self.remembered.checked = draft.checked;
        }
        Ok(draft.into_decision(answer))
    }

    /// Whether the sender of a heartbeat that does not leave would be let in or go on, whatever it
    /// says of itself.
    pub(super) fn admits(&self, request: &ConsumerGroupHeartbeatRequest, member_id: &Str) -> bool {
        let reported = reported(request);
        let place = self.place(request, member_id, reported.as_ref());
        place.is_ok()
    }

    /// The members that the sender of a heartbeat continues and replaces.
    fn place(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &Str,
        reported: Option<&PartitionSet>,
    ) -> Result<Place<'_>, GroupError> {
        match &request.instance_id {
            None => Ok((self.dynamic(member_id, request, reported)?, None)),
            Some(instance) => self.static_member(member_id, instance, request, reported),
        }
    }

    /// A dynamic member by its id; `None` for one that joins.
    fn dynamic(
        &self,
        member_id: &Str,
        request: &ConsumerGroupHeartbeatRequest,
        reported: Option<&PartitionSet>,
    ) -> Result<Option<&Member>, GroupError> {
        match self.members.get(member_id) {
            Some(member) => {
                check_epoch(member, request.member_epoch, reported)?;
                Ok(Some(member))
            }
            None if request.member_epoch == JOIN => Ok(None),
            None => Err(GroupError::UnknownMember),
        }
    }

    /// The members that a static member continues and replaces.
    fn static_member(
        &self,
        member_id: &Str,
        instance: &Str,
        request: &ConsumerGroupHeartbeatRequest,
        reported: Option<&PartitionSet>,
    ) -> Result<Place<'_>, GroupError> {
        let holder = self.instance(instance);
        if request.member_epoch != JOIN {
            let holder = holder.ok_or(GroupError::UnknownMember)?;
            if holder.id != *member_id {
                return Err(GroupError::FencedInstanceId);
            }
            check_epoch(holder, request.member_epoch, reported)?;
            return Ok((Some(holder), None));
        }
        match holder {
            None => Ok((self.dynamic(member_id, request, reported)?, None)),
            // A classic one cannot say that it goes.
            Some(holder) if holder.epoch != AWAY && holder.classic.is_none() => {
                Err(GroupError::UnreleasedInstanceId)
            }
            Some(holder) if holder.id == *member_id => Ok((Some(holder), None)),
            Some(holder) => Ok((self.members.get(member_id), Some(holder))),
        }
    }

    pub(super) fn instance(&self, instance: &str) -> Option<&Member> {
        self.members.get(self.instances.get(instance)?)
    }

    /// Takes over what a request says of the member; what it does not say stays.
    fn describe_itself(
        &self,
        member: &mut Member,
        request: &ConsumerGroupHeartbeatRequest,
        client: &Client,
        judged: &Judgement,
    ) -> Result<(), GroupError> {
        if let Some(instance) = &request.instance_id {
            member.instance_id = Some(instance.detached());
        }
        if let Some(rack) = &request.rack_id {
            member.rack_id = Some(rack.detached());
        }
        if request.rebalance_timeout_ms != -1 {
            member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        if let Some(assignor) = &request.server_assignor {
            member.assignor = Some(assignor.detached());
        }
        if let Some(names) = &request.subscribed_topic_names {
            member.names = names.iter().map(Str::detached).collect();
        }
        if let Some(pattern) = &request.subscribed_topic_regex {
            self.check_pattern(pattern, judged)?;
            member.pattern = Some(pattern.detached()).filter(|pattern| !pattern.is_empty());
        }
        member.client_id = client.id.clone();
        member.client_host = client.host.clone();
        member.classic = None;
        Ok(())
    }

    fn leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &Str,
        at: &Moment<'_>,
    ) -> Result<Decision<Heartbeat>, GroupError> {
        self.settle(at.image);
        let member = self.departing(request, member_id)?;
        let mut draft = Draft::default();
        let removed = self.remove(&[member], at, &mut draft);
        Ok(draft.into_decision(Heartbeat {
            member_id: member_id.detached(),
            member_epoch: LEAVE,
            removed,
            ..Heartbeat::default()
        }))
    }

    /// A static member goes away and keeps its place until its session ends.
    fn pause(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &Str,
    ) -> Result<Decision<Heartbeat>, GroupError> {
        let mut member = self.departing(request, member_id)?.clone();
        member.epoch = AWAY;
        member.state = MemberState::Stable;
        member.revoking = OwnedPartitions::default();
        let mut draft = Draft::default();
        draft.records.push(self.current_record(&member));
        draft.cancel(self.rebalance_key(&member.id));
        Ok(draft.into_decision(Heartbeat {
            member_id: member_id.detached(),
            member_epoch: AWAY,
            ..Heartbeat::default()
        }))
    }

    fn departing(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &Str,
    ) -> Result<&Member, GroupError> {
        let Some(instance) = &request.instance_id else {
            return self.members.get(member_id).ok_or(GroupError::UnknownMember);
        };
        let holder = self.instance(instance).ok_or(GroupError::UnknownMember)?;
        match holder.id == *member_id {
            true => Ok(holder),
            false => Err(GroupError::FencedInstanceId),
        }
    }
}

/// The partitions that a request says its member owns; `None` where it says nothing.
fn reported(request: &ConsumerGroupHeartbeatRequest) -> Option<PartitionSet> {
    let owned = request.topic_partitions.as_ref()?.iter();
    let owned = owned.flat_map(|topic| topic.partitions.iter().map(|at| (topic.topic_id, *at)));
    Some(owned.collect())
}

/// Whether a request says of a native member no more than that it lives.
fn says_nothing_new(
    member: &Member,
    request: &ConsumerGroupHeartbeatRequest,
    client: &Client,
) -> bool {
    let says_nothing = request.rebalance_timeout_ms == -1
        && request.subscribed_topic_names.is_none()
        && request.subscribed_topic_regex.is_none()
        && request.server_assignor.is_none()
        && request.rack_id.is_none()
        && request.topic_partitions.is_none();
    says_nothing
        && request.instance_id == member.instance_id
        && client.id == member.client_id
        && client.host == member.client_host
        && member.classic.is_none()
}

/// Whether a request says all that there is to say, as after a loss of memory: it is told
/// everything.
fn is_full(request: &ConsumerGroupHeartbeatRequest) -> bool {
    let subscribes =
        request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
    request.member_epoch == JOIN
        || (request.rebalance_timeout_ms != -1 && subscribes && request.topic_partitions.is_some())
}

/// The member that goes on where one of these was, before it says anything of itself.
fn successor(before: Option<&Member>, replaced: Option<&Member>, member_id: &Str) -> Member {
    match (replaced, before) {
        // The place is inherited, the epoch is not: its owner may have lost its state.
        (Some(held), _) => Member {
            id: member_id.detached(),
            epoch: JOIN,
            previous_epoch: JOIN,
            ..held.clone()
        },
        (None, Some(known)) if known.epoch == AWAY => Member {
            epoch: JOIN,
            previous_epoch: JOIN,
            ..known.clone()
        },
        (None, Some(known)) => known.clone(),
        (None, None) => Member::new(member_id.detached()),
    }
}

/// Whether a member may go on from the epoch it says it is at.
///
/// The epoch before the current one is served to who can only have missed an answer: it owns
/// nothing that it was not given.
fn check_epoch(
    member: &Member,
    epoch: i32,
    reported: Option<&PartitionSet>,
) -> Result<(), GroupError> {
    let fenced = |text: &str| {
        Err(GroupError::FencedMemberEpoch(format!(
            "The consumer group member has a {text} member epoch ({epoch}) compared to the one \
             known by the group coordinator ({}). The member must abandon all its partitions and \
             rejoin.",
            member.epoch
        )))
    };
    if epoch > member.epoch {
        return fenced("greater");
    }
    if epoch == member.epoch || epoch == JOIN {
        return Ok(());
    }
    let missed_an_answer = epoch == member.previous_epoch
        && reported.is_some_and(|reported| {
            reported
                .iter()
                .all(|(topic, partition)| member.assigned.contains(topic, partition))
        });
    if missed_an_answer {
        Ok(())
    } else {
        fenced("smaller")
    }
}

pub(super) fn millis(duration: std::time::Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
