//! Creates ACLs (KIP-140).
//!
//! Versions: 1 prefixed names (KIP-290); 2 flexible; 3 user resources (KIP-373).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "1-3", flexible = "2+", key = CreateAcls, response = CreateAclsResponse)]
pub struct CreateAclsRequest {
    /// The ACLs to create.
    pub creations: Vec<AclCreation>,
}

/// An ACL to create.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct AclCreation {
    /// The resource type's code.
    pub resource_type: i8,
    /// The resource's name.
    pub resource_name: Str,
    /// How the resource name is meant: 3 literal, 4 prefixed.
    #[field(versions = "1+", default = 3)]
    pub resource_pattern_type: i8,
    /// The principal, such as `User:alice`.
    pub principal: Str,
    /// The host the ACL is about; `*` for all.
    pub host: Str,
    /// The operation's code; 1 stands for any, 2 for all.
    pub operation: i8,
    /// The permission's code: 1 any, 2 deny, 3 allow.
    pub permission_type: i8,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "1-3", flexible = "2+")]
pub struct CreateAclsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The outcomes.
    pub results: Vec<AclCreationResult>,
}

/// The outcome for one ACL.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct AclCreationResult {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
}
