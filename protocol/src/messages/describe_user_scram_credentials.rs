//! Describes SCRAM credentials without their secrets (KIP-554).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "0",
    flexible = "0+",
    key = DescribeUserScramCredentials,
    response = DescribeUserScramCredentialsResponse
)]
pub struct DescribeUserScramCredentialsRequest {
    /// The users wanted; null or empty for all.
    #[field(nullable = "0+")]
    pub users: Option<Vec<UserName>>,
}

/// A user asked for.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct UserName {
    /// The user's name.
    pub name: Str,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct DescribeUserScramCredentialsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    /// The outcomes.
    pub results: Vec<DescribeUserScramCredentialsResult>,
}

/// The credentials of one user.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribeUserScramCredentialsResult {
    /// The user's name.
    pub user: Str,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    /// The user's credentials, without secrets.
    pub credential_infos: Vec<CredentialInfo>,
}

/// One credential of a user, without secrets.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct CredentialInfo {
    /// The mechanism: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
    pub mechanism: i8,
    /// How often the password is hashed.
    pub iterations: i32,
}
