//! S: SCRAM.

use std::io;

use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_tests::requests;
use palisade_tests::scram::ScramClient;
use palisade_tests::wire::Connection;

use super::Row;
use super::world::{BOB, BOB_PASSWORD, World, closed, code, send};

pub(super) const ROWS: &[Row] = &[
    ("S01", wrong_password),
    ("S02", unknown_user),
    ("S03", other_mechanism),
    ("S04", partial_nonces),
    ("S05", foreign_nonces),
    ("S06", odd_proofs),
    ("S07", channel_binding),
    ("S08", gs2_headers),
    ("S09", foreign_authorization_id),
    ("S10", odd_names),
    ("S11", escaped_name),
    ("S12", mandatory_extension),
    ("S13", unknown_extension),
    ("S14", odd_nonces),
    ("S15", wrong_order),
    ("S16", third_message),
    ("S18", odd_attributes),
    ("S19", token_flag),
    ("S22", other_normal_form),
    ("S24", replaced_between),
];

const MECHANISM: &str = "SCRAM-SHA-256";

fn begin(world: &World) -> Connection {
    let mut connection = world.sasl();
    connection
        .handshake(MECHANISM)
        .expect("an enabled mechanism");
    connection
}

/// The answer to a token: text, or the words of a refusal with 58.
fn offer(connection: &mut Connection, token: &str) -> Result<String, String> {
    match connection.authenticate(token.as_bytes()) {
        Ok(answer) => Ok(String::from_utf8(answer).expect("text")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let words = error.to_string();
            assert!(words.starts_with("58: "), "{words}");
            Err(words)
        }
        Err(error) => panic!("{token}: {error}"),
    }
}

fn first_refused(world: &World, token: &str) -> String {
    let mut connection = begin(world);
    let words = offer(&mut connection, token).expect_err(token);
    closed(connection, token);
    words
}

/// Goes up to the last message, changes it, and expects a refusal.
fn last_refused(world: &World, change: impl Fn(&str) -> String) {
    let mut connection = begin(world);
    let mut client = ScramClient::new(MECHANISM, BOB, BOB_PASSWORD);
    let challenge = offer(&mut connection, &client.first()).expect("a challenge");
    let last = change(&client.last(&challenge).expect("a proof"));
    let words = offer(&mut connection, &last).expect_err(&last);
    assert!(words.contains("invalid credentials"), "{words}");
    closed(connection, &last);
}

/// A whole login with a first and last message of the caller's making.
fn refused_at_the_end(world: &World, mechanism: &str, user: &str, password: &str) -> String {
    let mut connection = world.sasl();
    connection
        .handshake(mechanism)
        .expect("an enabled mechanism");
    let mut client = ScramClient::new(mechanism, user, password);
    let challenge = offer(&mut connection, &client.first()).expect("a challenge like any other");
    let last = client.last(&challenge).expect("a proof");
    let words = offer(&mut connection, &last).expect_err("no such login");
    assert!(words.contains("invalid credentials"), "{words}");
    challenge
}

fn salt(challenge: &str) -> &str {
    challenge
        .split(',')
        .find(|part| part.starts_with("s="))
        .expect("a salt")
}

fn wrong_password(world: &World) {
    let challenge = refused_at_the_end(world, MECHANISM, BOB, "wrong");
    assert!(challenge.ends_with("i=4096"), "{challenge}");
}

fn unknown_user(world: &World) {
    let once = refused_at_the_end(world, MECHANISM, "nobody", "x");
    let again = refused_at_the_end(world, MECHANISM, "nobody", "x");
    let other = refused_at_the_end(world, MECHANISM, "nobody-else", "x");
    assert_eq!(salt(&once), salt(&again), "a salt that stays");
    assert_ne!(salt(&once), salt(&other));
}

fn other_mechanism(world: &World) {
    requests::set_user(&mut world.admin(), "half", MECHANISM, "half-secret").expect("a user");
    refused_at_the_end(world, "SCRAM-SHA-512", "half", "half-secret");
    let access = world.node.scram("SCRAM-SHA-512");
    Connection::open(&access.as_user("SCRAM-SHA-256", "half", "half-secret")).expect("the other");
}

