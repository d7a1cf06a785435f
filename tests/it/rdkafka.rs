//! The rdkafka crate (librdkafka of today): administration, every codec, an idempotent producer, a consumer.

use std::time::{Duration, Instant};

use palisade_tests::access::Access;
use palisade_tests::target::Target;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(60);
const RECORDS: i64 = 500;

/// A client's settings for `access`.
pub(crate) fn config(access: &Access) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in access.librdkafka() {
        config.set(key, value);
    }
    config
}

fn admin(access: &Access) -> AdminClient<DefaultClientContext> {
    config(access).create().expect("an admin client")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE))
}

/// Creates a topic that keeps its records for good.
pub(crate) fn create_topic(access: &Access, topic: &str, partitions: i32) {
    // Some records carry timestamps of years ago, which retention by time would delete.
    let created =
        NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    let results = block_on(admin(access).create_topics([&created], &options())).expect("an answer");
    assert_eq!(results, [Ok(topic.to_owned())]);
}

#[test]
fn rdkafka() {
    let target = Target::start();
    for (number, access) in target.accesses().iter().enumerate() {
        let topic = format!("rdkafka-{number}");
        create_topic(access, &topic, 2);
        duplicate_is_refused(access, &topic);
        for (at, codec) in ["none", "gzip", "snappy", "lz4", "zstd"]
            .into_iter()
            .enumerate()
        {
            let first = i64::try_from(at).expect("five codecs") * RECORDS;
            produce(access, &topic, codec, first);
        }
        consume(access, &topic, 5 * RECORDS);
        describe_configs(access, &topic);
        delete(access, &topic);
    }
}

fn duplicate_is_refused(access: &Access, topic: &str) {
    let again = NewTopic::new(topic, 2, TopicReplication::Fixed(1));
    let results = block_on(admin(access).create_topics([&again], &options())).expect("an answer");
    assert_eq!(
        results,
        [Err((
            topic.to_owned(),
            RDKafkaErrorCode::TopicAlreadyExists
        ))]
    );
}

fn value(number: i64) -> Vec<u8> {
    let length = usize::try_from(number % 900).expect("not negative");
    (0..length)
        .map(|at| (at % 251) as u8 ^ (number % 256) as u8)
        .collect()
}

fn produce(access: &Access, topic: &str, codec: &str, first: i64) {
    let producer: BaseProducer = config(access)
        .set("enable.idempotence", "true")
        .set("compression.type", codec)
        .set("linger.ms", "5")
        .set("message.timeout.ms", "60000")
        .create()
        .expect("a producer");
    for number in first..first + RECORDS {
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "codec",
                value: Some(codec),
            })
            .insert(Header::<&str> {
                key: "none",
                value: None,
            });
        let key = number.to_string();
        let payload = value(number);
        let record = BaseRecord::to(topic)
            .partition(1)
            .key(&key)
            .payload(&payload)
            .timestamp(1_700_000_000_000 + number)
            .headers(headers);
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("queued");
    }
    producer.flush(PATIENCE).expect("delivered");
}

fn consume(access: &Access, topic: &str, count: i64) {
    let consumer: BaseConsumer = config(access)
        // librdkafka wants a group even where none is used.
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer");
    let (low, high) = consumer
        .fetch_watermarks(topic, 1, PATIENCE)
        .expect("watermarks");
    assert_eq!((low, high), (0, count));
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, 1, Offset::Offset(0))
        .expect("a valid offset");
    consumer.assign(&assignment).expect("assigned");
    let deadline = Instant::now() + PATIENCE;
    let mut next = 0;
    while next < count {
        assert!(Instant::now() < deadline, "only {next} of {count} records");
        let Some(message) = consumer.poll(Duration::from_secs(1)) else {
            continue;
        };
        let message = message.expect("a record");
        assert_eq!(message.offset(), next);
        assert_eq!(message.key(), Some(next.to_string().as_bytes()));
        assert_eq!(message.payload().unwrap_or_default(), value(next));
        assert_eq!(
            message.timestamp().to_millis(),
            Some(1_700_000_000_000 + next)
        );
        assert_eq!(message.headers().map(Headers::count), Some(2));
        next += 1;
    }
}

fn describe_configs(access: &Access, topic: &str) {
    let resource = [ResourceSpecifier::Topic(topic)];
    let answers =
        block_on(admin(access).describe_configs(&resource, &options())).expect("an answer");
    let found = answers[0].as_ref().expect("the topic's settings");
    let policy = found.get("cleanup.policy").expect("a known setting");
    assert_eq!(policy.value.as_deref(), Some("delete"));
}

fn delete(access: &Access, topic: &str) {
    let results = block_on(admin(access).delete_topics(&[topic], &options())).expect("an answer");
    assert_eq!(results, [Ok(topic.to_owned())]);
}

/// Wrong credentials end as an authentication error, not as silence.
#[test]
fn wrong_password() {
    let target = Target::start();
    let access =
        target
            .scram("SCRAM-SHA-512")
            .as_user("SCRAM-SHA-512", "admin", "not the password");
    let consumer: BaseConsumer = config(&access)
        .set("group.id", "unused")
        .create()
        .expect("a consumer");
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no authentication error");
        match consumer.poll(Duration::from_secs(1)) {
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::Authentication))) => return,
            Some(Ok(_)) => panic!("a record without a login"),
            _ => {}
        }
    }
}
