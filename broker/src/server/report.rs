//! What connections tell the audit log and the operator's log about logins and odd peers.

use std::sync::Arc;

use palisade_auth::audit::{Action, AuditContext, AuditEvent, AuthInfo, ConnectionInfo, Outcome};
use palisade_auth::tls::principal::session_info;

use super::connection::Connection;
use super::session::Session;
use super::tls::HandshakeError;
use crate::logging::Throttle;

const TLS_ON_PLAINTEXT: &str = "likely a TLS client on a plaintext listener";
const PLAINTEXT_ON_TLS: &str = "likely a plaintext client on a TLS listener";
const HTTP: &str = "likely an HTTP client on a Kafka listener";

/// Why a login or its preparation failed.
pub(super) struct Failure {
    /// One of the audit log's words.
    pub(super) reason: &'static str,
    /// The login that was tried.
    pub(super) tried: Option<AuthInfo>,
    /// More about it, for people.
    pub(super) words: Option<&'static str>,
}

impl Failure {
    /// A failure of which only the reason is known.
    pub(super) fn of(reason: &'static str) -> Failure {
        Failure {
            reason,
            tried: None,
            words: None,
        }
    }
}

/// Records a login, or a step towards one, that failed.
pub(super) fn failed(connection: &Connection, action: Action, failure: Failure) {
    let mut info = connection_info(connection);
    info.tls = connection.transport.ssl().map(session_info);
    let event = AuditEvent::new(action, Outcome::Failed, context(connection, info));
    let event = event.with_reason(failure.reason);
    let mut event = match failure.tried {
        Some(tried) => event.with_auth(tried),
        None => event,
    };
    event.detail = failure.words.map(str::to_owned);
    record(connection, event);
}

/// Records a TLS handshake that failed; says so to the operator where the peer spoke something
/// else.
pub(super) fn tls_failure(connection: &Connection, error: &HandshakeError) {
    let (reason, words) = match error {
        HandshakeError::Late => ("timeout", error.to_string()),
        HandshakeError::Gone => ("disconnected", error.to_string()),
        HandshakeError::Plaintext => ("plaintext", PLAINTEXT_ON_TLS.to_owned()),
        HandshakeError::Http => ("http", HTTP.to_owned()),
        HandshakeError::Failed(why) => ("handshake_failed", why.clone()),
    };
    match error {
        HandshakeError::Plaintext => say(connection, PLAINTEXT_ON_TLS),
        HandshakeError::Http => say(connection, HTTP),
        _ => {}
    }
    let context = context(connection, connection_info(connection));
    let event = AuditEvent::new(Action::TlsFailed, Outcome::Failed, context);
    record(connection, event.with_reason(reason).with_detail(words));
}

/// Records that a session ended, or a request that no honest client sends; with words where there
/// are some.
pub(super) fn session_event(
    connection: &Connection,
    session: &Session,
    action: Action,
    outcome: Outcome,
    words: Option<&'static str>,
) {
    let mut event = AuditEvent::new(action, outcome, session.audit_context());
    event.detail = words.map(str::to_owned);
    record(connection, event);
}

/// What the first bytes of a frame say that no Kafka client sent, in words for the operator; said
/// in the log too, where others see it first.
pub(super) fn note_foreign_protocol(connection: &Connection) -> Option<&'static str> {
    let spoke = match connection.reader.prefix() {
        [0x16, 0x03, ..] => TLS_ON_PLAINTEXT,
        prefix
            if prefix.is_ascii() && prefix.iter().all(|b| b.is_ascii_uppercase() || *b == b' ') =>
        {
            HTTP
        }
        _ => return None,
    };
    say(connection, spoke);
    Some(spoke)
}

/// A connection as the audit log names it; TLS and login are added where they are known.
pub(super) fn connection_info(connection: &Connection) -> ConnectionInfo {
    ConnectionInfo {
        listener: connection.listener.config.name.clone(),
        conn: connection.id.to_string(),
        src: Some(connection.peer),
        dst: Some(connection.local),
        tls: None,
        auth: None,
    }
}

/// One line a second at most: anybody can cause these.
fn say(connection: &Connection, spoke: &'static str) {
    static SAID: Throttle = Throttle::new();
    if SAID.may_speak() {
        let listener = &connection.listener.config.name;
        tracing::info!(peer = %connection.peer, listener, "{spoke}");
    }
}

fn context(connection: &Connection, info: ConnectionInfo) -> AuditContext {
    AuditContext {
        connection: Some(Arc::new(info)),
        overflow: connection.hold.overflow(),
        ..AuditContext::default()
    }
}

fn record(connection: &Connection, event: AuditEvent) {
    if let Some(audit) = connection.server.service.audit() {
        audit.record(event);
    }
}
