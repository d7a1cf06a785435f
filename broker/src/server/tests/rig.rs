//! A server with scripted handlers behind it, and a client that speaks raw bytes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use palisade_auth::Secret;
use palisade_auth::audit::{Action, AuditEvent, AuditSink, Outcome as Recorded};
use palisade_auth::sasl::{CredentialLookup, Mechanisms, SaslDeps};
use palisade_auth::scram::{ScramCredential, ScramMechanism};
use palisade_auth::tls::TlsSettings;
use palisade_protocol::header::RequestHeader;
use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_protocol::types::BrokerId;
use palisade_protocol::{ApiKey, Chunk, ErrorCode, Message, Reader};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::{Endpoint, Limits, ListenerConfig, SecurityProtocol};
use crate::dispatch::{CloseReason, Guarded, Outcome, Stage, Staged, Wire};
use crate::handlers::{api_versions, sasl_handshake};
use crate::server::connection::Parting;
use crate::server::{Bound, Hold, Room, Server, Service, Session};
use crate::shutdown::{Shutdown, Stage as Step};
use crate::task::BoxFuture;

/// Answers after the gate of the rig opens.
pub(super) const WAITS: ApiKey = ApiKey::Fetch;
/// Panics.
pub(super) const PANICS: ApiKey = ApiKey::CreateTopics;
/// Answers nothing.
pub(super) const SILENT: ApiKey = ApiKey::Produce;
/// Closes.
pub(super) const CLOSES: ApiKey = ApiKey::DeleteTopics;
/// Answers with the size of its body.
pub(super) const MEASURES: ApiKey = ApiKey::ListOffsets;
/// Answers with what the test put there.
pub(super) const GIVEN: ApiKey = ApiKey::DescribeConfigs;
/// Answers after the gate opens, as something that was permitted and is to be in the audit log.
pub(super) const AUDITED: ApiKey = ApiKey::CreateAcls;

/// How long a connection may take to end, where nothing but its end is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than any test.
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// A running server and everything a test looks at.
pub(super) struct Rig {
    pub(super) address: SocketAddr,
    pub(super) service: Arc<Scripted>,
    pub(super) server: Arc<Server>,
    pub(super) shutdown: Shutdown,
}

/// A service whose behaviour is chosen by the API key.
pub(super) struct Scripted {
    limits: Limits,
    audit: Option<Arc<dyn AuditSink>>,
    pub(super) events: Arc<Events>,
    /// Holds back whoever causes an event of `AUDITED`.
    room: Option<Room>,
    pub(super) keeps_logins: AtomicBool,
    /// The user is deleted while a login is recorded: after its proof, before its session.
    pub(super) deletes_user: AtomicBool,
    users: Arc<OneUser>,
    pub(super) open: watch::Sender<bool>,
    pub(super) given: Mutex<Vec<Chunk>>,
    pub(super) begun: Mutex<Vec<(ApiKey, String)>>,
}

#[derive(Default)]
pub(super) struct Events(Mutex<Vec<AuditEvent>>);

impl Events {
    pub(super) fn reasons(&self, action: Action) -> Vec<Option<&'static str>> {
        let events = self.0.lock();
        let those = events.iter().filter(|event| event.action == action);
        those.map(|event| event.reason).collect()
    }
}

impl AuditSink for Events {
    fn record(&self, event: AuditEvent) {
        self.0.lock().push(event);
    }
}

impl Service for Scripted {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn audit(&self) -> Option<&Arc<dyn AuditSink>> {
        self.audit.as_ref()
    }

