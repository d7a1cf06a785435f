//! The server's half of one SCRAM exchange.

use std::sync::Arc;

use ::sasl::common::Identity;
use ::sasl::server::{Mechanism, MechanismError, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;

use super::credential::{ScramCredential, random_text};
use super::crypto::{h, hmac};
use super::fake;
use super::mechanism::ScramMechanism;
use super::message::{ClientFinal, ClientFirst, Malformed};
use crate::sasl::{CredentialLookup, Details, FOREIGN_AUTHZID, FailureCause, SaslDeps};
use crate::secret::{Secret, constant_time_eq};

/// Verifies one client over StoredKey and ServerKey.
///
/// A user that does not exist gets the same answers as one with a wrong password, after the
/// same work.
pub struct ScramServer {
    mechanism: ScramMechanism,
    credentials: Arc<dyn CredentialLookup>,
    cluster_secret: Secret,
    strict_nonce: bool,
    /// A fixed nonce, for vectors.
    server_nonce: Option<String>,
    state: State,
    details: Details,
}

enum State {
    AwaitFirst,
    AwaitFinal(Box<Promise>),
    Over,
}

/// What the first message settled.
struct Promise {
    user: String,
    credential: ScramCredential,
    /// Set when the exchange cannot succeed whatever the proof says.
    doomed: Option<FailureCause>,
    gs2: String,
    client_nonce: String,
    server_nonce: String,
    /// `client-first-bare "," server-first ","`, the raw bytes.
    transcript: Vec<u8>,
}

impl ScramServer {
    pub(crate) fn new(mechanism: ScramMechanism, deps: &SaslDeps) -> Self {
        Self {
            mechanism,
            credentials: Arc::clone(&deps.credentials),
            cluster_secret: deps.cluster_secret.clone(),
            strict_nonce: deps.strict_nonce,
            server_nonce: None,
            state: State::AwaitFirst,
            details: Details::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_server_nonce(mut self, nonce: &str) -> Self {
        self.server_nonce = Some(nonce.to_owned());
        self
    }

    pub(crate) fn take_details(&mut self) -> Details {
        std::mem::take(&mut self.details)
    }

    fn first(&mut self, message: &[u8]) -> Result<Response, FailureCause> {
        let message = ClientFirst::parse(message)?;
        self.details.user = Some(message.user.clone());
        if message
            .authzid
            .as_ref()
            .is_some_and(|id| *id != message.user)
        {
            self.details.text = Some(FOREIGN_AUTHZID.to_owned());
            return Err(FailureCause::ForeignAuthzid);
        }
        let (credential, doomed) = self.credential(&message)?;
        let server_nonce = match self.server_nonce.take() {
            Some(nonce) => nonce,
            None => random_text()?,
        };
        let server_first = format!(
            "r={}{server_nonce},s={},i={}",
            message.nonce,
            STANDARD.encode(&credential.salt),
            credential.iterations
        );
        self.state = State::AwaitFinal(Box::new(Promise {
            credential,
            doomed,
            gs2: message.gs2.to_owned(),
            client_nonce: message.nonce.to_owned(),
            server_nonce,
            transcript: format!("{},{server_first},", message.bare).into_bytes(),
            user: message.user,
        }));
        Ok(Response::Proceed(server_first.into_bytes()))
    }

    /// The user's credential, or an invented one and the reason why.
    fn credential(
        &self,
        message: &ClientFirst<'_>,
    ) -> Result<(ScramCredential, Option<FailureCause>), ErrorStack> {
        let user = message.user.as_str();
        let found = self.credentials.scram(user, self.mechanism);
        // Invented also where it is not needed, so that the time tells nothing.
        let iterations = self.credentials.iteration_counts(self.mechanism);
        let fake = fake::credential(&self.cluster_secret, self.mechanism, user, &iterations)?;
        let doomed = match found {
            _ if message.token => FailureCause::Token,
            None => FailureCause::UnknownUser,
            // A forged record must not make the exchange weaker, nor look different.
            Some(found) if found.mechanism != self.mechanism || found.check().is_err() => {
                FailureCause::WeakCredential
            }
            Some(found) => return Ok((found, None)),
        };
        Ok((fake, Some(doomed)))
    }

    fn last(&mut self, promise: Promise, message: &[u8]) -> Result<Response, FailureCause> {
        let message = ClientFinal::parse(message)?;
        self.details.user = Some(promise.user.clone());
        if message.channel_binding != promise.gs2.as_bytes() {
            return Err(FailureCause::ChannelBinding);
        }
        let legacy_nonce = self.check_nonce(&promise, message.nonce)?;
        let key_len = self.mechanism.key_len();
        if message.proof.len() != key_len {
            return Err(FailureCause::Malformed("proof length"));
        }
        let stored_key = promise.credential.stored_key.expose();
        let server_key = promise.credential.server_key.expose();
        let auth_message = [&promise.transcript[..], message.without_proof.as_bytes()];
        let signature = hmac(self.mechanism, stored_key, &auth_message)?;
        let client_key: Vec<u8> = message
            .proof
            .iter()
            .zip(signature.iter())
            .map(|(proof, signature)| proof ^ signature)
            .collect();
        let client_key = Secret::new(client_key);
        let proven = constant_time_eq(&h(self.mechanism, client_key.expose())?, stored_key);
        let verifier = hmac(self.mechanism, server_key, &auth_message)?;
        if let Some(cause) = promise.doomed {
            return Err(cause);
        }
        if !proven {
            return Err(FailureCause::WrongPassword);
        }
        self.details.credential = promise.credential.fingerprint();
        self.details.legacy_nonce = legacy_nonce;
        let server_final = format!("v={}", STANDARD.encode(&*verifier));
        Ok(Response::Success(
            Identity::Username(promise.user),
            server_final.into_bytes(),
        ))
    }

    /// Accepts `client ‖ server`, and the `client ‖ client ‖ server` of librdkafka before
    /// 2.6.1 unless configured strictly. Tells whether it was the second.
    ///
    /// A comparison of the server's part alone would be CVE-2024-56128.
    fn check_nonce(&self, promise: &Promise, nonce: &str) -> Result<bool, FailureCause> {
        let rest = nonce
            .strip_prefix(&promise.client_nonce)
            .ok_or(FailureCause::NonceMismatch)?;
        if rest == promise.server_nonce {
            return Ok(false);
        }
        let doubled = rest.strip_prefix(&promise.client_nonce);
        if !self.strict_nonce && doubled == Some(&promise.server_nonce) {
            return Ok(true);
        }
        Err(FailureCause::NonceMismatch)
    }
}

impl From<Malformed> for FailureCause {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

impl From<ErrorStack> for FailureCause {
    fn from(_: ErrorStack) -> Self {
        Self::Internal
    }
}

impl Mechanism for ScramServer {
    fn name(&self) -> &str {
        self.mechanism.name()
    }

    fn respond(&mut self, payload: &[u8]) -> Result<Response, MechanismError> {
        let result = match std::mem::replace(&mut self.state, State::Over) {
            State::AwaitFirst => self.first(payload),
            State::AwaitFinal(promise) => self.last(*promise, payload),
            State::Over => Err(FailureCause::Malformed("exchange is over")),
        };
        result.map_err(|cause| {
            self.details.cause = Some(cause);
            MechanismError::AuthenticationFailed
        })
    }
}

#[cfg(test)]
mod tests;
