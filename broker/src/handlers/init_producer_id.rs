//! InitProducerId (22), versions 0-5: gives a producer its id and epoch (KIP-98, KIP-360).
//!
//! v2 flexible; v3 an id to keep; v4 PRODUCER_FENCED; v5 TRANSACTION_ABORTABLE. v6 is unstable in
//! every release and not served.
//!
//! Without a transactional id any node answers: a fresh id from this node's block, epoch 0.
//! Deliberately absent: transactions. A request with a transactional id is authorized first and
//! then answered INVALID_TRANSACTION_TIMEOUT: the response has no text, and of the codes that this
//! API may answer it is one that every client takes as final (librdkafka retries for ever on those
//! it does not know, UNSUPPORTED_VERSION among them) and that cannot be mistaken for a denial.

use palisade_auth::grant::{TransactionalId, Write};
use palisade_auth::{Access, Granted};
use palisade_protocol::ErrorCode;
use palisade_protocol::messages::init_producer_id::{
    InitProducerIdRequest, InitProducerIdResponse,
};
use palisade_protocol::types::ProducerId;
use tracing::debug;

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::handlers::denied;
use crate::producer_ids::{BlockSource, NodeBlocks, ProducerIds};

/// First version that may send an id to keep.
const KEEPS_ID: i16 = 3;

/// Gives out one producer id.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: InitProducerIdRequest,
) -> Handled<InitProducerIdResponse> {
    let access = ctx.access();
    let blocks = NodeBlocks {
        controller: &ctx.broker.controller,
        node: ctx.broker.node_id,
    };
    let ids = &ctx.broker.producer_ids;
    Handled::Now(init(&access, ids, &blocks, &request, ctx.api_version).await)
}

/// Answers one request.
pub(crate) async fn init(
    access: &Access,
    ids: &ProducerIds,
    source: &impl BlockSource,
    request: &InitProducerIdRequest,
    version: i16,
) -> InitProducerIdResponse {
    match decide(access, ids, source, request, version).await {
        Ok(id) => InitProducerIdResponse {
            producer_id: id.value(),
            producer_epoch: 0,
            ..InitProducerIdResponse::default()
        },
        Err(code) => InitProducerIdResponse {
            error_code: code,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        },
    }
}

async fn decide(
    access: &Access,
    ids: &ProducerIds,
    source: &impl BlockSource,
    request: &InitProducerIdRequest,
    version: i16,
) -> Result<ProducerId, ErrorCode> {
    if let Some(transactional_id) = request.transactional_id.as_deref() {
        let grant = access
            .transactional_id::<Write>(transactional_id)
            .map_err(|refused| {
                denied::code(&refused, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
            })?;
        return Err(refuse_transactional(&grant, request, version));
    }
    access
        .idempotent_write()
        .map_err(|refused| denied::code(&refused, ErrorCode::CLUSTER_AUTHORIZATION_FAILED))?;
    check_pair(request, version)?;
    ids.next(source)
        .await
        // Clients come again on it, without looking for another coordinator.
        .ok_or(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
}

/// What a permitted transactional producer is told (see the head of this file).
fn refuse_transactional(
    grant: &Granted<TransactionalId, Write>,
    request: &InitProducerIdRequest,
    version: i16,
) -> ErrorCode {
    if grant.name().is_empty() {
        return ErrorCode::INVALID_REQUEST;
    }
    if let Err(code) = check_pair(request, version) {
        return code;
    }
    debug!("transactional producer refused, transactions are not supported yet");
    ErrorCode::INVALID_TRANSACTION_TIMEOUT
}

/// Id and epoch come together or not at all.
fn check_pair(request: &InitProducerIdRequest, version: i16) -> Result<(), ErrorCode> {
    let whole = (request.producer_id < 0) == (request.producer_epoch < 0);
    if version >= KEEPS_ID && !whole {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
