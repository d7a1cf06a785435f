//! Ends of all kinds: killed under load, asked to stop under load, and a disk that holds its breath.

use std::fs;
use std::time::{Duration, Instant};

use palisade_protocol::ErrorCode;
use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::messages::produce::ProduceRequest;
use palisade_tests::check::tell;
use palisade_tests::load::Load;
use palisade_tests::node::Node;
use palisade_tests::requests::{self, newest};
use palisade_tests::wire::{Connection, Transport};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::rdkafka::{config, create_topic};

const TOPIC: &str = "crash";
const ROUNDS: u64 = 50;
const PRODUCERS: usize = 4;

/// A seed from the environment, or a fresh one; printed, so that a failure can be repeated.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("PALISADE_TEST_SEED") {
        Ok(text) => text.parse().expect("PALISADE_TEST_SEED is a number"),
        Err(_) => {
            let mut bytes = [0; 8];
            openssl::rand::rand_bytes(&mut bytes).expect("random bytes");
            u64::from_le_bytes(bytes)
        }
    };
    println!("PALISADE_TEST_SEED={seed}");
    seed
}

/// The next number of a xorshift generator.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A node that syncs before it acknowledges, with small segments so that kills meet rolls too.
fn durable_node() -> Node {
    let mut node = Node::prepare();
    node.set("palisade.log.flush.policy", "ack");
    node.set("log.segment.bytes", "1048576");
    node
}

/// Killed at any moment of a load with acks=all: nothing acknowledged or consumed is lost, nothing appears
/// that was not sent, and nothing twice.
#[test]
fn killed_under_load() {
    let mut random = seed() | 1;
    let mut node = durable_node();
    node.run();
    let access = node.certificate();
    let mut connection = Connection::open(&access).expect("a login");
    let id = requests::create_topic(&mut connection, TOPIC, 1, &[]).expect("a topic");
    let mut verified = 0;
    let (mut acknowledged, mut consumed) = (0, 0);
    for round in 0..ROUNDS {
        let load = Load::start(&access, TOPIC, id, round, PRODUCERS, verified);
        load.wait_for_acknowledged(1 + next(&mut random) % 400);
        let history = load.kill(&mut node);
        acknowledged += history.acknowledged();
        consumed += history.consumed();

        node.run();
        let opened = node
            .process()
            .wait_for_line(Duration::from_secs(60), |line| {
                line.contains("log directory opened")
            });
        assert!(opened.contains("last_stop=\"unclean\""), "{opened}");
        let mut connection = Connection::open(&access).expect("a login after the kill");
        let log = requests::read_all(&mut connection, TOPIC, id, verified).expect("the log");
        if let Err(error) = history.check(&log) {
            panic!("round {round}: {error}");
        }
        verified += i64::try_from(log.len()).expect("a small log");
    }
    let counted = format!("{acknowledged} records acknowledged, {consumed} read, none lost");
    tell("killed_under_load", &format!("{ROUNDS} kills, {counted}"));
    assert!(acknowledged > 0 && consumed > 0, "{counted}");
}

