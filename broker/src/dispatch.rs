//! One table from API key to handler, and the steps around every handler: decode, handle, encode.
//!
//! A handler is `async fn handle(ctx: &RequestContext, request: XRequest) -> Handled<XResponse>` in
//! `handlers/<api>.rs`. Awaiting it is its ordered first stage: the connection reads no further
//! request before that is over. What may wait longer is returned as [`Handled::Later`].

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use palisade_protocol::header::RequestHeader;
use palisade_protocol::{ApiKey, Chunk, DecodeError, Message, Reader, Request, api, frame};

use crate::context::RequestContext;
use crate::handlers::{self, api_versions};
use crate::logging::Throttle;
use crate::task::panic_text;

/// What a handler answers.
pub enum Handled<T> {
    /// The response.
    Now(T),
    /// The response once its time comes; later requests of the connection go on meanwhile.
    ///
    /// The future is polled when it was woken, and dropped when the connection closes. It should
    /// hold no slice of the request: a parked request holds no request bytes.
    Later(Pin<Box<dyn Future<Output = T> + Send>>),
    /// The same for answers that may be large: it is not begun before its peer reads the answers in
    /// front of it, or fewer than a line may hold of them. What is asked for it (the group) is
    /// asked by the future: until its first poll it must hold nothing large, and no place in any
    /// line. Only for what changes nothing: it may never be begun.
    Patient(Pin<Box<dyn Future<Output = T> + Send>>),
    /// Nothing, as Produce with acks=0 asks for.
    NoResponse,
    /// Close the connection, after earlier answers: only where the protocol has no other word.
    Close,
}

/// What becomes of a request in the end.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A whole response frame.
    Response(Vec<Chunk>),
    /// No bytes.
    NoResponse,
    /// The connection ends here.
    Close(CloseReason),
}

/// Why a request closes its connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloseReason {
    /// The header does not parse.
    #[error("malformed request header: {0}")]
    Header(DecodeError),
    /// The API key is not one this broker serves.
    #[error("unknown API key {0}")]
    UnknownKey(i16),
    /// The API is known and has no handler.
    #[error("{0:?} is not built")]
    NoHandler(ApiKey),
    /// The version is outside the served range.
    #[error("{key:?} version {version} is not served")]
    Version {
        /// The API.
        key: ApiKey,
        /// The version asked for.
        version: i16,
    },
    /// The body does not parse.
    #[error("malformed {key:?} request: {error}")]
    Body {
        /// The API.
        key: ApiKey,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The handler asked for it.
    #[error("{0:?} has no other way to report its failure")]
    Handler(ApiKey),
    /// The response cannot be written at this version: a defect of ours.
    #[error("{0:?} response does not encode")]
    Encode(ApiKey),
    /// The handler panicked: a defect of ours.
    #[error("{0:?} handler panicked")]
    Panicked(ApiKey),
}

/// What the ordered stage of a request came to.
pub(crate) enum Staged {
    /// The request is done.
    Done(Outcome),
    /// The answer is still to come.
    Pending(Pending),
    /// The same, and it is not begun before its time comes.
    Patient(Pending),
}

/// A future of the connection whose panic ends only this connection.
pub(crate) struct Guarded<T> {
    key: ApiKey,
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    on_panic: fn(CloseReason) -> T,
}

/// The ordered stage of a request in work.
pub(crate) type Stage = Guarded<Staged>;
/// An answer that is still to come.
pub(crate) type Pending = Guarded<Outcome>;

impl<T> Guarded<T> {
    pub(crate) fn new(
        key: ApiKey,
        future: impl Future<Output = T> + Send + 'static,
        on_panic: fn(CloseReason) -> T,
    ) -> Self {
        Guarded {
            key,
            future: Box::pin(future),
            on_panic,
        }
    }
}

