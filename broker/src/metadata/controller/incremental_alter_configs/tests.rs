//! AlterConfigs and IncrementalAlterConfigs.

use palisade_auth::acl::{Operation as AclOperation, ResourceType};
use palisade_protocol::Str;
use palisade_protocol::messages::alter_configs::{self, AlterConfigsRequest};
use palisade_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};

use super::super::testing::{Bench, allow, internal, user};
use super::*;
use crate::metadata::record::{ConfigResourceType, MetadataRecord};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

fn bench() -> Bench {
    let mut bench = Bench::new();
    let topics = ["a", "b"].map(|name| CreatableTopic {
        name: Str::from(name),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig {
            name: Str::from("retention.ms"),
            value: Some(Str::from("1000")),
        }],
        ..CreatableTopic::default()
    });
    let request = CreateTopicsRequest {
        topics: topics.to_vec(),
        ..Default::default()
    };
    bench.submit(&request, 7, user("root"));
    bench
}

type Op = (&'static str, i8, Option<&'static str>);

fn resource(resource_type: i8, name: &'static str, ops: &[Op]) -> AlterConfigsResource {
    AlterConfigsResource {
        resource_type,
        resource_name: Str::from(name),
        configs: ops
            .iter()
            .map(|(key, operation, value)| AlterableConfig {
                name: Str::from(*key),
                config_operation: *operation,
                value: value.map(Str::from),
            })
            .collect(),
    }
}

fn incremental(
    bench: &mut Bench,
    resources: Vec<AlterConfigsResource>,
    who: &str,
) -> Vec<AlterConfigsResourceResponse> {
    let request = IncrementalAlterConfigsRequest {
        resources,
        validate_only: false,
    };
    bench.submit(&request, 1, user(who)).responses
}

fn one(bench: &mut Bench, ops: &[Op]) -> (ErrorCode, String) {
    let rows = incremental(bench, vec![resource(TOPIC, "a", ops)], "root");
    (
        rows[0].error_code,
        rows[0]
            .error_message
            .as_deref()
            .unwrap_or_default()
            .to_owned(),
    )
}

