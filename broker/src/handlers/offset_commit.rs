//! OffsetCommit (8), versions 2-10: where a group is (coordination.md §3).
//!
//! v2-4 a retention time of its own; v5 without; v6 leader epochs (KIP-320); v7 static members
//! (KIP-345); v8 flexible; v9 consumer groups (KIP-848); v10 topics by id (KIP-848).

use std::sync::Arc;

use palisade_auth::Access;
use palisade_auth::grant::Read;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use palisade_protocol::types::PartitionIndex;
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::error::GroupError;
use crate::group::shard::{CommitAsk, CommitRow};
use crate::group::step::Step;
use crate::metadata::TopicImage;

/// Versions in which a commit says how long it is kept.
const RETENTION: std::ops::RangeInclusive<i16> = 2..=4;
/// The client knows consumer groups.
const CONSUMER_GROUPS: i16 = 9;
/// Topics by id only.
const BY_ID: i16 = 10;

/// Offsets that no batch of the usual size could hold, and that need not be tried.
const MAX_ROWS: usize = 100_000;

/// Commits what may be committed.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: OffsetCommitRequest,
) -> Handled<OffsetCommitResponse> {
    let access = ctx.access();
    if let Err(refused) = access.group::<Read>(&request.group_id) {
        let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        let mut response = OffsetCommitResponse::default();
        for topic in &request.topics {
            let codes = vec![code; topic.partitions.len()];
            response.topics.push(answer(topic, codes));
        }
        return Handled::Now(response);
    }
    let (mut response, rows) = judge(ctx, &access, &request);
    drop(access);
    if rows.is_empty() {
        return Handled::Now(response);
    }
    if rows.len() > MAX_ROWS {
        let text = "more offsets than one batch can hold".to_owned();
        fill(&mut response, Err(GroupError::Unknown(text)));
        return Handled::Now(response);
    }
    let count = rows.len();
    let group = request.group_id.detached();
    let ask = CommitAsk {
        member_id: request.member_id.detached(),
        instance_id: request.group_instance_id.as_ref().map(Str::detached),
        generation: request.generation_id_or_member_epoch,
        retention_ms: Some(request.retention_time_ms)
            .filter(|ms| RETENTION.contains(&ctx.api_version) && *ms >= 0),
        knows_consumer_groups: ctx.api_version >= CONSUMER_GROUPS,
        rows,
    };
    let principal = ctx.session.principal.clone();
    drop(request);
    let awaited = ctx
        .broker
        .groups
        .ask_of(group.clone(), count, move |shard, moment, asker| {
            shard.hear(&group, &ask.member_id, &principal);
            Step::decided(shard.commit(&group, ask, moment), asker)
        })
        .await;
    match awaited {
        Ok(awaited) => Handled::Later(Box::pin(async move {
            let decided = awaited.answer().await.and_then(|answer| answer);
            fill(&mut response, decided);
            response
        })),
        Err(error) => {
            fill(&mut response, Err(error));
            Handled::Now(response)
        }
    }
}

/// What stands in a row until the group has decided it.
const UNDECIDED: ErrorCode = ErrorCode::new(i16::MIN);

/// Answers the rows that the group need not see, and collects the others.
fn judge(
    ctx: &RequestContext,
    access: &Access,
    request: &OffsetCommitRequest,
) -> (OffsetCommitResponse, Vec<CommitRow>) {
    let mut response = OffsetCommitResponse::default();
    let mut rows = Vec::new();
    for topic in &request.topics {
        let found = find(ctx, access, topic);
        let codes = topic.partitions.iter().map(|row| {
            let image = found.as_ref().map_err(|code| *code);
            let image = match image {
                Ok(image) => image,
                Err(code) => return code,
            };
            if image
                .partition(PartitionIndex::new(row.partition_index))
                .is_none()
            {
                return ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            }
            let metadata = row.committed_metadata.as_ref();
            rows.push(CommitRow {
                topic: Str::copy(&image.name),
                topic_id: image.id,
                partition: row.partition_index,
                offset: row.committed_offset,
                leader_epoch: row.committed_leader_epoch,
                metadata: metadata.map(Str::detached).unwrap_or_default(),
            });
            UNDECIDED
        });
        let codes = codes.collect();
        response.topics.push(answer(topic, codes));
    }
    (response, rows)
}

/// The topic, if the caller may read it and it exists.
fn find(
    ctx: &RequestContext,
    access: &Access,
    topic: &OffsetCommitRequestTopic,
) -> Result<Arc<TopicImage>, ErrorCode> {
    let by_id = ctx.api_version >= BY_ID;
    let found = match by_id {
        true => ctx.image.topics.by_id(topic.topic_id),
        false => ctx.image.topics.get(&topic.name),
    };
    let name: &str = match found {
        Some(found) if by_id => &found.name,
        None if by_id => return Err(ErrorCode::UNKNOWN_TOPIC_ID),
        _ => &topic.name,
    };
    access
        .topic::<Read>(name)
        .map_err(|refused| denied::code(&refused, ErrorCode::TOPIC_AUTHORIZATION_FAILED))?;
    found.cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

fn answer(topic: &OffsetCommitRequestTopic, codes: Vec<ErrorCode>) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().zip(codes);
    OffsetCommitResponseTopic {
        name: topic.name.detached(),
        topic_id: topic.topic_id,
        partitions: partitions
            .map(|(row, error_code)| OffsetCommitResponsePartition {
                partition_index: row.partition_index,
                error_code,
            })
            .collect(),
    }
}

/// Puts the group's decision into the rows that waited for it.
fn fill(response: &mut OffsetCommitResponse, decided: Result<Vec<ErrorCode>, GroupError>) {
    let rows = response
        .topics
        .iter_mut()
        .flat_map(|topic| topic.partitions.iter_mut())
        .filter(|row| row.error_code == UNDECIDED);
    match decided {
        Ok(codes) => {
            for (row, code) in rows.zip(codes) {
                row.error_code = code;
            }
        }
        Err(error) => {
            let code = error.code();
            rows.for_each(|row| row.error_code = code);
        }
    }
}
