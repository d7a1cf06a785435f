//! Requests made to cost more than they weigh: nobody else waits for them, and memory stays bounded.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::builder::BatchBuilder;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use palisade_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use palisade_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use palisade_protocol::messages::init_producer_id::InitProducerIdRequest;
use palisade_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use palisade_protocol::messages::produce::ProduceRequest;
use palisade_protocol::text::Str;
use palisade_protocol::types::{ProducerEpoch, ProducerId, TimestampMs};
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

/// A node of one thread, which opens nothing while the file exists.
fn node_that_can_be_held() -> (Node, PathBuf) {
    let mut node = Node::prepare();
    let hold = node.dir().join("hold");
    node.env("TOKIO_WORKER_THREADS", "1");
    node.env(
        "PALISADE_FAILPOINT",
        format!("produce.before_open:hold={}", hold.display()),
    );
    node.run();
    (node, hold)
}

/// While bombs of as many connections wait to be opened, one thread that serves them all goes on serving others;
/// what one connection sends lands in its order.
#[test]
fn bombs_stop_nobody_else() {
    let (node, hold) = node_that_can_be_held();
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

/// Where a batch must be opened, one that opens to more than the node opens is refused in words, and takes none of its
/// producer's sequence numbers; elsewhere it is stored as it is.
#[test]
fn a_batch_that_opens_to_too_much_is_told_so() {
    const WORDS: &str = "batch not opened";
    let mut node = Node::prepare();
    node.allow(WORDS);
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let mut produce = |topic, configs: &[(&str, &str)], values: &[&[u8]]| {
        let id = requests::create_topic(&mut connection, topic, 1, configs).expect("a topic");
        let init = InitProducerIdRequest {
            transactional_id: None,
            ..InitProducerIdRequest::default()
        };
        let answer = connection.call(newest(ApiKey::InitProducerId), &init);
        let answer = answer.expect("an answer");
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let producer = answer.producer_id;
        let mut send = |values: &[&[u8]]| {
            let (producer, epoch) = (ProducerId::new(producer), ProducerEpoch::new(0));
            let mut builder = BatchBuilder::new(Codec::Gzip).producer(producer, epoch, 0);
            for value in values {
                let time = TimestampMs::new(NOW_MS);
                let added = builder.add(time, Some(b"key"), Some(value), &[]);
                added.expect("a record");
            }
            let batch = builder.build().expect("a batch").freeze();
            assert!(batch.len() < 100_000, "{} bytes sent", batch.len());
            requests::produce(&mut connection, topic, id, -1, batch).expect("an answer")
        };
        // The second begins where the first would have.
        [send(values), send(&[b"small"])]
    };
    let value = vec![0; 7 << 20];
    let bomb = [&value[..]; 10];
    for (topic, must_open) in [
        ("compacted", ("cleanup.policy", "compact")),
        ("packed", ("compression.type", "zstd")),
    ] {
        let [refused, taken] = produce(topic, &[must_open], &bomb);
        assert_eq!(refused.error_code, ErrorCode::MESSAGE_TOO_LARGE, "{topic}");
        let words = refused.error_message.expect("words");
        assert!(words.contains("67108864 bytes uncompressed"), "{words}");
        assert_eq!((taken.error_code, taken.base_offset), (ErrorCode::NONE, 0));
    }
    let [taken, again] = produce("plain", &[], &bomb);
    assert_eq!((taken.error_code, taken.base_offset), (ErrorCode::NONE, 0));
    let wanted = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
    assert_eq!(again.error_code, wanted, "its sequence is taken");
    let log = node.terminate();
    let said = log.iter().find(|line| line.contains(WORDS));
    let said = said.expect("a line of it");
    assert!(said.contains("compacted"), "{said}");
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

/// Batches that wait for their turn have no codec's memory yet, which is reserved for those in work alone.
#[test]
fn batches_in_line_take_no_memory_for_codecs() {
    const CONNECTIONS: usize = 200;
    let (node, hold) = node_that_can_be_held();
    let access = node.certificate();
    let mut connection = Connection::open(&access).expect("a login");
    let packed = [("compression.type", "gzip")];
    let packed = requests::create_topic(&mut connection, "packed", 1, &packed).expect("a topic");
    let open = |_| Connection::open(&access).expect("a login");
    let mut waiting: Vec<_> = (0..CONNECTIONS).map(open).collect();

    fs::write(&hold, "").expect("a scratch file can be written");
    let before = peak_memory(node.process().id());
    let version = newest(ApiKey::Produce);
    let records = requests::batch(Codec::None, &[b"value"], NOW_MS);
    let request = requests::produce_request("packed", packed, 0, -1, records);
    let ids: Vec<_> = waiting
        .iter_mut()
        .map(|client| client.ask(version, &request).expect("sent"))
        .collect();
    // The one thread has read them all by then.
    for _ in 0..EXCHANGES {
        requests::latest_offset(&mut connection, "packed").expect("an answer");
    }
    let grown = peak_memory(node.process().id()) - before;
    fs::remove_file(&hold).expect("the scratch file can go");
    for (client, id) in waiting.iter_mut().zip(ids) {
        let answer = client.answer::<ProduceRequest>(version, id);
        let row = &answer.expect("an answer").responses[0].partition_responses[0];
        assert!(!row.error_code.is_error(), "{:?}", row.error_code);
    }
    println!("{grown} bytes more");
    assert!(grown < CONNECTIONS as u64 * 64 * 1024, "{grown} bytes more");
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

/// As Java's runtime does for Kafka: a shell's 1,024 of many would be enough for few partitions.
#[test]
fn all_descriptors_that_are_allowed_are_taken() {
    let mut node = Node::prepare();
    node.limit_descriptors("256:2048").run();
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.process().id()));
    let limits = limits.expect("a process has limits");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<_> = files
        .expect("a line")
        .split_whitespace()
        .filter_map(|word| word.parse::<u32>().ok())
        .collect();
    assert_eq!(numbers, [2048, 2048]);
    node.terminate();
}

/// Creates a topic, or only asks whether it could be; what the answer says.
fn try_create(
    connection: &mut Connection,
    name: &str,
    partitions: i32,
    validate_only: bool,
) -> (ErrorCode, String) {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::copy(name),
            num_partitions: partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        timeout_ms: 30_000,
        validate_only,
    };
    let answer = connection.call(newest(ApiKey::CreateTopics), &request);
    let topic = answer.expect("an answer").topics.remove(0);
    let words = topic.error_message.as_deref().unwrap_or_default();
    (topic.error_code, words.to_owned())
}

