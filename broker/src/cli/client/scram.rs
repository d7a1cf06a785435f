//! The client half of SCRAM: the `sasl` crate's exchange, behind the checks that it leaves out.
//!
//! The crate has no SHA-512, does not escape the user's name, and believes whatever nonce and
//! iteration count a server sends. RFC 5802 §5.1 makes the nonce check a MUST, and an unbounded
//! count lets a false server keep this process busy.

use hmac::digest::InvalidLength;
use openssl::{
    hash::{MessageDigest, hash},
    pkcs5::pbkdf2_hmac,
    pkey::PKey,
    sign::Signer,
};
use palisade_auth::{
    Secret,
    scram::{MAX_ITERATIONS, MIN_ITERATIONS, ScramMechanism},
};
use sasl::{
    client::{Mechanism, mechanisms::Scram},
    common::{
        ChannelBinding, Password,
        scram::{DeriveError, ScramProvider, Sha256},
    },
};
use thiserror::Error;

/// Most iterations that a server may ask for; Kafka's own limit is sixteen times lower.
const ITERATIONS_LIMIT: u32 = 16 * MAX_ITERATIONS;

/// Why a login ended on this side.
#[derive(Debug, Error)]
pub enum ScramError {
    /// Out of randomness.
    #[error("no nonce could be made")]
    Nonce,
    /// A server message that is none.
    #[error("the broker's SCRAM message is malformed: {0}")]
    Malformed(String),
    /// The server's nonce does not begin with ours: somebody answers for another exchange.
    #[error("the broker's nonce does not continue ours")]
    ForeignNonce,
    /// Too few or far too many.
    #[error("the broker asks for {0} iterations; 4096 to 262144 are accepted")]
    Iterations(u32),
    /// The server does not know the password either.
    #[error("the broker could not prove that it knows the password")]
    ServerSignature,
}

/// SCRAM with SHA-512, which Kafka adds to RFC 7677's SHA-256.
pub(crate) struct Sha512;

impl ScramProvider for Sha512 {
    // What a store of derived passwords would hold; there is none here.
    type Secret = sasl::secret::Plain;

    fn name() -> &'static str {
        "SHA-512"
    }

    fn hash(data: &[u8]) -> Vec<u8> {
        hash(MessageDigest::sha512(), data)
            .expect("SHA-512 is compiled in")
            .to_vec()
    }

    fn hmac(data: &[u8], key: &[u8]) -> Result<Vec<u8>, InvalidLength> {
        let key = PKey::hmac(key).map_err(|_| InvalidLength)?;
        let mut signer =
            Signer::new(MessageDigest::sha512(), &key).expect("SHA-512 is compiled in");
        signer.sign_oneshot_to_vec(data).map_err(|_| InvalidLength)
    }

    fn derive(password: &Password, salt: &[u8], iterations: u32) -> Result<Vec<u8>, DeriveError> {
        let Password::Plain(password) = password else {
            return Err(DeriveError::IncorrectSalt);
        };
        let iterations = usize::try_from(iterations).map_err(|_| DeriveError::InvalidLength)?;
        let mut out = vec![0; 64];
        let digest = MessageDigest::sha512();
        pbkdf2_hmac(password.as_bytes(), salt, iterations, digest, &mut out)
            .map_err(|_| DeriveError::InvalidLength)?;
        Ok(out)
    }
}

/// One login, from the first message to the check of the server's signature.
pub(crate) struct ScramLogin {
    exchange: Box<dyn Mechanism + Send>,
    nonce: String,
}

impl ScramLogin {
    /// Begins a login; the second value is the first message.
    ///
    /// # Errors
    /// No randomness for the nonce.
    pub(crate) fn start(
        mechanism: ScramMechanism,
        user: &str,
        password: &Secret,
    ) -> Result<(Self, Vec<u8>), ScramError> {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let password = password.expose_str().unwrap_or_default().to_owned();
        let mut exchange: Box<dyn Mechanism + Send> = match mechanism {
            ScramMechanism::Sha256 => Box::new(
                Scram::<Sha256>::new(user, password, ChannelBinding::None)
                    .map_err(|_| ScramError::Nonce)?,
            ),
            ScramMechanism::Sha512 => Box::new(
                Scram::<Sha512>::new(user, password, ChannelBinding::None)
                    .map_err(|_| ScramError::Nonce)?,
            ),
        };
        let first = exchange.initial();
        let nonce = std::str::from_utf8(&first)
            .ok()
            .and_then(|text| text.rsplit_once(",r="))
            .map(|(_, nonce)| nonce.to_owned())
            .ok_or(ScramError::Nonce)?;
        Ok((Self { exchange, nonce }, first))
    }

