//! Carries the tokens of a SASL mechanism (KIP-152).
//!
//! Versions: 1 session lifetime (KIP-368); 2 flexible.

use bytes::Bytes;
use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "0-2",
    flexible = "2+",
    key = SaslAuthenticate,
    response = SaslAuthenticateResponse
)]
pub struct SaslAuthenticateRequest {
    /// The token of the mechanism.
    pub auth_bytes: Bytes,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-2", flexible = "2+")]
pub struct SaslAuthenticateResponse {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    /// The token of the mechanism.
    pub auth_bytes: Bytes,
    /// Milliseconds until the client must authenticate again (KIP-368); 0 never. Since version 1.
    #[field(versions = "1+", ignorable)]
    pub session_lifetime_ms: i64,
}
