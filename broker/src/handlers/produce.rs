//! Produce (0), versions 3-13; below 3 only advertised (apis.md §3).
//!
//! v5 log start offset; v7 zstd (KIP-110); v8 record errors (KIP-467); v9 flexible; v10 leader
//! hints (KIP-951); v11-12 transactions (KIP-890); v13 topic ids (KIP-516).
//!
//! Deliberately absent: transactions. A transactional batch is authorized and then refused.
//!
//! The ordered stage checks and appends; with acks=-1 the answer is a future that holds positions
//! and no bytes of the request.

use std::sync::Arc;
use std::time::Duration;

use palisade_auth::Access;
use palisade_auth::grant::Write;
use palisade_protocol::messages::produce::{NodeEndpoint, ProduceRequest, ProduceResponse};
use palisade_protocol::types::{BrokerId, TimestampMs};
use palisade_protocol::{ErrorCode, Records};
use tokio::time::Instant;
use tracing::debug;

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::handlers::layout;
use crate::metadata::ClusterImage;
use crate::partition::ReplicaManager;
use crate::partition::validate::framing::{FirstLook, first_look};
use crate::partition::validate::refusal::Refusal;
use crate::partition::waiter::Waiter;
use crate::task::Budget;
use outcome::{Outcome, Pending};

mod merge;
mod outcome;
mod stage;

/// First version that names topics by id.
const BY_ID: i16 = 13;
/// First version that says where the leader is.
const LEADER_HINTS: i16 = 10;
/// First version whose clients know zstd.
const ZSTD: i16 = 7;

/// Appends the batches of a request and answers as its acks ask.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ProduceRequest,
) -> Handled<ProduceResponse> {
    let scene = Scene {
        replicas: &ctx.broker.topics,
        image: &ctx.image,
        access: &ctx.access(),
        listener: &ctx.session.listener.name,
        version: ctx.api_version,
        now: ctx.broker.clock.now(),
    };
    produce(&scene, request).await
}

/// What a produce works with.
pub(crate) struct Scene<'a> {
    pub(crate) replicas: &'a ReplicaManager,
    pub(crate) image: &'a Arc<ClusterImage>,
    pub(crate) access: &'a Access,
    /// Name of the listener, whose addresses clients are told.
    pub(crate) listener: &'a Arc<str>,
    pub(crate) version: i16,
    pub(crate) now: TimestampMs,
}

/// How many copies the client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    /// None, and no answer either.
    None,
    /// The leader's append.
    Leader,
    /// The high watermark.
    All,
}

impl Acks {
    fn from_wire(acks: i16) -> Option<Acks> {
        match acks {
            0 => Some(Acks::None),
            1 => Some(Acks::Leader),
            -1 => Some(Acks::All),
            _ => None,
        }
    }
}

/// Runs the ordered stage, and makes the rest a future where the client waits for more.
pub(crate) async fn produce(
    scene: &Scene<'_>,
    mut request: ProduceRequest,
) -> Handled<ProduceResponse> {
    let acks = Acks::from_wire(request.acks);
    let silent = acks == Some(Acks::None);
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = Instant::now() + wait;
    let refused = refuse_all(scene, &request);
    request.topic_data = merge::merged(request.topic_data);
    let (response, pending) = match refused {
        Some(refusal) => (all_refused(scene, &request, &refusal), Vec::new()),
        None => append_all(scene, acks, request).await,
    };
    if silent {
        // There is no other word for a failure (records.md §4).
        return if has_errors(&response) {
            Handled::Close
        } else {
            Handled::NoResponse
        };
    }
    if pending.is_empty() {
        return Handled::Now(with_endpoints(response, scene.image, scene.listener));
    }
    // A denial is not held back until the answer leaves.
    scene.access.flush();
    let image = Arc::clone(scene.image);
    let listener = Arc::clone(scene.listener);
    Handled::Later(Box::pin(async move {
        let response = wait_for_all(response, pending, deadline).await;
        with_endpoints(response, &image, &listener)
    }))
}

