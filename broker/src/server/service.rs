//! What connections serve: the seam between sockets and the broker behind them.

use std::sync::Arc;

use palisade_auth::audit::{AuditEvent, AuditSink};
use palisade_protocol::header::RequestHeader;
use palisade_protocol::types::BrokerId;
use palisade_protocol::{ApiKey, Reader};

use super::hold::Hold;
use super::session::Session;
use crate::config::Limits;
use crate::dispatch::{Outcome, Stage};
use crate::task::BoxFuture;

/// A broker as its connections see it.
pub(crate) trait Service: Send + Sync + 'static {
    /// Bounds on connections, bytes and times.
    fn limits(&self) -> &Limits;

    /// Where security-relevant events go.
    fn audit(&self) -> Option<&Arc<dyn AuditSink>>;

    /// Records a login and waits, a bounded time, until that is durable; false when it is not,
    /// and then the login does not count (security.md §5.2).
    fn record_login(&self, event: AuditEvent) -> BoxFuture<'_, bool>;

    /// A new connection's part in the audit log.
    fn audit_hold(&self) -> Hold;

    /// The cluster and the node in it that clients talk to.
    fn identity(&self) -> (Arc<str>, BrokerId);

    /// Starts the ordered stage of a request whose key and version are served.
    ///
    /// # Errors
    /// What becomes of the request when it cannot even start.
    fn begin(
        self: Arc<Self>,
        session: Arc<Session>,
        key: ApiKey,
        header: RequestHeader,
        body: Reader,
    ) -> Result<Stage, Outcome>;
}
