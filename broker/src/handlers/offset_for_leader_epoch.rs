//! OffsetForLeaderEpoch (23), versions 2-4: where a leader epoch ended (KIP-101, KIP-320).
//!
//! v2 the client's own epoch is checked; v3 replica id; v4 flexible. The leader answers whatever
//! the replica id says.

use palisade_auth::Access;
use palisade_auth::grant::{Describe, Granted, Topic};
use palisade_protocol::ErrorCode;
use palisade_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use palisade_protocol::types::{LeaderEpoch, PartitionIndex};
use palisade_storage::EpochEnd;

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::handlers::{denied, expected_epoch};
use crate::metadata::ClusterImage;
use crate::partition::ReplicaManager;

/// Finds the end of an epoch for each partition.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> Handled<OffsetForLeaderEpochResponse> {
    let access = ctx.access();
    Handled::Now(epoch_ends(
        &ctx.broker.topics,
        &ctx.image,
        &access,
        &request,
    ))
}

/// Answers the whole request.
pub(crate) fn epoch_ends(
    replicas: &ReplicaManager,
    image: &ClusterImage,
    access: &Access,
    request: &OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in &request.topics {
        let grant = access.epoch_or_describe(&topic.topic);
        let partitions = topic
            .partitions
            .iter()
            .map(|asked| {
                let found = match &grant {
                    Ok(grant) => find(replicas, image, grant, asked),
                    Err(refused) => {
                        Err(denied::code(refused, ErrorCode::TOPIC_AUTHORIZATION_FAILED))
                    }
                };
                row(asked.partition, found)
            })
            .collect();
        response.topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions,
        });
    }
    response
}

fn find(
    replicas: &ReplicaManager,
    image: &ClusterImage,
    grant: &Granted<Topic, Describe>,
    asked: &OffsetForLeaderPartition,
) -> Result<EpochEnd, ErrorCode> {
    let index = PartitionIndex::new(asked.partition);
    image
        .topics
        .partition(grant.name(), index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let partition = replicas
        .partition(grant, index)
        .map_err(|error| error.code())?;
    let expected = expected_epoch(asked.current_leader_epoch);
    partition.lead(expected).map_err(|error| error.code())?;
    Ok(partition.epoch_end(LeaderEpoch::new(asked.leader_epoch)))
}

fn row(partition: i32, found: Result<EpochEnd, ErrorCode>) -> EpochEndOffset {
    let (error_code, leader_epoch, end_offset) = match found {
        Ok(EpochEnd::Known { epoch, end }) => (ErrorCode::NONE, epoch.value(), end.value()),
        Ok(EpochEnd::Unknown) => (ErrorCode::NONE, -1, -1),
        Err(code) => (code, -1, -1),
    };
    EpochEndOffset {
        error_code,
        partition,
        leader_epoch,
        end_offset,
    }
}

#[cfg(test)]
mod tests;
