//! One partition as this node stores it: role, positions and everyone who waits for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use palisade_protocol::types::{BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId};
use palisade_storage::{FlushPolicy, Log};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::directory::Directory;
use super::error::PartitionError;
use super::high_watermark::high_watermark;
use super::isr::Leadership;
use super::ready::Subscription;
use super::settings::PartitionSettings;
use super::waiter::Waiter;
use super::waiting::Waiting;

/// What a leader knows of one follower (replication.md §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Follower {
    /// Offset of its last accepted fetch: everything below it is stored there.
    pub(crate) log_end: Offset,
    /// Its log start offset.
    pub(crate) log_start: Offset,
}

/// A replica on this node. Positions are atomics; the append lock is the log's own.
pub(crate) struct Replica {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: TopicId,
    pub(crate) index: PartitionIndex,
    pub(crate) log: Arc<Log>,
    pub(crate) directory: Arc<Directory>,
    /// Appends in arrival order: one permit, handed on first come first served.
    pub(crate) gate: Semaphore,
    /// The disk thread reads a cold part of this log for a later request.
    pub(crate) reading_ahead: AtomicBool,
    node: BrokerId,
    leadership: ArcSwap<Leadership>,
    settings: ArcSwap<PartitionSettings>,
    high_watermark: AtomicI64,
    followers: Mutex<BTreeMap<BrokerId, Follower>>,
    waiting: Mutex<Waiting>,
    /// The log failed or the partition is deleted; nothing is served any more.
    offline: AtomicBool,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("topic", &self.topic)
            .field("index", &self.index)
            .field("high_watermark", &self.high_watermark)
            .finish_non_exhaustive()
    }
}

/// What a replica is, fixed while it lives.
pub(crate) struct ReplicaParts {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: TopicId,
    pub(crate) index: PartitionIndex,
    pub(crate) node: BrokerId,
    pub(crate) log: Arc<Log>,
    pub(crate) directory: Arc<Directory>,
}

impl Replica {
    /// A replica over an open log; `high_watermark` is the checkpointed one, a lower bound.
    pub(crate) fn new(
        parts: ReplicaParts,
        settings: PartitionSettings,
        high_watermark: Offset,
    ) -> Replica {
        let nobody = Leadership {
            leader: None,
            is_leader: false,
            leader_epoch: LeaderEpoch::new(-1),
            replicas: Vec::new(),
            isr: Vec::new(),
            expanding: None,
            epoch_start: Offset::ZERO,
        };
        Replica {
            topic: parts.topic,
            topic_id: parts.topic_id,
            index: parts.index,
            log: parts.log,
            directory: parts.directory,
            gate: Semaphore::new(1),
            reading_ahead: AtomicBool::new(false),
            node: parts.node,
            leadership: ArcSwap::from_pointee(nobody),
            settings: ArcSwap::from_pointee(settings),
            high_watermark: AtomicI64::new(high_watermark.value()),
            followers: Mutex::new(BTreeMap::new()),
            waiting: Mutex::new(Waiting::default()),
            offline: AtomicBool::new(false),
        }
    }

    /// The role and ISR of the latest applied image.
    pub(crate) fn leadership(&self) -> Arc<Leadership> {
        self.leadership.load_full()
    }

    /// The topic's settings of the latest applied image.
    pub(crate) fn settings(&self) -> Arc<PartitionSettings> {
        self.settings.load_full()
    }

