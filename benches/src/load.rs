//! Traffic of one connection: produce with several requests on their way, and fetch it back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use palisade_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use palisade_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use palisade_protocol::messages::fetch::FetchRequest;
use palisade_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use palisade_protocol::messages::metadata::MetadataRequest;
use palisade_protocol::messages::produce::ProduceRequest;
use palisade_protocol::types::TopicId;
use palisade_protocol::{Str, frame};

use crate::client::{Client, accepted};
use crate::payload::{
    CORRELATION_ID, FETCH_VERSION, PRODUCE_VERSION, fetch_request, produce_frame,
};

/// Produce requests on their way at once, as many as a Kafka producer has.
const IN_FLIGHT: usize = 5;

/// Bytes asked for by one fetch.
const FETCH_BYTES: i32 = 1 << 20;

const CREATE_TOPICS_VERSION: i16 = 7;
const DESCRIBE_CONFIGS_VERSION: i16 = 4;
const ALTER_CONFIGS_VERSION: i16 = 1;
const METADATA_VERSION: i16 = 12;

/// Resource type of a topic in the requests of configs, and of a broker.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// What an amount of traffic took.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Bytes of record batches.
    pub bytes: u64,
    /// From the first request to the last answer.
    pub time: Duration,
    /// Offset of the first record.
    pub offset: i64,
}

/// Creates a topic of one partition and returns its id.
///
/// # Errors
/// The broker refuses.
pub fn create_topic(client: &mut Client, name: &str) -> Result<TopicId> {
    create_topic_with(client, name, 1, &[])
}

/// Creates a topic with so many partitions and these settings and returns its id.
///
/// # Errors
/// The broker refuses.
pub fn create_topic_with(
    client: &mut Client,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> Result<TopicId> {
    let configs = settings.iter().map(|(key, value)| CreatableTopicConfig {
        name: Str::copy(key),
        value: Some(Str::copy(value)),
    });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::copy(name),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..CreatableTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    let response = client.call(CREATE_TOPICS_VERSION, &request)?;
    let topic = response.topics.first().context("no answer")?;
    accepted(topic.error_code, "CreateTopics")?;
    Ok(topic.topic_id)
}

/// Sets one key of a topic.
///
/// # Errors
/// The broker refuses.
pub fn alter_topic(client: &mut Client, name: &str, key: &str, value: &str) -> Result<()> {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: Str::copy(name),
            configs: vec![AlterableConfig {
                name: Str::copy(key),
                config_operation: 0,
                value: Some(Str::copy(value)),
            }],
        }],
        validate_only: false,
    };
    let response = client.call(ALTER_CONFIGS_VERSION, &request)?;
    let resource = response.responses.first().context("no answer")?;
    accepted(resource.error_code, "IncrementalAlterConfigs")
}

/// A setting of the node, as the node tells it.
///
/// # Errors
/// It does not.
pub fn node_setting(client: &mut Client, key: &str) -> Result<String> {
    let brokers = client
        .call(METADATA_VERSION, &MetadataRequest::default())?
        .brokers;
    let node = brokers.first().context("no broker in the metadata")?;
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: BROKER,
            resource_name: Str::from(node.node_id.to_string()),
            configuration_keys: Some(vec![Str::copy(key)]),
        }],
        ..DescribeConfigsRequest::default()
    };
    let response = client.call(DESCRIBE_CONFIGS_VERSION, &request)?;
    let result = response.results.first().context("no answer")?;
    accepted(result.error_code, "DescribeConfigs")?;
    let config = result.configs.first().context("no such setting")?;
    Ok(config.value.as_deref().unwrap_or_default().to_owned())
}

/// Produces one batch, waits until it is acknowledged, and returns the offset of its first record.
///
/// # Errors
/// The broker refuses it.
pub fn produce_one(client: &mut Client, topic: TopicId, acks: i16, batch: &Bytes) -> Result<i64> {
    client.send(&produce_frame(topic, acks, batch.clone()))?;
    judge_produced(client.receive()?)
}

/// Produces the same batch until `total` bytes are acknowledged.
///
/// # Errors
/// The broker refuses one, or the connection broke.
pub fn produce(
    client: &mut Client,
    topic: TopicId,
    acks: i16,
    batch: &Bytes,
    total: u64,
) -> Result<Traffic> {
    let mut frame = produce_frame(topic, acks, batch.clone());
    let size = u64::try_from(batch.len())?;
    let count = total.div_ceil(size);
    let mut answer = Vec::new();
    let mut sent = 0;
    let mut received = 0;
    let mut offset = None;
    let began = Instant::now();
    while received < count {
        if sent < count && sent - received < IN_FLIGHT as u64 {
            let id = i32::try_from(sent)?;
            frame[CORRELATION_ID].copy_from_slice(&id.to_be_bytes());
            client.send(&frame)?;
            sent += 1;
        } else {
            client.receive_into(&mut answer)?;
            let landed = judge_produced(Bytes::copy_from_slice(&answer))?;
            offset.get_or_insert(landed);
            received += 1;
        }
    }
    Ok(Traffic {
        bytes: count * size,
        time: began.elapsed(),
        offset: offset.context("nothing to produce")?,
    })
}

/// Fetches the partition from `offset` until `total` bytes have come, one request at a time.
///
/// # Errors
/// The broker refuses, or has less.
pub fn fetch(client: &mut Client, topic: TopicId, offset: i64, total: u64) -> Result<Traffic> {
    let mut next = offset;
    let mut bytes = 0;
    let mut answer = Vec::new();
    let began = Instant::now();
    while bytes < total {
        let request = fetch_request(topic, next, FETCH_BYTES);
        let frame = frame::encode_request(FETCH_VERSION, 0, Some("bench"), &request)?;
        client.send(&frame)?;
        client.receive_into(&mut answer)?;
        // The decoder wants bytes of its own; the buffer comes back for the next answer.
        let shared = Bytes::from(std::mem::take(&mut answer));
        let (got, end) = judge_fetched(shared.clone())?;
        ensure!(got > 0, "nothing more at offset {next}");
        bytes += got;
        next = end;
        answer = shared.try_into_mut().map_or_else(|_| Vec::new(), Vec::from);
    }
    Ok(Traffic {
        bytes,
        time: began.elapsed(),
        offset,
    })
}

/// The offset of the batch that the answer acknowledges.
fn judge_produced(answer: Bytes) -> Result<i64> {
    let (_, response) = frame::decode_response::<ProduceRequest>(PRODUCE_VERSION, answer)?;
    let topic = response.responses.first().context("an empty answer")?;
    let row = topic.partition_responses.first();
    let row = row.context("an empty answer")?;
    accepted(row.error_code, "Produce")?;
    Ok(row.base_offset)
}

/// Bytes in the answer, and the offset behind its last batch.
fn judge_fetched(answer: Bytes) -> Result<(u64, i64)> {
    let (_, response) = frame::decode_response::<FetchRequest>(FETCH_VERSION, answer)?;
    accepted(response.error_code, "Fetch")?;
    let topic = response.responses.first().context("an empty answer")?;
    let partition = topic.partitions.first().context("an empty answer")?;
    accepted(partition.error_code, "Fetch")?;
    let records = partition.records.as_ref().context("no records")?;
    let mut end = -1;
    for batch in palisade_protocol::batch::BatchIter::new(records.as_bytes()) {
        end = batch?.0.next_offset().value();
    }
    Ok((u64::try_from(records.len())?, end))
}
