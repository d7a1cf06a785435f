//! Requests made to cost more than they weigh: nobody else waits for them, and memory stays bounded.

use std::fs;
use std::process::Command;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use palisade_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use palisade_protocol::messages::produce::ProduceRequest;
use palisade_protocol::text::Str;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests::{self, newest};
use palisade_tests::wire::Connection;

const NOW_MS: i64 = 1_700_000_000_000;
const BOMBS: usize = 24;
/// What a bomb of a few KiB opens to.
const OPENED: usize = 8 << 20;
const EXCHANGES: usize = 50;

fn bomb() -> Bytes {
    let values = vec![vec![0_u8; OPENED / 8]; 8];
    let batch = requests::batch(Codec::Zstd, &values, NOW_MS);
    assert!(batch.len() < 64 * 1024, "a bomb of {} bytes", batch.len());
    batch
}

/// While bombs of as many connections wait to be opened, one thread that serves them all goes on serving others;
/// what one connection sends lands in its order.
#[test]
fn bombs_stop_nobody_else() {
    let mut node = Node::prepare();
    let hold = node.dir().join("hold");
    node.env("TOKIO_WORKER_THREADS", "1");
    node.env(
        "PALISADE_FAILPOINT",
        format!("produce.before_open:hold={}", hold.display()),
    );
    node.run();
    let access = node.certificate();
    let mut connection = Connection::open(&access).expect("a login");
    let packed = [("compression.type", "gzip")];
    let packed = requests::create_topic(&mut connection, "packed", 1, &packed).expect("a topic");
    let plain = requests::create_topic(&mut connection, "plain", 1, &[]).expect("a topic");

    fs::write(&hold, "").expect("a scratch file can be written");
    let version = newest(ApiKey::Produce);
    let bomb = bomb();
    let (done, outcomes) = channel();
    let clients: Vec<_> = (0..BOMBS)
        .map(|_| {
            let mut asking = Connection::open(&access).expect("a login");
            let ask = |asking: &mut Connection, records: &Bytes| {
                let request = requests::produce_request("packed", packed, 0, -1, records.clone());
                asking.ask(version, &request).expect("sent")
            };
            // The second needs no opening, and still waits for its turn.
            let kept = requests::batch(Codec::Gzip, &[b"kept"], NOW_MS);
            let ids = [ask(&mut asking, &bomb), ask(&mut asking, &kept)];
            let done = done.clone();
            thread::spawn(move || {
                let bases = ids.map(|id| {
                    let answer = asking.answer::<ProduceRequest>(version, id);
                    let answer = answer.expect("an answer");
                    let row = &answer.responses[0].partition_responses[0];
                    assert!(!row.error_code.is_error(), "{:?}", row.error_code);
                    row.base_offset
                });
                done.send(bases).expect("the test waits");
            })
        })
        .collect();
    for round in 0..EXCHANGES {
        let batch = requests::batch(Codec::None, &[b"value"], NOW_MS);
        let answer = requests::produce(&mut connection, "plain", plain, -1, batch);
        let answer = answer.expect("an answer");
        assert!(!answer.error_code.is_error(), "{:?}", answer.error_code);
        let offset = i64::try_from(round).expect("a small number");
        let data = requests::fetch(&mut connection, "plain", plain, offset, 1000);
        let values = requests::values(&data.expect("an answer"), offset);
        assert_eq!(values.expect("a whole batch").len(), 1);
    }
    assert_eq!(
        outcomes.try_recv(),
        Err(TryRecvError::Empty),
        "nothing was opened"
    );

    fs::remove_file(&hold).expect("the scratch file can go");
    for _ in 0..BOMBS {
        let [bomb, kept] = outcomes.recv().expect("an outcome");
        assert!(bomb < kept, "{bomb} and {kept} out of order");
    }
    for client in clients {
        client.join().expect("a client");
    }
    let end = requests::latest_offset(&mut connection, "packed").expect("an answer");
    assert_eq!(end, i64::try_from(BOMBS * 9).expect("a small number"));
}

/// The most memory that a process has had resident, in bytes.
fn peak_memory(process: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a live process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of KiB");
    kib * 1024
}

