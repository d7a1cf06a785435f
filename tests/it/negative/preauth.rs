//! P: before authentication.

use palisade_protocol::api::ApiKey;
use palisade_protocol::frame;
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use palisade_protocol::text::Str;
use palisade_tests::kafka::{ADMIN, ADMIN_PASSWORD};
use palisade_tests::requests::{self, newest};
use palisade_tests::scram::ScramClient;
use palisade_tests::wire::{Connection, put_string};

use super::Row;
use super::world::{World, closed, code, handshake, send};

pub(super) const ROWS: &[Row] = &[
    ("P01", metadata_first),
    ("P02", every_key_first),
    ("P03", version_from_the_future),
    ("P04", illegal_software),
    ("P05", two_greetings),
    ("P06", unknown_mechanism),
    ("P07", lower_case_mechanism),
    ("P08", bad_handshake),
    ("P09", token_without_handshake),
    ("P10", two_handshakes),
    ("P11", metadata_between),
    ("P12", raw_token_after_v1),
    ("P13", framed_token_after_v0),
    ("P14", many_rounds),
    ("P16", pipelined),
    ("P17", failing_logins),
    ("P18", same_for_everyone),
    ("P19", gone_during_the_delay),
];

/// Both listeners that ask for a login.
fn each(world: &World, row: impl Fn(Connection)) {
    row(world.sasl());
    row(world.tls());
}

fn metadata_first(world: &World) {
    each(world, |mut connection| {
        send(&mut connection, 3, 1, &[0xff; 4]);
        closed(connection, "Metadata first");
    });
}

fn every_key_first(world: &World) {
    let keys = (0..=92).chain([500, 501, 502, 32_767, -1]);
    let keys = keys.filter(|key| *key != 17 && *key != 18);
    let asked: Vec<_> = keys
        .map(|key| {
            let mut connection = world.sasl();
            send(&mut connection, key, 0, &[]);
            (key, connection)
        })
        .collect();
    for (key, connection) in asked {
        closed(connection, &format!("key {key} first"));
    }
}

fn version_from_the_future(world: &World) {
    each(world, |mut connection| {
        send(&mut connection, 18, 99, &[0, 2, b'x', 2, b'1', 0]);
        let answer = connection.receive().expect("an answer");
        // Error 35 and one entry: ApiVersions with its range.
        assert_eq!(answer[4..6], [0, 35]);
        assert_eq!(answer[6..10], [0, 0, 0, 1]);
        assert_eq!(answer[10..12], [0, 18]);
        assert_eq!(answer.len(), 16);
        assert_eq!(handshake(&mut connection, 1, "SCRAM-SHA-256"), 0);
    });
}

fn software(name: &str) -> Vec<u8> {
    // The header's tags, then two compact strings and the body's tags.
    let mut body = vec![0];
    for text in [name, "1.0"] {
        body.push(u8::try_from(text.len() + 1).expect("a short text"));
        body.extend_from_slice(text.as_bytes());
    }
    body.push(0);
    body
}

fn illegal_software(world: &World) {
    each(world, |mut connection| {
        for name in ["bad name!", "", "-x"] {
            send(&mut connection, 18, 3, &software(name));
            assert_eq!(
                code(&connection.receive().expect("an answer")),
                42,
                "{name}"
            );
        }
        send(&mut connection, 18, 3, &software("good-name"));
        assert_eq!(code(&connection.receive().expect("an answer")), 0);
    });
}

fn two_greetings(world: &World) {
    each(world, |mut connection| {
        send(&mut connection, 18, 0, &[]);
        connection.receive().expect("the first is answered");
        send(&mut connection, 18, 0, &[]);
        closed(connection, "a second greeting");
    });
}

fn unknown_mechanism(world: &World) {
    each(world, |mut connection| {
        let mut body = Vec::new();
        put_string(&mut body, b"FOO");
        send(&mut connection, 17, 1, &body);
        let answer = connection.receive().expect("an answer");
        assert_eq!(code(&answer), 33);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("SCRAM-SHA-256") && text.contains("SCRAM-SHA-512"));
        closed(connection, "an unknown mechanism");
    });
}

fn lower_case_mechanism(world: &World) {
    each(world, |mut connection| {
        assert_eq!(handshake(&mut connection, 1, "scram-sha-256"), 33);
    });
}

fn bad_handshake(world: &World) {
    each(world, |mut connection| {
        send(&mut connection, 17, 2, &[0, 1, b'x']);
        closed(connection, "SaslHandshake v2");
    });
    each(world, |mut connection| {
        send(&mut connection, 17, 1, &[0, 9, b'x']);
        closed(connection, "a truncated SaslHandshake");
    });
}

