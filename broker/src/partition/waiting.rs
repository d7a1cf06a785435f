//! Who waits for a partition's positions to move, and how many bytes each move frees.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use palisade_protocol::types::Offset;

use super::ready::{News, Subscription};
use super::waiter::Waiter;

/// Requests that wait before those that have given up are looked for.
const FIRST_SWEEP: usize = 64;

/// Most batches above the high watermark whose sizes are told apart.
const MAX_UNREAD: usize = 1024;

/// The waiting requests of one partition; lives under one short lock.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Produce requests with acks=-1 by the end offset they need, smallest first.
    produces: VecDeque<(Offset, Weak<Waiter>)>,
    /// DeleteRecords requests by the low watermark they need.
    deletes: Vec<(Offset, Weak<Waiter>)>,
    /// Length of each list at which requests that timed out are taken off it; twice what was left.
    sweep_produces_at: usize,
    sweep_deletes_at: usize,
    /// Fetches that want to hear of this partition.
    fetches: Vec<Arc<Subscription>>,
    /// End offset and size of batches not yet below the high watermark, in log order.
    unread: VecDeque<(Offset, u64)>,
}

impl Waiting {
    /// Notes a batch that was appended up to `end` (exclusive).
    pub(crate) fn appended(&mut self, end: Offset, bytes: u64) {
        // Kept without subscribers too: one may come before these bytes can be read. While the
        // high watermark stands still the newest entry grows instead of the queue.
        if self.unread.len() >= MAX_UNREAD
            && let Some(last) = self.unread.back_mut()
        {
            *last = (end, last.1.saturating_add(bytes));
            return;
        }
        self.unread.push_back((end, bytes));
    }

    /// Registers a produce request that needs the high watermark at `end`.
    ///
    /// It is forgotten with its last owner: while the position stands still, clients time out and
    /// come again, and nothing else would take them off the list.
    pub(crate) fn await_high_watermark(&mut self, end: Offset, waiter: &Arc<Waiter>) {
        if self.produces.len() >= self.sweep_produces_at.max(FIRST_SWEEP) {
            self.produces.retain(|(_, waiter)| still_waits(waiter));
            self.sweep_produces_at = 2 * self.produces.len();
        }
        let after = self.produces.partition_point(|(other, _)| *other <= end);
        self.produces.insert(after, (end, Arc::downgrade(waiter)));
    }

    /// Registers a delete request that needs the low watermark at `target`; see above.
    pub(crate) fn await_low_watermark(&mut self, target: Offset, waiter: &Arc<Waiter>) {
        if self.deletes.len() >= self.sweep_deletes_at.max(FIRST_SWEEP) {
            self.deletes.retain(|(_, waiter)| still_waits(waiter));
            self.sweep_deletes_at = 2 * self.deletes.len();
        }
        self.deletes.push((target, Arc::downgrade(waiter)));
    }

    /// Adds a fetch.
    pub(crate) fn subscribe(&mut self, subscription: Arc<Subscription>) {
        self.fetches.push(subscription);
    }

    /// Removes a fetch; nothing happens when it is not there.
    pub(crate) fn unsubscribe(&mut self, subscription: &Arc<Subscription>) {
        let position = self
            .fetches
            .iter()
            .position(|other| Arc::ptr_eq(other, subscription));
        if let Some(position) = position {
            self.fetches.swap_remove(position);
        }
    }

    /// The high watermark stands at `high_watermark` now.
    pub(crate) fn high_watermark_moved(&mut self, high_watermark: Offset) {
        while let Some((end, _)) = self.produces.front() {
            if *end > high_watermark {
                break;
            }
            if let Some((_, waiter)) = self.produces.pop_front() {
                decide(&waiter);
            }
        }
        let mut bytes = 0_u64;
        while let Some((end, size)) = self.unread.front().copied() {
            if end > high_watermark {
                break;
            }
            bytes = bytes.saturating_add(size);
            self.unread.pop_front();
        }
        for subscription in &self.fetches {
            subscription.notify(News::Readable(bytes));
        }
    }

