//! The bound on what members keep in memory: who may come, and who may say more of itself.

use palisade_auth::principal::Principal;
use palisade_protocol::Str;

use super::{Group, Shard};
use crate::group::budget::{Growth, Reserved};
use crate::group::classic::{ClassicGroup, JoinAsk, SyncAsk};
use crate::group::consumer::ConsumerGroup;
use crate::group::error::GroupError;
use crate::logging::Throttle;

/// A member that is let in or may go on, with what it grows by.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// Memory set aside for it, where it grows.
    pub(super) reserved: Option<Reserved>,
    /// Whose it is once its records are replayed; `None` where that is not known yet, or not
    /// changed.
    pub(super) owner: Option<Principal>,
}

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

    /// A member speaks: if it was read from the log, what it keeps was nobody's, and is from now
    /// on its speaker's.
    pub(crate) fn hear(&mut self, id: &str, member: &str, from: &Principal) {
        match self.groups.get_mut(id).map(|entry| &mut entry.group) {
            Some(Group::Classic(group)) => group.hear(member, from),
            Some(Group::Consumer(group)) => group.hear(member, from),
            None => {}
        }
    }

    /// Sets memory aside for what a JoinGroup brings.
    ///
    /// # Errors
    /// `MembersFull`, `MembersUnheard`.
    pub(super) fn reserve_for_join(&self, id: &Str, ask: &JoinAsk) -> Result<Admitted, GroupError> {
        let growth = match self.group(id) {
            Some(Group::Classic(group)) => group.growth_by_join(ask),
            Some(Group::Consumer(group)) => group.growth_by_join(ask),
            None => ClassicGroup::new(Str::EMPTY).growth_by_join(ask),
        };
        self.admit(id, growth, &ask.principal)
    }

    /// The same for the assignments that a leader's SyncGroup brings.
    ///
    /// # Errors
    /// `NotAvailable`: Java's consumer, librdkafka and franz-go come again with their ids then,
    /// after a pause. `MembersFull` is the end for the first of them, and after
    /// `RebalanceInProgress` it comes at once, over and over. The generation is still there for
    /// them, as long as a rebalance may take.
    pub(super) fn reserve_for_sync(&self, id: &Str, ask: &SyncAsk) -> Result<Admitted, GroupError> {
        let growth = match self.group(id) {
            Some(Group::Classic(group)) => group.growth_by_sync(ask),
            Some(Group::Consumer(_)) | None => None,
        };
        let admitted = self.admit(id, growth, &ask.principal);
        admitted.map_err(|_| GroupError::NotAvailable)
    }

    /// The same for what a ConsumerGroupHeartbeat brings.
    ///
    /// # Errors
    /// `MembersFull`, `MembersUnheard`.
    pub(super) fn reserve_for_heartbeat(
        &self,
        id: &Str,
        ask: &super::HeartbeatAsk,
    ) -> Result<Admitted, GroupError> {
        let (request, member_id, client) = (&ask.request, &ask.member_id, &ask.client);
        let growth = match self.group(id) {
            Some(Group::Consumer(group)) => group.growth_by_heartbeat(request, member_id, client),
            Some(Group::Classic(_)) | None => {
                ConsumerGroup::new(Str::EMPTY).growth_by_heartbeat(request, member_id, client)
            }
        };
        self.admit(id, growth, &client.principal)
    }

    /// What groups count is what they keep, for whom they keep it, and what the node's budget
    /// heard.
    #[cfg(test)]
    pub(crate) fn assert_counted(&self) {
        let (mut held, mut anew) = (0, 0);
        let mut by_owner = std::collections::HashMap::new();
        for entry in self.groups.values() {
            held += entry.group.held();
            let parts = match &entry.group {
                Group::Classic(group) => {
                    group.assert_read();
                    group.weighed_anew()
                }
                Group::Consumer(group) => group.weighed_anew(),
            };
            for (owner, bytes) in parts {
                anew += bytes;
                if let Some(owner) = owner.filter(|_| bytes > 0) {
                    *by_owner.entry(owner).or_insert(0) += bytes;
                }
            }
        }
        assert_eq!((held, self.budget.used()), (anew, anew));
        assert_eq!(self.budget.shares().by_owner(), by_owner);
    }

    fn group(&self, id: &str) -> Option<&Group> {
        Some(&self.groups.get(id)?.group)
    }

    fn admit(
        &self,
        id: &Str,
        growth: Option<Growth>,
        by: &Principal,
    ) -> Result<Admitted, GroupError> {
        let Some(growth) = growth else {
            return Ok(Admitted::default());
        };
        let reserved = self.reserve(id, &growth, by)?;
        let owner = Some(growth.owner);
        Ok(Admitted { reserved, owner })
    }

    /// Sets memory aside for what a principal makes a group hold more.
    ///
    /// # Errors
    /// `MembersFull`, `MembersUnheard`.
    pub(super) fn reserve(
        &self,
        id: &Str,
        growth: &Growth,
        by: &Principal,
    ) -> Result<Option<Reserved>, GroupError> {
        let held = self.group(id).map_or(0, Group::held);
        let reserved = self.budget.reserve(held, growth);
        if let Err(error @ GroupError::MembersFull { .. }) = &reserved {
            // Whoever may join one group can send this without end.
            static SAID: Throttle = Throttle::new();
            if SAID.may_speak() {
                let most = self.budget.largest();
                let (holder, bytes) = most.map_or((String::new(), 0), |(holder, bytes)| {
                    (holder.to_string(), bytes)
                });
                tracing::warn!(
                    principal = ?by.to_string(),
                    group = ?id.as_str(),
                    held,
                    most_held_by = ?holder,
                    most_held = bytes,
                    %error,
                    "member refused"
                );
            }
        }
        reserved
    }
}
