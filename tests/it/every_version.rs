//! Every version of every API that a node advertises is asked of it over a socket, and the whole answer decodes.

mod groups;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use palisade_protocol::api::{self, ApiKey};
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
use palisade_protocol::messages::describe_user_scram_credentials::DescribeUserScramCredentialsRequest;
use palisade_protocol::messages::incremental_alter_configs;
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
use palisade_protocol::text::Str;
use palisade_protocol::uuid::Uuid;
use palisade_tests::access::{Access, Login};
use palisade_tests::check::eventually;
use palisade_tests::requests::{self, TIMEOUT_MS};
use palisade_tests::scram::ScramClient;
use palisade_tests::target::Target;
use palisade_tests::wire::Connection;

const TOPIC: &str = "every-version";
/// A topic is a resource of this code in configuration and in rules alike.
const TOPIC_RESOURCE: i8 = 2;
const ANY: i8 = 1;
const LITERAL: i8 = 3;
const READ: i8 = 3;
const ALLOW: i8 = 3;

/// Fields for the words of an error where there is none, as Apache Kafka 4.3.1 answers them: clients show whether
/// they are null. What a version has no room for decodes to the default.
const WORDS: [(&str, &[&str]); 18] = [
    ("AlterConfigs", &[NULL]),
    ("AlterUserScramCredentials", &[NULL]),
    ("ConsumerGroupDescribe", &[NULL]),
    ("ConsumerGroupHeartbeat", &[NULL]),
    ("CreateAcls", &[EMPTY]),
    ("CreatePartitions", &[NULL]),
    ("CreateTopics", &[NULL]),
    ("DeleteAcls", &[NULL]),
    ("DeleteGroups", &[NULL]),
    ("DeleteTopics", &[NULL]),
    ("DescribeAcls", &[EMPTY]),
    ("DescribeCluster", &[NULL]),
    ("DescribeConfigs", &[EMPTY]),
    ("DescribeGroups", &[NULL]),
    ("DescribeUserScramCredentials", &[EMPTY]),
    ("FindCoordinator", &[EMPTY, "Some(\"NONE\")"]),
    ("IncrementalAlterConfigs", &[NULL]),
    ("Produce", &[NULL]),
];
const NULL: &str = "None";
const EMPTY: &str = "Some(\"\")";

struct Walk {
    connection: Connection,
    advertised: Vec<(i16, i16, i16)>,
    id: Uuid,
    asked: BTreeSet<ApiKey>,
    /// What stood beside NONE where answers have room for words.
    words: BTreeMap<&'static str, BTreeSet<String>>,
    /// The reference answers before it has applied what it answers; the node under test has no such excuse.
    patient: bool,
}

impl Walk {
    fn start(access: &Access) -> Walk {
        let mut connection = Connection::open(access).expect("the administrator logs in");
        let answer = connection
            .call(3, &software())
            .expect("the node says what it speaks");
        let advertised = answer
            .api_keys
            .iter()
            .map(|api| (api.api_key, api.min_version, api.max_version))
            .collect();
        let id = requests::create_topic(&mut connection, TOPIC, 1, &[]).expect("a topic");
        Walk {
            connection,
            advertised,
            id,
            asked: BTreeSet::new(),
            words: BTreeMap::new(),
            patient: false,
        }
    }

    /// The versions of `key` that both this package and the node know.
    fn versions(&self, key: ApiKey) -> Vec<i16> {
        let spec = api::spec(key).unwrap_or_else(|| panic!("{} is not served", key.name()));
        let (_, min, max) = self
            .advertised
            .iter()
            .find(|(number, ..)| *number == key.value())
            .unwrap_or_else(|| panic!("{} is not advertised", key.name()));
        (spec.served_min.max(*min)..=spec.max.min(*max)).collect()
    }

    /// Asks every version; `codes` finds all error codes of an answer, which must say success.
    fn each<R: Request>(
        &mut self,
        make: impl Fn(&Walk, i16) -> R,
        codes: impl Fn(&R::Response) -> Vec<ErrorCode>,
    ) where
        R::Response: fmt::Debug,
    {
        for version in self.versions(R::KEY) {
            let request = make(self, version);
            let patience = Duration::from_secs(if self.patient { 30 } else { 0 });
            eventually(&format!("{} v{version}", R::KEY.name()), patience, || {
                let answer = self.connection.call(version, &request);
                let answer = answer.map_err(|error| error.to_string())?;
                match codes(&answer).into_iter().find(|code| code.is_error()) {
                    None => {
                        let words = self.words.entry(R::KEY.name()).or_default();
                        words.extend(words_in(&answer));
                        Ok(())
                    }
                    Some(code) if code.is_retriable() => Err(code.name().to_owned()),
                    Some(code) => panic!("{} v{version}: {}", R::KEY.name(), code.name()),
                }
            });
        }
        self.asked.insert(R::KEY);
    }
}

