//! DeleteRecords (21), versions 0-2: raises the log start offset (KIP-107). v2 flexible.
//!
//! The leader's log start is raised in the ordered stage, on the directory's thread; the answer
//! waits until every live replica's log start is there.

use std::time::Duration;

use palisade_auth::Access;
use palisade_auth::grant::{Delete, Granted, Topic};
use palisade_protocol::ErrorCode;
use palisade_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use palisade_protocol::types::{Offset, PartitionIndex};
use tokio::time::Instant;

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::handlers::denied;
use crate::metadata::ClusterImage;
use crate::partition::waiter::Waiter;
use crate::partition::{Partition, ReplicaManager};

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

/// Raises log starts, and waits for the replicas.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DeleteRecordsRequest,
) -> Handled<DeleteRecordsResponse> {
    let access = ctx.access();
    delete_records(&ctx.broker.topics, &ctx.image, &access, &request).await
}

/// A partition whose replicas are not all there yet.
struct Pending {
    partition: Partition<Delete>,
    target: Offset,
    at: (usize, usize),
}

/// Answers the whole request.
pub(crate) async fn delete_records(
    replicas: &ReplicaManager,
    image: &ClusterImage,
    access: &Access,
    request: &DeleteRecordsRequest,
) -> Handled<DeleteRecordsResponse> {
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = Instant::now() + wait;
    let mut response = DeleteRecordsResponse::default();
    let mut pending = Vec::new();
    for topic in &request.topics {
        let grant = access.topic::<Delete>(&topic.name);
        let mut rows = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let done = match &grant {
                Ok(grant) => delete(replicas, image, grant, asked).await,
                Err(refused) => Err(denied::code(refused, ErrorCode::TOPIC_AUTHORIZATION_FAILED)),
            };
            let (error_code, low_watermark) = match done {
                Ok((partition, target)) => {
                    let low_watermark = partition.low_watermark();
                    if low_watermark < target {
                        pending.push(Pending {
                            partition,
                            target,
                            at: (response.topics.len(), rows.len()),
                        });
                    }
                    (ErrorCode::NONE, low_watermark.value())
                }
                Err(code) => (code, -1),
            };
            rows.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark,
                error_code,
            });
        }
        response.topics.push(DeleteRecordsTopicResult {
            name: topic.name.detached(),
            partitions: rows,
        });
    }
    if pending.is_empty() {
        return Handled::Now(response);
    }
    access.flush();
    Handled::Later(Box::pin(wait_for_all(response, pending, deadline)))
}

/// Raises one log start; the partition and the offset that all replicas have to reach.
async fn delete(
    replicas: &ReplicaManager,
    image: &ClusterImage,
    grant: &Granted<Topic, Delete>,
    asked: &DeleteRecordsPartition,
) -> Result<(Partition<Delete>, Offset), ErrorCode> {
    let topic = image
        .topics
        .get(grant.name())
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let index = PartitionIndex::new(asked.partition_index);
    topic
        .partition(index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if topic.is_internal() {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let partition = replicas
        .partition(grant, index)
        .map_err(|error| error.code())?;
    partition.lead(None).map_err(|error| error.code())?;
    if !partition.settings().deletable {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let target = match asked.offset {
        HIGH_WATERMARK => partition.high_watermark(),
        offset if offset < 0 => return Err(ErrorCode::OFFSET_OUT_OF_RANGE),
        offset => Offset::new(offset),
    };
    partition
        .delete_records_before(target)
        .await
        .map_err(|error| error.code())?;
    Ok((partition, target))
}

async fn wait_for_all(
    mut response: DeleteRecordsResponse,
    pending: Vec<Pending>,
    deadline: Instant,
) -> DeleteRecordsResponse {
    let waiter = Waiter::new(pending.len());
    for wait in &pending {
        wait.partition.await_low_watermark(wait.target, &waiter);
    }
    waiter.wait(deadline).await;
    for wait in pending {
        let (topic, row) = wait.at;
        let place = response
            .topics
            .get_mut(topic)
            .and_then(|topic| topic.partitions.get_mut(row));
        if let Some(row) = place {
            decide(&wait.partition, wait.target, row);
        }
    }
    response
}

fn decide(partition: &Partition<Delete>, target: Offset, row: &mut DeleteRecordsPartitionResult) {
    if let Err(error) = partition.lead(None) {
        row.error_code = error.code();
        row.low_watermark = -1;
        return;
    }
    // On a timeout the client learns how far it got; the leader's start stays raised.
    row.low_watermark = partition.low_watermark().value();
    if partition.low_watermark() < target {
        row.error_code = ErrorCode::REQUEST_TIMED_OUT;
    }
}

#[cfg(test)]
mod tests;
