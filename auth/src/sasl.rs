//! SASL exchanges: which mechanisms there are, and one login from first to last message
//! (spec/security.md §3).

pub mod jaas;
mod plain;

use std::fmt;
use std::sync::Arc;

use ::sasl::common::Identity;
use ::sasl::server::{Mechanism as ServerMechanism, Response};
use thiserror::Error;

pub use plain::{PlainServer, PlainUsers};

use crate::principal::Principal;
use crate::scram::{ScramCredential, ScramMechanism, ScramServer};
use crate::secret::Secret;

/// A mechanism that is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// RFC 5802 with SHA-256 or SHA-512.
    Scram(ScramMechanism),
}

impl Mechanism {
    /// The SASL name, upper case; names compare exactly.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(scram) => scram.name(),
        }
    }

    /// Finds the mechanism of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "PLAIN" {
            return Some(Self::Plain);
        }
        ScramMechanism::from_name(name).map(Self::Scram)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A list of mechanisms that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MechanismsError {
    /// Nothing is enabled.
    #[error("no SASL mechanism is enabled")]
    Empty,
    /// A name that is unknown or not built.
    #[error("SASL mechanism `{0}` is not supported; there are PLAIN, SCRAM-SHA-256, SCRAM-SHA-512")]
    Unknown(String),
}

/// The mechanisms enabled on a listener, in the operator's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mechanisms(Vec<Mechanism>);

impl Mechanisms {
    /// Reads `sasl.enabled.mechanisms`, a comma-separated list.
    ///
    /// # Errors
    /// An empty list, or a name that is not built.
    pub fn parse(text: &str) -> Result<Self, MechanismsError> {
        let mut mechanisms = Vec::new();
        for name in text.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            let mechanism = Mechanism::from_name(name)
                .ok_or_else(|| MechanismsError::Unknown(name.escape_debug().to_string()))?;
            if !mechanisms.contains(&mechanism) {
                mechanisms.push(mechanism);
            }
        }
        if mechanisms.is_empty() {
            return Err(MechanismsError::Empty);
        }
        Ok(Self(mechanisms))
    }

    /// The names, for the answer of SaslHandshake.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|mechanism| mechanism.name())
    }

    /// Tells whether a mechanism is enabled.
    pub fn contains(&self, mechanism: Mechanism) -> bool {
        self.0.contains(&mechanism)
    }

    /// Every mechanism.
    pub fn iter(&self) -> impl Iterator<Item = Mechanism> {
        self.0.iter().copied()
    }
}

impl Default for Mechanisms {
    /// SCRAM only, the stronger first.
    fn default() -> Self {
        Self(vec![
            Mechanism::Scram(ScramMechanism::Sha512),
            Mechanism::Scram(ScramMechanism::Sha256),
        ])
    }
}

/// Where credentials are found. One exchange looks up once and keeps what it got.
pub trait CredentialLookup: Send + Sync {
    /// The user's credential for a SCRAM mechanism.
    fn scram(&self, user: &str, mechanism: ScramMechanism) -> Option<ScramCredential>;

    /// The credential against which PLAIN checks the user's password.
    fn plain(&self, user: &str) -> Option<ScramCredential>;

    /// The iteration counts that credentials of a mechanism have, sorted, without duplicates;
    /// what is invented for unknown users takes one of them.
    fn iteration_counts(&self, mechanism: ScramMechanism) -> Vec<u32> {
        let _ = mechanism;
        Vec::new()
    }

    /// Mechanism and iterations of the credentials that [`plain`](Self::plain) returns, sorted,
    /// without duplicates, and none by which nobody is judged: what is invented for unknown users
    /// is of one of these kinds.
    fn plain_kinds(&self) -> Vec<(ScramMechanism, u32)> {
        let strongest = ScramMechanism::Sha512;
        let counts = self.iteration_counts(strongest).into_iter();
        counts.map(|iterations| (strongest, iterations)).collect()
    }
}

/// What exchanges of a listener need.
#[derive(Clone)]
pub struct SaslDeps {
    /// The mechanisms enabled on the listener.
    pub enabled: Mechanisms,
    /// The credentials.
    pub credentials: Arc<dyn CredentialLookup>,
    /// A stable secret that all nodes share: it shapes the salts of users that do not exist.
    pub cluster_secret: Secret,
    /// `palisade.sasl.scram.strict.nonce`: refuse the doubled nonce of librdkafka < 2.6.1.
    pub strict_nonce: bool,
}

/// The mechanism named is not enabled; the wire answer is UNSUPPORTED_SASL_MECHANISM.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("SASL mechanism is not enabled on this listener")]
pub struct Unsupported;

