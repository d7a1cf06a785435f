//! Removes members from a classic group.
//!
//! Versions: 3 several members (KIP-345); 4 flexible; 5 reasons (KIP-800).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-5", flexible = "4+", key = LeaveGroup, response = LeaveGroupResponse)]
pub struct LeaveGroupRequest {
    /// The group's id.
    pub group_id: Str,
    /// The member's id. Up to version 2.
    #[field(versions = "0-2")]
    pub member_id: Str,
    /// The members. Since version 3.
    #[field(versions = "3+")]
    pub members: Vec<MemberIdentity>,
}

/// A member that leaves.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct MemberIdentity {
    /// The member's id. Since version 3.
    #[field(versions = "3+")]
    pub member_id: Str,
    /// The id of a static member (KIP-345); null for a dynamic one. Since version 3.
    #[field(versions = "3+", nullable = "3+", default = null)]
    pub group_instance_id: Option<Str>,
    /// Why, for the log. Since version 5.
    #[field(versions = "5+", nullable = "5+", default = null, ignorable)]
    pub reason: Option<Str>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-5", flexible = "4+")]
pub struct LeaveGroupResponse {
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 1.
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The members. Since version 3.
    #[field(versions = "3+")]
    pub members: Vec<MemberResponse>,
}

/// The outcome for one member.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct MemberResponse {
    /// The member's id. Since version 3.
    #[field(versions = "3+")]
    pub member_id: Str,
    /// The id of a static member (KIP-345); null for a dynamic one. Since version 3.
    #[field(versions = "3+", nullable = "3+")]
    pub group_instance_id: Option<Str>,
    /// The error, or NONE. Since version 3.
    #[field(versions = "3+")]
    pub error_code: ErrorCode,
}
