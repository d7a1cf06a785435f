//! The requests that most tests need, each as one function over a raw connection.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use palisade_protocol::api::{self, ApiKey};
use palisade_protocol::batch::builder::BatchBuilder;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::batch::{BATCH_HEADER_LEN, BatchIter, RecordIter, verify_crc};
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialUpsertion,
};
use palisade_protocol::messages::create_acls::{AclCreation, CreateAclsRequest};
use palisade_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use palisade_protocol::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use palisade_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use palisade_protocol::messages::find_coordinator::FindCoordinatorRequest;
use palisade_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use palisade_protocol::messages::list_groups::ListGroupsRequest;
use palisade_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use palisade_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use palisade_protocol::records::Records;
use palisade_protocol::text::Str;
use palisade_protocol::types::TimestampMs;
use palisade_protocol::uuid::Uuid;

use crate::check::eventually;
use crate::wire::Connection;

/// Milliseconds that a request may wait at the broker.
pub const TIMEOUT_MS: i32 = 30_000;

/// The highest version that the node serves of an API.
///
/// # Panics
/// When it is not served at all.
pub fn newest(key: ApiKey) -> i16 {
    api::spec(key)
        .unwrap_or_else(|| panic!("{} is not served", key.name()))
        .max
}

/// Turns an error code into an error.
///
/// # Errors
/// When `code` is one.
pub fn check(code: ErrorCode) -> io::Result<()> {
    if code.is_error() {
        Err(io::Error::other(code.name()))
    } else {
        Ok(())
    }
}

/// Creates a topic with one replica and returns its id.
///
/// # Errors
/// When the connection fails or the broker refuses.
pub fn create_topic(
    connection: &mut Connection,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> io::Result<Uuid> {
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig {
            name: Str::copy(name),
            value: Some(Str::copy(value)),
        })
        .collect();
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::copy(name),
            num_partitions: partitions,
            replication_factor: 1,
            configs,
            ..CreatableTopic::default()
        }],
        timeout_ms: TIMEOUT_MS,
        ..CreateTopicsRequest::default()
    };
    let answer = connection.call(newest(ApiKey::CreateTopics), &request)?;
    let topic = answer
        .topics
        .first()
        .ok_or_else(|| io::Error::other("no topic in the answer"))?;
    check(topic.error_code)?;
    Ok(topic.topic_id)
}

/// Creates or changes a user's SCRAM credential.
///
/// # Errors
/// When the connection fails or the broker refuses.
pub fn set_user(
    connection: &mut Connection,
    user: &str,
    mechanism: &str,
    password: &str,
) -> io::Result<()> {
    let (code, digest) = match mechanism {
        "SCRAM-SHA-256" => (1, MessageDigest::sha256()),
        "SCRAM-SHA-512" => (2, MessageDigest::sha512()),
        other => panic!("{other} is no mechanism of this client"),
    };
    let iterations: u16 = 4096;
    let salt = b"a salt for tests".to_vec();
    let mut salted = vec![0; digest.size()];
    pbkdf2_hmac(
        password.as_bytes(),
        &salt,
        iterations.into(),
        digest,
        &mut salted,
    )
    .expect("a derivation with valid arguments");
    let request = AlterUserScramCredentialsRequest {
        upsertions: vec![ScramCredentialUpsertion {
            name: Str::copy(user),
            mechanism: code,
            iterations: iterations.into(),
            salt: salt.into(),
            salted_password: salted.into(),
        }],
        ..AlterUserScramCredentialsRequest::default()
    };
    let answer = connection.call(newest(ApiKey::AlterUserScramCredentials), &request)?;
    answer
        .results
        .iter()
        .try_for_each(|result| check(result.error_code))
}

/// Has the topic of groups made, and waits until every group has a coordinator that has read its log.
///
/// # Panics
/// When there is none for `patience`.
pub fn await_coordinators(connection: &mut Connection, group: &str, patience: Duration) {
    let find = FindCoordinatorRequest {
        key: Str::copy(group),
        ..FindCoordinatorRequest::default()
    };
    eventually("coordinators of all groups", patience, || {
        let found = connection.call(3, &find);
        found
            .and_then(|found| check(found.error_code))
            .map_err(|error| error.to_string())?;
        // It is found before its log is read, and so are those of other groups; a list is of all.
        let listed = connection.call(3, &ListGroupsRequest::default());
        listed
            .and_then(|listed| check(listed.error_code))
            .map_err(|error| error.to_string())
    });
}

/// A first JoinGroup of a classic member that lets others wait for minutes.
pub fn join(group: &str, metadata: Bytes) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: Str::copy(group),
        session_timeout_ms: 300_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata,
        }],
        ..JoinGroupRequest::default()
    }
}

/// A rule: `user` may do `operation`, from anywhere, to the resource of just this name.
pub fn allow(user: &str, resource_type: i8, name: &str, operation: i8) -> AclCreation {
    AclCreation {
        resource_type,
        resource_name: Str::copy(name),
        resource_pattern_type: 3,
        principal: format!("User:{user}").into(),
        host: "*".into(),
        operation,
        permission_type: 3,
    }
}

/// Adds rules.
///
/// # Errors
/// When the connection fails or the broker refuses one of them.
pub fn add_acls(connection: &mut Connection, creations: Vec<AclCreation>) -> io::Result<()> {
    let request = CreateAclsRequest { creations };
    let answer = connection.call(newest(ApiKey::CreateAcls), &request)?;
    answer
        .results
        .iter()
        .try_for_each(|result| check(result.error_code))
}

