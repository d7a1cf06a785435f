//! A group with members becomes one of the other kind (coordination.md §4, Interop).

use std::collections::BTreeSet;

use bytes::Bytes;
use palisade_auth::principal::Principal;
use palisade_protocol::Str;
use palisade_protocol::types::TimestampMs;

use super::{ConsumerGroup, Member, Moment, Subscriptions};
use crate::foreign;
use crate::group::embedded::{Assignment, Subscription, TopicPartitions};
use crate::group::error::GroupError;
use crate::group::partitions::{OwnedPartitions, PartitionSet};
use crate::group::record::{
    ClassicMemberMetadata, ClassicProtocol, EpochValue, GroupMetadataMember, GroupMetadataValue,
    GroupRecord, TargetAssignmentEpochValue,
};
use crate::metadata::ClusterImage;

/// The type of a classic group of consumers.
pub(super) const CONSUMER: &str = "consumer";

/// A classic group with all that its members said, to become a consumer group or made from one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClassicView {
    /// Its generation.
    pub(crate) generation: i32,
    /// Its type of protocol.
    pub(crate) protocol_type: Str,
    /// The protocol chosen.
    pub(crate) protocol: Option<Str>,
    /// Its members.
    pub(crate) members: Vec<ClassicViewMember>,
}

/// A member of a classic group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClassicViewMember {
    /// Its id.
    pub(crate) id: Str,
    /// The id of a static member.
    pub(crate) instance_id: Option<Str>,
    /// The name the client gave itself.
    pub(crate) client_id: Str,
    /// Its address, with a slash before it.
    pub(crate) client_host: Str,
    /// Milliseconds it may take to rejoin.
    pub(crate) rebalance_timeout_ms: i32,
    /// Milliseconds it may be silent.
    pub(crate) session_timeout_ms: i32,
    /// Its protocols with metadata, by its preference.
    pub(crate) protocols: Vec<(Str, Bytes)>,
    /// What the last leader assigned to it.
    pub(crate) assignment: Bytes,
    /// For whom it is counted.
    pub(crate) owner: Option<Principal>,
}

impl ClassicView {
    /// Bytes that the records of a consumer group of the same members take at least.
    ///
    /// Metadata is kept as it is. Of assignments ids take the place of names, of which the longest
    /// have 249 bytes, and are recorded twice, with what a member owns and with its target.
    fn recorded(&self) -> usize {
        let protocols = self.members.iter().flat_map(|member| &member.protocols);
        let metadata = protocols.map(|(_, metadata)| metadata.len());
        let assignments = self.members.iter().map(|member| member.assignment.len());
        metadata.sum::<usize>() + assignments.sum::<usize>() / 8
    }

    /// The group as its record.
    pub(super) fn to_record(&self, group: &Str, now: TimestampMs) -> GroupRecord {
        let chosen = |member: &ClassicViewMember| {
            let mut protocols = member.protocols.iter();
            protocols
                .find(|(name, _)| Some(name) == self.protocol.as_ref())
                .map(|(_, metadata)| metadata.clone())
                .unwrap_or_default()
        };
        let members = self.members.iter().map(|member| GroupMetadataMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: chosen(member),
            assignment: member.assignment.clone(),
        });
        GroupRecord::Group {
            group: group.clone(),
            value: Some(GroupMetadataValue {
                protocol_type: self.protocol_type.clone(),
                generation: self.generation,
                protocol: self.protocol.clone(),
                leader: self.members.first().map(|member| member.id.clone()),
                current_state_timestamp: now.value(),
                members: members.collect(),
            }),
        }
    }
}