    fn record_login(&self, event: AuditEvent) -> BoxFuture<'_, bool> {
        self.events.record(event);
        if self.deletes_user.load(Ordering::Relaxed) {
            self.users.gone.store(true, Ordering::Relaxed);
        }
        Box::pin(async { self.keeps_logins.load(Ordering::Relaxed) })
    }

    fn audit_hold(&self) -> Hold {
        self.room.clone().map_or_else(Hold::nothing, Hold::new)
    }

    fn identity(&self) -> (Arc<str>, BrokerId) {
        ("cluster".into(), BrokerId::new(7))
    }

    fn begin(
        self: Arc<Self>,
        session: Arc<Session>,
        key: ApiKey,
        header: RequestHeader,
        mut body: Reader,
    ) -> Result<Stage, Outcome> {
        self.begun.lock().push((key, session.principal.to_string()));
        let wire = Wire {
            key,
            version: header.api_version,
            correlation_id: header.correlation_id,
        };
        let close = |reason| Staged::Done(Outcome::Close(reason));
        let stage = async move {
            let answer = |body: &[u8]| Outcome::Response(vec![plain_answer(wire, body)]);
            match key {
                ApiKey::ApiVersions => {
                    let request = ApiVersionsRequest::decode(&mut body, wire.version);
                    let Ok(request) = request else {
                        return Staged::Done(Outcome::Close(CloseReason::Handler(key)));
                    };
                    let checked = api_versions::check(&request, wire.version, self.identity());
                    Staged::Done(wire.encode(&match checked {
                        Ok(_) => api_versions::everything(),
                        Err(code) => api_versions::error(code),
                    }))
                }
                ApiKey::SaslHandshake => Staged::Done(wire.encode(&sasl_handshake::response(
                    ErrorCode::ILLEGAL_SASL_STATE,
                    Vec::new(),
                ))),
                WAITS | AUDITED => {
                    let mut open = self.open.subscribe();
                    let later = async move {
                        let _ = open.wait_for(|open| *open).await;
                        if let Some(room) = self.room.as_ref().filter(|_| key == AUDITED) {
                            let context = session.audit_context();
                            let event = AuditEvent::new(Action::Allowed, Recorded::Ok, context);
                            room.queue.record(event);
                        }
                        Outcome::Response(vec![plain_answer(wire, b"late")])
                    };
                    Staged::Pending(Guarded::new(key, later, Outcome::Close))
                }
                PANICS => panic!("a handler that panics"),
                SILENT => Staged::Done(Outcome::NoResponse),
                CLOSES => Staged::Done(Outcome::Close(CloseReason::Handler(key))),
                MEASURES => Staged::Done(answer(body.remaining().to_string().as_bytes())),
                GIVEN => Staged::Done(Outcome::Response(self.given.lock().clone())),
                _ => Staged::Done(answer(b"now")),
            }
        };
        Ok(Guarded::new(key, stage, close))
    }
}

fn plain_answer(wire: Wire, body: &[u8]) -> Chunk {
    let mut frame = BytesMut::new();
    frame.put_u32(4 + body.len() as u32);
    frame.put_i32(wire.correlation_id);
    frame.put_slice(body);
    Chunk::Bytes(frame.freeze())
}

/// Limits for tests: times that pass quickly where a test waits for them, else never.
pub(super) fn limits() -> Limits {
    let long = Duration::from_secs(60);
    Limits {
        max_connections: 100,
        max_connections_per_ip: 100,
        max_connections_per_ip_overrides: BTreeMap::new(),
        max_connection_creation_rate: None,
        max_unauthenticated: 100,
        max_unauthenticated_per_ip: 100,
        request_max_bytes: 4 << 20,
        sasl_max_bytes: 64 << 10,
        queued_max_bytes: Some(8 << 20),
        idle: Some(long),
        failed_authentication_delay: Duration::from_millis(20),
        tls_handshake: long,
        login: long,
        frame: long,
        listen_backlog: 50,
        send_buffer_bytes: None,
        receive_buffer_bytes: None,
        fetch_max_bytes: 1 << 20,
        fetch_session_slots: 10,
        describe_partitions_max: 10,
    }
}

#[derive(Default)]
struct OneUser {
    gone: AtomicBool,
}

impl CredentialLookup for OneUser {
    fn scram(&self, user: &str, mechanism: ScramMechanism) -> Option<ScramCredential> {
        (user == "alice" && !self.gone.load(Ordering::Relaxed)).then(|| credential(mechanism))
    }

    fn plain(&self, user: &str) -> Option<ScramCredential> {
        self.scram(user, ScramMechanism::Sha512)
    }
}

fn credential(mechanism: ScramMechanism) -> ScramCredential {
    ScramCredential::from_password(mechanism, b"secret", b"0123456789abcdef", 4096)
        .expect("a good password")
}

impl Rig {
    pub(super) async fn start(protocol: SecurityProtocol, limits: Limits) -> Rig {
        Rig::with_tls(protocol, limits, None).await
    }

    pub(super) async fn with_tls(
        protocol: SecurityProtocol,
        limits: Limits,
        tls: Option<TlsSettings>,
    ) -> Rig {
        Rig::with(protocol, limits, tls, None, Parting::default()).await
    }

    /// One on PLAINTEXT whose connections are held back while there is no room.
    pub(super) async fn with_room(limits: Limits, room: Room) -> Rig {
        let parting = Parting::default();
        Rig::with(
            SecurityProtocol::Plaintext,
            limits,
            None,
            Some(room),
            parting,
        )
        .await
    }

