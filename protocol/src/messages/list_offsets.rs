//! Finds offsets by timestamp.
//!
//! Versions: 1 one offset per partition (KIP-79); 2 isolation levels (KIP-98); 4 leader epochs
//! (KIP-320); 6 flexible; 7 highest timestamp (KIP-734); 8 and 9 tiered storage (KIP-405); 10
//! timeout (KIP-1075); 11 earliest pending upload (KIP-1023).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "1-11", flexible = "6+", key = ListOffsets, response = ListOffsetsResponse)]
pub struct ListOffsetsRequest {
    /// The follower's node id; -1 from a consumer.
    pub replica_id: i32,
    /// What is visible: 0 read_uncommitted, 1 read_committed. Since version 2.
    #[field(versions = "2+")]
    pub isolation_level: i8,
    /// The topics.
    pub topics: Vec<ListOffsetsTopic>,
    /// Milliseconds the broker may take. Since version 10.
    #[field(versions = "10+", ignorable)]
    pub timeout_ms: i32,
}

/// A topic to search.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct ListOffsetsTopic {
    /// The topic's name.
    pub name: Str,
    /// The partitions.
    pub partitions: Vec<ListOffsetsPartition>,
}

/// A partition to search.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct ListOffsetsPartition {
    /// The partition's index.
    pub partition_index: i32,
    /// The leader epoch the client knows, to detect a stale view (KIP-320); -1 unknown. Since
    /// version 4.
    #[field(versions = "4+", default = -1, ignorable)]
    pub current_leader_epoch: i32,
    /// Milliseconds since 1970, or -1 latest, -2 earliest, -3 highest timestamp, -4 earliest local,
    /// -5 latest tiered, -6 earliest pending upload.
    pub timestamp: i64,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "1-11", flexible = "6+")]
pub struct ListOffsetsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 2.
    #[field(versions = "2+", ignorable)]
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<ListOffsetsTopicResponse>,
}

/// What was found in one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct ListOffsetsTopicResponse {
    /// The topic's name.
    pub name: Str,
    /// The partitions.
    pub partitions: Vec<ListOffsetsPartitionResponse>,
}

/// What was found in one partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct ListOffsetsPartitionResponse {
    /// The partition's index.
    pub partition_index: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// Milliseconds since 1970; -1 none.
    #[field(versions = "1+", default = -1)]
    pub timestamp: i64,
    /// The offset.
    #[field(versions = "1+", default = -1)]
    pub offset: i64,
    /// The leader epoch; -1 unknown. Since version 4.
    #[field(versions = "4+", default = -1)]
    pub leader_epoch: i32,
}