impl<T> Future for Guarded<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // The future is never polled again after a panic, so nobody sees its broken state; shared
        // state is guarded by its owners.
        match catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                // Whoever found the request that does it can send it again and again.
                static SAID: Throttle = Throttle::new();
                if SAID.may_speak() {
                    tracing::error!(
                        api = self.key.name(),
                        error = panic_text(&*panic),
                        "handler panicked"
                    );
                }
                Poll::Ready((self.on_panic)(CloseReason::Panicked(self.key)))
            }
        }
    }
}

/// One row of the table.
struct Row {
    key: ApiKey,
    begin: fn(RequestContext, Reader) -> Stage,
}

macro_rules! rows {
    ($($module:ident: $request:ident),* ; controlled: $($by:ident: $change:ident),* $(,)?) => {
        /// Every API this broker serves after login.
        const ROWS: &[Row] = &[
            $(row!($module, $request, handlers::$module::handle),)*
            $(row!($by, $change, handlers::controlled::handle),)*
        ];
    };
}

macro_rules! row {
    ($module:ident, $request:ident, $handle:path) => {
        Row {
            key: <palisade_protocol::messages::$module::$request as Request>::KEY,
            begin: |ctx, reader| {
                type R = palisade_protocol::messages::$module::$request;
                let key = <R as Request>::KEY;
                let run = async move {
                    let (decoding, user) = (&ctx.broker.decoding, &ctx.session.principal);
                    let decoded = decoding.decode::<R>(user, reader, ctx.api_version).await;
                    let (request, _held) = match decoded {
                        Ok(decoded) => decoded,
                        Err(error) => {
                            return Staged::Done(Outcome::Close(CloseReason::Body { key, error }));
                        }
                    };
                    let handled = $handle(&ctx, request).await;
                    stage_answer::<R>(&ctx, handled)
                };
                Guarded::new(key, run, |reason| Staged::Done(Outcome::Close(reason)))
            },
        }
    };
}

// After `controlled` stand the APIs whose handler is the controller.
rows! {
    api_versions: ApiVersionsRequest,
    consumer_group_describe: ConsumerGroupDescribeRequest,
    consumer_group_heartbeat: ConsumerGroupHeartbeatRequest,
    delete_groups: DeleteGroupsRequest,
    delete_records: DeleteRecordsRequest,
    describe_acls: DescribeAclsRequest,
    describe_cluster: DescribeClusterRequest,
    describe_configs: DescribeConfigsRequest,
    describe_groups: DescribeGroupsRequest,
    describe_topic_partitions: DescribeTopicPartitionsRequest,
    describe_user_scram_credentials: DescribeUserScramCredentialsRequest,
    fetch: FetchRequest,
    find_coordinator: FindCoordinatorRequest,
    heartbeat: HeartbeatRequest,
    init_producer_id: InitProducerIdRequest,
    join_group: JoinGroupRequest,
    leave_group: LeaveGroupRequest,
    list_groups: ListGroupsRequest,
    list_offsets: ListOffsetsRequest,
    metadata: MetadataRequest,
    offset_commit: OffsetCommitRequest,
    offset_delete: OffsetDeleteRequest,
    offset_fetch: OffsetFetchRequest,
    offset_for_leader_epoch: OffsetForLeaderEpochRequest,
    produce: ProduceRequest,
    sasl_authenticate: SaslAuthenticateRequest,
    sasl_handshake: SaslHandshakeRequest,
    sync_group: SyncGroupRequest;
    controlled:
    alter_configs: AlterConfigsRequest,
    alter_user_scram_credentials: AlterUserScramCredentialsRequest,
    create_acls: CreateAclsRequest,
    create_partitions: CreatePartitionsRequest,
    create_topics: CreateTopicsRequest,
    delete_acls: DeleteAclsRequest,
    delete_topics: DeleteTopicsRequest,
    incremental_alter_configs: IncrementalAlterConfigsRequest,
}

