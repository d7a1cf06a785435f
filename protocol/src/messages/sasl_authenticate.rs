//! Carries the tokens of a SASL mechanism (KIP-152).
//!
//! Versions: 1 session lifetime (KIP-368); 2 flexible.

use std::fmt;

use bytes::Bytes;
use palisade_protocol_derive::Message;

use super::Redacted;
use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request. Its token does not print.
#[derive(Clone, PartialEq, Message)]
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

impl fmt::Debug for SaslAuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslAuthenticateRequest")
            .field("auth_bytes", &Redacted(self.auth_bytes.len()))
            .finish()
    }
}

/// The response. Its token does not print.
#[derive(Clone, PartialEq, Message)]
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

impl fmt::Debug for SaslAuthenticateResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslAuthenticateResponse")
            .field("error_code", &self.error_code)
            .field("error_message", &self.error_message)
            .field("session_lifetime_ms", &self.session_lifetime_ms)
            .field("auth_bytes", &Redacted(self.auth_bytes.len()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_print() {
        let request = SaslAuthenticateRequest {
            auth_bytes: Bytes::from_static(b"\0alice\0hunter2"),
        };
        assert_eq!(
            format!("{request:?}"),
            "SaslAuthenticateRequest { auth_bytes: <14 bytes> }"
        );
    }
}
