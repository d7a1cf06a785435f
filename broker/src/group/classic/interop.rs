//! A classic group on its way to and from a consumer group (coordination.md §4, Interop).

use std::time::Duration;

use palisade_protocol::Str;
use palisade_protocol::types::TimestampMs;

use super::member::Member;
use super::upgrade::Reading;
use super::{ClassicGroup, Effects, State, Token};
use crate::group::config::GroupConfig;
use crate::group::consumer::{ClassicView, ClassicViewMember};

impl ClassicGroup {
    /// The group with everything that its members said.
    pub(crate) fn view(&self) -> ClassicView {
        let members = self.members.iter().map(|(id, member)| ClassicViewMember {
            id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: millis(member.rebalance_timeout),
            session_timeout_ms: millis(member.session_timeout),
            protocols: member.protocols.clone(),
            assignment: member.assignment.clone(),
            owner: member.owner.clone(),
        });
        ClassicView {
            generation: self.generation,
            protocol_type: Str::copy(self.protocol_type()),
            protocol: self.protocol.clone(),
            members: members.collect(),
        }
    }

    /// Requests that wait in the group, each with its member's id.
    pub(crate) fn parked(&self) -> Vec<(Str, Token)> {
        let members = self.members.iter().flat_map(|(id, member)| {
            let tokens = member.join.into_iter().chain(member.sync);
            tokens.map(|token| (id.clone(), token))
        });
        members.collect()
    }

    /// A group whose members must rejoin, with the assignments they have.
    pub(crate) fn from_view(
        id: Str,
        view: &ClassicView,
        now: TimestampMs,
        config: &GroupConfig,
    ) -> (Self, Effects) {
        let mut group = Self::new(id);
        group.generation = view.generation;
        group.protocol_type = Some(view.protocol_type.clone());
        group.protocol = view.protocol.clone();
        for member in &view.members {
            let joined = Member {
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                session_timeout: duration(member.session_timeout_ms),
                rebalance_timeout: duration(member.rebalance_timeout_ms),
                protocols: member.protocols.clone(),
                assignment: member.assignment.clone(),
                owner: member.owner.clone(),
                assigned_by: member.owner.clone(),
                join: None,
                sync: None,
                is_new: false,
                reading: Reading::new(),
            };
            group.insert(member.id.clone(), joined);
        }
        group.state = State::Stable;
        let mut fx = Effects::default();
        for id in group.members.keys() {
            group.touch(id, &mut fx);
        }
        group.prepare_rebalance(now, config, &mut fx);
        (group, fx)
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn duration(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
