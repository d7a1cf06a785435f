//! A broker joins, is let in, and leaves (KIP-631; replication.md §9).
//!
//! A registration starts fenced: what the broker led has no leader until [`SetBrokerFenced`] lets
//! it in, and the leader epoch tells both moments apart from before. A broker asks to be let in
//! once it has applied its own registration, so that it never serves stale metadata.

use palisade_auth::grant::ClusterAction;
use palisade_protocol::ErrorCode;
use palisade_protocol::types::{BrokerId, Uuid};

use super::elections::{broker_fenced, broker_unfenced};
use super::row::RowError;
use super::{Context, ControllerError, ControllerRequest, Decision};
use crate::metadata::record::{BrokerEndpoint, BrokerRegistration, MetadataRecord};

/// A broker announces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterBroker {
    /// The cluster it believes to be in.
    pub cluster_id: String,
    /// Node id.
    pub broker_id: BrokerId,
    /// New at each start of the process.
    pub incarnation: Uuid,
    /// Where clients reach it.
    pub endpoints: Vec<BrokerEndpoint>,
    /// Rack, where one is set.
    pub rack: Option<String>,
}

/// A registered broker is to be fenced, or let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBrokerFenced {
    /// Node id.
    pub broker_id: BrokerId,
    /// Its registration.
    pub broker_epoch: i64,
    /// Whether it may neither lead nor be in sync.
    pub fenced: bool,
}

impl ControllerRequest for RegisterBroker {
    /// The broker epoch of the new registration.
    type Response = Result<i64, ErrorCode>;

    fn decide(&self, _version: i16, context: &mut Context<'_>) -> Decision<Self::Response> {
        if let Err(code) = check(self, context) {
            return Decision::only(Err(code));
        }
        let epoch = context.next_offset.value();
        let mut records = vec![MetadataRecord::RegisterBroker(BrokerRegistration {
            id: self.broker_id,
            incarnation: self.incarnation,
            epoch,
            endpoints: self.endpoints.clone(),
            rack: self.rack.clone(),
            fenced: true,
        })];
        records.extend(broker_fenced(context.image, self.broker_id));
        Decision {
            records,
            response: Ok(epoch),
            changes: Vec::new(),
        }
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> Self::Response {
        Err(error.code())
    }
}

fn check(request: &RegisterBroker, context: &Context<'_>) -> Result<(), ErrorCode> {
    context
        .rights
        .ask(|access| access.cluster::<ClusterAction>())
        .map_err(|denied| RowError::from(denied).code)?;
    if request.cluster_id != *context.image.cluster_id {
        return Err(ErrorCode::INCONSISTENT_CLUSTER_ID);
    }
    let mut names: Vec<&str> = request
        .endpoints
        .iter()
        .map(|endpoint| endpoint.listener.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    if request.broker_id.value() < 0
        || request.incarnation == Uuid::NIL
        || names.is_empty()
        || names.len() != request.endpoints.len()
    {
        return Err(ErrorCode::INVALID_REGISTRATION);
    }
    // With one node, an older incarnation is a process that has ended: the log directory's lock
    // is proof. Sessions that tell a live one apart come with links between nodes.
    Ok(())
}

impl ControllerRequest for SetBrokerFenced {
    type Response = Result<(), ErrorCode>;

    fn decide(&self, _version: i16, context: &mut Context<'_>) -> Decision<Self::Response> {
        match records_of(self, context) {
            Ok(records) => Decision {
                records,
                response: Ok(()),
                changes: Vec::new(),
            },
            Err(code) => Decision::only(Err(code)),
        }
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> Self::Response {
        Err(error.code())
    }
}

/// The asking broker, which may act in the cluster and has not registered anew since.
pub(super) fn registered<'a>(
    context: &Context<'a>,
    id: BrokerId,
    epoch: i64,
) -> Result<&'a BrokerRegistration, ErrorCode> {
    context
        .rights
        .ask(|access| access.cluster::<ClusterAction>())
        .map_err(|denied| RowError::from(denied).code)?;
    let broker = context
        .image
        .brokers
        .get(id)
        .ok_or(ErrorCode::BROKER_ID_NOT_REGISTERED)?;
    if broker.epoch != epoch {
        return Err(ErrorCode::STALE_BROKER_EPOCH);
    }
    Ok(broker)
}

fn records_of(
    request: &SetBrokerFenced,
    context: &Context<'_>,
) -> Result<Vec<MetadataRecord>, ErrorCode> {
    let broker = registered(context, request.broker_id, request.broker_epoch)?;
    if broker.fenced == request.fenced {
        return Ok(Vec::new());
    }
    let mut records = vec![MetadataRecord::FenceBroker {
        id: request.broker_id,
        epoch: request.broker_epoch,
        fenced: request.fenced,
    }];
    records.extend(if request.fenced {
        broker_fenced(context.image, request.broker_id)
    } else {
        broker_unfenced(context.image, request.broker_id)
    });
    Ok(records)
}

#[cfg(test)]
mod tests;
