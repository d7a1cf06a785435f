//! Requests that name a thing more than once, as no library does.

use std::collections::BTreeSet;
use std::time::Duration;

use palisade_protocol::Str;
use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use palisade_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use palisade_protocol::messages::describe_cluster::DescribeClusterRequest;
use palisade_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use palisade_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use palisade_protocol::messages::produce::ProduceRequest;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests::{self, newest};
use palisade_tests::target::Target;
use palisade_tests::wire::Connection;

const NOW_MS: i64 = 1_700_000_000_000;
/// The last version that names topics.
const BY_NAME: i16 = 12;

/// Appended once and answered once; of what is named twice the last counts.
#[test]
fn the_last_one_counts() {
    let target = Target::start();
    let mut connection = Connection::open(&target.certificate()).expect("a login");
    for version in [BY_NAME, newest(ApiKey::Produce)] {
        let topic = format!("twice-{version}");
        let id = requests::create_topic(&mut connection, &topic, 1, &[]).expect("a topic");
        // Kafka says that a topic is there before its leader knows.
        eventually("a leader", Duration::from_secs(20), || {
            requests::latest_offset(&mut connection, &topic).map_err(|error| error.to_string())
        });
        // By name there is no field for the id, by id none for the name.
        let (name, id) = match version {
            BY_NAME => (topic.as_str(), Default::default()),
            _ => ("", id),
        };
        let ask = |records: usize| {
            let values = vec![b"value"; records];
            let batch = requests::batch(Codec::None, &values, NOW_MS);
            requests::produce_request(name, id, 0, -1, batch)
        };
        let mut request: ProduceRequest = ask(5);
        let same_entry = ask(2).topic_data.remove(0).partition_data;
        request.topic_data[0].partition_data.extend(same_entry);
        request.topic_data.extend(ask(3).topic_data);
        let answer = connection.call(version, &request).expect("an answer");
        let rows: Vec<_> = answer
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses)
            .map(|row| (row.index, row.error_code.value(), row.base_offset))
            .collect();
        assert_eq!(rows, [(0, 0, 0)], "v{version}");
        let end = requests::latest_offset(&mut connection, &topic).expect("an answer");
        assert_eq!(end, 3, "v{version}");
    }
}

/// Of several offsets of a partition the last one counts, and it is answered once.
#[test]
fn records_are_deleted_up_to_the_last_offset() {
    let target = Target::start();
    let mut connection = Connection::open(&target.certificate()).expect("a login");
    let id = requests::create_topic(&mut connection, "twice", 2, &[]).expect("a topic");
    eventually("records", Duration::from_secs(20), || {
        let batch = requests::batch(Codec::None, &["value"; 10], NOW_MS);
        let answer = requests::produce(&mut connection, "twice", id, -1, batch);
        let answer = answer.expect("an answer");
        requests::check(answer.error_code).map_err(|error| error.to_string())
    });
    let topic = |offsets: &[(i32, i64)]| DeleteRecordsTopic {
        name: "twice".into(),
        partitions: offsets
            .iter()
            .map(|&(partition_index, offset)| DeleteRecordsPartition {
                partition_index,
                offset,
            })
            .collect(),
    };
    let request = DeleteRecordsRequest {
        topics: vec![
            topic(&[(0, 99), (0, 5), (7, 1), (1, 0)]),
            topic(&[(0, 3), (7, 0)]),
        ],
        timeout_ms: 30_000,
    };
    let version = newest(ApiKey::DeleteRecords);
    let answer = connection.call(version, &request).expect("an answer");
    let names: Vec<_> = answer.topics.iter().map(|topic| &*topic.name).collect();
    assert_eq!(names, ["twice"]);
    let rows = answer.topics[0].partitions.iter();
    let rows = rows.map(|row| (row.partition_index, row.error_code, row.low_watermark));
    let rows: BTreeSet<_> = rows
        .map(|(index, code, low)| (index, code.value(), low))
        .collect();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.value();
    assert_eq!(rows, [(0, 0, 3), (1, 0, 0), (7, unknown, -1)].into());
    assert_eq!(answer.topics[0].partitions.len(), 3);
}

