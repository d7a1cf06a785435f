//! Describes classic groups.
//!
//! Versions: 3 authorized operations (KIP-430); 4 static members (KIP-345); 5 flexible; 6 error
//! messages (KIP-1043).

use bytes::Bytes;
use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "0-6",
    flexible = "5+",
    key = DescribeGroups,
    response = DescribeGroupsResponse
)]
pub struct DescribeGroupsRequest {
    /// The groups.
    pub groups: Vec<Str>,
    /// Whether to say what the caller may do with each group. Since version 3.
    #[field(versions = "3+")]
    pub include_authorized_operations: bool,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-6", flexible = "5+")]
pub struct DescribeGroupsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 1.
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// The groups.
    pub groups: Vec<DescribedGroup>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribedGroup {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did. Since version 6.
    #[field(versions = "6+", nullable = "6+", default = null)]
    pub error_message: Option<Str>,
    /// The group's id.
    pub group_id: Str,
    /// The group's state.
    pub group_state: Str,
    /// The kind of group, such as `consumer`.
    pub protocol_type: Str,
    /// The protocol chosen by the group.
    pub protocol_data: Str,
    /// The members.
    pub members: Vec<DescribedGroupMember>,
    /// Allowed operations as a bit field; -2147483648 when not asked for. Since version 3.
    #[field(versions = "3+", default = i32::MIN)]
    pub authorized_operations: i32,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribedGroupMember {
    /// The member's id.
    pub member_id: Str,
    /// The id of a static member (KIP-345); null for a dynamic one. Since version 4.
    #[field(versions = "4+", nullable = "4+", default = null, ignorable)]
    pub group_instance_id: Option<Str>,
    /// The member's client id.
    pub client_id: Str,
    /// The address the member connects from.
    pub client_host: Str,
    /// The member's metadata, opaque to the broker.
    pub member_metadata: Bytes,
    /// The member's assignment, opaque to the broker.
    pub member_assignment: Bytes,
}
