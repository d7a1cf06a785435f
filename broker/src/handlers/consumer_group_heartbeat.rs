//! ConsumerGroupHeartbeat (68), versions 0-1: the consumer protocol's one request (KIP-848,
//! coordination.md §4).
//!
//! v1 regular expressions, and member ids that clients make (KIP-1082).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use palisade_auth::Access;
use palisade_auth::grant::{Describe, Read};
use palisade_auth::host::java_text;
use palisade_protocol::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    ResponseTopicPartitions,
};
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::consumer::{Client, Heartbeat, check_request, plain_id};
use crate::group::error::GroupError;
use crate::group::shard::HeartbeatAsk;
use crate::group::topic_pattern::TopicPattern;
use crate::metadata::ClusterImage;
use crate::{rng, task};

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
    let group = request.group_id.detached();
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
        },
        look_up: look_up(ctx, access, group.clone()),
    };
    let awaited = groups
        .ask(group.clone(), move |shard, moment, asker| {
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

/// Looks expressions up on a helper thread, and brings the outcome to the group.
///
/// It goes on when the connection ends: the group waits for it.
fn look_up(ctx: &RequestContext, access: Access, group: Str) -> Box<dyn FnOnce(Vec<Str>) + Send> {
    let broker = Arc::clone(&ctx.broker);
    let image = Arc::clone(&ctx.image);
    Box::new(move |patterns| {
        task::spawn("group expressions", async move {
            let version = image.offset;
            let found =
                tokio::task::spawn_blocking(move || topics_of(&patterns, &image, &access)).await;
            // Without an outcome the group asks again after a while.
            if let Ok(found) = found {
                bring(&broker, group, found, version).await;
            }
        });
    })
}

async fn bring(
    broker: &Broker,
    group: Str,
    found: BTreeMap<Str, BTreeSet<Str>>,
    version: palisade_protocol::types::Offset,
) {
    let name = group.clone();
    let brought = broker
        .groups
        .ask(group, move |shard, moment, asker| {
            shard.patterns_found(&name, &found, version, asker, moment)
        })
        .await;
    if let Ok(awaited) = brought {
        // Whoever coordinates the group now has its members' next heartbeats look again.
        let _ = awaited.answer().await;
    }
}

/// The topics that expressions stand for, of those that the caller may see.
fn topics_of(
    patterns: &[Str],
    image: &ClusterImage,
    access: &Access,
) -> BTreeMap<Str, BTreeSet<Str>> {
    let visible = |name: &str| access.probe_topic::<Describe>(name).is_some();
    let found = patterns.iter().map(|pattern| {
        let parsed = TopicPattern::parse(pattern).ok();
        let topics = image.topics.iter().filter(|topic| {
            let parsed = parsed.as_ref();
            parsed.is_some_and(|parsed| parsed.matches(&topic.name)) && visible(&topic.name)
        });
        let topics = topics.map(|topic| Str::copy(&topic.name)).collect();
        (pattern.clone(), topics)
    });
    found.collect()
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
