//! Names of clients as long as the protocol takes them: errors that speak of them are answered, and shorter than the
//! protocol takes those.

use std::time::Duration;

use palisade_protocol::messages::alter_configs::{self, AlterConfigsRequest};
use palisade_protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use palisade_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use palisade_protocol::messages::delete_groups::DeleteGroupsRequest;
use palisade_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use palisade_protocol::messages::describe_groups::DescribeGroupsRequest;
use palisade_protocol::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, UserName,
};
use palisade_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use palisade_protocol::{ErrorCode, Str};
use palisade_tests::node::Node;
use palisade_tests::requests::{self, TIMEOUT_MS};
use palisade_tests::wire::Connection;

/// The longest name, of characters that a cut at a byte would halve.
fn long() -> Str {
    let name = "ä".repeat(16_383);
    assert_eq!(name.len(), 32_766);
    Str::from(name)
}

/// Says that something of the name was left out, and still what is wrong.
fn is_cut(text: Option<&Str>, end: &str) {
    is_short(text, end);
    let text = text.expect("a text");
    assert!(text.contains("ää…"), "{text}");
}

fn is_short(text: Option<&Str>, end: &str) {
    let text = text.expect("a text");
    assert!(text.len() < 1_000, "{} bytes", text.len());
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn errors_show_a_part_of_them() {
    let mut node = Node::prepare();
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let not_found = ErrorCode::GROUP_ID_NOT_FOUND;
    requests::await_coordinators(&mut connection, &long(), Duration::from_secs(20));

    let request = DeleteGroupsRequest {
        groups_names: vec![long()],
    };
    let answer = connection.call(3, &request).expect("an answer");
    let row = &answer.results[0];
    assert_eq!((row.error_code, &row.group_id), (not_found, &long()));
    is_cut(row.error_message.as_ref(), "… not found.");

    let request = DescribeGroupsRequest {
        groups: vec![long()],
        ..DescribeGroupsRequest::default()
    };
    let answer = connection.call(6, &request).expect("an answer");
    let row = &answer.groups[0];
    assert_eq!((row.error_code, &row.group_id), (not_found, &long()));
    is_cut(row.error_message.as_ref(), "… not found.");

    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![long()],
        ..ConsumerGroupDescribeRequest::default()
    };
    for version in [0, 1] {
        let answer = connection.call(version, &request).expect("an answer");
        let row = &answer.groups[0];
        assert_eq!((row.error_code, &row.group_id), (not_found, &long()));
        is_cut(row.error_message.as_ref(), "… not found.");
    }

    let user = || UserName { name: long() };
    for (users, code) in [
        (vec![user()], ErrorCode::RESOURCE_NOT_FOUND),
        (vec![user(), user()], ErrorCode::DUPLICATE_RESOURCE),
    ] {
        let request = DescribeUserScramCredentialsRequest { users: Some(users) };
        let answer = connection.call(0, &request).expect("an answer");
        let row = &answer.results[0];
        assert_eq!((row.error_code, &row.user), (code, &long()));
        is_cut(row.error_message.as_ref(), "…");
    }
}

/// Each name is short, and the list of those that are wrong is not.
#[test]
fn lists_of_names() {
    let mut node = Node::prepare();
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let names = (0..1_000).map(|number| Str::from(format!("{number}{}", "x".repeat(100))));
    let names: Vec<Str> = names.collect();
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::from("lists"),
            num_partitions: 1,
            replication_factor: 1,
            configs: names
                .iter()
                .map(|name| CreatableTopicConfig {
                    name: name.clone(),
                    value: None,
                })
                .collect(),
            ..CreatableTopic::default()
        }],
        timeout_ms: TIMEOUT_MS,
        validate_only: false,
    };
    let answer = connection.call(7, &request).expect("an answer");
    let row = &answer.topics[0];
    assert_eq!(row.error_code, ErrorCode::INVALID_CONFIG);
    let text = row.error_message.as_deref().expect("a text");
    assert!(text.len() < 3_000 && text.ends_with("xx…"), "{text}");

    let request = AlterConfigsRequest {
        resources: vec![alter_configs::AlterConfigsResource {
            resource_type: 2,
            resource_name: Str::from("lists"),
            configs: names
                .into_iter()
                .map(|name| alter_configs::AlterableConfig { name, value: None })
                .collect(),
        }],
        validate_only: false,
    };
    let answer = connection.call(2, &request).expect("an answer");
    let row = &answer.responses[0];
    assert_eq!(row.error_code, ErrorCode::INVALID_REQUEST);
    let text = row.error_message.as_deref().expect("a text");
    assert!(text.len() < 3_000 && text.ends_with("xx…"), "{text}");
}

