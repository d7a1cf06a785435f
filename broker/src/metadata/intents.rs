//! Changes in the audit log before they happen (security.md §5.2, never drop silently).
//!
//! ```text
//! decide -> intents durable -> decide again, propose -> applied -> results
//! ```
//!
//! The intents say exactly what is going to change, which only the decision knows; while they are
//! written, other requests are decided. So the request is decided a second time, with the chance
//! of the first, and goes on if the same follows from it. Otherwise the new changes are announced
//! in their turn.

use std::sync::Arc;

use palisade_auth::audit::{Action, AuditContext, AuditEvent, AuditSink, Change, Outcome};

use crate::task::BoxFuture;

/// An audit log that can be waited for.
pub(crate) trait AuditTrail: AuditSink {
    /// Takes events and waits, a bounded time, until all of them are durable.
    ///
    /// What was not taken is counted as lost. False when not every event is durable; then those
    /// that were taken still may become so.
    fn record_ahead(&self, events: Vec<AuditEvent>) -> BoxFuture<'_, bool>;
}

/// What a decision would change, and the chance that it used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<(Action, Change)>,
    pub(crate) chance: Vec<u8>,
}

/// Announced changes whose results are not told yet. Whatever becomes of the request, each gets
/// a result: dropping this says that they were not executed, or that nobody knows.
pub(crate) struct Intents {
    audit: Arc<dyn AuditTrail>,
    context: AuditContext,
    plan: Plan,
    /// What is said when nobody says more.
    otherwise: &'static str,
}

impl Intents {
    /// Announces changes that will be done one by one: each gets intents of its own, or none at all
    /// without an audit log. `None` when the log cannot take them.
    pub(crate) async fn announce_each(
        audit: Option<(Arc<dyn AuditTrail>, AuditContext)>,
        changes: Vec<(Action, Change)>,
    ) -> Option<Vec<Option<Intents>>> {
        let (audit, context) = match audit {
            Some(audit) if !changes.is_empty() => audit,
            _ => return Some(changes.iter().map(|_| None).collect()),
        };
        let plan = Plan {
            changes,
            chance: Vec::new(),
        };
        let announced = Intents::announce(audit, context, plan).await?;
        Some(announced.apart().into_iter().map(Some).collect())
    }

    fn apart(mut self) -> Vec<Intents> {
        let changes = std::mem::take(&mut self.plan.changes).into_iter();
        let one = |change| Intents {
            audit: Arc::clone(&self.audit),
            context: self.context.clone(),
            plan: Plan {
                changes: vec![change],
                chance: Vec::new(),
            },
            otherwise: self.otherwise,
        };
        changes.map(one).collect()
    }

    /// Announces what is planned; `None` when the log cannot take it, and then nothing of it may
    /// be done.
    pub(crate) async fn announce(
        audit: Arc<dyn AuditTrail>,
        context: AuditContext,
        plan: Plan,
    ) -> Option<Intents> {
        let events = plan.changes.iter().map(|(action, change)| {
            AuditEvent::new(*action, Outcome::Intent, context.clone()).with_change(change.clone())
        });
        let events = events.collect();
        // Made first: if the client goes away while this waits, the results are told all the same.
        let mut intents = Intents {
            audit,
            context,
            plan,
            otherwise: "not_executed",
        };
        let audit = Arc::clone(&intents.audit);
        if audit.record_ahead(events).await {
            return Some(intents);
        }
        // Whoever asked has waited long enough.
        intents.context.overflow = None;
        intents.told(Outcome::Error, Some("audit_unavailable"), None);
        None
    }

    /// Whether exactly these changes were announced.
    pub(crate) fn are_for(&self, changes: &[(Action, Change)]) -> bool {
        self.plan.changes == changes
    }

    /// The chance that the decision behind the intents used.
    pub(crate) fn chance(&self) -> &[u8] {
        &self.plan.chance
    }

    /// From now on the changes may happen even if nobody is left to tell.
    pub(crate) fn begun(mut self) -> Intents {
        self.otherwise = "unknown";
        self
    }

    /// Tells that the changes are applied, at this index and term of the metadata log.
    pub(crate) fn applied(self, index: u64, term: u64) {
        self.told(Outcome::Ok, None, Some((index, term)));
    }

    /// Tells one result for all.
    pub(crate) fn told(
        mut self,
        outcome: Outcome,
        reason: Option<&'static str>,
        committed: Option<(u64, u64)>,
    ) {
        for (action, mut change) in std::mem::take(&mut self.plan.changes) {
            change.committed = committed;
            self.result(action, change, outcome, reason);
        }
    }

    /// Tells each result by itself; `result` gets the position of the change.
    pub(crate) fn each(mut self, result: impl Fn(usize) -> Result<(), &'static str>) {
        let changes = std::mem::take(&mut self.plan.changes);
        for (at, (action, change)) in changes.into_iter().enumerate() {
            match result(at) {
                Ok(()) => self.result(action, change, Outcome::Ok, None),
                Err(reason) => self.result(action, change, Outcome::Error, Some(reason)),
            }
        }
    }

    fn result(
        &self,
        action: Action,
        change: Change,
        outcome: Outcome,
        reason: Option<&'static str>,
    ) {
        let mut event = AuditEvent::new(action, outcome, self.context.clone()).with_change(change);
        event.reason = reason;
        self.audit.record(event);
    }
}

impl Drop for Intents {
    fn drop(&mut self) {
        for (action, change) in std::mem::take(&mut self.plan.changes) {
            self.result(action, change, Outcome::Error, Some(self.otherwise));
        }
    }
}