    /// The smallest log start of all live replicas stands at `low_watermark` now.
    pub(crate) fn low_watermark_moved(&mut self, low_watermark: Offset) {
        self.deletes.retain(|(target, waiter)| {
            let reached = *target <= low_watermark;
            if reached {
                decide(waiter);
            }
            !reached
        });
    }

    /// Something changed that no offset expresses: every waiting request must look again.
    ///
    /// Produce and delete requests are decided by it, since a new role or a failed log cannot
    /// satisfy them any more; fetches stay subscribed.
    pub(crate) fn everyone_looks(&mut self) {
        for (_, waiter) in self.produces.drain(..) {
            decide(&waiter);
        }
        for (_, waiter) in self.deletes.drain(..) {
            decide(&waiter);
        }
        self.fetches_look();
    }

    /// Parked fetches look again: the log start moved, or the log was cut.
    pub(crate) fn fetches_look(&mut self) {
        for subscription in &self.fetches {
            subscription.notify(News::Urgent);
        }
    }

    /// How many fetches hear of this partition.
    #[cfg(test)]
    pub(crate) fn subscribers(&self) -> usize {
        self.fetches.len()
    }
}

fn still_waits(waiter: &Weak<Waiter>) -> bool {
    waiter.strong_count() > 0
}

/// Tells a request, if it has not given up.
fn decide(waiter: &Weak<Waiter>) {
    if let Some(waiter) = waiter.upgrade() {
        waiter.decided();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::ready::ReadyList;
    use super::*;

    fn at(value: i64) -> Offset {
        Offset::new(value)
    }

    async fn is_decided(waiter: &Arc<Waiter>) -> bool {
        waiter.wait(Instant::now()).await
    }

    #[tokio::test]
    async fn produces_are_decided_in_offset_order() {
        let mut waiting = Waiting::default();
        let late = Waiter::new(1);
        let early = Waiter::new(1);
        waiting.await_high_watermark(at(20), &late);
        waiting.await_high_watermark(at(10), &early);
        waiting.high_watermark_moved(at(15));
        assert!(is_decided(&early).await);
        assert!(!is_decided(&late).await);
        waiting.everyone_looks();
        assert!(is_decided(&late).await);
    }

    #[tokio::test]
    async fn requests_that_gave_up_are_forgotten() {
        let mut waiting = Waiting::default();
        let patient: Vec<_> = (0..100).map(|_| Waiter::new(1)).collect();
        for waiter in &patient {
            waiting.await_high_watermark(at(10), waiter);
            waiting.await_low_watermark(at(10), waiter);
        }
        for _ in 0..10_000 {
            waiting.await_high_watermark(at(10), &Waiter::new(1));
            waiting.await_low_watermark(at(10), &Waiter::new(1));
        }
        assert!(waiting.produces.len() <= 256, "{}", waiting.produces.len());
        assert!(waiting.deletes.len() <= 256, "{}", waiting.deletes.len());
        waiting.high_watermark_moved(at(10));
        for waiter in &patient {
            assert!(is_decided(waiter).await);
        }
    }

    #[tokio::test]
    async fn only_bytes_below_the_high_watermark_are_credited() {
        let mut waiting = Waiting::default();
        let list = ReadyList::new();
        waiting.subscribe(list.subscription(0, 1000));
        waiting.appended(at(1), 70);
        waiting.appended(at(2), 30);
        waiting.high_watermark_moved(at(1));
        assert!(!list.park(71, Instant::now()).await);
        waiting.high_watermark_moved(at(2));
        assert!(list.park(100, Instant::now()).await);
    }

    #[tokio::test]
    async fn deletes_wait_for_the_low_watermark() {
        let mut waiting = Waiting::default();
        let waiter = Waiter::new(1);
        waiting.await_low_watermark(at(5), &waiter);
        waiting.low_watermark_moved(at(4));
        assert!(!is_decided(&waiter).await);
        waiting.low_watermark_moved(at(5));
        assert!(is_decided(&waiter).await);
    }
}
