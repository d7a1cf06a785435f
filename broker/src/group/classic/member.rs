//! A member of a classic group, and how the group's books follow it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use palisade_protocol::Str;

use super::{ClassicGroup, JoinAsk, State, SyncAsk, Token};
use crate::group::budget::{self, Weigh};

/// Protocols by preference, each with the member's metadata for it.
pub(crate) type Protocols = Vec<(Str, Bytes)>;

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<Str>,
    pub(super) client_id: Str,
    pub(super) client_host: Str,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Protocols,
    pub(super) assignment: Bytes,
    /// Its parked JoinGroup.
    pub(super) join: Option<Token>,
    /// Its parked SyncGroup.
    pub(super) sync: Option<Token>,
    /// It has never completed a join.
    pub(super) is_new: bool,
}

impl Member {
    /// Its metadata for a protocol; nothing for one that it does not support.
    pub(super) fn metadata(&self, protocol: Option<&Str>) -> Bytes {
        let found = self
            .protocols
            .iter()
            .find(|(name, _)| Some(name) == protocol);
        found.map_or_else(Bytes::new, |(_, metadata)| metadata.clone())
    }
}

impl Weigh for Member {
    fn weigh(&self) -> usize {
        said(
            self.instance_id.as_ref(),
            [&self.client_id, &self.client_host],
            &self.protocols,
        ) + self.assignment.len()
    }
}

/// Weight of what a member says of itself; an instance id is kept twice.
fn said(instance: Option<&Str>, client: [&Str; 2], protocols: &Protocols) -> usize {
    let client = client.into_iter().map(|text| text.len());
    let protocols = protocols
        .iter()
        .map(|(name, metadata)| budget::part(name.as_bytes()) + metadata.len());
    2 * budget::optional(instance) + client.sum::<usize>() + protocols.sum::<usize>()
}

impl ClassicGroup {
    /// What the sender of a JoinGroup keeps, if it is a member, and would keep, assignments aside.
    ///
    /// `None` for one with an id that is not known: the group will tell it so.
    pub(crate) fn growth_by_join(&self, ask: &JoinAsk) -> Option<(Option<usize>, usize)> {
        let is_known = |id| {
            let member = self.check_member(id, ask.instance_id.as_deref());
            self.pending.contains_key(id) || member.is_ok()
        };
        if !ask.member_id.is_empty() && !is_known(&ask.member_id) {
            return None;
        }
        let id = match &ask.instance_id {
            Some(instance) if ask.member_id.is_empty() => self.instances.get(instance),
            _ => Some(&ask.member_id),
        };
        let before = id.and_then(|id| Some((id, self.members.get(id)?)));
        let before =
            before.map(|(id, member)| budget::entry(id, member.weigh() - member.assignment.len()));
        let client = [&ask.client_id, &ask.client_host];
        let after = said(ask.instance_id.as_ref(), client, &ask.protocols);
        let id = match ask.member_id.is_empty() {
            // One is made of it.
            true => ask.instance_id.as_ref().unwrap_or(&ask.client_id),
            false => &ask.member_id,
        };
        Some((before, budget::entry(id, after)))
    }

    /// What assignments take, and would take once a leader's SyncGroup is stored.
    pub(crate) fn growth_by_sync(&self, ask: &SyncAsk) -> (usize, usize) {
        let takes_effect =
            self.state == State::CompletingRebalance && self.is_leader(&ask.member_id);
        if !takes_effect {
            return (0, 0);
        }
        let before = self.members.values().map(|member| member.assignment.len());
        let after = ask.assignments.iter();
        let after = after
            .filter(|(id, _)| self.members.contains_key(id))
            .map(|(_, assignment)| assignment.len());
        (before.sum(), after.sum())
    }

    /// Puts a member in; its id is no longer pending.
    pub(super) fn insert(&mut self, id: Str, member: Member) {
        self.pending.remove(&id);
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        self.awaiting_join += usize::from(member.join.is_some());
        self.count(&member.protocols, true);
        self.members.insert(id, member);
    }

    /// Takes a member out; what of it was parked is the caller's to answer.
    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.pending_sync.remove(id);
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.awaiting_join -= usize::from(member.join.is_some());
        self.count(&member.protocols, false);
        Some(member)
    }

    /// Parks or releases a member's JoinGroup; gives the token that was parked before.
    pub(super) fn set_join(&mut self, id: &str, token: Option<Token>) -> Option<Token> {
        let before = self
            .members
            .change(id, |member| std::mem::replace(&mut member.join, token))?;
        self.awaiting_join += usize::from(token.is_some());
        self.awaiting_join -= usize::from(before.is_some());
        before
    }

    /// Replaces what a member supports.
    pub(super) fn set_protocols(&mut self, id: &str, protocols: Protocols) -> Option<Protocols> {
        self.count(&protocols, true);
        let before = self.members.change(id, |member| {
            std::mem::replace(&mut member.protocols, protocols)
        })?;
        self.count(&before, false);
        Some(before)
    }

    fn count(&mut self, protocols: &Protocols, comes: bool) {
        // A name given twice is one protocol.
        let names: BTreeSet<&Str> = protocols.iter().map(|(name, _)| name).collect();
        for name in names {
            let members = self.support.entry(name.clone()).or_insert(0);
            if comes {
                *members += 1;
            } else {
                *members -= 1;
            }
            if *members == 0 {
                self.support.remove(name);
            }
        }
    }

    /// Whether every member supports a protocol.
    pub(super) fn is_supported_by_all(&self, protocol: &str) -> bool {
        let members = self.support.get(protocol).copied().unwrap_or(0);
        members == self.members.len()
    }

    /// The protocol that most members prefer among those that all support.
    pub(super) fn choose_protocol(&self) -> Option<Str> {
        let mut votes: Vec<(&Str, usize)> = Vec::new();
        for member in self.members.values() {
            let first = member
                .protocols
                .iter()
                .find(|(name, _)| self.is_supported_by_all(name));
            let Some((name, _)) = first else { continue };
            match votes.iter_mut().find(|(voted, _)| *voted == name) {
                Some((_, count)) => *count += 1,
                None => votes.push((name, 1)),
            }
        }
        let most = votes.iter().map(|(_, count)| *count).max()?;
        let chosen = votes.iter().find(|(_, count)| *count == most)?;
        Some(chosen.0.clone())
    }
}