/// The last message with another nonce.
fn with_nonce(last: &str, nonce: impl Fn(&str) -> String) -> String {
    let parts = last.split(',').map(|part| match part.strip_prefix("r=") {
        Some(old) => format!("r={}", nonce(old)),
        None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(",")
}

fn partial_nonces(world: &World) {
    // The client's part is 24 characters long.
    last_refused(world, |last| {
        with_nonce(last, |nonce| nonce[24..].to_owned())
    });
    last_refused(world, |last| {
        with_nonce(last, |nonce| format!("{}{}", "x".repeat(24), &nonce[24..]))
    });
    last_refused(world, |last| {
        with_nonce(last, |nonce| nonce[..24].to_owned())
    });
}

fn foreign_nonces(world: &World) {
    let mut one = begin(world);
    let mut other = begin(world);
    let mut client = ScramClient::new(MECHANISM, BOB, BOB_PASSWORD);
    let first = client.first();
    let challenge = offer(&mut one, &first).expect("a challenge");
    offer(&mut other, &first).expect("another challenge");
    let last = client.last(&challenge).expect("a proof");
    offer(&mut other, &last).expect_err("the proof of another connection");
    offer(&mut one, &last).expect("its own");
    // The same messages again, on a new connection.
    let mut replay = begin(world);
    offer(&mut replay, &first).expect("a new challenge");
    offer(&mut replay, &last).expect_err("a recorded exchange");
}

fn with_proof(last: &str, proof: &str) -> String {
    let (rest, _) = last.rsplit_once(",p=").expect("a proof");
    format!("{rest},p={proof}")
}

fn odd_proofs(world: &World) {
    for length in [0, 31, 33] {
        let proof = openssl::base64::encode_block(&vec![7; length]);
        last_refused(world, |last| with_proof(last, &proof));
    }
    last_refused(world, |last| with_proof(last, "%%%%"));
    last_refused(world, |last| {
        let (rest, proof) = last.rsplit_once(",p=").expect("a proof");
        format!("{rest},p={}\n{}", &proof[..20], &proof[20..])
    });
}

fn channel_binding(world: &World) {
    last_refused(world, |last| last.replace("c=biws", "c=eSws"));
}

fn gs2_headers(world: &World) {
    first_refused(world, "p=tls-unique,,n=bob,r=abcdefghij");
    let mut connection = begin(world);
    offer(&mut connection, "y,,n=bob,r=abcdefghij").expect("a client that could bind channels");
}

fn foreign_authorization_id(world: &World) {
    let words = first_refused(world, "n,a=admin,n=bob,r=abcdefghij");
    assert!(words.contains("authorization id"), "{words}");
}

fn odd_names(world: &World) {
    for name in ["bo=b", "bo=2cb", ""] {
        first_refused(world, &format!("n,,n={name},r=abcdefghij"));
    }
}

fn escaped_name(world: &World) {
    let (user, password) = ("a,b=c", "comma-secret");
    requests::set_user(&mut world.admin(), user, MECHANISM, password).expect("a user");
    let access = world
        .node
        .scram(MECHANISM)
        .as_user(MECHANISM, user, password);
    Connection::open(&access).expect("a=2Cb=3Dc");
}

fn mandatory_extension(world: &World) {
    first_refused(world, "n,,m=ext,n=bob,r=abcdefghij");
}

fn unknown_extension(world: &World) {
    let mut connection = begin(world);
    offer(&mut connection, "n,,n=bob,r=abcdefghij,x=1").expect("ignored");
}

fn odd_nonces(world: &World) {
    first_refused(world, "n,,n=bob,r=");
    first_refused(world, "n,,n=bob,r=ab,cd");
    first_refused(world, &format!("n,,n=bob,r={}", "x".repeat(10 << 10)));
}

fn wrong_order(world: &World) {
    first_refused(world, "c=biws,r=abcdefghij,p=AAAA");
    let mut connection = begin(world);
    offer(&mut connection, "n,,n=bob,r=abcdefghij").expect("a challenge");
    offer(&mut connection, "n,,n=bob,r=abcdefghij").expect_err("a first message again");
    closed(connection, "two first messages");
}

fn third_message(world: &World) {
    let mut bob = world.bob();
    send(&mut bob, 36, 0, &[0, 0, 0, 1, b'x']);
    assert_eq!(code(&bob.receive().expect("an answer")), 34);
    bob.call(0, &ApiVersionsRequest::default())
        .expect("still logged in");
}

fn odd_attributes(world: &World) {
    for first in ["n,,r=abcdefghij,n=bob", "n,,n=bob,n=eve,r=abcdefghij"] {
        first_refused(world, first);
    }
    last_refused(world, |last| {
        let nonce = last.split(',').nth(1).expect("a nonce");
        last.replacen(nonce, &format!("{nonce},{nonce}"), 1)
    });
    last_refused(world, |last| {
        let parts: Vec<_> = last.split(',').collect();
        [parts[1], parts[0], parts[2]].join(",")
    });
}

fn token_flag(world: &World) {
    let mut connection = begin(world);
    let first = "n,,n=bob,r=abcdefghij,tokenauth=true";
    // Whether at once or at the end: never a login.
    if let Ok(challenge) = offer(&mut connection, first) {
        let nonce = challenge.split(',').next().expect("a nonce");
        let proof = openssl::base64::encode_block(&[7; 32]);
        offer(&mut connection, &format!("c=biws,{nonce},p={proof}")).expect_err("no token");
    }
}

fn other_normal_form(world: &World) {
    let composed = "p\u{e4}ss";
    requests::set_user(&mut world.admin(), "umlaut", MECHANISM, composed).expect("a user");
    let access = world.node.scram(MECHANISM);
    let login = |password: &str| Connection::open(&access.as_user(MECHANISM, "umlaut", password));
    login(composed).expect("byte for byte");
    login("pa\u{308}ss").expect_err("another spelling");
}

/// The exchange goes by the credential it began with; the session does not outlive that.
fn replaced_between(world: &World) {
    let mut admin = world.admin();
    requests::set_user(&mut admin, "moved", MECHANISM, "old-secret").expect("a user");
    let mut connection = begin(world);
    let mut client = ScramClient::new(MECHANISM, "moved", "old-secret");
    let challenge = offer(&mut connection, &client.first()).expect("a challenge");
    requests::set_user(&mut admin, "moved", MECHANISM, "new-secret").expect("another password");
    let last = client.last(&challenge).expect("a proof");
    let signature = offer(&mut connection, &last).expect("the old one was asked for");
    client.verify(&signature).expect("the node knew it");
    closed(connection, "the credential is gone");
}
