//! A: authorization, beyond the table of rights.

use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::builder::BatchBuilder;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig,
};
use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_protocol::messages::create_acls::{AclCreation, CreateAclsRequest};
use palisade_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use palisade_protocol::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use palisade_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use palisade_protocol::messages::fetch::ReplicaState;
use palisade_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use palisade_protocol::messages::produce::ProduceRequest;
use palisade_protocol::text::Str;
use palisade_protocol::types::TimestampMs;
use palisade_protocol::uuid::Uuid;
use palisade_tests::requests::{self, TIMEOUT_MS, newest};
use palisade_tests::wire::Connection;

use super::Row;
use super::world::{World, closed, rule, send};

pub(super) const ROWS: &[Row] = &[
    ("A02", reader_as_follower),
    ("A03", old_follower),
    ("A04", transactional_batches),
    ("A07", forbidden_and_absent),
    ("A08", creation_by_metadata),
    ("A09", ids),
    ("A10", mixed_creation),
    ("A11", deletion_by_id),
    ("A12", partitions_without_alter),
    ("A20", mixed_settings),
    ("A21", deny_wins),
    ("A22", hosts),
    ("A23", deny_is_exact),
    ("A24", principals_are_exact),
    ("A28", one_of_three),
    ("A30", rule_removed),
    ("A32", unusable_rules),
    ("A33", rules_without_alter),
    ("A34", absurd_names),
    ("A35", super_user),
    ("A39", foreign_scope),
    ("A48", silent_produce),
];

const BOB: &str = "User:bob";
const READ: i8 = 3;
const WRITE: i8 = 4;
const CREATE: i8 = 5;
const DESCRIBE: i8 = 8;
const ALTER_CONFIGS: i8 = 11;
const ALL: i8 = 2;
const DENY: i8 = 2;
const ALLOW: i8 = 3;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;

const DENIED: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;

fn topic(world: &World, name: &str) -> Uuid {
    requests::create_topic(&mut world.admin(), name, 1, &[]).expect("a topic")
}

fn add(world: &World, rules: Vec<AclCreation>) {
    requests::add_acls(&mut world.admin(), rules).expect("rules");
}

fn remove(connection: &mut Connection, filter: DeleteAclsFilter) -> (ErrorCode, usize) {
    let request = DeleteAclsRequest {
        filters: vec![filter],
    };
    let answer = connection
        .call(newest(ApiKey::DeleteAcls), &request)
        .expect("an answer");
    let result = &answer.filter_results[0];
    (result.error_code, result.matching_acls.len())
}

fn filter(name: &str, operation: i8, permission: i8) -> DeleteAclsFilter {
    DeleteAclsFilter {
        resource_type_filter: 2,
        resource_name_filter: Some(Str::copy(name)),
        pattern_type_filter: LITERAL,
        principal_filter: None,
        host_filter: None,
        operation,
        permission_type: permission,
    }
}

fn fetch(connection: &mut Connection, name: &str, id: Uuid) -> ErrorCode {
    let request = requests::fetch_request(name, id, 0, 0);
    let answer = connection
        .call(newest(ApiKey::Fetch), &request)
        .expect("an answer");
    answer.responses[0].partitions[0].error_code
}

fn write(connection: &mut Connection, name: &str, id: Uuid) -> ErrorCode {
    let records = requests::batch(Codec::None, &[b"x"], 1_700_000_000_000);
    let answer = requests::produce(connection, name, id, 1, records);
    answer.expect("an answer").error_code
}

fn reader_as_follower(world: &World) {
    let id = topic(world, "a02");
    add(world, vec![rule(BOB, "a02", LITERAL, READ, ALLOW)]);
    let mut bob = world.bob();
    assert_eq!(fetch(&mut bob, "a02", id), ErrorCode::NONE);
    let mut request = requests::fetch_request("a02", id, 0, 0);
    request.replica_state = ReplicaState {
        replica_id: 1,
        replica_epoch: -1,
    };
    let answer = bob
        .call(newest(ApiKey::Fetch), &request)
        .expect("an answer");
    assert_eq!(answer.responses[0].partitions[0].error_code, DENIED);
}

/// Up to version 14 the follower names itself in the body, and later in a tag: either makes it one.
fn old_follower(world: &World) {
    let id = topic(world, "a03");
    add(world, vec![rule(BOB, "a03", LITERAL, READ, ALLOW)]);
    let mut bob = world.bob();
    for (replica_id, code) in [(-1, ErrorCode::NONE), (1, DENIED)] {
        let mut request = requests::fetch_request("a03", id, 0, 0);
        request.replica_id = replica_id;
        let answer = bob.call(14, &request).expect("an answer");
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, code, "replica {replica_id}");
    }
}