fn settings(bench: &Bench, topic: &str) -> Vec<(String, String)> {
    let config = &bench.image.topics.get(topic).unwrap().config;
    config
        .iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn set_and_delete_leave_the_rest() {
    let mut bench = bench();
    assert_eq!(
        one(&mut bench, &[("segment.bytes", 0, Some("4096"))]).0,
        ErrorCode::NONE
    );
    assert_eq!(
        settings(&bench, "a"),
        [pair("retention.ms", "1000"), pair("segment.bytes", "4096")]
    );
    let id = bench.image.topics.get("a").unwrap().id;
    assert!(bench.last_delta.topics_changed[&id].config);
    let delete = [("retention.ms", 1, Some("ignored")), ("no.such", 1, None)];
    assert_eq!(one(&mut bench, &delete).0, ErrorCode::NONE);
    assert_eq!(settings(&bench, "a"), [pair("segment.bytes", "4096")]);
    assert_eq!(settings(&bench, "b"), [pair("retention.ms", "1000")]);
}

#[test]
fn lists_grow_and_shrink_from_the_built_in_base() {
    let mut bench = bench();
    assert_eq!(
        one(&mut bench, &[("cleanup.policy", 2, Some("delete"))]).0,
        ErrorCode::NONE
    );
    assert_eq!(
        bench
            .image
            .topics
            .get("a")
            .unwrap()
            .config
            .get("cleanup.policy"),
        Some("delete")
    );
    let subtract = [("cleanup.policy", 3, Some("delete,absent"))];
    assert_eq!(one(&mut bench, &subtract).0, ErrorCode::NONE);
    let config = bench.image.topics.get("a").unwrap().config.clone();
    assert_eq!(
        config.get("cleanup.policy"),
        Some(""),
        "an empty list, not none"
    );
    let append = [("cleanup.policy", 2, Some("compact"))];
    assert_eq!(one(&mut bench, &append).0, ErrorCode::NONE);
    let config = bench.image.topics.get("a").unwrap().config.clone();
    assert_eq!(config.get("cleanup.policy"), Some("compact"));
}

#[test]
fn faults_of_values_and_keys() {
    let mut bench = bench();
    for (ops, code, text) in [
        (
            &[("no.such", 0, Some("1"))][..],
            ErrorCode::INVALID_CONFIG,
            "Unknown topic config name",
        ),
        (
            &[("retention.ms", 0, Some("x"))],
            ErrorCode::INVALID_CONFIG,
            "Not a number",
        ),
        (
            &[("retention.ms", 0, None)],
            ErrorCode::INVALID_REQUEST,
            "Null value",
        ),
        (
            &[("retention.ms", 2, Some("1"))],
            ErrorCode::INVALID_CONFIG,
            "not LIST",
        ),
        (
            &[("no.such", 3, Some("1"))],
            ErrorCode::INVALID_CONFIG,
            "not LIST",
        ),
        (
            &[("retention.ms", 9, Some("1"))],
            ErrorCode::INVALID_REQUEST,
            "Unknown operation 9",
        ),
        (
            &[("retention.ms", 0, Some("1")), ("retention.ms", 1, None)],
            ErrorCode::INVALID_REQUEST,
            "more than once",
        ),
        (
            &[("retention.ms", 0, Some("x")), ("zzz", 0, Some("1"))],
            ErrorCode::INVALID_CONFIG,
            "Unknown topic config name: zzz",
        ),
    ] {
        let (found, message) = one(&mut bench, ops);
        assert_eq!(found, code, "{ops:?}");
        assert!(message.contains(text), "{ops:?}: {message}");
    }
    assert_eq!(settings(&bench, "a"), [pair("retention.ms", "1000")]);
}

#[test]
fn resources_stand_for_themselves_in_order() {
    let mut bench = bench();
    let set = &[("segment.bytes", 0, Some("4096"))][..];
    let rows = incremental(
        &mut bench,
        vec![
            resource(TOPIC, "b", set),
            resource(TOPIC, "a", set),
            resource(TOPIC, "missing", set),
            resource(TOPIC, "", set),
            resource(TOPIC, "not legal", set),
            resource(77, "x", set),
            resource(BROKER, "0", set),
            resource(8, "0", set),
            resource(16, "m", set),
            resource(GROUP, "g", set),
            resource(TOPIC, "a", set),
        ],
        "root",
    );
    let codes: Vec<ErrorCode> = rows.iter().map(|row| row.error_code).collect();
    let invalid = ErrorCode::INVALID_REQUEST;
    assert_eq!(
        codes,
        [
            ErrorCode::NONE,
            invalid,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            invalid,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            invalid,
            invalid,
            invalid,
            invalid,
            ErrorCode::INVALID_CONFIG,
            invalid,
        ]
    );
    assert_eq!(settings(&bench, "a"), [pair("retention.ms", "1000")]);
    assert_eq!(settings(&bench, "b").len(), 2);
    assert_eq!(&*rows[4].resource_name, "not legal");
}

#[test]
fn rights_are_asked_before_anything_is_said() {
    let mut bench = bench();
    bench.apply(&[allow(
        "ann",
        AclOperation::AlterConfigs,
        ResourceType::Topic,
        "a",
    )]);
    let bad = &[("no.such", 0, Some("1"))][..];
    let rows = incremental(
        &mut bench,
        vec![
            resource(TOPIC, "a", bad),
            resource(TOPIC, "b", bad),
            resource(TOPIC, "missing", bad),
            resource(BROKER, "", bad),
            resource(GROUP, "g", bad),
        ],
        "ann",
    );
    let codes: Vec<ErrorCode> = rows.iter().map(|row| row.error_code).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::INVALID_CONFIG,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ]
    );
}

#[test]
fn the_old_request_replaces_everything() {
    let mut bench = bench();
    let request = |value: Option<&'static str>, validate_only| AlterConfigsRequest {
        resources: vec![alter_configs::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: Str::from("a"),
            configs: vec![alter_configs::AlterableConfig {
                name: Str::from("segment.bytes"),
                value: value.map(Str::from),
            }],
        }],
        validate_only,
    };
    let mut code = |value, validate_only| {
        let request = request(value, validate_only);
        bench.submit(&request, 2, user("root")).responses[0].error_code
    };
    assert_eq!(code(None, false), ErrorCode::INVALID_REQUEST);
    assert_eq!(code(Some("1"), false), ErrorCode::INVALID_CONFIG);
    assert_eq!(code(Some("4096"), true), ErrorCode::NONE);
    assert_eq!(settings(&bench, "a"), [pair("retention.ms", "1000")]);
    let response = bench.submit(&request(Some("4096"), false), 2, user("root"));
    assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
    assert_eq!(settings(&bench, "a"), [pair("segment.bytes", "4096")]);
}

