//! Whole exchanges: the negative cases of spec/security.md §8.3 and §8.4 by their numbers,
//! the latter in a file of their own, and logins with the client half of the `sasl` crate.

use std::collections::HashMap;

use ::sasl::client::Mechanism as ClientMechanism;
use ::sasl::client::mechanisms::{Plain, Scram};
use ::sasl::common::scram::{DeriveError, ScramProvider, Sha256};
use ::sasl::common::{ChannelBinding, Credentials, Password};
use hmac::digest::InvalidLength;
use openssl::hash::{MessageDigest, hash};
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use proptest::prelude::*;

mod scram;

use super::jaas::JaasEntry;
use super::*;

const PASSWORD: &str = "open-sesame";

#[derive(Default)]
struct Users {
    scram: HashMap<(String, ScramMechanism), ScramCredential>,
    plain: PlainUsers,
    counts: Vec<u32>,
}

impl CredentialLookup for Users {
    fn scram(&self, user: &str, mechanism: ScramMechanism) -> Option<ScramCredential> {
        self.scram.get(&(user.to_owned(), mechanism)).cloned()
    }

    fn plain(&self, user: &str) -> Option<ScramCredential> {
        self.plain.get(user).cloned()
    }

    fn iteration_counts(&self, _: ScramMechanism) -> Vec<u32> {
        self.counts.clone()
    }
}

impl Users {
    fn with(mut self, user: &str, mechanism: ScramMechanism, password: &str) -> Self {
        let salt = crate::scram::random_salt().unwrap();
        let credential =
            ScramCredential::from_password(mechanism, password.as_bytes(), &salt, 4096).unwrap();
        self.scram.insert((user.to_owned(), mechanism), credential);
        self
    }
}

fn deps() -> SaslDeps {
    let jaas = JaasEntry::parse(
        "org.apache.kafka.common.security.plain.PlainLoginModule required \
         user_alice=\"open-sesame\" user_bob=\"hunter2\" user_empty=\"\";",
    )
    .unwrap();
    let mut users = Users {
        plain: PlainUsers::new(jaas.users()).unwrap(),
        ..Users::default()
    };
    for mechanism in ScramMechanism::VALUES {
        users =
            users
                .with("alice", *mechanism, PASSWORD)
                .with("a,b=c", *mechanism, "p\u{e4}ss,w=rd");
    }
    users = users.with("only256", ScramMechanism::Sha256, PASSWORD);
    deps_of(users)
}

fn deps_of(users: Users) -> SaslDeps {
    SaslDeps {
        enabled: Mechanisms::parse("PLAIN,SCRAM-SHA-256,SCRAM-SHA-512").unwrap(),
        credentials: Arc::new(users),
        cluster_secret: Secret::from("the cluster's secret"),
        strict_nonce: false,
    }
}

fn failure(step: Step) -> (String, FailureCause) {
    match step {
        Step::Failure { message, cause, .. } => (message, cause),
        other => panic!("not a failure: {other:?}"),
    }
}

fn plain(deps: &SaslDeps, message: &[u8]) -> Step {
    Exchange::start("PLAIN", deps).unwrap().step(message)
}

#[test]
fn mechanisms_compare_exactly() {
    let mut deps = deps();
    for name in [
        "scram-sha-256",
        "FOO",
        "",
        "GSSAPI",
        "OAUTHBEARER",
        "SCRAM-SHA-1",
    ] {
        assert!(Exchange::start(name, &deps).is_err(), "{name}");
    }
    // L07: not enabled here.
    deps.enabled = Mechanisms::default();
    assert!(Exchange::start("PLAIN", &deps).is_err());
    let names: Vec<_> = deps.enabled.names().collect();
    assert_eq!(names, ["SCRAM-SHA-512", "SCRAM-SHA-256"]);
    assert_eq!(Mechanisms::parse(" , "), Err(MechanismsError::Empty));
    assert_eq!(
        Mechanisms::parse("SCRAM-SHA-512,GSSAPI"),
        Err(MechanismsError::Unknown("GSSAPI".into()))
    );
}