fn transactional_batches(world: &World) {
    let id = topic(world, "a04");
    add(
        world,
        vec![
            rule(BOB, "a04", LITERAL, WRITE, ALLOW),
            rule(BOB, "a04", LITERAL, DESCRIBE, ALLOW),
        ],
    );
    let mut bob = world.bob();
    for transactional_id in [None, Some(Str::from("payments"))] {
        let mut builder = BatchBuilder::new(Codec::None).transactional(true);
        builder
            .add(TimestampMs::new(1_700_000_000_000), None, Some(b"x"), &[])
            .expect("a record");
        let records = builder.build().expect("a batch").freeze();
        let request = ProduceRequest {
            transactional_id,
            ..requests::produce_request("a04", id, 0, -1, records)
        };
        let answer = bob
            .call(newest(ApiKey::Produce), &request)
            .expect("an answer");
        let code = answer.responses[0].partition_responses[0].error_code;
        assert_eq!(code, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    assert_eq!(
        requests::latest_offset(&mut bob, "a04").expect("an offset"),
        0
    );
}

fn forbidden_and_absent(world: &World) {
    topic(world, "a07-there");
    let mut bob = world.bob();
    let mut ask = |name: &str| {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(Str::copy(name)),
                ..MetadataRequestTopic::default()
            }]),
            ..MetadataRequest::default()
        };
        bob.ask(newest(ApiKey::Metadata), &request)
            .expect("a request");
        let answer = bob.receive().expect("an answer");
        // After the correlation id; with the name blotted out.
        String::from_utf8_lossy(&answer[4..]).replace(name, "#")
    };
    assert_eq!(ask("a07-there"), ask("a07-absnt"));
}

fn creation_by_metadata(world: &World) {
    let mut bob = world.bob();
    assert_eq!(world.topic_code(&mut bob, "a08"), DENIED);
    add(world, vec![rule(BOB, "a08", LITERAL, DESCRIBE, ALLOW)]);
    let code = world.topic_code(&mut bob, "a08");
    assert!(code.is_error(), "{}", code.name());
    assert!(!world.topic_exists("a08"));
}

fn ids(world: &World) {
    let forbidden = topic(world, "a09");
    let mut bob = world.bob();
    for (id, code) in [
        (forbidden, DENIED),
        (Uuid::from_bytes([9; 16]), ErrorCode::UNKNOWN_TOPIC_ID),
    ] {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                topic_id: id,
                name: None,
            }]),
            ..MetadataRequest::default()
        };
        let answer = bob
            .call(newest(ApiKey::Metadata), &request)
            .expect("an answer");
        assert_eq!(answer.topics[0].error_code, code);
        assert_eq!(answer.topics[0].name, None);
    }
}

fn mixed_creation(world: &World) {
    add(world, vec![rule(BOB, "a10-ok", PREFIXED, CREATE, ALLOW)]);
    let topics =
        ["a10-ok", "a10-forbidden", "a10-ok-twice", "a10-ok-twice"].map(|name| CreatableTopic {
            name: Str::copy(name),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        });
    let request = CreateTopicsRequest {
        topics: topics.into(),
        timeout_ms: TIMEOUT_MS,
        ..CreateTopicsRequest::default()
    };
    let answer = world
        .bob()
        .call(newest(ApiKey::CreateTopics), &request)
        .expect("an answer");
    for (name, code) in [
        ("a10-ok", ErrorCode::NONE),
        ("a10-forbidden", DENIED),
        ("a10-ok-twice", ErrorCode::INVALID_REQUEST),
    ] {
        let row = answer
            .topics
            .iter()
            .find(|row| *row.name == *name)
            .expect("a row");
        assert_eq!(row.error_code, code, "{name}");
        assert_eq!(world.topic_exists(name), code == ErrorCode::NONE);
    }
}

fn deletion_by_id(world: &World) {
    let id = topic(world, "a11");
    let mut bob = world.bob();
    let mut delete = || {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: None,
                topic_id: id,
            }],
            timeout_ms: TIMEOUT_MS,
            ..DeleteTopicsRequest::default()
        };
        let answer = bob
            .call(newest(ApiKey::DeleteTopics), &request)
            .expect("an answer");
        let row = &answer.responses[0];
        (row.error_code, row.name.as_deref().map(str::to_owned))
    };
    assert_eq!(delete(), (DENIED, None));
    add(world, vec![rule(BOB, "a11", LITERAL, DESCRIBE, ALLOW)]);
    assert_eq!(delete(), (DENIED, Some("a11".to_owned())));
    assert!(world.topic_exists("a11"));
}

