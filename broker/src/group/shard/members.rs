//! Requests of members of classic groups.

use palisade_protocol::Str;

use super::{Group, Parked, Shard};
use crate::group::classic::{Identity, JoinAnswer, JoinAsk, JoinRefused, SyncAnswer, SyncAsk};
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
        if self.is_consumer(id) {
            return self.join_consumer(id, ask, asker, moment);
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
        if self.is_consumer(id) {
            return self.sync_consumer(id, ask, asker, moment);
        }
        if !self.groups.contains_key(id.as_str()) {
            return answer(asker, Err(GroupError::UnknownMember));
        }
        let token = self.park(Parked::Sync(asker));
        self.on_classic(id, |group| group.sync(ask, token))
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
            return self.leave_consumer(id, leaving, asker, moment);
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