/// What an answer says in each field for the words of an error: `None`, or a text in `Some`.
fn words_in(answer: &impl fmt::Debug) -> Vec<String> {
    let shown = format!("{answer:?}");
    let fields = shown.split("error_message: ").skip(1);
    let values = fields.map(|rest| match rest.strip_prefix("None") {
        Some(_) => "None",
        None => rest.split_inclusive(')').next().unwrap_or(rest),
    });
    values.map(str::to_owned).collect()
}

fn software() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "tests".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    }
}

#[test]
fn every_version() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let mut walk = Walk::start(&access);
    walk.patient = matches!(target, Target::Apache(_));
    data(&mut walk);
    metadata(&mut walk);
    groups::groups(&mut walk);
    topics(&mut walk);
    configs(&mut walk);
    security(&mut walk);
    sasl(&mut walk, &access);

    let served: BTreeSet<_> = api::SERVED.iter().map(|spec| spec.key).collect();
    assert_eq!(walk.asked, served, "an API is served but not asked here");
    if matches!(target, Target::Palisade(_)) {
        let promised: Vec<_> = api::SERVED
            .iter()
            .map(|spec| (spec.key.value(), spec.min, spec.max))
            .collect();
        assert_eq!(walk.advertised, promised);
    }
    let words = walk.words.iter().filter(|(_, words)| !words.is_empty());
    let words: Vec<_> = words
        .map(|(api, words)| (*api, words.iter().map(String::as_str).collect::<Vec<_>>()))
        .collect();
    assert_eq!(words, WORDS.map(|(api, words)| (api, words.to_vec())));
}

fn data(walk: &mut Walk) {
    let records = requests::batch(Codec::None, &["one", "two"], 1_700_000_000_000);
    walk.each(
        |walk, _| requests::produce_request(TOPIC, walk.id, 0, -1, records.clone()),
        |answer| {
            let partitions = answer.responses.iter().flat_map(|t| &t.partition_responses);
            partitions.map(|partition| partition.error_code).collect()
        },
    );
    walk.each(
        |walk, _| requests::fetch_request(TOPIC, walk.id, 0, 1000),
        |answer| {
            let partitions: Vec<_> = answer
                .responses
                .iter()
                .flat_map(|t| &t.partitions)
                .collect();
            for partition in &partitions {
                assert!(partition.records.as_ref().is_some_and(|r| !r.is_empty()));
            }
            assert_eq!(partitions.len(), 1);
            partitions.iter().map(|p| p.error_code).collect()
        },
    );
    for timestamp in [-1, -2, 1_600_000_000_000] {
        walk.each(
            |_, _| ListOffsetsRequest {
                replica_id: -1,
                topics: vec![ListOffsetsTopic {
                    name: TOPIC.into(),
                    partitions: vec![ListOffsetsPartition {
                        timestamp,
                        ..ListOffsetsPartition::default()
                    }],
                }],
                ..ListOffsetsRequest::default()
            },
            |answer| {
                let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
                partitions.map(|partition| partition.error_code).collect()
            },
        );
    }
    walk.each(
        |_, _| OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic: TOPIC.into(),
                partitions: vec![OffsetForLeaderPartition::default()],
            }],
        },
        |answer| {
            let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
            partitions.map(|partition| partition.error_code).collect()
        },
    );
    walk.each(
        |_, _| DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: TOPIC.into(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: 0,
                    offset: 1,
                }],
            }],
            timeout_ms: TIMEOUT_MS,
        },
        |answer| {
            let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
            partitions.map(|partition| partition.error_code).collect()
        },
    );
    walk.each(
        |_, _| InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        },
        |answer| vec![answer.error_code],
    );
}

