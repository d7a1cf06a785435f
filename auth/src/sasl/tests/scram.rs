//! SCRAM by hand: the cases of spec/security.md §8.4, each named by its number.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// A SCRAM client written out by hand, so that each part can be wrong.
struct HandClient {
    mechanism: ScramMechanism,
    password: String,
    gs2: String,
    user: String,
    nonce: String,
    extension: String,
}

impl HandClient {
    fn new(user: &str) -> Self {
        Self {
            mechanism: ScramMechanism::Sha256,
            password: PASSWORD.into(),
            gs2: "n,,".into(),
            user: user.into(),
            nonce: "cnonce0123456789".into(),
            extension: String::new(),
        }
    }

    fn bare(&self) -> String {
        format!("n={},r={}{}", self.user, self.nonce, self.extension)
    }

    fn first(&self, deps: &SaslDeps) -> Step {
        let exchange = Exchange::start(self.mechanism.name(), deps).unwrap();
        exchange.step(format!("{}{}", self.gs2, self.bare()).as_bytes())
    }

    fn begin(&self, deps: &SaslDeps) -> (Exchange, ServerFirst) {
        match self.first(deps) {
            Step::Continue(exchange, bytes) => (exchange, ServerFirst::read(bytes)),
            other => panic!("no server-first: {other:?}"),
        }
    }

