//! FindCoordinator (10), versions 0-6: which node keeps a group.
//!
//! v1 kinds of keys; v3 flexible; v4 several keys (KIP-699); v5 a new error for transactions; v6
//! share groups (KIP-932). The first look-up of a group creates the topic that groups are kept in.
//! Transactions and share groups are not built: who may use them is told so, for good.
//!
//! For good is another code for librdkafka than for the rest: there only the two denials end
//! `init_transactions`, after anything else it asks again every half second. So INVALID_REQUEST is
//! answered first, which every other client takes as final, and CLUSTER_AUTHORIZATION_FAILED to
//! whoever comes again over the same connection, with the same words, which librdkafka shows. Its
//! name would tell nothing: what is built upon it (confluent-kafka-go, ClickHouse, …) says its own
//! in ApiVersions. Nor would a coordinator that refuses the producer: in InitProducerId librdkafka
//! ends on wrong timeouts, denials and fencing only, and there are no words.

use std::time::Duration;

use palisade_auth::Access;
use palisade_auth::grant::{ClusterAction, Describe};
use palisade_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use palisade_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use palisade_protocol::types::TopicId;
use palisade_protocol::{ErrorCode, Str};
use tokio::time::Instant;

use super::{denied, layout};
use crate::config::Config;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::TOPIC;
use crate::group::coordinator::partition_of;
use crate::logging::Throttle;
use crate::metadata::{Actor, Internal};

/// Types of keys.
const GROUP_KEY: i8 = 0;
const TRANSACTION_KEY: i8 = 1;
const SHARE_KEY: i8 = 2;
/// Several keys in one request.
const BATCHED: i16 = 4;
/// Share groups have keys.
const SHARE: i16 = 6;
/// Highest version of the clients that ask again whatever they hear. Some others do so a few times
/// (sarama, v3), and what they hear last is what they show.
const PERSISTENT: i16 = 2;
/// How long one request waits for groups that this node is about to take up.
const TAKE_UP: Duration = Duration::from_secs(2);
/// CreateTopics version whose defaults (-1) mean "as the broker is configured".
const CREATE_VERSION: i16 = 7;

/// Names the coordinator of each key.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: FindCoordinatorRequest,
) -> Handled<FindCoordinatorResponse> {
    let access = ctx.access();
    let keys = match ctx.api_version {
        BATCHED.. => &request.coordinator_keys[..],
        _ => std::slice::from_ref(&request.key),
    };
    let of_groups = request.key_type == GROUP_KEY;
    let may_ask = |key: &Str| of_groups && access.probe_group::<Describe>(key).is_some();
    let is_missing = ctx.broker.metadata.image().topics.get(TOPIC).is_none();
    let may_try = || ctx.broker.groups.may_make_topic(Instant::now());
    if is_missing && may_try() && keys.iter().any(may_ask) {
        create_topic(ctx).await;
    }
    let deadline = Instant::now() + TAKE_UP;
    let mut rows = Vec::with_capacity(keys.len());
    for key in keys {
        let found = find(ctx, &access, request.key_type, key, deadline).await;
        rows.push(row(key, found));
    }
    Handled::Now(match ctx.api_version {
        BATCHED.. => FindCoordinatorResponse {
            coordinators: rows,
            ..FindCoordinatorResponse::default()
        },
        _ => alone(rows.pop().unwrap_or_default()),
    })
}

/// The answer to an older request, which has one key.
fn alone(row: Coordinator) -> FindCoordinatorResponse {
    FindCoordinatorResponse {
        error_code: row.error_code,
        error_message: match row.error_code {
            // The reference has its word for no error here, and none where it answers for many.
            ErrorCode::NONE => Some(Str::from_static("NONE")),
            _ => row.error_message,
        },
        node_id: row.node_id,
        host: row.host,
        port: row.port,
        ..FindCoordinatorResponse::default()
    }
}

/// Where a coordinator is.
struct Place {
    node_id: i32,
    host: Str,
    port: i32,
}

/// Why there is none.
struct Absent {
    code: ErrorCode,
    text: &'static str,
}

impl Absent {
    const fn new(code: ErrorCode, text: &'static str) -> Self {
        Self { code, text }
    }
}

fn row(key: &Str, found: Result<Place, Absent>) -> Coordinator {
    match found {
        Ok(place) => Coordinator {
            key: key.clone(),
            node_id: place.node_id,
            host: place.host,
            port: place.port,
            ..Coordinator::default()
        },
        Err(absent) => Coordinator {
            key: key.clone(),
            node_id: -1,
            port: -1,
            error_code: absent.code,
            error_message: Some(Str::from_static(absent.text)),
            ..Coordinator::default()
        },
    }
}

