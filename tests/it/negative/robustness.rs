//! Q: robustness and the audit log under it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use palisade_protocol::api::ApiKey;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::frame;
use palisade_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use palisade_protocol::text::Str;
use palisade_tests::access::Access;
use palisade_tests::audit;
use palisade_tests::requests::newest;
use palisade_tests::wire::{self, Connection};
use serde_json::Value;

use super::Row;
use super::world::{World, closed, send};

pub(super) const ROWS: &[Row] = &[
    ("Q09", absurd_counts),
    ("Q12", killed_under_load),
    ("Q14", hostile_names),
    ("Q16", flood_of_denials),
];

fn lines(world: &World) -> Vec<Value> {
    audit::verified(&world.node.dir().join("data/audit/audit.log"))
}

fn absurd_counts(world: &World) {
    let bodies: [(i16, i16, &[u8]); 6] = [
        // Metadata v1 with too many topics, and with fewer than none.
        (3, 1, &[0x7f, 0xff, 0xff, 0xff]),
        (3, 1, &[0xff, 0xff, 0xff, 0xfe]),
        // Metadata v9: a compact count of ten bytes, a large one, and a million tags.
        (
            3,
            9,
            &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ),
        (3, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0x07]),
        (3, 9, &[0, 1, 1, 0, 0, 0xc0, 0x84, 0x3d]),
        // CreateTopics v2.
        (19, 2, &[0x7f, 0xff, 0xff, 0xff]),
    ];
    for (key, version, body) in bodies {
        let mut connection = world.bob();
        send(&mut connection, key, version, body);
        closed(connection, &format!("key {key} v{version}: {body:?}"));
    }
}

/// Denied questions for names not asked for before, or for one name again and again.
fn be_denied(bob: &mut Connection, client_id: &str, name: &str) {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: Str::copy(name),
            partitions: vec![ListOffsetsPartition {
                timestamp: -1,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let version = newest(ApiKey::ListOffsets);
    let id = bob.next_correlation_id();
    let request = frame::encode_request(version, id, Some(client_id), &request).expect("a frame");
    bob.send_raw(&request).expect("a request");
    let answer = bob
        .answer::<ListOffsetsRequest>(version, id)
        .expect("an answer");
    let code = answer.topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
}

/// Logs in again and again until the node is gone, and reports each login that it was told of by its port.
fn keep_logging_in(access: &Access, killed: &AtomicBool, told: &Sender<u64>) {
    loop {
        match Connection::open(access) {
            Ok(connection) => {
                let port = u64::from(connection.local_address().port());
                told.send(port).expect("the test listens");
            }
            Err(error) => {
                assert!(wire::is_end(&error), "a login is answered: {error}");
                assert!(killed.load(Ordering::SeqCst), "cut off: {error}");
                return;
            }
        }
    }
}

/// Killed while clients log in: every login that a client was told of is in the log, and the log goes on as a new
/// stream that says so, chained to the last whole line.
fn killed_under_load(_: &World) {
    const CLIENTS: usize = 4;
    const LIVES: usize = 3;
    // A node of its own: the others' stays up.
    let mut node = palisade_tests::node::Node::start();
    let mut told: Vec<Vec<u64>> = Vec::new();
    for life in 1..=LIVES {
        let access = node.scram("SCRAM-SHA-256");
        let killed = AtomicBool::new(false);
        let (report, progress) = channel();
        told.push(thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let (report, access, killed) = (report.clone(), &access, &killed);
                scope.spawn(move || keep_logging_in(access, killed, &report));
            }
            drop(report);
            let logins = (0..10 * CLIENTS * life).map(|_| progress.recv());
            let mut told: Vec<_> = logins.map(|login| login.expect("clients go on")).collect();
            killed.store(true, Ordering::SeqCst);
            node.kill();
            told.extend(progress.iter());
            told
        }));
        node.run();
        let lines = audit::verified(&node.dir().join("data/audit/audit.log"));
        let lives: Vec<_> = lines
            .split(|line| line["action"] == "unclean_start")
            .collect();
        assert_eq!(lives.len(), life + 1);
        for (told, lines) in told.iter().zip(lives) {
            let logins = lines.iter().filter(|line| line["action"] == "login_ok");
            let ports: BTreeSet<_> = logins
                .filter_map(|line| line["src"]["port"].as_u64())
                .collect();
            for port in told {
                assert!(ports.contains(port), "the login from {port} is not there");
            }
        }
    }
}

fn hostile_names(world: &World) {
    let name = "evil\n{\"v\":1}\"\u{1b}[2J\u{202e}\u{2028}";
    let mut bob = world.bob();
    be_denied(&mut bob, name, name);
    let mut stranger = world.tls();
    stranger.login_plain(name, "x").expect_err("no such user");
    drop(stranger);
    palisade_tests::check::eventually("the lines", std::time::Duration::from_secs(10), || {
        let lines = lines(world);
        let denied = lines.iter().any(|line| line["authz"][0]["name"] == name);
        let tried = lines
            .iter()
            .any(|line| line["auth"]["principal"] == format!("User:{name}"));
        (denied && tried)
            .then_some(())
            .ok_or_else(|| format!("{denied} {tried}"))
    });
    let file = world.node.dir().join("data/audit/audit.log");
    let text = std::fs::read_to_string(file).expect("text");
    let said = world.node.process().output();
    for raw in ["\u{1b}[2J", "\u{202e}", "\u{2028}", "evil\n"] {
        assert!(
            !text.contains(raw) && !said.contains(raw),
            "{raw:?} is not printed as it is"
        );
    }
}

/// A flood of equal denials is one line at once, and the exact number later.
fn flood_of_denials(_: &World) {
    // A node of its own, stopped at the end: that tells what was counted.
    let mut world = World::start();
    let mut bob = world.bob();
    for _ in 0..500 {
        be_denied(&mut bob, "tests", "q16");
    }
    drop(bob);
    world.node.terminate();
    let lines = audit::verified(&world.node.dir().join("data/audit/audit.log"));
    let told: Vec<u64> = lines
        .iter()
        .filter(|line| line["authz"][0]["name"] == "q16")
        .map(|line| line["agg"]["count"].as_u64().unwrap_or(1))
        .collect();
    assert_eq!(told.iter().sum::<u64>(), 500);
    assert!(told.len() <= 4, "{told:?}");
}
