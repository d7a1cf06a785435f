//! A partition opened with a right: what the holder of a grant may do with it.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use palisade_auth::grant::{Delete, Describe, Read, Write};
use palisade_auth::principal::Principal;
use palisade_protocol::types::{LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicId};
use palisade_storage::{Appended, EpochEnd, TimestampOffset};

use super::append::append;
use super::error::PartitionError;
use super::isr::Leadership;
use super::read::{ReadLimits, ReadOutcome, read};
use super::ready::Subscription;
use super::replica::{Replica, Subscribed};
use super::settings::PartitionSettings;
use super::validate::refusal::Refusal;
use super::validate::{Judged, Place, ValidBatch, validate};
use super::waiter::Waiter;

/// A replica on this node, opened for the operation `O` (design.md, "Grants").
///
/// Only [`super::ReplicaManager::partition`] makes one, from a grant for this very topic.
#[derive(Debug)]
pub struct Partition<O> {
    replica: Arc<Replica>,
    operation: PhantomData<fn() -> O>,
}

impl<O> Clone for Partition<O> {
    fn clone(&self) -> Self {
        Partition::new(Arc::clone(&self.replica))
    }
}

impl<O> Partition<O> {
    pub(crate) fn new(replica: Arc<Replica>) -> Partition<O> {
        Partition {
            replica,
            operation: PhantomData,
        }
    }

    /// The topic's id.
    pub fn topic_id(&self) -> TopicId {
        self.replica.topic_id
    }

    /// The partition's index in its topic.
    pub fn index(&self) -> PartitionIndex {
        self.replica.index
    }

    /// The leader epoch of the latest applied image.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.replica.leadership().leader_epoch
    }

    /// First readable offset.
    pub fn log_start_offset(&self) -> Offset {
        self.replica.log.log_start_offset()
    }

    /// Next offset to assign, exclusive end of the log.
    pub fn log_end_offset(&self) -> Offset {
        self.replica.log.log_end_offset()
    }

    /// Everything below is on all in-sync replicas; exclusive.
    pub fn high_watermark(&self) -> Offset {
        self.replica.high_watermark()
    }

    /// End of what read_committed may see; exclusive.
    pub fn last_stable_offset(&self) -> Offset {
        self.replica.last_stable_offset()
    }

    /// Checks the client's leader epoch, then that this node leads (records.md §8.6).
    ///
    /// # Errors
    /// `FencedLeaderEpoch`, `UnknownLeaderEpoch`, `NotLeader`, `Offline`.
    pub(crate) fn lead(
        &self,
        expected: Option<LeaderEpoch>,
    ) -> Result<Arc<Leadership>, PartitionError> {
        self.replica.lead(expected)
    }

    /// Checks the client's leader epoch; any replica may answer.
    ///
    /// # Errors
    /// `FencedLeaderEpoch`, `UnknownLeaderEpoch`, `Offline`.
    pub(crate) fn check_epoch(
        &self,
        expected: Option<LeaderEpoch>,
    ) -> Result<Arc<Leadership>, PartitionError> {
        self.replica.check_epoch(expected)
    }

    /// The role and ISR of the latest applied image.
    pub(crate) fn leadership(&self) -> Arc<Leadership> {
        self.replica.leadership()
    }

    /// The topic's settings.
    pub(crate) fn settings(&self) -> Arc<PartitionSettings> {
        self.replica.settings()
    }
}

impl Partition<Write> {
    /// Judges one batch by the topic's rules and rewrites it where they ask for it.
    ///
    /// `batch`: exactly one encoded RecordBatch v2 (KIP-98) with base offset 0, as received. Waits
    /// where records must be opened, which helper threads do in turns.
    ///
    /// `user`: who sends it, among whose batches this one has its turn, and its log that at a sync.
    ///
    /// # Errors
    /// [`Refusal`], with Kafka's code and texts (records.md §4, steps 4 to 8).
    pub async fn check(
        &self,
        batch: Bytes,
        now: TimestampMs,
        user: &Principal,
    ) -> Result<ValidBatch, Refusal> {
        let place = Place {
            topic: &self.replica.topic,
            index: self.replica.index.value(),
        };
        let judged = validate(batch, &self.replica.settings().records, now, place)?;
        let batch = match judged {
            Judged::Valid(batch) => batch,
            Judged::Unopened(opening) => {
                let opener = self.replica.directory.opener();
                opener.open(user, opening).await?
            }
        };
        Ok(batch.sent_by(user))
    }