fn metadata(walk: &mut Walk) {
    walk.each(|_, _| software(), |answer| vec![answer.error_code]);
    let codes = |answer: &palisade_protocol::messages::metadata::MetadataResponse| {
        assert!(!answer.topics.is_empty());
        answer.topics.iter().map(|topic| topic.error_code).collect()
    };
    // All topics: an empty list in version 0, none at all since.
    walk.each(
        |_, version| MetadataRequest {
            topics: (version == 0).then(Vec::new),
            ..MetadataRequest::default()
        },
        codes,
    );
    walk.each(
        |walk, version| MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: (version < 12).then(|| TOPIC.into()),
                topic_id: if version < 12 { Uuid::NIL } else { walk.id },
            }]),
            ..MetadataRequest::default()
        },
        codes,
    );
    walk.each(
        |_, _| DescribeClusterRequest::default(),
        |answer| {
            assert_eq!(answer.brokers.len(), 1);
            vec![answer.error_code]
        },
    );
    walk.each(
        |_, _| DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: TOPIC.into() }],
            ..DescribeTopicPartitionsRequest::default()
        },
        |answer| answer.topics.iter().map(|topic| topic.error_code).collect(),
    );
}

fn topics(walk: &mut Walk) {
    let name = |version: i16| Str::from(format!("made-{version}"));
    walk.each(
        |_, version| CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name(version),
                num_partitions: 1,
                replication_factor: 1,
                ..CreatableTopic::default()
            }],
            timeout_ms: TIMEOUT_MS,
            ..CreateTopicsRequest::default()
        },
        |answer| answer.topics.iter().map(|topic| topic.error_code).collect(),
    );
    walk.each(
        |_, version| CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: "made-7".into(),
                count: 2 + i32::from(version),
                assignments: None,
            }],
            timeout_ms: TIMEOUT_MS,
            ..CreatePartitionsRequest::default()
        },
        |answer| {
            answer
                .results
                .iter()
                .map(|topic| topic.error_code)
                .collect()
        },
    );
    // Deletion has one version less than creation.
    walk.each(
        |_, version| {
            let named = vec![name(version + 1)];
            let (topic_names, topics) = if version < 6 {
                (named, Vec::new())
            } else {
                let by_name = named.into_iter().map(|name| DeleteTopicState {
                    name: Some(name),
                    ..DeleteTopicState::default()
                });
                (Vec::new(), by_name.collect())
            };
            DeleteTopicsRequest {
                topics,
                topic_names,
                timeout_ms: TIMEOUT_MS,
            }
        },
        |answer| {
            answer
                .responses
                .iter()
                .map(|topic| topic.error_code)
                .collect()
        },
    );
}

fn configs(walk: &mut Walk) {
    walk.each(
        |_, _| DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: TOPIC.into(),
                configuration_keys: None,
            }],
            ..DescribeConfigsRequest::default()
        },
        |answer| {
            assert!(answer.results.iter().all(|r| !r.configs.is_empty()));
            answer
                .results
                .iter()
                .map(|result| result.error_code)
                .collect()
        },
    );
    walk.each(
        |_, _| AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: TOPIC.into(),
                configs: vec![AlterableConfig {
                    name: "retention.ms".into(),
                    value: Some("-1".into()),
                }],
            }],
            ..AlterConfigsRequest::default()
        },
        |answer| answer.responses.iter().map(|r| r.error_code).collect(),
    );
    walk.each(
        |_, _| incremental_alter_configs::IncrementalAlterConfigsRequest {
            resources: vec![incremental_alter_configs::AlterConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: TOPIC.into(),
                configs: vec![incremental_alter_configs::AlterableConfig {
                    name: "retention.bytes".into(),
                    config_operation: 0,
                    value: Some("1000000".into()),
                }],
            }],
            ..incremental_alter_configs::IncrementalAlterConfigsRequest::default()
        },
        |answer| answer.responses.iter().map(|r| r.error_code).collect(),
    );
}

