//! From a finished handshake to an authenticated session, and its renewal.

use std::sync::Arc;

use palisade_auth::audit::{Action, AuditContext, AuditEvent, AuthInfo, ConnectionInfo, Outcome};
use palisade_auth::principal::Principal;
use palisade_auth::tls::principal::PrincipalFailure;
use tokio::time::{Instant, timeout_at};

use super::connection::{Connection, End, NoFrame};
use super::receive::{Frame, ReceiveError};
use super::sasl_answer::{Login, Reaction, Refusal};
use super::sasl_gate::Gate;
use super::session::Session;
use super::tls::{self, HandshakeError};
use super::transport::Transport;
use crate::logging::Throttle;

/// Time for one renewal of a session.
const RENEWAL: std::time::Duration = std::time::Duration::from_secs(30);

/// Authenticates a connection whose transport is ready.
///
/// # Errors
/// How to close when it is not let in.
pub(super) async fn enter(connection: &mut Connection) -> Result<Arc<Session>, End> {
    let protocol = connection.listener.config.protocol;
    let tls = connection.transport.ssl().map(tls::info);
    if protocol.uses_sasl() {
        return sasl(connection, tls).await;
    }
    let principal = certificate_principal(connection)?;
    let mechanism = if principal.is_anonymous() {
        "none"
    } else {
        "SSL"
    };
    let session = session(connection, principal, mechanism, tls);
    if !session.principal.is_anonymous() && !admit(connection, &session).await {
        return Err(End::Now);
    }
    Ok(session)
}

fn certificate_principal(connection: &Connection) -> Result<Principal, End> {
    let certificate = match &connection.transport {
        Transport::Plain(_) => None,
        Transport::Tls(stream) => stream.ssl().peer_certificate(),
    };
    let Some(certificate) = certificate else {
        return Ok(Principal::anonymous());
    };
    let mapped = connection.listener.map_certificate(&certificate);
    mapped.map_err(|failure| {
        let reason = match failure {
            PrincipalFailure::NoRule => "no_rule",
            PrincipalFailure::Empty => "empty_name",
            PrincipalFailure::Unprintable => "unprintable_name",
        };
        report(connection, Action::PrincipalMappingFailed, reason, None);
        End::Now
    })
}

async fn sasl(
    connection: &mut Connection,
    tls: Option<palisade_auth::audit::TlsInfo>,
) -> Result<Arc<Session>, End> {
    let deadline = connection.accepted + connection.server.service.limits().login;
    let mut gate = Gate::new(Arc::clone(&connection.listener));
    let login = converse(connection, &mut gate, None, deadline).await?;
    let session = session(connection, login.principal, &login.mechanism, tls);
    session.set_credential(login.credential);
    if let Some(software) = gate.software() {
        session.set_software(&software);
    }
    if !admit(connection, &session).await {
        return Err(End::Delayed(login.refusal));
    }
    connection.send(login.answer, deadline).await?;
    Ok(session)
}

/// Lets the live session prove itself anew, beginning with the frame that asked for it.
///
/// # Errors
/// How to close when it fails; the old session does not survive that.
pub(super) async fn renew(
    connection: &mut Connection,
    session: &Session,
    first: Frame,
) -> Result<(), End> {
    let deadline = Instant::now() + RENEWAL;
    let mut gate = Gate::renewal(
        Arc::clone(&connection.listener),
        session.mechanism.clone(),
        session.principal.clone(),
    );
    let login = converse(connection, &mut gate, Some(first), deadline).await?;
    let event = AuditEvent::new(Action::ReauthOk, Outcome::Ok, session.audit_context());
    let service = Arc::clone(&connection.server.service);
    if !service.record_login(event).await {
        return Err(End::Delayed(login.refusal));
    }
    session.set_credential(login.credential);
    connection.send(login.answer, deadline).await
}

/// Takes frames through the gate until it opens or stays closed for good.
async fn converse(
    connection: &mut Connection,
    gate: &mut Gate,
    mut first: Option<Frame>,
    deadline: Instant,
) -> Result<Login, End> {
    let service = Arc::clone(&connection.server.service);
    loop {
        let limit = gate.frame_limit(service.limits());
        let received = match first.take() {
            Some(frame) => Ok(frame),
            None => connection.receive(limit, deadline).await,
        };
        let frame = match received {
            Ok(frame) => frame,
            Err(none) => return Err(without_frame(connection, gate, none)),
        };
        let Ok(reaction) = timeout_at(deadline, gate.on_frame(frame.bytes, &*service)).await else {
            return Err(without_frame(connection, gate, NoFrame::Late));
        };
        match reaction {
            Reaction::Answer(answer) => connection.send(answer, deadline).await?,
            Reaction::LoggedIn(login) => return Ok(login),
            Reaction::Refuse {
                answer,
                delayed,
                cause,
            } => {
                let (reason, tried) = match &cause {
                    Refusal::Credentials {
                        cause,
                        mechanism,
                        user,
                    } => {
                        let tried = AuthInfo {
                            mechanism: mechanism.clone(),
                            principal: user.as_deref().map(Principal::user),
                            token_id: None,
                            session_expires: None,
                        };
                        (cause.reason(), Some(tried))
                    }
                    Refusal::Mechanism => ("mechanism_disabled", None),
                    Refusal::Unexpected => ("unexpected_request", None),
                    Refusal::Malformed => ("malformed", None),
                    Refusal::Rounds => ("too_many_rounds", None),
                    Refusal::Changed => ("principal_changed", None),
                };
                report(connection, gate.failure(), reason, tried);
                return Err(if delayed || answer.is_some() {
                    End::Delayed(answer)
                } else {
                    End::Now
                });
            }
        }
    }
}

