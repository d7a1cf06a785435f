//! Whoever asks for transactions is authorized, then refused for good and in words.

use std::time::{Duration, Instant};

use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::builder::BatchBuilder;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::find_coordinator::FindCoordinatorRequest;
use palisade_protocol::messages::init_producer_id::InitProducerIdRequest;
use palisade_protocol::messages::produce::ProduceRequest;
use palisade_protocol::text::Str;
use palisade_protocol::types::TimestampMs;
use palisade_tests::access::{Access, Store};
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::requests::{self, newest};
use palisade_tests::tools::{self, Java, Need};
use palisade_tests::wire::Connection;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaErrorCode;

const PATIENCE: Duration = Duration::from_secs(60);
const WORDS: &str = "transactions are not supported yet";

/// A node that may warn of producers it refuses.
fn node() -> Node {
    let mut node = Node::prepare();
    node.allow("transactional producer refused");
    node.run();
    node.create_admin();
    node
}

/// The code for a transactional id's coordinator; the words beside it are always the same.
fn look_up(connection: &mut Connection, version: i16, id: &str) -> ErrorCode {
    let mut request = FindCoordinatorRequest {
        key_type: 1,
        ..FindCoordinatorRequest::default()
    };
    match version {
        4.. => request.coordinator_keys = vec![id.to_owned().into()],
        _ => request.key = id.to_owned().into(),
    }
    let answer = connection.call(version, &request).expect("an answer");
    let (code, words) = match answer.coordinators.first() {
        Some(row) => (row.error_code, row.error_message.clone()),
        None => (answer.error_code, answer.error_message),
    };
    assert_eq!(words.as_deref(), Some(WORDS), "version {version}");
    code
}

/// One more code for those that do not take the first one as final, on each connection anew.
#[test]
fn who_comes_again_hears_what_every_client_takes_as_final() {
    let node = node();
    for version in 1..=newest(ApiKey::FindCoordinator) {
        let mut connection = Connection::open(&node.certificate()).expect("a login");
        let again = match version {
            1..=2 => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            _ => ErrorCode::INVALID_REQUEST,
        };
        for (id, code) in [
            ("x", ErrorCode::INVALID_REQUEST),
            ("x", again),
            ("another", again),
        ] {
            assert_eq!(look_up(&mut connection, version, id), code, "v{version}");
            assert!(!code.is_retriable());
        }
    }
    let warned = node.process().lines();
    let warned = warned.iter().filter(|line| line.contains(WORDS));
    assert!(warned.count() >= 1, "{}", node.process().output());
}

/// Each connection is told, and the log once in a while: who may describe a transactional id does not fill it.
#[test]
fn the_log_is_told_now_and_then() {
    const CONNECTIONS: usize = 200;
    let mut node = node();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(&node.certificate()).expect("a login");
        let code = look_up(&mut connection, newest(ApiKey::FindCoordinator), "x");
        assert_eq!(code, ErrorCode::INVALID_REQUEST);
    }
    let said = node.terminate();
    let said = said.iter().filter(|line| line.contains(WORDS)).count();
    // Once a second at most, however long the logins took.
    assert!((1..CONNECTIONS / 4).contains(&said), "{said} lines");
}

/// Producers that find the coordinator by themselves, and their batches.
#[test]
fn ids_and_batches_are_refused_for_good() {
    let node = node();
    let mut admin = Connection::open(&node.certificate()).expect("a login");
    let id = requests::create_topic(&mut admin, "paid", 1, &[]).expect("a topic");
    let init = InitProducerIdRequest {
        transactional_id: Some("x".into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    for version in 0..=newest(ApiKey::InitProducerId) {
        let answer = admin.call(version, &init).expect("an answer");
        // librdkafka ends on few codes of this API.
        assert_eq!(answer.error_code, ErrorCode::INVALID_TRANSACTION_TIMEOUT);
        assert_eq!(answer.producer_id, -1);
    }
    for version in 3..=newest(ApiKey::Produce) {
        let mut builder = BatchBuilder::new(Codec::None).transactional(true);
        builder
            .add(TimestampMs::new(1_700_000_000_000), None, Some(b"x"), &[])
            .expect("a record");
        let records = builder.build().expect("a batch").freeze();
        let request = ProduceRequest {
            transactional_id: Some(Str::from("x")),
            ..requests::produce_request("paid", id, 0, -1, records)
        };
        let answer = admin.call(version, &request).expect("an answer");
        let row = &answer.responses[0].partition_responses[0];
        assert_eq!(row.error_code, ErrorCode::INVALID_TXN_STATE, "v{version}");
        if version >= 8 {
            let words = row.error_message.as_deref().unwrap_or_default();
            assert!(words.contains("not supported yet"), "v{version}: {words}");
        }
    }
    assert_eq!(
        requests::latest_offset(&mut admin, "paid").expect("an offset"),
        0
    );
}

/// How `init_transactions` of librdkafka ends.
fn init_transactions(access: &Access) -> (RDKafkaErrorCode, String) {
    let producer: BaseProducer = crate::rdkafka::config(access)
        .set("transactional.id", "x")
        .create()
        .expect("a producer");
    let started = Instant::now();
    let error = producer
        .init_transactions(PATIENCE)
        .expect_err("there are no transactions");
    let KafkaError::Transaction(error) = error else {
        panic!("{error:?}");
    };
    println!("{:?} after {:?}: {error}", error.code(), started.elapsed());
    assert!(error.is_fatal(), "{error:?}");
    assert!(!error.is_retriable(), "{error:?}");
    (error.code(), error.string())
}

#[test]
fn librdkafka() {
    let node = node();
    let (code, words) = init_transactions(&node.scram("SCRAM-SHA-512"));
    assert_eq!(code, RDKafkaErrorCode::ClusterAuthorizationFailed);
    assert!(words.contains(WORDS), "{words}");
    let bob = node
        .scram("SCRAM-SHA-512")
        .as_user("SCRAM-SHA-512", "bob", "bob-secret");
    let mut admin = Connection::open(&node.certificate()).expect("a login");
    requests::set_user(&mut admin, "bob", "SCRAM-SHA-512", "bob-secret").expect("bob");
    let (code, words) = init_transactions(&bob);
    assert_eq!(code, RDKafkaErrorCode::TransactionalIdAuthorizationFailed);
    assert!(!words.contains(WORDS), "{words}");
}

#[test]
fn java() {
    if !tools::have("transactions::java", &[Need::Java(Java::V4)]) {
        return;
    }
    let node = node();
    let dir = paths::scratch();
    let access = node.scram("SCRAM-SHA-512");
    let properties = access.write_java(Store::Pem, dir.path(), "producer.properties");
    let mut command = Java::V4.command();
    command
        .arg("org.apache.kafka.tools.ProducerPerformance")
        .args(["--topic", "paid", "--num-records", "1"])
        .args(["--record-size", "1", "--throughput", "-1"])
        .args(["--transactional-id", "x", "--command-config"])
        .arg(properties);
    let (success, _, all) = tools::attempt("ProducerPerformance", &mut command, PATIENCE);
    assert!(!success, "{all}");
    assert!(all.contains(WORDS), "{all}");
}
