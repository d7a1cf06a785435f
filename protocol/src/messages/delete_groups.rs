//! Deletes groups (KIP-229).
//!
//! Versions: 2 flexible; 3 error messages.

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-3", flexible = "2+", key = DeleteGroups, response = DeleteGroupsResponse)]
pub struct DeleteGroupsRequest {
    /// The ids of the groups to delete.
    pub groups_names: Vec<Str>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-3", flexible = "2+")]
pub struct DeleteGroupsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The outcomes.
    pub results: Vec<DeletableGroupResult>,
}

/// The outcome for one group.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DeletableGroupResult {
    /// The group's id.
    pub group_id: Str,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did. Since version 3.
    #[field(versions = "3+", nullable = "3+", default = null, ignorable)]
    pub error_message: Option<Str>,
}
