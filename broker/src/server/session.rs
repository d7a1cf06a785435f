//! Who is on the other end of a connection: fixed once it may serve requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use palisade_auth::audit::{AuditContext, ConnectionInfo, Overflow, shown};
use palisade_auth::principal::{Caller, Principal};
use palisade_protocol::Str;
use parking_lot::Mutex;

use super::listener::ListenerState;

/// An authenticated connection as handlers see it.
#[derive(Debug)]
pub struct Session {
    /// Number of the connection, unique within one run of the broker.
    pub id: u64,
    /// The principal that every request of this connection acts as.
    pub principal: Principal,
    /// Address of the client.
    pub peer: SocketAddr,
    /// Address the client connected to.
    pub local: SocketAddr,
    /// The listener the connection came in on.
    pub listener: Arc<ListenerState>,
    /// The SASL mechanism that named the principal, `SSL` for a certificate, else `none`.
    pub mechanism: String,
    info: Arc<ConnectionInfo>,
    /// Where its events wait while the audit log has no room for them.
    overflow: Option<Arc<Overflow>>,
    /// Names the credential that its login proved; none where there was no SASL login.
    credential: Option<[u8; 32]>,
    said: Mutex<Said>,
    heard_of_transactions: AtomicBool,
}

/// What the client calls itself, as much of it as the audit log shows: events keep it for minutes,
/// and a client can choose another name for each of its requests.
#[derive(Debug, Default)]
struct Said {
    /// `name/version`.
    software: Option<Arc<str>>,
    client_id: Option<Arc<str>>,
}

/// What the client says it is (ApiVersions v3, KIP-511): checked for form, not for truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSoftware {
    /// Such as `apache-kafka-java`.
    pub name: Str,
    /// Such as `4.3.1`.
    pub version: Str,
}

impl Session {
    /// A session for a connection that has just been authenticated.
    pub(crate) fn new(
        id: u64,
        principal: Principal,
        (peer, local): (SocketAddr, SocketAddr),
        listener: Arc<ListenerState>,
        (mechanism, credential): (String, Option<[u8; 32]>),
        (info, overflow): (Arc<ConnectionInfo>, Option<Arc<Overflow>>),
    ) -> Self {
        Session {
            id,
            principal,
            peer,
            local,
            listener,
            mechanism,
            info,
            overflow,
            credential,
            said: Mutex::default(),
            heard_of_transactions: AtomicBool::new(false),
        }
    }

    /// Whether a login would still be judged by the credential that its login proved: false
    /// once that was deleted or replaced (security.md §3.6).
    pub(crate) fn stands(&self) -> bool {
        let Some(proven) = self.credential else {
            return true;
        };
        let name = &self.principal.name;
        self.listener.credential(&self.mechanism, name) == Some(proven)
    }

    /// The principal and address that authorization asks about.
    pub fn caller(&self) -> Caller {
        Caller::new(self.principal.clone(), self.peer.ip())
    }

    /// What the audit log says about this connection.
    pub fn audit_context(&self) -> AuditContext {
        AuditContext {
            connection: Some(Arc::clone(&self.info)),
            overflow: self.overflow.clone(),
            ..AuditContext::default()
        }
    }

    /// What the client said it is, `name/version`, if it did.
    pub fn software(&self) -> Option<Arc<str>> {
        self.said.lock().software.clone()
    }

    /// Notes that the client is told that there are no transactions; whether it was told before.
    pub(crate) fn hears_of_transactions(&self) -> bool {
        self.heard_of_transactions.swap(true, Ordering::Relaxed)
    }

    /// The name a request gives its client; nearly always that of the request before.
    pub(crate) fn client_id(&self, said: Option<&str>) -> Option<Arc<str>> {
        self.said.lock().client_id(said)
    }

    /// Keeps what a valid ApiVersions request said; the latest one counts.
    pub(crate) fn set_software(&self, software: &ClientSoftware) {
        self.said.lock().set_software(software);
    }
}

impl Said {
    fn client_id(&mut self, said: Option<&str>) -> Option<Arc<str>> {
        let said = said.map(shown);
        if self.client_id.as_deref() != said {
            self.client_id = said.map(Arc::from);
        }
        self.client_id.clone()
    }

    fn set_software(&mut self, software: &ClientSoftware) {
        let text = format!("{}/{}", software.name, software.version);
        self.software = Some(shown(&text).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_line_shows_is_kept_of_a_name() {
        let mut said = Said::default();
        let long = "c".repeat(32_767);
        let kept = said.client_id(Some(&long)).unwrap();
        assert!(kept.len() < 1100, "{}", kept.len());
        let again = said.client_id(Some(&long)).unwrap();
        assert!(Arc::ptr_eq(&kept, &again), "made once");
        assert_eq!(said.client_id(Some("me")).as_deref(), Some("me"));
        assert_eq!(said.client_id(None), None);
        said.set_software(&ClientSoftware {
            name: Str::from(long),
            version: Str::from_static("1"),
        });
        assert!(said.software.unwrap().len() < 1100);
    }
}
