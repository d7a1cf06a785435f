//! Keeps a member of a classic group alive.
//!
//! Versions: 3 static members (KIP-345); 4 flexible.

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-4", flexible = "4+", key = Heartbeat, response = HeartbeatResponse)]
pub struct HeartbeatRequest {
    /// The group's id.
    pub group_id: Str,
    /// The group's generation.
    pub generation_id: i32,
    /// The member's id.
    pub member_id: Str,
    /// The id of a static member (KIP-345); null for a dynamic one. Since version 3.
    #[field(versions = "3+", nullable = "3+", default = null)]
    pub group_instance_id: Option<Str>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-4", flexible = "4+")]
pub struct HeartbeatResponse {
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 1.
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
}