fn delete(connection: &mut Connection, name: &str) {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(Str::copy(name)),
            ..DeleteTopicState::default()
        }],
        timeout_ms: 30_000,
        ..DeleteTopicsRequest::default()
    };
    let answer = connection.call(newest(ApiKey::DeleteTopics), &request);
    let code = answer.expect("an answer").responses[0].error_code;
    assert_eq!(code, ErrorCode::NONE);
}

/// Whoever creates topics is refused before the last descriptors are gone: others log in and write, and what is
/// deleted can be created again.
#[test]
fn topics_leave_descriptors_to_others() {
    const PARTITIONS: i32 = 16;
    // As many topics as would need more than there are.
    const TOPICS: usize = 16;
    let mut node = Node::prepare();
    node.limit_descriptors("256").allow("partitions refused");
    node.run();
    let access = node.certificate();
    let mut connection = Connection::open(&access).expect("a login");
    let id = requests::create_topic(&mut connection, "t", 1, &[]).expect("a topic");
    let is_refused = |(code, words): (ErrorCode, String)| {
        assert_eq!(code, ErrorCode::POLICY_VIOLATION, "{words}");
        assert!(words.contains("file descriptors"), "{words}");
    };
    is_refused(try_create(&mut connection, "huge", 250, true));
    is_refused(try_create(&mut connection, "huge", 250, false));
    let name = |topic: usize| format!("t-{topic}");
    let refused = (0..TOPICS).find_map(|topic| {
        let (code, words) = try_create(&mut connection, &name(topic), PARTITIONS, false);
        (code != ErrorCode::NONE).then_some((topic, (code, words)))
    });
    let (made, answer) = refused.expect("a refusal");
    is_refused(answer);
    assert!(made > 0, "none was created");
    let grow = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: Str::from("t"),
            count: 1 + PARTITIONS,
            assignments: None,
        }],
        timeout_ms: 30_000,
        validate_only: false,
    };
    let answer = connection.call(newest(ApiKey::CreatePartitions), &grow);
    let row = answer.expect("an answer").results.remove(0);
    let words = row.error_message.as_deref().unwrap_or_default();
    is_refused((row.error_code, words.to_owned()));

    let mut others: Vec<_> = (0..8)
        .map(|_| Connection::open(&access).expect("a login"))
        .collect();
    for other in &mut others {
        let records = requests::batch(Codec::None, &[b"value"], NOW_MS);
        let answer = requests::produce(other, "t", id, -1, records);
        assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
    }
    drop(others);
    delete(&mut connection, &name(0));
    eventually("a creation", Duration::from_secs(60), || {
        match try_create(&mut connection, "again", PARTITIONS, false) {
            (ErrorCode::NONE, _) => Ok(()),
            (_, words) => Err(words),
        }
    });
    node.terminate();
}

/// Many logs that find no descriptor when they are made, and when they are deleted, are told of in a line each time;
/// what is left of them goes without a restart.
#[test]
fn many_logs_without_descriptors_are_a_line_and_leave_nothing() {
    const LOGS: i32 = 40;
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut node = Node::prepare();
    node.allow("log not opened").allow("log not deleted");
    node.allow("checkpoint not written");
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let process = node.process().id();
    limit_descriptors(process, 8);
    requests::create_topic(&mut connection, "t", LOGS, &[]).expect("a topic");
    limit_descriptors(process, 1024);
    let count = |lines: &[String], text| lines.iter().filter(|line| line.contains(text)).count();
    let logs = usize::try_from(LOGS).expect("a count");
    eventually("open logs", PATIENCE, || {
        match count(&node.process().lines(), "log opened after all") {
            open if open == logs => Ok(()),
            open => Err(format!("{open} are open")),
        }
    });
    limit_descriptors(process, 8);
    delete(&mut connection, "t");
    limit_descriptors(process, 1024);
    eventually("no directory", PATIENCE, || {
        let entries = fs::read_dir(node.dir().join("data")).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let left = names.filter(|name| name.to_string_lossy().starts_with("t-"));
        match left.count() {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    });
    let lines = node.terminate();
    for told in ["log not opened", "log not deleted"] {
        assert_eq!(count(&lines, told), 1, "{told}: {lines:#?}");
    }
    assert_eq!(count(&lines, "logs=40"), 2, "{lines:#?}");
}
