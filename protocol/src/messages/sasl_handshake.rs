//! Chooses the SASL mechanism (KIP-43).
//!
//! Versions: 1 tokens travel in SaslAuthenticate instead of bare frames (KIP-152).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-1", key = SaslHandshake, response = SaslHandshakeResponse)]
pub struct SaslHandshakeRequest {
    /// The mechanism's name.
    pub mechanism: Str,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-1")]
pub struct SaslHandshakeResponse {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The mechanisms enabled here.
    pub mechanisms: Vec<Str>,
}
