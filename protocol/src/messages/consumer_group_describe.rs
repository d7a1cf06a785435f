//! Describes consumer groups (KIP-848).
//!
//! Versions: 1 member types (KIP-1099).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;
use crate::uuid::Uuid;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "0-1",
    flexible = "0+",
    key = ConsumerGroupDescribe,
    response = ConsumerGroupDescribeResponse
)]
pub struct ConsumerGroupDescribeRequest {
    /// The groups to describe.
    pub group_ids: Vec<Str>,
    /// Whether to say what the caller may do with each group.
    pub include_authorized_operations: bool,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-1", flexible = "0+")]
pub struct ConsumerGroupDescribeResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The groups.
    pub groups: Vec<DescribedGroup>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribedGroup {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+", default = null)]
    pub error_message: Option<Str>,
    /// The group's id.
    pub group_id: Str,
    /// The group's state.
    pub group_state: Str,
    /// The group's epoch.
    pub group_epoch: i32,
    /// The epoch of the last computed assignment.
    pub assignment_epoch: i32,
    /// The assignor chosen.
    pub assignor_name: Str,
    /// The members.
    pub members: Vec<Member>,
    /// Allowed operations as a bit field; -2147483648 when not asked for.
    #[field(default = i32::MIN)]
    pub authorized_operations: i32,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct Member {
    /// The member's id.
    pub member_id: Str,
    /// The id of a static member; null for a dynamic one.
    #[field(nullable = "0+", default = null)]
    pub instance_id: Option<Str>,
    /// The client's rack.
    #[field(nullable = "0+", default = null)]
    pub rack_id: Option<Str>,
    /// The member's epoch.
    pub member_epoch: i32,
    /// The member's client id.
    pub client_id: Str,
    /// The address the member connects from.
    pub client_host: Str,
    /// The topics subscribed to by name.
    pub subscribed_topic_names: Vec<Str>,
    /// The expression subscribed to; null when there is none.
    #[field(nullable = "0+", default = null)]
    pub subscribed_topic_regex: Option<Str>,
    /// What the member is to consume.
    pub assignment: Assignment,
    /// What the member is to consume in the end.
    pub target_assignment: Assignment,
    /// Whether the member speaks the classic (0) or consumer (1) protocol; -1 unknown. Since
    /// version 1.
    #[field(versions = "1+", default = -1, ignorable)]
    pub member_type: i8,
}

/// The partitions of one member.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct Assignment {
    /// The partitions, per topic.
    pub topic_partitions: Vec<TopicPartitions>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct TopicPartitions {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The topic's name.
    pub topic_name: Str,
    /// The partitions.
    pub partitions: Vec<i32>,
}
