//! Fetch (1), versions 4-18.
//!
//! v5 log start offset; v7 sessions (KIP-227); v9 leader epochs (KIP-320); v11 rack (KIP-392); v12
//! divergence (KIP-595), flexible; v13 topic ids (KIP-516); v15 replica state (KIP-903); v16
//! leader addresses (KIP-951); v17 directory ids; v18 the follower's high watermark (KIP-1166).
//!
//! Deliberately absent: redirects to a nearer replica (the default selector has none), tiering, and
//! followers: no partition has a second replica yet, so a replica id names no replica of any.
//!
//! The first pass over the partitions runs in the ordered stage. A fetch that found too little
//! then parks on the ready list of its partitions and looks again when they have news.

use std::sync::Arc;
use std::time::Duration;

use palisade_auth::Access;
use palisade_protocol::ErrorCode;
use palisade_protocol::messages::fetch::{FetchRequest, FetchResponse};
use tokio::time::Instant;

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::fetch_session::{FetchSessions, Session};
use crate::metadata::ClusterImage;
use crate::partition::ReplicaManager;
use crate::partition::read::Isolation;
use opening::{Holder, Opening};
use run::{Answer, Run};

mod opening;
mod respond;
mod run;
mod visit;

/// First version that names topics by id.
const BY_ID: i16 = 13;
/// First version that says where the leader is.
const LEADER_HINTS: i16 = 16;

/// Answers a fetch, at once or when its partitions have news.
pub(crate) async fn handle(ctx: &RequestContext, request: FetchRequest) -> Handled<FetchResponse> {
    let broker = &ctx.broker;
    let scene = Scene {
        replicas: Arc::clone(&broker.topics),
        sessions: Arc::clone(&broker.fetch_sessions),
        image: Arc::clone(&ctx.image),
        access: ctx.access(),
        listener: Arc::clone(&ctx.session.listener.name),
        max_bytes: broker.config.limits.fetch_max_bytes,
        version: ctx.api_version,
    };
    scene.handle(request).await
}

/// What a fetch works with; its own copy, since it may outlive the ordered stage.
pub(crate) struct Scene {
    pub(crate) replicas: Arc<ReplicaManager>,
    pub(crate) sessions: Arc<FetchSessions>,
    pub(crate) image: Arc<ClusterImage>,
    pub(crate) access: Access,
    /// Name of the listener, whose addresses clients are told.
    pub(crate) listener: Arc<str>,
    /// Most bytes of one response (`fetch.max.bytes`).
    pub(crate) max_bytes: usize,
    pub(crate) version: i16,
}

/// What the client asked for, apart from the partitions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// None for an isolation level that does not exist.
    pub(crate) isolation: Option<Isolation>,
    /// Bytes that are worth an answer before the deadline.
    pub(crate) min_bytes: u64,
    /// Most bytes to answer; none when the client sent a negative number.
    pub(crate) max_bytes: Option<usize>,
    /// When to answer whatever there is.
    pub(crate) deadline: Option<Instant>,
    /// The caller says it is a replica, which only a node of the cluster may say.
    pub(crate) as_replica: bool,
    /// Whether topics are named by id.
    pub(crate) by_id: bool,
}

impl Scene {
    /// Opens the session the request names and answers.
    pub(crate) async fn handle(self, request: FetchRequest) -> Handled<FetchResponse> {
        let terms = self.terms(&request);
        match opening::open(&self, &request, terms.by_id) {
            Opening::Refused(code) => Handled::Now(refused(code)),
            Opening::Fresh { list, sessionful } => {
                let run = Run::new(self, terms, Holder::fresh(list, sessionful));
                run.answer().await.into_handled()
            }
            Opening::Continue { handle, update } => match handle.try_lock() {
                Some(session) => {
                    let begun = opening::begin(&self, &handle, session, update, terms.by_id);
                    self.go_on(terms, begun).await.into_handled()
                }
                // An earlier fetch of the same session is parked: this one takes its turn.
                None => Handled::Later(Box::pin(async move {
                    let session = handle.lock().await;
                    let begun = opening::begin(&self, &handle, session, update, terms.by_id);
                    self.go_on(terms, begun).await.wait().await
                })),
            },
        }
    }

    async fn go_on(self, terms: Terms, begun: Result<Holder, ErrorCode>) -> Answer {
        match begun {
            Ok(holder) => Run::new(self, terms, holder).answer().await,
            Err(code) => Answer::Ready(refused(code)),
        }
    }

    fn terms(&self, request: &FetchRequest) -> Terms {
        let isolation = match request.isolation_level {
            0 => Some(Isolation::ReadUncommitted),
            1 => Some(Isolation::ReadCommitted),
            _ => None,
        };
        let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
        let max_bytes = usize::try_from(request.max_bytes)
            .ok()
            .map(|bytes| bytes.min(self.max_bytes));
        // Nobody can be given more than fits.
        let min_bytes = u64::try_from(request.min_bytes)
            .unwrap_or(0)
            .min(max_bytes.unwrap_or(0) as u64);
        Terms {
            isolation,
            min_bytes,
            max_bytes,
            deadline: (wait > 0).then(|| Instant::now() + Duration::from_millis(wait)),
            as_replica: request.replica_id >= 0 || request.replica_state.replica_id >= 0,
            by_id: self.version >= BY_ID,
        }
    }
}

/// An answer that holds nothing but a session fault.
fn refused(error_code: ErrorCode) -> FetchResponse {
    FetchResponse {
        error_code,
        ..FetchResponse::default()
    }
}

/// A session in the hands of a request.
type HeldSession = tokio::sync::OwnedMutexGuard<Session>;

#[cfg(test)]
mod tests;
