//! What members of a consumer group keep in memory, and would keep once a request is taken over.

use palisade_protocol::Str;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;

use super::classic_member::{describe_itself, first_subscription};
use super::{Client, ConsumerGroup, Member, Resolved};
use crate::group::budget::{self, Weigh};
use crate::group::classic::JoinAsk;

impl Weigh for Member {
    /// Names of topics cost twice their place: the group counts who subscribes to them.
    fn weigh(&self) -> usize {
        let names = self.names.iter();
        let names = names.map(|name| name.len() + 2 * budget::PART);
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
        self.client_id.len()
            + self.client_host.len()
            + names.sum::<usize>()
            + protocols.sum::<usize>()
            + own.sum::<usize>()
    }
}

impl Weigh for Resolved {
    fn weigh(&self) -> usize {
        let topics = self.topics.iter();
        topics.map(|topic| budget::part(topic.as_bytes())).sum()
    }
}

impl ConsumerGroup {
    /// What the sender of a heartbeat keeps, if it is a member, and would keep.
    ///
    /// `None` for one that says nothing of itself, nearly all of them, or that will be refused.
    pub(crate) fn growth_by_heartbeat(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &Str,
        client: &Client,
    ) -> Option<(Option<usize>, usize)> {
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
        Some(growth(before, member_id, &after))
    }

    /// The same of a classic member's JoinGroup; `None` where the engine will refuse it.
    pub(crate) fn growth_by_join(&self, ask: &JoinAsk) -> Option<(Option<usize>, usize)> {
        self.classic_place(ask, &ask.member_id).ok()?;
        let subscription = first_subscription(ask).ok()?;
        let before = self.holder(&ask.member_id, ask.instance_id.as_ref());
        let mut after = before.cloned().unwrap_or_default();
        describe_itself(&mut after, ask, &subscription);
        Some(growth(before, &ask.member_id, &after))
    }

    /// The member of that id, or the one whose place a static member takes.
    fn holder(&self, member_id: &Str, instance: Option<&Str>) -> Option<&Member> {
        let by_instance = || self.instance(instance?);
        self.members.get(member_id).or_else(by_instance)
    }
}

fn growth(before: Option<&Member>, id: &Str, after: &Member) -> (Option<usize>, usize) {
    let before = before.map(|member| budget::entry(&member.id, member.weigh()));
    (before, budget::entry(id, after.weigh()))
}
