//! Blocks of producer ids (KIP-730): the next block is on record before one of it is used, so no
//! id is ever handed out twice.

use palisade_protocol::ErrorCode;
use palisade_protocol::types::{BrokerId, ProducerId};

use super::register_broker::registered;
use super::{Context, ControllerError, ControllerRequest, Decision};
use crate::metadata::record::MetadataRecord;

/// Ids in a block.
const BLOCK: i64 = 1000;

/// A broker asks for a block of producer ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocateProducerIds {
    /// The broker.
    pub broker_id: BrokerId,
    /// Its registration.
    pub broker_epoch: i64,
}

/// Ids that are the broker's own from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// First id.
    pub first: ProducerId,
    /// How many.
    pub count: i64,
}

impl ControllerRequest for AllocateProducerIds {
    type Response = Result<ProducerIdBlock, ErrorCode>;

    fn decide(&self, _version: i16, context: &mut Context<'_>) -> Decision<Self::Response> {
        match allocate(self, context) {
            Err(code) => Decision::only(Err(code)),
            Ok((record, block)) => Decision {
                records: vec![record],
                response: Ok(block),
                changes: Vec::new(),
            },
        }
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> Self::Response {
        Err(error.code())
    }
}

fn allocate(
    request: &AllocateProducerIds,
    context: &Context<'_>,
) -> Result<(MetadataRecord, ProducerIdBlock), ErrorCode> {
    registered(context, request.broker_id, request.broker_epoch)?;
    let first = context.image.next_producer_id;
    let next = first
        .value()
        .checked_add(BLOCK)
        .ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
    let record = MetadataRecord::ProducerIds {
        broker_id: request.broker_id,
        broker_epoch: request.broker_epoch,
        next: ProducerId::new(next),
    };
    Ok((
        record,
        ProducerIdBlock {
            first,
            count: BLOCK,
        },
    ))
}