    /// Appends one checked batch in `epoch` and says where it landed.
    ///
    /// Batches land in the order of the calls. A dropped call has either not begun to write, or
    /// writes the whole batch.
    ///
    /// # Errors
    /// `NotLeader` when the epoch passed, `Storage` for what the log refused.
    pub async fn append(
        &self,
        batch: ValidBatch,
        epoch: LeaderEpoch,
        now: TimestampMs,
    ) -> Result<Appended, PartitionError> {
        append(&self.replica, batch, epoch, now).await
    }

    /// Lets `waiter` know when the high watermark reaches `end` or cannot in `epoch` any more.
    pub(crate) fn await_high_watermark(
        &self,
        end: Offset,
        epoch: LeaderEpoch,
        waiter: &Arc<Waiter>,
    ) {
        self.replica.await_high_watermark(end, epoch, waiter);
    }
}

impl Partition<Read> {
    /// Plans a read of whole batches from `from`, below the limit of the isolation level.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the log start or above the log end, `Storage` for damage.
    pub async fn read(
        &self,
        from: Offset,
        limits: ReadLimits,
    ) -> Result<ReadOutcome, PartitionError> {
        read(&self.replica, from, limits).await
    }

    /// Where a leader epoch ends, for the divergence check of a fetch (KIP-595).
    pub(crate) fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        self.replica.log.epoch_end(epoch)
    }

    /// Lets a fetch hear of this partition until the guard is dropped.
    pub(crate) fn subscribe(&self, subscription: Arc<Subscription>) -> Subscribed {
        self.replica.subscribe(subscription)
    }

    /// Whether the guard is with this very replica.
    pub(crate) fn is_subscribed(&self, guard: &Subscribed) -> bool {
        guard.is_with(&self.replica)
    }
}

impl Partition<Describe> {
    /// Where a leader epoch ends (OffsetForLeaderEpoch).
    pub(crate) fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        self.replica.log.epoch_end(epoch)
    }

    /// Epoch of the record at `offset`, where known.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.replica.log.epoch_at(offset)
    }

    /// First record with a timestamp at or above `timestamp` below `up_to`, on a helper thread.
    ///
    /// `user`: who asks, among whose look-ups this one has its turn.
    ///
    /// # Errors
    /// `Storage` for damage and disk errors, `Offline`.
    pub(crate) async fn find_by_timestamp(
        &self,
        timestamp: TimestampMs,
        up_to: Offset,
        user: &Principal,
    ) -> Result<Option<TimestampOffset>, PartitionError> {
        let log = Arc::clone(&self.replica.log);
        let find = move || log.find_by_timestamp(timestamp, up_to);
        Ok(self
            .replica
            .directory
            .opener()
            .look_up(user, find)
            .await??)
    }

    /// First record that carries the largest timestamp below `up_to`, on a helper thread.
    ///
    /// `user`: as for [`Self::find_by_timestamp`].
    ///
    /// # Errors
    /// `Storage` for damage and disk errors, `Offline`.
    pub(crate) async fn max_timestamp(
        &self,
        up_to: Offset,
        user: &Principal,
    ) -> Result<Option<TimestampOffset>, PartitionError> {
        let log = Arc::clone(&self.replica.log);
        let find = move || log.max_timestamp(up_to);
        Ok(self
            .replica
            .directory
            .opener()
            .look_up(user, find)
            .await??)
    }
}

impl Partition<Delete> {
    /// Raises the log start to `target`, at most the high watermark; on the disk thread.
    ///
    /// # Errors
    /// `OffsetOutOfRange` above the high watermark, `Storage`, `Offline`.
    pub(crate) async fn delete_records_before(&self, target: Offset) -> Result<(), PartitionError> {
        let high_watermark = self.replica.high_watermark();
        if target > high_watermark {
            return Err(PartitionError::OffsetOutOfRange {
                requested: target,
                start: self.log_start_offset(),
                end: high_watermark,
            });
        }
        // Also below the log start, which may be raised in memory and not stored yet.
        let replica = Arc::clone(&self.replica);
        let delete = move || {
            let done = replica.log.delete_records_before(target);
            replica.log_start_moved();
            done
        };
        self.replica.directory.run(delete).await??;
        Ok(())
    }

    /// Smallest log start over the live replicas.
    pub(crate) fn low_watermark(&self) -> Offset {
        self.replica.low_watermark()
    }

    /// Lets `waiter` know when the low watermark reaches `target`.
    pub(crate) fn await_low_watermark(&self, target: Offset, waiter: &Arc<Waiter>) {
        self.replica.await_low_watermark(target, waiter);
    }
}
