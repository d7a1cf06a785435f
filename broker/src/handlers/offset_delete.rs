//! OffsetDelete (47), version 0: forgets offsets of topics that nobody consumes (KIP-496).
//!
//! What may be deleted is in the audit log first, one change for each topic.

use palisade_auth::audit::{Action, Change};
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
use crate::metadata::intents::Intents;

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
    if deletion.is_empty() {
        return Handled::Now(response);
    }
    let group: Str = request.group_id.detached();
    let Some(intents) = announce(ctx, &group, &deletion).await else {
        access.forget_allowed();
        let refused = deletion
            .iter()
            .map(|(_, wanted)| vec![ErrorCode::KAFKA_STORAGE_ERROR; wanted.len()]);
        let refused: Vec<_> = refused.collect();
        return Handled::Now(filled(response, &refused));
    };
    drop(access);
    let awaited = ctx
        .broker
        .groups
        .ask(group.clone(), move |shard, _, asker| {
            Step::decided(shard.delete_offsets(&group, deletion), asker)
        })
        .await;
    match awaited {
        Ok(awaited) => {
            let begun = intents.into_iter().map(|one| one.map(Intents::begun));
            let intents: Vec<_> = begun.collect();
            let deleted = awaited.noted(move |answer| tell(intents, answer));
            Handled::Later(Box::pin(async move {
                match deleted.await.and_then(|answer| answer) {
                    Ok(codes) => filled(response, &codes),
                    Err(error) => failed(error.code()),
                }
            }))
        }
        Err(error) => {
            let code = error.code();
            tell(intents, &Err(error));
            Handled::Now(failed(code))
        }
    }
}

/// Announces what is to be deleted; `None` when that is not durable.
async fn announce(
    ctx: &RequestContext,
    group: &str,
    deletion: &OffsetDeletion,
) -> Option<Vec<Option<Intents>>> {
    let changes = deletion.iter().map(|(topic, partitions)| {
        let partitions: Vec<String> = partitions.iter().map(i32::to_string).collect();
        let change = Change {
            target: format!("offsets of group {group} for topic {topic}"),
            before: Some(format!("partitions {}", partitions.join(","))),
            ..Change::default()
        };
        (Action::OffsetsDelete, change)
    });
    Intents::announce_each(ctx.audit_trail(), changes.collect()).await
}

/// Tells what became of each topic's offsets.
fn tell(intents: Vec<Option<Intents>>, answer: &Result<Vec<Vec<ErrorCode>>, GroupError>) {
    for (at, intents) in intents.into_iter().enumerate() {
        let result = match answer {
            Ok(codes) => {
                let mut codes = codes.get(at).into_iter().flatten();
                let failed = codes.find(|code| code.is_error());
                failed.map_or(Ok(()), |code| Err(code.name()))
            }
            Err(error) => Err(error.code().name()),
        };
        if let Some(intents) = intents {
            intents.each(|_| result);
        }
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