impl ConsumerGroup {
    /// Turns a classic group with members into a consumer group, for a native member to join.
    ///
    /// Returns the group with the records that make it, which delete the classic one first.
    ///
    /// # Errors
    /// `GroupNotFound` where the policy or the members' protocols forbid it, or the log cannot take
    /// the records.
    pub(crate) fn upgrade(
        id: &Str,
        classic: &ClassicView,
        at: &Moment<'_>,
    ) -> Result<(Self, Vec<GroupRecord>), GroupError> {
        let refused = |reason: &str| {
            let id = foreign::name(id);
            GroupError::GroupNotFound(format!("Group {id} is not a consumer group: {reason}."))
        };
        may_upgrade(classic, at).map_err(refused)?;
        let mut group = Self::new(id.clone());
        // Generation 0 was never answered; epoch 0 would be that of who joins.
        let epoch = classic.generation.max(1);
        let members = natives(classic, epoch, at.image).map_err(refused)?;
        let records = group.records_of(&members, epoch, at.image);
        for record in &records {
            group.replay(record);
        }
        Ok((group, records))
    }

    /// The records that make the group of a classic one with these members.
    fn records_of(&self, members: &[Member], epoch: i32, image: &ClusterImage) -> Vec<GroupRecord> {
        let mut records = vec![GroupRecord::Group {
            group: self.id.clone(),
            value: None,
        }];
        for member in members {
            records.push(self.member_record(member));
        }
        let seen: Vec<&Member> = members.iter().collect();
        records.push(GroupRecord::ConsumerGroup {
            group: self.id.clone(),
            value: Some(EpochValue {
                epoch,
                metadata_hash: hash_of(self, &seen, image),
            }),
        });
        for member in members {
            let target = member.assigned.partitions();
            records.push(self.target_record(&member.id, &target));
        }
        records.push(GroupRecord::TargetEpoch {
            group: self.id.clone(),
            value: Some(TargetAssignmentEpochValue {
                assignment_epoch: epoch,
                assignment_timestamp: 0,
            }),
        });
        for member in members {
            records.push(self.current_record(member));
        }
        records
    }

    /// The classic group that is left when these members go; `None` where native ones stay, or
    /// nobody does, or the policy forbids it.
    pub(super) fn downgrade(&self, leaving: &[&Member], at: &Moment<'_>) -> Option<ClassicView> {
        if !at.config.migration.downgrades() {
            return None;
        }
        let staying: Vec<&Member> = self
            .members()
            .filter(|member| !leaving.iter().any(|leaving| leaving.id == member.id))
            .collect();
        let members: Option<Vec<ClassicViewMember>> = staying
            .iter()
            .map(|member| classic(member, at.image))
            .collect();
        let members = members.filter(|members| !members.is_empty())?;
        Some(ClassicView {
            generation: self.epoch,
            protocol_type: Str::from_static(CONSUMER),
            protocol: common_protocol(&staying, staying.first()?),
            members,
        })
    }

    /// Names to ids of partitions that exist.
    pub(super) fn partitions_of(topics: &[TopicPartitions], image: &ClusterImage) -> PartitionSet {
        let mut set = PartitionSet::default();
        for topic in topics {
            if let Some(known) = image.topics.get(&topic.topic) {
                set.add(known.id, topic.partitions.iter().copied());
            }
        }
        set
    }

    /// Ids to names, as a classic consumer's assignment in the version of its subscription.
    pub(super) fn assignment_bytes(member: &Member, image: &ClusterImage) -> Bytes {
        let named = member.assigned.topics().filter_map(|(topic, partitions)| {
            Some(TopicPartitions {
                topic: Str::copy(&image.topics.by_id(topic)?.name),
                partitions: partitions.keys().copied().collect(),
            })
        });
        let assignment = Assignment {
            assigned_partitions: named.collect(),
            user_data: None,
        };
        let protocols = member
            .classic
            .iter()
            .flat_map(|classic| &classic.supported_protocols);
        let version = protocols
            .filter_map(|protocol| Subscription::parse(&protocol.metadata).ok())
            .map(|(version, _)| version)
            .next()
            .unwrap_or(0);
        // Names of topics that exist fit their length.
        assignment.to_bytes(version).unwrap_or_default()
    }
}

