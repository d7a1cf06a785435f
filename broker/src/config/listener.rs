//! Listeners: a named address, its security protocol, and what it asks of those who connect.
//!
//! Source: security.md §1.1 and §1.2 (KIP-103, KIP-226, KIP-684).

use std::fmt;

use super::{sasl::SaslConfig, tls::TlsSettings};

/// How a listener protects and authenticates its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecurityProtocol {
    /// No TLS, no authentication; everybody is `User:ANONYMOUS`.
    Plaintext,
    /// TLS; a client certificate, if asked for, becomes the principal.
    Ssl,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL over TLS; a client certificate never becomes the principal.
    SaslSsl,
}

impl SecurityProtocol {
    /// All four, in the order of Kafka's default map.
    pub const ALL: [Self; 4] = [
        Self::Plaintext,
        Self::Ssl,
        Self::SaslPlaintext,
        Self::SaslSsl,
    ];

    /// Kafka's name of the protocol, as in `listener.security.protocol.map`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// The protocol of that name; letters of either case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    /// Whether connections are encrypted.
    pub fn uses_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether clients must log in through SASL.
    pub fn uses_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A host and a port as clients are told to dial them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Name or address literal, an IPv6 address without its brackets.
    pub host: String,
    /// TCP port; 0 stands for the port that the listener was given by the system.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One endpoint on which the node accepts clients, with everything that its prefix overrides.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// Listener name, upper case, unique within the node.
    pub name: String,
    /// Its security protocol.
    pub protocol: SecurityProtocol,
    /// Host to bind: empty for every interface, else a name or an address literal.
    pub host: String,
    /// Port to bind; 0 lets the system choose.
    pub port: u16,
    /// What Metadata answers on this listener.
    pub advertised: Endpoint,
    /// Key, chain and trust; present exactly on SSL and SASL_SSL.
    pub tls: Option<TlsSettings>,
    /// Mechanisms; present exactly on SASL_PLAINTEXT and SASL_SSL.
    pub sasl: Option<SaslConfig>,
    /// Most connections open at once on this listener; `None` leaves the node-wide limit alone.
    pub max_connections: Option<usize>,
    /// Most connections accepted per second on this listener.
    pub max_connection_creation_rate: Option<u32>,
    /// Whether other nodes use this listener.
    pub inter_broker: bool,
}