/// Parses the header of a request and judges its key and version; the reader stands at the body.
///
/// # Errors
/// What becomes of a request that is not served.
pub(crate) fn admit(frame: Bytes) -> Result<(ApiKey, RequestHeader, Reader), Outcome> {
    let mut body = Reader::new(frame);
    let header = RequestHeader::decode(&mut body)
        .map_err(|error| Outcome::Close(CloseReason::Header(error)))?;
    let unknown = || Outcome::Close(CloseReason::UnknownKey(header.api_key));
    let key = ApiKey::from_i16(header.api_key).ok_or_else(unknown)?;
    let spec = api::spec(key).ok_or_else(unknown)?;
    if spec.serves(header.api_version) {
        return Ok((key, header, body));
    }
    Err(if key == ApiKey::ApiVersions {
        api_versions::unsupported_version(header.correlation_id)
    } else {
        Outcome::Close(CloseReason::Version {
            key,
            version: header.api_version,
        })
    })
}

/// Starts the ordered stage of an admitted request.
///
/// # Errors
/// Closes when there is no handler.
pub(crate) fn begin(ctx: RequestContext, body: Reader) -> Result<Stage, Outcome> {
    let row = ROWS.iter().find(|row| row.key == ctx.api_key);
    let row = row.ok_or(Outcome::Close(CloseReason::NoHandler(ctx.api_key)))?;
    Ok((row.begin)(ctx, body))
}

fn stage_answer<R: Request>(ctx: &RequestContext, handled: Handled<R::Response>) -> Staged
where
    R::Response: Send + 'static,
{
    let wire = Wire::of(ctx);
    match handled {
        Handled::Now(response) => Staged::Done(wire.encode(&response)),
        Handled::Later(future) => Staged::Pending(wire.pending(future)),
        Handled::Patient(future) => Staged::Patient(wire.pending(future)),
        Handled::NoResponse => Staged::Done(Outcome::NoResponse),
        Handled::Close => Staged::Done(Outcome::Close(CloseReason::Handler(wire.key))),
    }
}

/// What of a request its response's encoding depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    /// The API.
    pub(crate) key: ApiKey,
    /// The request's version.
    pub(crate) version: i16,
    /// The request's correlation id.
    pub(crate) correlation_id: i32,
}

impl Wire {
    fn of(ctx: &RequestContext) -> Self {
        Wire {
            key: ctx.api_key,
            version: ctx.api_version,
            correlation_id: ctx.correlation_id,
        }
    }

    fn pending<M: Message + Send + 'static>(
        self,
        future: Pin<Box<dyn Future<Output = M> + Send>>,
    ) -> Pending {
        let answer = async move { self.encode(&future.await) };
        Guarded::new(self.key, answer, Outcome::Close)
    }

    /// Encodes `response` as a frame that answers the request.
    pub(crate) fn encode<M: Message>(self, response: &M) -> Outcome {
        let Wire {
            key,
            version,
            correlation_id,
        } = self;
        match frame::encode_response(BytesMut::new(), key, version, correlation_id, response) {
            Ok(chunks) => Outcome::Response(chunks),
            Err(error) => {
                static SAID: Throttle = Throttle::new();
                if SAID.may_speak() {
                    tracing::error!(api = key.name(), version, %error, "response does not encode");
                }
                Outcome::Close(CloseReason::Encode(key))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_api_has_a_row() {
        let missing: Vec<_> = api::SERVED
            .iter()
            .filter(|spec| !ROWS.iter().any(|row| row.key == spec.key))
            .map(|spec| spec.key)
            .collect();
        assert_eq!(
            missing,
            [],
            "advertised by the protocol crate, but without a handler"
        );
    }

    #[test]
    fn every_row_is_served_once() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!(api::spec(row.key).is_some(), "{:?} is not served", row.key);
            assert!(
                !ROWS[..at].iter().any(|other| other.key == row.key),
                "{:?} twice",
                row.key
            );
        }
    }
}
