//! Finds where a leader epoch ended, to detect truncation.
//!
//! Versions: 2 the client's own epoch (KIP-320); 3 replica id; 4 flexible.

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "2-4",
    flexible = "4+",
    key = OffsetForLeaderEpoch,
    response = OffsetForLeaderEpochResponse
)]
pub struct OffsetForLeaderEpochRequest {
    /// The follower's node id; -1 from a consumer, -2 for debugging. Since version 3.
    #[field(versions = "3+", default = -2, ignorable)]
    pub replica_id: i32,
    /// The topics.
    pub topics: Vec<OffsetForLeaderTopic>,
}

/// A topic to search.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetForLeaderTopic {
    /// The topic's name.
    pub topic: Str,
    /// The partitions.
    pub partitions: Vec<OffsetForLeaderPartition>,
}

/// A partition to search.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetForLeaderPartition {
    /// The partition's index.
    pub partition: i32,
    /// The leader epoch the client knows, to detect a stale view (KIP-320); -1 unknown.
    #[field(versions = "2+", default = -1, ignorable)]
    pub current_leader_epoch: i32,
    /// The leader epoch whose end is wanted.
    pub leader_epoch: i32,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "2-4", flexible = "4+")]
pub struct OffsetForLeaderEpochResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    #[field(versions = "2+", ignorable)]
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<OffsetForLeaderTopicResult>,
}

/// What was found in one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetForLeaderTopicResult {
    /// The topic's name.
    pub topic: Str,
    /// The partitions.
    pub partitions: Vec<EpochEndOffset>,
}

/// Where a leader epoch ended.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct EpochEndOffset {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The partition's index.
    pub partition: i32,
    /// The leader epoch; -1 unknown.
    #[field(versions = "1+", default = -1, ignorable)]
    pub leader_epoch: i32,
    /// The end offset (exclusive); -1 unknown.
    #[field(default = -1)]
    pub end_offset: i64,
}
