//! Adds partitions to topics (KIP-195).
//!
//! Versions: 2 flexible; 3 quota errors (KIP-599).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "0-3",
    flexible = "2+",
    key = CreatePartitions,
    response = CreatePartitionsResponse
)]
pub struct CreatePartitionsRequest {
    /// The topics.
    pub topics: Vec<CreatePartitionsTopic>,
    /// Milliseconds the broker may take.
    pub timeout_ms: i32,
    /// Whether to check without changing anything.
    pub validate_only: bool,
}

/// A topic to grow.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct CreatePartitionsTopic {
    /// The topic's name.
    pub name: Str,
    /// The number of partitions afterwards.
    pub count: i32,
    /// The brokers of each new partition; null to leave the choice to the broker.
    #[field(nullable = "0+")]
    pub assignments: Option<Vec<CreatePartitionsAssignment>>,
}

/// The brokers of one new partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct CreatePartitionsAssignment {
    /// The brokers that get a replica; the first is preferred as leader.
    pub broker_ids: Vec<i32>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-3", flexible = "2+")]
pub struct CreatePartitionsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The outcomes.
    pub results: Vec<CreatePartitionsTopicResult>,
}

/// The outcome for one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct CreatePartitionsTopicResult {
    /// The topic's name.
    pub name: Str,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+", default = null)]
    pub error_message: Option<Str>,
}
