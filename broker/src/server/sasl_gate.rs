//! The gate in front of the API on SASL listeners: what may be said before login, and the answer
//! to everything else (security.md §1.5, §1.6).
//!
//! One frame in, one [`Reaction`] out; sockets, timers and delays belong to the connection. Until
//! the gate opens, nothing but ApiVersions, SaslHandshake and SaslAuthenticate is decoded.

use std::sync::Arc;

use bytes::Bytes;
use palisade_auth::sasl::{Exchange, FailureCause, Step};
use palisade_protocol::header::RequestHeader;
use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_protocol::messages::sasl_authenticate::SaslAuthenticateRequest;
use palisade_protocol::messages::sasl_handshake::SaslHandshakeRequest;
use palisade_protocol::{ApiKey, ErrorCode, Message, Reader};
use tokio::sync::Semaphore;

use super::listener::ListenerState;
use super::sasl_answer::{
    Login, Reaction, Refusal, api_versions_too_late, encoded, is_served, peek_key, raw_frame,
    refusal_answer, refuse, second_handshake, token_answer, wire,
};
use super::service::Service;
use super::session::ClientSoftware;
use crate::config::Limits;
use crate::dispatch::Wire;
use crate::handlers::{api_versions, sasl_handshake};

/// Largest frame before a mechanism was agreed on.
const GREETING_MAX: usize = 8 * 1024;
/// Messages of one exchange.
const ROUNDS_MAX: u32 = 8;

/// The login of one connection, up to its success or failure.
pub(crate) struct Gate {
    listener: Arc<ListenerState>,
    state: State,
    /// What ApiVersions said; kept for the session.
    software: Option<ClientSoftware>,
}

enum State {
    /// S1: nothing was said, or nothing valid.
    First,
    /// S2: ApiVersions was answered.
    Negotiated,
    /// S3 and S3': the mechanism's messages, with or without Kafka headers.
    Tokens {
        exchange: Exchange,
        mechanism: String,
        raw: bool,
        rounds: u32,
    },
    /// Nothing more is accepted.
    Over,
}

impl Gate {
    /// The gate of a new connection.
    pub(crate) fn new(listener: Arc<ListenerState>) -> Self {
        Gate {
            listener,
            state: State::First,
            software: None,
        }
    }

    /// The largest frame that is accepted next, in bytes.
    pub(crate) fn frame_limit(&self, limits: &Limits) -> usize {
        match self.state {
            State::Tokens { .. } => limits.sasl_max_bytes,
            _ => limits.sasl_max_bytes.min(GREETING_MAX),
        }
    }

    /// Whether a credential was offered, which makes a lost connection a failed login.
    pub(crate) fn was_offered_credentials(&self) -> bool {
        matches!(&self.state, State::Tokens { rounds, .. } if *rounds > 0)
    }

    /// What the client said it is.
    pub(crate) fn software(&mut self) -> Option<ClientSoftware> {
        self.software.take()
    }

    /// Takes one frame.
    pub(crate) async fn on_frame(&mut self, frame: Bytes, service: &dyn Service) -> Reaction {
        match std::mem::replace(&mut self.state, State::Over) {
            State::First => self.greet(frame, service, false),
            State::Negotiated => self.greet(frame, service, true),
            State::Tokens {
                exchange,
                mechanism,
                raw: true,
                rounds,
            } => self.raw_token(frame, exchange, mechanism, rounds).await,
            State::Tokens {
                exchange,
                mechanism,
                raw: false,
                rounds,
            } => self.token_request(frame, exchange, mechanism, rounds).await,
            State::Over => refuse(None, false, Refusal::Unexpected),
        }
    }

    fn greet(&mut self, frame: Bytes, service: &dyn Service, negotiated: bool) -> Reaction {
        match peek_key(&frame) {
            Some(ApiKey::ApiVersions) if negotiated => refuse(None, false, Refusal::Unexpected),
            Some(ApiKey::ApiVersions) => self.api_versions(frame, service),
            Some(ApiKey::SaslHandshake) => self.handshake(frame),
            // The body of anything else is not even looked at.
            _ => refuse(None, true, Refusal::Unexpected),
        }
    }