/// Why a login failed, for the audit log. The client is told less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// A message is not what the grammar says, or comes out of order.
    Malformed(&'static str),
    /// PLAIN without user name.
    NoUsername,
    /// PLAIN without password.
    NoPassword,
    /// Another authorization id than the user's own.
    ForeignAuthzid,
    /// No such user, or not for this mechanism.
    UnknownUser,
    /// The password or the proof is wrong.
    WrongPassword,
    /// The final message has not the nonce of this exchange.
    NonceMismatch,
    /// `c=` does not repeat the header.
    ChannelBinding,
    /// The stored credential is too weak to be used.
    WeakCredential,
    /// Delegation tokens are not served.
    Token,
    /// OpenSSL failed.
    Internal,
}

impl FailureCause {
    /// The stable code in the audit log.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::NoUsername | Self::NoPassword | Self::WrongPassword => "bad_credentials",
            Self::ForeignAuthzid => "foreign_authzid",
            Self::UnknownUser => "unknown_user",
            Self::NonceMismatch => "nonce_mismatch",
            Self::ChannelBinding => "channel_binding",
            Self::WeakCredential => "weak_credential",
            Self::Token => "unknown_token",
            Self::Internal => "internal",
        }
    }
}

/// What one message of the client led to.
pub enum Step {
    /// Send the bytes and wait for the next message.
    Continue(Exchange, Vec<u8>),
    /// The client is who it claims to be.
    Success {
        /// Its principal.
        principal: Principal,
        /// The last bytes for the client, maybe none; they are sent in any case.
        token: Vec<u8>,
        /// Names the credential that was used, see [`ScramCredential::fingerprint`].
        credential: [u8; 32],
        /// The client doubled its nonce as librdkafka before 2.6.1 does.
        legacy_nonce: bool,
    },
    /// The client is refused.
    Failure {
        /// The text for the client.
        message: String,
        /// The cause for the audit log.
        cause: FailureCause,
        /// The user name that was tried, if the exchange came that far.
        user: Option<String>,
    },
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue(..) => f.write_str("Continue"),
            Self::Success { principal, .. } => write!(f, "Success({principal:?})"),
            Self::Failure { cause, .. } => write!(f, "Failure({cause:?})"),
        }
    }
}

/// What a mechanism says beside its answer.
#[derive(Debug, Default)]
pub(crate) struct Details {
    pub(crate) user: Option<String>,
    pub(crate) cause: Option<FailureCause>,
    /// A text for the client other than the fixed one.
    pub(crate) text: Option<String>,
    pub(crate) credential: [u8; 32],
    pub(crate) legacy_nonce: bool,
}

pub(crate) const FOREIGN_AUTHZID: &str =
    "Authentication failed: Client requested an authorization id that is different from username";

/// One login in progress. Each message consumes it, so that none can be sent twice.
pub struct Exchange {
    state: State,
}

enum State {
    Plain(PlainServer),
    Scram(Box<ScramServer>),
}

impl Exchange {
    /// Begins the exchange of a mechanism.
    ///
    /// # Errors
    /// The mechanism is unknown or not enabled here; both look the same to the client.
    pub fn start(mechanism: &str, deps: &SaslDeps) -> Result<Self, Unsupported> {
        let mechanism = Mechanism::from_name(mechanism)
            .filter(|mechanism| deps.enabled.contains(*mechanism))
            .ok_or(Unsupported)?;
        let state = match mechanism {
            Mechanism::Plain => State::Plain(PlainServer::new(deps)),
            Mechanism::Scram(scram) => State::Scram(Box::new(ScramServer::new(scram, deps))),
        };
        Ok(Self { state })
    }

    /// The name of the mechanism.
    pub fn mechanism(&self) -> &str {
        match &self.state {
            State::Plain(plain) => plain.name(),
            State::Scram(scram) => scram.name(),
        }
    }

    /// Takes the client's next message.
    ///
    /// PLAIN derives a key here, some milliseconds of work; SCRAM takes microseconds.
    pub fn step(mut self, message: &[u8]) -> Step {
        let (response, details) = match &mut self.state {
            State::Plain(plain) => (plain.respond(message), plain.take_details()),
            State::Scram(scram) => (scram.respond(message), scram.take_details()),
        };
        match response {
            Ok(Response::Proceed(bytes)) => Step::Continue(self, bytes),
            Ok(Response::Success(Identity::Username(user), token)) => Step::Success {
                principal: Principal::user(user),
                token,
                credential: details.credential,
                legacy_nonce: details.legacy_nonce,
            },
            Ok(Response::Success(Identity::None, _)) | Err(_) => Step::Failure {
                message: details
                    .text
                    .unwrap_or_else(|| Self::refusal_text(self.mechanism())),
                cause: details.cause.unwrap_or(FailureCause::Internal),
                user: details.user,
            },
        }
    }

    /// What a client reads of a login that is refused, the same to the letter whatever the cause:
    /// who guesses learns nothing from it.
    pub fn refusal_text(mechanism: &str) -> String {
        format!(
            "Authentication failed during authentication due to invalid credentials with SASL \
             mechanism {mechanism}"
        )
    }
}

#[cfg(test)]
mod tests;
