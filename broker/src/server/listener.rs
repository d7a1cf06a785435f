//! Listeners: bound sockets, what they ask of clients, and the loop that accepts connections.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use openssl::ssl::SslContext;
use openssl::x509::X509Ref;
use palisade_auth::principal::Principal;
use palisade_auth::sasl::{Exchange, Mechanism, SaslDeps};
use palisade_auth::tls::principal::{MappingRules, PrincipalFailure, certificate_principal};
use palisade_auth::tls::{ServerTls, TlsError, TlsSettings};
use palisade_protocol::Str;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Server;
use super::connection::{self, Accepted};
use super::limits::Proof;
use super::pace::Pace;
use crate::config::{Endpoint, Limits, ListenerConfig, SecurityProtocol};
use crate::logging::Throttle;
use crate::shutdown::Stage;
use crate::task;

/// Pause after an accept that failed for want of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A listener as its connections see it.
pub struct ListenerState {
    /// Its configuration.
    pub config: ListenerConfig,
    /// Its name, for what outlives a borrow.
    pub(crate) name: Arc<str>,
    /// The address it is bound to, with the port the system chose.
    pub address: SocketAddr,
    tls: Option<ServerTls>,
    mapping: MappingRules,
    sasl: Option<SaslDeps>,
}

impl std::fmt::Debug for ListenerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener({} at {})", self.config.name, self.address)
    }
}

impl ListenerState {
    /// The endpoint that clients of this listener are told to dial.
    pub fn advertised(&self) -> Endpoint {
        let mut endpoint = self.config.advertised.clone();
        if endpoint.port == 0 {
            endpoint.port = self.address.port();
        }
        endpoint
    }

    /// The names of the enabled mechanisms, in the operator's order.
    pub(crate) fn mechanisms(&self) -> Vec<Str> {
        let names = self.sasl.iter().flat_map(|sasl| sasl.enabled.names());
        names.map(Str::from_static).collect()
    }

    /// Begins a login by the mechanism of that name; `None` when it is not enabled here.
    pub(crate) fn start_exchange(&self, mechanism: &str) -> Option<Exchange> {
        Exchange::start(mechanism, self.sasl.as_ref()?).ok()
    }

    /// Names the credential by which a login of that user would be judged now.
    pub(crate) fn credential(&self, mechanism: &str, user: &str) -> Option<[u8; 32]> {
        let credentials = &self.sasl.as_ref()?.credentials;
        let found = match Mechanism::from_name(mechanism)? {
            Mechanism::Plain => credentials.plain(user),
            Mechanism::Scram(scram) => credentials.scram(user, scram),
        };
        found.map(|credential| credential.fingerprint())
    }

    pub(super) fn tls_context(&self) -> Option<SslContext> {
        self.tls.as_ref().map(ServerTls::context)
    }

    /// The principal of a verified client certificate.
    ///
    /// # Errors
    /// No mapping rule gives it a name that may be used.
    pub(super) fn map_certificate(
        &self,
        certificate: &X509Ref,
    ) -> Result<Principal, PrincipalFailure> {
        certificate_principal(certificate, &self.mapping)
    }
}

/// Counted places of one connection, in its listener and in the node.
#[derive(Debug)]
pub(super) struct Slots {
    _listener: OwnedSemaphorePermit,
    _node: Option<OwnedSemaphorePermit>,
}

/// A listener that is bound and does not accept yet.
#[derive(Debug)]
pub struct Bound {
    /// What its connections will see.
    pub state: Arc<ListenerState>,
    tcp: TcpListener,
    places: Arc<Semaphore>,
    pace: Pace,
}

/// A listener that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address does not resolve or cannot be bound.
    #[error(
        "listener {name}: cannot bind {host:?} port {port}: {}",
        unbound(source)
    )]
    Bind {
        /// The listener's name.
        name: String,
        /// The host to bind.
        host: String,
        /// The port to bind.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// Key, chain or trust cannot be used.
    #[error("listener {name}: {source}")]
    Tls {
        /// The listener's name.
        name: String,
        /// What is wrong with them.
        source: TlsError,
    },
}

/// What to do about an address that cannot be bound.
fn unbound(source: &io::Error) -> String {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there; stop that one, or choose another port (palisade dev: \
             --port, 0 for a free one; palisade start: listeners)"
        }
        io::ErrorKind::AddrNotAvailable => "no network interface of this machine has that address",
        io::ErrorKind::PermissionDenied => {
            "this user may not listen there; ports below 1024 take the capability \
             CAP_NET_BIND_SERVICE, others do not"
        }
        _ => return source.to_string(),
    };
    format!("{hint} ({source})")
}