    fn api_versions(&mut self, frame: Bytes, service: &dyn Service) -> Reaction {
        let mut reader = Reader::new(frame);
        let Ok(header) = RequestHeader::decode(&mut reader) else {
            return refuse(None, false, Refusal::Malformed);
        };
        let key = ApiKey::ApiVersions;
        let version = header.api_version;
        let outcome = if !is_served(key, version) {
            self.state = State::First;
            api_versions::unsupported_version(header.correlation_id)
        } else {
            let Ok(request) = ApiVersionsRequest::decode(&mut reader, version) else {
                return refuse(None, false, Refusal::Malformed);
            };
            let body = match api_versions::check(&request, version, service.identity()) {
                Ok(software) => {
                    self.state = State::Negotiated;
                    self.software = software;
                    api_versions::everything()
                }
                Err(code) => {
                    self.state = State::First;
                    api_versions::error(code)
                }
            };
            wire(key, &header).encode(&body)
        };
        match encoded(outcome) {
            Some(answer) => Reaction::Answer(answer),
            None => refuse(None, false, Refusal::Malformed),
        }
    }

    fn handshake(&mut self, frame: Bytes) -> Reaction {
        let mut reader = Reader::new(frame);
        let Ok(header) = RequestHeader::decode(&mut reader) else {
            return refuse(None, true, Refusal::Malformed);
        };
        let key = ApiKey::SaslHandshake;
        if !is_served(key, header.api_version) {
            return refuse(None, false, Refusal::Malformed);
        }
        let Ok(request) = SaslHandshakeRequest::decode(&mut reader, header.api_version) else {
            return refuse(None, false, Refusal::Malformed);
        };
        let wire = wire(key, &header);
        let mechanism = request.mechanism.as_str().to_owned();
        let Some(exchange) = self.listener.start_exchange(&mechanism) else {
            let body = sasl_handshake::response(
                ErrorCode::UNSUPPORTED_SASL_MECHANISM,
                self.listener.mechanisms(),
            );
            return refuse(encoded(wire.encode(&body)), true, Refusal::Mechanism);
        };
        self.state = State::Tokens {
            exchange,
            mechanism,
            raw: header.api_version == 0,
            rounds: 0,
        };
        let body = sasl_handshake::response(ErrorCode::NONE, self.listener.mechanisms());
        match encoded(wire.encode(&body)) {
            Some(answer) => Reaction::Answer(answer),
            None => refuse(None, false, Refusal::Malformed),
        }
    }

    async fn raw_token(
        &mut self,
        token: Bytes,
        exchange: Exchange,
        mechanism: String,
        rounds: u32,
    ) -> Reaction {
        if rounds >= ROUNDS_MAX {
            return refuse(None, false, Refusal::Rounds);
        }
        match step(exchange, &mechanism, token).await {
            Step::Continue(exchange, token) => {
                self.state = State::Tokens {
                    exchange,
                    mechanism,
                    raw: true,
                    rounds: rounds + 1,
                };
                Reaction::Answer(raw_frame(&token))
            }
            Step::Success {
                principal,
                token,
                credential,
                ..
            } => Reaction::LoggedIn(Login {
                answer: raw_frame(&token),
                refusal: None,
                principal,
                mechanism,
                credential,
            }),
            Step::Failure { cause, user, .. } => refuse(
                None,
                true,
                Refusal::Credentials {
                    cause,
                    mechanism,
                    user,
                },
            ),
        }
    }

