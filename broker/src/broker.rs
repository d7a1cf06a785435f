//! One running broker as its handlers see it: the parts, and nothing of how they were started.

use std::sync::Arc;

use palisade_auth::Authorizer;
use palisade_auth::audit::{AuditEvent, AuditSink};
use palisade_protocol::header::RequestHeader;
use palisade_protocol::types::BrokerId;
use palisade_protocol::{ApiKey, Reader};

use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::context::RequestContext;
use crate::decoding::Decoding;
use crate::dispatch::{self, Outcome, Stage};
use crate::fetch_session::FetchSessions;
use crate::group::GroupCoordinator;
use crate::metadata::{Controller, MetadataHandle};
use crate::partition::ReplicaManager;
use crate::producer_ids::ProducerIds;
use crate::server::{Hold, Service, Session};
use crate::startup::AuditLog;
use crate::task::BoxFuture;

/// The parts of a running broker.
pub struct Broker {
    /// The configuration it was started with.
    pub config: Arc<Config>,
    /// This node.
    pub node_id: BrokerId,
    /// How to read what the cluster agrees on.
    pub metadata: MetadataHandle,
    /// How to change it.
    pub controller: Controller,
    /// The partitions this node hosts.
    pub topics: Arc<ReplicaManager>,
    /// What clients' incremental fetches remember.
    pub fetch_sessions: Arc<FetchSessions>,
    /// Consumer groups of this node.
    pub(crate) groups: Arc<GroupCoordinator>,
    /// Ids for idempotent producers.
    pub producer_ids: Arc<ProducerIds>,
    /// Who may do what.
    pub authorizer: Authorizer,
    /// Where security-relevant events go; `None` only when the operator switched it off.
    pub audit: Option<Arc<dyn AuditSink>>,
    /// The same log, for what must be durable first: logins and changes.
    pub(crate) audit_log: Option<Arc<AuditLog>>,
    /// The memory that requests are decoded into.
    pub(crate) decoding: Decoding,
    /// The wall clock.
    pub clock: Clock,
}

impl Broker {
    /// The cluster's id, the same as Metadata says.
    pub fn cluster_id(&self) -> Arc<str> {
        Arc::clone(&self.metadata.image().cluster_id)
    }
}

impl Service for Broker {
    fn limits(&self) -> &Limits {
        &self.config.limits
    }

    fn audit(&self) -> Option<&Arc<dyn AuditSink>> {
        self.audit.as_ref()
    }

    fn record_login(&self, event: AuditEvent) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            match &self.audit_log {
                Some(log) => log.record_login(event).await,
                None => true,
            }
        })
    }

    fn audit_hold(&self) -> Hold {
        match &self.audit_log {
            Some(log) => log.hold(),
            None => Hold::nothing(),
        }
    }

    fn identity(&self) -> (Arc<str>, BrokerId) {
        (self.cluster_id(), self.node_id)
    }

    fn begin(
        self: Arc<Self>,
        session: Arc<Session>,
        key: ApiKey,
        header: RequestHeader,
        body: Reader,
    ) -> Result<Stage, Outcome> {
        let ctx = RequestContext {
            image: self.metadata.image(),
            broker: self,
            session,
            api_key: key,
            api_version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: header.client_id,
        };
        dispatch::begin(ctx, body)
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broker({})", self.node_id.value())
    }
}