/// One row however often, by whatever name beside its id.
#[test]
fn a_topic_asked_for_by_its_id_has_one_row() {
    let target = Target::start();
    let mut connection = Connection::open(&target.certificate()).expect("a login");
    let topic_id = requests::create_topic(&mut connection, "by-id", 3, &[]).expect("a topic");
    let names = [None, Some("by-id"), Some("0"), Some("1"), None];
    let request = MetadataRequest {
        topics: Some(
            names
                .into_iter()
                .map(|name| MetadataRequestTopic {
                    topic_id,
                    name: name.map(Str::copy),
                })
                .collect(),
        ),
        ..MetadataRequest::default()
    };
    let version = newest(ApiKey::Metadata);
    let rows = || {
        let answer = connection.call(version, &request).expect("an answer");
        let rows = answer.topics.iter().map(|topic| topic.name.as_deref());
        let rows: Vec<_> = rows.map(|name| name.map(str::to_owned)).collect();
        match rows.contains(&None) {
            // Kafka says that a topic is there before every broker knows its id.
            true => Err("unknown id".to_owned()),
            false => Ok(rows),
        }
    };
    let rows = eventually("the topic", Duration::from_secs(20), rows);
    assert_eq!(rows, [Some("by-id".to_owned())]);
}

/// Kafka answers each time; one large group named ten thousand times is then described as often.
#[test]
fn descriptions_are_not_repeated() {
    let mut node = Node::prepare();
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec!["a".into(), "b".into(), "a".into()],
        ..ConsumerGroupDescribeRequest::default()
    };
    let version = newest(ApiKey::ConsumerGroupDescribe);
    let answer = connection.call(version, &request).expect("an answer");
    let groups: Vec<_> = answer.groups.iter().map(|row| &*row.group_id).collect();
    assert_eq!(groups, ["a", "b"]);

    requests::create_topic(&mut connection, "twice", 1, &[]).expect("a topic");
    let version = newest(ApiKey::DescribeCluster);
    let answer = connection.call(version, &DescribeClusterRequest::default());
    let id = answer.expect("an answer").brokers[0].broker_id;
    let resource = |kind, name: &str, keys: Option<&[&str]>| DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.to_owned().into(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| Str::copy(key)).collect()),
    };
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    let id = id.to_string();
    let request = DescribeConfigsRequest {
        resources: vec![
            resource(TOPIC, "twice", None),
            resource(BROKER, &id, None),
            resource(TOPIC, "twice", Some(&["retention.ms"])),
            resource(TOPIC, "twice", Some(&[])),
            resource(BROKER, &format!("+0{id}"), None),
            resource(BROKER, "", None),
        ],
        ..DescribeConfigsRequest::default()
    };
    let version = newest(ApiKey::DescribeConfigs);
    let answer = connection.call(version, &request).expect("an answer");
    let rows = answer.results.iter();
    let rows: Vec<_> = rows
        .map(|row| {
            assert!(!row.error_code.is_error(), "{row:?}");
            (
                row.resource_type,
                &*row.resource_name,
                row.configs.len() > 1,
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            (TOPIC, "twice", true),
            (BROKER, id.as_str(), true),
            (BROKER, "", false),
        ]
    );

    // Lists that differ are one: in their order, in what they repeat, in keys that nobody knows.
    let (ms, bytes) = ("retention.ms", "retention.bytes");
    let lists: [&[&str]; 5] = [&[ms], &[bytes, ms], &[ms, ms], &[ms, "x"], &["y"]];
    let request = DescribeConfigsRequest {
        resources: lists
            .map(|keys| resource(TOPIC, "twice", Some(keys)))
            .to_vec(),
        ..DescribeConfigsRequest::default()
    };
    let answer = connection.call(version, &request).expect("an answer");
    let rows = answer.results.iter().map(|row| {
        let mut keys: Vec<_> = row.configs.iter().map(|config| &*config.name).collect();
        keys.sort_unstable();
        keys
    });
    assert_eq!(rows.collect::<Vec<_>>(), [[bytes, ms]]);
}