/// Step 0 of the pipeline and the transactional right: what fails the request as a whole.
fn refuse_all(scene: &Scene<'_>, request: &ProduceRequest) -> Option<Refusal> {
    let mut transactional = false;
    for topic in &request.topic_data {
        for partition in &topic.partition_data {
            let Some(records) = &partition.records else {
                continue;
            };
            match first_look(records.as_bytes()) {
                Ok(FirstLook::Batch {
                    transactional: true,
                    ..
                }) => transactional = true,
                Ok(_) => {}
                Err(refusal) => return Some(refusal),
            }
        }
    }
    if !transactional {
        return None;
    }
    // A missing id counts as denied (security.md §4.10).
    let granted = request
        .transactional_id
        .as_deref()
        .is_some_and(|id| scene.access.transactional_id::<Write>(id).is_ok());
    (!granted).then(|| Refusal::new(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED))
}

fn all_refused(scene: &Scene<'_>, request: &ProduceRequest, refusal: &Refusal) -> ProduceResponse {
    let mut response = ProduceResponse::default();
    for topic in &request.topic_data {
        let mut answer = stage::topic_answer(scene, topic);
        for partition in &topic.partition_data {
            let outcome = Outcome::refused(refusal.clone());
            answer
                .partition_responses
                .push(outcome.into_response(partition.index));
        }
        response.responses.push(answer);
    }
    response
}

/// The ordered stage: every partition in turn. Returns what has to be waited for.
async fn append_all(
    scene: &Scene<'_>,
    acks: Option<Acks>,
    request: ProduceRequest,
) -> (ProduceResponse, Vec<Pending>) {
    let mut budget = Budget::start();
    let mut pending = Vec::new();
    let mut response = ProduceResponse::default();
    for mut topic in request.topic_data {
        let mut answer = stage::topic_answer(scene, &topic);
        let partitions = std::mem::take(&mut topic.partition_data);
        let target = stage::Target::find(scene, &topic);
        for partition in partitions {
            let index = partition.index;
            let bytes = partition.records.as_ref().map_or(0, Records::len);
            let outcome = stage::append(scene, &target, acks, partition).await;
            let mut row = outcome.row;
            if let Some(mut wait) = outcome.pending {
                wait.at = (response.responses.len(), answer.partition_responses.len());
                pending.push(wait);
            }
            row.index = index;
            answer.partition_responses.push(row);
            budget.breathe(bytes).await;
        }
        response.responses.push(answer);
    }
    (response, pending)
}

/// Waits until every pending partition is decided, then says for each how it ended.
async fn wait_for_all(
    mut response: ProduceResponse,
    pending: Vec<Pending>,
    deadline: Instant,
) -> ProduceResponse {
    let waiter = Waiter::new(pending.len());
    for wait in &pending {
        wait.register(&waiter);
    }
    let decided = waiter.wait(deadline).await;
    debug!(partitions = pending.len(), decided, "produce waited");
    for wait in pending {
        let (topic, row) = wait.at;
        let place = response
            .responses
            .get_mut(topic)
            .and_then(|topic| topic.partition_responses.get_mut(row));
        if let Some(row) = place {
            wait.decide(row);
        }
    }
    response
}

fn has_errors(response: &ProduceResponse) -> bool {
    response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .any(|row| row.error_code != ErrorCode::NONE)
}

/// Adds the addresses of the leaders that rows name (KIP-951).
fn with_endpoints(
    mut response: ProduceResponse,
    image: &ClusterImage,
    listener: &str,
) -> ProduceResponse {
    let mut nodes: Vec<i32> = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .map(|row| row.current_leader.leader_id)
        .filter(|leader| *leader >= 0)
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    for node in nodes {
        if let Some(address) = layout::of_node(image, BrokerId::new(node), listener) {
            response.node_endpoints.push(NodeEndpoint {
                node_id: node,
                host: address.host,
                port: address.port,
                rack: address.rack,
            });
        }
    }
    response
}

#[cfg(test)]
mod tests;
