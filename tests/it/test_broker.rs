//! `palisade::TestBroker`: a broker in the process of somebody's tests, used as they would use it.

use std::time::Duration;

use palisade::TestBroker;
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(60);

fn config(pairs: Vec<(String, String)>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("message.timeout.ms", "60000").extend(pairs);
    config
}

async fn produce(config: &ClientConfig, topic: &str) -> Result<i64, KafkaError> {
    let producer: FutureProducer = config.create().expect("a producer");
    let record = FutureRecord::to(topic).partition(1).key("k").payload("v");
    let sent = producer.send(record, PATIENCE).await;
    sent.map(|delivery| delivery.offset)
        .map_err(|(error, _)| error)
}

/// A user produces and consumes where a rule lets her, and nowhere else; the administrator may everywhere.
#[test]
fn produces_and_consumes() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let broker = TestBroker::builder()
            .topic("orders", 2)
            .topic("private", 2)
            .user("alice", "alice's: secret")
            .acl("allow User:alice read,write topic:orders")
            .acl("allow User:alice read group:unused")
            .set("num.partitions", "2")
            .start()
            .await
            .expect("a broker");
        let alice = config(broker.client_config_of("alice", "alice's: secret"));
        assert_eq!(produce(&alice, "orders").await, Ok(0));
        assert_eq!(
            produce(&alice, "private").await,
            Err(KafkaError::MessageProduction(
                RDKafkaErrorCode::TopicAuthorizationFailed
            ))
        );
        let admin = config(broker.client_config());
        assert_eq!(produce(&admin, "private").await, Ok(0));
        assert_eq!(produce(&admin, "orders").await, Ok(1));
        assert_eq!(consume(alice), [b"v", b"v"]);
        broker.stop().await.expect("a clean stop");
    });
}

/// Both records of the partition, read while the test's own runtime stands still.
fn consume(config: ClientConfig) -> Vec<Vec<u8>> {
    let mut config = config;
    // librdkafka wants a group even where none is used.
    let consumer: BaseConsumer = config
        .remove("message.timeout.ms")
        .set("group.id", "unused")
        .create()
        .expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset("orders", 1, Offset::Beginning)
        .expect("a valid offset");
    consumer.assign(&assignment).expect("assigned");
    let read = || {
        let message = consumer.poll(PATIENCE).expect("a record in time");
        let message = message.expect("a record");
        message.payload().unwrap_or_default().to_vec()
    };
    vec![read(), read()]
}
