//! The live connections of a broker, and how one is told to end from outside.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::session::Session;

/// Every connection that serves requests.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    live: Mutex<HashMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    switch: Arc<Switch>,
}

/// Ends one connection from outside; once thrown it stays thrown.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    thrown: AtomicBool,
    wake: Notify,
}

impl Switch {
    /// Tells the connection to end; false when it was told before.
    pub(crate) fn throw(&self) -> bool {
        let first = !self.thrown.swap(true, Ordering::AcqRel);
        self.wake.notify_one();
        first
    }

    /// Completes when the connection was told to end. Cancel-safe.
    pub(crate) async fn thrown(&self) {
        while !self.thrown.load(Ordering::Acquire) {
            self.wake.notified().await;
        }
    }
}

/// Keeps a connection in the registry until it is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Weak<Registry>,
    id: u64,
}

impl Registry {
    /// Enters an authenticated connection.
    pub(crate) fn enter(
        self: &Arc<Self>,
        session: Arc<Session>,
        switch: Arc<Switch>,
    ) -> Registration {
        let id = session.id;
        self.live.lock().insert(id, Entry { session, switch });
        Registration {
            registry: Arc::downgrade(self),
            id,
        }
    }

    /// Ends the connections whose session `is_over` says so; returns those it ended first.
    pub(crate) fn end_where(&self, is_over: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let live = self.live.lock();
        let over = live.values().filter(|entry| is_over(&entry.session));
        over.filter(|entry| entry.switch.throw())
            .map(|entry| Arc::clone(&entry.session))
            .collect()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.live.lock().remove(&self.id);
        }
    }
}