    /// Answers the server's first message.
    ///
    /// # Errors
    /// The message is malformed, continues another exchange, or asks for a weird amount of work.
    pub(crate) fn respond(&mut self, server_first: &[u8]) -> Result<Vec<u8>, ScramError> {
        let malformed = |reason: &str| ScramError::Malformed(reason.to_owned());
        let text = std::str::from_utf8(server_first).map_err(|_| malformed("not UTF-8"))?;
        let mut fields = text.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        let nonce = field("r=").ok_or_else(|| malformed("no nonce"))?;
        field("s=").ok_or_else(|| malformed("no salt"))?;
        let iterations = field("i=")
            .and_then(|count| count.parse::<u32>().ok())
            .ok_or_else(|| malformed("no iteration count"))?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::ForeignNonce);
        }
        if !(MIN_ITERATIONS..=ITERATIONS_LIMIT).contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        self.exchange
            .response(server_first)
            .map_err(|error| ScramError::Malformed(error.to_string()))
    }

    /// Checks the server's signature, the proof that it knows the password's keys.
    ///
    /// # Errors
    /// It is missing or wrong: this is not the broker that the user is registered with.
    pub(crate) fn finish(&mut self, server_final: &[u8]) -> Result<(), ScramError> {
        self.exchange
            .success(server_final)
            .map_err(|_| ScramError::ServerSignature)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use palisade_auth::{
        sasl::{CredentialLookup, Exchange, Mechanisms, SaslDeps, Step},
        scram::ScramCredential,
    };

    use super::*;

    struct OneUser;

    impl CredentialLookup for OneUser {
        fn scram(&self, user: &str, mechanism: ScramMechanism) -> Option<ScramCredential> {
            (user == "a,b=c").then(|| {
                ScramCredential::from_password(mechanism, b"p\xc3\xa4ss", b"salt-salt-salt", 4096)
                    .unwrap()
            })
        }

        fn plain(&self, _user: &str) -> Option<ScramCredential> {
            None
        }
    }

    fn server(mechanism: ScramMechanism) -> Exchange {
        let deps = SaslDeps {
            enabled: Mechanisms::default(),
            credentials: Arc::new(OneUser),
            cluster_secret: Secret::from("secret"),
            strict_nonce: true,
        };
        Exchange::start(mechanism.name(), &deps).unwrap()
    }

    #[test]
    fn logs_in_to_our_own_server_with_both_hashes() {
        for mechanism in [ScramMechanism::Sha256, ScramMechanism::Sha512] {
            let password = Secret::from("päss");
            let (mut login, first) = ScramLogin::start(mechanism, "a,b=c", &password).unwrap();
            let Step::Continue(exchange, server_first) = server(mechanism).step(&first) else {
                panic!("{mechanism}: no server-first");
            };
            let last = login.respond(&server_first).unwrap();
            let Step::Success { token, .. } = exchange.step(&last) else {
                panic!("{mechanism}: refused");
            };
            assert!(matches!(
                login.finish(b"v=AAAA"),
                Err(ScramError::ServerSignature)
            ));
            login.finish(&token).unwrap();
        }
    }

    #[test]
    fn distrusts_the_server() {
        let password = Secret::from("x");
        let start = || {
            ScramLogin::start(ScramMechanism::Sha256, "u", &password)
                .unwrap()
                .0
        };
        let nonce = start().nonce;
        let mut login = start();
        for (message, part) in [
            (
                format!("r={nonce}more,s=c2FsdHNhbHQ=,i=4096"),
                "does not continue ours",
            ),
            (
                format!("r={},s=c2FsdHNhbHQ=,i=4096", login.nonce),
                "does not continue ours",
            ),
            (
                format!("r={}x,s=c2FsdHNhbHQ=,i=1", login.nonce),
                "asks for 1 iterations",
            ),
            (
                format!("r={}x,s=c2FsdHNhbHQ=,i=4294967295", login.nonce),
                "asks for 4294967295",
            ),
            (
                format!("r={}x,i=4096,s=c2FsdHNhbHQ=", login.nonce),
                "no salt",
            ),
            (format!("r={}x,s=!,i=4096", login.nonce), "malformed"),
            ("e=other-error".to_owned(), "no nonce"),
            (String::new(), "no nonce"),
        ] {
            let error = login.respond(message.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{message}: {error}");
        }
        assert!(login.respond(&[0xff]).is_err());
    }
}
