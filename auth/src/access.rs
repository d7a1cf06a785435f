//! One request's view of the authorizer: its questions, its grants, its audit lines.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::acl::{AclBinding, AclCache, CLUSTER_NAME, Operation, ResourceType};
use crate::audit::{AuditContext, AuditEvent, AuditSink, AuthzRow};
use crate::authorizer::Authorizer;
use crate::decision::{Decision, Denied};
use crate::grant::{
    Alter, Cluster, ClusterAction, Create, Delete, Describe, Granted, Group, IdempotentWrite,
    OperationKind, ResourceKind, Topic, TransactionalId,
};
use crate::principal::Caller;

/// Rows of one audit line; a request that asks about more gets several lines.
const ROWS_PER_EVENT: usize = 64;

/// The bit field of KIP-430 when the client did not ask for it.
pub const OPERATIONS_NOT_REQUESTED: i32 = i32::MIN;

/// What counts as the same question: operation, type, name.
type Question = (Operation, ResourceType, Box<str>);

/// The snapshot against which one request is authorized, from its first check to its last.
///
/// A check denied by a method without `probe` in its name is a denial in the audit log. Lines
/// leave when the value is dropped, or at [`flush`](Self::flush).
pub struct Access {
    authorizer: Authorizer,
    acls: Arc<AclCache>,
    caller: Caller,
    audit: Option<Arc<dyn AuditSink>>,
    context: AuditContext,
    asked: Mutex<HashMap<Question, (Decision, u32)>>,
}

impl Authorizer {
    /// Takes the snapshot that answers every question of one request.
    ///
    /// Decisions worth a line go to `audit` when the returned value is dropped or flushed.
    pub fn access(
        &self,
        acls: Arc<AclCache>,
        mut caller: Caller,
        audit: Option<Arc<dyn AuditSink>>,
        context: AuditContext,
    ) -> Access {
        caller.host = caller.host.to_canonical();
        Access {
            authorizer: self.clone(),
            acls,
            caller,
            audit,
            context,
            asked: Mutex::default(),
        }
    }
}

impl Access {
    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Asks for `O` on a topic.
    ///
    /// # Errors
    /// `Denied`, also for names that do not exist: existence is never looked at.
    pub fn topic<O: OperationKind>(&self, name: &str) -> Result<Granted<Topic, O>, Denied> {
        self.ask(name)
    }

    /// Asks for `O` on a group.
    ///
    /// # Errors
    /// `Denied`.
    pub fn group<O: OperationKind>(&self, name: &str) -> Result<Granted<Group, O>, Denied> {
        self.ask(name)
    }

    /// Asks for `O` on the cluster.
    ///
    /// # Errors
    /// `Denied`.
    pub fn cluster<O: OperationKind>(&self) -> Result<Granted<Cluster, O>, Denied> {
        self.ask(CLUSTER_NAME)
    }

    /// Asks for `O` on a transactional id.
    ///
    /// # Errors
    /// `Denied`.
    pub fn transactional_id<O: OperationKind>(
        &self,
        name: &str,
    ) -> Result<Granted<TransactionalId, O>, Denied> {
        self.ask(name)
    }

    /// As [`topic`](Self::topic), but a denial is no denial in the audit log.
    pub fn probe_topic<O: OperationKind>(&self, name: &str) -> Option<Granted<Topic, O>> {
        self.probe(name)
    }

    /// As [`group`](Self::group), but a denial is no denial in the audit log.
    pub fn probe_group<O: OperationKind>(&self, name: &str) -> Option<Granted<Group, O>> {
        self.probe(name)
    }

    /// As [`cluster`](Self::cluster), but a denial is no denial in the audit log.
    pub fn probe_cluster<O: OperationKind>(&self) -> Option<Granted<Cluster, O>> {
        self.probe(CLUSTER_NAME)
    }

    /// CreateTopics and automatic creation: CREATE on the cluster, or else on the topic.
    ///
    /// # Errors
    /// `Denied` for CREATE on the topic.
    pub fn create_topic(&self, name: &str) -> Result<Granted<Topic, Create>, Denied> {
        match self.probe_cluster::<Create>() {
            Some(cluster) => Ok(Granted::new(name, cluster.decision().clone())),
            None => self.topic(name),
        }
    }

    /// DeleteTopics: DELETE on the cluster, or else DESCRIBE and then DELETE on the topic.
    ///
    /// # Errors
    /// `Denied` for DESCRIBE, when not even the topic's id may be told, or for DELETE.
    pub fn delete_topic(&self, name: &str) -> Result<Granted<Topic, Delete>, Denied> {
        if let Some(cluster) = self.probe_cluster::<Delete>() {
            return Ok(Granted::new(name, cluster.decision().clone()));
        }
        self.topic::<Describe>(name)?;
        self.topic(name)
    }

    /// InitProducerId without transactional id: IDEMPOTENT_WRITE on the cluster, or else WRITE
    /// on some topic (KIP-679). The audit log sees one denial, of the first.
    ///
    /// # Errors
    /// `Denied` for IDEMPOTENT_WRITE.
    pub fn idempotent_write(&self) -> Result<Granted<Cluster, IdempotentWrite>, Denied> {
        if let Some(cluster) = self.probe_cluster() {
            return Ok(cluster);
        }
        let some_topic = self.decide_any(Operation::Write, ResourceType::Topic);
        if some_topic.is_allowed() {
            return Ok(Granted::new(CLUSTER_NAME, some_topic));
        }
        self.cluster()
    }

