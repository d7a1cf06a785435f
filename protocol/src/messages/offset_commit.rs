//! Commits offsets of a group.
//!
//! Versions: 5 no retention time (KIP-211); 6 leader epochs (KIP-320); 7 static members (KIP-345);
//! 8 flexible; 9 consumer groups (KIP-848); 10 topic ids (KIP-848).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;
use crate::uuid::Uuid;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "2-10", flexible = "8+", key = OffsetCommit, response = OffsetCommitResponse)]
pub struct OffsetCommitRequest {
    /// The group's id.
    pub group_id: Str,
    /// The generation of a classic group or the member's epoch in a consumer group; -1 outside of
    /// groups.
    #[field(versions = "1+", default = -1, ignorable)]
    pub generation_id_or_member_epoch: i32,
    /// The member's id.
    #[field(versions = "1+", ignorable)]
    pub member_id: Str,
    /// The id of a static member (KIP-345); null for a dynamic one. Since version 7.
    #[field(versions = "7+", nullable = "7+", default = null)]
    pub group_instance_id: Option<Str>,
    /// Milliseconds to keep the offsets; -1 for the broker's setting. Up to version 4.
    #[field(versions = "2-4", default = -1, ignorable)]
    pub retention_time_ms: i64,
    /// The topics.
    pub topics: Vec<OffsetCommitRequestTopic>,
}

/// A topic's offsets to commit.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetCommitRequestTopic {
    /// The topic's name. Up to version 9.
    #[field(versions = "0-9", ignorable)]
    pub name: Str,
    /// The topic's id. Since version 10.
    #[field(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<OffsetCommitRequestPartition>,
}

/// An offset to commit.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetCommitRequestPartition {
    /// The partition's index.
    pub partition_index: i32,
    /// The next offset to consume; -1 when none is committed.
    pub committed_offset: i64,
    /// The leader epoch of the last consumed record; -1 unknown. Since version 6.
    #[field(versions = "6+", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    /// Text the client keeps beside the offset.
    #[field(nullable = "0+")]
    pub committed_metadata: Option<Str>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "2-10", flexible = "8+")]
pub struct OffsetCommitResponse {
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 3.
    #[field(versions = "3+", ignorable)]
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<OffsetCommitResponseTopic>,
}

/// The outcome for one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetCommitResponseTopic {
    /// The topic's name. Up to version 9.
    #[field(versions = "0-9", ignorable)]
    pub name: Str,
    /// The topic's id. Since version 10.
    #[field(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<OffsetCommitResponsePartition>,
}

/// The outcome for one partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetCommitResponsePartition {
    /// The partition's index.
    pub partition_index: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
}