async fn find(
    ctx: &RequestContext,
    access: &Access,
    key_type: i8,
    key: &Str,
    deadline: Instant,
) -> Result<Place, Absent> {
    match key_type {
        GROUP_KEY => {
            access.group::<Describe>(key).map_err(|refused| {
                let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
                Absent::new(code, "Group authorization failed.")
            })?;
            access.flush();
            group_coordinator(ctx, key, deadline).await
        }
        TRANSACTION_KEY => {
            access
                .transactional_id::<Describe>(key)
                .map_err(|refused| {
                    let code = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
                    let code = denied::code(&refused, code);
                    Absent::new(code, "Transactional Id authorization failed.")
                })?;
            Err(without_transactions(ctx))
        }
        SHARE_KEY if ctx.api_version >= SHARE => {
            access.cluster::<ClusterAction>().map_err(|refused| {
                let code = denied::code(&refused, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
                Absent::new(code, "not authorized to act for the cluster")
            })?;
            let text = match is_share_key(key) {
                true => "share groups are not supported yet",
                false => "a share key is group:topic id:partition",
            };
            Err(Absent::new(ErrorCode::INVALID_REQUEST, text))
        }
        _ => {
            let text = "the key type is not known in this version";
            Err(Absent::new(ErrorCode::INVALID_REQUEST, text))
        }
    }
}

/// What a permitted transactional producer is told (see the head of this file).
fn without_transactions(ctx: &RequestContext) -> Absent {
    static SAID: Throttle = Throttle::new();
    let comes_again = ctx.session.hears_of_transactions();
    if !comes_again && SAID.may_speak() {
        tracing::warn!(
            peer = %ctx.session.peer,
            principal = ?ctx.session.principal.to_string(),
            client_id = ?ctx.client_id.as_deref().unwrap_or_default(),
            "transactional producer refused, transactions are not supported yet"
        );
    }
    let code = match comes_again && ctx.api_version <= PERSISTENT {
        true => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
        false => ErrorCode::INVALID_REQUEST,
    };
    Absent::new(code, "transactions are not supported yet")
}

fn is_share_key(key: &str) -> bool {
    let mut parts = key.rsplitn(3, ':');
    let partition = parts.next().and_then(|part| part.parse::<i32>().ok());
    let topic = parts.next().and_then(|part| part.parse::<TopicId>().ok());
    let group = parts.next().filter(|group| !group.is_empty());
    partition.is_some() && topic.is_some() && group.is_some()
}

async fn group_coordinator(
    ctx: &RequestContext,
    group: &str,
    deadline: Instant,
) -> Result<Place, Absent> {
    let unavailable = |text| Absent::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, text);
    let image = ctx.broker.metadata.image();
    let topic = image.topics.get(TOPIC);
    let topic = topic.ok_or(unavailable("the topic of groups does not exist yet"))?;
    let index = partition_of(group, topic.partitions.len());
    let leader = topic.partition(index).and_then(|one| one.leader);
    let leader = leader.filter(|leader| image.brokers.is_live(*leader));
    let leader = leader.ok_or(unavailable("the group's partition has no leader"))?;
    let is_here = leader == ctx.broker.node_id;
    if is_here && !ctx.broker.groups.wait_taken_up(index, deadline).await {
        return Err(unavailable("the group's partition is not taken up yet"));
    }
    let listener = ctx.session.listener.config.name.as_str();
    let endpoint = layout::of_node(&image, leader, listener);
    let endpoint = endpoint.ok_or(unavailable("the coordinator lacks this listener"))?;
    Ok(Place {
        node_id: leader.value(),
        host: endpoint.host,
        port: endpoint.port,
    })
}

/// Has the topic made; whether that worked shows in the metadata.
async fn create_topic(ctx: &RequestContext) {
    let request = CreateTopicsRequest {
        topics: vec![offsets_topic(&ctx.broker.config)],
        ..CreateTopicsRequest::default()
    };
    let actor = Actor::internal(Internal::for_purpose("topic of groups"));
    let created = ctx
        .broker
        .controller
        .submit(request, CREATE_VERSION, actor)
        .await;
    let failed = match created {
        Ok(response) => {
            let row = response.topics.into_iter().next();
            row.filter(|row| row.error_code.is_error())
                .filter(|row| row.error_code != ErrorCode::TOPIC_ALREADY_EXISTS)
                .map(|row| match row.error_message {
                    Some(text) => format!("{}: {text}", row.error_code),
                    None => row.error_code.to_string(),
                })
        }
        Err(error) => Some(error.to_string()),
    };
    let Some(error) = failed else { return };
    ctx.broker.groups.topic_not_made(Instant::now());
    // Those who asked meanwhile fail with it.
    static SAID: Throttle = Throttle::new();
    if SAID.may_speak() {
        tracing::warn!(topic = TOPIC, %error, "not created");
    }
}

/// The topic as the node's configuration wants it (configs.md §2).
pub(crate) fn offsets_topic(config: &Config) -> CreatableTopic {
    let setting = |name: &'static str, value: String| CreatableTopicConfig {
        name: Str::from_static(name),
        value: Some(Str::from(value)),
    };
    let segment_bytes = config.number("offsets.topic.segment.bytes");
    let partitions = config.number("offsets.topic.num.partitions");
    let replicas = config.number("offsets.topic.replication.factor");
    CreatableTopic {
        name: Str::from_static(TOPIC),
        num_partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
        configs: vec![
            setting("cleanup.policy", "compact".to_owned()),
            setting("compression.type", "producer".to_owned()),
            setting("segment.bytes", segment_bytes.to_string()),
        ],
        ..CreatableTopic::default()
    }
}
