//! Hands out the assignment of a classic group.
//!
//! Versions: 3 static members (KIP-345); 4 flexible; 5 protocol (KIP-559).

use bytes::Bytes;
use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-5", flexible = "4+", key = SyncGroup, response = SyncGroupResponse)]
pub struct SyncGroupRequest {
    /// The group's id.
    pub group_id: Str,
    /// The group's generation.
    pub generation_id: i32,
    /// The member's id.
    pub member_id: Str,
    /// The id of a static member (KIP-345); null for a dynamic one. Since version 3.
    #[field(versions = "3+", nullable = "3+", default = null)]
    pub group_instance_id: Option<Str>,
    /// The kind of group, such as `consumer`. Since version 5.
    #[field(versions = "5+", nullable = "5+", default = null, ignorable)]
    pub protocol_type: Option<Str>,
    /// The protocol chosen by the group; null when none is. Since version 5.
    #[field(versions = "5+", nullable = "5+", default = null, ignorable)]
    pub protocol_name: Option<Str>,
    /// The assignment of each member, from the group's leader.
    pub assignments: Vec<SyncGroupRequestAssignment>,
}

/// The assignment of one member.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct SyncGroupRequestAssignment {
    /// The member's id.
    pub member_id: Str,
    /// The member's assignment, opaque to the broker.
    pub assignment: Bytes,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-5", flexible = "4+")]
pub struct SyncGroupResponse {
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 1.
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The kind of group, such as `consumer`. Since version 5.
    #[field(versions = "5+", nullable = "5+", default = null, ignorable)]
    pub protocol_type: Option<Str>,
    /// The protocol chosen by the group; null when none is. Since version 5.
    #[field(versions = "5+", nullable = "5+", default = null, ignorable)]
    pub protocol_name: Option<Str>,
    /// The member's assignment, opaque to the broker.
    pub assignment: Bytes,
}
