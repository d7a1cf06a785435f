//! Lists groups.
//!
//! Versions: 3 flexible; 4 states (KIP-518); 5 types (KIP-848).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-5", flexible = "3+", key = ListGroups, response = ListGroupsResponse)]
pub struct ListGroupsRequest {
    /// The states wanted; empty for all. Since version 4.
    #[field(versions = "4+")]
    pub states_filter: Vec<Str>,
    /// The types wanted; empty for all. Since version 5.
    #[field(versions = "5+")]
    pub types_filter: Vec<Str>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-5", flexible = "3+")]
pub struct ListGroupsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 1.
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The groups.
    pub groups: Vec<ListedGroup>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct ListedGroup {
    /// The group's id.
    pub group_id: Str,
    /// The kind of group, such as `consumer`.
    pub protocol_type: Str,
    /// The group's state. Since version 4.
    #[field(versions = "4+", ignorable)]
    pub group_state: Str,
    /// The group's type, such as classic or consumer. Since version 5.
    #[field(versions = "5+", ignorable)]
    pub group_type: Str,
}
