//! The audit log: what is recorded, as tamper-evident lines, without silent loss
//! (spec/security.md §5.2).
//!
//! Events go into an [`AuditQueue`]; one thread of the broker drains it into an
//! [`AuditWriter`], syncs, and tells the queue what is durable. Not built yet: checkpoints
//! with signature and MAC, rotation, the witness in the metadata log.

mod aggregate;
mod chain;
mod context;
mod event;
mod line;
mod overflow;
mod queue;
mod time;
mod writer;

pub use chain::{ChainError, LineInfo, verify_line};
pub use context::{AuditContext, AuthInfo, CertificateInfo, ConnectionInfo, RequestInfo, TlsInfo};
pub use event::{
    Action, Aggregate, AuditEvent, AuthzRow, Cause, Change, Class, Gap, Outcome, SecretDigest,
};
pub use line::shown;
pub use overflow::{Held, Overflow};
pub use queue::{AuditQueue, Stamped, Ticket};
pub use time::UnixMicros;
pub use writer::{AppendError, AuditFile, AuditWriter, Started, StreamId, WriterError};

/// Takes events. The one who calls it never waits for a disk.
pub trait AuditSink: Send + Sync {
    /// Takes an event. What finds no room waits in the [`Overflow`] of its context, if there is
    /// one; what cannot be kept in the end is counted and shows up as `audit_gap`.
    fn record(&self, event: AuditEvent);
}
