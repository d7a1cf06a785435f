//! What members of a consumer group keep in memory, and would keep once a request is taken over.

use std::collections::BTreeSet;

use palisade_auth::principal::Principal;
use palisade_protocol::Str;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;

use super::classic_member::{describe_itself, first_subscription};
use super::{Client, ConsumerGroup, Found, Member, Resolved};
use crate::group::budget::{self, Growth, Part, ROOM, Weigh};
use crate::group::classic::JoinAsk;

impl Weigh for Member {
    /// Names of topics cost twice their place: the group counts who subscribes to them.
    fn parts(&self) -> [Part; 2] {
        let names = self.names.bytes() + self.names.len() * 2 * budget::PART;
        let classic = self.classic.iter();
        let protocols = classic.flat_map(|classic| &classic.supported_protocols);
        let protocols = protocols
            .map(|protocol| budget::part(protocol.name.as_bytes()) + protocol.metadata.len());
        let own = [
            &self.instance_id,
            &self.rack_id,
            &self.pattern,
            &self.assignor,
        ];
        let own = own.into_iter().map(|text| budget::optional(text.as_ref()));
        let said = self.client_id.len()
            + self.client_host.len()
            + names
            + protocols.sum::<usize>()
            + own.sum::<usize>();
        [(self.owner.clone(), said.max(ROOM)), (None, 0)]
    }
}

impl Weigh for Resolved {
    fn parts(&self) -> [Part; 2] {
        [(self.owner.clone(), weight(&self.topics)), (None, 0)]
    }
}

/// Weight of the topics of an expression.
fn weight(topics: &BTreeSet<Str>) -> usize {
    let topics = topics.iter();
    topics.map(|topic| budget::part(topic.as_bytes())).sum()
}

impl ConsumerGroup {
    /// What the sender of a heartbeat would keep beyond what it keeps if it is a member.
    ///
    /// `None` for one that says nothing of itself, nearly all of them, or that will be refused.
    pub(crate) fn growth_by_heartbeat(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &Str,
        client: &Client,
    ) -> Option<Growth> {
        let before = self.holder(member_id, request.instance_id.as_ref());
        let is_silent = request.subscribed_topic_names.is_none()
            && request.subscribed_topic_regex.is_none()
            && request.rack_id.is_none()
            && request.server_assignor.is_none();
        let leaves = request.member_epoch < 0;
        let is_known = before.is_some_and(|member| client.id.len() <= member.client_id.len());
        if leaves || (is_silent && is_known) || !self.admits(request, member_id) {
            return None;
        }
        let mut after = before.cloned().unwrap_or_default();
        after.instance_id = request.instance_id.clone().or(after.instance_id);
        after.rack_id = request.rack_id.clone().or(after.rack_id);
        after.assignor = request.server_assignor.clone().or(after.assignor);
        after.pattern = request.subscribed_topic_regex.clone().or(after.pattern);
        if let Some(names) = &request.subscribed_topic_names {
            after.names = names.iter().cloned().collect();
        }
        after.client_id = client.id.clone();
        after.client_host = client.host.clone();
        Some(growth(before, member_id, &after, &client.principal))
    }

    /// The same of a classic member's JoinGroup; `None` where the engine will refuse it.
    pub(crate) fn growth_by_join(&self, ask: &JoinAsk) -> Option<Growth> {
        self.classic_place(ask, &ask.member_id).ok()?;
        let subscription = first_subscription(ask).ok()?;
        let before = self.holder(&ask.member_id, ask.instance_id.as_ref());
        let mut after = before.cloned().unwrap_or_default();
        describe_itself(&mut after, ask, &subscription);
        Some(growth(before, &ask.member_id, &after, &ask.principal))
    }

    /// The same of the topics that expressions were found to stand for, all together, with those
    /// expressions that are the principal's from then on.
    pub(crate) fn growth_by_patterns(&self, found: &Found, by: &Principal) -> (Growth, Vec<Str>) {
        let mut all = Growth {
            owner: by.clone(),
            bytes: 0,
            owed: 0,
            is_new: false,
        };
        let mut his = Vec::new();
        for (pattern, topics) in found {
            let known = self.resolved.get(pattern);
            let before = known.map(|known| {
                let [(_, bytes), _] = known.parts();
                (budget::entry(pattern, bytes), known.owner.as_ref())
            });
            let growth = Growth::of(before, budget::entry(pattern, weight(topics)), by);
            all.bytes += growth.bytes;
            all.owed += growth.owed;
            if growth.owner == *by {
                his.push(pattern.clone());
            }
        }
        (all, his)
    }

    /// Has a member count for a principal, with the topics of its expression where those are
    /// nobody's.
    pub(crate) fn own(&mut self, id: &str, owner: Principal) {
        let member = self.members.get(id);
        if let Some(pattern) = member.and_then(|member| member.pattern.clone()) {
            self.resolved.change(&pattern, |resolved| {
                resolved.owner.get_or_insert_with(|| owner.clone());
            });
        }
        self.members.change(id, |member| member.owner = Some(owner));
    }

    /// Has the topics of these expressions count for a principal, as far as they are what was
    /// found.
    pub(crate) fn own_patterns(&mut self, patterns: &[Str], found: &Found, owner: &Principal) {
        for pattern in patterns {
            if self.resolved_topics(Some(pattern)) == found.get(pattern) {
                self.resolved
                    .change(pattern, |resolved| resolved.owner = Some(owner.clone()));
            }
        }
    }

    /// A member that is nobody's is whose who speaks for it, with the topics of its expression.
    pub(crate) fn hear(&mut self, id: &str, from: &Principal) {
        let member = self.members.get(id);
        if member.is_some_and(|member| member.owner.is_none()) {
            self.own(id, from.clone());
        }
    }

    /// The member of that id, or the one whose place a static member takes.
    fn holder(&self, member_id: &Str, instance: Option<&Str>) -> Option<&Member> {
        let by_instance = || self.instance(instance?);
        self.members.get(member_id).or_else(by_instance)
    }
}

fn growth(before: Option<&Member>, id: &str, after: &Member, by: &Principal) -> Growth {
    let before = before.map(|member| {
        let bytes = budget::entry(&member.id, member.weigh());
        (bytes, member.owner.as_ref())
    });
    Growth::of(before, budget::entry(id, after.weigh()), by)
}
