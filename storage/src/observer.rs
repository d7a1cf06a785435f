//! What a log tells its owner, from whichever thread learnt it.

use crate::types::Offset;

/// Receives the events of one log.
///
/// Calls come from the flusher thread, the disk thread or a caller of [`crate::Log`]; the append
/// lock is not held during any of them. They should only publish a position or wake someone.
pub trait LogObserver: Send + Sync {
    /// Everything below `end` is on stable storage.
    fn durable(&self, end: Offset);

    /// The log takes no more writes: a sync failed, or its directory went offline.
    fn failed(&self);

    /// The log start offset moved up to `start`.
    fn log_start_advanced(&self, start: Offset);
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl LogObserver for NoObserver {
    fn durable(&self, _end: Offset) {}
    fn failed(&self) {}
    fn log_start_advanced(&self, _start: Offset) {}
}
