//! What the login gate answers: the forms of its replies, and why it stays closed.

use bytes::{BufMut, BytesMut};
use palisade_auth::audit::AuthInfo;
use palisade_auth::principal::Principal;
use palisade_auth::sasl::FailureCause;
use palisade_protocol::header::RequestHeader;
use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_protocol::messages::sasl_authenticate::SaslAuthenticateResponse;
use palisade_protocol::messages::sasl_handshake::SaslHandshakeRequest;
use palisade_protocol::{ApiKey, Chunk, ErrorCode, Message, Reader, Str, api};

use crate::dispatch::{Outcome, Wire};
use crate::handlers::{api_versions, sasl_handshake};

/// A successful exchange.
#[derive(Debug)]
pub(crate) struct Login {
    /// The last answer of the exchange.
    pub(crate) answer: Vec<Chunk>,
    /// What to answer instead when the login cannot be recorded.
    pub(crate) refusal: Option<Vec<Chunk>>,
    /// Who logged in.
    pub(crate) principal: Principal,
    /// By which mechanism.
    pub(crate) mechanism: String,
    /// Names the credential that was proven.
    pub(crate) credential: [u8; 32],
}

/// What a frame leads to.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// Send the answer and read on.
    Answer(Vec<Chunk>),
    /// The exchange succeeded.
    LoggedIn(Login),
    /// Send the answer, if there is one, and close.
    Refuse {
        /// The last bytes the client gets.
        answer: Option<Vec<Chunk>>,
        /// Whether the delay for failed logins comes first.
        delayed: bool,
        /// For the audit log.
        cause: Refusal,
    },
}

/// Why the gate stays closed; the audit log sees it, the client does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The credentials were judged and refused.
    Credentials {
        /// What was wrong with them.
        cause: FailureCause,
        /// The mechanism.
        mechanism: String,
        /// The user name that was tried.
        user: Option<String>,
    },
    /// The mechanism is not enabled on this listener.
    Mechanism,
    /// A frame that is not allowed in this state.
    Unexpected,
    /// A frame that does not parse, or of a version that is not served.
    Malformed,
    /// More messages than any mechanism needs.
    Rounds,
}

impl Refusal {
    /// The audit log's word for it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Refusal::Credentials { cause, .. } => cause.reason(),
            Refusal::Mechanism => "mechanism_disabled",
            Refusal::Unexpected => "unexpected_request",
            Refusal::Malformed => "malformed",
            Refusal::Rounds => "too_many_rounds",
        }
    }

    /// The login that was tried, if it came that far.
    pub(super) fn tried(&self) -> Option<AuthInfo> {
        let Refusal::Credentials {
            mechanism, user, ..
        } = self
        else {
            return None;
        };
        Some(AuthInfo {
            mechanism: mechanism.clone(),
            principal: user.as_deref().map(Principal::user),
        })
    }
}

pub(super) fn second_handshake(header: &RequestHeader, reader: &mut Reader) -> Reaction {
    let key = ApiKey::SaslHandshake;
    let version = header.api_version;
    if !is_served(key, version) || SaslHandshakeRequest::decode(reader, version).is_err() {
        return refuse(None, false, Refusal::Malformed);
    }
    let body = sasl_handshake::response(ErrorCode::ILLEGAL_SASL_STATE, Vec::new());
    refuse(
        encoded(wire(key, header).encode(&body)),
        true,
        Refusal::Unexpected,
    )
}

pub(super) fn api_versions_too_late(header: &RequestHeader, reader: &mut Reader) -> Reaction {
    let mut wire = wire(ApiKey::ApiVersions, header);
    if !is_served(wire.key, wire.version) {
        wire.version = 0;
    } else if ApiVersionsRequest::decode(reader, wire.version).is_err() {
        return refuse(None, false, Refusal::Malformed);
    }
    let body = api_versions::error(ErrorCode::ILLEGAL_SASL_STATE);
    refuse(encoded(wire.encode(&body)), true, Refusal::Unexpected)
}

/// One message of the mechanism; no lifetime is said, for sessions are not renewed (KIP-368).
pub(super) fn token_answer(token: Vec<u8>) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        auth_bytes: token.into(),
        ..Default::default()
    }
}

pub(super) fn refusal_answer(message: String) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
        error_message: Some(Str::from(message)),
        ..Default::default()
    }
}

pub(super) fn refuse(answer: Option<Vec<Chunk>>, delayed: bool, cause: Refusal) -> Reaction {
    Reaction::Refuse {
        answer,
        delayed,
        cause,
    }
}

pub(super) fn encoded(outcome: Outcome) -> Option<Vec<Chunk>> {
    match outcome {
        Outcome::Response(chunks) => Some(chunks),
        Outcome::NoResponse | Outcome::Close(_) => None,
    }
}

pub(super) fn raw_frame(token: &[u8]) -> Vec<Chunk> {
    let mut frame = BytesMut::with_capacity(4 + token.len());
    frame.put_u32(u32::try_from(token.len()).expect("a mechanism's message is short"));
    frame.put_slice(token);
    vec![Chunk::Bytes(frame.freeze())]
}

pub(super) fn wire(key: ApiKey, header: &RequestHeader) -> Wire {
    Wire {
        key,
        version: header.api_version,
        correlation_id: header.correlation_id,
    }
}

pub(super) fn is_served(key: ApiKey, version: i16) -> bool {
    api::spec(key).is_some_and(|spec| spec.serves(version))
}

pub(super) fn peek_key(frame: &[u8]) -> Option<ApiKey> {
    ApiKey::from_i16(i16::from_be_bytes(*frame.first_chunk()?))
}
