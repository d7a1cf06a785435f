//! One parked produce or delete request, woken once.
//!
//! A request that waits on several partitions registers the same [`Waiter`] with each of them. The
//! partition that decides last wakes it; until then nothing runs (performance.md §4, "Timers and
//! purgatory"). What was decided is not carried by the waiter: the request looks at the positions
//! again when it wakes, so that a loss of leadership in between is seen (reliability.md §5).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

/// A request that sleeps until every partition it named has decided.
#[derive(Debug)]
pub(crate) struct Waiter {
    undecided: AtomicUsize,
    woken: Notify,
}

impl Waiter {
    /// A waiter for `partitions` decisions, each of which calls [`Waiter::decided`] once.
    pub(crate) fn new(partitions: usize) -> Arc<Waiter> {
        Arc::new(Waiter {
            undecided: AtomicUsize::new(partitions),
            woken: Notify::new(),
        })
    }

    /// Counts one partition as decided; the last one wakes the request.
    pub(crate) fn decided(&self) {
        let before = self.undecided.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a partition decided twice for one request");
        if before == 1 {
            // The permit is kept when nobody waits yet, so a decision before `wait` is not lost.
            self.woken.notify_one();
        }
    }

    /// Sleeps until the last decision or the deadline; true when everything was decided.
    ///
    /// Cancel-safe: a dropped wait leaves the permit in place.
    pub(crate) async fn wait(&self, deadline: Instant) -> bool {
        if self.undecided.load(Ordering::Acquire) == 0 {
            return true;
        }
        tokio::time::timeout_at(deadline, self.woken.notified())
            .await
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_last_decision_wakes() {
        let waiter = Waiter::new(2);
        let deadline = Instant::now() + Duration::from_secs(60);
        waiter.decided();
        let early = waiter.wait(Instant::now()).await;
        assert!(!early);
        waiter.decided();
        assert!(waiter.wait(deadline).await);
        assert!(waiter.wait(deadline).await);
    }

    #[tokio::test]
    async fn the_deadline_ends_the_wait() {
        let waiter = Waiter::new(1);
        assert!(!waiter.wait(Instant::now()).await);
    }
}
