//! The broker's own partitions: what coordinators do to the topics they keep their state in.

use std::sync::Arc;

use bytes::BytesMut;
use palisade_protocol::types::{LeaderEpoch, Offset, PartitionIndex, TimestampMs};
use tokio::time::Instant;

use super::append::append;
use super::error::PartitionError;
use super::replica::Replica;
use super::replica_manager::ReplicaManager;
use super::validate::ValidBatch;
use super::waiter::Waiter;
use crate::metadata::Internal;

/// A replica opened by the broker itself: no grant, but a token that no client's request carries.
#[derive(Clone, Debug)]
pub(crate) struct OwnPartition {
    replica: Arc<Replica>,
}

impl ReplicaManager {
    /// Opens a partition of one of the broker's own topics.
    ///
    /// # Errors
    /// `NotHosted` where this node has no such replica, `Offline` where its log failed.
    pub(crate) fn own_partition(
        &self,
        _token: &Internal,
        topic: &str,
        index: PartitionIndex,
    ) -> Result<OwnPartition, PartitionError> {
        let replica = self.replica(topic, index)?;
        Ok(OwnPartition { replica })
    }
}

impl OwnPartition {
    /// Next offset to assign, exclusive end of the log.
    pub(crate) fn log_end_offset(&self) -> Offset {
        self.replica.log.log_end_offset()
    }

    /// First offset of the log.
    pub(crate) fn log_start_offset(&self) -> Offset {
        self.replica.log.log_start_offset()
    }

    /// Largest batch that the log takes, in bytes.
    pub(crate) fn max_batch_bytes(&self) -> usize {
        let rules = &self.replica.settings().records;
        rules.max_message_bytes.min(rules.segment_bytes)
    }

    /// Whether this node leads in this very epoch, with enough replicas to acknowledge a write.
    ///
    /// # Errors
    /// `NotLeader`, `Offline`, `TooFewInSync`.
    pub(crate) fn check_writable(&self, epoch: LeaderEpoch) -> Result<(), PartitionError> {
        let leadership = self.replica.lead(None)?;
        if leadership.leader_epoch != epoch {
            return Err(PartitionError::NotLeader {
                leader_epoch: leadership.leader_epoch,
            });
        }
        let fewest = self.replica.settings().min_insync_replicas;
        if !leadership.enough_in_sync(fewest) {
            return Err(PartitionError::TooFewInSync);
        }
        Ok(())
    }

    /// Appends one batch in `epoch`; gives the log end offset after it.
    ///
    /// # Errors
    /// `NotLeader`, `Offline`, `TooFewInSync`, `Storage`.
    pub(crate) async fn append(
        &self,
        batch: BytesMut,
        epoch: LeaderEpoch,
        now: TimestampMs,
    ) -> Result<Offset, PartitionError> {
        self.check_writable(epoch)?;
        let batch = ValidBatch::built(batch.freeze());
        let appended = append(&self.replica, batch, epoch, now).await?;
        Ok(appended.log_end_offset)
    }

    /// Waits until everything below `end` is on all in-sync replicas.
    ///
    /// # Errors
    /// `NotLeader` when `epoch` passed meanwhile, `Offline`, `TooFewInSync` at the deadline.
    pub(crate) async fn replicated(
        &self,
        end: Offset,
        epoch: LeaderEpoch,
        deadline: Instant,
    ) -> Result<(), PartitionError> {
        if self.replica.high_watermark() >= end {
            return Ok(());
        }
        let waiter = Waiter::new(1);
        self.replica.await_high_watermark(end, epoch, &waiter);
        waiter.wait(deadline).await;
        if self.replica.high_watermark() >= end {
            return Ok(());
        }
        let leadership = self.replica.lead(None)?;
        if leadership.leader_epoch != epoch {
            return Err(PartitionError::NotLeader {
                leader_epoch: leadership.leader_epoch,
            });
        }
        Err(PartitionError::TooFewInSync)
    }

    /// Hands whole batches from `from` on to `work`, on the directory's thread.
    ///
    /// `max_bytes` is exceeded by a first batch that is larger. `work` gets no bytes at the end.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the log start, `Storage` for damage and disk errors, `Offline`.
    pub(crate) async fn read_with<T: Send + 'static>(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        work: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<T, PartitionError> {
        let log = Arc::clone(&self.replica.log);
        let job = move || {
            let found = log.read(from, up_to, max_bytes, true)?;
            let Some(slice) = &found.slice else {
                return Ok(work(&[]));
            };
            // A page that cannot be read is an error here, and would be a signal when touched.
            let read = slice.make_resident(0..slice.len());
            if let Err(error) = read {
                tracing::error!(%error, "own partition not readable");
                return Err(PartitionError::Offline);
            }
            Ok(work(slice.as_ref()))
        };
        self.replica.directory.run(job).await?
    }

    /// The same with the damage at `from` where all that is wrong are leader epochs, on which no
    /// record of a broker's own topic depends; `None` where it is more.
    ///
    /// `work` gets the offset behind the damage too.
    ///
    /// # Errors
    /// `Storage` for disk errors, `Offline`.
    pub(crate) async fn read_contradicted<T: Send + 'static>(
        &self,
        from: Offset,
        work: impl FnOnce(&[u8], Offset) -> T + Send + 'static,
    ) -> Result<Option<T>, PartitionError> {
        let log = Arc::clone(&self.replica.log);
        let job = move || {
            let found = log.read_contradicted(from)?;
            Ok(found.map(|(bytes, to)| work(&bytes, to)))
        };
        self.replica.directory.run(job).await?
    }
}
