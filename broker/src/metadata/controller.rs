//! Decides what becomes metadata.
//!
//! Everyone calls [`Controller::submit`]. The request is judged on the raft thread: authorized,
//! validated and turned into records against the *proposed* image (committed, and the own tail
//! that is not yet), so that of two requests that cannot both win, one loses. The answer leaves
//! once its records are applied on this node; an answer without records waits for the records it
//! was judged by.

mod alter_configs;
mod alter_scram;
mod config_changes;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_topics;
mod descriptors;
mod elections;
mod incremental_alter_configs;
mod placement;
mod producer_ids;
mod register_broker;
mod row;
#[cfg(test)]
pub(super) mod testing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use palisade_auth::Authorizer;
use palisade_auth::audit::{Action, Change};
use palisade_protocol::types::{BrokerId, Offset};
use palisade_protocol::{ErrorCode, Uuid};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::actor::{Actor, Rights};
use super::handle::MetadataHandle;
use super::image::ClusterImage;
use super::intents::{AuditTrail, Intents, Plan};
use super::machine::{Decided, Job, Pending, Submission};
use super::record::MetadataRecord;
use crate::config::TopicDefaults;
use crate::metadata::group_config::GroupDefaults;
use crate::raft::node::Refused;
use crate::raft::{RaftNode, RaftStatus};

pub use descriptors::Descriptors;
pub use producer_ids::{AllocateProducerIds, ProducerIdBlock};
pub use register_broker::{RegisterBroker, SetBrokerFenced};

/// Records that one request of a client may lead to; a bound on how long the others wait for it.
pub const MAX_RECORDS: usize = 30_000;

/// Bytes of records that one request of a client may lead to.
pub const MAX_BATCH_BYTES: usize = 8 << 20;

/// Items that one request may have: each costs a decision while all others wait.
pub const MAX_ROWS: usize = 10_000;

/// How often changes are announced before a request is given up because others change, meanwhile,
/// what follows from it.
const ANNOUNCEMENTS: usize = 4;

/// Longest wait for an answer where the request does not say one.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings that decisions depend on.
pub struct ControllerSettings {
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// What new partitions may take of the process's file descriptors.
    pub descriptors: Descriptors,
    /// What a topic is like whose own settings are silent.
    pub topic_defaults: TopicDefaults,
    /// The same of a group, and what it may be set to.
    pub group_defaults: GroupDefaults,
    /// Judges every request of a client.
    pub authorizer: Authorizer,
    /// Where denials are recorded, and changes before they happen and after.
    pub(crate) audit: Option<Arc<dyn AuditTrail>>,
}

impl fmt::Debug for ControllerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerSettings")
            .field("num_partitions", &self.num_partitions)
            .field(
                "default_replication_factor",
                &self.default_replication_factor,
            )
            .field("delete_topic_enable", &self.delete_topic_enable)
            .finish_non_exhaustive()
    }
}

/// Why a request has no answer of its own.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ControllerError {
    /// Another node leads the metadata group.
    #[error("this node does not lead the metadata group")]
    NotLeader {
        /// Who does, as far as known.
        leader: Option<BrokerId>,
    },
    /// Leadership moved before the records were committed; whether they are is unknown.
    #[error("leadership moved before the change was committed")]
    LeadershipLost,
    /// The change was not applied in time; it may still be.
    #[error("the change was not applied in time")]
    TimedOut,
    /// Too many requests wait already.
    #[error("too many metadata requests are waiting")]
    Busy,
    /// The request asks for more than one batch may hold.
    #[error(
        "the request leads to {records} records of {bytes} bytes; {MAX_RECORDS} and {MAX_BATCH_BYTES} are allowed"
    )]
    TooLarge {
        /// Records it leads to.
        records: usize,
        /// Bytes of them.
        bytes: usize,
    },
    /// The request has more items than one may have.
    #[error("the request has {rows} items; {MAX_ROWS} are allowed")]
    TooManyRows {
        /// Items it has.
        rows: usize,
    },
    /// The change could not be announced in the audit log, so it was not made.
    #[error("the audit log cannot be written; nothing was changed")]
    AuditUnavailable,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
    /// The decision does not fit the image: a fault of this release, and nothing was changed.
    #[error("the decision does not fit the metadata")]
    Inconsistent,
}

