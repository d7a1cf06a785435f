//! Lists ACLs (KIP-140).
//!
//! Versions: 1 prefixed names (KIP-290); 2 flexible; 3 user resources (KIP-373).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "1-3", flexible = "2+", key = DescribeAcls, response = DescribeAclsResponse)]
pub struct DescribeAclsRequest {
    /// The resource type's code; 1 for any.
    pub resource_type_filter: i8,
    /// The resource name to match; null for any.
    #[field(nullable = "0+")]
    pub resource_name_filter: Option<Str>,
    /// How the name is matched: 1 any, 2 whatever applies to the name, 3 literal, 4 prefixed.
    #[field(versions = "1+", default = 3)]
    pub pattern_type_filter: i8,
    /// The principal to match; null for any.
    #[field(nullable = "0+")]
    pub principal_filter: Option<Str>,
    /// The host to match; null for any.
    #[field(nullable = "0+")]
    pub host_filter: Option<Str>,
    /// The operation's code; 1 stands for any, 2 for all.
    pub operation: i8,
    /// The permission's code: 1 any, 2 deny, 3 allow.
    pub permission_type: i8,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "1-3", flexible = "2+")]
pub struct DescribeAclsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    /// The resources.
    pub resources: Vec<DescribeAclsResource>,
}

/// A resource with its ACLs.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribeAclsResource {
    /// The resource type's code.
    pub resource_type: i8,
    /// The resource's name.
    pub resource_name: Str,
    /// How the resource name is meant: 3 literal, 4 prefixed.
    #[field(versions = "1+", default = 3)]
    pub pattern_type: i8,
    /// The ACLs of the resource.
    pub acls: Vec<AclDescription>,
}

/// One ACL.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct AclDescription {
    /// The principal, such as `User:alice`.
    pub principal: Str,
    /// The host the ACL is about; `*` for all.
    pub host: Str,
    /// The operation's code; 1 stands for any, 2 for all.
    pub operation: i8,
    /// The permission's code: 1 any, 2 deny, 3 allow.
    pub permission_type: i8,
}
