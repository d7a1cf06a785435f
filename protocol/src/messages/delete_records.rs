//! Moves the log start offset forward (KIP-107).
//!
//! Versions: 2 flexible.

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-2", flexible = "2+", key = DeleteRecords, response = DeleteRecordsResponse)]
pub struct DeleteRecordsRequest {
    /// The topics.
    pub topics: Vec<DeleteRecordsTopic>,
    /// Milliseconds the broker may take.
    pub timeout_ms: i32,
}

/// A topic to cut.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DeleteRecordsTopic {
    /// The topic's name.
    pub name: Str,
    /// The partitions.
    pub partitions: Vec<DeleteRecordsPartition>,
}

/// A partition to cut.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DeleteRecordsPartition {
    /// The partition's index.
    pub partition_index: i32,
    /// The new log start offset; -1 for the high watermark.
    pub offset: i64,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-2", flexible = "2+")]
pub struct DeleteRecordsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<DeleteRecordsTopicResult>,
}

/// The outcome for one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DeleteRecordsTopicResult {
    /// The topic's name.
    pub name: Str,
    /// The partitions.
    pub partitions: Vec<DeleteRecordsPartitionResult>,
}

/// The outcome for one partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DeleteRecordsPartitionResult {
    /// The partition's index.
    pub partition_index: i32,
    /// The log start offset afterwards; -1 on error.
    pub low_watermark: i64,
    /// The error, or NONE.
    pub error_code: ErrorCode,
}
