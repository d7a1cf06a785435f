//! DeleteTopics: by name and by id, rights, duplicates.

use palisade_auth::acl::ResourceType;
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use palisade_protocol::messages::delete_topics::DeleteTopicState;

use super::super::testing::{Bench, allow, user};
use super::*;

fn bench(topics: &[&'static str]) -> Bench {
    let mut bench = Bench::new();
    let topics = topics.iter().map(|name| CreatableTopic {
        name: Str::from(*name),
        num_partitions: 2,
        replication_factor: 1,
        ..CreatableTopic::default()
    });
    let request = CreateTopicsRequest {
        topics: topics.collect(),
        ..Default::default()
    };
    bench.submit(&request, 7, user("root"));
    bench
}

fn named(name: &'static str) -> DeleteTopicState {
    DeleteTopicState {
        name: Some(Str::from(name)),
        topic_id: Uuid::NIL,
    }
}

fn by_id(id: Uuid) -> DeleteTopicState {
    DeleteTopicState {
        name: None,
        topic_id: id,
    }
}

fn request(topics: Vec<DeleteTopicState>) -> DeleteTopicsRequest {
    DeleteTopicsRequest {
        topics,
        timeout_ms: 1000,
        ..DeleteTopicsRequest::default()
    }
}

fn shown(row: &DeletableTopicResult) -> (Option<&str>, bool, ErrorCode) {
    (
        row.name.as_deref(),
        row.topic_id != Uuid::NIL,
        row.error_code,
    )
}

#[test]
fn by_name_and_by_id() {
    let mut bench = bench(&["a", "b", "c"]);
    let id = |bench: &Bench, name: &str| bench.image.topics.get(name).unwrap().id;
    let (a, b) = (id(&bench, "a"), id(&bench, "b"));
    let wanted = request(vec![
        named("a"),
        by_id(b),
        named("zz"),
        by_id(Uuid::from_bytes([9; 16])),
    ]);
    let rows = bench.submit(&wanted, 6, user("root")).responses;
    assert_eq!(
        rows.iter().map(shown).collect::<Vec<_>>(),
        [
            (Some("a"), true, ErrorCode::NONE),
            (Some("b"), true, ErrorCode::NONE),
            (Some("zz"), false, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (None, true, ErrorCode::UNKNOWN_TOPIC_ID),
        ]
    );
    assert_eq!((rows[0].topic_id, rows[1].topic_id), (a, b));
    assert_eq!(
        bench
            .image
            .topics
            .iter()
            .map(|topic| &*topic.name)
            .collect::<Vec<_>>(),
        ["c"]
    );
    assert_eq!(bench.last_delta.topics_deleted.len(), 2);
}

#[test]
fn old_versions_name_topics() {
    let mut bench = bench(&["a"]);
    let wanted = DeleteTopicsRequest {
        topic_names: vec![Str::from("a"), Str::from("b"), Str::from("b")],
        timeout_ms: 1000,
        ..DeleteTopicsRequest::default()
    };
    let rows = bench.submit(&wanted, 4, user("root")).responses;
    assert_eq!(
        rows.iter()
            .map(|row| (row.name.as_deref(), row.error_code))
            .collect::<Vec<_>>(),
        [
            (Some("a"), ErrorCode::NONE),
            (Some("b"), ErrorCode::INVALID_REQUEST)
        ]
    );
}

#[test]
fn what_is_named_twice_stays() {
    let mut bench = bench(&["a", "b", "c"]);
    let a = bench.image.topics.get("a").unwrap().id;
    let b = bench.image.topics.get("b").unwrap().id;
    let both = DeleteTopicState {
        name: Some(Str::from("c")),
        topic_id: b,
    };
    let wanted = request(vec![
        named("a"),
        by_id(a),
        by_id(b),
        by_id(b),
        both,
        DeleteTopicState::default(),
    ]);
    let rows = bench.submit(&wanted, 6, user("root")).responses;
    let texts: Vec<_> = rows
        .iter()
        .map(|row| row.error_message.as_deref().unwrap())
        .collect();
    assert_eq!(
        texts,
        [
            "The provided topic name maps to an ID that was already supplied.",
            "Duplicate topic id.",
            "You may not specify both topic name and topic id.",
            "Neither topic name nor id were specified.",
        ]
    );
    assert!(
        rows.iter()
            .all(|row| row.error_code == ErrorCode::INVALID_REQUEST)
    );
    assert_eq!(bench.image.topics.len(), 3);
}

#[test]
fn names_stay_hidden_from_those_who_may_not_describe() {
    let mut bench = bench(&["seen", "secret"]);
    bench.apply(&[allow(
        "ann",
        Operation::Describe,
        ResourceType::Topic,
        "seen",
    )]);
    let seen = bench.image.topics.get("seen").unwrap().id;
    let secret = bench.image.topics.get("secret").unwrap().id;
    let wanted = request(vec![
        by_id(seen),
        by_id(secret),
        named("secret"),
        named("nothing"),
        named("seen"),
    ]);
    let rows = bench.submit(&wanted, 6, user("ann")).responses;
    let denied = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    assert_eq!(
        rows.iter().map(shown).collect::<Vec<_>>(),
        [
            (Some("seen"), true, denied),
            (None, true, denied),
            (Some("secret"), false, denied),
            (Some("nothing"), false, denied),
            (Some("seen"), false, denied),
        ]
    );
    assert_eq!(bench.image.topics.len(), 2);
}

#[test]
fn rights_that_suffice() {
    let mut bench = bench(&["a", "b"]);
    bench.apply(&[allow("ann", Operation::Delete, ResourceType::Topic, "a")]);
    bench.apply(&[allow(
        "bob",
        Operation::Delete,
        ResourceType::Cluster,
        "kafka-cluster",
    )]);
    let rows = bench
        .submit(&request(vec![named("a")]), 6, user("ann"))
        .responses;
    assert_eq!(rows[0].error_code, ErrorCode::NONE);
    let rows = bench
        .submit(&request(vec![named("b"), named("c")]), 6, user("bob"))
        .responses;
    assert_eq!(rows[0].error_code, ErrorCode::NONE);
    assert_eq!(rows[1].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn deletion_can_be_switched_off() {
    let mut bench = bench(&["a"]);
    bench.settings.delete_topic_enable = false;
    let rows = bench
        .submit(&request(vec![named("a"), named("a")]), 6, user("nobody"))
        .responses;
    assert_eq!(rows.len(), 2);
    assert!(
        rows.iter()
            .all(|row| row.error_code == ErrorCode::TOPIC_DELETION_DISABLED)
    );
    assert!(rows.iter().all(|row| row.error_message.is_none()));
    let old = DeleteTopicsRequest {
        topic_names: vec![Str::from("a")],
        ..Default::default()
    };
    let rows = bench.submit(&old, 2, user("root")).responses;
    assert_eq!(rows[0].error_code, ErrorCode::INVALID_REQUEST);
}

#[test]
fn a_topic_made_again_is_another_one() {
    let mut first = bench(&["a"]);
    let id = first.image.topics.get("a").unwrap().id;
    first.submit(&request(vec![named("a")]), 6, user("root"));
    let again = CreatableTopic {
        name: Str::from("a"),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![again],
        ..Default::default()
    };
    first.submit(&request, 7, user("root"));
    assert_ne!(first.image.topics.get("a").unwrap().id, id);
    assert!(first.image.topics.by_id(id).is_none());
}
