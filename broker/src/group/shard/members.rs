//! Requests of members of classic groups.

use palisade_protocol::Str;

use super::admission::Admitted;
use super::{Group, Parked, Shard};
use crate::group::classic::{
    ClassicGroup, Identity, JoinAnswer, JoinAsk, JoinRefused, SyncAnswer, SyncAsk,
};
use crate::group::consumer::ClassicIdentity;
use crate::group::error::GroupError;
use crate::group::step::{Asker, Moment, Step, deliver};

impl Shard {
    /// JoinGroup: an unknown group comes into being for who has no member id yet, and stays if it
    /// gets a member or hands out an id.
    pub(crate) fn join(
        &mut self,
        id: &Str,
        ask: JoinAsk,
        asker: Asker<JoinAnswer>,
        moment: &Moment<'_>,
    ) -> Step {
        self.hear(id, &ask.member_id, &ask.principal);
        let Admitted { reserved, owner } = match self.reserve_for_join(id, &ask) {
            Ok(admitted) => admitted,
            Err(error) => return self.refuse_join(id, &ask, error, asker, moment),
        };
        if self.is_consumer(id) {
            // Where an empty group goes first, the join is heard again then, and reserves anew.
            let reserved = reserved.into_iter().filter(|_| !self.is_left(id)).collect();
            let step = self.join_consumer(id, ask, owner, asker, moment);
            return Step { reserved, ..step };
        }
        if !self.groups.contains_key(id.as_str()) && !ask.member_id.is_empty() {
            let refused = JoinRefused {
                error: GroupError::UnknownMember,
                member_id: ask.member_id,
            };
            return answer(asker, Err(refused));
        }
        self.entry(id);
        let token = self.park(Parked::Join(asker));
        let step = self.on_classic(id, |group| {
            group.join(ask, token, moment.now, moment.config)
        });
        // From here on the group itself counts it.
        drop(reserved);
        self.forget_unused(id);
        step
    }

    /// Refuses who does not fit in; an id that was handed out to it holds the others up no longer.
    fn refuse_join(
        &mut self,
        id: &Str,
        ask: &JoinAsk,
        error: GroupError,
        asker: Asker<JoinAnswer>,
        moment: &Moment<'_>,
    ) -> Step {
        let forgotten =
            |group: &mut ClassicGroup| group.pending_expired(&ask.member_id, moment.now);
        let mut step = self.on_classic(id, forgotten);
        let lives = self.told_to_come_again(id, &ask.member_id, &error, moment);
        step.timers.extend(lives);
        let member_id = Str::EMPTY;
        let refused = Err(JoinRefused { error, member_id });
        step.deliveries.push(deliver(asker, refused));
        self.forget_unused(id);
        step
    }

    /// SyncGroup.
    pub(crate) fn sync(
        &mut self,
        id: &Str,
        ask: SyncAsk,
        asker: Asker<SyncAnswer>,
        moment: &Moment<'_>,
    ) -> Step {
        self.hear(id, &ask.member_id, &ask.principal);
        if self.is_consumer(id) {
            return self.sync_consumer(id, ask, asker, moment);
        }
        if !self.groups.contains_key(id.as_str()) {
            return answer(asker, Err(GroupError::UnknownMember));
        }
        let reserved = match self.reserve_for_sync(id, &ask) {
            Ok(admitted) => admitted.reserved.into_iter().collect(),
            Err(error) => return answer(asker, Err(error)),
        };
        let token = self.park(Parked::Sync(asker));
        let step = self.on_classic(id, |group| group.sync(ask, token));
        Step { reserved, ..step }
    }

    /// Heartbeat.
    pub(crate) fn heartbeat(
        &mut self,
        id: &Str,
        member: &Str,
        instance: Option<&str>,
        generation: i32,
        asker: Asker<Result<(), GroupError>>,
        moment: &Moment<'_>,
    ) -> Step {
        if self.is_consumer(id) {
            let identity = ClassicIdentity {
                member_id: member,
                instance_id: instance,
            };
            return self.heartbeat_consumer(id, identity, generation, asker, moment);
        }
        let Some(group) = self.classic(id) else {
            return answer(asker, Err(GroupError::UnknownMember));
        };
        let (answer, effects) = group.heartbeat(member, instance, generation);
        let mut step = self.step(id, effects);
        step.deliveries.push(deliver(asker, answer));
        step
    }

    /// LeaveGroup: one answer for each member.
    pub(crate) fn leave(
        &mut self,
        id: &Str,
        leaving: &[Identity],
        asker: Asker<Result<Vec<Result<(), GroupError>>, GroupError>>,
        moment: &Moment<'_>,
    ) -> Step {
        let Some(entry) = self.groups.get_mut(id.as_str()) else {
            let unknown = leaving.iter().map(|_| Err(GroupError::UnknownMember));
            return answer(asker, Ok(unknown.collect()));
        };
        let Group::Classic(group) = &mut entry.group else {
            // May be spread: a change to a classic group is decided only where one batch holds it.
            return Step {
                divisible: true,
                ..self.leave_consumer(id, leaving, asker, moment)
            };
        };
        let (answers, effects) = group.leave(leaving, moment.now, moment.config);
        let mut step = self.step(id, effects);
        step.deliveries.push(deliver(asker, Ok(answers)));
        self.forget_unused(id);
        step
    }
}

fn answer<T: Send + 'static>(asker: Asker<T>, answer: T) -> Step {
    Step {
        deliveries: vec![deliver(asker, answer)],
        ..Step::default()
    }
}