impl ControllerError {
    /// The code that clients see.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            ControllerError::NotLeader { .. }
            | ControllerError::LeadershipLost
            | ControllerError::Stopped => ErrorCode::NOT_CONTROLLER,
            ControllerError::TimedOut | ControllerError::Busy => ErrorCode::REQUEST_TIMED_OUT,
            ControllerError::TooLarge { .. } | ControllerError::TooManyRows { .. } => {
                ErrorCode::POLICY_VIOLATION
            }
            ControllerError::AuditUnavailable => ErrorCode::KAFKA_STORAGE_ERROR,
            ControllerError::Inconsistent => ErrorCode::UNKNOWN_SERVER_ERROR,
        }
    }
}

/// A request that the controller decides.
pub trait ControllerRequest: Send + Sync + 'static {
    /// The answer.
    type Response: Send + 'static;

    /// Authorizes, validates, and says which records follow.
    fn decide(&self, version: i16, context: &mut Context<'_>) -> Decision<Self::Response>;

    /// The answer when there is no decision: every row with the error's code.
    fn refused(&self, version: i16, error: &ControllerError) -> Self::Response;

    /// How many items the request has.
    fn rows(&self) -> usize {
        1
    }

    /// How long the caller waits, in milliseconds, where the request says so.
    fn timeout_ms(&self) -> Option<i32> {
        None
    }
}

/// What a request is decided by.
pub struct Context<'a> {
    /// The proposed image: committed, and the own tail.
    pub image: &'a ClusterImage,
    /// The committed one, while that is behind: what the node has opened the logs of.
    pub committed: Option<&'a ClusterImage>,
    /// What the actor may do.
    pub rights: &'a Rights,
    /// Settings of the node.
    pub settings: &'a ControllerSettings,
    /// The offset that the decision's records will have.
    pub next_offset: Offset,
    /// Fills bytes with chance.
    pub random: &'a mut dyn FnMut(&mut [u8]),
}

impl Context<'_> {
    /// A random number below `bound`, which is not 0; slightly uneven, which placement may be.
    pub fn random_below(&mut self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        (self.random)(&mut bytes);
        let bound = u64::try_from(bound).expect("usize fits u64");
        usize::try_from(u64::from_be_bytes(bytes) % bound).expect("below a usize")
    }

    /// A random topic id (version 4), never nil, reserved or in use.
    pub fn random_id(&mut self) -> Uuid {
        loop {
            let mut bytes = [0; 16];
            (self.random)(&mut bytes);
            bytes[6] = (bytes[6] & 0x0f) | 0x40;
            bytes[8] = (bytes[8] & 0x3f) | 0x80;
            let id = Uuid::from_bytes(bytes);
            // An id that begins with '-' reads as an option on the command lines of Kafka's tools.
            if self.image.topics.by_id(id).is_none() && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }
}

/// What follows from a request.
#[derive(Debug)]
pub struct Decision<R> {
    /// Records to propose as one batch; none where nothing changes.
    pub records: Vec<MetadataRecord>,
    /// The answer, once the records are applied.
    pub response: R,
    /// What the audit log says once the records are applied.
    pub changes: Vec<(Action, Change)>,
}

impl<R> Decision<R> {
    /// A decision that changes nothing.
    pub fn only(response: R) -> Decision<R> {
        Decision {
            records: Vec::new(),
            response,
            changes: Vec::new(),
        }
    }

    /// The same decision with an answer made of this one.
    fn map<S>(self, answer: impl FnOnce(R) -> S) -> Decision<S> {
        Decision {
            records: self.records,
            response: answer(self.response),
            changes: self.changes,
        }
    }
}

/// Takes requests that change metadata; cheap to clone.
#[derive(Clone)]
pub struct Controller {
    node: Arc<RaftNode<Submission>>,
    metadata: MetadataHandle,
    audit: Option<Arc<dyn AuditTrail>>,
}

impl Controller {
    pub(super) fn new(
        node: Arc<RaftNode<Submission>>,
        metadata: MetadataHandle,
        audit: Option<Arc<dyn AuditTrail>>,
    ) -> Controller {
        Controller {
            node,
            metadata,
            audit,
        }
    }

    /// Decides a request and answers once it is applied on this node.
    ///
    /// # Errors
    /// `ControllerError`; after `LeadershipLost`, `TimedOut` and `Stopped` the change may or may
    /// not happen.
    pub async fn submit<R: ControllerRequest>(
        &self,
        request: R,
        version: i16,
        actor: Actor,
    ) -> Result<R::Response, ControllerError> {
        self.submit_shared(Arc::new(request), version, actor).await
    }

    /// As [`Self::submit`], but what has no decision gets the error's code in every row.
    pub async fn answer<R: ControllerRequest>(
        &self,
        request: R,
        version: i16,
        actor: Actor,
    ) -> R::Response {
        let request = Arc::new(request);
        match self
            .submit_shared(Arc::clone(&request), version, actor)
            .await
        {
            Ok(response) => response,
            Err(error) => request.refused(version, &error),
        }
    }

