//! Where an event comes from: the connection with its login, and the request.

use std::net::SocketAddr;
use std::sync::Arc;

use super::overflow::Overflow;
use crate::principal::Principal;

/// What a client certificate said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The subject, as Java prints it.
    pub subject: String,
    /// The issuer, as Java prints it.
    pub issuer: String,
    /// The serial number in hex.
    pub serial: String,
    /// SHA-256 of the certificate in hex.
    pub sha256: String,
    /// When it expires, as text.
    pub not_after: String,
}

/// The TLS session of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// For example `TLSv1.3`.
    pub version: String,
    /// The IANA name of the suite.
    pub cipher: String,
    /// The server name the client asked for.
    pub sni: Option<String>,
    /// The client's certificate, if it sent one.
    pub certificate: Option<CertificateInfo>,
    /// Whether its chain was verified.
    pub verified: bool,
}

/// How the caller was authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthInfo {
    /// The SASL mechanism, or `SSL`, or `none`.
    pub mechanism: String,
    /// The principal; for a failed login the one that was tried, if it came that far.
    pub principal: Option<Principal>,
}

/// What is constant on one connection after login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The listener's name.
    pub listener: String,
    /// The id of the connection, unique within the stream.
    pub conn: String,
    /// The peer.
    pub src: Option<SocketAddr>,
    /// The local end.
    pub dst: Option<SocketAddr>,
    /// The TLS session.
    pub tls: Option<TlsInfo>,
    /// The login.
    pub auth: Option<AuthInfo>,
}

/// The request being served. Cheap to make: names are shared or static.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// The API's name.
    pub api: &'static str,
    /// The API's key.
    pub key: i16,
    /// The version.
    pub version: i16,
    /// The correlation id.
    pub correlation: i32,
    /// The client id.
    pub client_id: Option<Arc<str>>,
    /// Name and version of the client's software, `name/version`.
    pub software: Option<Arc<str>>,
}

/// Where an event comes from.
#[derive(Debug, Clone, Default)]
pub struct AuditContext {
    /// The connection; `None` for what the node does by itself.
    pub connection: Option<Arc<ConnectionInfo>>,
    /// The request.
    pub request: Option<RequestInfo>,
    /// Whether permitted questions of this request are recorded (admin APIs by default).
    pub log_allowed: bool,
    /// Where the events of the connection wait while the queue is full; without it they are
    /// counted at once.
    pub overflow: Option<Arc<Overflow>>,
}

impl ConnectionInfo {
    /// Bytes of its texts that the peer chooses, but for its login.
    pub(super) fn weight(&self) -> usize {
        let Some(tls) = &self.tls else { return 0 };
        let certificate = tls.certificate.as_ref().map_or(0, |certificate| {
            let CertificateInfo {
                subject,
                issuer,
                serial,
                sha256,
                not_after,
            } = certificate;
            let texts = [subject, issuer, serial, sha256, not_after];
            texts.iter().map(|text| text.len()).sum()
        });
        certificate + tls.sni.as_ref().map_or(0, String::len)
    }
}

impl AuthInfo {
    pub(super) fn weight(&self) -> usize {
        let principal = self.principal.as_ref();
        self.mechanism.len() + principal.map_or(0, |one| one.kind.len() + one.name.len())
    }
}

impl RequestInfo {
    pub(super) fn weight(&self) -> usize {
        let texts = [&self.client_id, &self.software];
        texts.into_iter().flatten().map(|text| text.len()).sum()
    }
}
