//! What of a classic group is in the log, and how it comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use palisade_protocol::Str;
use palisade_protocol::types::TimestampMs;

use super::member::Member;
use super::upgrade::Reading;
use super::{ClassicGroup, Effects, State, Then};
use crate::group::config::GroupConfig;
use crate::group::error::GroupError;
use crate::group::record::{GroupMetadataMember, GroupMetadataValue, GroupRecord};

impl ClassicGroup {
    /// The group with these assignments.
    pub(super) fn record_of(&self, assigned: &BTreeMap<Str, Bytes>) -> GroupRecord {
        self.record(|id, _| assigned.get(id).cloned().unwrap_or_default())
    }

    /// The group with the assignments it has.
    pub(super) fn record_as_is(&self) -> GroupRecord {
        self.record(|_, member| member.assignment.clone())
    }

    fn record(&self, assignment: impl Fn(&Str, &Member) -> Bytes) -> GroupRecord {
        let members = self.members.iter().map(|(id, member)| GroupMetadataMember {
            member_id: id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: millis(member.rebalance_timeout),
            session_timeout: millis(member.session_timeout),
            subscription: member.metadata(self.protocol.as_ref()),
            assignment: assignment(id, member),
        });
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.since.value(),
            members: members.collect(),
        };
        GroupRecord::Group {
            group: self.id.clone(),
            value: Some(value),
        }
    }

    /// The group as a record says. Texts and bytes are copied out of the log.
    pub(crate) fn from_record(id: Str, value: &GroupMetadataValue) -> Self {
        let mut group = Self::new(id);
        group.since = TimestampMs::new(value.current_state_timestamp);
        group.generation = value.generation;
        let has_type = !value.protocol_type.is_empty();
        group.protocol_type = has_type.then(|| value.protocol_type.detached());
        group.protocol = value.protocol.as_ref().map(Str::detached);
        for stored in &value.members {
            let protocol = group.protocol.clone().unwrap_or_default();
            let session_timeout = duration(stored.session_timeout);
            let member = Member {
                instance_id: stored.group_instance_id.as_ref().map(Str::detached),
                client_id: stored.client_id.detached(),
                client_host: stored.client_host.detached(),
                session_timeout,
                rebalance_timeout: match stored.rebalance_timeout {
                    -1 => session_timeout,
                    timeout => duration(timeout),
                },
                protocols: vec![(protocol, Bytes::copy_from_slice(&stored.subscription))],
                assignment: Bytes::copy_from_slice(&stored.assignment),
                owner: None,
                assigned_by: None,
                join: None,
                sync: None,
                is_new: false,
                reading: Reading::new(),
            };
            group.insert(stored.member_id.detached(), member);
        }
        group.leader = value.leader.as_ref().map(Str::detached);
        if !group.members.is_empty() {
            group.state = State::Stable;
        }
        group
    }

    /// The log is read: every member's session begins now.
    pub(crate) fn loaded(&mut self, now: TimestampMs, config: &GroupConfig) -> Effects {
        let mut fx = Effects::default();
        for id in self.members.keys() {
            self.touch(id, &mut fx);
        }
        if self.members.len() > config.max_size {
            self.prepare_rebalance(now, config, &mut fx);
        }
        fx
    }

    /// A record that an event led to was appended, or was not.
    pub(crate) fn stored(
        &mut self,
        then: Then,
        result: Result<(), GroupError>,
        now: TimestampMs,
        config: &GroupConfig,
    ) -> Effects {
        let mut fx = Effects::default();
        match then {
            Then::Assigned(assigned, leader) => {
                self.assigned((assigned, leader), result, now, config, &mut fx);
            }
            Then::Replaced(replacement) => self.replaced(*replacement, result, &mut fx),
            // The group is empty in memory; a later start would let its last members expire.
            Then::Emptied => {}
        }
        fx
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn duration(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
