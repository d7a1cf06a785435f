//! CreatePartitions: growth, assignments, rights.

use palisade_auth::acl::{Operation, ResourceType};
use palisade_protocol::Str;
use palisade_protocol::messages::create_partitions::CreatePartitionsAssignment;
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};

use super::super::Descriptors;
use super::super::testing::{Bench, allow, user};
use super::*;

fn bench() -> Bench {
    let mut bench = Bench::with_brokers(&[(0, None, true), (1, None, true)]);
    let topics = ["a", "b"].map(|name| CreatableTopic {
        name: Str::from(name),
        num_partitions: 2,
        replication_factor: 1,
        ..CreatableTopic::default()
    });
    let request = CreateTopicsRequest {
        topics: topics.to_vec(),
        ..Default::default()
    };
    bench.submit(&request, 7, user("root"));
    bench
}

fn grow(name: &'static str, count: i32, assignments: Option<&[&[i32]]>) -> CreatePartitionsTopic {
    let assignment = |ids: &&[i32]| CreatePartitionsAssignment {
        broker_ids: ids.to_vec(),
    };
    CreatePartitionsTopic {
        name: Str::from(name),
        count,
        assignments: assignments.map(|list| list.iter().map(assignment).collect()),
    }
}

fn submit(
    bench: &mut Bench,
    topics: Vec<CreatePartitionsTopic>,
    who: &str,
) -> Vec<(ErrorCode, String)> {
    let request = CreatePartitionsRequest {
        topics,
        timeout_ms: 1000,
        validate_only: false,
    };
    let rows = bench.submit(&request, 3, user(who)).results;
    rows.iter()
        .map(|row| {
            (
                row.error_code,
                row.error_message.as_deref().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

fn count(bench: &Bench, name: &str) -> usize {
    bench.image.topics.get(name).unwrap().partitions.len()
}

#[test]
fn topics_leave_the_last_descriptors() {
    let mut bench = bench();
    // A quarter is kept, and 5 are left.
    bench.settings.descriptors = Descriptors::fixed(100, || Some(70));
    let rows = submit(
        &mut bench,
        vec![grow("a", 5, None), grow("b", 5, None)],
        "root",
    );
    assert_eq!(rows[0].0, ErrorCode::NONE);
    assert_eq!(rows[1].0, ErrorCode::POLICY_VIOLATION);
    assert!(rows[1].1.contains("file descriptors"), "{}", rows[1].1);
    assert_eq!((count(&bench, "a"), count(&bench, "b")), (5, 2));
}

#[test]
fn topics_grow() {
    let mut bench = bench();
    let rows = submit(
        &mut bench,
        vec![grow("a", 5, None), grow("b", 3, Some(&[&[1]]))],
        "root",
    );
    assert!(
        rows.iter().all(|(code, _)| *code == ErrorCode::NONE),
        "{rows:?}"
    );
    assert_eq!((count(&bench, "a"), count(&bench, "b")), (5, 3));
    let b = bench.image.topics.get("b").unwrap();
    assert_eq!(b.partitions[2].replicas[0].value(), 1);
    assert_eq!(bench.last_delta.topics_changed[&b.id].partitions.len(), 1);
    assert!(bench.last_delta.topics_created.is_empty());
}

#[test]
fn what_is_no_growth_is_refused() {
    let mut bench = bench();
    let rows = submit(
        &mut bench,
        vec![grow("a", 2, None), grow("b", 1, None), grow("zz", 9, None)],
        "root",
    );
    assert_eq!(
        rows[0],
        (
            ErrorCode::INVALID_PARTITIONS,
            "Topic already has 2 partition(s).".into()
        )
    );
    assert_eq!(
        rows[1],
        (
            ErrorCode::INVALID_PARTITIONS,
            "The topic b currently has 2 partition(s); 1 would not be an increase.".into()
        )
    );
    assert_eq!(
        rows[2],
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, String::new())
    );
    let rows = submit(&mut bench, vec![grow("a", i32::MAX, None)], "root");
    assert_eq!(rows[0].0, ErrorCode::POLICY_VIOLATION);
}

#[test]
fn assignments_must_fit() {
    for (assignments, code) in [
        (&[][..], ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (&[&[0][..]][..], ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (
            &[&[0][..], &[0, 1]][..],
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        ),
        (&[&[0][..], &[7]][..], ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (&[&[0][..], &[1]][..], ErrorCode::NONE),
    ] {
        let rows = submit(&mut bench(), vec![grow("a", 4, Some(assignments))], "root");
        assert_eq!(rows[0].0, code, "{assignments:?}: {}", rows[0].1);
    }
}

#[test]
fn duplicates_and_rights() {
    let mut bench = bench();
    bench.apply(&[allow("ann", Operation::Alter, ResourceType::Topic, "a")]);
    bench.apply(&[allow("ann", Operation::Create, ResourceType::Topic, "b")]);
    let rows = submit(
        &mut bench,
        vec![
            grow("zz", 3, None),
            grow("a", 3, None),
            grow("b", 3, None),
            grow("zz", 3, None),
        ],
        "ann",
    );
    let codes: Vec<ErrorCode> = rows.iter().map(|row| row.0).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::INVALID_REQUEST,
            ErrorCode::NONE,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ]
    );
    assert_eq!((count(&bench, "a"), count(&bench, "b")), (3, 2));
}

#[test]
fn validate_only_changes_nothing() {
    let mut bench = bench();
    let request = CreatePartitionsRequest {
        topics: vec![grow("a", 9, None)],
        timeout_ms: 1000,
        validate_only: true,
    };
    let rows = bench.submit(&request, 3, user("root")).results;
    assert_eq!(rows[0].error_code, ErrorCode::NONE);
    assert_eq!(count(&bench, "a"), 2);
}
