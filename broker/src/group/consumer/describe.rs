//! A group as ConsumerGroupDescribe shows it.

use std::sync::Arc;

use palisade_protocol::Str;
use palisade_protocol::messages::consumer_group_describe::{
    Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};

use super::target::preferred;
use super::{ConsumerGroup, Member, Moment};
use crate::group::partitions::PartitionSet;
use crate::metadata::ClusterImage;

/// The type of a member that speaks the classic protocol (KIP-1099).
const CLASSIC: i8 = 0;
/// The type of a member that speaks the consumer protocol.
const CONSUMER: i8 = 1;

impl ConsumerGroup {
    /// The group with its members; topics that no longer exist are left out.
    pub(crate) fn describe(&self, at: &Moment<'_>) -> DescribedGroup {
        DescribedGroup {
            group_id: self.id.clone(),
            group_state: Str::from_static(self.state().name()),
            group_epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor_name: Str::from_static(preferred(self.members(), at.config).name()),
            members: self
                .members()
                .map(|member| self.describe_member(member, at.image))
                .collect(),
            ..DescribedGroup::default()
        }
    }

    fn describe_member(&self, member: &Member, image: &ClusterImage) -> DescribedMember {
        // Until a member has said that it gave a partition up, it may be consuming it.
        let owned = member.assigned.iter().chain(member.revoking.iter());
        let owned = owned.map(|(topic, partition, _)| (topic, partition));
        let target = self.targets.get(&member.id).cloned().unwrap_or_default();
        DescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            member_epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            subscribed_topic_names: member.names.iter().cloned().collect(),
            subscribed_topic_regex: Some(member.pattern.clone().unwrap_or_default()),
            assignment: named(&owned.collect(), image),
            target_assignment: named(&target, image),
            member_type: match member.classic {
                Some(_) => CLASSIC,
                None => CONSUMER,
            },
        }
    }
}

fn named(partitions: &PartitionSet, image: &ClusterImage) -> Assignment {
    let topic_partitions = partitions
        .topics()
        .filter_map(|(topic_id, partitions)| {
            Some(TopicPartitions {
                topic_id,
                topic_name: Arc::clone(&image.topics.by_id(topic_id)?.name).into(),
                partitions: partitions.to_vec(),
            })
        })
        .collect();
    Assignment { topic_partitions }
}
