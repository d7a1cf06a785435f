//! One SCRAM-SHA-512 exchange of 4096 iterations: what the broker spends, and both sides together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use palisade_auth::Secret;
use palisade_auth::sasl::{CredentialLookup, Exchange, Mechanisms, SaslDeps, Step};
use palisade_auth::scram::{ScramCredential, ScramMechanism};
use palisade_benches::scram::{MECHANISM, ScramClient, salted_password};

const USER: &str = "bench";
const PASSWORD: &[u8] = b"a password of some length";
const SALT: &[u8] = b"a salt of 20 bytes..";
const ITERATIONS: u32 = 4096;

struct OneUser(ScramCredential);

impl CredentialLookup for OneUser {
    fn scram(&self, user: &str, _mechanism: ScramMechanism) -> Option<ScramCredential> {
        (user == USER).then(|| self.0.clone())
    }

    fn plain(&self, _user: &str) -> Option<ScramCredential> {
        None
    }
}

fn scram(c: &mut Criterion) {
    let mut group = c.benchmark_group("SCRAM-SHA-512");
    let mechanism = ScramMechanism::Sha512;
    let credential = ScramCredential::from_password(mechanism, PASSWORD, SALT, ITERATIONS);
    let deps = SaslDeps {
        enabled: Mechanisms::default(),
        credentials: Arc::new(OneUser(credential.expect("a salt and 4096 iterations"))),
        cluster_secret: Secret::from("bench"),
        strict_nonce: true,
    };
    let salted = salted_password(PASSWORD, SALT, ITERATIONS as usize).expect("PBKDF2 runs");

    group.bench_function("one exchange, the broker's part", |b| {
        b.iter_custom(|count| (0..count).map(|_| exchange(&deps, &salted)).sum());
    });
    group.sample_size(30);
    group.bench_function("one exchange, both sides with PBKDF2", |b| {
        b.iter(|| {
            let salted = salted_password(PASSWORD, SALT, ITERATIONS as usize);
            exchange(&deps, &salted.expect("PBKDF2 runs"))
        });
    });
    group.finish();
}

/// Logs in once and says how long the broker's part took.
fn exchange(deps: &SaslDeps, salted: &[u8]) -> Duration {
    let client = ScramClient::new(USER).expect("random numbers");
    let first = client.first();

    let began = Instant::now();
    let exchange = Exchange::start(MECHANISM, deps).expect("SCRAM is enabled");
    let Step::Continue(exchange, server_first) = exchange.step(first.as_bytes()) else {
        panic!("the broker has no challenge");
    };
    let mut spent = began.elapsed();

    let server_first = String::from_utf8(server_first).expect("SCRAM is text");
    let last = client.last(&server_first, |_, _| Ok(salted.to_vec()));
    let last = last.expect("a challenge");

    let began = Instant::now();
    let Step::Success { token, .. } = exchange.step(last.text.as_bytes()) else {
        panic!("the broker refuses the right password");
    };
    spent += began.elapsed();

    let token = String::from_utf8(token).expect("SCRAM is text");
    last.verify(&token).expect("the broker knows the password");
    spent
}

criterion_group!(benches, scram);
criterion_main!(benches);