/// A frame of 100 MiB that would decode to gigabytes costs what a frame may, and its connection; one that asks for
/// as much as may be asked for is answered.
#[test]
fn counts_cost_no_more_than_their_budget() {
    const FRAME: usize = 100 << 20;
    const NAME: usize = 2;
    const TOPICS: usize = 250_000;
    let mut node = Node::prepare();
    node.run();
    let access = node.certificate();
    let mut connection = Connection::open(&access).expect("a login");

    let before = peak_memory(node.process().id());
    // Far more topics than anybody asks for are still answered.
    let many = MetadataRequest {
        topics: Some(
            (0..TOPICS)
                .map(|at| MetadataRequestTopic {
                    name: Some(Str::from(format!("no-such-topic-{at}"))),
                    ..MetadataRequestTopic::default()
                })
                .collect(),
        ),
        ..MetadataRequest::default()
    };
    let answer = connection.call(newest(ApiKey::Metadata), &many);
    assert_eq!(answer.expect("an answer").topics.len(), TOPICS);

    for _ in 0..2 {
        let mut hostile = Connection::open(&access).expect("a login");
        // Metadata v0: a count, then names of no bytes, each of two bytes on the wire.
        let mut frame = hostile.header(3, 0);
        let names = (FRAME - frame.len() - 4) / NAME;
        let count = i32::try_from(names).expect("a count");
        frame.extend_from_slice(&count.to_be_bytes());
        frame.resize(frame.len() + names * NAME, 0);
        hostile.send(&frame).expect("sent");
        assert!(hostile.is_closed_by_peer(), "such a request has no answer");
    }
    let grown = peak_memory(node.process().id()) - before;
    println!("{grown} bytes more at the peak");
    let bound = 2 * FRAME as u64 + (128 << 20);
    assert!(
        grown < bound,
        "{grown} bytes more, at most {bound} expected"
    );
    let answer = connection.call(newest(ApiKey::Metadata), &MetadataRequest::default());
    answer.expect("others are served");
}

/// The last version of Fetch that names topics.
const BY_NAME: i16 = 12;

