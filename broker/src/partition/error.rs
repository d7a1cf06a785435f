//! What can go wrong between a request and a partition.

use palisade_protocol::ErrorCode;
use palisade_protocol::types::{LeaderEpoch, Offset};
use palisade_storage::StorageError;

/// Why a partition did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PartitionError {
    /// This node has no replica of the partition, or not yet.
    #[error("no replica of the partition on this node")]
    NotHosted,
    /// The replica belongs to another topic of the same name (KIP-516).
    #[error("the local replica belongs to another topic id")]
    InconsistentTopicId,
    /// The replica exists but another node leads, or none.
    #[error("not the leader in epoch {leader_epoch}")]
    NotLeader {
        /// The epoch this node knows.
        leader_epoch: LeaderEpoch,
    },
    /// The caller's leader epoch is older than ours (KIP-320).
    #[error("leader epoch {found} is older than {current}")]
    FencedLeaderEpoch {
        /// The epoch the caller sent.
        found: LeaderEpoch,
        /// The epoch this node knows.
        current: LeaderEpoch,
    },
    /// The caller's leader epoch is newer than ours: this node lags (KIP-320).
    #[error("leader epoch {found} is newer than {current}")]
    UnknownLeaderEpoch {
        /// The epoch the caller sent.
        found: LeaderEpoch,
        /// The epoch this node knows.
        current: LeaderEpoch,
    },
    /// An offset outside what may be read or deleted.
    #[error("offset {requested} is outside [{start}, {end}]")]
    OffsetOutOfRange {
        /// The offset asked for.
        requested: Offset,
        /// Log start offset.
        start: Offset,
        /// The bound that applies, exclusive.
        end: Offset,
    },
    /// A new leader does not know yet how far its epoch is committed (records.md §9).
    #[error("the high watermark has not reached the start of the leader epoch")]
    OffsetNotAvailable,
    /// Too few replicas are in sync to acknowledge a write of the broker itself.
    #[error("too few replicas are in sync")]
    TooFewInSync,
    /// The log's disk failed, or the partition is being deleted.
    #[error("the log is offline")]
    Offline,
    /// The log refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl PartitionError {
    /// The code a client gets; no wildcard, so that a new cause needs a decision.
    pub fn code(&self) -> ErrorCode {
        match self {
            PartitionError::NotHosted | PartitionError::NotLeader { .. } => {
                ErrorCode::NOT_LEADER_OR_FOLLOWER
            }
            PartitionError::InconsistentTopicId => ErrorCode::INCONSISTENT_TOPIC_ID,
            PartitionError::FencedLeaderEpoch { .. } => ErrorCode::FENCED_LEADER_EPOCH,
            PartitionError::UnknownLeaderEpoch { .. } => ErrorCode::UNKNOWN_LEADER_EPOCH,
            PartitionError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            PartitionError::OffsetNotAvailable => ErrorCode::OFFSET_NOT_AVAILABLE,
            PartitionError::TooFewInSync => ErrorCode::NOT_ENOUGH_REPLICAS,
            PartitionError::Offline => ErrorCode::KAFKA_STORAGE_ERROR,
            PartitionError::Storage(error) => storage_code(error),
        }
    }
}

/// The code of a log's refusal.
pub(crate) fn storage_code(error: &StorageError) -> ErrorCode {
    match error {
        StorageError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        StorageError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        StorageError::InvalidProducerEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
        StorageError::InvalidTxnState { .. } => ErrorCode::INVALID_TXN_STATE,
        StorageError::TransactionCoordinatorFenced { .. } => {
            ErrorCode::TRANSACTION_COORDINATOR_FENCED
        }
        StorageError::Corrupt { .. } | StorageError::InvalidBatch { .. } => {
            ErrorCode::CORRUPT_MESSAGE
        }
        StorageError::RecordBatchTooLarge { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
        // The log is older than the role: whoever leads now has the newer epoch.
        StorageError::FencedEpoch { .. } => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        StorageError::DiskFull { .. }
        | StorageError::Io { .. }
        | StorageError::Poisoned
        | StorageError::Offline
        | StorageError::OffsetMismatch { .. }
        | StorageError::Locked { .. }
        | StorageError::MetaMismatch { .. }
        | StorageError::MetaMissing { .. }
        | StorageError::RecordsGone { .. }
        | StorageError::NodeMismatch { .. }
        | StorageError::TopicIdMismatch { .. }
        | StorageError::FormatTooNew { .. }
        | StorageError::BadFile { .. }
        | StorageError::IncoherentMapping { .. }
        | StorageError::BadName(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}