/// The first of a member's protocols that all of these classic members support.
pub(super) fn common_protocol(members: &[&Member], of: &Member) -> Option<Str> {
    let supports = |member: &Member, name: &Str| {
        member.classic.as_ref().is_none_or(|classic| {
            classic
                .supported_protocols
                .iter()
                .any(|protocol| protocol.name == *name)
        })
    };
    let protocols = &of.classic.as_ref()?.supported_protocols;
    protocols
        .iter()
        .map(|protocol| &protocol.name)
        .find(|name| members.iter().all(|member| supports(member, name)))
        .cloned()
}

/// Why a classic group with members may not become a consumer group.
fn may_upgrade(classic: &ClassicView, at: &Moment<'_>) -> Result<(), &'static str> {
    if !at.config.migration.upgrades() {
        return Err("online upgrade is disabled");
    }
    if classic.protocol_type != CONSUMER {
        return Err("its members are not consumers");
    }
    if classic.members.len() > at.config.max_size {
        return Err("it has too many members");
    }
    // All records are one batch's. Said before anything is parsed: names of three letters are many
    // times as large as texts of their own.
    if classic.recorded() > at.max_batch_bytes {
        return Err("its members say more than one batch holds");
    }
    Ok(())
}

/// The members of a classic group as native ones, or why they cannot be.
fn natives(
    classic: &ClassicView,
    epoch: i32,
    image: &ClusterImage,
) -> Result<Vec<Member>, &'static str> {
    let mut taken = BTreeSet::new();
    let members = classic.members.iter().map(|member| {
        let member = native(member, epoch, image);
        let mut member = member.ok_or("a member's subscription is not a consumer's")?;
        // Two owners of one partition are possible only by a leader's fault.
        let once = member
            .assigned
            .iter()
            .filter(|(topic, partition, _)| taken.insert((*topic, *partition)));
        member.assigned = once.collect();
        Ok(member)
    });
    members.collect()
}

/// A classic member as one of a consumer group; `None` where its bytes are not a consumer's.
fn native(classic: &ClassicViewMember, epoch: i32, image: &ClusterImage) -> Option<Member> {
    let (_, metadata) = classic.protocols.first()?;
    let (_, subscription) = Subscription::parse(metadata).ok()?;
    let assignment = Assignment::parse(&classic.assignment).ok()?;
    let assigned = ConsumerGroup::partitions_of(&assignment.assigned_partitions, image);
    let protocols = classic.protocols.iter();
    Some(Member {
        instance_id: classic.instance_id.clone(),
        rack_id: subscription.rack_id.filter(|rack| !rack.is_empty()),
        client_id: classic.client_id.clone(),
        client_host: classic.client_host.clone(),
        names: subscription.topics.into_iter().collect(),
        rebalance_timeout_ms: classic.rebalance_timeout_ms,
        classic: Some(ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: protocols
                .map(|(name, metadata)| ClassicProtocol {
                    name: name.clone(),
                    metadata: metadata.clone(),
                })
                .collect(),
        }),
        epoch,
        previous_epoch: epoch,
        assigned: assigned
            .iter()
            .map(|(topic, partition)| (topic, partition, epoch))
            .collect::<OwnedPartitions>(),
        ..Member::new(classic.id.clone())
    })
}

/// A classic member of a consumer group as one of a classic group.
fn classic(member: &Member, image: &ClusterImage) -> Option<ClassicViewMember> {
    let metadata = member.classic.as_ref()?;
    let protocols = metadata.supported_protocols.iter();
    Some(ClassicViewMember {
        id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: metadata.session_timeout_ms,
        protocols: protocols
            .map(|protocol| (protocol.name.clone(), protocol.metadata.clone()))
            .collect(),
        assignment: ConsumerGroup::assignment_bytes(member, image),
        owner: member.owner.clone(),
    })
}

/// The metadata hash of a group that has none of these members yet.
fn hash_of(group: &ConsumerGroup, members: &[&Member], image: &ClusterImage) -> i64 {
    let everyone = Member {
        names: members
            .iter()
            .flat_map(|member| member.names.iter().cloned())
            .collect(),
        ..Member::default()
    };
    Subscriptions::of(group).with(&everyone).hash(image)
}
