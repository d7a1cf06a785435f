//! Settings of one group: set, shown, in force for its members, refused.

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use palisade_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResult,
};
use palisade_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use palisade_protocol::text::Str;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::target::Target;
use palisade_tests::wire::Connection;

use super::{PATIENCE, coordinator};

const MECHANISM: &str = "SCRAM-SHA-512";
const GROUP_RESOURCE: i8 = 32;
const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

fn alter(
    connection: &mut Connection,
    group: &'static str,
    key: &'static str,
    operation: i8,
    value: &'static str,
) -> ErrorCode {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: GROUP_RESOURCE,
            resource_name: group.into(),
            configs: vec![AlterableConfig {
                name: key.into(),
                config_operation: operation,
                value: Some(value.into()),
            }],
        }],
        validate_only: false,
    };
    let answer = connection.call(1, &request).expect("an answer");
    answer.responses[0].error_code
}

fn describe(connection: &mut Connection, group: &'static str) -> DescribeConfigsResult {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: GROUP_RESOURCE,
            resource_name: group.into(),
            configuration_keys: Some(vec![HEARTBEAT.into()]),
        }],
        include_synonyms: true,
        ..DescribeConfigsRequest::default()
    };
    let mut answer = connection.call(4, &request).expect("an answer");
    answer.results.remove(0)
}

/// Value and source of the key, and the same of every place that has a value for it.
fn shown(result: &DescribeConfigsResult) -> Vec<(&str, &str, i8)> {
    assert_eq!(result.error_code, ErrorCode::NONE);
    let [config] = result.configs.as_slice() else {
        panic!("{result:?}");
    };
    let text = |value: &'_ Option<Str>| value.as_deref().unwrap_or_default().to_owned();
    assert!(!config.read_only && !config.is_sensitive);
    assert_eq!((&*config.name, config.config_type), (HEARTBEAT, 3));
    let first = config.synonyms.first().expect("a synonym");
    assert_eq!(
        (text(&config.value), config.config_source),
        (text(&first.value), first.source)
    );
    let places = config.synonyms.iter();
    places
        .map(|place| {
            let value = place.value.as_deref().unwrap_or_default();
            (&*place.name, value, place.source)
        })
        .collect()
}

/// How often the members of a group are to call, once that is as wanted.
fn until_interval(connection: &mut Connection, group: &'static str, wanted: i32) {
    eventually("the interval", PATIENCE, || {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: "member".into(),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(Vec::new()),
            topic_partitions: Some(Vec::new()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let answer = connection.call(1, &request).expect("an answer");
        match (answer.error_code, answer.heartbeat_interval_ms) {
            (ErrorCode::NONE, interval) if interval == wanted => Ok(()),
            (code, interval) => Err(format!("{}, {interval}", code.name())),
        }
    });
}

const NODE: (&str, &str, i8) = ("group.consumer.heartbeat.interval.ms", "5000", 5);

#[test]
fn a_group_has_settings_of_its_own() {
    let target = Target::start();
    let access = target.scram(MECHANISM);
    let mut admin = coordinator(&access, "own");
    assert_eq!(shown(&describe(&mut admin, "own")), [NODE]);
    until_interval(&mut admin, "own", 5000);
    let code = alter(&mut admin, "own", HEARTBEAT, SET, "6000");
    assert_eq!(code, ErrorCode::NONE);
    until_interval(&mut admin, "own", 6000);
    until_interval(&mut admin, "other", 5000);
    let own = [(HEARTBEAT, "6000", 8), NODE];
    eventually("the setting", PATIENCE, || {
        let result = describe(&mut admin, "own");
        match shown(&result) == own {
            true => Ok(()),
            false => Err(format!("{result:?}")),
        }
    });
    assert_eq!(shown(&describe(&mut admin, "other")), [NODE]);
    for (group, key, operation, value, expected) in [
        ("own", HEARTBEAT, SET, "4999", ErrorCode::INVALID_CONFIG),
        ("own", HEARTBEAT, SET, "15001", ErrorCode::INVALID_CONFIG),
        ("own", HEARTBEAT, SET, "soon", ErrorCode::INVALID_CONFIG),
        ("own", HEARTBEAT, APPEND, "7000", ErrorCode::INVALID_CONFIG),
        ("own", "no.such", SET, "1", ErrorCode::INVALID_CONFIG),
        (
            "own",
            "consumer.session.timeout.ms",
            SET,
            "44999",
            ErrorCode::INVALID_CONFIG,
        ),
        ("", HEARTBEAT, SET, "6000", ErrorCode::INVALID_REQUEST),
    ] {
        let code = alter(&mut admin, group, key, operation, value);
        assert_eq!(code, expected, "{group:?} {key}={value}");
    }
    let empty = describe(&mut admin, "");
    assert_eq!(empty.error_code, ErrorCode::INVALID_REQUEST);

    requests::set_user(&mut admin, "guest", MECHANISM, "secret-of-guests").expect("a user");
    let mut guest = eventually("the guest's login", PATIENCE, || {
        Connection::open(&access.as_user(MECHANISM, "guest", "secret-of-guests"))
            .map_err(|error| error.to_string())
    });
    let denied = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    let code = alter(&mut guest, "own", HEARTBEAT, SET, "7000");
    assert_eq!(code, denied);
    assert_eq!(describe(&mut guest, "own").error_code, denied);

    let code = alter(&mut admin, "own", HEARTBEAT, DELETE, "");
    assert_eq!(code, ErrorCode::NONE);
    until_interval(&mut admin, "own", 5000);
}

#[test]
fn settings_of_groups_survive_a_kill() {
    let mut node = Node::start();
    let access = node.certificate();
    let mut admin = coordinator(&access, "kept");
    let code = alter(&mut admin, "kept", HEARTBEAT, SET, "6000");
    assert_eq!(code, ErrorCode::NONE);
    node.kill();
    node.run();
    let mut admin = Connection::open(&access).expect("a login");
    until_interval(&mut admin, "kept", 6000);
    let own = [(HEARTBEAT, "6000", 8), NODE];
    assert_eq!(shown(&describe(&mut admin, "kept")), own);
}
