//! Joins, keeps alive and leaves a consumer group (KIP-848).
//!
//! Versions: 1 regular expressions and member ids made by clients (KIP-1082).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;
use crate::uuid::Uuid;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "0-1",
    flexible = "0+",
    key = ConsumerGroupHeartbeat,
    response = ConsumerGroupHeartbeatResponse
)]
pub struct ConsumerGroupHeartbeatRequest {
    /// The group's id.
    pub group_id: Str,
    /// The member's id.
    pub member_id: Str,
    /// The member's epoch; 0 joins, -1 leaves, -2 leaves for a while as a static member.
    pub member_epoch: i32,
    /// The id of a static member; null for a dynamic one.
    #[field(nullable = "0+", default = null)]
    pub instance_id: Option<Str>,
    /// The client's rack.
    #[field(nullable = "0+", default = null)]
    pub rack_id: Option<Str>,
    /// Milliseconds the member may take to give up partitions; -1 when unchanged.
    #[field(default = -1)]
    pub rebalance_timeout_ms: i32,
    /// The topics subscribed to by name; null when unchanged.
    #[field(nullable = "0+", default = null)]
    pub subscribed_topic_names: Option<Vec<Str>>,
    /// The expression subscribed to; null when unchanged. Since version 1.
    #[field(versions = "1+", nullable = "1+", default = null)]
    pub subscribed_topic_regex: Option<Str>,
    /// The assignor wanted; null when unchanged or left to the broker.
    #[field(nullable = "0+", default = null)]
    pub server_assignor: Option<Str>,
    /// What the member owns; null when unchanged.
    #[field(nullable = "0+", default = null)]
    pub topic_partitions: Option<Vec<RequestTopicPartitions>>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(name = "TopicPartitions")]
pub struct RequestTopicPartitions {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-1", flexible = "0+")]
pub struct ConsumerGroupHeartbeatResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+", default = null)]
    pub error_message: Option<Str>,
    /// The member's id.
    #[field(nullable = "0+", default = null)]
    pub member_id: Option<Str>,
    /// The member's epoch.
    pub member_epoch: i32,
    /// Milliseconds until the next heartbeat is due.
    pub heartbeat_interval_ms: i32,
    /// What the member is to own; null when unchanged.
    #[field(nullable = "0+", default = null)]
    pub assignment: Option<Assignment>,
}

/// The partitions of one member.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct Assignment {
    /// The partitions, per topic.
    pub topic_partitions: Vec<ResponseTopicPartitions>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(name = "TopicPartitions")]
pub struct ResponseTopicPartitions {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}