fn token_without_handshake(world: &World) {
    each(world, |mut connection| {
        send(&mut connection, 36, 0, &[0, 0, 0, 1, b'x']);
        closed(connection, "a token without handshake");
    });
}

fn two_handshakes(world: &World) {
    each(world, |mut connection| {
        assert_eq!(handshake(&mut connection, 1, "SCRAM-SHA-256"), 0);
        assert_eq!(handshake(&mut connection, 1, "SCRAM-SHA-256"), 34);
        closed(connection, "a second handshake");
    });
}

fn metadata_between(world: &World) {
    each(world, |mut connection| {
        assert_eq!(handshake(&mut connection, 1, "SCRAM-SHA-256"), 0);
        send(&mut connection, 3, 1, &[0xff; 4]);
        closed(connection, "Metadata between handshake and token");
    });
}

fn raw_token_after_v1(world: &World) {
    each(world, |mut connection| {
        assert_eq!(handshake(&mut connection, 1, "SCRAM-SHA-256"), 0);
        let _ = connection.send(b"n,,n=bob,r=abcdefgh");
        closed(connection, "a raw token after v1");
    });
}

fn framed_token_after_v0(world: &World) {
    each(world, |mut connection| {
        assert_eq!(handshake(&mut connection, 0, "SCRAM-SHA-256"), 0);
        send(&mut connection, 36, 0, &[0, 0, 0, 1, b'x']);
        closed(connection, "a framed token after v0");
    });
}

fn many_rounds(world: &World) {
    each(world, |mut connection| {
        assert_eq!(handshake(&mut connection, 1, "SCRAM-SHA-256"), 0);
        let client = ScramClient::new("SCRAM-SHA-256", "bob", "x");
        for _ in 0..9 {
            let first = client.first();
            let mut body = (first.len() as u32).to_be_bytes().to_vec();
            body.extend_from_slice(first.as_bytes());
            send(&mut connection, 36, 0, &body);
        }
        // No mechanism here has more than two: the second is refused already.
        assert_eq!(code(&connection.receive().expect("a challenge")), 0);
        assert_eq!(code(&connection.receive().expect("a refusal")), 58);
        closed(connection, "many rounds");
    });
}

fn create(name: &str) -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::copy(name),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        timeout_ms: requests::TIMEOUT_MS,
        ..CreateTopicsRequest::default()
    }
}

fn pipelined(world: &World) {
    for (password, name) in [("wrong", "p16-wrong"), (ADMIN_PASSWORD, "p16-right")] {
        let mut connection = world.tls();
        let mut all = Vec::new();
        let mut add = |frame: Vec<u8>| {
            all.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            all.extend_from_slice(&frame);
        };
        let mut frame = connection.header(17, 1);
        put_string(&mut frame, b"PLAIN");
        add(frame);
        let token = format!("\0{ADMIN}\0{password}");
        let mut frame = connection.header(36, 0);
        frame.extend_from_slice(&(token.len() as u32).to_be_bytes());
        frame.extend_from_slice(token.as_bytes());
        add(frame);
        let version = newest(ApiKey::CreateTopics);
        let request = frame::encode_request(version, 3, Some("tests"), &create(name));
        all.extend_from_slice(&request.expect("a frame"));
        connection.send_raw(&all).expect("one segment");
        let right = password == ADMIN_PASSWORD;
        assert_eq!(code(&connection.receive().expect("the handshake")), 0);
        let judged = code(&connection.receive().expect("the login"));
        assert_eq!(judged, if right { 0 } else { 58 });
        if right {
            connection.receive().expect("the topic");
        } else {
            closed(connection, "after a failed login");
        }
        assert_eq!(world.topic_exists(name), right);
    }
}

fn failing_logins(world: &World) {
    let logins: Vec<_> = (0..30)
        .map(|_| {
            let mut connection = world.tls();
            assert_eq!(handshake(&mut connection, 1, "PLAIN"), 0);
            send(&mut connection, 36, 0, b"\0\0\0\x0c\0bob\0nothis\x00");
            connection
        })
        .collect();
    world.still_serves();
    for mut connection in logins {
        assert_eq!(code(&connection.receive().expect("a refusal")), 58);
        closed(connection, "a failed login");
    }
}

fn same_for_everyone(world: &World) {
    let ask = |mut connection: Connection| {
        send(&mut connection, 18, 0, &[]);
        connection.receive().expect("an answer")[4..].to_vec()
    };
    assert_eq!(ask(world.tls()), ask(world.bob()));
}

fn gone_during_the_delay(world: &World) {
    for _ in 0..20 {
        let mut connection = world.sasl();
        assert_eq!(handshake(&mut connection, 1, "SCRAM-SHA-256"), 0);
        send(&mut connection, 36, 0, &[0, 0, 0, 1, b'x']);
    }
}
