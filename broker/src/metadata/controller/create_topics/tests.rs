//! CreateTopics: rows, errors, rights, what is created.

use palisade_auth::acl::{Operation, ResourceType};
use palisade_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopicConfig,
};
use palisade_protocol::types::BrokerId;

use super::super::Descriptors;
use super::super::testing::{Bench, allow, internal, user};
use super::*;

fn topic(name: &'static str) -> CreatableTopic {
    CreatableTopic {
        name: Str::from(name),
        num_partitions: -1,
        replication_factor: -1,
        ..CreatableTopic::default()
    }
}

fn request(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics,
        ..CreateTopicsRequest::default()
    }
}

fn config(name: &'static str, value: Option<&'static str>) -> CreatableTopicConfig {
    CreatableTopicConfig {
        name: Str::from(name),
        value: value.map(Str::from),
    }
}

fn create(bench: &mut Bench, topics: Vec<CreatableTopic>) -> Vec<CreatableTopicResult> {
    bench.submit(&request(topics), 7, user("root")).topics
}

fn codes(rows: &[CreatableTopicResult]) -> Vec<(&str, ErrorCode)> {
    rows.iter()
        .map(|row| (&*row.name, row.error_code))
        .collect()
}

#[test]
fn a_topic_with_defaults() {
    let mut bench = Bench::new();
    let rows = create(&mut bench, vec![topic("orders")]);
    assert_eq!(codes(&rows), [("orders", ErrorCode::NONE)]);
    let row = &rows[0];
    assert_eq!((row.num_partitions, row.replication_factor), (1, 1));
    assert_eq!(row.topic_id.as_bytes()[6] >> 4, 4, "version 4");
    let created = bench.image.topics.get("orders").unwrap();
    assert_eq!(created.id, row.topic_id);
    assert_eq!(bench.image.topics.by_id(row.topic_id), Some(created));
    let partition = &created.partitions[0];
    assert_eq!(partition.leader, Some(BrokerId::new(0)));
    assert_eq!(partition.isr, [BrokerId::new(0)]);
    assert_eq!(
        (partition.leader_epoch.value(), partition.partition_epoch),
        (0, 0)
    );
    let delta = &bench.last_delta;
    assert_eq!(
        delta.topics_created.keys().collect::<Vec<_>>(),
        [&row.topic_id]
    );
    assert!(delta.topics_changed.is_empty());
}

#[test]
fn the_answer_echoes_settings_as_set() {
    let mut bench = Bench::new();
    let mut wanted = topic("a");
    wanted.configs = vec![
        config("retention.ms", Some("1")),
        config("segment.bytes", Some(" 2048")),
        config("retention.ms", Some("60000")),
    ];
    let rows = create(&mut bench, vec![wanted]);
    assert_eq!(codes(&rows), [("a", ErrorCode::NONE)]);
    let configs = rows[0].configs.as_ref().unwrap();
    assert!(configs.is_sorted_by(|a, b| a.name < b.name));
    let find = |name: &str| configs.iter().find(|config| config.name == *name).unwrap();
    assert_eq!(
        find("retention.ms").value.as_deref(),
        Some("60000"),
        "the last one counts"
    );
    assert_eq!(find("retention.ms").config_source, 1);
    assert_eq!(find("segment.bytes").value.as_deref(), Some(" 2048"));
    assert_eq!(find("max.message.bytes").config_source, 5);
    let config = &bench.image.topics.get("a").unwrap().config;
    assert_eq!(config.get("retention.ms"), Some("60000"));
}

#[test]
fn validate_only_checks_and_changes_nothing() {
    let mut bench = Bench::new();
    let mut wanted = request(vec![topic("a"), topic("b c")]);
    wanted.validate_only = true;
    let rows = bench.submit(&wanted, 7, user("root")).topics;
    assert_eq!(
        codes(&rows),
        [
            ("a", ErrorCode::NONE),
            ("b c", ErrorCode::INVALID_TOPIC_EXCEPTION)
        ]
    );
    assert_ne!(rows[0].topic_id, Uuid::NIL);
    assert!(bench.image.topics.is_empty());
}