/// Removes all rules about `user`.
///
/// # Errors
/// When the connection fails or the broker refuses.
pub fn remove_acls(connection: &mut Connection, user: &str) -> io::Result<()> {
    let request = DeleteAclsRequest {
        filters: vec![DeleteAclsFilter {
            resource_type_filter: 1,
            resource_name_filter: None,
            pattern_type_filter: 1,
            principal_filter: Some(format!("User:{user}").into()),
            host_filter: None,
            operation: 1,
            permission_type: 1,
        }],
    };
    let answer = connection.call(newest(ApiKey::DeleteAcls), &request)?;
    answer
        .filter_results
        .iter()
        .try_for_each(|result| check(result.error_code))
}

/// A batch of records with the given values and a timestamp each.
pub fn batch(codec: Codec, values: &[impl AsRef<[u8]>], timestamp_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for value in values {
        builder
            .add(
                TimestampMs::new(timestamp_ms),
                None,
                Some(value.as_ref()),
                &[],
            )
            .expect("a small batch");
    }
    builder.build().expect("a small batch").freeze()
}

/// A produce request for one partition.
pub fn produce_request(
    topic: &str,
    id: Uuid,
    partition: i32,
    acks: i16,
    records: Bytes,
) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: TIMEOUT_MS,
        topic_data: vec![TopicProduceData {
            name: Str::copy(topic),
            topic_id: id,
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(Records::Inline(records)),
            }],
        }],
        ..ProduceRequest::default()
    }
}

/// Produces one batch and returns what the broker says of the partition.
///
/// # Errors
/// When the connection fails; a refusal is in the answer.
pub fn produce(
    connection: &mut Connection,
    topic: &str,
    id: Uuid,
    acks: i16,
    records: Bytes,
) -> io::Result<PartitionProduceResponse> {
    let request = produce_request(topic, id, 0, acks, records);
    let answer = connection.call(newest(ApiKey::Produce), &request)?;
    let partition = answer
        .responses
        .into_iter()
        .flat_map(|topic| topic.partition_responses)
        .next();
    partition.ok_or_else(|| io::Error::other("no partition in the answer"))
}

/// A fetch of partition 0 outside of any session.
pub fn fetch_request(topic: &str, id: Uuid, offset: i64, max_wait_ms: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 8 << 20,
        topics: vec![FetchTopic {
            topic: Str::copy(topic),
            topic_id: id,
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 8 << 20,
                ..FetchPartition::default()
            }],
        }],
        ..FetchRequest::default()
    }
}

/// Fetches from partition 0.
///
/// # Errors
/// When the connection fails; a refusal is in the answer.
pub fn fetch(
    connection: &mut Connection,
    topic: &str,
    id: Uuid,
    offset: i64,
    max_wait_ms: i32,
) -> io::Result<PartitionData> {
    let request = fetch_request(topic, id, offset, max_wait_ms);
    let answer = connection.call(newest(ApiKey::Fetch), &request)?;
    check(answer.error_code)?;
    let partition = answer
        .responses
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .next();
    partition.ok_or_else(|| io::Error::other("no partition in the answer"))
}

/// The records of a fetched partition, uncompressed ones only: offset and value, from `from` on.
///
/// # Errors
/// When a batch is cut, damaged, or compressed.
pub fn values(data: &PartitionData, from: i64) -> io::Result<Vec<(i64, Vec<u8>)>> {
    let mut found = Vec::new();
    let Some(records) = &data.records else {
        return Ok(found);
    };
    for batch in BatchIter::new(records.as_bytes()) {
        let (header, bytes) = batch.map_err(io::Error::other)?;
        if !verify_crc(bytes) {
            return Err(io::Error::other("a batch with a wrong CRC"));
        }
        let section = bytes.get(BATCH_HEADER_LEN..).unwrap_or_default();
        for record in RecordIter::new(section, header.records_count) {
            let record = record.map_err(io::Error::other)?;
            let offset = header.base_offset.value() + i64::from(record.offset_delta);
            if offset >= from {
                found.push((offset, record.value.unwrap_or_default().to_vec()));
            }
        }
    }
    Ok(found)
}

/// Reads all of partition 0 from `from` to the high watermark.
///
/// # Errors
/// When the connection fails or the broker refuses.
pub fn read_all(
    connection: &mut Connection,
    topic: &str,
    id: Uuid,
    from: i64,
) -> io::Result<Vec<(i64, Vec<u8>)>> {
    let end = latest_offset(connection, topic)?;
    let mut next = from;
    let mut all = Vec::new();
    while next < end {
        let data = fetch(connection, topic, id, next, TIMEOUT_MS)?;
        check(data.error_code)?;
        let more = values(&data, next)?;
        next = more
            .last()
            .map(|(offset, _)| offset + 1)
            .ok_or_else(|| io::Error::other(format!("nothing at {next} below {end}")))?;
        all.extend(more);
    }
    Ok(all)
}

/// The high watermark of partition 0.
///
/// # Errors
/// When the connection fails or the broker refuses.
pub fn latest_offset(connection: &mut Connection, topic: &str) -> io::Result<i64> {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: Str::copy(topic),
            partitions: vec![ListOffsetsPartition {
                timestamp: -1,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let answer = connection.call(newest(ApiKey::ListOffsets), &request)?;
    let partition = answer
        .topics
        .first()
        .and_then(|topic| topic.partitions.first())
        .ok_or_else(|| io::Error::other("no partition in the answer"))?;
    check(partition.error_code)?;
    Ok(partition.offset)
}