/// Names of resources, keys and values: texts that say so.
#[test]
fn settings_of_anything() {
    let mut node = Node::prepare();
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    const LOGGER: i8 = 8;
    const METRICS: i8 = 16;
    const GROUP: i8 = 32;
    let (none, invalid) = (ErrorCode::NONE, ErrorCode::INVALID_REQUEST);
    let (bad_name, bad_setting) = (
        ErrorCode::INVALID_TOPIC_EXCEPTION,
        ErrorCode::INVALID_CONFIG,
    );
    let too_long = "' is longer than the max allowed length 249";
    let of_type_yet = "for this type of resource yet";

    for (resource_type, code, is_quoted, end) in [
        (TOPIC, bad_name, true, too_long),
        (BROKER, invalid, false, "or the empty string"),
        (LOGGER, invalid, false, of_type_yet),
        (METRICS, invalid, false, of_type_yet),
        (GROUP, none, false, ""),
    ] {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name: long(),
                configuration_keys: None,
            }],
            ..DescribeConfigsRequest::default()
        };
        let answer = connection.call(4, &request).expect("an answer");
        let row = &answer.results[0];
        assert_eq!(row.error_code, code, "{resource_type}");
        let check = if is_quoted { is_cut } else { is_short };
        check(row.error_message.as_ref(), end);
    }

    const DELETE: i8 = 1;
    const NO_OPERATION: i8 = 9;
    let not_a_list = "because its type is not LIST.";
    for operation in [0, DELETE, 2, 3, NO_OPERATION] {
        for resource_type in [TOPIC, BROKER, LOGGER, METRICS, GROUP] {
            let request = IncrementalAlterConfigsRequest {
                resources: vec![AlterConfigsResource {
                    resource_type,
                    resource_name: long(),
                    configs: vec![AlterableConfig {
                        name: long(),
                        config_operation: operation,
                        value: Some(long()),
                    }],
                }],
                validate_only: true,
            };
            let answer = connection.call(1, &request).expect("an answer");
            let row = &answer.responses[0];
            let (code, is_quoted, end) = match (resource_type, operation) {
                (_, NO_OPERATION) => (invalid, true, "."),
                (TOPIC, _) => (bad_name, true, too_long),
                (GROUP, 0) => (bad_setting, true, "…"),
                // Nobody has set it.
                (GROUP, DELETE) => (none, false, ""),
                (GROUP, _) => (bad_setting, true, not_a_list),
                _ => (invalid, false, "cannot be changed yet."),
            };
            let asked = (resource_type, operation);
            assert_eq!(row.error_code, code, "{asked:?}");
            match code {
                ErrorCode::NONE => assert_eq!(row.error_message, None, "{asked:?}"),
                _ if is_quoted => is_cut(row.error_message.as_ref(), end),
                _ => is_short(row.error_message.as_ref(), end),
            }
        }
    }
}

/// A list grows item by item up to the longest string of the protocol, and can be told all the while.
#[test]
fn settings_grow_no_longer_than_they_can_be_told() {
    const TOPIC: i8 = 2;
    const KEY: &str = "leader.replication.throttled.replicas";
    const APPEND: i8 = 2;
    let mut node = Node::prepare();
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    requests::create_topic(&mut connection, "grows", 1, &[]).expect("a topic");
    let append = |connection: &mut Connection, items: std::ops::Range<usize>| {
        let items: Vec<String> = items.map(|item| format!("{item:05}:1")).collect();
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: "grows".into(),
                configs: vec![AlterableConfig {
                    name: KEY.into(),
                    config_operation: APPEND,
                    value: Some(Str::from(items.join(","))),
                }],
            }],
            validate_only: false,
        };
        let answer = connection.call(1, &request).expect("an answer");
        let row = &answer.responses[0];
        let text = row.error_message.as_deref().unwrap_or_default();
        (row.error_code, text.to_owned())
    };
    // Eight bytes an item, and one less.
    let none = (ErrorCode::NONE, String::new());
    assert_eq!(append(&mut connection, 0..4_000), none);
    assert_eq!(append(&mut connection, 4_000..4_096), none);
    let (code, text) = append(&mut connection, 4_096..4_097);
    assert_eq!(code, ErrorCode::INVALID_CONFIG);
    is_short(
        Some(&Str::from(text)),
        "32767 is the most that an answer can carry.",
    );
    for version in 1..=4 {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: "grows".into(),
                configuration_keys: Some(vec![KEY.into()]),
            }],
            include_synonyms: true,
            ..DescribeConfigsRequest::default()
        };
        let answer = connection.call(version, &request).expect("an answer");
        let value = answer.results[0].configs[0].value.as_deref();
        assert_eq!(value.map(str::len), Some(32_767), "v{version}");
    }
}
