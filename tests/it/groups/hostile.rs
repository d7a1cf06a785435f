//! The hostile cases of groups, numbered as in the catalogue of negative tests, and sizes at and past every limit.

use std::collections::BTreeSet;

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use palisade_protocol::messages::heartbeat::HeartbeatRequest;
use palisade_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use palisade_protocol::messages::leave_group::LeaveGroupRequest;
use palisade_protocol::messages::list_groups::ListGroupsRequest;
use palisade_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use palisade_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use palisade_protocol::text::Str;
use palisade_protocol::uuid::Uuid;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::wire::Connection;

use super::{PATIENCE, coordinator, joining};

const MECHANISM: &str = "SCRAM-SHA-512";
const USER: &str = "somebody";
const PASSWORD: &str = "somebody-secret";
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const READ: i8 = 3;
/// The longest string of the protocol.
const LONGEST: usize = 32_767;

/// A node, its administrator, and a user without rights; topics `a` and `b`.
fn scene() -> (Node, Connection, Connection) {
    let mut node = Node::prepare();
    node.set("group.initial.rebalance.delay.ms", "0");
    node.run();
    node.create_admin();
    let mut admin = coordinator(&node.certificate(), "any");
    for topic in ["a", "b"] {
        requests::create_topic(&mut admin, topic, 1, &[]).expect("a topic");
    }
    requests::set_user(&mut admin, USER, MECHANISM, PASSWORD).expect("a user");
    let access = node.scram(MECHANISM).as_user(MECHANISM, USER, PASSWORD);
    let user = Connection::open(&access).expect("a login");
    (node, admin, user)
}

