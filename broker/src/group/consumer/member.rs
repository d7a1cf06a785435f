//! One member.

use std::time::Duration;

use palisade_auth::principal::Principal;
use palisade_protocol::Str;

use super::names::Names;
use crate::group::config::ConsumerGroupConfig;
use crate::group::partitions::OwnedPartitions;
use crate::group::record::{
    AssignedPartitions, ClassicMember, ClassicMemberMetadata, CurrentAssignmentValue, MemberValue,
};

/// The epoch of a static member that went away for a while.
pub(super) const AWAY: i32 = -2;

/// How far a member is with its assignment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum MemberState {
    /// It owns what it is to own at its epoch.
    #[default]
    Stable,
    /// It has partitions to give up and has not said that it did.
    Unrevoked,
    /// Others have not given up what it is to own.
    Unreleased,
}

/// A member of a consumer group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Member {
    /// Its id.
    pub(crate) id: Str,
    /// The id of a static member.
    pub(crate) instance_id: Option<Str>,
    /// Its rack.
    pub(crate) rack_id: Option<Str>,
    /// The name the client gave itself.
    pub(crate) client_id: Str,
    /// Its address, with a slash before it.
    pub(crate) client_host: Str,
    /// Topics it subscribes to by name.
    pub(crate) names: Names,
    /// The expression it subscribes to.
    pub(crate) pattern: Option<Str>,
    /// Milliseconds it may take to give up partitions.
    pub(crate) rebalance_timeout_ms: i32,
    /// The assignor it wants.
    pub(crate) assignor: Option<Str>,
    /// What it brought, if it speaks the classic protocol.
    pub(crate) classic: Option<ClassicMemberMetadata>,
    /// The assignment it has acknowledged; -2 while a static member is away.
    pub(crate) epoch: i32,
    /// The epoch before.
    pub(crate) previous_epoch: i32,
    /// How far it is.
    pub(crate) state: MemberState,
    /// What it may consume.
    pub(crate) assigned: OwnedPartitions,
    /// What it has to give up.
    pub(crate) revoking: OwnedPartitions,
    /// For whom it is counted; no record says it.
    pub(crate) owner: Option<Principal>,
}

impl Member {
    /// A member that has said nothing yet.
    pub(super) fn new(id: Str) -> Self {
        Self {
            id,
            rebalance_timeout_ms: -1,
            ..Self::default()
        }
    }

    /// Whether it owns its target of this epoch.
    pub(super) fn is_at(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// Whether two states of a member subscribe alike in everything that is recorded.
    pub(super) fn same_subscription(&self, other: &Self) -> bool {
        self.instance_id == other.instance_id
            && self.rack_id == other.rack_id
            && self.client_id == other.client_id
            && self.client_host == other.client_host
            && self.names == other.names
            && self.pattern == other.pattern
            && self.rebalance_timeout_ms == other.rebalance_timeout_ms
            && self.assignor == other.assignor
            && self.classic == other.classic
    }

    /// Whether two states of a member are equally far.
    pub(super) fn same_progress(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && self.previous_epoch == other.previous_epoch
            && self.state == other.state
            && self.assigned == other.assigned
            && self.revoking == other.revoking
    }

    /// How long it may take to give up partitions.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.rebalance_timeout_ms).unwrap_or(0))
    }

    /// How long it may be silent.
    pub(super) fn session_timeout(&self, config: &ConsumerGroupConfig) -> Duration {
        match &self.classic {
            Some(classic) => {
                Duration::from_millis(u64::try_from(classic.session_timeout_ms).unwrap_or(0))
            }
            None => config.session_timeout,
        }
    }

    /// Its subscription as recorded.
    pub(super) fn value(&self) -> MemberValue {
        MemberValue {
            instance_id: self.instance_id.clone(),
            rack_id: self.rack_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            subscribed_topic_names: self.names.iter().cloned().collect(),
            subscribed_topic_regex: Some(self.pattern.clone().unwrap_or_default()),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.assignor.clone(),
            classic_member_metadata: ClassicMember(self.classic.clone()),
        }
    }

    /// Takes a recorded subscription over.
    ///
    /// `names`: those of the record, where somebody has them already.
    pub(super) fn subscribe(&mut self, value: &MemberValue, names: Option<Names>) {
        let detached = |text: &Option<Str>| text.as_ref().map(Str::detached);
        self.instance_id = detached(&value.instance_id);
        self.rack_id = detached(&value.rack_id);
        self.client_id = value.client_id.detached();
        self.client_host = value.client_host.detached();
        self.names = names.unwrap_or_else(|| {
            let names = value.subscribed_topic_names.iter();
            names.map(Str::detached).collect()
        });
        self.pattern = detached(&value.subscribed_topic_regex).filter(|text| !text.is_empty());
        self.rebalance_timeout_ms = value.rebalance_timeout_ms;
        self.assignor = detached(&value.server_assignor);
        self.classic = value.classic_member_metadata.0.as_ref().map(detach_classic);
    }

    /// Its progress as recorded.
    pub(super) fn progress(&self) -> CurrentAssignmentValue {
        CurrentAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: match self.state {
                MemberState::Stable => 0,
                MemberState::Unrevoked => 1,
                MemberState::Unreleased => 2,
            },
            assigned_partitions: to_record(&self.assigned),
            partitions_pending_revocation: to_record(&self.revoking),
        }
    }

    /// Takes recorded progress over.
    pub(super) fn advance(&mut self, value: &CurrentAssignmentValue) {
        self.epoch = value.member_epoch;
        self.previous_epoch = value.previous_member_epoch;
        self.state = match value.state {
            1 => MemberState::Unrevoked,
            2 => MemberState::Unreleased,
            // A state of a newer release is left by the next heartbeat, as if nothing were open.
            _ => MemberState::Stable,
        };
        self.assigned = from_record(&value.assigned_partitions, value.member_epoch);
        self.revoking = from_record(&value.partitions_pending_revocation, value.member_epoch);
    }
}

fn detach_classic(metadata: &ClassicMemberMetadata) -> ClassicMemberMetadata {
    let mut detached = metadata.clone();
    for protocol in &mut detached.supported_protocols {
        protocol.name = protocol.name.detached();
        protocol.metadata = bytes::Bytes::copy_from_slice(&protocol.metadata);
    }
    detached
}

fn to_record(owned: &OwnedPartitions) -> Vec<AssignedPartitions> {
    owned
        .topics()
        .map(|(topic_id, partitions)| AssignedPartitions {
            topic_id,
            partitions: partitions.keys().copied().collect(),
            assignment_epochs: Some(partitions.values().copied().collect()),
        })
        .collect()
}

/// Records of releases before 4.3 have no epochs: the member's own stands in.
fn from_record(recorded: &[AssignedPartitions], member_epoch: i32) -> OwnedPartitions {
    let mut owned = OwnedPartitions::default();
    for topic in recorded {
        let epochs = topic.assignment_epochs.as_deref().unwrap_or_default();
        for (at, partition) in topic.partitions.iter().enumerate() {
            let epoch = epochs.get(at).copied().unwrap_or(member_epoch);
            owned.insert(topic.topic_id, *partition, epoch);
        }
    }
    owned
}