impl Bound {
    /// Binds a listener. Connections wait in the kernel's line until `Bound::serve`.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(
        config: ListenerConfig,
        limits: &Limits,
        tls: Option<&TlsSettings>,
        sasl: Option<SaslDeps>,
    ) -> Result<Self, ListenError> {
        let mapping = tls.map(|tls| tls.mapping_rules.clone()).unwrap_or_default();
        let tls = tls.map(ServerTls::new).transpose();
        let tls = tls.map_err(|source| ListenError::Tls {
            name: config.name.clone(),
            source,
        })?;
        let (tcp, address) = open(&config, limits).map_err(|source| ListenError::Bind {
            name: config.name.clone(),
            host: config.host.clone(),
            port: config.port,
            source,
        })?;
        let places = config.max_connections.unwrap_or(limits.max_connections);
        Ok(Bound {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            pace: Pace::new(config.max_connection_creation_rate),
            tcp,
            state: Arc::new(ListenerState {
                name: config.name.as_str().into(),
                config,
                address,
                tls,
                mapping,
                sasl,
            }),
        })
    }

    /// Accepts connections until the broker drains.
    pub(super) async fn serve(self, server: Arc<Server>) {
        let drained = server.shutdown.reached(Stage::Draining);
        tokio::pin!(drained);
        loop {
            tokio::select! {
                () = &mut drained => return,
                accepted = self.accept(&server) => match accepted {
                    Ok(Some(accepted)) => {
                        let connection =
                            connection::run(Arc::clone(&server), Arc::clone(&self.state), accepted);
                        task::spawn("connection", connection);
                    }
                    Ok(None) => {}
                    Err(error) => self.pause(&error).await,
                },
            }
        }
    }

    /// Takes one connection; `None` when it was refused. Cancel-safe.
    async fn accept(&self, server: &Arc<Server>) -> io::Result<Option<Accepted>> {
        let (tcp, peer) = self.tcp.accept().await?;
        let proof = match self.state.config.protocol {
            SecurityProtocol::Plaintext => Proof::NotNeeded,
            _ => Proof::Needed,
        };
        let admitted = match server.counts.admit(peer.ip(), proof) {
            Ok(place) => place,
            Err(refused) => {
                let listener = &self.state.config.name;
                tracing::debug!(%peer, listener, %refused, "connection refused");
                server.note_refused(&self.state, (tcp, peer), refused);
                return Ok(None);
            }
        };
        // Past the limit this one waits here and the others in the kernel's line. The listener that
        // nodes use among themselves has only its own limit: clients cannot lock nodes out.
        let slots = Slots {
            _listener: place(&self.places).await,
            _node: match self.state.config.inter_broker {
                true => None,
                false => Some(place(&server.places).await),
            },
        };
        self.pace.turn().await;
        if !self.state.config.inter_broker {
            server.pace.turn().await;
        }
        // Answers are whole writes; waiting to fill packets would only delay them.
        tcp.set_nodelay(true)?;
        let local = tcp.local_addr()?;
        Ok(Some(Accepted {
            id: server.next_id(),
            tcp,
            peer,
            local,
            place: admitted,
            slots,
        }))
    }

    async fn pause(&self, error: &io::Error) {
        let gone = [
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::NotConnected,
            io::ErrorKind::InvalidInput,
        ];
        // The client hung up between its connect and our accept: nothing is wrong with us.
        if gone.contains(&error.kind()) {
            return;
        }
        // Whoever opens connections without end keeps us here, ten times a second.
        static SAID: Throttle = Throttle::new();
        if SAID.may_speak() {
            let listener = &self.state.config.name;
            tracing::warn!(listener, %error, "accept failed; pausing");
        }
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

async fn place(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let acquired = Arc::clone(places).acquire_owned().await;
    acquired.expect("the semaphore is never closed")
}

fn open(config: &ListenerConfig, limits: &Limits) -> io::Result<(TcpListener, SocketAddr)> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses(config)? {
        match listen(address, limits) {
            Ok(tcp) => {
                let bound = tcp.local_addr()?;
                return Ok((tcp, bound));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Addresses to try: an empty host means every interface, IPv6 with IPv4 mapped into it first.
fn addresses(config: &ListenerConfig) -> io::Result<Vec<SocketAddr>> {
    if config.host.is_empty() {
        return Ok(vec![
            (Ipv6Addr::UNSPECIFIED, config.port).into(),
            (Ipv4Addr::UNSPECIFIED, config.port).into(),
        ]);
    }
    Ok((config.host.as_str(), config.port)
        .to_socket_addrs()?
        .collect())
}

fn listen(address: SocketAddr, limits: &Limits) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    // Buffer sizes are inherited by accepted sockets and must be set before listening.
    if let Some(bytes) = limits.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = limits.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(limits.listen_backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}