fn allow(admin: &mut Connection, rights: &[(i8, &'static str)]) {
    let rules = rights.iter();
    let rules = rules.map(|(kind, name)| requests::allow(USER, *kind, name, READ));
    requests::add_acls(admin, rules.collect()).expect("rules can be added");
}

fn commit(connection: &mut Connection, group: &str, metadata: &str) -> Vec<i16> {
    let topics = ["a", "b"].map(|name| OffsetCommitRequestTopic {
        name: name.into(),
        partitions: vec![OffsetCommitRequestPartition {
            committed_offset: 5,
            committed_metadata: Some(metadata.to_owned().into()),
            ..OffsetCommitRequestPartition::default()
        }],
        ..OffsetCommitRequestTopic::default()
    });
    let request = OffsetCommitRequest {
        group_id: group.to_owned().into(),
        topics: topics.into(),
        ..OffsetCommitRequest::default()
    };
    let answer = connection.call(9, &request).expect("an answer");
    let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
    rows.map(|row| row.error_code.value()).collect()
}

fn fetched(connection: &mut Connection, group: &str) -> Vec<(String, i64)> {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.to_owned().into(),
            topics: None,
            ..OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    };
    let answer = connection.call(9, &request).expect("an answer");
    assert_eq!(answer.groups[0].error_code, ErrorCode::NONE);
    let topics = answer.groups[0].topics.iter();
    topics
        .map(|topic| (topic.name.to_string(), topic.partitions[0].committed_offset))
        .collect()
}

fn join(
    connection: &mut Connection,
    with: impl FnOnce(&mut JoinGroupRequest),
) -> JoinGroupResponse {
    let mut request = joining("limits");
    with(&mut request);
    connection.call(3, &request).expect("an answer")
}

/// A13: READ on the group and on one of two topics commits that one.
#[test]
fn a13_half_a_commit() {
    let (_node, mut admin, mut user) = scene();
    allow(&mut admin, &[(GROUP, "g"), (TOPIC, "a")]);
    assert_eq!(commit(&mut user, "g", ""), [0, 29]);
    assert_eq!(fetched(&mut admin, "g"), [("a".to_owned(), 5)]);
}

/// A14: a fetch of all topics leaves out what may not be described.
#[test]
fn a14_all_that_may_be_seen() {
    let (_node, mut admin, mut user) = scene();
    assert_eq!(commit(&mut admin, "g", ""), [0, 0]);
    allow(&mut admin, &[(GROUP, "g"), (TOPIC, "b")]);
    assert_eq!(fetched(&mut user, "g"), [("b".to_owned(), 5)]);
}

/// A30: a member whose right is taken away is refused with its next request, and so is its departure.
#[test]
fn a30_a_right_is_taken_from_a_member() {
    let (_node, mut admin, mut user) = scene();
    allow(&mut admin, &[(GROUP, "limits")]);
    let joined = join(&mut user, |_| {});
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let beat = HeartbeatRequest {
        group_id: "limits".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    let code = |user: &mut Connection| user.call(3, &beat).expect("an answer").error_code;
    assert_eq!(code(&mut user), ErrorCode::NONE);
    requests::remove_acls(&mut admin, USER).expect("rules can be deleted");
    assert_eq!(code(&mut user), ErrorCode::GROUP_AUTHORIZATION_FAILED);
    let request = LeaveGroupRequest {
        group_id: "limits".into(),
        member_id: joined.member_id,
        ..LeaveGroupRequest::default()
    };
    let answer = user.call(2, &request).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::GROUP_AUTHORIZATION_FAILED);
}

/// A45: a list of groups leaves out those that may not be described.
#[test]
fn a45_groups_that_may_be_seen() {
    let (_node, mut admin, mut user) = scene();
    assert_eq!(commit(&mut admin, "g", ""), [0, 0]);
    assert_eq!(commit(&mut admin, "h", ""), [0, 0]);
    let listed = |connection: &mut Connection| {
        let answer = connection.call(5, &ListGroupsRequest::default());
        let answer = answer.expect("an answer");
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let names = answer.groups.iter().map(|group| group.group_id.to_string());
        names.collect::<BTreeSet<_>>()
    };
    assert_eq!(listed(&mut user), BTreeSet::new());
    allow(&mut admin, &[(GROUP, "h")]);
    assert_eq!(listed(&mut user), BTreeSet::from(["h".to_owned()]));
    let all = ["g", "h"].map(str::to_owned);
    assert_eq!(listed(&mut admin), BTreeSet::from(all));
}

/// A47: a forbidden name is refused; an expression meets only what may be described.
#[test]
fn a47_subscriptions_to_what_is_forbidden() {
    let (_node, mut admin, mut user) = scene();
    allow(&mut admin, &[(GROUP, "k"), (TOPIC, "a")]);
    let joining = ConsumerGroupHeartbeatRequest {
        group_id: "k".into(),
        member_id: "m".into(),
        rebalance_timeout_ms: 60_000,
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let by_name = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some(vec!["a".into(), "b".into()]),
        ..joining.clone()
    };
    let answer = user.call(1, &by_name).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let by_expression = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some(".*".into()),
        ..joining
    };
    // The expression is looked up beside the heartbeats: one of the next has the partitions.
    let assigned = eventually("an assignment", PATIENCE, || {
        let answer = user.call(1, &by_expression).expect("an answer");
        let assigned = answer.assignment.unwrap_or_default().topic_partitions;
        match assigned.is_empty() {
            true => Err(answer.error_code.name().to_owned()),
            false => Ok(assigned),
        }
    });
    let ids: Vec<_> = assigned.iter().map(|topic| topic.topic_id).collect();
    assert_eq!(ids, [topic_id(&mut admin, "a")]);
}

fn topic_id(connection: &mut Connection, name: &'static str) -> Uuid {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(name.into()),
            ..MetadataRequestTopic::default()
        }]),
        ..MetadataRequest::default()
    };
    let answer = connection.call(12, &request).expect("an answer");
    answer.topics[0].topic_id
}

