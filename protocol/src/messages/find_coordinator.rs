//! Finds the coordinator of groups and transactional ids.
//!
//! Versions: 1 transactional ids (KIP-98); 3 flexible; 4 several keys (KIP-699); 5
//! TRANSACTION_ABORTABLE (KIP-890); 6 share groups (KIP-932).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "0-6",
    flexible = "3+",
    key = FindCoordinator,
    response = FindCoordinatorResponse
)]
pub struct FindCoordinatorRequest {
    /// The group or transactional id. Up to version 3.
    #[field(versions = "0-3")]
    pub key: Str,
    /// What the keys are: 0 groups, 1 transactional ids, 2 share groups. Since version 1.
    #[field(versions = "1+")]
    pub key_type: i8,
    /// Group or transactional ids to look up. Since version 4.
    #[field(versions = "4+")]
    pub coordinator_keys: Vec<Str>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-6", flexible = "3+")]
pub struct FindCoordinatorResponse {
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 1.
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or NONE. Up to version 3.
    #[field(versions = "0-3")]
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did. Versions 1 to 3.
    #[field(versions = "1-3", nullable = "1-3", ignorable)]
    pub error_message: Option<Str>,
    /// The node id. Up to version 3.
    #[field(versions = "0-3")]
    pub node_id: i32,
    /// The host name or address. Up to version 3.
    #[field(versions = "0-3")]
    pub host: Str,
    /// The port. Up to version 3.
    #[field(versions = "0-3")]
    pub port: i32,
    /// The coordinators found, one per key. Since version 4.
    #[field(versions = "4+")]
    pub coordinators: Vec<Coordinator>,
}

/// The coordinator of one key.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct Coordinator {
    /// The group or transactional id. Since version 4.
    #[field(versions = "4+")]
    pub key: Str,
    /// The node id. Since version 4.
    #[field(versions = "4+")]
    pub node_id: i32,
    /// The host name or address. Since version 4.
    #[field(versions = "4+")]
    pub host: Str,
    /// The port. Since version 4.
    #[field(versions = "4+")]
    pub port: i32,
    /// The error, or NONE. Since version 4.
    #[field(versions = "4+")]
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did. Since version 4.
    #[field(versions = "4+", nullable = "4+", ignorable)]
    pub error_message: Option<Str>,
}