    /// Everything below is on all in-sync replicas; exclusive.
    pub(crate) fn high_watermark(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::Acquire))
    }

    /// Where read_committed stops: the high watermark, or the first open transaction below it.
    pub(crate) fn last_stable_offset(&self) -> Offset {
        let high_watermark = self.high_watermark();
        match self.log.last_stable_bound(high_watermark) {
            Some(bound) => bound.min(high_watermark),
            None => high_watermark,
        }
    }

    /// Whether the log can still be used.
    pub(crate) fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire) || self.log.is_failed()
    }

    /// Checks an epoch sent by a client, then leadership, in the order of records.md §8.6.
    ///
    /// # Errors
    /// `FencedLeaderEpoch`, `UnknownLeaderEpoch`, `NotLeader`, `Offline`.
    pub(crate) fn lead(
        &self,
        expected: Option<LeaderEpoch>,
    ) -> Result<Arc<Leadership>, PartitionError> {
        let leadership = self.check_epoch(expected)?;
        if !leadership.is_leader {
            return Err(PartitionError::NotLeader {
                leader_epoch: leadership.leader_epoch,
            });
        }
        Ok(leadership)
    }

    /// Checks an epoch sent by a client; any replica may answer.
    ///
    /// # Errors
    /// `FencedLeaderEpoch`, `UnknownLeaderEpoch`, `Offline`.
    pub(crate) fn check_epoch(
        &self,
        expected: Option<LeaderEpoch>,
    ) -> Result<Arc<Leadership>, PartitionError> {
        if self.is_offline() {
            return Err(PartitionError::Offline);
        }
        let leadership = self.leadership();
        let current = leadership.leader_epoch;
        match expected {
            Some(found) if found < current => {
                Err(PartitionError::FencedLeaderEpoch { found, current })
            }
            Some(found) if found > current => {
                Err(PartitionError::UnknownLeaderEpoch { found, current })
            }
            _ => Ok(leadership),
        }
    }

    /// The end that counts as stored here: durable under flush policy `ack`, else appended.
    pub(crate) fn acknowledgeable_end(&self) -> Offset {
        match self.settings.load().log.flush_policy {
            FlushPolicy::Ack => self.log.durable_end_offset(),
            FlushPolicy::Interval { .. } | FlushPolicy::Os => self.log.log_end_offset(),
        }
    }

    /// Smallest log start over the replicas that are alive as far as this leader knows.
    pub(crate) fn low_watermark(&self) -> Offset {
        let own = self.log.log_start_offset();
        let followers = self.followers.lock();
        followers
            .values()
            .map(|follower| follower.log_start)
            .fold(own, Ord::min)
    }

    /// Notes an append and moves the high watermark if that was all it waited for.
    ///
    /// Called in log order, by the holder of the gate.
    pub(crate) fn appended(&self, end: Offset, bytes: usize) {
        let mut waiting = self.waiting.lock();
        waiting.appended(end, bytes as u64);
        if !self.advance(&mut waiting) && self.high_watermark() >= end {
            // The flusher was faster than this note: what it freed has not been credited yet.
            waiting.high_watermark_moved(self.high_watermark());
        }
    }

    /// Recomputes the high watermark and tells everyone who waited for it.
    pub(crate) fn publish(&self) {
        let mut waiting = self.waiting.lock();
        self.advance(&mut waiting);
    }

    fn advance(&self, waiting: &mut Waiting) -> bool {
        let leadership = self.leadership.load();
        let min_isr = self.settings.load().min_insync_replicas;
        let followers = self.followers.lock();
        let target = high_watermark(
            &leadership,
            min_isr,
            self.node,
            self.acknowledgeable_end(),
            &[],
            |id| followers.get(&id).map(|follower| follower.log_end),
        );
        drop(followers);
        let Some(target) = target else { return false };
        let before = self
            .high_watermark
            .fetch_max(target.value(), Ordering::AcqRel);
        let moved = before < target.value();
        if moved {
            self.log.note_high_watermark(target);
            waiting.high_watermark_moved(target);
        }
        moved
    }

    /// Notes what a follower confirmed with an accepted fetch.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "followers' fetches come with replication")
    )]
    pub(crate) fn follower_fetched(&self, id: BrokerId, progress: Follower) {
        self.followers.lock().insert(id, progress);
        let mut waiting = self.waiting.lock();
        self.advance(&mut waiting);
        waiting.low_watermark_moved(self.low_watermark());
    }

    /// The log start moved up: fetches below it must learn, deletes may be done.
    pub(crate) fn log_start_moved(&self) {
        let low_watermark = self.low_watermark();
        let mut waiting = self.waiting.lock();
        waiting.low_watermark_moved(low_watermark);
        waiting.fetches_look();
    }

    /// Takes over role and ISR from a new image.
    ///
    /// # Errors
    /// What the log says when the epoch cannot be entered; the replica is offline then.
    pub(crate) fn apply(&self, mut next: Leadership) -> Result<(), PartitionError> {
        let before = self.leadership();
        let elected =
            next.is_leader && (!before.is_leader || before.leader_epoch != next.leader_epoch);
        next.epoch_start = before.epoch_start;
        if elected {
            // A leader enters its epoch before any append, so that followers can ask for its
            // start (replication.md §4).
            next.epoch_start = match self.log.enter_epoch(next.leader_epoch) {
                Ok(start) => start,
                Err(error) => {
                    self.go_offline();
                    return Err(error.into());
                }
            };
            self.followers.lock().clear();
        }
        let changed = before.leader_epoch != next.leader_epoch || before.leader != next.leader;
        self.leadership.store(Arc::new(next));
        let mut waiting = self.waiting.lock();
        if changed {
            waiting.everyone_looks();
        }
        self.advance(&mut waiting);
        Ok(())
    }

    /// Takes over the topic's settings; the log gets its part.
    pub(crate) fn configure(&self, settings: PartitionSettings) {
        self.log.set_config(settings.log.clone());
        self.settings.store(Arc::new(settings));
        // Another flush policy or minimum may free what was held back.
        self.publish();
    }

    /// Stops serving for good and lets every waiting request find out.
    pub(crate) fn go_offline(&self) {
        self.offline.store(true, Ordering::Release);
        self.waiting.lock().everyone_looks();
    }

    /// Registers a produce request that needs the high watermark at `end`.
    ///
    /// `epoch` is the one the batch was appended in: if it has passed, or the position is already
    /// reached, the request is decided at once.
    pub(crate) fn await_high_watermark(
        &self,
        end: Offset,
        epoch: LeaderEpoch,
        waiter: &Arc<Waiter>,
    ) {
        let mut waiting = self.waiting.lock();
        // Under the lock: whoever moves a position takes it afterwards and finds the entry.
        let over = self.high_watermark() >= end
            || self.is_offline()
            || self.leadership.load().leader_epoch != epoch;
        if over {
            drop(waiting);
            waiter.decided();
        } else {
            waiting.await_high_watermark(end, waiter);
        }
    }

    /// Registers a delete request that needs the low watermark at `target`.
    pub(crate) fn await_low_watermark(&self, target: Offset, waiter: &Arc<Waiter>) {
        let mut waiting = self.waiting.lock();
        if self.low_watermark() >= target || self.is_offline() {
            drop(waiting);
            waiter.decided();
        } else {
            waiting.await_low_watermark(target, waiter);
        }
    }

    /// Lets a fetch hear of this partition until the guard is dropped.
    ///
    /// What was published before the call is the caller's to read afterwards.
    pub(crate) fn subscribe(self: &Arc<Self>, subscription: Arc<Subscription>) -> Subscribed {
        self.waiting.lock().subscribe(Arc::clone(&subscription));
        Subscribed {
            replica: Arc::downgrade(self),
            subscription,
        }
    }

    /// How many fetches hear of this partition.
    #[cfg(test)]
    pub(crate) fn subscribers(&self) -> usize {
        self.waiting.lock().subscribers()
    }
}

/// A fetch's place in the list of a partition; dropping it leaves the list.
///
/// A session outlives its partitions: what is deleted must not keep its files for it.
#[derive(Debug)]
pub(crate) struct Subscribed {
    replica: Weak<Replica>,
    subscription: Arc<Subscription>,
}

impl Subscribed {
    /// Whether the subscription is with this very replica, not with an earlier one of its name.
    pub(crate) fn is_with(&self, replica: &Arc<Replica>) -> bool {
        std::ptr::eq(self.replica.as_ptr(), Arc::as_ptr(replica))
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        if let Some(replica) = self.replica.upgrade() {
            replica.waiting.lock().unsubscribe(&self.subscription);
        }
    }
}
