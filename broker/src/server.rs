//! Sockets end here: listeners, TLS, login, frames, ordered answers.
//!
//! ```text
//! listener -> connection (one task) -> tls -> login (sasl_gate) -> ready
//!   ready: receive -> dispatch -> queue -> send      socket: buffers below TLS
//! ```

mod buffers;
mod connection;
mod frame_budget;
mod hold;
mod limits;
mod listener;
mod login;
mod pace;
mod populate;
mod queue;
mod ready;
mod receive;
mod registry;
mod report;
mod sasl_answer;
mod sasl_gate;
mod send;
mod service;
mod session;
mod socket;
mod sockopt;
#[cfg(test)]
mod tests;
mod tls;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_auth::audit::{Action, AuditContext, AuditEvent, ConnectionInfo, Outcome};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use self::connection::Parting;
use self::limits::{ConnectionCounts, Refused};
use self::pace::Pace;
use self::populate::PopulatePool;
use self::registry::{Registration, Registry, Switch};
use self::socket::SocketPools;
use crate::shutdown::{Gate, Shutdown};
use crate::task;

pub use self::frame_budget::BudgetTooSmall;
pub(crate) use self::frame_budget::{FrameBudget, Reservation};
pub(crate) use self::hold::{Hold, Room};
pub use self::listener::{Bound, ListenError, ListenerState};
pub(crate) use self::service::Service;
pub use self::session::{ClientSoftware, Session};

/// Idle buffers kept for reuse; each is 64 KiB.
const KEPT_BUFFERS: usize = 128;
/// Threads that bring cold records into memory.
const POPULATE_THREADS: usize = 4;
/// Refused connections that are kept open while the audit log has no room for them.
const PARKED: usize = 16;
/// Refused logins, and refused handshakes, whose peers may read why before the connection ends; the
/// others' ends at once.
const LINGERING: usize = 64;

/// What all connections of a broker share.
pub struct Server {
    service: Arc<dyn Service>,
    shutdown: Shutdown,
    gate: Gate,
    pools: SocketPools,
    budget: FrameBudget,
    populate: Arc<PopulatePool>,
    counts: Arc<ConnectionCounts>,
    places: Arc<Semaphore>,
    pace: Pace,
    registry: Arc<Registry>,
    /// Refused connections that may wait for room in the audit log.
    parked: Arc<Semaphore>,
    lingering_logins: Semaphore,
    /// Of their own: a handshake is refused at no cost to who begins it.
    lingering_handshakes: Semaphore,
    parting: Parting,
    last_id: AtomicU64,
}

impl Server {
    /// A server that has no listeners yet.
    ///
    /// # Errors
    /// The budget for request bytes is smaller than one legal request.
    pub(crate) fn new(
        service: Arc<dyn Service>,
        shutdown: Shutdown,
    ) -> Result<Arc<Self>, BudgetTooSmall> {
        Server::with_parting(service, shutdown, Parting::default())
    }

    /// The same with times of a test's own.
    fn with_parting(
        service: Arc<dyn Service>,
        shutdown: Shutdown,
        parting: Parting,
    ) -> Result<Arc<Self>, BudgetTooSmall> {
        let limits = service.limits();
        let budget = limits.queued_max_bytes.unwrap_or_else(quarter_of_memory);
        // A quarter of a small machine may be less than one legal request, which must fit.
        let budget = match limits.queued_max_bytes {
            Some(_) => budget,
            None => budget.max(limits.request_max_bytes),
        };
        Ok(Arc::new(Server {
            budget: FrameBudget::new(budget, limits.request_max_bytes)?,
            pools: SocketPools::new(KEPT_BUFFERS),
            populate: Arc::new(PopulatePool::new(POPULATE_THREADS)),
            counts: Arc::new(ConnectionCounts::new(limits.into())),
            places: Arc::new(Semaphore::new(
                limits.max_connections.min(Semaphore::MAX_PERMITS),
            )),
            pace: Pace::new(limits.max_connection_creation_rate),
            registry: Arc::default(),
            parked: Arc::new(Semaphore::new(PARKED)),
            lingering_logins: Semaphore::new(LINGERING),
            lingering_handshakes: Semaphore::new(LINGERING),
            parting,
            last_id: AtomicU64::new(0),
            gate: Gate::new(),
            shutdown,
            service,
        }))
    }

    /// Lets a bound listener accept connections.
    pub fn serve(self: &Arc<Self>, bound: Bound) {
        let name = Arc::clone(&bound.state.name);
        let accept = bound.serve(Arc::clone(self));
        task::spawn_in(&self.gate, "listener", async move {
            task::missed(&format!("listener {name}"), accept).await;
        });
    }

    /// The gate that listeners and connections are inside of.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Ends the sessions that `is_over` names and records each as revoked.
    pub fn revoke(&self, is_over: impl Fn(&Session) -> bool) {
        for session in self.registry.end_where(is_over) {
            self.record_revoked(&session);
        }
    }

    /// Enters an authenticated connection among those that [`Self::revoke`] reaches.
    ///
    /// Its credential may have gone while it was logging in: then nobody saw the session yet, so
    /// it is looked at once more, and ended like the others.
    fn enter(&self, session: &Arc<Session>, switch: &Arc<Switch>) -> Registration {
        let registration = self.registry.enter(Arc::clone(session), Arc::clone(switch));
        if !session.stands() && switch.throw() {
            self.record_revoked(session);
        }
        registration
    }

    fn record_revoked(&self, session: &Session) {
        let context = session.audit_context();
        self.record(AuditEvent::new(
            Action::SessionRevoked,
            Outcome::Ok,
            context,
        ));
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records that a connection was refused, and closes it once that is in the log, or counted.
    fn note_refused(
        self: &Arc<Self>,
        listener: &ListenerState,
        (tcp, peer): (TcpStream, SocketAddr),
        refused: Refused,
    ) {
        let mut hold = self.service.audit_hold();
        let connection = ConnectionInfo {
            listener: listener.config.name.clone(),
            src: Some(peer),
            ..ConnectionInfo::default()
        };
        let context = AuditContext {
            connection: Some(Arc::new(connection)),
            overflow: hold.overflow(),
            ..AuditContext::default()
        };
        let event = AuditEvent::new(Action::ConnRejected, Outcome::Denied, context);
        self.record(event.with_reason(refused.reason()));
        if !hold.is_waiting() {
            return;
        }
        // More of them than that would cost descriptors: those are counted.
        if let Ok(permit) = Arc::clone(&self.parked).try_acquire_owned() {
            let shutdown = self.shutdown.clone();
            task::spawn_in(&self.gate, "refused connection", async move {
                hold.settle(&shutdown).await;
                drop((tcp, permit));
            });
        }
    }

    fn record(&self, event: AuditEvent) {
        if let Some(audit) = self.service.audit() {
            audit.record(event);
        }
    }
}

/// A quarter of the memory that this process may use, as far as the system tells.
fn quarter_of_memory() -> usize {
    let info = rustix::system::sysinfo();
    let total = (info.totalram as usize).saturating_mul(info.mem_unit as usize);
    let cgroup = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = cgroup.and_then(|text| text.trim().parse::<usize>().ok());
    limit.map_or(total, |limit| limit.min(total)) / 4
}