#[test]
fn the_brokers_own_topics_stay_compacted() {
    let mut bench = Bench::new();
    let own = CreatableTopic {
        name: Str::from("__consumer_offsets"),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig {
            name: Str::from("cleanup.policy"),
            value: Some(Str::from("compact")),
        }],
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![own],
        ..Default::default()
    };
    bench.submit(&request, 7, internal());
    let set = [("segment.bytes", 0, Some("4096"))];
    let rows = incremental(
        &mut bench,
        vec![resource(TOPIC, "__consumer_offsets", &set)],
        "root",
    );
    assert_eq!(rows[0].error_code, ErrorCode::NONE);
}

fn of_group(bench: &mut Bench, group: &'static str, ops: &[Op], who: &str) -> (ErrorCode, String) {
    let rows = incremental(bench, vec![resource(GROUP, group, ops)], who);
    let message = rows[0].error_message.as_deref().unwrap_or_default();
    (rows[0].error_code, message.to_owned())
}

fn group_settings(bench: &Bench, group: &str) -> Vec<(String, String)> {
    let configs = &bench.image.configs;
    let settings = configs.get(ConfigResourceType::Group, group);
    let settings = settings.into_iter().flat_map(|settings| settings.iter());
    settings.map(|(key, value)| pair(key, value)).collect()
}

const INTERVAL: &str = "consumer.heartbeat.interval.ms";

#[test]
fn a_group_need_not_exist_to_have_settings() {
    let mut bench = Bench::new();
    bench.apply(&[allow(
        "ann",
        AclOperation::AlterConfigs,
        ResourceType::Group,
        "g",
    )]);
    let set = [(INTERVAL, 0, Some("6000"))];
    assert_eq!(of_group(&mut bench, "g", &set, "ann").0, ErrorCode::NONE);
    assert_eq!(group_settings(&bench, "g"), [pair(INTERVAL, "6000")]);
    assert_eq!(bench.last_delta.configs.len(), 1);
    let denied = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    assert_eq!(of_group(&mut bench, "h", &set, "ann").0, denied);
    let (code, text) = of_group(&mut bench, "", &set, "root");
    assert_eq!(code, ErrorCode::INVALID_REQUEST);
    assert_eq!(text, "Default group resources are not allowed.");
    let delete = [(INTERVAL, 1, None)];
    assert_eq!(of_group(&mut bench, "g", &delete, "ann").0, ErrorCode::NONE);
    assert_eq!(group_settings(&bench, "g"), []);
}

#[test]
fn what_a_group_may_not_be_set_to() {
    let mut bench = Bench::new();
    for (op, text) in [
        ((INTERVAL, 0, Some("4999")), "group.consumer.min.heartbeat"),
        ((INTERVAL, 0, Some("x")), "Not a number"),
        ((INTERVAL, 2, Some("6000")), "its type is not LIST"),
        (
            ("cleanup.policy", 2, Some("compact")),
            "its type is not LIST",
        ),
        (("retention.ms", 0, Some("1")), "Unknown group config name"),
        (
            ("share.isolation.level", 0, Some("read_committed")),
            "Unknown group",
        ),
    ] {
        let (code, message) = of_group(&mut bench, "g", &[op], "root");
        assert_eq!(code, ErrorCode::INVALID_CONFIG, "{op:?}");
        assert!(message.contains(text), "{op:?}: {message}");
    }
    assert_eq!(group_settings(&bench, "g"), []);
}

#[test]
fn the_old_request_replaces_a_groups_settings() {
    let mut bench = Bench::new();
    let session = ("consumer.session.timeout.ms", 0, Some("50000"));
    let set = [session, (INTERVAL, 0, Some("6000"))];
    assert_eq!(of_group(&mut bench, "g", &set, "root").0, ErrorCode::NONE);
    let request = AlterConfigsRequest {
        resources: vec![alter_configs::AlterConfigsResource {
            resource_type: GROUP,
            resource_name: Str::from("g"),
            configs: vec![alter_configs::AlterableConfig {
                name: Str::from(INTERVAL),
                value: Some(Str::from("7000")),
            }],
        }],
        validate_only: false,
    };
    let response = bench.submit(&request, 2, user("root"));
    assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
    assert_eq!(group_settings(&bench, "g"), [pair(INTERVAL, "7000")]);
}

const THROTTLED: &str = "leader.replication.throttled.replicas";
const LONGEST: usize = 32_767;

