//! The questions of the table: each sends one request and returns every error code of the answer.

pub(super) mod groups;

use std::io;

use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::Request;
use palisade_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig,
};
use palisade_protocol::messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialUpsertion,
};
use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_protocol::messages::create_acls::{AclCreation, CreateAclsRequest};
use palisade_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use palisade_protocol::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use palisade_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use palisade_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use palisade_protocol::messages::describe_acls::DescribeAclsRequest;
use palisade_protocol::messages::describe_cluster::DescribeClusterRequest;
use palisade_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use palisade_protocol::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, TopicRequest,
};
use palisade_protocol::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, UserName,
};
use palisade_protocol::messages::fetch::ReplicaState;
use palisade_protocol::messages::incremental_alter_configs as incremental;
use palisade_protocol::messages::init_producer_id::InitProducerIdRequest;
use palisade_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use palisade_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use palisade_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use palisade_protocol::messages::sasl_authenticate::SaslAuthenticateRequest;
use palisade_protocol::messages::sasl_handshake::SaslHandshakeRequest;
use palisade_protocol::uuid::Uuid;
use palisade_tests::requests::{self, TIMEOUT_MS, newest};
use palisade_tests::wire::Connection;

/// The topic of the table, which exists.
pub(super) const TOPIC: &str = "table";
/// A topic that does not.
pub(super) const ABSENT: &str = "absent";

/// What the questions refer to.
pub(super) struct Place {
    /// The id of [`TOPIC`].
    pub(super) id: Uuid,
    /// How many questions were asked, to make each its own.
    pub(super) count: i32,
}

/// A question.
pub(super) type Ask = fn(&mut Connection, &Place) -> io::Result<Vec<ErrorCode>>;

type Codes = io::Result<Vec<ErrorCode>>;

/// Asks in the newest version that Apache Kafka 4.3 has too.
fn call<R: Request>(connection: &mut Connection, request: &R) -> io::Result<R::Response> {
    let of_4_3 = match R::KEY {
        ApiKey::ApiVersions => 4,
        ApiKey::DeleteGroups => 2,
        _ => i16::MAX,
    };
    connection.call(newest(R::KEY).min(of_4_3), request)
}

fn codes_of<'a, T: 'a>(
    rows: impl IntoIterator<Item = &'a T>,
    code: impl Fn(&T) -> ErrorCode,
) -> Codes {
    Ok(rows.into_iter().map(code).collect())
}

fn produce_to(connection: &mut Connection, topic: &str) -> Codes {
    let records = requests::batch(Codec::None, &["one"], 1_700_000_000_000);
    let request = requests::produce_request(topic, Uuid::NIL, 0, 1, records);
    // The last version that names topics.
    let answer = connection.call(12, &request)?;
    let partitions = answer.responses.iter().flat_map(|t| &t.partition_responses);
    codes_of(partitions, |partition| partition.error_code)
}

pub(super) fn produce(connection: &mut Connection, _: &Place) -> Codes {
    produce_to(connection, TOPIC)
}

pub(super) fn produce_absent(connection: &mut Connection, _: &Place) -> Codes {
    produce_to(connection, ABSENT)
}

pub(super) fn fetch(connection: &mut Connection, place: &Place) -> Codes {
    let request = requests::fetch_request(TOPIC, place.id, 0, 0);
    let answer = call(connection, &request)?;
    let partitions = answer.responses.iter().flat_map(|t| &t.partitions);
    let codes = partitions.map(|partition| partition.error_code);
    Ok(codes
        .chain([answer.error_code].into_iter().filter(|c| c.is_error()))
        .collect())
}

pub(super) fn fetch_as_follower(connection: &mut Connection, place: &Place) -> Codes {
    let mut request = requests::fetch_request(TOPIC, place.id, 0, 0);
    request.replica_state = ReplicaState {
        replica_id: 1,
        replica_epoch: -1,
    };
    let answer = call(connection, &request)?;
    let partitions = answer.responses.iter().flat_map(|t| &t.partitions);
    let codes: Vec<_> = partitions.map(|partition| partition.error_code).collect();
    Ok(if codes.is_empty() {
        vec![answer.error_code]
    } else {
        codes
    })
}

pub(super) fn list_offsets(connection: &mut Connection, _: &Place) -> Codes {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: TOPIC.into(),
            partitions: vec![ListOffsetsPartition {
                timestamp: -1,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let answer = call(connection, &request)?;
    let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
    codes_of(partitions, |partition| partition.error_code)
}

pub(super) fn delete_records(connection: &mut Connection, _: &Place) -> Codes {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: TOPIC.into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: 0,
            }],
        }],
        timeout_ms: TIMEOUT_MS,
    };
    let answer = call(connection, &request)?;
    let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
    codes_of(partitions, |partition| partition.error_code)
}