    async fn token_request(
        &mut self,
        frame: Bytes,
        exchange: Exchange,
        mechanism: String,
        rounds: u32,
    ) -> Reaction {
        let key = peek_key(&frame);
        let mut reader = Reader::new(frame);
        let Ok(header) = RequestHeader::decode(&mut reader) else {
            return refuse(None, false, Refusal::Malformed);
        };
        match key {
            Some(ApiKey::SaslAuthenticate) => {}
            Some(ApiKey::SaslHandshake) => return second_handshake(&header, &mut reader),
            Some(ApiKey::ApiVersions) => {
                return api_versions_too_late(&header, &mut reader);
            }
            _ => return refuse(None, false, Refusal::Unexpected),
        }
        if rounds >= ROUNDS_MAX {
            return refuse(None, false, Refusal::Rounds);
        }
        let key = ApiKey::SaslAuthenticate;
        if !is_served(key, header.api_version) {
            return refuse(None, false, Refusal::Malformed);
        }
        let Ok(request) = SaslAuthenticateRequest::decode(&mut reader, header.api_version) else {
            return refuse(None, false, Refusal::Malformed);
        };
        let wire = wire(key, &header);
        let step = step(exchange, &mechanism, request.auth_bytes).await;
        self.after_token(step, wire, mechanism, rounds + 1)
    }

    /// Answers a step of the mechanism; `rounds` have been made.
    fn after_token(&mut self, step: Step, wire: Wire, mechanism: String, rounds: u32) -> Reaction {
        match step {
            Step::Continue(exchange, token) => {
                self.state = State::Tokens {
                    exchange,
                    mechanism,
                    raw: false,
                    rounds,
                };
                match encoded(wire.encode(&token_answer(token))) {
                    Some(answer) => Reaction::Answer(answer),
                    None => refuse(None, false, Refusal::Malformed),
                }
            }
            Step::Success {
                principal,
                token,
                credential,
                ..
            } => match encoded(wire.encode(&token_answer(token))) {
                Some(answer) => Reaction::LoggedIn(Login {
                    answer,
                    refusal: encoded(
                        wire.encode(&refusal_answer(Exchange::refusal_text(&mechanism))),
                    ),
                    principal,
                    mechanism,
                    credential,
                }),
                None => refuse(None, false, Refusal::Malformed),
            },
            Step::Failure {
                message,
                cause,
                user,
            } => {
                let answer = encoded(wire.encode(&refusal_answer(message)));
                refuse(
                    answer,
                    true,
                    Refusal::Credentials {
                        cause,
                        mechanism,
                        user,
                    },
                )
            }
        }
    }
}

/// Key derivations at a time: strangers may ask for many, and each takes milliseconds of a core.
static DERIVATIONS: Semaphore = Semaphore::const_new(2);

/// Runs one step of a mechanism, away from the workers where it derives a key from a password.
async fn step(exchange: Exchange, mechanism: &str, token: Bytes) -> Step {
    if mechanism != "PLAIN" {
        return exchange.step(&token);
    }
    match in_turn(&DERIVATIONS, move || exchange.step(&token)).await {
        Some(step) => step,
        None => Step::Failure {
            message: "Authentication failed".to_owned(),
            cause: FailureCause::Internal,
            user: None,
        },
    }
}

/// Runs `work` away from the workers once there is a turn for it; `None` when it panicked. The turn
/// is over when the work is: nobody stops it, whoever goes away meanwhile.
async fn in_turn<T: Send + 'static>(
    turns: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let turn = turns.acquire().await;
    let work = move || {
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(work).await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn a_turn_lasts_as_long_as_its_work() {
        static TURNS: Semaphore = Semaphore::const_new(1);
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (end, ends) = channel::<()>();
        let work = in_turn(&TURNS, move || {
            begun.send(()).unwrap();
            ends.recv().unwrap();
        });
        // The login's deadline passes while its key is derived.
        tokio::select! {
            biased;
            _ = work => panic!("not asked to end yet"),
            begins = begins => begins.unwrap(),
        }
        assert_eq!(TURNS.available_permits(), 0);
        end.send(()).unwrap();
        drop(TURNS.acquire().await);
    }
}