fn partitions_without_alter(world: &World) {
    topic(world, "a12");
    add(
        world,
        vec![
            rule(BOB, "a12", LITERAL, CREATE, ALLOW),
            rule(BOB, "a12", LITERAL, DESCRIBE, ALLOW),
        ],
    );
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: Str::from("a12"),
            count: 3,
            assignments: None,
        }],
        timeout_ms: TIMEOUT_MS,
        validate_only: false,
    };
    let answer = world.bob().call(newest(ApiKey::CreatePartitions), &request);
    assert_eq!(answer.expect("an answer").results[0].error_code, DENIED);
}

fn mixed_settings(world: &World) {
    topic(world, "a20-own");
    topic(world, "a20-foreign");
    add(
        world,
        vec![rule(BOB, "a20-own", LITERAL, ALTER_CONFIGS, ALLOW)],
    );
    let resource = |kind, name: &str, value: &str| AlterConfigsResource {
        resource_type: kind,
        resource_name: Str::copy(name),
        configs: vec![AlterableConfig {
            name: Str::from("retention.ms"),
            value: Some(Str::copy(value)),
        }],
    };
    let request = AlterConfigsRequest {
        resources: vec![
            resource(2, "a20-own", "1000"),
            resource(2, "a20-foreign", "no number"),
            resource(4, "1", "no number"),
        ],
        validate_only: false,
    };
    let answer = world
        .bob()
        .call(newest(ApiKey::AlterConfigs), &request)
        .expect("an answer");
    for (name, code) in [
        ("a20-own", ErrorCode::NONE),
        ("a20-foreign", DENIED),
        ("1", ErrorCode::CLUSTER_AUTHORIZATION_FAILED),
    ] {
        let row = answer
            .responses
            .iter()
            .find(|row| *row.resource_name == *name);
        assert_eq!(row.expect("a row").error_code, code, "{name}");
    }
}

fn deny_wins(world: &World) {
    let id = topic(world, "a21");
    let mut bob = world.bob();
    for (denied, allowed) in [
        (("*", LITERAL), ("a21", LITERAL)),
        (("a21", LITERAL), ("*", LITERAL)),
        (("a2", PREFIXED), ("a21", LITERAL)),
    ] {
        let rules = vec![
            rule(BOB, denied.0, denied.1, WRITE, DENY),
            rule(BOB, allowed.0, allowed.1, WRITE, ALLOW),
        ];
        add(world, rules);
        assert_eq!(
            write(&mut bob, "a21", id),
            DENIED,
            "{denied:?}, {allowed:?}"
        );
        for (name, pattern) in [denied, allowed] {
            let mut filter = filter(name, WRITE, 1);
            filter.pattern_type_filter = pattern;
            remove(&mut world.admin(), filter);
        }
    }
}

fn hosts(world: &World) {
    let id = topic(world, "a22");
    let mut bob = world.bob();
    let here = |host: &str, operation, permission| AclCreation {
        host: Str::copy(host),
        ..rule(BOB, "a22", LITERAL, operation, permission)
    };
    add(
        world,
        vec![
            rule(BOB, "a22", LITERAL, WRITE, ALLOW),
            here("127.0.0.2", ALL, DENY),
        ],
    );
    assert_eq!(write(&mut bob, "a22", id), ErrorCode::NONE);
    add(world, vec![here("127.0.0.1", ALL, DENY)]);
    assert_eq!(write(&mut bob, "a22", id), DENIED);
}

fn deny_is_exact(world: &World) {
    topic(world, "a23");
    add(
        world,
        vec![
            rule(BOB, "a23", LITERAL, READ, DENY),
            rule(BOB, "a23", LITERAL, WRITE, ALLOW),
        ],
    );
    assert_eq!(world.topic_code(&mut world.bob(), "a23"), ErrorCode::NONE);
}

fn principals_are_exact(world: &World) {
    let id = topic(world, "a24");
    for principal in ["user:bob", "User:Bob", "User: bob"] {
        // Some of them are refused at once; none may match.
        let request = CreateAclsRequest {
            creations: vec![rule(principal, "a24", LITERAL, WRITE, ALLOW)],
        };
        let version = newest(ApiKey::CreateAcls);
        world.admin().call(version, &request).expect("an answer");
        assert_eq!(write(&mut world.bob(), "a24", id), DENIED, "{principal}");
    }
}

fn one_of_three(world: &World) {
    let id = topic(world, "a28");
    let rules = vec![
        rule(BOB, "a28", LITERAL, WRITE, ALLOW),
        rule(BOB, "a28", LITERAL, READ, ALLOW),
        rule(BOB, "a28", LITERAL, WRITE, DENY),
    ];
    add(world, rules);
    let removed = remove(&mut world.admin(), filter("a28", READ, ALLOW));
    assert_eq!(removed, (ErrorCode::NONE, 1));
    let mut bob = world.bob();
    assert_eq!(
        write(&mut bob, "a28", id),
        DENIED,
        "the denial still decides"
    );
    assert_eq!(
        fetch(&mut bob, "a28", id),
        DENIED,
        "the removed rule is gone"
    );
    remove(&mut world.admin(), filter("a28", WRITE, DENY));
    assert_eq!(
        write(&mut bob, "a28", id),
        ErrorCode::NONE,
        "the last one is left"
    );
}

