//! Describes topics page by page (KIP-966).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;
use crate::uuid::Uuid;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "0",
    flexible = "0+",
    key = DescribeTopicPartitions,
    response = DescribeTopicPartitionsResponse
)]
pub struct DescribeTopicPartitionsRequest {
    /// The topics.
    pub topics: Vec<TopicRequest>,
    /// The most partitions in the response.
    #[field(default = 2000)]
    pub response_partition_limit: i32,
    /// Where to continue; null to start.
    #[field(nullable = "0+", default = null)]
    pub cursor: Option<RequestCursor>,
}

/// A topic to describe.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct TopicRequest {
    /// The topic's name.
    pub name: Str,
}

/// A position in the sorted list of partitions.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(name = "Cursor")]
pub struct RequestCursor {
    /// The topic's name.
    pub topic_name: Str,
    /// The index of the first partition to list.
    pub partition_index: i32,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct DescribeTopicPartitionsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    #[field(ignorable)]
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<DescribeTopicPartitionsResponseTopic>,
    /// Where the next page starts; null after the last.
    #[field(nullable = "0+", default = null)]
    pub next_cursor: Option<ResponseCursor>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribeTopicPartitionsResponseTopic {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The topic's name.
    #[field(nullable = "0+")]
    pub name: Option<Str>,
    /// The topic's id.
    #[field(ignorable)]
    pub topic_id: Uuid,
    /// Whether the broker keeps its own state in the topic.
    #[field(ignorable)]
    pub is_internal: bool,
    /// The partitions.
    pub partitions: Vec<DescribeTopicPartitionsResponsePartition>,
    /// Operations on the topic the caller may do, as a bit field; -2147483648 when not asked for.
    #[field(default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribeTopicPartitionsResponsePartition {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The partition's index.
    pub partition_index: i32,
    /// The leader's node id; -1 none.
    pub leader_id: i32,
    /// The leader epoch; -1 unknown.
    #[field(default = -1, ignorable)]
    pub leader_epoch: i32,
    /// The brokers that hold a replica, preferred leader first.
    pub replica_nodes: Vec<i32>,
    /// The brokers in sync with the leader, itself included.
    pub isr_nodes: Vec<i32>,
    /// Replicas that may lead though outside the ISR (KIP-966).
    #[field(nullable = "0+", default = null)]
    pub eligible_leader_replicas: Option<Vec<i32>>,
    /// The eligible leader replicas last known (KIP-966).
    #[field(nullable = "0+", default = null)]
    pub last_known_elr: Option<Vec<i32>>,
    /// Replicas on brokers that are down.
    #[field(ignorable)]
    pub offline_replicas: Vec<i32>,
}

/// A position in the sorted list of partitions.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(name = "Cursor")]
pub struct ResponseCursor {
    /// The topic's name.
    pub topic_name: Str,
    /// The index of the first partition to list.
    pub partition_index: i32,
}