/// Asked to stop under load, and started again: the client never learns of it, and nothing had to be scanned.
#[test]
fn stopped_under_load() {
    const RECORDS: i64 = 60_000;
    let mut node = durable_node();
    node.run();
    let access = node.certificate();
    create_topic(&access, TOPIC, 1);
    let producer: ThreadedProducer<DefaultProducerContext> = config(&access)
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .set("batch.num.messages", "50")
        .set("message.timeout.ms", "120000")
        .set("reconnect.backoff.max.ms", "200")
        .create()
        .expect("a producer");
    let consumer: BaseConsumer = config(&access)
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("reconnect.backoff.max.ms", "200")
        .create()
        .expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(TOPIC, 0, Offset::Offset(0))
        .expect("a valid offset");
    consumer.assign(&assignment).expect("assigned");

    let mut received = 0;
    let mut sent = 0;
    let mut stops = 0;
    let deadline = Instant::now() + Duration::from_secs(120);
    while received < RECORDS {
        assert!(Instant::now() < deadline, "{received} of {sent} records");
        while sent < RECORDS && sent < received + 2_000 {
            let payload = sent.to_string();
            let record = BaseRecord::<(), _>::to(TOPIC)
                .partition(0)
                .payload(&payload);
            producer
                .send(record)
                .map_err(|(error, _)| error)
                .expect("queued");
            sent += 1;
        }
        if received > (stops + 1) * RECORDS / 4 && stops < 3 {
            node.terminate();
            node.run();
            // What a clean stop leaves needs no look at the records.
            let said = |what: &str, figures: &[&str]| {
                // The ports are open before the logs are.
                let patience = Duration::from_secs(60);
                let process = node.process();
                let line = process.wait_for_line(patience, |line| line.contains(what));
                for figure in figures {
                    assert!(line.contains(figure), "{figure}: {line}");
                }
            };
            said("log directory opened", &["last_stop=\"clean\""]);
            said("metadata log opened", &[" scanned_bytes=0 "]);
            let figures = ["failed=0 scanned_bytes=0 cut_bytes=0 damaged_ranges=0 "];
            said("partition logs opened", &figures);
            stops += 1;
        }
        // A lost connection is reported here as an event, and mended by the client itself.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let expected = received.to_string();
            assert_eq!(message.payload(), Some(expected.as_bytes()));
            received += 1;
        }
    }
    producer.flush(Duration::from_secs(60)).expect("delivered");
    let (_, end) = consumer
        .fetch_watermarks(TOPIC, 0, Duration::from_secs(30))
        .expect("watermarks");
    let counted = format!("{stops} stops, {sent} records sent, {received} read, {end} in the log");
    tell("stopped_under_load", &counted);
    assert_eq!((end, stops), (RECORDS, 3), "a record was doubled or lost");
}

/// A byte of acknowledged metadata is flipped after a kill: the start refuses, and cuts nothing.
#[test]
fn damaged_metadata_stops_the_start() {
    let mut node = Node::prepare();
    // The recovery point of the log stays as it was at the start.
    node.set("log.flush.offset.checkpoint.interval.ms", "3600000");
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let log = node
        .dir()
        .join("data/__cluster_metadata-0/00000000000000000000.log");
    let before = fs::metadata(&log).expect("the metadata log").len();
    for name in ["one", "two", "three"] {
        requests::create_topic(&mut connection, name, 1, &[]).expect("a topic");
    }
    node.kill();
    let whole = fs::read(&log).expect("the metadata log");
    let before = usize::try_from(before).expect("a small file");
    // In the first and in the last byte that was acknowledged since.
    for at in [before, before + 70, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(&log, &flipped).expect("the metadata log");
        for _ in 0..2 {
            let said = node.refuses_to_start();
            assert!(said.contains("the metadata log is damaged"), "{said}");
            assert_eq!(fs::read(&log).expect("the metadata log"), flipped);
        }
    }
    fs::write(&log, &whole).expect("the metadata log");
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    for name in ["one", "two", "three"] {
        let end = requests::latest_offset(&mut connection, name).expect("the topic is there");
        assert_eq!(end, 0);
    }
}

