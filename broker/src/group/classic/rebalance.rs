//! From one generation to the next: the join phase and its timers.

use std::time::Duration;

use palisade_protocol::types::TimestampMs;

use super::upgrade::Reading;
use super::{ClassicGroup, Effects, FirstRebalance, Reply, State, Then};
use crate::group::config::GroupConfig;
use crate::group::decision::TimerKey;
use crate::group::error::GroupError;

impl ClassicGroup {
    /// Starts a rebalance, or ends the join phase of the one that runs if everyone is there.
    pub(super) fn rebalance_or_finish(
        &mut self,
        now: TimestampMs,
        config: &GroupConfig,
        fx: &mut Effects,
    ) {
        if self.state == State::PreparingRebalance {
            self.finish_join_phase(now, fx);
        } else {
            self.prepare_rebalance(now, config, fx);
        }
    }

    /// Asks all members to join again.
    pub(super) fn prepare_rebalance(
        &mut self,
        now: TimestampMs,
        config: &GroupConfig,
        fx: &mut Effects,
    ) {
        if self.state == State::CompletingRebalance {
            self.refuse_syncs(&GroupError::RebalanceInProgress, fx);
        }
        fx.cancel(self.sync_timer());
        let is_first = self.is_empty();
        self.enter(State::PreparingRebalance, now);
        if is_first {
            let step = config.initial_rebalance_delay;
            self.first_rebalance = Some(FirstRebalance {
                step,
                remaining: self.rebalance_timeout().saturating_sub(step),
                member_added: false,
            });
            fx.set(self.join_timer(), step);
        } else if self.everyone_joined() {
            self.complete_join(now, fx);
        } else {
            fx.set(self.join_timer(), self.rebalance_timeout());
        }
    }

    /// Ends the join phase if everyone is there; the first one runs its full time.
    pub(super) fn finish_join_phase(&mut self, now: TimestampMs, fx: &mut Effects) {
        let may_end = self.state == State::PreparingRebalance && self.first_rebalance.is_none();
        if may_end && self.everyone_joined() {
            self.complete_join(now, fx);
        }
    }

    fn everyone_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending.is_empty()
    }

    /// The join phase has lasted as long as it may.
    pub(crate) fn join_expired(&mut self, now: TimestampMs, config: &GroupConfig) -> Effects {
        let mut fx = Effects::default();
        if self.state != State::PreparingRebalance {
            return fx;
        }
        match &mut self.first_rebalance {
            Some(first) if first.member_added && first.remaining > Duration::ZERO => {
                let step = config.initial_rebalance_delay.min(first.remaining);
                first.remaining = first.remaining.saturating_sub(first.step);
                first.step = step;
                first.member_added = false;
                fx.set(self.join_timer(), step);
            }
            _ => self.complete_join(now, &mut fx),
        }
        fx
    }

    /// Makes a new generation of those who joined.
    fn complete_join(&mut self, now: TimestampMs, fx: &mut Effects) {
        fx.cancel(self.join_timer());
        let absent: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.join.is_none() && member.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in absent {
            self.remove(&id);
            fx.cancel(self.session_timer(&id));
        }
        if !self.elect_leader() && !self.members.is_empty() {
            // Only static members are left and none is here: their sessions decide.
            self.first_rebalance = None;
            fx.set(self.join_timer(), self.rebalance_timeout());
            return;
        }
        self.first_rebalance = None;
        self.generation = self.generation.wrapping_add(1).max(0);
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.enter(State::Empty, now);
            fx.store = Some((self.record_as_is(), Then::Emptied));
            return;
        }
        self.protocol = self.choose_protocol();
        self.enter(State::CompletingRebalance, now);
        self.answer_joins(fx);
        fx.set(self.sync_timer(), self.rebalance_timeout());
    }

    /// Whether the leader is here; a member that is takes the place of one that is not.
    fn elect_leader(&mut self) -> bool {
        let is_here = |id| {
            let member = self.members.get(id);
            member.is_some_and(|member| member.join.is_some())
        };
        if self.leader.as_ref().is_some_and(is_here) {
            return true;
        }
        let here = self
            .members
            .iter()
            .find(|(_, member)| member.join.is_some());
        match here {
            Some((id, _)) => {
                self.leader = Some(id.clone());
                true
            }
            None => false,
        }
    }

    fn answer_joins(&mut self, fx: &mut Effects) {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(token) = self.set_join(&id, None) {
                let joined = self.joined(&id, self.is_leader(&id));
                fx.replies.push(Reply::Join(token, Ok(joined)));
            }
            let session = self.session_timer(&id);
            self.members.change(&id, |member| {
                member.is_new = false;
                fx.set(session, member.session_timeout);
            });
            self.pending_sync.insert(id);
        }
    }

    /// Members that did not ask for their assignment in time are dropped.
    pub(crate) fn sync_expired(&mut self, now: TimestampMs, config: &GroupConfig) -> Effects {
        let mut fx = Effects::default();
        let late = match self.state {
            State::CompletingRebalance | State::Stable => std::mem::take(&mut self.pending_sync),
            State::Empty | State::PreparingRebalance => return fx,
        };
        if late.is_empty() {
            return fx;
        }
        for id in late {
            self.remove(&id);
            fx.cancel(self.session_timer(&id));
        }
        self.prepare_rebalance(now, config, &mut fx);
        fx
    }

    /// Clears all assignments and answers every parked SyncGroup with an error.
    pub(super) fn refuse_syncs(&mut self, error: &GroupError, fx: &mut Effects) {
        let group = &self.id;
        self.members.change_all(|id, member| {
            member.assignment = bytes::Bytes::new();
            member.reading = Reading::new();
            if let Some(token) = member.sync.take() {
                fx.replies.push(Reply::Sync(token, Err(error.clone())));
                // The session may have run out while the member waited, when that did not count.
                let session = TimerKey::Session {
                    group: group.clone(),
                    member: id.clone(),
                };
                fx.set(session, member.session_timeout);
            }
        });
    }
}
