//! The answer of OffsetFetch in its three shapes.

use palisade_protocol::messages::offset_fetch::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use palisade_protocol::{ErrorCode, Str, Uuid};

use super::BATCHED;
use crate::group::shard::{FetchedOffset, FetchedTopic};

/// The first version with an error of its own for the group.
const GROUP_ERROR: i16 = 2;

/// One group's answer.
pub(super) struct Answered {
    pub(super) group: Str,
    pub(super) topics: Vec<Topic>,
    pub(super) error: ErrorCode,
}

/// One topic of it.
pub(super) struct Topic {
    pub(super) name: Str,
    pub(super) topic_id: Uuid,
    /// The group is asked for it.
    pub(super) is_wanted: bool,
    pub(super) rows: Vec<Row>,
}

/// One partition of it.
pub(super) enum Row {
    /// The group decides it.
    Wanted(i32),
    /// It is known.
    Known(OffsetFetchResponsePartitions),
}

impl Row {
    /// A partition without offset, for a reason.
    pub(super) fn failed(partition: i32, error_code: ErrorCode) -> Self {
        Self::Known(OffsetFetchResponsePartitions {
            partition_index: partition,
            committed_offset: -1,
            metadata: Some(Str::EMPTY),
            error_code,
            ..OffsetFetchResponsePartitions::default()
        })
    }

    fn found(found: FetchedOffset) -> Self {
        Self::Known(OffsetFetchResponsePartitions {
            partition_index: found.partition,
            committed_offset: found.offset,
            committed_leader_epoch: found.leader_epoch,
            metadata: Some(found.metadata.as_deref().map_or(Str::EMPTY, Str::copy)),
            error_code: ErrorCode::NONE,
        })
    }

    fn into_partition(self) -> OffsetFetchResponsePartitions {
        match self {
            Self::Known(row) => row,
            Self::Wanted(partition) => match Self::failed(partition, ErrorCode::NONE) {
                Self::Known(row) => row,
                Self::Wanted(_) => OffsetFetchResponsePartitions::default(),
            },
        }
    }
}

impl Topic {
    /// The group failed: so do the partitions that it was to decide.
    pub(super) fn fail(&mut self, code: ErrorCode) {
        for row in &mut self.rows {
            if let Row::Wanted(partition) = row {
                *row = Row::failed(*partition, code);
            }
        }
    }

    /// The group's answer.
    pub(super) fn fill(&mut self, found: FetchedTopic) {
        self.rows = found.partitions.into_iter().map(Row::found).collect();
    }

    /// A topic of which all was asked, with the id it has today, zero where it is gone; none where
    /// nothing is left of it: offsets of a deleted namesake do not count, and by id a topic must
    /// be.
    pub(super) fn of_all(found: FetchedTopic, id: Uuid, by_id: bool) -> Option<Self> {
        let partitions = found.partitions.into_iter();
        let partitions = partitions.filter(|one| {
            let may_be_gone = id.is_nil() && !by_id;
            may_be_gone || (!id.is_nil() && (one.topic_id.is_nil() || one.topic_id == id))
        });
        let rows: Vec<_> = partitions.map(Row::found).collect();
        (!rows.is_empty()).then_some(Self {
            name: found.name,
            topic_id: id,
            is_wanted: false,
            rows,
        })
    }
}

/// The whole answer at a version.
pub(super) fn response(answered: Vec<Answered>, version: i16) -> OffsetFetchResponse {
    if version >= BATCHED {
        let groups = answered.into_iter().map(group);
        return OffsetFetchResponse {
            groups: groups.collect(),
            ..OffsetFetchResponse::default()
        };
    }
    let Some(mut one) = answered.into_iter().next() else {
        return OffsetFetchResponse::default();
    };
    if one.error.is_error() && version >= GROUP_ERROR {
        one.topics.clear();
    }
    OffsetFetchResponse {
        topics: one.topics.into_iter().map(old_topic).collect(),
        error_code: one.error,
        ..OffsetFetchResponse::default()
    }
}

fn group(mut one: Answered) -> OffsetFetchResponseGroup {
    if one.error.is_error() {
        one.topics.clear();
    }
    let topics = one
        .topics
        .into_iter()
        .map(|topic| OffsetFetchResponseTopics {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions: topic.rows.into_iter().map(Row::into_partition).collect(),
        });
    OffsetFetchResponseGroup {
        group_id: one.group,
        topics: topics.collect(),
        error_code: one.error,
    }
}

fn old_topic(topic: Topic) -> OffsetFetchResponseTopic {
    let rows = topic.rows.into_iter().map(Row::into_partition);
    let partitions = rows.map(|row| OffsetFetchResponsePartition {
        partition_index: row.partition_index,
        committed_offset: row.committed_offset,
        committed_leader_epoch: row.committed_leader_epoch,
        metadata: row.metadata,
        error_code: row.error_code,
    });
    OffsetFetchResponseTopic {
        name: topic.name,
        partitions: partitions.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: i64, topic_id: Uuid) -> FetchedTopic {
        FetchedTopic {
            name: "t".into(),
            partitions: vec![FetchedOffset {
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: None,
                topic_id,
            }],
        }
    }

    #[test]
    fn offsets_of_a_deleted_namesake_do_not_count() {
        let [old, new] = [1, 2].map(|byte| Uuid::from_bytes([byte; 16]));
        let counts = |stored, today, by_id| {
            let topic = Topic::of_all(committed(7, stored), today, by_id);
            topic.is_some()
        };
        for by_id in [false, true] {
            assert!(counts(new, new, by_id));
            assert!(counts(Uuid::NIL, new, by_id), "committed without an id");
            assert!(!counts(old, new, by_id));
        }
        assert!(counts(old, Uuid::NIL, false), "deleted, and not made again");
        assert!(!counts(old, Uuid::NIL, true));
    }
}
