//! Requests that several commands make.

use std::collections::BTreeMap;

use palisade_protocol::{
    Str,
    messages::{
        metadata::{MetadataRequest, MetadataRequestTopic},
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
        },
    },
};

use super::TopicPartition;

/// The last version of OffsetCommit that names topics.
pub(crate) const COMMIT_BY_NAME: i16 = 9;

/// Asks for these topics, for all of them at `None`; nothing is created.
pub(super) fn metadata(topics: Option<&[String]>) -> MetadataRequest {
    let of = |name: &String| MetadataRequestTopic {
        name: Some(Str::copy(name)),
        ..MetadataRequestTopic::default()
    };
    MetadataRequest {
        topics: topics.map(|names| names.iter().map(of).collect()),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    }
}

/// Commits offsets, each with its leader epoch or -1, as nobody's member: a membership is added by
/// whoever has one.
pub(crate) fn offset_commit<'a>(
    group: &str,
    offsets: impl Iterator<Item = (&'a TopicPartition, (i64, i32))>,
) -> OffsetCommitRequest {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, index), (offset, leader_epoch)) in offsets {
        let row = OffsetCommitRequestPartition {
            partition_index: *index,
            committed_offset: offset,
            committed_leader_epoch: leader_epoch,
            committed_metadata: Some(Str::from("")),
        };
        topics.entry(topic).or_default().push(row);
    }
    let topics = topics.into_iter();
    OffsetCommitRequest {
        group_id: Str::copy(group),
        generation_id_or_member_epoch: -1,
        topics: topics
            .map(|(name, partitions)| OffsetCommitRequestTopic {
                name: Str::copy(name),
                partitions,
                ..OffsetCommitRequestTopic::default()
            })
            .collect(),
        ..OffsetCommitRequest::default()
    }
}
