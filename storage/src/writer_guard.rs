//! The append lock, with a word to whoever found it taken.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use crate::append::Writer;
use crate::log::Log;

/// Holds the append lock; its release wakes an append that was told `Busy` meanwhile.
pub(crate) struct WriterGuard<'a> {
    log: &'a Log,
    /// Taken only in `drop`.
    guard: Option<MutexGuard<'a, Writer>>,
}

impl<'a> WriterGuard<'a> {
    pub(crate) fn new(log: &'a Log, guard: MutexGuard<'a, Writer>) -> Self {
        Self {
            log,
            guard: Some(guard),
        }
    }
}

impl Deref for WriterGuard<'_> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        self.guard.as_ref().expect("held until drop")
    }
}

impl DerefMut for WriterGuard<'_> {
    fn deref_mut(&mut self) -> &mut Writer {
        self.guard.as_mut().expect("held until drop")
    }
}

impl Drop for WriterGuard<'_> {
    fn drop(&mut self) {
        if let Some(writer) = self.guard.take() {
            self.log
                .transactions
                .store(writer.producers.has_transactions(), Ordering::Release);
        }
        if self.log.contended.swap(false, Ordering::SeqCst) {
            self.log.observer().writable();
        }
    }
}