/// A request for a session of so many partitions that do not exist.
fn session_of(partitions: i32) -> FetchRequest {
    let partitions = (0..partitions).map(|partition| FetchPartition {
        partition,
        ..FetchPartition::default()
    });
    FetchRequest {
        session_epoch: 0,
        topics: vec![FetchTopic {
            topic: Str::from("no-such-topic"),
            partitions: partitions.collect(),
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

/// Asks for a session; its id, 0 for none.
fn session(connection: &mut Connection, request: &FetchRequest) -> i32 {
    let answer = connection.call(BY_NAME, request).expect("an answer");
    assert!(!answer.error_code.is_error(), "{:?}", answer.error_code);
    let rows = answer.responses.iter().map(|topic| topic.partitions.len());
    let asked = request.topics.iter().map(|topic| topic.partitions.len());
    assert_eq!(rows.sum::<usize>(), asked.sum::<usize>());
    answer.session_id
}

/// The session goes on for whom it was made.
fn still_has(connection: &mut Connection, session_id: i32) {
    let next = FetchRequest {
        session_id,
        session_epoch: 1,
        ..FetchRequest::default()
    };
    let answer = connection.call(BY_NAME, &next).expect("an answer");
    assert_eq!(
        (answer.error_code, answer.session_id),
        (ErrorCode::NONE, session_id)
    );
}

/// Makes users without rights, and logs them in.
fn strangers<const N: usize>(node: &Node, names: [&str; N]) -> [Connection; N] {
    let mut admin = Connection::open(&node.certificate()).expect("a login");
    names.map(|name| {
        requests::set_user(&mut admin, name, "SCRAM-SHA-256", "a password").expect("a user");
        let access = node.scram("SCRAM-SHA-256");
        let access = access.as_user("SCRAM-SHA-256", name, "a password");
        Connection::open(&access).expect("a login")
    })
}

/// Who may log in, and nothing else, names partitions that do not exist in one session after the other: all that is
/// remembered of them stays within its bound, and every request is answered. Others get sessions all the same, and
/// keep them.
#[test]
fn sessions_remember_no_more_than_their_bound() {
    const PARTITIONS: i32 = 60_000;
    const SESSIONS: usize = 24;
    let mut node = Node::prepare();
    node.run();
    let [mut mallory, mut alice] = strangers(&node, ["mallory", "alice"]);
    let request = session_of(PARTITIONS);
    let before = peak_memory(node.process().id());
    let flood = |mallory: &mut Connection| {
        let ids = (0..SESSIONS).map(|_| session(mallory, &request));
        ids.filter(|id| *id != 0).count()
    };
    let sessions = flood(&mut mallory);
    assert!((1..=2).contains(&sessions), "{sessions} sessions");

    let id = session(&mut alice, &session_of(PARTITIONS));
    assert_ne!(id, 0, "a session of hers");
    flood(&mut mallory);
    still_has(&mut alice, id);
    let grown = peak_memory(node.process().id()) - before;
    println!("{sessions} sessions, {grown} bytes more at the peak");
    assert!(grown < 224 << 20, "{grown} bytes more");
}

/// Clients without sessions fetch all day: what one request looked at is gone with its answer.
#[test]
fn fetches_without_sessions_leave_nothing_behind() {
    const PARTITIONS: i32 = 100;
    const FETCHES: usize = 1000;
    let mut node = Node::prepare();
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let id = requests::create_topic(&mut connection, "t", PARTITIONS, &[]).expect("a topic");
    for index in 0..PARTITIONS {
        let records = requests::batch(Codec::None, &[b"value"], NOW_MS);
        let request = requests::produce_request("t", id, index, -1, records);
        let answer = connection.call(newest(ApiKey::Produce), &request);
        let row = &answer.expect("an answer").responses[0].partition_responses[0];
        assert!(!row.error_code.is_error(), "{:?}", row.error_code);
    }
    let mut request = requests::fetch_request("t", id, 0, 0);
    request.session_epoch = -1;
    request.topics[0].partitions = (0..PARTITIONS)
        .map(|partition| FetchPartition {
            partition,
            partition_max_bytes: 1024,
            ..FetchPartition::default()
        })
        .collect();
    let mut fetch = |times| {
        for _ in 0..times {
            let answer = connection.call(newest(ApiKey::Fetch), &request);
            let rows = &answer.expect("an answer").responses[0].partitions;
            assert!(rows.iter().all(|row| row.records.is_some()));
        }
    };
    fetch(FETCHES / 4);
    let before = peak_memory(node.process().id());
    fetch(FETCHES);
    let grown = peak_memory(node.process().id()) - before;
    println!("{grown} bytes more");
    assert!(grown < 2 << 20, "{grown} bytes more");
}

/// Two users take as many sessions as they can have: a third gets some all the same, and keeps them.
#[test]
fn nobody_is_kept_from_sessions() {
    const SLOTS: usize = 64;
    let mut node = Node::prepare();
    node.set(
        "max.incremental.fetch.session.cache.slots",
        SLOTS.to_string(),
    );
    node.run();
    let [mut mallory, mut eve, mut alice] = strangers(&node, ["mallory", "eve", "alice"]);
    let request = session_of(1);
    let flood = |connection: &mut Connection| -> Vec<i32> {
        let ids = (0..3 * SLOTS).map(|_| session(connection, &request));
        ids.filter(|id| *id != 0).collect()
    };
    assert_eq!(flood(&mut mallory).len(), SLOTS / 2);
    assert_eq!(flood(&mut eve).len(), SLOTS / 4);
    let kept = flood(&mut alice);
    assert_eq!(kept.len(), SLOTS / 8);
    assert!(flood(&mut mallory).is_empty() && flood(&mut eve).is_empty());
    for id in kept {
        still_has(&mut alice, id);
    }
}

/// Lets a process open no file descriptor from `number` on.
fn limit_descriptors(process: i32, number: u32) {
    let status = Command::new("prlimit")
        .arg(format!("--pid={process}"))
        .arg(format!("--nofile={number}:"))
        .status()
        .expect("prlimit runs");
    assert!(status.success(), "{status}");
}

/// A topic that is created while no file descriptor is left works as soon as there are some again.
#[test]
fn a_topic_outlives_the_want_of_descriptors() {
    let mut node = Node::prepare();
    node.allow("log not opened").allow("checkpoint not written");
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let process = node.process().id();
    limit_descriptors(process, 8);
    let id = requests::create_topic(&mut connection, "t", 1, &[]).expect("a topic");
    let write = |connection: &mut Connection| {
        let records = requests::batch(Codec::None, &[b"value"], NOW_MS);
        let answer = requests::produce(connection, "t", id, -1, records);
        answer.expect("an answer").error_code
    };
    assert_eq!(write(&mut connection), ErrorCode::KAFKA_STORAGE_ERROR);
    limit_descriptors(process, 1024);
    eventually("a write", Duration::from_secs(60), || {
        match write(&mut connection) {
            ErrorCode::NONE => Ok(()),
            code => Err(code.name().to_owned()),
        }
    });
    node.terminate();
}
