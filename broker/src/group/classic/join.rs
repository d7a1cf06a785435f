//! JoinGroup (coordination.md §1.2).

use std::time::Duration;

use bytes::Bytes;
use palisade_auth::principal::Principal;
use palisade_protocol::types::TimestampMs;
use palisade_protocol::{Str, Uuid};

use super::member::Member;
use super::upgrade::Reading;
use super::{
    ClassicGroup, Effects, Joined, JoinedMember, Protocols, Reply, State, Token, member_id,
};
use crate::group::config::GroupConfig;
use crate::group::error::GroupError;

/// How long a member may wait for its first generation; its session begins only then.
const NEW_MEMBER_TIMEOUT: Duration = Duration::from_secs(300);

/// Ids that one group hands out at most without seeing them used.
const MAX_PENDING: usize = 10_000;

/// A JoinGroup; every text and all bytes are copies that outlive the request.
#[derive(Clone, Debug)]
pub(crate) struct JoinAsk {
    /// Who asks: what the member keeps is counted for him.
    pub(crate) principal: Principal,
    /// The id the member has, empty for none.
    pub(crate) member_id: Str,
    /// The instance id of a static member.
    pub(crate) instance_id: Option<Str>,
    /// The name the client gave itself.
    pub(crate) client_id: Str,
    /// Its address, with a slash before it.
    pub(crate) client_host: Str,
    /// How long the member may be silent.
    pub(crate) session_timeout: Duration,
    /// How long it may take to rejoin.
    pub(crate) rebalance_timeout: Duration,
    /// The kind of protocol.
    pub(crate) protocol_type: Str,
    /// What the member supports.
    pub(crate) protocols: Protocols,
    /// A dynamic member must come back with an id before it counts (KIP-394).
    pub(crate) needs_known_id: bool,
    /// The client understands that a leader need not assign (KIP-814).
    pub(crate) may_skip_assignment: bool,
    /// Chance for a new id.
    pub(crate) chance: Uuid,
}

#[cfg(test)]
impl JoinAsk {
    /// Of a consumer that has no id yet, with the protocol `range` and nothing to say in it.
    pub(crate) fn of_a_consumer(chance: Uuid) -> JoinAsk {
        JoinAsk {
            principal: Principal::user("alice"),
            member_id: Str::EMPTY,
            instance_id: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::new())],
            needs_known_id: false,
            may_skip_assignment: false,
            chance,
        }
    }
}

impl ClassicGroup {
    /// Lets a member in, parks it, or refuses it.
    pub(crate) fn join(
        &mut self,
        ask: JoinAsk,
        token: Token,
        now: TimestampMs,
        config: &GroupConfig,
    ) -> Effects {
        let mut fx = Effects::default();
        if !self.has_place_for(&ask.member_id, config.max_size) {
            let error = GroupError::GroupMaxSizeReached(config.max_size);
            fx.refuse_join(token, error, Str::EMPTY);
            if let Some(member) = self.remove(&ask.member_id) {
                fx.forget(member.sync);
                fx.cancel(self.session_timer(&ask.member_id));
                self.finish_join_phase(now, &mut fx);
            }
        } else if !self.accepts_protocols(&ask) {
            fx.refuse_join(token, GroupError::InconsistentProtocol, ask.member_id);
        } else if !ask.member_id.is_empty() {
            self.join_known(ask, token, now, config, &mut fx);
        } else if let Some(instance) = ask.instance_id.clone() {
            match self.instances.get(&instance).cloned() {
                Some(holder) => self.replace(holder, ask, token, now, config, &mut fx),
                None => {
                    let id = member_id(&instance, ask.chance);
                    self.add(id, ask, token, now, config, &mut fx);
                }
            }
        } else {
            self.join_unknown(ask, token, now, config, &mut fx);
        }
        fx
    }