#[test]
fn faults_of_one_topic_leave_the_others() {
    let mut bench = Bench::new();
    create(&mut bench, vec![topic("there"), topic("a_b")]);
    let count = |name, partitions, replicas| CreatableTopic {
        num_partitions: partitions,
        replication_factor: replicas,
        ..topic(name)
    };
    let with = |name, configs| CreatableTopic {
        configs,
        ..topic(name)
    };
    let rows = create(
        &mut bench,
        vec![
            topic("twice"),
            topic("good"),
            topic("there"),
            topic("twice"),
            topic("a.b"),
            topic(".."),
            topic("__cluster_metadata"),
            count("none", 0, 1),
            count("less", -2, 1),
            count("rf0", 1, 0),
            count("rf2", 1, 2),
            with("unknown", vec![config("no.such.key", Some("1"))]),
            with("null", vec![config("retention.ms", None)]),
            with("policy", vec![config("cleanup.policy", Some("shrink"))]),
        ],
    );
    assert_eq!(
        codes(&rows),
        [
            ("twice", ErrorCode::INVALID_REQUEST),
            ("good", ErrorCode::NONE),
            ("there", ErrorCode::TOPIC_ALREADY_EXISTS),
            ("a.b", ErrorCode::INVALID_TOPIC_EXCEPTION),
            ("..", ErrorCode::INVALID_TOPIC_EXCEPTION),
            ("__cluster_metadata", ErrorCode::INVALID_REQUEST),
            ("none", ErrorCode::INVALID_PARTITIONS),
            ("less", ErrorCode::INVALID_PARTITIONS),
            ("rf0", ErrorCode::INVALID_REPLICATION_FACTOR),
            ("rf2", ErrorCode::INVALID_REPLICATION_FACTOR),
            ("unknown", ErrorCode::INVALID_CONFIG),
            ("null", ErrorCode::INVALID_CONFIG),
            ("policy", ErrorCode::INVALID_CONFIG),
        ]
    );
    let text = |at: usize| rows[at].error_message.as_deref().unwrap().to_owned();
    assert_eq!(text(0), "Duplicate topic name.");
    assert_eq!(text(2), "Topic 'there' already exists.");
    assert_eq!(text(3), "Topic 'a.b' collides with existing topic: a_b");
    assert_eq!(
        text(6),
        "Number of partitions was set to an invalid non-positive value."
    );
    assert_eq!(
        text(8),
        "Replication factor must be larger than 0, or -1 to use the default value."
    );
    assert_eq!(
        text(9),
        "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be \
         reached because only 1 broker(s) are registered."
    );
    assert_eq!(text(10), "Unknown topic config name: no.such.key");
    assert_eq!(
        text(11),
        "Null value not supported for topic configs: retention.ms"
    );
    for row in rows.iter().filter(|row| row.error_code.is_error()) {
        assert_eq!((row.topic_id, row.num_partitions), (Uuid::NIL, -1));
        assert_eq!(row.configs, Some(Vec::new()));
    }
    assert_eq!(bench.image.topics.len(), 3);
}

