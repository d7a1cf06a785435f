//! A group with members becomes one of the other kind (coordination.md §4, Interop).

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use bytes::Bytes;
use palisade_auth::principal::Principal;
use palisade_protocol::Str;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use palisade_protocol::types::TimestampMs;

use super::{ConsumerGroup, Member, Moment, Subscriptions};
use crate::foreign;
use crate::group::embedded::{Assignment, Subscription, TopicPartitions};
use crate::group::error::GroupError;
use crate::group::expressions::Judgement;
use crate::group::partitions::{OwnedPartitions, PartitionSet};
use crate::group::record::{
    ClassicMemberMetadata, ClassicProtocol, EpochValue, GroupMetadataMember, GroupMetadataValue,
    GroupRecord, TargetAssignmentEpochValue,
};
use crate::group::write::fits_bytes;
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

/// What is known of a classic group before it is turned into a consumer group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    /// Its type of protocol is that of consumers.
    pub(crate) is_of_consumers: bool,
    /// How many members it has.
    pub(crate) members: usize,
    /// Bytes of the records that would make it, and bytes that its members would keep in memory at
    /// most; `None` where what members say is not a consumer's.
    pub(crate) sizes: Option<(usize, usize)>,
    /// Bytes that its members keep as they are.
    pub(crate) held: usize,
    /// Who asks has the id of a member.
    pub(crate) has_member: bool,
    /// When the log last refused to take it as who asks would have had it.
    pub(crate) failed: Option<TimestampMs>,
}

impl Outlook {
    /// Whether an attempt that failed then is too fresh for another of the same principal.
    pub(crate) fn holds_back(failed: TimestampMs, now: TimestampMs) -> bool {
        let age = u128::try_from(now.millis_since(failed));
        age.is_ok_and(|age| age < RETRY.as_millis())
    }
}

/// How long a group stays classic for a principal whose attempt the log did not take.
const RETRY: Duration = Duration::from_secs(10);

impl ClassicView {
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
    /// Refuses a conversion that cannot be, or that its newcomer could not join, before anything
    /// is made of the group.
    ///
    /// # Errors
    /// `GroupNotFound` where the policy or what the members say forbids it; `Unknown` where the
    /// log cannot take the records, which is what Kafka answers then; what the newcomer would hear
    /// of the group that is not made.
    pub(crate) fn check_upgrade(
        id: &Str,
        outlook: &Outlook,
        request: &ConsumerGroupHeartbeatRequest,
        judged: &Judgement,
        at: &Moment<'_>,
    ) -> Result<(), GroupError> {
        if !at.config.migration.upgrades() {
            return Err(refused(id, "online upgrade is disabled"));
        }
        if !outlook.is_of_consumers {
            return Err(refused(id, "its members are not consumers"));
        }
        if outlook.members > at.config.max_size {
            return Err(refused(id, "it has too many members"));
        }
        let (recorded, _) = outlook.sizes.ok_or_else(|| refused(id, NOT_A_CONSUMERS))?;
        // All records are one batch's.
        let recorded = recorded + said(request);
        let most = at.max_batch_bytes;
        if !fits_bytes(recorded, most) {
            let id = foreign::name(id);
            return Err(GroupError::Unknown(format!(
                "Group {id} stays a classic group: its records as a consumer group, {recorded} \
                 bytes with those of who joins, are larger than a batch of {most} bytes."
            )));
        }
        let fresh = |failed: &TimestampMs| Outlook::holds_back(*failed, at.now);
        if outlook.failed.as_ref().is_some_and(fresh) {
            let id = foreign::name(id);
            return Err(GroupError::Unknown(format!(
                "Group {id} stays a classic group for now: a moment ago its records as a consumer \
                 group were larger than a batch of {most} bytes."
            )));
        }
        if outlook.members >= at.config.max_size && !outlook.has_member {
            return Err(GroupError::GroupMaxSizeReached(at.config.max_size));
        }
        match &request.subscribed_topic_regex {
            Some(pattern) => Self::new(id.clone()).check_pattern(pattern, judged),
            None => Ok(()),
        }
    }

