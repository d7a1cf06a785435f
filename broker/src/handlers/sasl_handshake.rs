//! SaslHandshake (17), versions 0-1, never flexible.
//!
//! v1 (KIP-152): the mechanism's messages follow in SaslAuthenticate; after v0 they follow raw.
//! The login itself is the gate's work (`server::sasl_gate`); a request that comes here came on a
//! connection that is ready already, where it has nothing to start.

use palisade_protocol::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use palisade_protocol::{ErrorCode, Str};

use crate::context::RequestContext;
use crate::dispatch::Handled;

pub(crate) async fn handle(
    _ctx: &RequestContext,
    _request: SaslHandshakeRequest,
) -> Handled<SaslHandshakeResponse> {
    Handled::Now(response(ErrorCode::ILLEGAL_SASL_STATE, Vec::new()))
}

/// An answer with the mechanisms the listener offers.
pub(crate) fn response(error_code: ErrorCode, mechanisms: Vec<Str>) -> SaslHandshakeResponse {
    SaslHandshakeResponse {
        error_code,
        mechanisms,
    }
}
