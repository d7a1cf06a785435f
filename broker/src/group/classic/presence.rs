//! Heartbeats, departures, and members that fall silent (coordination.md §1.4).

use palisade_protocol::Str;
use palisade_protocol::types::TimestampMs;

use super::{ClassicGroup, Effects, State};
use crate::group::config::GroupConfig;
use crate::group::error::GroupError;

/// A member that leaves, or is removed by an operator.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Its id; empty where only the instance is named.
    pub(crate) member_id: Str,
    /// The instance id of a static member.
    pub(crate) instance_id: Option<Str>,
}

impl ClassicGroup {
    /// Notes that a member lives, and says whether it must rejoin.
    pub(crate) fn heartbeat(
        &mut self,
        member: &Str,
        instance: Option<&str>,
        generation: i32,
    ) -> (Result<(), GroupError>, Effects) {
        let mut fx = Effects::default();
        if let Err(error) = self.check_member(member, instance) {
            return (Err(error), fx);
        }
        if generation != self.generation {
            return (Err(GroupError::IllegalGeneration), fx);
        }
        self.touch(member, &mut fx);
        let answer = match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        };
        (answer, fx)
    }

    /// A member spoke, and nothing else of what it said is taken.
    pub(crate) fn lives(&self, member: &Str) -> Effects {
        let mut fx = Effects::default();
        self.touch(member, &mut fx);
        fx
    }

    /// Starts a member's session anew.
    pub(super) fn touch(&self, id: &Str, fx: &mut Effects) {
        if let Some(member) = self.members.get(id) {
            fx.set(self.session_timer(id), member.session_timeout);
        }
    }

    /// Removes members; one answer for each.
    pub(crate) fn leave(
        &mut self,
        leaving: &[Identity],
        now: TimestampMs,
        config: &GroupConfig,
    ) -> (Vec<Result<(), GroupError>>, Effects) {
        let mut fx = Effects::default();
        let before = self.members.len();
        let answers = leaving.iter().map(|one| self.leave_one(one, &mut fx));
        let answers: Vec<_> = answers.collect();
        self.after_departure(before != self.members.len(), now, config, &mut fx);
        (answers, fx)
    }

    fn leave_one(&mut self, leaving: &Identity, fx: &mut Effects) -> Result<(), GroupError> {
        let instance = leaving.instance_id.as_deref();
        let id = if leaving.member_id.is_empty() {
            let holder = instance.and_then(|instance| self.instances.get(instance));
            holder.cloned().ok_or(GroupError::UnknownMember)?
        } else if self.pending.remove(&leaving.member_id).is_some() {
            fx.cancel(self.pending_timer(&leaving.member_id));
            return Ok(());
        } else {
            self.check_member(&leaving.member_id, instance)?;
            leaving.member_id.clone()
        };
        self.drop_member(&id, fx);
        Ok(())
    }

    /// Takes a member out; its parked JoinGroup is refused, its parked SyncGroup never answered.
    fn drop_member(&mut self, id: &Str, fx: &mut Effects) {
        let Some(member) = self.remove(id) else {
            return;
        };
        fx.cancel(self.session_timer(id));
        fx.forget(member.sync);
        if let Some(token) = member.join {
            fx.refuse_join(token, GroupError::UnknownMember, id.clone());
        }
    }

    /// Rebalances after members went; ids that were only handed out may end a join phase.
    fn after_departure(
        &mut self,
        members_went: bool,
        now: TimestampMs,
        config: &GroupConfig,
        fx: &mut Effects,
    ) {
        match self.state {
            State::Empty => {}
            State::PreparingRebalance => self.finish_join_phase(now, fx),
            State::CompletingRebalance | State::Stable if members_went => {
                self.prepare_rebalance(now, config, fx);
            }
            State::CompletingRebalance | State::Stable => {}
        }
    }

    /// A member's session is over, unless it waits for the others.
    pub(crate) fn session_expired(
        &mut self,
        id: &Str,
        now: TimestampMs,
        config: &GroupConfig,
    ) -> Effects {
        let mut fx = Effects::default();
        let Some(member) = self.members.get(id) else {
            return fx;
        };
        let waits = member.join.is_some() || member.sync.is_some();
        // A new member waits for a bounded time only: its client may be gone.
        if waits && !member.is_new {
            return fx;
        }
        self.drop_member(id, &mut fx);
        self.after_departure(true, now, config, &mut fx);
        fx
    }

    /// An id that was handed out has not been used in time.
    pub(crate) fn pending_expired(&mut self, id: &str, now: TimestampMs) -> Effects {
        let mut fx = Effects::default();
        if self.pending.remove(id).is_some() {
            self.finish_join_phase(now, &mut fx);
        }
        fx
    }
}
