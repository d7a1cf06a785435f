//! A member of a classic group, and how the group's books follow it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use palisade_protocol::Str;

use super::{ClassicGroup, Token};

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

impl ClassicGroup {
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
        let member = self.members.get_mut(id)?;
        let before = std::mem::replace(&mut member.join, token);
        self.awaiting_join += usize::from(token.is_some());
        self.awaiting_join -= usize::from(before.is_some());
        before
    }

    /// Replaces what a member supports.
    pub(super) fn set_protocols(&mut self, id: &str, protocols: Protocols) -> Option<Protocols> {
        self.count(&protocols, true);
        let member = self.members.get_mut(id)?;
        let before = std::mem::replace(&mut member.protocols, protocols);
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
