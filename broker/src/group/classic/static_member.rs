//! Static members (KIP-345, coordination.md §1.5): an instance that comes back with a new id.

use palisade_protocol::Str;
use palisade_protocol::types::TimestampMs;

use super::member::Member;
use super::{ClassicGroup, Effects, JoinAsk, Reply, State, Then, Token, member_id};
use crate::group::config::GroupConfig;
use crate::group::error::GroupError;

/// A replacement that is not stored yet.
#[derive(Debug)]
pub(crate) struct Replacement {
    token: Token,
    new_id: Str,
    old_id: Str,
    old: Member,
    old_leader: Option<Str>,
    awaits_sync: bool,
    may_skip_assignment: bool,
}

impl ClassicGroup {
    /// Gives the place of the member `old_id` to the same instance under a new id.
    pub(super) fn replace(
        &mut self,
        old_id: Str,
        ask: JoinAsk,
        token: Token,
        now: TimestampMs,
        config: &GroupConfig,
        fx: &mut Effects,
    ) {
        self.hear(&old_id, &ask.principal);
        let old_leader = self.leader.clone();
        let was_leader = self.is_leader(&old_id);
        let awaits_sync = self.pending_sync.contains(&old_id);
        let Some(old) = self.remove(&old_id) else {
            return fx.refuse_join(token, GroupError::UnknownMember, Str::EMPTY);
        };
        if let Some(parked) = old.join {
            fx.refuse_join(parked, GroupError::FencedInstanceId, old_id.clone());
        }
        if let Some(parked) = old.sync {
            let fenced = Err(GroupError::FencedInstanceId);
            fx.replies.push(Reply::Sync(parked, fenced));
        }
        let prefix = old.instance_id.clone().unwrap_or_default();
        let new_id = member_id(&prefix, ask.chance);
        let member = Member {
            join: None,
            sync: None,
            ..old.clone()
        };
        self.insert(new_id.clone(), member);
        if was_leader {
            self.leader = Some(new_id.clone());
        }
        if awaits_sync {
            self.pending_sync.insert(new_id.clone());
        }
        fx.cancel(self.session_timer(&old_id));
        self.update(&new_id, &ask, None, fx);
        fx.set(self.session_timer(&new_id), ask.session_timeout);
        let stays = self.state == State::Stable && self.choose_protocol() == self.protocol;
        if stays {
            let replacement = Replacement {
                token,
                new_id,
                old_id,
                old,
                old_leader,
                awaits_sync,
                may_skip_assignment: ask.may_skip_assignment,
            };
            let record = self.record_as_is();
            fx.store = Some((record, Then::Replaced(Box::new(replacement))));
        } else {
            self.set_join(&new_id, Some(token));
            self.rebalance_or_finish(now, config, fx);
        }
    }

    /// A replacement was stored, or was not and is undone.
    pub(super) fn replaced(
        &mut self,
        replacement: Replacement,
        result: Result<(), GroupError>,
        fx: &mut Effects,
    ) {
        let Replacement {
            token,
            new_id,
            old_id,
            old,
            old_leader,
            awaits_sync,
            may_skip_assignment,
        } = replacement;
        if let Err(error) = result {
            self.remove(&new_id);
            fx.cancel(self.session_timer(&new_id));
            fx.set(self.session_timer(&old_id), old.session_timeout);
            let old = Member {
                join: None,
                sync: None,
                ..old
            };
            self.insert(old_id.clone(), old);
            if awaits_sync {
                self.pending_sync.insert(old_id);
            }
            self.leader = old_leader;
            return fx.refuse_join(token, error, Str::EMPTY);
        }
        let leads = self.is_leader(&new_id);
        let mut joined = self.joined(&new_id, may_skip_assignment && leads);
        if may_skip_assignment {
            joined.skip_assignment = leads;
        } else {
            // The old leader's id, so that nobody takes itself for the leader and assigns.
            joined.leader = old_leader.unwrap_or_default();
        }
        fx.replies.push(Reply::Join(token, Ok(joined)));
    }
}
