//! SyncGroup (coordination.md §1.3).

use std::collections::BTreeMap;

use bytes::Bytes;
use palisade_auth::principal::Principal;
use palisade_protocol::Str;
use palisade_protocol::types::TimestampMs;

use super::{ClassicGroup, Effects, Reply, State, Synced, Then, Token};
use crate::group::config::GroupConfig;
use crate::group::error::GroupError;

/// A SyncGroup; texts and bytes are copies that outlive the request.
#[derive(Clone, Debug)]
pub(crate) struct SyncAsk {
    /// Who asks: assignments are counted for him.
    pub(crate) principal: Principal,
    /// The member.
    pub(crate) member_id: Str,
    /// The instance id of a static member.
    pub(crate) instance_id: Option<Str>,
    /// The generation it is in.
    pub(crate) generation: i32,
    /// The protocol type, where the version has it.
    pub(crate) protocol_type: Option<Str>,
    /// The protocol, where the version has it.
    pub(crate) protocol: Option<Str>,
    /// The leader's assignment, by member.
    pub(crate) assignments: Vec<(Str, Bytes)>,
}

impl ClassicGroup {
    /// Takes the leader's assignment, parks the others, or answers what is known.
    pub(crate) fn sync(&mut self, ask: SyncAsk, token: Token) -> Effects {
        let mut fx = Effects::default();
        if let Err(error) = self.check_sync(&ask) {
            fx.replies.push(Reply::Sync(token, Err(error)));
            return fx;
        }
        let id = ask.member_id;
        self.pending_sync.remove(&id);
        if self.pending_sync.is_empty() {
            fx.cancel(self.sync_timer());
        }
        let Some(member) = self.members.get(&id) else {
            return fx;
        };
        if self.state == State::Stable {
            let after = member.session_timeout;
            let assignment = member.assignment.clone();
            let synced = Ok(self.synced(assignment));
            fx.replies.push(Reply::Sync(token, synced));
            fx.set(self.session_timer(&id), after);
            return fx;
        }
        let replaced = self
            .members
            .change(&id, |member| member.sync.replace(token));
        fx.forget(replaced.flatten());
        if self.is_leader(&id) {
            let assigned: BTreeMap<Str, Bytes> = ask
                .assignments
                .into_iter()
                .filter(|(member, _)| self.members.contains_key(member))
                .collect();
            let record = self.record_of(&assigned);
            fx.store = Some((record, Then::Assigned(assigned, ask.principal)));
        }
        fx
    }

    fn check_sync(&self, ask: &SyncAsk) -> Result<(), GroupError> {
        self.check_member(&ask.member_id, ask.instance_id.as_deref())?;
        if ask.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |asked: &Option<Str>, own: &Option<Str>| {
            asked.is_some() && asked.as_deref() != own.as_deref()
        };
        if differs(&ask.protocol_type, &self.protocol_type)
            || differs(&ask.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// A leader's assignment is stored, or is not and the group rebalances.
    pub(super) fn assigned(
        &mut self,
        (mut assigned, leader): (BTreeMap<Str, Bytes>, Principal),
        result: Result<(), GroupError>,
        now: TimestampMs,
        config: &GroupConfig,
        fx: &mut Effects,
    ) {
        if let Err(error) = result {
            self.refuse_syncs(&error, fx);
            return self.rebalance_or_finish(now, config, fx);
        }
        self.enter(State::Stable, now);
        let mut parked = Vec::new();
        self.members.change_all(|id, member| {
            member.assign(assigned.remove(id).unwrap_or_default(), &leader);
            if let Some(token) = member.sync.take() {
                parked.push((id.clone(), token));
            }
        });
        for (id, token) in parked {
            let Some(member) = self.members.get(&id) else {
                continue;
            };
            let synced = Ok(self.synced(member.assignment.clone()));
            fx.replies.push(Reply::Sync(token, synced));
            fx.set(self.session_timer(&id), member.session_timeout);
        }
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }
    }
}
