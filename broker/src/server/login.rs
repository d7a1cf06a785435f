//! From a finished handshake to an authenticated session.

use std::sync::Arc;

use palisade_auth::audit::{Action, AuditEvent, AuthInfo, Outcome, TlsInfo};
use palisade_auth::principal::Principal;
use palisade_auth::tls::principal::{PrincipalFailure, session_info};
use tokio::time::{Instant, timeout_at};

use super::connection::{Connection, End, NoFrame};
use super::receive::ReceiveError;
use super::report::{self, Failure};
use super::sasl_answer::{Login, Reaction};
use super::sasl_gate::Gate;
use super::session::Session;
use super::transport::Transport;

/// Authenticates a connection whose transport is ready.
///
/// # Errors
/// How to close when it is not let in.
pub(super) async fn enter(connection: &mut Connection) -> Result<Arc<Session>, End> {
    let protocol = connection.listener.config.protocol;
    let tls = connection.transport.ssl().map(session_info);
    if protocol.uses_sasl() {
        return sasl(connection, tls).await;
    }
    let principal = certificate_principal(connection)?;
    let mechanism = if principal.is_anonymous() {
        "none"
    } else {
        "SSL"
    };
    let session = session(connection, principal, (mechanism, None), tls);
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
        report::failed(
            connection,
            Action::PrincipalMappingFailed,
            Failure::of(reason),
        );
        End::Now
    })
}

async fn sasl(connection: &mut Connection, tls: Option<TlsInfo>) -> Result<Arc<Session>, End> {
    let deadline = connection.accepted + connection.server.service.limits().login;
    let mut gate = Gate::new(Arc::clone(&connection.listener));
    let login = converse(connection, &mut gate, deadline).await?;
    let proven = (login.mechanism.as_str(), Some(login.credential));
    let session = session(connection, login.principal, proven, tls);
    if let Some(software) = gate.software() {
        session.set_software(&software);
    }
    if !admit(connection, &session).await {
        return Err(End::Delayed(login.refusal));
    }
    connection.send(login.answer, deadline).await?;
    Ok(session)
}

/// Takes frames through the gate until it opens or stays closed for good.
async fn converse(
    connection: &mut Connection,
    gate: &mut Gate,
    deadline: Instant,
) -> Result<Login, End> {
    let service = Arc::clone(&connection.server.service);
    loop {
        let limit = gate.frame_limit(service.limits());
        let frame = match connection.receive(limit, deadline).await {
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
                let failure = Failure {
                    tried: cause.tried(),
                    ..Failure::of(cause.reason())
                };
                report::failed(connection, Action::LoginFailed, failure);
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
                report::failed(connection, Action::LoginFailed, Failure::of("disconnected"));
            }
            End::Peer
        }
        NoFrame::Late => {
            report::failed(connection, Action::LoginFailed, Failure::of("timeout"));
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
                let words = match end {
                    End::Delayed(_) => report::note_foreign_protocol(connection),
                    _ => None,
                };
                let failure = Failure {
                    words,
                    ..Failure::of(reason)
                };
                report::failed(connection, Action::LoginFailed, failure);
            }
            end
        }
    }
}

fn session(
    connection: &Connection,
    principal: Principal,
    (mechanism, credential): (&str, Option<[u8; 32]>),
    tls: Option<TlsInfo>,
) -> Arc<Session> {
    let mut info = report::connection_info(connection);
    info.tls = tls;
    info.auth = Some(AuthInfo {
        mechanism: mechanism.to_owned(),
        principal: Some(principal.clone()),
    });
    Arc::new(Session::new(
        connection.id,
        principal,
        (connection.peer, connection.local),
        Arc::clone(&connection.listener),
        (mechanism.to_owned(), credential),
        (Arc::new(info), connection.hold.overflow()),
    ))
}

/// A login counts only once its event is kept (security.md §5.2).
async fn admit(connection: &mut Connection, session: &Session) -> bool {
    let event = AuditEvent::new(Action::LoginOk, Outcome::Ok, session.audit_context());
    let service = Arc::clone(&connection.server.service);
    service.record_login(event).await
}
