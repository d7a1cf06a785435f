//! ConsumerGroupHeartbeat (68), versions 0-1: the consumer protocol's one request (KIP-848,
//! coordination.md §4).
//!
//! v1 regular expressions, and member ids that clients make (KIP-1082).

use std::sync::Arc;

use palisade_auth::grant::{Describe, Read};
use palisade_auth::host::java_text;
use palisade_protocol::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    ResponseTopicPartitions,
};
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::consumer::{Client, Heartbeat, check_request, plain_id};
use crate::group::error::GroupError;
use crate::group::look_up::{LookUpAsk, look_up};
use crate::group::shard::HeartbeatAsk;
use crate::rng;

/// From this version on clients make their ids themselves.
const OWN_IDS: i16 = 1;

/// Lets the member join, go on, or leave.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> Handled<ConsumerGroupHeartbeatResponse> {
    let access = ctx.access();
    if let Err(refused) = access.group::<Read>(&request.group_id) {
        let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        return Handled::Now(failed(code, None));
    }
    for topic in request.subscribed_topic_names.iter().flatten() {
        if let Err(refused) = access.topic::<Describe>(topic) {
            let code = denied::code(&refused, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
            return Handled::Now(failed(code, None));
        }
    }
    let groups = &ctx.broker.groups;
    let config = &groups.config().consumer;
    if !config.enabled {
        return Handled::Now(refused(&GroupError::UnsupportedVersion));
    }
    if let Err(error) = check_request(&request, ctx.api_version < OWN_IDS, config) {
        return Handled::Now(refused(&error));
    }
    let name_count = request.subscribed_topic_names.as_ref().map_or(0, Vec::len);
    let group = request.group_id.detached();
    let principal = &ctx.session.principal;
    let judged = groups.expressions().judge(principal, &request).await;
    let ask = HeartbeatAsk {
        member_id: match request.member_id.is_empty() {
            true => plain_id(rng::uuid()),
            false => request.member_id.detached(),
        },
        request,
        client: Client {
            id: ctx
                .client_id
                .as_ref()
                .map(Str::detached)
                .unwrap_or_default(),
            host: Str::from(format!("/{}", java_text(ctx.session.peer.ip()))),
            principal: principal.clone(),
        },
        judged,
        look_up: look_up(LookUpAsk {
            groups: Arc::clone(groups),
            group: group.clone(),
            image: Arc::clone(&ctx.image),
            access,
            principal: principal.clone(),
        }),
    };
    let awaited = groups
        .ask_of(group.clone(), name_count, move |shard, moment, asker| {
            shard.consumer_heartbeat(&group, ask, asker, moment)
        })
        .await;
    match awaited {
        Ok(awaited) => Handled::Later(Box::pin(async move {
            match awaited.answer().await.and_then(|answer| answer) {
                Ok(heartbeat) => response(heartbeat),
                Err(error) => refused(&error),
            }
        })),
        Err(error) => Handled::Now(refused(&error)),
    }
}

fn response(heartbeat: Heartbeat) -> ConsumerGroupHeartbeatResponse {
    let assignment = heartbeat.assignment.map(|assigned| {
        let topics = assigned.topics();
        let topics = topics.map(|(topic_id, partitions)| ResponseTopicPartitions {
            topic_id,
            partitions: partitions.to_vec(),
        });
        Assignment {
            topic_partitions: topics.collect(),
        }
    });
    ConsumerGroupHeartbeatResponse {
        member_id: Some(heartbeat.member_id),
        member_epoch: heartbeat.member_epoch,
        heartbeat_interval_ms: heartbeat.heartbeat_interval_ms,
        assignment,
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn refused(error: &GroupError) -> ConsumerGroupHeartbeatResponse {
    failed(error.code(), Some(error.text()))
}

fn failed(error_code: ErrorCode, error_message: Option<Str>) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code,
        error_message,
        ..ConsumerGroupHeartbeatResponse::default()
    }
}
