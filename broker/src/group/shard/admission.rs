//! The bound on what members keep in memory: who may come, and who may say more of itself.

use palisade_protocol::Str;

use super::{Group, Shard};
use crate::group::budget::Reserved;
use crate::group::classic::{ClassicGroup, JoinAsk, SyncAsk};
use crate::group::consumer::{Client, ConsumerGroup};
use crate::group::error::GroupError;
use crate::logging::Throttle;

impl Group {
    /// Bytes that its members keep.
    pub(crate) fn held(&self) -> usize {
        match self {
            Group::Classic(group) => group.held(),
            Group::Consumer(group) => group.held(),
        }
    }
}

impl Shard {
    /// Puts a group in another's place; its offsets stay.
    pub(super) fn place(&mut self, id: &Str, mut group: Group) {
        match &mut group {
            Group::Classic(group) => group.attach(&self.budget),
            Group::Consumer(group) => group.attach(&self.budget),
        }
        self.entry(id).group = group;
    }

    /// Sets memory aside for what a JoinGroup brings.
    ///
    /// # Errors
    /// `MembersFull`.
    pub(super) fn reserve_for_join(
        &self,
        id: &Str,
        ask: &JoinAsk,
    ) -> Result<Option<Reserved>, GroupError> {
        let growth = match self.group(id) {
            Some(Group::Classic(group)) => group.growth_by_join(ask),
            Some(Group::Consumer(group)) => group.growth_by_join(ask),
            None => ClassicGroup::new(Str::EMPTY).growth_by_join(ask),
        };
        self.reserve(id, growth)
    }

    /// The same for the assignments that a leader's SyncGroup brings.
    ///
    /// # Errors
    /// `MembersFull`.
    pub(super) fn reserve_for_sync(
        &self,
        id: &Str,
        ask: &SyncAsk,
    ) -> Result<Option<Reserved>, GroupError> {
        let growth = match self.group(id) {
            Some(Group::Classic(group)) => group.growth_by_sync(ask),
            Some(Group::Consumer(_)) | None => (0, 0),
        };
        self.reserve(id, Some((Some(growth.0), growth.1)))
    }

    /// The same for what a ConsumerGroupHeartbeat brings.
    ///
    /// # Errors
    /// `MembersFull`.
    pub(super) fn reserve_for_heartbeat(
        &self,
        id: &Str,
        ask: &super::HeartbeatAsk,
    ) -> Result<Option<Reserved>, GroupError> {
        let (request, member_id): (_, &Str) = (&ask.request, &ask.member_id);
        let client: &Client = &ask.client;
        let growth = match self.group(id) {
            Some(Group::Consumer(group)) => group.growth_by_heartbeat(request, member_id, client),
            Some(Group::Classic(_)) | None => {
                ConsumerGroup::new(Str::EMPTY).growth_by_heartbeat(request, member_id, client)
            }
        };
        self.reserve(id, growth)
    }

    /// What groups count is what they keep, and what the node's budget heard.
    #[cfg(test)]
    pub(crate) fn assert_counted(&self) {
        let (mut held, mut anew) = (0, 0);
        for entry in self.groups.values() {
            held += entry.group.held();
            anew += match &entry.group {
                Group::Classic(group) => group.weighed_anew(),
                Group::Consumer(group) => group.weighed_anew(),
            };
        }
        assert_eq!((held, self.budget.used()), (anew, anew));
    }

    fn group(&self, id: &str) -> Option<&Group> {
        Some(&self.groups.get(id)?.group)
    }

    fn reserve(
        &self,
        id: &Str,
        growth: Option<(Option<usize>, usize)>,
    ) -> Result<Option<Reserved>, GroupError> {
        let Some((before, after)) = growth else {
            return Ok(None);
        };
        let held = self.group(id).map_or(0, Group::held);
        let reserved = self.budget.reserve(held, before, after);
        if let Err(error) = &reserved {
            // Whoever may join one group can send this without end.
            static SAID: Throttle = Throttle::new();
            if SAID.may_speak() {
                tracing::warn!(group = ?id.as_str(), held, %error, "member refused");
            }
        }
        reserved.map(Some)
    }
}
