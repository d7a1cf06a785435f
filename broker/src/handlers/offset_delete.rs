//! OffsetDelete (47), version 0: forgets offsets of topics that nobody consumes (KIP-496).

use std::sync::Arc;

use palisade_auth::audit::{Action, AuditContext, AuditEvent, AuditSink, Change, Outcome};
use palisade_auth::grant::{Delete, Read};
use palisade_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use palisade_protocol::types::PartitionIndex;
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::error::GroupError;
use crate::group::shard::OffsetDeletion;
use crate::group::step::Step;

/// What stands in a row until the group has decided it.
const UNDECIDED: ErrorCode = ErrorCode::new(i16::MIN);

/// Deletes what may be deleted.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: OffsetDeleteRequest,
) -> Handled<OffsetDeleteResponse> {
    let access = ctx.access();
    if let Err(refused) = access.group::<Delete>(&request.group_id) {
        let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        return Handled::Now(failed(code));
    }
    if request.group_id.is_empty() {
        return Handled::Now(failed(GroupError::InvalidGroupId.code()));
    }
    let mut response = OffsetDeleteResponse::default();
    let mut deletion = OffsetDeletion::new();
    for topic in &request.topics {
        let granted = access.topic::<Read>(&topic.name);
        let refused = granted
            .err()
            .map(|refused| denied::code(&refused, ErrorCode::TOPIC_AUTHORIZATION_FAILED));
        let image = ctx.image.topics.get(&topic.name);
        let mut wanted = Vec::new();
        let rows = topic.partitions.iter().map(|row| {
            let index = PartitionIndex::new(row.partition_index);
            let exists = image.is_some_and(|image| image.partition(index).is_some());
            let error_code = match refused {
                Some(code) => code,
                None if !exists => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                None => {
                    wanted.push(row.partition_index);
                    UNDECIDED
                }
            };
            OffsetDeleteResponsePartition {
                partition_index: row.partition_index,
                error_code,
            }
        });
        response.topics.push(OffsetDeleteResponseTopic {
            name: topic.name.detached(),
            partitions: rows.collect(),
        });
        if !wanted.is_empty() {
            deletion.push((topic.name.detached(), wanted));
        }
    }
    drop(access);
    if deletion.is_empty() {
        return Handled::Now(response);
    }
    let group: Str = request.group_id.detached();
    let named = group.clone();
    let audit = (ctx.broker.audit.clone(), ctx.audit_context());
    let awaited = ctx
        .broker
        .groups
        .ask(group.clone(), move |shard, _, asker| {
            Step::decided(shard.delete_offsets(&group, deletion), asker)
        })
        .await;
    match awaited {
        Ok(awaited) => {
            let undecided = response.clone();
            let deleted = awaited.noted(move |answer: &Result<Vec<Vec<ErrorCode>>, GroupError>| {
                if let Ok(codes) = answer {
                    record(&audit, &named, &filled(undecided, codes));
                }
            });
            Handled::Later(Box::pin(async move {
                match deleted.await.and_then(|answer| answer) {
                    Ok(codes) => filled(response, &codes),
                    Err(error) => failed(error.code()),
                }
            }))
        }
        Err(error) => Handled::Now(failed(error.code())),
    }
}

/// Notes a deletion that was done.
fn record(
    (sink, context): &(Option<Arc<dyn AuditSink>>, AuditContext),
    group: &str,
    response: &OffsetDeleteResponse,
) {
    let Some(sink) = sink else { return };
    let is_done = |row: &&OffsetDeleteResponsePartition| !row.error_code.is_error();
    let topics = response.topics.iter();
    let done = topics.filter(|topic| topic.partitions.iter().any(|row| is_done(&row)));
    let done: Vec<&str> = done.map(|topic| &*topic.name).collect();
    if !done.is_empty() {
        let event = AuditEvent::new(Action::OffsetsDelete, Outcome::Ok, context.clone());
        sink.record(event.with_change(Change {
            target: format!("group {group}"),
            before: Some(format!("topics {}", done.join(","))),
            ..Change::default()
        }));
    }
}

fn failed(error_code: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse {
        error_code,
        ..OffsetDeleteResponse::default()
    }
}

/// Puts the group's codes, per topic and partition, into the rows that waited for them.
fn filled(mut response: OffsetDeleteResponse, codes: &[Vec<ErrorCode>]) -> OffsetDeleteResponse {
    let rows = response
        .topics
        .iter_mut()
        .flat_map(|topic| topic.partitions.iter_mut())
        .filter(|row| row.error_code == UNDECIDED);
    for (row, code) in rows.zip(codes.iter().flatten()) {
        row.error_code = *code;
    }
    response
}