fn without_frame(connection: &Connection, gate: &Gate, none: NoFrame) -> End {
    match none {
        NoFrame::Signalled => End::Now,
        NoFrame::Ended => {
            if gate.was_offered_credentials() {
                report(connection, gate.failure(), "disconnected", None);
            }
            End::Peer
        }
        NoFrame::Late => {
            report(connection, gate.failure(), "timeout", None);
            End::Now
        }
        NoFrame::Bad(error) => {
            let (reason, end) = match error {
                ReceiveError::Io(_) => ("connection_failed", End::Broken),
                ReceiveError::Empty => ("malformed", End::Delayed(None)),
                ReceiveError::Negative(_) | ReceiveError::TooLong { .. } => {
                    ("oversize", End::Delayed(None))
                }
            };
            if !matches!(end, End::Broken) || gate.was_offered_credentials() {
                let spoke = match end {
                    End::Delayed(_) => note_foreign_protocol(connection),
                    _ => None,
                };
                report_words(connection, gate.failure(), reason, None, spoke);
            }
            end
        }
    }
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

const TLS_ON_PLAINTEXT: &str = "likely a TLS client on a plaintext listener";
const PLAINTEXT_ON_TLS: &str = "likely a plaintext client on a TLS listener";
const HTTP: &str = "likely an HTTP client on a Kafka listener";

/// One line a second at most: anybody can cause these.
fn say(connection: &Connection, spoke: &'static str) {
    static SAID: Throttle = Throttle::new();
    if SAID.may_speak() {
        let listener = &connection.listener.config.name;
        tracing::info!(peer = %connection.peer, listener, "{spoke}");
    }
}

fn session(
    connection: &Connection,
    principal: Principal,
    mechanism: &str,
    tls: Option<palisade_auth::audit::TlsInfo>,
) -> Arc<Session> {
    let mut info = connection_info(connection);
    info.tls = tls;
    info.auth = Some(AuthInfo {
        mechanism: mechanism.to_owned(),
        principal: Some(principal.clone()),
        token_id: None,
        session_expires: None,
    });
    Arc::new(Session::new(
        connection.id,
        principal,
        (connection.peer, connection.local),
        Arc::clone(&connection.listener),
        mechanism.to_owned(),
        Arc::new(info),
    ))
}

/// A login counts only once its event is kept (security.md §5.2).
async fn admit(connection: &mut Connection, session: &Session) -> bool {
    let event = AuditEvent::new(Action::LoginOk, Outcome::Ok, session.audit_context());
    let service = Arc::clone(&connection.server.service);
    service.record_login(event).await
}

fn connection_info(connection: &Connection) -> ConnectionInfo {
    ConnectionInfo {
        listener: connection.listener.config.name.clone(),
        conn: connection.id.to_string(),
        src: Some(connection.peer),
        dst: Some(connection.local),
        tls: None,
        auth: None,
    }
}

/// Records a handshake that failed, unless the peer merely went away before saying anything.
pub(super) fn report_tls_failure(connection: &Connection, error: &HandshakeError) {
    let context = AuditContext {
        connection: Some(Arc::new(connection_info(connection))),
        ..AuditContext::default()
    };
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
    let event = AuditEvent::new(Action::TlsFailed, Outcome::Failed, context);
    record(connection, event.with_reason(reason).with_detail(words));
}

/// Records that a session ended, or a request that no honest client sends; with words where there
/// are some.
pub(super) fn record_for(
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

fn report(connection: &Connection, action: Action, reason: &'static str, tried: Option<AuthInfo>) {
    report_words(connection, action, reason, tried, None);
}

fn report_words(
    connection: &Connection,
    action: Action,
    reason: &'static str,
    tried: Option<AuthInfo>,
    words: Option<&'static str>,
) {
    let mut info = connection_info(connection);
    info.tls = connection.transport.ssl().map(tls::info);
    let context = AuditContext {
        connection: Some(Arc::new(info)),
        ..AuditContext::default()
    };
    let mut event = AuditEvent::new(action, Outcome::Failed, context).with_reason(reason);
    if let Some(tried) = tried {
        event = event.with_auth(tried);
    }
    event.detail = words.map(str::to_owned);
    record(connection, event);
}

fn record(connection: &Connection, event: AuditEvent) {
    if let Some(audit) = connection.server.service.audit() {
        audit.record(event);
    }
}
