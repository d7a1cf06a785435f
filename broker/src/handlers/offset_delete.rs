//! OffsetDelete (47), version 0: forgets offsets of topics that nobody consumes (KIP-496).
//!
//! What may be deleted is in the audit log first, one change for each topic.

use palisade_auth::Access;
use palisade_auth::audit::{Action, Change};
use palisade_auth::grant::{Delete, Read};
use palisade_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponse,
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use palisade_protocol::types::PartitionIndex;
use palisade_protocol::{ErrorCode, Str};

use super::{denied, group_change};
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::error::GroupError;
use crate::group::shard::{OffsetDeletion, Shard};
use crate::group::step::{Moment, Step};
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
    let (response, deletion) = judged(ctx, &access, &request.topics);
    if deletion.is_empty() {
        return Handled::Now(response);
    }
    let group: Str = request.group_id.detached();
    let Some(intents) = announce(ctx, &group, &deletion).await else {
        access.forget_allowed();
        let refused = vec![ErrorCode::KAFKA_STORAGE_ERROR; deletion.len()];
        return Handled::Now(filled(response, &refused));
    };
    drop(access);
    let event = {
        let group = group.clone();
        move |shard: &mut Shard, _: &Moment<'_>, asker| {
            Step::decided(shard.delete_offsets(&group, deletion), asker)
        }
    };
    let told = |codes: &Vec<ErrorCode>, at: usize| match codes.get(at) {
        Some(&ErrorCode::NONE) => Ok(()),
        Some(code) => Err(code.name()),
        None => Err("unknown"),
    };
    match group_change::make(ctx, group, intents, event, told).await {
        Ok(deleted) => Handled::Later(Box::pin(async move {
            match deleted.await {
                Ok(codes) => filled(response, &codes),
                Err(error) => failed(error.code()),
            }
        })),
        Err(error) => Handled::Now(failed(error.code())),
    }
}

/// What is answered without asking the group, and what it is asked to delete: that stands undecided
/// in the answer.
fn judged(
    ctx: &RequestContext,
    access: &Access,
    topics: &[OffsetDeleteRequestTopic],
) -> (OffsetDeleteResponse, OffsetDeletion) {
    let mut response = OffsetDeleteResponse::default();
    let mut deletion = OffsetDeletion::new();
    for topic in topics {
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
    (response, deletion)
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

fn failed(error_code: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse {
        error_code,
        ..OffsetDeleteResponse::default()
    }
}

/// Puts the codes of the topics that were asked for into the rows that wait for them.
fn filled(mut response: OffsetDeleteResponse, codes: &[ErrorCode]) -> OffsetDeleteResponse {
    let is_undecided = |row: &OffsetDeleteResponsePartition| row.error_code == UNDECIDED;
    let topics = response.topics.iter_mut();
    let asked = topics.filter(|topic| topic.partitions.iter().any(is_undecided));
    for (topic, code) in asked.zip(codes) {
        let rows = topic.partitions.iter_mut();
        for row in rows.filter(|row| is_undecided(row)) {
            row.error_code = *code;
        }
    }
    response
}