pub(super) fn offset_for_leader_epoch(connection: &mut Connection, _: &Place) -> Codes {
    let request = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: TOPIC.into(),
            partitions: vec![OffsetForLeaderPartition::default()],
        }],
    };
    let answer = call(connection, &request)?;
    let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
    codes_of(partitions, |partition| partition.error_code)
}

pub(super) fn init_producer_id(connection: &mut Connection, _: &Place) -> Codes {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    Ok(vec![call(connection, &request)?.error_code])
}

pub(super) fn init_transactional(connection: &mut Connection, _: &Place) -> Codes {
    let request = InitProducerIdRequest {
        transactional_id: Some("payments".into()),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    Ok(vec![call(connection, &request)?.error_code])
}

fn metadata(connection: &mut Connection, topic: MetadataRequestTopic) -> Codes {
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        ..MetadataRequest::default()
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.topics, |topic| topic.error_code)
}

fn named(name: &'static str) -> MetadataRequestTopic {
    MetadataRequestTopic {
        name: Some(name.into()),
        ..MetadataRequestTopic::default()
    }
}

pub(super) fn metadata_by_name(connection: &mut Connection, _: &Place) -> Codes {
    metadata(connection, named(TOPIC))
}

pub(super) fn metadata_of_absent(connection: &mut Connection, _: &Place) -> Codes {
    metadata(connection, named(ABSENT))
}

pub(super) fn metadata_by_id(connection: &mut Connection, place: &Place) -> Codes {
    let topic = MetadataRequestTopic {
        name: None,
        topic_id: place.id,
    };
    metadata(connection, topic)
}

/// The names in a listing of all topics.
pub(super) fn list_topics(connection: &mut Connection) -> io::Result<Vec<String>> {
    let request = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let answer = call(connection, &request)?;
    let names = answer.topics.iter().filter_map(|topic| topic.name.as_ref());
    Ok(names.map(|name| name.to_string()).collect())
}

pub(super) fn describe_topic_partitions(connection: &mut Connection, _: &Place) -> Codes {
    let request = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest { name: TOPIC.into() }],
        ..DescribeTopicPartitionsRequest::default()
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.topics, |topic| topic.error_code)
}

const OFFSETS: &str = "__consumer_offsets";

/// What a topic of the broker's own is said to be.
pub(super) fn metadata_of_offsets(connection: &mut Connection) -> io::Result<(ErrorCode, bool)> {
    let request = MetadataRequest {
        topics: Some(vec![named(OFFSETS)]),
        ..MetadataRequest::default()
    };
    let topic = call(connection, &request)?.topics.remove(0);
    Ok((topic.error_code, topic.is_internal))
}

/// The same as the newer request tells it.
pub(super) fn partitions_of_offsets(connection: &mut Connection) -> io::Result<(ErrorCode, bool)> {
    let request = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest {
            name: OFFSETS.into(),
        }],
        ..DescribeTopicPartitionsRequest::default()
    };
    let topic = call(connection, &request)?.topics.remove(0);
    Ok((topic.error_code, topic.is_internal))
}

fn create(connection: &mut Connection, name: &'static str) -> Codes {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        timeout_ms: TIMEOUT_MS,
        validate_only: true,
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.topics, |topic| topic.error_code)
}

pub(super) fn create_topics(connection: &mut Connection, _: &Place) -> Codes {
    create(connection, "made")
}

pub(super) fn create_illegal_topic(connection: &mut Connection, _: &Place) -> Codes {
    create(connection, "il/legal")
}

fn delete(connection: &mut Connection, name: &'static str) -> Codes {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(name.into()),
            ..DeleteTopicState::default()
        }],
        timeout_ms: TIMEOUT_MS,
        ..DeleteTopicsRequest::default()
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.responses, |topic| topic.error_code)
}

pub(super) fn delete_topic(connection: &mut Connection, _: &Place) -> Codes {
    delete(connection, TOPIC)
}

pub(super) fn delete_absent_topic(connection: &mut Connection, _: &Place) -> Codes {
    delete(connection, ABSENT)
}

pub(super) fn create_partitions(connection: &mut Connection, place: &Place) -> Codes {
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: TOPIC.into(),
            count: 2 + place.count,
            assignments: None,
        }],
        timeout_ms: TIMEOUT_MS,
        validate_only: true,
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.results, |topic| topic.error_code)
}

/// Codes of resource types in configuration requests.
const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;
const GROUP_RESOURCE: i8 = 32;

fn describe_configs(connection: &mut Connection, kind: i8, name: &'static str) -> Codes {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: None,
        }],
        ..DescribeConfigsRequest::default()
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.results, |result| result.error_code)
}

pub(super) fn describe_topic_configs(connection: &mut Connection, _: &Place) -> Codes {
    describe_configs(connection, TOPIC_RESOURCE, TOPIC)
}

