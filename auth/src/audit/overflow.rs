//! What one connection's events wait in while the queue is full: as long as something is in it
//! the connection is not served (spec/security.md §5.2, never drop silently).

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{AuditEvent, Class, UnixMicros};

/// An event that found no room. Floods of equal events are already taken out of it.
#[derive(Debug)]
pub struct Held {
    pub(super) event: Box<AuditEvent>,
    pub(super) weight: usize,
    /// When it happened.
    pub(super) at: UnixMicros,
}

impl Held {
    /// The class of the event.
    pub fn class(&self) -> Class {
        self.event.class()
    }
}

/// The events of one connection that found no room.
///
/// [`AuditQueue`](super::AuditQueue) puts them in and takes them out again; whoever owns the
/// connection asks [`is_waiting`](Self::is_waiting), and ends it with
/// [`close`](super::AuditQueue::close), which counts what is left.
#[derive(Debug, Default)]
pub struct Overflow {
    waiting: AtomicBool,
    aside: Mutex<Aside>,
}

#[derive(Debug, Default)]
struct Aside {
    events: Vec<Held>,
    closed: bool,
}

impl Overflow {
    /// Whether an event found no room and nobody has decided yet what becomes of it. Cheap.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Puts an event aside; `None` only marks that there was one. False, with nothing kept, when
    /// the connection is gone.
    pub(super) fn keep(&self, event: Option<Held>) -> bool {
        let mut aside = self.aside.lock();
        if aside.closed {
            return false;
        }
        aside.events.extend(event);
        self.waiting.store(true, Ordering::Release);
        true
    }

    /// Takes all events out; the mark stays.
    pub(super) fn take(&self) -> Vec<Held> {
        std::mem::take(&mut self.aside.lock().events)
    }

    /// Puts events back that were taken out, ahead of what came meanwhile.
    pub(super) fn put_back(&self, mut events: Vec<Held>) {
        let mut aside = self.aside.lock();
        events.append(&mut aside.events);
        aside.events = events;
    }

    /// Takes the mark away if nothing came meanwhile; false otherwise.
    pub(super) fn release(&self) -> bool {
        let aside = self.aside.lock();
        if aside.events.is_empty() {
            self.waiting.store(false, Ordering::Release);
        }
        aside.events.is_empty()
    }

    /// Takes all events out and no more in.
    pub(super) fn close(&self) -> Vec<Held> {
        let mut aside = self.aside.lock();
        aside.closed = true;
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut aside.events)
    }
}
