//! DeleteRecords (21), versions 0-2: raises the log start offset (KIP-107). v2 flexible.
//!
//! What will be deleted is in the audit log first. The leader's log start is raised in the ordered
//! stage, on the directory's thread; the answer waits until every live replica's is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use palisade_auth::Access;
use palisade_auth::audit::{Action, AuditContext, Change};
use palisade_auth::grant::{Delete, Granted, Topic};
use palisade_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use palisade_protocol::types::{Offset, PartitionIndex};
use palisade_protocol::{ErrorCode, Str};
use tokio::time::Instant;

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::handlers::denied;
use crate::metadata::ClusterImage;
use crate::metadata::intents::{AuditTrail, Intents};
use crate::partition::waiter::Waiter;
use crate::partition::{Partition, ReplicaManager};

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

/// Raises log starts, and waits for the replicas.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DeleteRecordsRequest,
) -> Handled<DeleteRecordsResponse> {
    let scene = Scene {
        replicas: &ctx.broker.topics,
        image: &ctx.image,
        access: &ctx.access(),
        audit: ctx.audit_trail(),
    };
    delete_records(&scene, &request).await
}

/// What a deletion works with.
pub(crate) struct Scene<'a> {
    pub(crate) replicas: &'a ReplicaManager,
    pub(crate) image: &'a ClusterImage,
    pub(crate) access: &'a Access,
    /// Where deletions are announced, and on whose behalf.
    pub(crate) audit: Option<(Arc<dyn AuditTrail>, AuditContext)>,
}

/// A partition whose log start is to be raised.
struct Target {
    topic: String,
    partition: Partition<Delete>,
    offset: Offset,
    /// Its place in the response.
    at: (usize, usize),
}

/// Answers the whole request.
pub(crate) async fn delete_records(
    scene: &Scene<'_>,
    request: &DeleteRecordsRequest,
) -> Handled<DeleteRecordsResponse> {
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = Instant::now() + wait;
    let (mut response, targets) = judge(scene, request);
    let Ok(intents) = announce(scene, &targets).await else {
        scene.access.forget_allowed();
        for target in &targets {
            refuse(&mut response, target.at, ErrorCode::KAFKA_STORAGE_ERROR);
        }
        return Handled::Now(response);
    };
    let mut pending = Vec::new();
    for (target, intents) in targets.into_iter().zip(intents) {
        // Each is told by itself: who goes away in the middle leaves partitions whose records are
        // gone, one of which nobody knows, and others that nothing happens to.
        let intents = intents.map(Intents::begun);
        let told = match target.partition.delete_records_before(target.offset).await {
            Ok(_) => {
                let low_watermark = target.partition.low_watermark();
                if let Some(row) = row(&mut response, target.at) {
                    row.low_watermark = low_watermark.value();
                }
                if low_watermark < target.offset {
                    pending.push(target);
                }
                Ok(())
            }
            Err(error) => {
                let code = error.code();
                refuse(&mut response, target.at, code);
                Err(code.name())
            }
        };
        if let Some(intents) = intents {
            intents.each(|_| told);
        }
    }
    if pending.is_empty() {
        return Handled::Now(response);
    }
    scene.access.flush();
    Handled::Later(Box::pin(wait_for_all(response, pending, deadline)))
}

/// Authorizes and validates: the response with its refusals, and what is left to do. What is named
/// several times is asked for once, with the last of its offsets, as in Kafka.
fn judge(
    scene: &Scene<'_>,
    request: &DeleteRecordsRequest,
) -> (DeleteRecordsResponse, Vec<Target>) {
    let mut response = DeleteRecordsResponse::default();
    let mut targets = Vec::new();
    let mut topics = BTreeMap::<&Str, BTreeMap<i32, &DeleteRecordsPartition>>::new();
    for topic in &request.topics {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|asked| (asked.partition_index, asked));
        topics.entry(&topic.name).or_default().extend(partitions);
    }
    for (name, partitions) in topics {
        let grant = scene.access.topic::<Delete>(name);
        let mut rows = Vec::with_capacity(partitions.len());
        for asked in partitions.into_values() {
            let found = match &grant {
                Ok(grant) => find(scene, grant, asked),
                Err(refused) => Err(denied::code(refused, ErrorCode::TOPIC_AUTHORIZATION_FAILED)),
            };
            rows.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: -1,
                error_code: found.as_ref().err().copied().unwrap_or(ErrorCode::NONE),
            });
            if let Ok((partition, offset)) = found {
                targets.push(Target {
                    topic: name.to_string(),
                    partition,
                    offset,
                    at: (response.topics.len(), rows.len() - 1),
                });
            }
        }
        response.topics.push(DeleteRecordsTopicResult {
            name: name.detached(),
            partitions: rows,
        });
    }
    (response, targets)
}

/// The partition, and the offset that all its replicas have to reach.
fn find(
    scene: &Scene<'_>,
    grant: &Granted<Topic, Delete>,
    asked: &DeleteRecordsPartition,
) -> Result<(Partition<Delete>, Offset), ErrorCode> {
    let topic = scene
        .image
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
    let partition = scene
        .replicas
        .partition(grant, index)
        .map_err(|error| error.code())?;
    partition.lead(None).map_err(|error| error.code())?;
    if !partition.settings().deletable {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let offset = match asked.offset {
        HIGH_WATERMARK => partition.high_watermark(),
        offset if offset < 0 => return Err(ErrorCode::OFFSET_OUT_OF_RANGE),
        offset => Offset::new(offset),
    };
    // Judged again where it is done; this keeps what cannot be done from being announced.
    if offset > partition.high_watermark() {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    Ok((partition, offset))
}

/// Puts what is about to be deleted into the audit log, partition by partition; an error when that
/// is not durable, and then nothing may be deleted (security.md §5.2).
async fn announce(scene: &Scene<'_>, targets: &[Target]) -> Result<Vec<Option<Intents>>, ()> {
    let changes = targets.iter().map(|target| {
        let (topic, index) = (&target.topic, target.partition.index());
        let start = target.partition.low_watermark();
        let change = Change {
            target: format!("records of {topic}-{index}"),
            before: Some(format!("start={}", start.value())),
            after: Some(format!("start={}", target.offset.value())),
            ..Change::default()
        };
        (Action::RecordsDelete, change)
    });
    let announced = Intents::announce_each(scene.audit.clone(), changes.collect()).await;
    announced.ok_or(())
}

fn row(
    response: &mut DeleteRecordsResponse,
    (topic, row): (usize, usize),
) -> Option<&mut DeleteRecordsPartitionResult> {
    response.topics.get_mut(topic)?.partitions.get_mut(row)
}

fn refuse(response: &mut DeleteRecordsResponse, at: (usize, usize), code: ErrorCode) {
    if let Some(row) = row(response, at) {
        row.error_code = code;
    }
}

async fn wait_for_all(
    mut response: DeleteRecordsResponse,
    pending: Vec<Target>,
    deadline: Instant,
) -> DeleteRecordsResponse {
    let waiter = Waiter::new(pending.len());
    for wait in &pending {
        wait.partition.await_low_watermark(wait.offset, &waiter);
    }
    waiter.wait(deadline).await;
    for wait in pending {
        if let Some(row) = row(&mut response, wait.at) {
            decide(&wait.partition, wait.offset, row);
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
