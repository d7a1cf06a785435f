//! A connection's part in the audit log: while events of its own find no room there, it is neither
//! read nor answered (spec/security.md §5.2, never drop silently).
//!
//! ```text
//! room comes        -> in the queue, served again
//! block.max.ms over -> counted, served again
//!                      a permitted question with policy `block`: waits for room without end
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use palisade_auth::audit::{AuditQueue, Class, Overflow};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::logging::Throttle;
use crate::shutdown::{Shutdown, Stage};

/// The queue of the audit log and how to wait for room in it.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) queue: Arc<AuditQueue>,
    /// Changes whenever more events are durable.
    pub(crate) durable: watch::Sender<()>,
    /// How long anybody waits (`palisade.audit.block.max.ms`).
    pub(crate) block_max: Duration,
    /// Whether a permitted question waits longer (`palisade.audit.full.policy`).
    pub(crate) allowed_stays: bool,
}

/// Holds one connection back; what still waits when it is dropped is counted.
pub(crate) struct Hold(Option<Parts>);

struct Parts {
    room: Room,
    overflow: Arc<Overflow>,
    /// Made when something waits.
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Hold {
    /// Holds back by what finds no room.
    pub(crate) fn new(room: Room) -> Self {
        Hold(Some(Parts {
            room,
            overflow: Arc::default(),
            waiting: None,
        }))
    }

    /// Never holds back: there is no audit log.
    pub(crate) fn nothing() -> Self {
        Hold(None)
    }

    /// Where the connection's events wait.
    pub(crate) fn overflow(&self) -> Option<Arc<Overflow>> {
        self.0.as_ref().map(|parts| Arc::clone(&parts.overflow))
    }

    /// Whether something waits. Cheap.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|parts| parts.overflow.is_waiting())
    }

    /// Ready when nothing waits; cheap where nothing ever did.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(parts) = &mut self.0 else {
            return Poll::Ready(());
        };
        while parts.overflow.is_waiting() {
            let waiting = parts.waiting.get_or_insert_with(|| {
                let (room, overflow) = (parts.room.clone(), Arc::clone(&parts.overflow));
                Box::pin(async move { room.wait(&overflow).await })
            });
            if waiting.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            parts.waiting = None;
        }
        Poll::Ready(())
    }

    /// Waits for the last events of a connection that ends: none of them longer than the rest,
    /// and not while the broker stops.
    pub(crate) async fn settle(&mut self, shutdown: &Shutdown) {
        let Some(patience) = self.0.as_ref().map(|parts| parts.room.block_max) else {
            return;
        };
        if !self.is_waiting() {
            return;
        }
        let settled = timeout(patience, std::future::poll_fn(|cx| self.poll(cx)));
        tokio::select! {
            _ = settled => {}
            () = shutdown.reached(Stage::Stopped) => {}
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(parts) = &self.0 {
            parts.room.queue.close(&parts.overflow);
        }
    }
}

impl Room {
    /// Waits until everything of `overflow` is in the queue or counted.
    async fn wait(&self, overflow: &Overflow) {
        static SAID: Throttle = Throttle::new();
        if SAID.may_speak() {
            tracing::info!("the audit queue is full: connections are held back");
        }
        if timeout(self.block_max, self.room_for(overflow))
            .await
            .is_ok()
        {
            return;
        }
        let stays = |class| self.allowed_stays && class == Class::AuthzAllowed;
        if self.queue.give_up(overflow, stays) {
            static SAID: Throttle = Throttle::new();
            if SAID.may_speak() {
                tracing::info!("permitted requests stay blocked until the audit log has room");
            }
            self.room_for(overflow).await;
        }
    }

    async fn room_for(&self, overflow: &Overflow) {
        let mut durable = self.durable.subscribe();
        while !self.queue.retry(overflow) {
            // It cannot fail: this room holds a sender.
            let _ = durable.changed().await;
        }
    }
}

#[cfg(test)]
impl Room {
    /// A queue in which nothing has room.
    pub(super) fn full(block_max: Duration) -> Room {
        use palisade_auth::audit::{Action, AuditContext, AuditEvent, Outcome, UnixMicros};

        let queue = AuditQueue::new(16 << 10, || UnixMicros::new(0));
        let event = |action| AuditEvent::new(action, Outcome::Denied, AuditContext::default());
        while queue.offer(event(Action::Denied)).is_ok() {}
        Room {
            queue: Arc::new(queue),
            durable: watch::Sender::new(()),
            block_max,
            allowed_stays: true,
        }
    }

    /// Makes room, as the thread of the log does.
    pub(super) fn empty(&self) {
        self.queue.confirm(&self.queue.take(Duration::ZERO));
        self.durable.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use palisade_auth::audit::{Action, AuditContext, AuditEvent, AuditSink, Outcome};

    use super::*;

    /// Something is denied on the connection of `hold`.
    fn deny(room: &Room, hold: &Hold) {
        let context = AuditContext {
            overflow: hold.overflow(),
            ..AuditContext::default()
        };
        room.queue
            .record(AuditEvent::new(Action::Denied, Outcome::Denied, context));
    }

    fn lost(room: &Room) -> u64 {
        room.queue.lost_total(Class::AuthzDenied)
    }

    #[tokio::test]
    async fn room_that_comes_lets_go() {
        let room = Room::full(Duration::from_secs(3600));
        let mut hold = Hold::new(room.clone());
        poll_fn(|cx| hold.poll(cx)).await;
        deny(&room, &hold);
        assert!(hold.is_waiting());
        let polled = poll_fn(|cx| Poll::Ready(hold.poll(cx).is_pending()));
        assert!(polled.await);
        room.empty();
        poll_fn(|cx| hold.poll(cx)).await;
        assert_eq!((hold.is_waiting(), lost(&room)), (false, 0));
        assert_eq!(room.queue.take(Duration::ZERO).len(), 1);
    }

    #[tokio::test]
    async fn patience_that_ends_counts_and_lets_go() {
        let room = Room::full(Duration::ZERO);
        let mut hold = Hold::new(room.clone());
        deny(&room, &hold);
        poll_fn(|cx| hold.poll(cx)).await;
        assert_eq!((hold.is_waiting(), lost(&room)), (false, 1));
    }

    #[tokio::test]
    async fn a_connection_that_is_gone_counts() {
        let room = Room::full(Duration::from_secs(3600));
        let hold = Hold::new(room.clone());
        deny(&room, &hold);
        assert_eq!(lost(&room), 0);
        drop(hold);
        assert_eq!(lost(&room), 1);
    }
}
