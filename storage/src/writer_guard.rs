//! The append lock; its release shows readers whether transactions bound what is stable.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use crate::append::Writer;
use crate::log::Log;

/// Holds the append lock.
pub(crate) struct WriterGuard<'a> {
    log: &'a Log,
    guard: MutexGuard<'a, Writer>,
}

impl<'a> WriterGuard<'a> {
    pub(crate) fn new(log: &'a Log, guard: MutexGuard<'a, Writer>) -> Self {
        Self { log, guard }
    }
}

impl Deref for WriterGuard<'_> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.guard
    }
}

impl DerefMut for WriterGuard<'_> {
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.guard
    }
}

impl Drop for WriterGuard<'_> {
    fn drop(&mut self) {
        let has_transactions = self.guard.producers.has_transactions();
        self.log
            .transactions
            .store(has_transactions, Ordering::Release);
    }
}