    async fn submit_shared<R: ControllerRequest>(
        &self,
        request: Arc<R>,
        version: i16,
        actor: Actor,
    ) -> Result<R::Response, ControllerError> {
        let timeout = match request.timeout_ms() {
            None => DEFAULT_TIMEOUT,
            Some(ms) => match u64::try_from(ms) {
                Ok(ms) if ms > 0 => Duration::from_millis(ms),
                // No time at all: nothing may be created that nobody waits for (apis.md §7).
                _ => return Err(ControllerError::TimedOut),
            },
        };
        let rows = request.rows();
        if rows > MAX_ROWS {
            return Err(ControllerError::TooManyRows { rows });
        }
        let deadline = Instant::now() + timeout;
        let mut intents = None;
        for announced in 0..=ANNOUNCEMENTS {
            let (submission, answer) =
                submission(Arc::clone(&request), version, actor.clone(), intents.take());
            self.node
                .request(submission)
                .map_err(|refused| match refused {
                    Refused::Full => ControllerError::Busy,
                    Refused::Stopped => ControllerError::Stopped,
                })?;
            let verdict = match timeout_at(deadline, answer).await {
                Ok(Ok(result)) => result?,
                Ok(Err(_)) => return Err(ControllerError::Stopped),
                Err(_) => return Err(ControllerError::TimedOut),
            };
            match verdict {
                Verdict::Answer(response) => return Ok(response),
                // Nothing is announced that would not be decided once more.
                Verdict::Announce(_) if announced == ANNOUNCEMENTS => break,
                Verdict::Announce(plan) => intents = Some(self.announce(&actor, plan).await?),
            }
        }
        Err(ControllerError::Busy)
    }

    async fn announce(&self, actor: &Actor, plan: Plan) -> Result<Intents, ControllerError> {
        let (Some(audit), Actor::Client { audit: context, .. }) = (&self.audit, actor) else {
            // Only clients' changes, and only where there is a log, are announced.
            return Err(ControllerError::Inconsistent);
        };
        Intents::announce(Arc::clone(audit), context.clone(), plan)
            .await
            .ok_or(ControllerError::AuditUnavailable)
    }

    /// The metadata that the decisions lead to.
    #[must_use]
    pub fn metadata(&self) -> &MetadataHandle {
        &self.metadata
    }

    /// Where the metadata group stands, for DescribeQuorum and the like.
    #[must_use]
    pub fn quorum(&self) -> RaftStatus {
        self.node.status()
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<T> {
    /// It is over.
    Answer(T),
    /// It may go on once these changes are announced; nothing was done.
    Announce(Plan),
}

/// What the answer to a request comes through.
pub(super) type Reply<R> = Result<Verdict<<R as ControllerRequest>::Response>, ControllerError>;

/// Wraps a request for the raft thread, and makes where its answer arrives.
pub(super) fn submission<R: ControllerRequest>(
    request: Arc<R>,
    version: i16,
    actor: Actor,
    intents: Option<Intents>,
) -> (Submission, oneshot::Receiver<Reply<R>>) {
    let (reply, answer) = oneshot::channel();
    let job = Submitted {
        request,
        version,
        reply,
    };
    (Submission::new(Box::new(job), actor, intents), answer)
}

/// A request on its way to the raft thread.
struct Submitted<R: ControllerRequest> {
    request: Arc<R>,
    version: i16,
    reply: oneshot::Sender<Reply<R>>,
}

/// An answer that waits for its records.
struct Answer<T> {
    response: T,
    reply: oneshot::Sender<Result<Verdict<T>, ControllerError>>,
}

impl<R: ControllerRequest> Job for Submitted<R> {
    fn decide(self: Box<Self>, context: &mut Context<'_>) -> Decided {
        let decision = self.request.decide(self.version, context);
        Decided {
            records: decision.records,
            changes: decision.changes,
            pending: Box::new(Answer {
                response: decision.response,
                reply: self.reply,
            }),
        }
    }

    fn fail(self: Box<Self>, error: ControllerError) {
        // The caller may have stopped waiting; then nobody is left to tell.
        let _ = self.reply.send(Err(error));
    }
}

impl<T: Send + 'static> Pending for Answer<T> {
    fn complete(self: Box<Self>, result: Result<(), ControllerError>) {
        let response = self.response;
        let _ = self.reply.send(result.map(|()| Verdict::Answer(response)));
    }

    fn announce(self: Box<Self>, plan: Plan) {
        let _ = self.reply.send(Ok(Verdict::Announce(plan)));
    }
}