/// The directory of a partition is removed while the node is down: the partition is offline until it is back, the
/// others serve; and a log that no topic claims is kept under another name.
#[test]
fn a_removed_directory_is_not_made_anew() {
    let mut node = durable_node();
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let batch = |value: &str| requests::batch(Codec::None, &[value], 1_700_000_000_000);
    let ids = ["lost", "kept"].map(|name| {
        let id = requests::create_topic(&mut connection, name, 1, &[]).expect("a topic");
        let answer =
            requests::produce(&mut connection, name, id, -1, batch("a")).expect("an answer");
        assert!(!answer.error_code.is_error());
        id
    });
    node.terminate();
    let data = node.dir().join("data");
    let copy = node.dir().join("copy");
    fs::rename(data.join("lost-0"), &copy).expect("a directory can be moved");

    node.allow("were on disk and are gone; restore the directory from a copy, or")
        .run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let answer = requests::produce(&mut connection, "lost", ids[0], -1, batch("b"));
    let code = answer.expect("an answer").error_code;
    assert_eq!(code, ErrorCode::KAFKA_STORAGE_ERROR);
    let answer = requests::produce(&mut connection, "kept", ids[1], -1, batch("b"));
    assert_eq!(answer.expect("an answer").base_offset, 1);
    assert!(!data.join("lost-0").exists(), "made anew");
    node.terminate();

    fs::rename(&copy, data.join("lost-0")).expect("a directory can be moved");
    // A log of a topic that this cluster never had.
    fs::create_dir(data.join("foreign-0")).expect("a directory can be made");
    for entry in fs::read_dir(data.join("kept-0")).expect("the log") {
        let entry = entry.expect("a file");
        let to = data.join("foreign-0").join(entry.file_name());
        fs::copy(entry.path(), to).expect("a file can be copied");
    }
    node.allow("of a topic that the cluster does not know set aside")
        .run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let log = requests::read_all(&mut connection, "lost", ids[0], 0).expect("the log");
    assert_eq!(log, [(0, b"a".to_vec())]);
    let strays: Vec<_> = fs::read_dir(&data)
        .expect("the data directory")
        .map(|entry| entry.expect("an entry").file_name())
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.contains("foreign"))
        .collect();
    assert_eq!(strays.len(), 1, "{strays:?}");
    assert!(strays[0].starts_with("foreign-0.") && strays[0].ends_with("-stray"));
}

/// Whether bytes of an answer have arrived and were not read.
fn has_arrived(connection: &mut Connection) -> bool {
    let Transport::Tls(stream) = connection.transport() else {
        unreachable!("these tests use TLS");
    };
    let stream = stream.get_ref();
    stream.set_nonblocking(true).expect("a socket's mode");
    let found = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("a socket's mode");
    found.is_ok()
}

/// While the disk has not confirmed, acks=all is not answered and no consumer sees the record; acks=1 is.
#[test]
fn nothing_is_acknowledged_before_its_sync() {
    let mut node = durable_node();
    let hold = node.dir().join("hold");
    node.env(
        "PALISADE_FAILPOINT",
        format!("flusher.before_sync:hold={}", hold.display()),
    );
    node.run();
    let access = node.certificate();
    let mut producer = Connection::open(&access).expect("a login");
    let mut other = Connection::open(&access).expect("a login");
    let id = requests::create_topic(&mut producer, TOPIC, 1, &[]).expect("a topic");
    let batch = |value: &str| requests::batch(Codec::None, &[value], 1_700_000_000_000);

    fs::write(&hold, "").expect("a scratch file can be written");
    let version = newest(ApiKey::Produce);
    let request = requests::produce_request(TOPIC, id, 0, -1, batch("all"));
    let correlation_id = producer.ask(version, &request).expect("sent");
    // A second producer that waits for the append only: when it is answered, the first is in the log or behind it.
    let answer = requests::produce(&mut other, TOPIC, id, 1, batch("one")).expect("an answer");
    assert!(!answer.error_code.is_error());
    let data = requests::fetch(&mut other, TOPIC, id, 0, 300).expect("an answer");
    assert_eq!(data.high_watermark, 0);
    assert_eq!(requests::values(&data, 0).expect("no batch"), []);
    assert_eq!(
        requests::latest_offset(&mut other, TOPIC).expect("an offset"),
        0
    );
    assert!(!has_arrived(&mut producer), "acknowledged before the sync");

    fs::remove_file(&hold).expect("the scratch file can go");
    let answer = producer
        .answer::<ProduceRequest>(version, correlation_id)
        .expect("an answer");
    let partition = &answer.responses[0].partition_responses[0];
    assert!(!partition.error_code.is_error());
    let log = requests::read_all(&mut other, TOPIC, id, 0).expect("the log");
    assert!(log.contains(&(partition.base_offset, b"all".to_vec())));
}