    /// Turns a classic group with members into a consumer group, for a native member to join.
    ///
    /// Returns the group with the records that make it, which delete the classic one first.
    /// [`Self::check_upgrade`] has let it pass.
    ///
    /// # Errors
    /// `GroupNotFound` where what members say is not a consumer's.
    pub(crate) fn upgrade(
        id: &Str,
        classic: &ClassicView,
        at: &Moment<'_>,
    ) -> Result<(Self, Vec<GroupRecord>), GroupError> {
        let mut group = Self::new(id.clone());
        // Generation 0 was never answered; epoch 0 would be that of who joins.
        let epoch = classic.generation.max(1);
        let members = natives(classic, epoch, at.image);
        let members = members.ok_or_else(|| refused(id, NOT_A_CONSUMERS))?;
        let mut records = vec![GroupRecord::Group {
            group: id.clone(),
            value: None,
        }];
        records.extend(members.iter().map(|member| group.member_record(member)));
        for record in &records {
            group.replay(record);
        }
        // The names of all members are counted in it by now.
        group.settle(at.image);
        // Any other than the right one: the join then raises the epoch, so that everything is
        // assigned anew. The last leader may have left something to nobody, and who takes a static
        // member's place changes nothing else.
        let hash = !Subscriptions::of(&group).hash(at.image);
        let mut progress = group.progress_of(&members, epoch, hash);
        for record in &progress {
            group.replay(record);
        }
        records.append(&mut progress);
        Ok((group, records))
    }

    /// The records behind those of the members themselves that make the group of a classic one.
    fn progress_of(&self, members: &[Member], epoch: i32, metadata_hash: i64) -> Vec<GroupRecord> {
        let mut records = vec![GroupRecord::ConsumerGroup {
            group: self.id.clone(),
            value: Some(EpochValue {
                epoch,
                metadata_hash,
            }),
        }];
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
        let leaving: HashSet<&Str> = leaving.iter().map(|member| &member.id).collect();
        let staying: Vec<&Member> = self
            .members()
            .filter(|member| !leaving.contains(&member.id))
            .collect();
        // What they said is read once, and not whenever one of many goes.
        if staying.iter().any(|member| member.classic.is_none()) {
            return None;
        }
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
        let mut protocols = member
            .classic
            .iter()
            .flat_map(|classic| &classic.supported_protocols);
        let version = protocols
            .find_map(|protocol| Subscription::version(&protocol.metadata).ok())
            .unwrap_or(0);
        // Names of topics that exist fit their length.
        assignment.to_bytes(version).unwrap_or_default()
    }
}

/// Why a group whose members' bytes do not parse is not converted.
const NOT_A_CONSUMERS: &str = "a member's subscription is not a consumer's";

/// Bytes of the texts that who joins says of itself.
fn said(request: &ConsumerGroupHeartbeatRequest) -> usize {
    let names = request.subscribed_topic_names.iter().flatten();
    let texts = [
        &request.subscribed_topic_regex,
        &request.rack_id,
        &request.instance_id,
        &request.server_assignor,
    ];
    let texts = texts.into_iter().flatten();
    names.chain(texts).map(|text| text.len()).sum()
}

fn refused(id: &Str, reason: &str) -> GroupError {
    let id = foreign::name(id);
    GroupError::GroupNotFound(format!("Group {id} is not a consumer group: {reason}."))
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

/// The members of a classic group as native ones; `None` where their bytes are not a consumer's.
fn natives(classic: &ClassicView, epoch: i32, image: &ClusterImage) -> Option<Vec<Member>> {
    let mut taken = BTreeSet::new();
    let members = classic.members.iter().map(|member| {
        let mut member = native(member, epoch, image)?;
        // Two owners of one partition are possible only by a leader's fault.
        let once = member
            .assigned
            .iter()
            .filter(|(topic, partition, _)| taken.insert((*topic, *partition)));
        member.assigned = once.collect();
        Some(member)
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