pub(super) fn describe_broker_configs(connection: &mut Connection, _: &Place) -> Codes {
    describe_configs(connection, BROKER_RESOURCE, "1")
}

pub(super) fn describe_group_configs(connection: &mut Connection, _: &Place) -> Codes {
    describe_configs(connection, GROUP_RESOURCE, "readers")
}

fn alter(connection: &mut Connection, kind: i8, name: &'static str, key: &'static str) -> Codes {
    let request = AlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: vec![AlterableConfig {
                name: key.into(),
                value: Some("100000".into()),
            }],
        }],
        validate_only: true,
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.responses, |result| result.error_code)
}

pub(super) fn alter_topic_configs(connection: &mut Connection, _: &Place) -> Codes {
    alter(connection, TOPIC_RESOURCE, TOPIC, "max.message.bytes")
}

pub(super) fn alter_broker_configs(connection: &mut Connection, _: &Place) -> Codes {
    alter(connection, BROKER_RESOURCE, "1", "message.max.bytes")
}

fn increment(
    connection: &mut Connection,
    kind: i8,
    name: &'static str,
    key: &'static str,
) -> Codes {
    let request = incremental::IncrementalAlterConfigsRequest {
        resources: vec![incremental::AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: vec![incremental::AlterableConfig {
                name: key.into(),
                config_operation: 0,
                value: Some("100000".into()),
            }],
        }],
        validate_only: true,
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.responses, |result| result.error_code)
}

pub(super) fn incremental_topic_configs(connection: &mut Connection, _: &Place) -> Codes {
    increment(connection, TOPIC_RESOURCE, TOPIC, "max.message.bytes")
}

pub(super) fn incremental_broker_configs(connection: &mut Connection, _: &Place) -> Codes {
    increment(connection, BROKER_RESOURCE, "1", "message.max.bytes")
}

pub(super) fn describe_acls(connection: &mut Connection, _: &Place) -> Codes {
    let request = DescribeAclsRequest {
        resource_type_filter: 1,
        resource_name_filter: None,
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    };
    Ok(vec![call(connection, &request)?.error_code])
}

pub(super) fn create_acls(connection: &mut Connection, _: &Place) -> Codes {
    let request = CreateAclsRequest {
        creations: vec![AclCreation {
            resource_type: 2,
            resource_name: "other".into(),
            resource_pattern_type: 3,
            principal: "User:other".into(),
            host: "*".into(),
            operation: 3,
            permission_type: 3,
        }],
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.results, |result| result.error_code)
}

pub(super) fn delete_acls(connection: &mut Connection, _: &Place) -> Codes {
    let request = DeleteAclsRequest {
        filters: vec![DeleteAclsFilter {
            resource_type_filter: 2,
            resource_name_filter: Some("other".into()),
            pattern_type_filter: 3,
            principal_filter: None,
            host_filter: None,
            operation: 1,
            permission_type: 1,
        }],
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.filter_results, |result| result.error_code)
}

pub(super) fn describe_users(connection: &mut Connection, _: &Place) -> Codes {
    let request = DescribeUserScramCredentialsRequest {
        users: Some(vec![UserName {
            name: "somebody".into(),
        }]),
    };
    let answer = call(connection, &request)?;
    let rows = answer.results.iter().map(|row| row.error_code);
    Ok(rows.chain([answer.error_code]).collect())
}

pub(super) fn alter_users(connection: &mut Connection, _: &Place) -> Codes {
    let request = AlterUserScramCredentialsRequest {
        upsertions: vec![ScramCredentialUpsertion {
            name: "another".into(),
            mechanism: 2,
            iterations: 4096,
            salt: vec![7; 16].into(),
            salted_password: vec![9; 64].into(),
        }],
        ..AlterUserScramCredentialsRequest::default()
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.results, |result| result.error_code)
}

/// ApiVersions, which anyone may ask at any time.
pub(super) fn api_versions(connection: &mut Connection) -> io::Result<()> {
    let request = ApiVersionsRequest {
        client_software_name: "tests".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    requests::check(call(connection, &request)?.error_code)
}

/// DescribeCluster, which anyone may ask who is logged in.
pub(super) fn describe_cluster(connection: &mut Connection) -> io::Result<()> {
    requests::check(call(connection, &DescribeClusterRequest::default())?.error_code)
}

/// A handshake in a finished session.
pub(super) fn sasl_handshake(connection: &mut Connection) -> io::Result<ErrorCode> {
    let request = SaslHandshakeRequest {
        mechanism: "SCRAM-SHA-512".into(),
    };
    Ok(call(connection, &request)?.error_code)
}

/// A token in a finished session.
pub(super) fn sasl_authenticate(connection: &mut Connection) -> io::Result<ErrorCode> {
    let request = SaslAuthenticateRequest {
        auth_bytes: "n,,n=x,r=y".into(),
    };
    Ok(call(connection, &request)?.error_code)
}