    /// Whether `group.max.size` leaves room for this id.
    fn has_place_for(&self, id: &str, max_size: usize) -> bool {
        let member = self.members.get(id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                member.is_some_and(|member| member.join.is_some()) || self.awaiting_join < max_size
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.members.len() < max_size
            }
        }
    }

    fn accepts_protocols(&self, ask: &JoinAsk) -> bool {
        if self.is_empty() {
            return !ask.protocol_type.is_empty() && !ask.protocols.is_empty();
        }
        let mut names = ask.protocols.iter().map(|(name, _)| name);
        ask.protocol_type == *self.protocol_type()
            && names.any(|name| self.is_supported_by_all(name))
    }

    /// A dynamic member without id.
    fn join_unknown(
        &mut self,
        ask: JoinAsk,
        token: Token,
        now: TimestampMs,
        config: &GroupConfig,
        fx: &mut Effects,
    ) {
        let id = member_id(&ask.client_id, ask.chance);
        if !ask.needs_known_id {
            self.add(id, ask, token, now, config, fx);
        } else if self.pending.len() < MAX_PENDING {
            self.pending.insert(id.clone(), ask.principal);
            fx.set(self.pending_timer(&id), ask.session_timeout);
            fx.refuse_join(token, GroupError::MemberIdRequired, id);
        } else {
            let error = GroupError::GroupMaxSizeReached(MAX_PENDING);
            fx.refuse_join(token, error, Str::EMPTY);
        }
    }

    /// A member that names its id.
    fn join_known(
        &mut self,
        ask: JoinAsk,
        token: Token,
        now: TimestampMs,
        config: &GroupConfig,
        fx: &mut Effects,
    ) {
        let id = ask.member_id.clone();
        if self.pending.contains_key(&id) {
            if ask.instance_id.is_some() {
                let text = "a static member cannot use an id that was handed to a dynamic one";
                fx.refuse_join(token, GroupError::Unknown(text.to_owned()), id);
            } else {
                fx.cancel(self.pending_timer(&id));
                self.add(id, ask, token, now, config, fx);
            }
            return;
        }
        if let Err(error) = self.check_member(&id, ask.instance_id.as_deref()) {
            fx.refuse_join(token, error, id);
            return;
        }
        let same = self
            .members
            .get(&id)
            .is_some_and(|member| member.protocols == ask.protocols);
        match self.state {
            // A member of an empty group does not exist, which was said above.
            State::Empty => fx.refuse_join(token, GroupError::UnknownMember, id),
            State::CompletingRebalance if same => {
                // Its answer was lost: once more.
                let joined = self.joined(&id, self.is_leader(&id));
                self.answer_at_once(token, &id, joined, fx);
            }
            State::Stable if same && !self.is_leader(&id) => {
                let joined = self.joined(&id, false);
                self.answer_at_once(token, &id, joined, fx);
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update(&id, &ask, Some(token), fx);
                self.rebalance_or_finish(now, config, fx);
            }
        }
    }

    fn answer_at_once(&self, token: Token, id: &Str, joined: Joined, fx: &mut Effects) {
        fx.replies.push(Reply::Join(token, Ok(joined)));
        if let Some(member) = self.members.get(id) {
            fx.set(self.session_timer(id), member.session_timeout);
        }
    }

    /// Puts a new member in and starts or continues a rebalance.
    fn add(
        &mut self,
        id: Str,
        ask: JoinAsk,
        token: Token,
        now: TimestampMs,
        config: &GroupConfig,
        fx: &mut Effects,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(ask.protocol_type);
        }
        if let Some(first) = &mut self.first_rebalance {
            first.member_added = true;
        }
        fx.set(self.session_timer(&id), NEW_MEMBER_TIMEOUT);
        let member = Member {
            instance_id: ask.instance_id,
            client_id: ask.client_id,
            client_host: ask.client_host,
            session_timeout: ask.session_timeout,
            rebalance_timeout: ask.rebalance_timeout,
            protocols: ask.protocols,
            assignment: Bytes::new(),
            owner: Some(ask.principal),
            assigned_by: None,
            join: Some(token),
            sync: None,
            is_new: true,
            reading: Reading::new(),
        };
        self.insert(id, member);
        self.rebalance_or_finish(now, config, fx);
    }

    /// Takes over what a member says of itself, and parks its JoinGroup.
    pub(super) fn update(
        &mut self,
        id: &Str,
        ask: &JoinAsk,
        token: Option<Token>,
        fx: &mut Effects,
    ) {
        self.set_protocols(id, ask.protocols.clone(), &ask.principal);
        let replaced = self.set_join(id, token);
        fx.forget(replaced);
        self.members.change(id, |member| {
            member.session_timeout = ask.session_timeout;
            member.rebalance_timeout = ask.rebalance_timeout;
        });
    }

    /// The current generation as one member is told.
    pub(super) fn joined(&self, id: &Str, with_members: bool) -> Joined {
        let members = match with_members {
            true => self.joined_members(),
            false => Vec::new(),
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: id.clone(),
            members,
        }
    }

    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let members = self.members.iter().map(|(id, member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol.as_ref()),
        });
        members.collect()
    }
}