fn security(walk: &mut Walk) {
    walk.each(
        |_, _| CreateAclsRequest {
            creations: vec![AclCreation {
                resource_type: TOPIC_RESOURCE,
                resource_name: TOPIC.into(),
                resource_pattern_type: LITERAL,
                principal: "User:reader".into(),
                host: "*".into(),
                operation: READ,
                permission_type: ALLOW,
            }],
        },
        |answer| answer.results.iter().map(|r| r.error_code).collect(),
    );
    walk.each(
        |_, _| DescribeAclsRequest {
            resource_type_filter: ANY,
            resource_name_filter: None,
            pattern_type_filter: ANY,
            principal_filter: None,
            host_filter: None,
            operation: ANY,
            permission_type: ANY,
        },
        |answer| vec![answer.error_code],
    );
    walk.each(
        |_, _| DeleteAclsRequest {
            filters: vec![DeleteAclsFilter {
                resource_type_filter: TOPIC_RESOURCE,
                resource_name_filter: Some(TOPIC.into()),
                pattern_type_filter: LITERAL,
                principal_filter: None,
                host_filter: None,
                operation: ANY,
                permission_type: ANY,
            }],
        },
        |answer| answer.filter_results.iter().map(|r| r.error_code).collect(),
    );
    walk.each(
        |_, _| AlterUserScramCredentialsRequest {
            upsertions: vec![ScramCredentialUpsertion {
                name: "someone".into(),
                mechanism: 2,
                iterations: 4096,
                salt: Bytes::from_static(&[7; 16]),
                salted_password: Bytes::from_static(&[9; 64]),
            }],
            ..AlterUserScramCredentialsRequest::default()
        },
        |answer| answer.results.iter().map(|r| r.error_code).collect(),
    );
    walk.each(
        |_, _| DescribeUserScramCredentialsRequest { users: None },
        |answer| {
            let rows = answer.results.iter().map(|row| row.error_code);
            rows.chain([answer.error_code]).collect()
        },
    );
}

/// The login itself, on connections of its own: each handshake with each way of carrying tokens.
fn sasl(walk: &mut Walk, access: &Access) {
    let Login::Scram {
        mechanism,
        user,
        password,
    } = &access.login
    else {
        unreachable!("the caller chose SCRAM");
    };
    for handshake in walk.versions(ApiKey::SaslHandshake) {
        for authenticate in walk.versions(ApiKey::SaslAuthenticate) {
            let mut connection = Connection::tls(access).expect("TLS");
            let request = SaslHandshakeRequest {
                mechanism: (*mechanism).into(),
            };
            let answer = connection.call(handshake, &request).expect("a handshake");
            assert!(!answer.error_code.is_error());
            assert!(answer.mechanisms.contains(&Str::from(*mechanism)));
            // After handshake 0 the tokens travel bare; after 1, in requests.
            let token = |connection: &mut Connection, token: &str| -> io::Result<String> {
                let answer = if handshake == 0 {
                    connection.send(token.as_bytes())?;
                    connection.receive()?
                } else {
                    let request = SaslAuthenticateRequest {
                        auth_bytes: token.to_owned().into(),
                    };
                    let answer = connection.call(authenticate, &request)?;
                    requests::check(answer.error_code)?;
                    answer.auth_bytes.to_vec()
                };
                String::from_utf8(answer).map_err(io::Error::other)
            };
            let mut client = ScramClient::new(mechanism, user, password);
            let first = token(&mut connection, &client.first()).expect("a challenge");
            let last = client.last(&first).expect("an answerable challenge");
            let last = token(&mut connection, &last).expect("success");
            client.verify(&last).expect("the server's proof");
            connection
                .call(0, &software_v0())
                .expect("a served request");
        }
    }
    walk.asked.insert(ApiKey::SaslHandshake);
    walk.asked.insert(ApiKey::SaslAuthenticate);
}

fn software_v0() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
}

/// A version that is not served closes the connection; ApiVersions instead says which are.
#[test]
fn other_versions() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    for spec in api::SERVED {
        if matches!(target, Target::Apache(_)) {
            // The reference is a release older than the schemas here.
            continue;
        }
        for version in [spec.served_min - 1, spec.max + 1] {
            let mut connection = Connection::open(&access).expect("the administrator logs in");
            let mut request = connection.header(spec.key.value(), version);
            if spec.first_flexible.is_some_and(|first| version >= first) {
                // No tagged fields.
                request.push(0);
            }
            connection.send(&request).expect("sent");
            if spec.key == ApiKey::ApiVersions {
                let answer = connection.receive().expect("an answer");
                // Error 35 and one row: this API and its range.
                assert_eq!(
                    answer[4..],
                    [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5],
                    "v{version}"
                );
            } else {
                assert!(
                    connection.is_closed_by_peer(),
                    "{} v{version} was not refused",
                    spec.key.name()
                );
            }
        }
    }
    let mut connection = Connection::open(&access).expect("the administrator logs in");
    let unknown = connection.header(1234, 0);
    connection.send(&unknown).expect("sent");
    assert!(
        connection.is_closed_by_peer(),
        "an unknown API was not refused"
    );
}
