//! A member of a classic group, and how the group's books follow it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use palisade_auth::principal::Principal;
use palisade_protocol::Str;

use super::upgrade::Reading;
use super::{ClassicGroup, JoinAsk, State, SyncAsk, Token};
use crate::group::budget::{self, Growth, Part, ROOM, Weigh};

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
    /// Whose it is; nobody's if it was read from the log and not heard since.
    pub(super) owner: Option<Principal>,
    /// Whose the assignment is: a leader's, who may be another's.
    pub(super) assigned_by: Option<Principal>,
    /// Its parked JoinGroup.
    pub(super) join: Option<Token>,
    /// Its parked SyncGroup.
    pub(super) sync: Option<Token>,
    /// It has never completed a join.
    pub(super) is_new: bool,
    /// What its metadata and its assignment say.
    pub(super) reading: Reading,
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

    /// Gives it an assignment, which is its leader's as far as he makes it longer.
    pub(super) fn assign(&mut self, assignment: Bytes, leader: &Principal) {
        let before = (given(&self.assignment), self.assigned_by.as_ref());
        let growth = Growth::of(Some(before), given(&assignment), leader);
        self.assigned_by = Some(growth.owner);
        self.assignment = assignment;
        self.reading = Reading::new();
    }
}

impl Weigh for Member {
    fn parts(&self) -> [Part; 2] {
        let client = [&self.client_id, &self.client_host];
        let said = said(self.instance_id.as_ref(), client, &self.protocols);
        let given = given(&self.assignment);
        [
            (self.owner.clone(), said),
            (self.assigned_by.clone(), given),
        ]
    }
}

/// Of the room that every member has, what is for its assignment.
const ASSIGNMENT_ROOM: usize = ROOM / 2;

/// Weight of an assignment, beyond its part of the room.
fn given(assignment: &Bytes) -> usize {
    assignment.len().saturating_sub(ASSIGNMENT_ROOM)
}

/// Weight of what a member says of itself, room included; an instance id is kept twice.
fn said(instance: Option<&Str>, client: [&Str; 2], protocols: &Protocols) -> usize {
    let client = client.into_iter().map(|text| text.len());
    let protocols = protocols
        .iter()
        .map(|(name, metadata)| budget::part(name.as_bytes()) + metadata.len());
    let said = 2 * budget::optional(instance) + client.sum::<usize>() + protocols.sum::<usize>();
    said.max(ROOM - ASSIGNMENT_ROOM) + ASSIGNMENT_ROOM
}

impl ClassicGroup {
    /// What the sender of a JoinGroup would keep beyond what it keeps if it is a member,
    /// assignments aside.
    ///
    /// `None` for one with an id that is not known: the group will tell it so.
    pub(crate) fn growth_by_join(&self, ask: &JoinAsk) -> Option<Growth> {
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
        let before = before.map(|(id, member)| {
            let [(owner, said), _] = member.parts();
            (budget::entry(id, said), owner)
        });
        let before = before
            .as_ref()
            .map(|(bytes, owner)| (*bytes, owner.as_ref()));
        let client = [&ask.client_id, &ask.client_host];
        let after = said(ask.instance_id.as_ref(), client, &ask.protocols);
        let id = match ask.member_id.is_empty() {
            // One is made of it.
            true => ask.instance_id.as_ref().unwrap_or(&ask.client_id),
            false => &ask.member_id,
        };
        Some(Growth::of(before, budget::entry(id, after), &ask.principal))
    }

    /// The same of assignments, once a leader's SyncGroup is stored; `None` for any other.
    pub(crate) fn growth_by_sync(&self, ask: &SyncAsk) -> Option<Growth> {
        let takes_effect =
            self.state == State::CompletingRebalance && self.is_leader(&ask.member_id);
        if !takes_effect {
            return None;
        }
        let assigned = ask.assignments.iter();
        let assigned: BTreeMap<&Str, usize> =
            assigned.map(|(id, bytes)| (id, given(bytes))).collect();
        let (mut before, mut after, mut owed) = (0, 0, 0);
        for (id, member) in self.members.iter() {
            let [_, (owner, is)] = member.parts();
            let becomes = assigned.get(id).copied().unwrap_or(0);
            owed += Growth::of(Some((is, owner.as_ref())), becomes, &ask.principal).owed;
            before += is;
            after += becomes;
        }
        Some(Growth {
            owner: ask.principal.clone(),
            bytes: after.saturating_sub(before),
            owed,
            is_new: false,
        })
    }

    /// A member that is nobody's is whose who speaks for it.
    pub(crate) fn hear(&mut self, id: &str, from: &Principal) {
        if self
            .members
            .get(id)
            .is_some_and(|member| member.owner.is_none())
        {
            self.members.change(id, |member| {
                member.owner = Some(from.clone());
                member.assigned_by.get_or_insert_with(|| from.clone());
            });
        }
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

    /// Replaces what a member supports; it is the principal's from now on if it says more.
    pub(super) fn set_protocols(
        &mut self,
        id: &str,
        protocols: Protocols,
        by: &Principal,
    ) -> Option<Protocols> {
        self.count(&protocols, true);
        let before = self.members.change(id, |member| {
            let said = member.parts()[0].1;
            let before = std::mem::replace(&mut member.protocols, protocols);
            member.reading = Reading::new();
            let owner = member.owner.as_ref();
            let growth = Growth::of(Some((said, owner)), member.parts()[0].1, by);
            member.owner = Some(growth.owner);
            before
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
