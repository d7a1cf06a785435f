//! The list of partitions that have news for one fetch.
//!
//! A fetch (session) subscribes to its partitions once. A partition that becomes more readable, or
//! changes its role, pushes its slot here; the fetch drains the list and looks at nothing else, so
//! an incremental fetch costs what changed (KIP-227; design.md "I/O and threads").
//!
//! Lock order: a partition's waiting list, then a ready list. A fetch holds neither while it reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Position of a partition in the list of the fetch that subscribed to it.
pub(crate) type Slot = u32;

/// Partitions with news, oldest first, and the fetch parked on them.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    state: Mutex<ReadyState>,
    woken: Notify,
}

#[derive(Debug, Default)]
struct ReadyState {
    queue: VecDeque<Arc<Subscription>>,
    /// Bytes that became readable since the list was last drained.
    credited: u64,
    /// Some news cannot be counted in bytes: a role change, a deletion, a new log start.
    urgent: bool,
    /// What the parked fetch still lacks; none while it runs.
    parked: Option<u64>,
}

/// What one fetch wants to hear of one partition.
#[derive(Debug)]
pub(crate) struct Subscription {
    list: Arc<ReadyList>,
    slot: Slot,
    /// Whether the slot is in the queue, so that a busy partition is listed once.
    queued: AtomicBool,
    /// The partition's byte limit: it counts for at most this much towards `min_bytes`.
    max_bytes: AtomicU64,
    /// The fetch forgot the partition; the slot may belong to another by now.
    retired: AtomicBool,
}

/// One kind of news from a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// This many more bytes can be read.
    Readable(u64),
    /// The partition must be looked at again whatever the byte counts say.
    Urgent,
}

impl ReadyList {
    /// A list with nothing in it.
    pub(crate) fn new() -> Arc<ReadyList> {
        Arc::new(ReadyList::default())
    }

    /// A subscription that pushes `slot` here; `max_bytes` as in [`Subscription`].
    pub(crate) fn subscription(self: &Arc<Self>, slot: Slot, max_bytes: u64) -> Arc<Subscription> {
        Arc::new(Subscription {
            list: Arc::clone(self),
            slot,
            queued: AtomicBool::new(false),
            max_bytes: AtomicU64::new(max_bytes),
            retired: AtomicBool::new(false),
        })
    }

    /// Takes all listed slots, oldest first; news that arrives from now on counts anew.
    ///
    /// Each slot may be pushed again at once, so a position published while the caller reads is
    /// never lost: it only leads to one more look.
    pub(crate) fn drain(&self) -> Vec<Slot> {
        let mut state = self.state.lock();
        state.credited = 0;
        state.urgent = false;
        let mut slots = Vec::with_capacity(state.queue.len());
        while let Some(subscription) = state.queue.pop_front() {
            // Under the lock: a later push must either find the flag down or be seen by the reads
            // that follow.
            subscription.queued.store(false, Ordering::Release);
            if !subscription.retired.load(Ordering::Acquire) {
                slots.push(subscription.slot);
            }
        }
        slots
    }

    /// Sleeps until `needed` bytes were credited since the last drain, urgent news came, or the
    /// deadline passed; false on the deadline.
    ///
    /// Cancel-safe: a dropped wait leaves the list usable by the next fetch.
    pub(crate) async fn park(&self, needed: u64, deadline: Instant) -> bool {
        {
            let mut state = self.state.lock();
            if state.urgent || state.credited >= needed {
                return true;
            }
            state.parked = Some(needed);
        }
        // A permit left by an earlier wait that was dropped costs one needless look, no more.
        let woken = tokio::time::timeout_at(deadline, self.woken.notified())
            .await
            .is_ok();
        self.state.lock().parked = None;
        woken
    }

    fn push(&self, subscription: &Arc<Subscription>, news: Option<News>) {
        let mut state = self.state.lock();
        if !subscription.queued.swap(true, Ordering::AcqRel) {
            state.queue.push_back(Arc::clone(subscription));
        }
        match news {
            Some(News::Readable(bytes)) => {
                let capped = bytes.min(subscription.max_bytes.load(Ordering::Relaxed));
                state.credited = state.credited.saturating_add(capped);
            }
            Some(News::Urgent) => state.urgent = true,
            None => {}
        }
        let satisfied = state
            .parked
            .is_some_and(|needed| state.urgent || state.credited >= needed);
        if satisfied {
            state.parked = None;
            drop(state);
            self.woken.notify_one();
        }
    }
}

impl Subscription {
    /// Tells the fetch that the partition has news, and wakes it if that was what it lacked.
    pub(crate) fn notify(self: &Arc<Self>, news: News) {
        self.list.push(self, Some(news));
    }

    /// Puts the partition at the end of the list without counting it as news.
    pub(crate) fn requeue(self: &Arc<Self>) {
        self.list.push(self, None);
    }

    /// Takes the partition out for good.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Changes how many bytes the partition may count for.
    pub(crate) fn set_max_bytes(&self, max_bytes: u64) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Over at once: tells what is known without waiting for more.
    fn now() -> Instant {
        Instant::now()
    }

    #[tokio::test]
    async fn bytes_add_up_over_partitions() {
        let list = ReadyList::new();
        let first = list.subscription(0, 100);
        let second = list.subscription(1, 100);
        first.notify(News::Readable(60));
        assert!(!list.park(100, now()).await);
        second.notify(News::Readable(40));
        assert!(list.park(100, now()).await);
        assert_eq!(list.drain(), vec![0, 1]);
        assert!(!list.park(1, now()).await);
    }

    #[tokio::test]
    async fn a_partition_counts_for_its_limit_only() {
        let list = ReadyList::new();
        let only = list.subscription(7, 10);
        only.notify(News::Readable(1000));
        assert!(!list.park(11, now()).await);
        only.notify(News::Urgent);
        assert!(list.park(11, now()).await);
    }

    #[tokio::test]
    async fn a_parked_fetch_is_woken_by_news() {
        let list = ReadyList::new();
        let only = list.subscription(3, 10);
        let parked = Arc::clone(&list);
        let (woken, ()) = tokio::join!(
            async move { parked.park(5, now() + Duration::from_secs(60)).await },
            async {
                tokio::task::yield_now().await;
                only.notify(News::Readable(5));
            }
        );
        assert!(woken);
    }

    #[test]
    fn a_busy_partition_is_listed_once() {
        let list = ReadyList::new();
        let only = list.subscription(3, 10);
        only.notify(News::Readable(1));
        only.notify(News::Readable(1));
        only.requeue();
        assert_eq!(list.drain(), vec![3]);
        assert!(list.drain().is_empty());
    }
}