#[test]
fn plain_says_what_the_reference_says() {
    let deps = deps();
    let tokens = |n| format!("Invalid SASL/PLAIN response: expected 3 tokens, got {n}");
    let wrong = "Authentication failed: Invalid username or password";
    let no_user = "Authentication failed: username not specified";
    let no_password = "Authentication failed: password not specified";
    let generic = "Authentication failed during authentication due to invalid credentials with SASL mechanism PLAIN";
    let long = format!("\0{}\0x", "u".repeat(256)).into_bytes();
    let nuls = vec![0; 1 << 20];
    let cases: [(&str, &[u8], String); 16] = [
        ("L01 wrong password", b"\0alice\0wrong", wrong.into()),
        ("L01 unknown user", b"\0nobody\0open-sesame", wrong.into()),
        ("L02 empty password", b"\0alice\0", no_password.into()),
        ("L02 empty user", b"\0\0x", no_user.into()),
        ("L02 both empty", b"\0\0", no_user.into()),
        ("L03 no NUL", b"alice", tokens(1)),
        ("L03 nothing", b"", tokens(1)),
        ("L03 two fields", b"alice\0x", tokens(2)),
        ("L03 four fields", b"\0alice\0open-sesame\0", tokens(4)),
        ("L03 five fields", b"\0alice\0open-sesame\0\0", tokens(4)),
        ("L03 1 MiB of NULs", &nuls, tokens(4)),
        (
            "L04 authzid",
            b"admin\0bob\0hunter2",
            FOREIGN_AUTHZID.into(),
        ),
        (
            "L04 authzid, wrong password",
            b"admin\0bob\0x",
            FOREIGN_AUTHZID.into(),
        ),
        ("L06 not UTF-8", b"\0al\xffice\0x", generic.into()),
        ("L06 256 bytes", &long, generic.into()),
        ("L08 empty stored password", b"\0empty\0x", wrong.into()),
    ];
    for (name, message, text) in cases {
        assert_eq!(failure(plain(&deps, message)).0, text, "{name}");
    }
    // L05
    for message in [&b"bob\0bob\0hunter2"[..], b"\0bob\0hunter2"] {
        let Step::Success {
            principal, token, ..
        } = plain(&deps, message)
        else {
            panic!("bob cannot log in");
        };
        assert_eq!((principal, token), (Principal::user("bob"), vec![]));
    }
    // The audit log knows more than the client.
    assert_eq!(
        failure(plain(&deps, b"\0nobody\0x")).1,
        FailureCause::UnknownUser
    );
    assert_eq!(
        failure(plain(&deps, b"\0alice\0x")).1,
        FailureCause::WrongPassword
    );
}

fn digest(mechanism: ScramMechanism) -> MessageDigest {
    match mechanism {
        ScramMechanism::Sha256 => MessageDigest::sha256(),
        ScramMechanism::Sha512 => MessageDigest::sha512(),
    }
}

fn mac(mechanism: ScramMechanism, key: &[u8], data: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    let mut signer = Signer::new(digest(mechanism), &key).unwrap();
    signer.update(data).unwrap();
    signer.sign_to_vec().unwrap()
}

fn pbkdf2(mechanism: ScramMechanism, password: &[u8], salt: &[u8], iterations: usize) -> Vec<u8> {
    let mut key = vec![0; mechanism.key_len()];
    pbkdf2_hmac(password, salt, iterations, digest(mechanism), &mut key).unwrap();
    key
}

/// What the `sasl` crate's client lacks.
struct Sha512;

impl ScramProvider for Sha512 {
    type Secret = ::sasl::secret::Pbkdf2Sha256;

    fn name() -> &'static str {
        "SHA-512"
    }

    fn hash(data: &[u8]) -> Vec<u8> {
        hash(MessageDigest::sha512(), data).unwrap().to_vec()
    }

    fn hmac(data: &[u8], key: &[u8]) -> Result<Vec<u8>, InvalidLength> {
        Ok(mac(ScramMechanism::Sha512, key, data))
    }

    fn derive(password: &Password, salt: &[u8], iterations: u32) -> Result<Vec<u8>, DeriveError> {
        let Password::Plain(plain) = password else {
            return Err(DeriveError::InvalidLength);
        };
        let iterations = iterations as usize;
        Ok(pbkdf2(
            ScramMechanism::Sha512,
            plain.as_bytes(),
            salt,
            iterations,
        ))
    }
}

/// Runs a foreign client against our server; the client's verdict on us counts too.
fn run(mut client: impl ClientMechanism, deps: &SaslDeps) -> Option<Principal> {
    let mut exchange = Exchange::start(client.name(), deps).unwrap();
    let mut message = client.initial();
    loop {
        match exchange.step(&message) {
            Step::Continue(next, challenge) => {
                message = client.response(&challenge).unwrap();
                exchange = next;
            }
            Step::Success {
                principal, token, ..
            } => {
                client.success(&token).unwrap();
                return Some(principal);
            }
            Step::Failure { .. } => return None,
        }
    }
}

#[test]
fn a_foreign_client_logs_in() {
    let deps = deps();
    for binding in [ChannelBinding::None, ChannelBinding::Unsupported] {
        for (password, expected) in [(PASSWORD, Some(Principal::user("alice"))), ("x", None)] {
            let sha256 = Scram::<Sha256>::new("alice", password, binding.clone()).unwrap();
            assert_eq!(run(sha256, &deps), expected);
            let sha512 = Scram::<Sha512>::new("alice", password, binding.clone()).unwrap();
            assert_eq!(run(sha512, &deps), expected);
        }
    }
    for (password, expected) in [("hunter2", Some(Principal::user("bob"))), ("x", None)] {
        let credentials = Credentials::default()
            .with_username("bob")
            .with_password(password);
        assert_eq!(
            run(Plain::from_credentials(credentials).unwrap(), &deps),
            expected
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_message_panics_or_succeeds(first in proptest::collection::vec(any::<u8>(), 0..64), last in proptest::collection::vec(any::<u8>(), 0..64)) {
        let deps = deps_of(Users::default());
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let exchange = Exchange::start(mechanism, &deps).unwrap();
            if let Step::Continue(exchange, _) = exchange.step(&first) {
                let failed = matches!(exchange.step(&last), Step::Failure { .. });
                prop_assert!(failed);
            }
        }
    }
}
