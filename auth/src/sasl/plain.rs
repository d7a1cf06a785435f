//! PLAIN, strictly (RFC 4616, spec/security.md §3.2).

use std::collections::HashMap;
use std::sync::Arc;

use ::sasl::common::Identity;
use ::sasl::server::{Mechanism, MechanismError, Response};

use super::{CredentialLookup, Details, FOREIGN_AUTHZID, FailureCause, SaslDeps};
use crate::scram::{CredentialError, ScramCredential, ScramMechanism};
use crate::scram::{fake_plain_credential, random_salt};
use crate::secret::Secret;

/// The longest field, in bytes.
const FIELD_MAX: usize = 255;

/// The passwords of `user_<name>="<password>"` options, hashed when read.
#[derive(Debug, Clone, Default)]
pub struct PlainUsers(HashMap<String, ScramCredential>);

impl PlainUsers {
    /// The mechanism whose derivation hashes the passwords.
    pub const MECHANISM: ScramMechanism = ScramMechanism::Sha512;
    /// Its iterations.
    pub const ITERATIONS: u32 = 8192;
    /// Both, as [`CredentialLookup::plain_kinds`] has them.
    pub const KIND: (ScramMechanism, u32) = (Self::MECHANISM, Self::ITERATIONS);

    /// Takes names and passwords, as [`JaasEntry::users`](super::jaas::JaasEntry::users) has them.
    ///
    /// # Errors
    /// OpenSSL failed.
    pub fn new<'a>(
        users: impl IntoIterator<Item = (&'a str, &'a Secret)>,
    ) -> Result<Self, CredentialError> {
        users
            .into_iter()
            // An empty password can never be presented, so such a user stays unknown.
            .filter(|(_, password)| !password.is_empty())
            .map(|(user, password)| Ok((user.to_owned(), hash(password)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Finds a user.
    pub fn get(&self, user: &str) -> Option<&ScramCredential> {
        self.0.get(user)
    }

    /// Tells whether there is no user.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn hash(password: &Secret) -> Result<ScramCredential, CredentialError> {
    let salt = random_salt()?;
    ScramCredential::from_password(
        PlainUsers::MECHANISM,
        password.expose(),
        &salt,
        PlainUsers::ITERATIONS,
    )
}

/// The server's half of one PLAIN exchange: one message, one answer.
pub struct PlainServer {
    credentials: Arc<dyn CredentialLookup>,
    cluster_secret: Secret,
    over: bool,
    details: Details,
}

impl PlainServer {
    pub(super) fn new(deps: &SaslDeps) -> Self {
        Self {
            credentials: Arc::clone(&deps.credentials),
            cluster_secret: deps.cluster_secret.clone(),
            over: false,
            details: Details::default(),
        }
    }

    pub(super) fn take_details(&mut self) -> Details {
        std::mem::take(&mut self.details)
    }

    fn fail(&mut self, cause: FailureCause, text: Option<&str>) -> MechanismError {
        self.details.cause = Some(cause);
        self.details.text = text.map(str::to_owned);
        MechanismError::AuthenticationFailed
    }

    fn check(&mut self, message: &[u8]) -> Result<String, MechanismError> {
        // The reference stops counting at four.
        let fields: Vec<&[u8]> = message.splitn(4, |byte| *byte == 0).collect();
        let [authzid, user, password] = fields[..] else {
            let text = format!(
                "Invalid SASL/PLAIN response: expected 3 tokens, got {}",
                fields.len()
            );
            return Err(self.fail(FailureCause::Malformed("token count"), Some(&text)));
        };
        if user.is_empty() {
            let text = "Authentication failed: username not specified";
            return Err(self.fail(FailureCause::NoUsername, Some(text)));
        }
        if password.is_empty() {
            let text = "Authentication failed: password not specified";
            return Err(self.fail(FailureCause::NoPassword, Some(text)));
        }
        if [authzid, user, password]
            .iter()
            .any(|f| f.len() > FIELD_MAX)
        {
            return Err(self.fail(FailureCause::Malformed("field too long"), None));
        }
        let Ok(name) = std::str::from_utf8(user) else {
            return Err(self.fail(FailureCause::Malformed("not UTF-8"), None));
        };
        if std::str::from_utf8(authzid).is_err() || std::str::from_utf8(password).is_err() {
            return Err(self.fail(FailureCause::Malformed("not UTF-8"), None));
        }
        self.details.user = Some(name.to_owned());
        // Before the password, so that a foreign id never learns whether it was right.
        if !authzid.is_empty() && authzid != user {
            return Err(self.fail(FailureCause::ForeignAuthzid, Some(FOREIGN_AUTHZID)));
        }
        self.check_password(name, password)?;
        Ok(name.to_owned())
    }

    fn check_password(&mut self, user: &str, password: &[u8]) -> Result<(), MechanismError> {
        let found = self.credentials.plain(user);
        let known = found.is_some();
        // Invented also where it is not needed, so that the time tells nothing.
        let kinds = self.credentials.plain_kinds();
        let fake = fake_plain_credential(&self.cluster_secret, user, &kinds)
            .map_err(|_| self.fail(FailureCause::Internal, None))?;
        let credential = found.unwrap_or(fake);
        let right = credential
            .verify_password(password)
            .map_err(|_| self.fail(FailureCause::WeakCredential, None))?;
        if known && right {
            self.details.credential = credential.fingerprint();
            return Ok(());
        }
        let cause = if known {
            FailureCause::WrongPassword
        } else {
            FailureCause::UnknownUser
        };
        let text = "Authentication failed: Invalid username or password";
        Err(self.fail(cause, Some(text)))
    }
}

impl Mechanism for PlainServer {
    fn name(&self) -> &str {
        "PLAIN"
    }

    fn respond(&mut self, payload: &[u8]) -> Result<Response, MechanismError> {
        if std::mem::replace(&mut self.over, true) {
            return Err(MechanismError::SaslSessionAlreadyOver);
        }
        let user = self.check(payload)?;
        Ok(Response::Success(Identity::Username(user), Vec::new()))
    }
}
