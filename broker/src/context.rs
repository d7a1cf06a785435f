//! What a handler knows about the request it serves.

use std::sync::Arc;

use palisade_auth::Access;
use palisade_auth::audit::{AuditContext, RequestInfo};
use palisade_protocol::{ApiKey, Str};

use crate::broker::Broker;
use crate::metadata::{Actor, AuditTrail, ClusterImage};
use crate::server::Session;

/// One request's surroundings: who asks, over what, and the cluster as it was when it arrived.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The broker that serves the request.
    pub broker: Arc<Broker>,
    /// The connection it came over.
    pub session: Arc<Session>,
    /// The API.
    pub api_key: ApiKey,
    /// The request's version, within the served range.
    pub api_version: i16,
    /// The number that the response repeats.
    pub correlation_id: i32,
    /// The name the client gave itself.
    pub client_id: Option<Str>,
    /// The cluster when the request arrived; a handler asks this one image throughout.
    pub image: Arc<ClusterImage>,
}

impl RequestContext {
    /// The snapshot that answers every authorization question of this request.
    pub fn access(&self) -> Access {
        self.broker.authorizer.access(
            Arc::clone(self.image.acls.cache()),
            self.session.caller(),
            self.broker.audit.clone(),
            self.audit_context(),
        )
    }

    /// Where changes are announced, and on whose behalf; `None` only when there is no audit log.
    pub(crate) fn audit_trail(&self) -> Option<(Arc<dyn AuditTrail>, AuditContext)> {
        let log = self.broker.audit_log.clone()?;
        Some((log as Arc<dyn AuditTrail>, self.audit_context()))
    }

    /// On whose behalf the controller is asked to act.
    pub fn actor(&self) -> Actor {
        Actor::client(self.session.caller(), self.audit_context())
    }

    /// What the audit log says about this request.
    pub fn audit_context(&self) -> AuditContext {
        let request = RequestInfo {
            api: self.api_key.name(),
            key: self.api_key.value(),
            version: self.api_version,
            correlation: self.correlation_id,
            client_id: self.session.client_id(self.client_id.as_deref()),
            software: self.session.software(),
        };
        AuditContext {
            request: Some(request),
            log_allowed: is_admin(self.api_key),
            ..self.session.audit_context()
        }
    }
}

/// Whether permitted uses of an API are recorded too: those that change or reveal the cluster's
/// set-up, and none that every client calls all day (security.md §5.2).
fn is_admin(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::CreateTopics
            | ApiKey::DeleteTopics
            | ApiKey::DeleteRecords
            | ApiKey::CreatePartitions
            | ApiKey::CreateAcls
            | ApiKey::DeleteAcls
            | ApiKey::AlterConfigs
            | ApiKey::IncrementalAlterConfigs
            | ApiKey::AlterUserScramCredentials
            | ApiKey::DeleteGroups
            | ApiKey::OffsetDelete
    )
}