#[test]
fn chosen_assignments() {
    let mut bench = Bench::with_brokers(&[(0, None, true), (1, None, true), (2, None, false)]);
    let assigned = |name, assignments: &[(i32, &[i32])]| CreatableTopic {
        assignments: assignments
            .iter()
            .map(|(partition_index, broker_ids)| CreatableReplicaAssignment {
                partition_index: *partition_index,
                broker_ids: broker_ids.to_vec(),
            })
            .collect(),
        ..topic(name)
    };
    let counted = CreatableTopic {
        num_partitions: 1,
        ..assigned("counted", &[(0, &[0])])
    };
    let replicated = CreatableTopic {
        replication_factor: 1,
        ..assigned("repl", &[(0, &[0])])
    };
    let rows = create(
        &mut bench,
        vec![
            assigned("good", &[(1, &[1, 0]), (0, &[2, 1])]),
            counted,
            replicated,
            assigned("gap", &[(0, &[0]), (2, &[0])]),
            assigned("twice", &[(0, &[0]), (0, &[1])]),
            assigned("uneven", &[(0, &[0]), (1, &[0, 1])]),
            assigned("fenced", &[(0, &[2])]),
        ],
    );
    assert_eq!(
        codes(&rows),
        [
            ("good", ErrorCode::NONE),
            ("counted", ErrorCode::INVALID_REQUEST),
            ("repl", ErrorCode::INVALID_REQUEST),
            ("gap", ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            ("twice", ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            ("uneven", ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            ("fenced", ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        ]
    );
    let good = bench.image.topics.get("good").unwrap();
    assert_eq!(
        good.partitions[0].leader,
        Some(BrokerId::new(1)),
        "the preferred one is fenced"
    );
    assert_eq!(good.partitions[1].leader, Some(BrokerId::new(1)));
    assert_eq!((rows[0].num_partitions, rows[0].replication_factor), (2, 2));
}

#[test]
fn rights_come_before_existence_and_names() {
    let mut bench = Bench::new();
    bench.apply(&[allow("ann", Operation::Create, ResourceType::Topic, "mine")]);
    create(&mut bench, vec![topic("there")]);
    let rows = bench
        .submit(
            &request(vec![
                topic("mine"),
                topic("there"),
                topic("not legal"),
                topic("mine2"),
            ]),
            7,
            user("ann"),
        )
        .topics;
    assert_eq!(
        codes(&rows),
        [
            ("mine", ErrorCode::NONE),
            ("there", ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            ("not legal", ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            ("mine2", ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        ]
    );
    // Created, but its settings are withheld from one who may not describe them.
    assert!(bench.image.topics.get("mine").is_some());
    assert_eq!(
        rows[0].topic_config_error_code,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
    );
    assert_eq!(
        (rows[0].num_partitions, rows[0].replication_factor),
        (-1, -1)
    );
    assert_eq!(rows[0].configs, Some(Vec::new()));
}

#[test]
fn creating_on_the_cluster_is_enough() {
    let mut bench = Bench::new();
    bench.apply(&[allow(
        "ann",
        Operation::Create,
        ResourceType::Cluster,
        "kafka-cluster",
    )]);
    let rows = bench
        .submit(&request(vec![topic("any")]), 7, user("ann"))
        .topics;
    assert_eq!(codes(&rows), [("any", ErrorCode::NONE)]);
}

#[test]
fn too_many_partitions_refuse_the_whole_request() {
    let mut bench = Bench::new();
    let many = CreatableTopic {
        num_partitions: i32::MAX,
        ..topic("many")
    };
    let rows = create(&mut bench, vec![topic("a"), many]);
    assert!(
        rows.iter()
            .all(|row| row.error_code == ErrorCode::POLICY_VIOLATION),
        "{rows:?}"
    );
    assert!(bench.image.topics.is_empty());
}

#[test]
fn topics_leave_the_last_descriptors() {
    let mut bench = Bench::new();
    // A quarter is kept, and 5 are left.
    bench.settings.descriptors = Descriptors::fixed(100, || Some(70));
    let of = |name, partitions| CreatableTopic {
        num_partitions: partitions,
        ..topic(name)
    };
    let mut wanted = request(vec![of("a", 3), of("b", 3), of("c", 2), of("d", 1)]);
    let expected = [
        ("a", ErrorCode::NONE),
        ("b", ErrorCode::POLICY_VIOLATION),
        ("c", ErrorCode::NONE),
        ("d", ErrorCode::POLICY_VIOLATION),
    ];
    for validate_only in [true, false] {
        wanted.validate_only = validate_only;
        let rows = bench.submit(&wanted, 7, user("root")).topics;
        assert_eq!(codes(&rows), expected);
        let text = rows[1].error_message.as_deref().unwrap();
        assert!(text.contains("file descriptors"), "{text}");
        assert!(
            text.contains("3 partition(s)") && text.contains("has 2 for"),
            "{text}"
        );
    }
    assert_eq!(bench.image.topics.len(), 2);
    // Its own topics the broker always gets, and no others that it is told to make at its start.
    let wanted = ["__consumer_offsets", "declared"].map(|name| of(name, 50));
    let rows = bench
        .submit(&request(wanted.to_vec()), 7, internal())
        .topics;
    let expected = [
        ("__consumer_offsets", ErrorCode::NONE),
        ("declared", ErrorCode::POLICY_VIOLATION),
    ];
    assert_eq!(codes(&rows), expected);
}

#[test]
fn topics_may_be_compacted() {
    let mut bench = Bench::new();
    for (name, policy) in [("one", "compact"), ("both", "compact,delete")] {
        let mut wanted = topic(name);
        wanted.configs = vec![config("cleanup.policy", Some(policy))];
        let rows = create(&mut bench, vec![wanted]);
        assert_eq!(codes(&rows), [(name, ErrorCode::NONE)]);
    }
}

#[test]
fn without_a_decision_every_topic_fails_once() {
    let wanted = request(vec![topic("a"), topic("b"), topic("a")]);
    let rows = wanted
        .refused(7, &ControllerError::NotLeader { leader: None })
        .topics;
    assert_eq!(
        codes(&rows),
        [
            ("a", ErrorCode::NOT_CONTROLLER),
            ("b", ErrorCode::NOT_CONTROLLER)
        ]
    );
    let late = wanted.refused(7, &ControllerError::TimedOut).topics;
    assert_eq!(late[0].error_code, ErrorCode::REQUEST_TIMED_OUT);
    assert_eq!(late[0].error_message, None);
}

#[test]
fn two_names_that_collide_may_come_together_and_keep_the_third_out() {
    let mut bench = Bench::new();
    let rows = create(&mut bench, vec![topic("a.b"), topic("a_b")]);
    assert!(
        rows.iter().all(|row| row.error_code == ErrorCode::NONE),
        "{rows:?}"
    );
    let id = bench.image.topics.get("a.b").unwrap().id;
    bench.apply(&[MetadataRecord::RemoveTopic { id }]);
    let rows = create(&mut bench, vec![topic("a.b")]);
    assert_eq!(rows[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
}
