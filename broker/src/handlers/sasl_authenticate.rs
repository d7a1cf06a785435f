//! SaslAuthenticate (36), versions 0-2.
//!
//! v1 (KIP-368) adds the session lifetime, v2 is the flexible form. The login itself is the gate's
//! work (`server::sasl_gate`); a request that comes here came out of the blue.

use palisade_protocol::messages::sasl_authenticate::{
    SaslAuthenticateRequest, SaslAuthenticateResponse,
};
use palisade_protocol::{ErrorCode, Str};

use crate::context::RequestContext;
use crate::dispatch::Handled;

/// Kafka's text, which tools show.
const TOO_LATE: &str = "SaslAuthenticate request received after successful authentication";

pub(crate) async fn handle(
    _ctx: &RequestContext,
    _request: SaslAuthenticateRequest,
) -> Handled<SaslAuthenticateResponse> {
    Handled::Now(SaslAuthenticateResponse {
        error_code: ErrorCode::ILLEGAL_SASL_STATE,
        error_message: Some(Str::from_static(TOO_LATE)),
        ..Default::default()
    })
}
