//! Reads the committed offsets of groups.
//!
//! Versions: 2 all partitions; 5 leader epochs (KIP-320); 6 flexible; 7 stable offsets (KIP-447); 8
//! several groups (KIP-709); 9 consumer groups (KIP-848); 10 topic ids (KIP-848).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;
use crate::uuid::Uuid;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "1-10", flexible = "6+", key = OffsetFetch, response = OffsetFetchResponse)]
pub struct OffsetFetchRequest {
    /// The group's id. Up to version 7.
    #[field(versions = "0-7")]
    pub group_id: Str,
    /// The partitions wanted; null for all. Up to version 7.
    #[field(versions = "0-7", nullable = "2-7")]
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    /// The groups. Since version 8.
    #[field(versions = "8+")]
    pub groups: Vec<OffsetFetchRequestGroup>,
    /// Whether to refuse offsets that a transaction still decides over (KIP-447). Since version 7.
    #[field(versions = "7+")]
    pub require_stable: bool,
}

/// A topic whose offsets are wanted.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetFetchRequestTopic {
    /// The topic's name. Up to version 7.
    #[field(versions = "0-7")]
    pub name: Str,
    /// The partitions' indexes. Up to version 7.
    #[field(versions = "0-7")]
    pub partition_indexes: Vec<i32>,
}

/// A group whose offsets are wanted.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetFetchRequestGroup {
    /// The group's id. Since version 8.
    #[field(versions = "8+")]
    pub group_id: Str,
    /// The member's id. Since version 9.
    #[field(versions = "9+", nullable = "9+", default = null, ignorable)]
    pub member_id: Option<Str>,
    /// The member's epoch. Since version 9.
    #[field(versions = "9+", default = -1, ignorable)]
    pub member_epoch: i32,
    /// The partitions wanted; null for all. Since version 8.
    #[field(versions = "8+", nullable = "8+")]
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
}

/// A topic whose offsets are wanted.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetFetchRequestTopics {
    /// The topic's name. Versions 8 to 9.
    #[field(versions = "8-9", ignorable)]
    pub name: Str,
    /// The topic's id. Since version 10.
    #[field(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// The partitions' indexes. Since version 8.
    #[field(versions = "8+")]
    pub partition_indexes: Vec<i32>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "1-10", flexible = "6+")]
pub struct OffsetFetchResponse {
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 3.
    #[field(versions = "3+", ignorable)]
    pub throttle_time_ms: i32,
    /// The topics. Up to version 7.
    #[field(versions = "0-7")]
    pub topics: Vec<OffsetFetchResponseTopic>,
    /// The error, or NONE. Versions 2 to 7.
    #[field(versions = "2-7", ignorable)]
    pub error_code: ErrorCode,
    /// The groups. Since version 8.
    #[field(versions = "8+")]
    pub groups: Vec<OffsetFetchResponseGroup>,
}

/// The offsets of one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetFetchResponseTopic {
    /// The topic's name. Up to version 7.
    #[field(versions = "0-7")]
    pub name: Str,
    /// The partitions. Up to version 7.
    #[field(versions = "0-7")]
    pub partitions: Vec<OffsetFetchResponsePartition>,
}

/// The offset of one partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetFetchResponsePartition {
    /// The partition's index. Up to version 7.
    #[field(versions = "0-7")]
    pub partition_index: i32,
    /// The next offset to consume; -1 when none is committed. Up to version 7.
    #[field(versions = "0-7")]
    pub committed_offset: i64,
    /// The leader epoch of the last consumed record; -1 unknown. Versions 5 to 7.
    #[field(versions = "5-7", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    /// Text the client kept beside the offset. Up to version 7.
    #[field(versions = "0-7", nullable = "0-7")]
    pub metadata: Option<Str>,
    /// The error, or NONE. Up to version 7.
    #[field(versions = "0-7")]
    pub error_code: ErrorCode,
}

/// The offsets of one group.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetFetchResponseGroup {
    /// The group's id. Since version 8.
    #[field(versions = "8+")]
    pub group_id: Str,
    /// The topics. Since version 8.
    #[field(versions = "8+")]
    pub topics: Vec<OffsetFetchResponseTopics>,
    /// The error, or NONE. Since version 8.
    #[field(versions = "8+")]
    pub error_code: ErrorCode,
}

/// The offsets of one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetFetchResponseTopics {
    /// The topic's name. Versions 8 to 9.
    #[field(versions = "8-9", ignorable)]
    pub name: Str,
    /// The topic's id. Since version 10.
    #[field(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// The partitions. Since version 8.
    #[field(versions = "8+")]
    pub partitions: Vec<OffsetFetchResponsePartitions>,
}

/// The offset of one partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct OffsetFetchResponsePartitions {
    /// The partition's index. Since version 8.
    #[field(versions = "8+")]
    pub partition_index: i32,
    /// The next offset to consume; -1 when none is committed. Since version 8.
    #[field(versions = "8+")]
    pub committed_offset: i64,
    /// The leader epoch of the last consumed record; -1 unknown. Since version 8.
    #[field(versions = "8+", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    /// Text the client kept beside the offset. Since version 8.
    #[field(versions = "8+", nullable = "8+")]
    pub metadata: Option<Str>,
    /// The error, or NONE. Since version 8.
    #[field(versions = "8+")]
    pub error_code: ErrorCode,
}