    /// One that keeps connections for their peers as long as a test wants it to.
    pub(super) async fn with_parting(protocol: SecurityProtocol, parting: Parting) -> Rig {
        Rig::with(protocol, limits(), None, None, parting).await
    }

    pub(super) async fn with(
        protocol: SecurityProtocol,
        limits: Limits,
        tls: Option<TlsSettings>,
        room: Option<Room>,
        parting: Parting,
    ) -> Rig {
        let events = Arc::new(Events::default());
        let users = Arc::new(OneUser::default());
        let service = Arc::new(Scripted {
            audit: Some(Arc::clone(&events) as Arc<dyn AuditSink>),
            events,
            room,
            keeps_logins: AtomicBool::new(true),
            deletes_user: AtomicBool::new(false),
            users: Arc::clone(&users),
            open: watch::Sender::new(false),
            given: Mutex::default(),
            begun: Mutex::default(),
            limits,
        });
        let config = ListenerConfig {
            name: "TEST".to_owned(),
            protocol,
            host: "127.0.0.1".to_owned(),
            port: 0,
            advertised: Endpoint {
                host: "localhost".to_owned(),
                port: 0,
            },
            tls: None,
            sasl: None,
            max_connections: None,
            max_connection_creation_rate: None,
            inter_broker: false,
        };
        let sasl = protocol.uses_sasl().then(|| SaslDeps {
            enabled: Mechanisms::parse("SCRAM-SHA-256,PLAIN").unwrap(),
            credentials: users,
            cluster_secret: Secret::new("stable"),
            strict_nonce: false,
        });
        let bound = Bound::bind(config, &service.limits, tls.as_ref(), sasl).unwrap();
        let address = bound.state.address;
        let shutdown = Shutdown::new();
        let served = Arc::clone(&service) as Arc<dyn Service>;
        let server = Server::with_parting(served, shutdown.clone(), parting).unwrap();
        server.serve(bound);
        Rig {
            address,
            service,
            server,
            shutdown,
        }
    }

    pub(super) async fn connect(&self) -> Client<TcpStream> {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// A connection that the broker has not looked at yet.
    pub(super) fn knock(&self) -> Client<TcpStream> {
        let stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        Client(TcpStream::from_std(stream).unwrap())
    }

    /// Waits until every connection of this broker has ended.
    pub(super) async fn stop(self) {
        self.shutdown.advance(Step::Draining);
        self.server.gate().emptied().await;
    }
}

/// A client that speaks raw bytes.
pub(super) struct Client<S>(pub(super) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        // The server may have closed already; what it said is what a test looks at.
        let _ = self.0.write_all(bytes).await;
        let _ = self.0.flush().await;
    }

    /// One answer without its length, or `None` when the connection ended.
    pub(super) async fn answer(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).await.ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    /// Asserts that the connection ends without another byte.
    pub(super) async fn closed(&mut self) {
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection goes on");
        assert_eq!(rest, b"", "bytes before the end");
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(&mut self, request: &[u8]) -> Bytes {
        self.send(request).await;
        self.answer().await.expect("an answer")
    }
}

/// A request with header v1 and a raw body.
pub(super) fn request(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_u32(10 + body.len() as u32);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(correlation);
    frame.put_i16(-1);
    frame.put_slice(body);
    frame
}

/// A request of that API at its highest version that has header v1 or v2.
pub(super) fn ask(key: ApiKey, correlation: i32) -> Vec<u8> {
    let spec = palisade_protocol::api::spec(key).expect("served");
    let flexible = spec.first_flexible.is_some_and(|first| spec.max >= first);
    // A flexible header ends with its tags: none.
    let tags: &[u8] = if flexible { &[0] } else { &[] };
    request(key.value(), spec.max, correlation, tags)
}

/// SaslHandshake.
pub(super) fn handshake(version: i16, mechanism: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_i16(mechanism.len() as i16);
    body.put_slice(mechanism.as_bytes());
    request(17, version, 17, &body)
}

/// SaslAuthenticate v1.
pub(super) fn token(token: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_i32(token.len() as i32);
    body.put_slice(token);
    request(36, 1, 36, &body)
}

/// Correlation id and error code at the front of an answer with header v0.
pub(super) fn head(answer: &Bytes) -> (i32, i16) {
    let mut reader = Reader::new(answer.clone());
    (reader.read_i32().unwrap(), reader.read_i16().unwrap())
}