#[test]
fn timeouts_and_names_at_their_limits() {
    let (_node, mut admin, _user) = scene();
    let connection = &mut admin;
    for (timeout, code) in [
        (i32::MIN, ErrorCode::INVALID_SESSION_TIMEOUT),
        (-1, ErrorCode::INVALID_SESSION_TIMEOUT),
        (0, ErrorCode::INVALID_SESSION_TIMEOUT),
        (5999, ErrorCode::INVALID_SESSION_TIMEOUT),
        (6000, ErrorCode::NONE),
        (1_800_000, ErrorCode::NONE),
        (1_800_001, ErrorCode::INVALID_SESSION_TIMEOUT),
        (i32::MAX, ErrorCode::INVALID_SESSION_TIMEOUT),
    ] {
        let group = Str::from(format!("timeout-{timeout}"));
        let answer = join(connection, |ask| {
            ask.group_id = group;
            ask.session_timeout_ms = timeout;
            ask.rebalance_timeout_ms = i32::MAX;
        });
        assert_eq!(answer.error_code, code, "{timeout}");
        if code.is_error() {
            assert_eq!((answer.generation_id, &*answer.leader), (-1, ""));
        }
    }
    let answer = join(connection, |ask| ask.group_id = Str::EMPTY);
    assert_eq!(answer.error_code, ErrorCode::INVALID_GROUP_ID);
    let long = "x".repeat(LONGEST);
    let answer = join(connection, |ask| {
        ask.group_id = long.clone().into();
        ask.protocol_type = long.clone().into();
        ask.protocols[0].name = long.clone().into();
    });
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let answer = join(connection, |ask| ask.member_id = long.clone().into());
    assert_eq!(answer.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(answer.member_id, long);
    // As many protocols as a member may name, and one more.
    for (extra, code) in [
        (99, ErrorCode::NONE),
        (100, ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        (10_000, ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
    ] {
        let answer = join(connection, |ask| {
            ask.group_id = format!("many-{extra}").into();
            let extra = (0..extra).map(|number| JoinGroupRequestProtocol {
                name: format!("p{number}").into(),
                ..JoinGroupRequestProtocol::default()
            });
            ask.protocols.extend(extra);
        });
        assert_eq!(answer.error_code, code, "{extra}");
    }
}

#[test]
fn texts_beside_offsets_at_their_limit() {
    let (_node, mut admin, _user) = scene();
    assert_eq!(commit(&mut admin, "g", &"x".repeat(4096)), [0, 0]);
    assert_eq!(commit(&mut admin, "g", &"x".repeat(4097)), [12, 12]);
    assert_eq!(commit(&mut admin, "", ""), [0, 0]);
    assert_eq!(commit(&mut admin, &"g".repeat(LONGEST), ""), [0, 0]);
    assert_eq!(fetched(&mut admin, &"g".repeat(LONGEST)).len(), 2);
}

/// An assignment that the log cannot take fails its generation, not the group.
#[test]
fn an_assignment_larger_than_a_batch() {
    let (mut node, mut admin, _user) = scene();
    let joined = join(&mut admin, |_| {});
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let sync = |connection: &mut Connection, generation: i32, size: usize| {
        let request = SyncGroupRequest {
            group_id: "limits".into(),
            generation_id: generation,
            member_id: joined.member_id.clone(),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: joined.member_id.clone(),
                assignment: vec![7; size].into(),
            }],
            ..SyncGroupRequest::default()
        };
        connection.call(3, &request).expect("an answer").error_code
    };
    let code = sync(&mut admin, joined.generation_id, 2 << 20);
    assert_eq!(code, ErrorCode::UNKNOWN_SERVER_ERROR);
    let again = join(&mut admin, |ask| ask.member_id = joined.member_id.clone());
    assert_eq!(again.generation_id, joined.generation_id + 1);
    let code = sync(&mut admin, again.generation_id, 1000);
    assert_eq!(code, ErrorCode::NONE);
    node.terminate();
}
