//! Joins a classic group.
//!
//! Versions: 1 rebalance timeout (KIP-62); 4 member ids first (KIP-394); 5 static members
//! (KIP-345); 6 flexible; 7 protocol in the response (KIP-559); 8 reasons (KIP-800); 9 no
//! assignment by the leader (KIP-814).

use bytes::Bytes;
use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-9", flexible = "6+", key = JoinGroup, response = JoinGroupResponse)]
pub struct JoinGroupRequest {
    /// The group's id.
    pub group_id: Str,
    /// Milliseconds without heartbeat after which the member is removed.
    pub session_timeout_ms: i32,
    /// Milliseconds the member may take to give up partitions; -1 unchanged or unset. Since version
    /// 1.
    #[field(versions = "1+", default = -1, ignorable)]
    pub rebalance_timeout_ms: i32,
    /// The member's id.
    pub member_id: Str,
    /// The id of a static member (KIP-345); null for a dynamic one. Since version 5.
    #[field(versions = "5+", nullable = "5+", default = null)]
    pub group_instance_id: Option<Str>,
    /// The kind of group, such as `consumer`.
    pub protocol_type: Str,
    /// The protocols the member can work with, preferred first.
    pub protocols: Vec<JoinGroupRequestProtocol>,
    /// Why, for the log. Since version 8.
    #[field(versions = "8+", nullable = "8+", default = null, ignorable)]
    pub reason: Option<Str>,
}

/// A protocol the member can work with.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct JoinGroupRequestProtocol {
    /// The protocol's name.
    pub name: Str,
    /// Opaque to the broker.
    pub metadata: Bytes,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-9", flexible = "6+")]
pub struct JoinGroupResponse {
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 2.
    #[field(versions = "2+", ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The group's generation.
    #[field(default = -1)]
    pub generation_id: i32,
    /// The kind of group, such as `consumer`. Since version 7.
    #[field(versions = "7+", nullable = "7+", default = null, ignorable)]
    pub protocol_type: Option<Str>,
    /// The protocol chosen by the group; null when none is.
    #[field(nullable = "7+")]
    pub protocol_name: Option<Str>,
    /// The member id of the group's leader.
    pub leader: Str,
    /// Whether the leader must not compute an assignment (KIP-814). Since version 9.
    #[field(versions = "9+")]
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: Str,
    /// The members.
    pub members: Vec<JoinGroupResponseMember>,
}

/// A member, as told to the group's leader.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct JoinGroupResponseMember {
    /// The member's id.
    pub member_id: Str,
    /// The id of a static member (KIP-345); null for a dynamic one. Since version 5.
    #[field(versions = "5+", nullable = "5+", default = null, ignorable)]
    pub group_instance_id: Option<Str>,
    /// Opaque to the broker.
    pub metadata: Bytes,
}