    /// A client-final whose proof fits whatever nonce and binding it carries.
    fn last(&self, server: &ServerFirst, binding: &str, nonce: &str) -> String {
        let without_proof = format!("c={binding},r={nonce}");
        let auth = format!("{},{},{without_proof}", self.bare(), server.text);
        let m = self.mechanism;
        let salted = pbkdf2(m, self.password.as_bytes(), &server.salt, server.iterations);
        let client_key = mac(m, &salted, b"Client Key");
        let stored_key = hash(digest(m), &client_key).unwrap();
        let signature = mac(m, &stored_key, auth.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(a, b)| a ^ b)
            .collect();
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    fn login(&self, deps: &SaslDeps) -> Step {
        let (exchange, server) = self.begin(deps);
        let binding = STANDARD.encode(&self.gs2);
        let message = self.last(&server, &binding, &server.nonce);
        exchange.step(message.as_bytes())
    }

    /// Logs in with a nonce made from the client's and the server's part.
    fn with_nonce(&self, deps: &SaslDeps, nonce: impl Fn(&str, &str) -> String) -> Step {
        let (exchange, server) = self.begin(deps);
        let server_part = server.nonce.strip_prefix(&self.nonce).unwrap();
        let message = self.last(&server, "biws", &nonce(&self.nonce, server_part));
        exchange.step(message.as_bytes())
    }
}

struct ServerFirst {
    text: String,
    nonce: String,
    salt: Vec<u8>,
    iterations: usize,
}

impl ServerFirst {
    fn read(bytes: Vec<u8>) -> Self {
        let text = String::from_utf8(bytes).unwrap();
        let mut parts = text.split(',');
        let nonce = parts.next().unwrap().strip_prefix("r=").unwrap().to_owned();
        let salt = parts.next().unwrap().strip_prefix("s=").unwrap();
        let salt = STANDARD.decode(salt).unwrap();
        let iterations = parts.next().unwrap().strip_prefix("i=").unwrap();
        let iterations = iterations.parse().unwrap();
        assert_eq!(parts.next(), None);
        Self {
            nonce,
            salt,
            iterations,
            text,
        }
    }
}

const GENERIC: &str = "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256";

fn assert_generic(step: Step, cause: FailureCause) {
    assert_eq!(failure(step), (GENERIC.to_owned(), cause));
}

fn assert_malformed(step: Step) {
    let (message, cause) = failure(step);
    assert_eq!(message, GENERIC);
    assert!(matches!(cause, FailureCause::Malformed(_)), "{cause:?}");
}

fn assert_success(step: Step) {
    assert!(matches!(step, Step::Success { .. }), "{step:?}");
}

#[test]
fn s01_s02_s03_unknown_users_look_like_wrong_passwords() {
    let deps = deps();
    let mut wrong = HandClient::new("alice");
    wrong.password = "guess".into();
    assert_generic(wrong.login(&deps), FailureCause::WrongPassword);

    let unknown = HandClient::new("nobody");
    let (_, first) = unknown.begin(&deps);
    let (_, again) = unknown.begin(&deps);
    assert_eq!(first.salt, again.salt);
    assert_ne!(first.nonce, again.nonce);
    assert_eq!(first.iterations, 4096);
    assert!((20..=26).contains(&first.salt.len()));
    assert!(first.salt.iter().all(u8::is_ascii_alphanumeric));
    assert_generic(unknown.login(&deps), FailureCause::UnknownUser);
    // Another node with the same secret says the same.
    let (_, elsewhere) = unknown.begin(&deps_of(Users::default()));
    assert_eq!(first.salt, elsewhere.salt);

    let mut other_hash = HandClient::new("only256");
    other_hash.mechanism = ScramMechanism::Sha512;
    let (message, cause) = failure(other_hash.login(&deps));
    assert!(message.ends_with("with SASL mechanism SCRAM-SHA-512"));
    assert_eq!(cause, FailureCause::UnknownUser);
}

#[test]
fn s04_s05_only_the_nonce_of_this_exchange_counts() {
    let deps = deps();
    let client = HandClient::new("alice");
    let wrong = |nonce: fn(&str, &str) -> String| {
        assert_generic(client.with_nonce(&deps, nonce), FailureCause::NonceMismatch);
    };
    wrong(|_, s| s.to_owned());
    wrong(|c, s| format!("{}{s}", c.replace('c', "d")));
    wrong(|c, s| format!("x{c}{s}"));
    wrong(|c, s| format!("{c}{s}x"));
    wrong(|c, s| format!("{c}x{s}"));
    wrong(|c, s| format!("{c}{c}{c}{s}"));
    wrong(|c, s| format!("{c}{s}{s}"));
    wrong(|c, s| format!("{c}{}", s.to_uppercase()));
    wrong(|c, _| c.to_owned());
    // The final message of another exchange.
    let (_, recorded) = client.begin(&deps);
    let replay = client.last(&recorded, "biws", &recorded.nonce);
    let (exchange, _) = client.begin(&deps);
    assert_generic(
        exchange.step(replay.as_bytes()),
        FailureCause::NonceMismatch,
    );
}

#[test]
fn old_librdkafka_doubles_its_nonce() {
    let mut deps = deps();
    let client = HandClient::new("alice");
    let doubled = |c: &str, s: &str| format!("{c}{c}{s}");
    let legacy = |step: Step| match step {
        Step::Success { legacy_nonce, .. } => legacy_nonce,
        other => panic!("{other:?}"),
    };
    assert!(legacy(client.with_nonce(&deps, doubled)));
    assert!(!legacy(client.login(&deps)));
    let mut wrong = HandClient::new("alice");
    wrong.password = "guess".into();
    assert_generic(
        wrong.with_nonce(&deps, doubled),
        FailureCause::WrongPassword,
    );
    deps.strict_nonce = true;
    assert_generic(
        client.with_nonce(&deps, doubled),
        FailureCause::NonceMismatch,
    );
    assert!(!legacy(client.login(&deps)));
}

#[test]
fn s06_proofs_of_the_wrong_shape() {
    let deps = deps();
    let client = HandClient::new("alice");
    let good = STANDARD.encode([0; 32]);
    let broken = format!("{}\n{}", &good[..20], &good[20..]);
    let proofs = [
        STANDARD.encode([0; 31]),
        STANDARD.encode([0; 33]),
        String::new(),
        "not base64!".into(),
        good.trim_end_matches('=').into(),
        broken,
    ];
    for proof in proofs {
        let (exchange, server) = client.begin(&deps);
        let message = format!("c=biws,r={},p={proof}", server.nonce);
        assert_malformed(exchange.step(message.as_bytes()));
    }
}

#[test]
fn s07_s08_the_binding_repeats_the_header() {
    let deps = deps();
    for (gs2, binding, fits) in [
        ("n,,", "biws", true),
        ("n,,", "eSws", false),
        ("n,,", "bixhPXUs", false),
        ("n,,", "", false),
        ("y,,", "eSws", true),
        ("y,,", "biws", false),
        ("n,a=alice,", "bixhPWFsaWNlLA==", true),
        ("n,a=alice,", "biws", false),
        ("n,a=,", "bixhPSw=", true),
    ] {
        let mut client = HandClient::new("alice");
        client.gs2 = gs2.into();
        let (exchange, server) = client.begin(&deps);
        let message = client.last(&server, binding, &server.nonce);
        let step = exchange.step(message.as_bytes());
        if fits {
            assert_success(step);
        } else {
            assert_generic(step, FailureCause::ChannelBinding);
        }
    }
    let mut bound = HandClient::new("alice");
    bound.gs2 = "p=tls-unique,,".into();
    assert_malformed(bound.first(&deps));
}

#[test]
fn s09_a_foreign_authorization_id() {
    let deps = deps();
    let mut client = HandClient::new("bob");
    client.gs2 = "n,a=admin,".into();
    assert_eq!(
        failure(client.first(&deps)),
        (FOREIGN_AUTHZID.to_owned(), FailureCause::ForeignAuthzid)
    );
}

#[test]
fn s10_s11_escapes_in_names() {
    let deps = deps();
    for name in ["bo=b", "bo=2cb", "", "bo=", "bo=3"] {
        assert_malformed(HandClient::new(name).first(&deps));
    }
    let mut client = HandClient::new("a=2Cb=3Dc");
    client.password = "p\u{e4}ss,w=rd".into();
    assert_success(client.login(&deps));
}

#[test]
fn s12_s13_s19_s20_extensions() {
    let deps = deps();
    let mut client = HandClient::new("alice");
    client.extension = ",x=1".into();
    assert_success(client.login(&deps));
    client.extension = ",tokenauth=false".into();
    assert_success(client.login(&deps));
    client.extension = ",tokenauth=true".into();
    assert_generic(client.login(&deps), FailureCause::Token);
    client.extension = ",m=ext".into();
    assert_malformed(client.first(&deps));
    let exchange = Exchange::start("SCRAM-SHA-256", &deps).unwrap();
    assert_malformed(exchange.step(b"n,,m=ext,n=alice,r=cnonce0123456789"));
    // A token's id without the extension is an unknown user.
    assert_generic(
        HandClient::new("tok-id-1").login(&deps),
        FailureCause::UnknownUser,
    );
}

#[test]
fn s14_nonces_out_of_bounds() {
    let deps = deps();
    for nonce in [
        "",
        "short",
        "with,comma",
        &"x".repeat(257),
        &"x".repeat(10 << 10),
    ] {
        let mut client = HandClient::new("alice");
        client.nonce = nonce.to_owned();
        assert_malformed(client.first(&deps));
    }
}

#[test]
fn s15_s18_messages_out_of_order() {
    let deps = deps();
    let start = || Exchange::start("SCRAM-SHA-256", &deps).unwrap();
    assert_malformed(start().step(b"c=biws,r=cnonce0123456789SN,p=AAAA"));
    assert_malformed(start().step(b""));
    let (exchange, _) = HandClient::new("alice").begin(&deps);
    assert_malformed(exchange.step(b"n,,n=alice,r=cnonce0123456789"));
    for message in [
        "n,,r=cnonce0123456789,n=alice",
        "n,,n=alice,r=cnonce0123456789,r=cnonce0123456789",
    ] {
        assert_malformed(start().step(message.as_bytes()));
    }
}

#[test]
fn s17_a_weakened_record_opens_nothing() {
    let mut users = Users::default().with("alice", ScramMechanism::Sha256, PASSWORD);
    let key = ("alice".to_owned(), ScramMechanism::Sha256);
    users.scram.get_mut(&key).unwrap().iterations = 4095;
    let deps = deps_of(users);
    let client = HandClient::new("alice");
    assert_eq!(client.begin(&deps).1.iterations, 4096);
    assert_generic(client.login(&deps), FailureCause::WeakCredential);
    // A record that claims the other hash's keys.
    let mut users = Users::default().with("alice", ScramMechanism::Sha256, PASSWORD);
    users.scram.get_mut(&key).unwrap().stored_key = Secret::new(vec![0; 64]);
    assert_generic(client.login(&deps_of(users)), FailureCause::WeakCredential);
}

#[test]
fn s22_passwords_are_bytes() {
    let deps = deps();
    let mut client = HandClient::new("a=2Cb=3Dc");
    client.password = "pa\u{308}ss,w=rd".into();
    assert_generic(client.login(&deps), FailureCause::WrongPassword);
}

#[test]
fn s24_the_first_message_decides_which_credential() {
    let client = HandClient::new("alice");
    let deps = deps();
    let (exchange, server) = client.begin(&deps);
    // Whatever the store says meanwhile, the exchange keeps what it read.
    let message = client.last(&server, "biws", &server.nonce);
    let Step::Success { credential, .. } = exchange.step(message.as_bytes()) else {
        panic!("no login");
    };
    let stored = deps
        .credentials
        .scram("alice", ScramMechanism::Sha256)
        .unwrap();
    assert_eq!(credential, stored.fingerprint());
}

#[test]
fn s25_server_nonces_do_not_repeat() {
    let deps = deps();
    let client = HandClient::new("alice");
    let mut seen = std::collections::HashSet::new();
    for _ in 0..2000 {
        let (_, first) = client.begin(&deps);
        let part = first.nonce.strip_prefix(&client.nonce).unwrap().to_owned();
        assert!(part.len() >= 20 && part.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(seen.insert(part));
    }
}