    /// OffsetForLeaderEpoch: CLUSTER_ACTION, or else DESCRIBE on the topic.
    ///
    /// # Errors
    /// `Denied` for DESCRIBE.
    pub fn epoch_or_describe(&self, name: &str) -> Result<Granted<Topic, Describe>, Denied> {
        match self.probe_cluster::<ClusterAction>() {
            Some(cluster) => Ok(Granted::new(name, cluster.decision().clone())),
            None => self.topic(name),
        }
    }

    /// WriteTxnMarkers: ALTER on the cluster, or else CLUSTER_ACTION.
    ///
    /// # Errors
    /// `Denied` for CLUSTER_ACTION.
    pub fn write_txn_markers(&self) -> Result<Granted<Cluster, ClusterAction>, Denied> {
        match self.probe_cluster::<Alter>() {
            Some(cluster) => Ok(Granted::new(CLUSTER_NAME, cluster.decision().clone())),
            None => self.cluster(),
        }
    }

    /// One entry of ListGroups: DESCRIBE on the cluster shows all, else on the group itself.
    /// `None` leaves the group out, in silence.
    pub fn listed_group(&self, name: &str) -> Option<Granted<Group, Describe>> {
        match self.probe_cluster::<Describe>() {
            Some(cluster) => Some(Granted::new(name, cluster.decision().clone())),
            None => self.probe_group(name),
        }
    }

    /// The operations the caller may perform, one bit `1 << code` each (KIP-430).
    ///
    /// Nothing of it is logged. For CLUSTER ask [`cluster_operations`](Self::cluster_operations).
    pub fn authorized_operations(&self, resource_type: ResourceType, name: &str) -> i32 {
        resource_type
            .operations()
            .iter()
            .filter(|op| self.decide(**op, resource_type, name).is_allowed())
            .fold(0, |bits, op| bits | 1 << op.code())
    }

    /// The bit field of the cluster: 0 when DESCRIBE is denied, and that denial is logged.
    pub fn cluster_operations(&self) -> i32 {
        match self.cluster::<Describe>() {
            Ok(_) => self.authorized_operations(ResourceType::Cluster, CLUSTER_NAME),
            Err(_) => 0,
        }
    }

    /// Hands the audit lines over now instead of at the drop.
    ///
    /// A handler calls it before it starts to wait, so that a denial is not held back.
    pub fn flush(&self) {
        let Some(audit) = &self.audit else { return };
        let asked = std::mem::take(&mut *self.asked.lock());
        if asked.is_empty() {
            return;
        }
        let mut rows: Vec<_> = asked.into_iter().collect();
        // The map has no order; two runs of one request should give the same line.
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let (allowed, denied): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|(_, (decision, _))| decision.is_allowed());
        for chunk in denied.chunks(ROWS_PER_EVENT) {
            let rows: Vec<_> = chunk.iter().map(|row| self.row(row)).collect();
            audit.record(AuditEvent::denied(self.context.clone(), rows));
        }
        for chunk in allowed.chunks(ROWS_PER_EVENT) {
            let rows: Vec<_> = chunk.iter().map(|row| self.row(row)).collect();
            audit.record(AuditEvent::allowed(self.context.clone(), rows));
        }
    }

    /// Forgets what was asked: the request will be judged again, and only that is told.
    pub fn forget(&self) {
        self.asked.lock().clear();
    }

    /// Forgets what was permitted, since nothing of it will be done; denials are still told.
    pub fn forget_allowed(&self) {
        let mut asked = self.asked.lock();
        asked.retain(|_, (decision, _)| !decision.is_allowed());
    }

    fn row(&self, (question, (decision, refs)): &(Question, (Decision, u32))) -> AuthzRow {
        let (operation, resource_type, name) = question;
        let needs = matches!(decision, Decision::DefaultDeny).then(|| {
            AclBinding::minimal_allow(
                &self.caller.principal.to_string(),
                self.caller.host,
                *operation,
                *resource_type,
                name,
            )
            .to_string()
        });
        AuthzRow {
            operation: *operation,
            resource_type: *resource_type,
            name: name.to_string(),
            decision: decision.clone(),
            refs: *refs,
            needs,
        }
    }

    fn ask<R: ResourceKind, O: OperationKind>(&self, name: &str) -> Result<Granted<R, O>, Denied> {
        let decision = self.decide(O::OPERATION, R::TYPE, name);
        self.note(O::OPERATION, R::TYPE, name, &decision);
        if decision.is_allowed() {
            Ok(Granted::new(name, decision))
        } else {
            Err(Denied {
                operation: O::OPERATION,
                resource_type: R::TYPE,
                not_ready: decision == Decision::NotReady,
            })
        }
    }

    fn probe<R: ResourceKind, O: OperationKind>(&self, name: &str) -> Option<Granted<R, O>> {
        let decision = self.decide(O::OPERATION, R::TYPE, name);
        if !decision.is_allowed() {
            return None;
        }
        self.note(O::OPERATION, R::TYPE, name, &decision);
        Some(Granted::new(name, decision))
    }

    fn decide(&self, operation: Operation, resource_type: ResourceType, name: &str) -> Decision {
        self.authorizer
            .decide(&self.acls, &self.caller, operation, resource_type, name)
    }

    fn decide_any(&self, operation: Operation, resource_type: ResourceType) -> Decision {
        self.authorizer
            .decide_any(&self.acls, &self.caller, operation, resource_type)
    }

    /// Remembers a decision for the audit log, if its kind is logged for this request.
    fn note(
        &self,
        operation: Operation,
        resource_type: ResourceType,
        name: &str,
        decision: &Decision,
    ) {
        if self.audit.is_none() || (decision.is_allowed() && !self.context.log_allowed) {
            return;
        }
        let question = (operation, resource_type, name.into());
        let mut asked = self.asked.lock();
        let (_, refs) = asked
            .entry(question)
            .or_insert_with(|| (decision.clone(), 0));
        *refs += 1;
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