/// A list of replicas of so many bytes.
fn replicas(bytes: usize) -> String {
    let list: Vec<String> = (100_000..)
        .take(bytes / 9 + 1)
        .map(|n| format!("{n}:1"))
        .collect();
    let mut list = list.join(",");
    list.truncate(bytes);
    // What was cut off is blank.
    let whole = list.rfind(',').unwrap();
    list.replace_range(whole.., &" ".repeat(bytes - whole));
    list
}

fn op(key: &'static str, config_operation: i8, value: String) -> AlterConfigsResource {
    AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: Str::from("a"),
        configs: vec![AlterableConfig {
            name: Str::from(key),
            config_operation,
            value: Some(Str::from(value)),
        }],
    }
}

#[test]
fn a_value_grows_no_longer_than_answers_carry() {
    let mut bench = bench();
    let mut alter = |operation, value: &str| {
        let resources = vec![op(THROTTLED, operation, value.to_owned())];
        let row = incremental(&mut bench, resources, "root").remove(0);
        let config = &bench.image.topics.get("a").unwrap().config;
        let length = config.get(THROTTLED).map_or(0, str::len);
        let text = row.error_message.as_deref().unwrap_or_default().to_owned();
        (row.error_code, length, text)
    };
    let all = replicas(LONGEST);
    assert_eq!(alter(0, &all), (ErrorCode::NONE, LONGEST, String::new()));
    // Without the blanks behind it.
    let (code, length, _) = alter(2, "0:1");
    assert_eq!(code, ErrorCode::NONE);
    let room = LONGEST - length;
    assert!(room < 20, "{room}");
    let fits = format!("1:{}", "1".repeat(room - 3));
    let more = format!("{fits}1");
    let (code, unchanged, text) = alter(2, &more);
    assert_eq!((code, unchanged), (ErrorCode::INVALID_CONFIG, length));
    let said = "The value of leader.replication.throttled.replicas would have 32768 bytes";
    assert!(text.contains(said), "{text}");
    assert_eq!(alter(2, &fits), (ErrorCode::NONE, LONGEST, String::new()));
    assert_eq!(alter(3, &fits).1, length);
}

#[test]
fn no_request_sets_one_that_is_too_long() {
    let mut bench = bench();
    let long = format!("{}1", " ".repeat(LONGEST));
    let value = || Some(Str::from(long.clone()));
    let rows = incremental(
        &mut bench,
        vec![op("retention.ms", 0, long.clone())],
        "root",
    );
    assert_eq!(rows[0].error_code, ErrorCode::INVALID_CONFIG);
    for (resource_type, key) in [(TOPIC, "retention.ms"), (GROUP, INTERVAL)] {
        let request = AlterConfigsRequest {
            resources: vec![alter_configs::AlterConfigsResource {
                resource_type,
                resource_name: Str::from("a"),
                configs: vec![alter_configs::AlterableConfig {
                    name: Str::from(key),
                    value: value(),
                }],
            }],
            validate_only: false,
        };
        let row = &bench.submit(&request, 2, user("root")).responses[0];
        assert_eq!(row.error_code, ErrorCode::INVALID_CONFIG);
        let text = row.error_message.as_deref().unwrap();
        assert!(text.contains("would have 32768 bytes"), "{text}");
    }
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::from("c"),
            num_partitions: 1,
            replication_factor: 1,
            configs: vec![CreatableTopicConfig {
                name: Str::from("retention.ms"),
                value: value(),
            }],
            ..CreatableTopic::default()
        }],
        ..Default::default()
    };
    let row = &bench.submit(&request, 7, user("root")).topics[0];
    assert_eq!(row.error_code, ErrorCode::INVALID_CONFIG);
    assert_eq!(settings(&bench, "a"), [pair("retention.ms", "1000")]);
}

/// Earlier releases stored them.
#[test]
fn what_is_too_long_already_stands_in_nobodys_way() {
    let mut bench = bench();
    bench.apply(&[MetadataRecord::Config {
        resource_type: ConfigResourceType::Topic,
        resource_name: "a".to_owned(),
        key: THROTTLED.to_owned(),
        value: Some(replicas(40_000)),
    }]);
    let set = [("segment.bytes", 0, Some("4096"))];
    assert_eq!(one(&mut bench, &set).0, ErrorCode::NONE);
    let append = [(THROTTLED, 2, Some("1:1"))];
    assert_eq!(one(&mut bench, &append).0, ErrorCode::INVALID_CONFIG);
    assert_eq!(settings(&bench, "a").len(), 3);
    let delete = [(THROTTLED, 1, None)];
    assert_eq!(one(&mut bench, &delete).0, ErrorCode::NONE);
    assert_eq!(settings(&bench, "a").len(), 2);
}