fn rule_removed(world: &World) {
    let id = topic(world, "a30");
    add(world, vec![rule(BOB, "a30", LITERAL, READ, ALLOW)]);
    let mut bob = world.bob();
    assert_eq!(fetch(&mut bob, "a30", id), ErrorCode::NONE);
    remove(&mut world.admin(), filter("a30", READ, ALLOW));
    assert_eq!(fetch(&mut bob, "a30", id), DENIED, "the very next request");
}

fn unusable_rules(world: &World) {
    let good = rule(BOB, "a32", LITERAL, READ, ALLOW);
    let with = |change: fn(&mut AclCreation)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let request = CreateAclsRequest {
        creations: vec![
            with(|rule| rule.resource_pattern_type = 1),
            with(|rule| rule.resource_pattern_type = 2),
            with(|rule| rule.operation = 1),
            with(|rule| rule.permission_type = 1),
            with(|rule| rule.resource_name = Str::from("")),
            with(|rule| {
                rule.resource_type = 4;
                rule.resource_name = Str::from("foo");
            }),
            good.clone(),
        ],
    };
    let answer = world
        .admin()
        .call(newest(ApiKey::CreateAcls), &request)
        .expect("an answer");
    let (last, refused) = answer.results.split_last().expect("rows");
    for (at, row) in refused.iter().enumerate() {
        assert_eq!(row.error_code, ErrorCode::INVALID_REQUEST, "row {at}");
    }
    assert_eq!(last.error_code, ErrorCode::NONE);
    assert_eq!(
        remove(&mut world.admin(), filter("a32", READ, ALLOW)),
        (ErrorCode::NONE, 1)
    );
}

fn rules_without_alter(world: &World) {
    add(world, vec![rule("User:carol", "a33", LITERAL, READ, ALLOW)]);
    let mut bob = world.bob();
    let request = CreateAclsRequest {
        creations: vec![rule(BOB, "*", LITERAL, ALL, ALLOW)],
    };
    let answer = bob
        .call(newest(ApiKey::CreateAcls), &request)
        .expect("an answer");
    let refused = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    assert_eq!(answer.results[0].error_code, refused);
    let everything = DeleteAclsFilter {
        resource_type_filter: 1,
        resource_name_filter: None,
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    };
    assert_eq!(remove(&mut bob, everything), (refused, 0));
    assert_eq!(
        remove(&mut world.admin(), filter("a33", READ, ALLOW)),
        (ErrorCode::NONE, 1)
    );
}

fn absurd_names(world: &World) {
    let request = CreateAclsRequest {
        creations: vec![
            rule(BOB, &"x".repeat(32_000), LITERAL, READ, ALLOW),
            rule("User:b\0b", "a34", LITERAL, READ, ALLOW),
        ],
    };
    let answer = world
        .admin()
        .call(newest(ApiKey::CreateAcls), &request)
        .expect("an answer");
    for row in answer.results {
        assert_eq!(row.error_code, ErrorCode::INVALID_REQUEST);
    }
}

fn super_user(world: &World) {
    let id = topic(world, "a35");
    let principal = "User:CN=admin";
    add(world, vec![rule(principal, "*", LITERAL, ALL, DENY)]);
    let mut admin = world.admin();
    assert_eq!(write(&mut admin, "a35", id), ErrorCode::NONE);
    remove(&mut admin, filter("*", ALL, DENY));
}

fn foreign_scope(world: &World) {
    // Vote, BrokerRegistration, Envelope, AlterPartition: nodes speak these, on listeners of their own.
    for key in [52, 56, 58, 62] {
        for mut connection in [world.bob(), world.admin()] {
            send(&mut connection, key, 0, &[0; 64]);
            closed(connection, &format!("key {key}"));
        }
    }
}

fn silent_produce(world: &World) {
    let id = topic(world, "a48");
    let mut bob = world.bob();
    bob.call(0, &ApiVersionsRequest::default())
        .expect("bob is in");
    let records = requests::batch(Codec::None, &[b"x"], 1_700_000_000_000);
    let request = requests::produce_request("a48", id, 0, 0, records);
    bob.ask(newest(ApiKey::Produce), &request).expect("sent");
    closed(bob, "acks=0 to a forbidden topic");
    let end = requests::latest_offset(&mut world.admin(), "a48");
    assert_eq!(end.expect("an offset"), 0);
}
