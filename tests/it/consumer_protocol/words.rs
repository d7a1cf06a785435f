//! Single requests and their exact answers, the same as Apache Kafka's.

use bytes::{BufMut, Bytes, BytesMut};
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use palisade_protocol::messages::delete_groups::DeleteGroupsRequest;
use palisade_protocol::messages::heartbeat::HeartbeatRequest;
use palisade_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use palisade_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use palisade_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use palisade_protocol::text::Str;
use palisade_tests::check::eventually;
use palisade_tests::requests;
use palisade_tests::target::Target;
use palisade_tests::wire::Connection;

use super::{PATIENCE, coordinator, describe};

const TOPIC: &str = "words";

/// A group, and a connection to its coordinator.
struct Group {
    name: &'static str,
    connection: Connection,
}

impl Group {
    fn open(target: &Target, name: &'static str) -> Group {
        let access = target.scram("SCRAM-SHA-512");
        let mut connection = coordinator(&access, name);
        // The tests of one target share the topic.
        let _ = requests::create_topic(&mut connection, TOPIC, 2, &[]);
        let mut group = Group { name, connection };
        // The reference may still be loading the partition of the group.
        eventually("the coordinator", PATIENCE, || {
            let answer = group.beat("nobody", 1);
            match answer.error_code {
                ErrorCode::GROUP_ID_NOT_FOUND => Ok(()),
                code => Err(code.name().to_owned()),
            }
        });
        // Nor need it have heard of the topic.
        eventually("the topic", PATIENCE, || {
            let mut connection = Connection::open(&access).expect("a login");
            let mut request = joining("probe", None);
            request.group_id = "probe".into();
            let answer = connection.call(1, &request).expect("an answer");
            let assigned = answer.assignment.unwrap_or_default();
            match assigned.topic_partitions.is_empty() {
                true => Err(answer.error_code.name().to_owned()),
                false => Ok(()),
            }
        });
        group
    }

    fn send(
        &mut self,
        mut request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        request.group_id = self.name.into();
        self.connection.call(1, &request).expect("an answer")
    }

    fn beat(&mut self, member: &'static str, epoch: i32) -> ConsumerGroupHeartbeatResponse {
        self.send(beat(member, epoch))
    }

    fn join(&mut self, member: &'static str, instance: Option<&'static str>) -> (ErrorCode, i32) {
        let answer = self.send(joining(member, instance));
        (answer.error_code, answer.member_epoch)
    }

    fn classic_join(&mut self, member: &Str) -> JoinGroupResponse {
        let mut metadata = BytesMut::new();
        metadata.put_slice(b"\0\x01\0\0\0\x01\0\x05words\xff\xff\xff\xff\0\0\0\0");
        let protocol = |name: &'static str| JoinGroupRequestProtocol {
            name: name.into(),
            metadata: Bytes::copy_from_slice(&metadata),
        };
        let request = JoinGroupRequest {
            group_id: self.name.into(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 60_000,
            member_id: member.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol("range"), protocol("cooperative-sticky")],
            ..JoinGroupRequest::default()
        };
        self.connection.call(9, &request).expect("an answer")
    }

    fn classic_sync(&mut self, member: &Str, generation: i32) -> SyncGroupResponse {
        let request = SyncGroupRequest {
            group_id: self.name.into(),
            generation_id: generation,
            member_id: member.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            ..SyncGroupRequest::default()
        };
        self.connection.call(5, &request).expect("an answer")
    }

    fn classic_beat(&mut self, member: &Str, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: self.name.into(),
            generation_id: generation,
            member_id: member.clone(),
            ..HeartbeatRequest::default()
        };
        self.connection
            .call(4, &request)
            .expect("an answer")
            .error_code
    }
}

fn beat(member: &'static str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        member_id: member.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

fn joining(member: &'static str, instance: Option<&'static str>) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        instance_id: instance.map(Str::from),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![TOPIC.into()]),
        topic_partitions: Some(Vec::new()),
        ..beat(member, 0)
    }
}

#[test]
fn members_and_epochs() {
    let target = Target::start();
    let mut group = Group::open(&target, "epochs");
    assert_eq!(group.join("a", None), (ErrorCode::NONE, 2));
    assert_eq!(group.beat("b", 2).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(
        group.beat("a", 3).error_code,
        ErrorCode::FENCED_MEMBER_EPOCH
    );
    assert_eq!(
        group.beat("a", 1).error_code,
        ErrorCode::FENCED_MEMBER_EPOCH
    );
    let answer = group.beat("a", 2);
    assert_eq!(
        (answer.error_code, answer.member_epoch),
        (ErrorCode::NONE, 2)
    );
    assert_eq!(
        (answer.heartbeat_interval_ms, answer.assignment),
        (5000, None)
    );
    let full = group.send(ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![TOPIC.into()]),
        topic_partitions: Some(Vec::new()),
        ..beat("a", 2)
    });
    assert!(full.assignment.is_some());
    let mut wrong = beat("a", 2);
    wrong.server_assignor = Some("sticky".into());
    let answer = group.send(wrong);
    assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_ASSIGNOR);
    assert_eq!((answer.member_id, answer.member_epoch), (None, 0));
    assert_eq!(group.beat("a", -3).error_code, ErrorCode::INVALID_REQUEST);
    let shown = describe(&mut group.connection, "epochs");
    assert_eq!((&*shown.group_state, shown.group_epoch), ("Stable", 2));
    assert_eq!(&*shown.assignor_name, "uniform");
    let member = &shown.members[0];
    assert_eq!(member.subscribed_topic_regex.as_deref(), Some(""));
    assert_eq!((member.member_epoch, member.member_type), (2, 1));
    assert_eq!(member.assignment, member.target_assignment);
    let left = group.beat("a", -1);
    assert_eq!((left.error_code, left.member_epoch), (ErrorCode::NONE, -1));
    assert_eq!(left.heartbeat_interval_ms, 0);
    let shown = describe(&mut group.connection, "epochs");
    assert_eq!((&*shown.group_state, shown.group_epoch), ("Empty", 3));
}

#[test]
fn static_members() {
    let target = Target::start();
    let mut group = Group::open(&target, "statics");
    assert_eq!(group.join("a", Some("i")), (ErrorCode::NONE, 2));
    assert_eq!(
        group.join("b", Some("i")),
        (ErrorCode::UNRELEASED_INSTANCE_ID, 0)
    );
    let instance = |member, epoch, name: &'static str| ConsumerGroupHeartbeatRequest {
        instance_id: Some(name.into()),
        ..beat(member, epoch)
    };
    let code = |group: &mut Group, request| group.send(request).error_code;
    assert_eq!(
        code(&mut group, instance("b", 2, "i")),
        ErrorCode::FENCED_INSTANCE_ID
    );
    assert_eq!(
        code(&mut group, instance("a", 2, "j")),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    let paused = group.send(instance("a", -2, "i"));
    assert_eq!(
        (paused.error_code, paused.member_epoch),
        (ErrorCode::NONE, -2)
    );
    assert_eq!(
        code(&mut group, instance("a", 2, "i")),
        ErrorCode::FENCED_MEMBER_EPOCH
    );
    assert_eq!(
        &*describe(&mut group.connection, "statics").group_state,
        "Reconciling"
    );
    assert_eq!(group.join("b", Some("i")), (ErrorCode::NONE, 2));
    assert_eq!(
        code(&mut group, instance("a", 2, "i")),
        ErrorCode::FENCED_INSTANCE_ID
    );
    assert_eq!(group.beat("a", 2).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_classic_member_among_natives() {
    let target = Target::start();
    let mut group = Group::open(&target, "mixed");
    assert_eq!(group.join("n", None), (ErrorCode::NONE, 2));
    let first = group.classic_join(&Str::EMPTY);
    assert_eq!(first.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    let id = first.member_id;
    assert_eq!(id.len(), 22, "{id}: chance alone");
    // The assignor waits a second between its runs; until then the member is told to rejoin.
    let joined = eventually("a generation", PATIENCE, || {
        let joined = group.classic_join(&id);
        match joined.generation_id {
            3 => Ok(joined),
            other => Err(format!("{other}: {}", joined.error_code.name())),
        }
    });
    assert_eq!((&*joined.leader, joined.members.len()), ("", 0));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    let synced = group.classic_sync(&id, 3);
    assert_eq!(synced.error_code, ErrorCode::NONE);
    assert_eq!(
        &synced.assignment[..],
        b"\0\x01\0\0\0\0\xff\xff\xff\xff",
        "nothing yet"
    );
    assert_eq!(group.classic_beat(&id, 3), ErrorCode::NONE);
    assert_eq!(group.classic_beat(&id, 2), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(
        group.classic_beat(&"n".into(), 2),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    let told = group.beat("n", 2).assignment.expect("less than before");
    let kept = told.topic_partitions[0].partitions.clone();
    let mut given = beat("n", 2);
    given.topic_partitions = Some(vec![
        palisade_protocol::messages::consumer_group_heartbeat::RequestTopicPartitions {
            topic_id: told.topic_partitions[0].topic_id,
            partitions: kept,
        },
    ]);
    assert_eq!(group.send(given).member_epoch, 3);
    assert_eq!(group.classic_beat(&id, 3), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(group.classic_join(&id).generation_id, 3);
    let synced = group.classic_sync(&id, 3);
    assert!(
        synced
            .assignment
            .starts_with(b"\0\x01\0\0\0\x01\0\x05words\0\0\0\x01\0\0\0")
    );
    let shown = describe(&mut group.connection, "mixed");
    assert_eq!(&*shown.group_state, "Stable");
    let kinds: Vec<i8> = shown
        .members
        .iter()
        .map(|member| member.member_type)
        .collect();
    assert!(kinds.contains(&0) && kinds.contains(&1), "{kinds:?}");
    let leave = LeaveGroupRequest {
        group_id: "mixed".into(),
        members: vec![MemberIdentity {
            member_id: "n".into(),
            ..MemberIdentity::default()
        }],
        ..LeaveGroupRequest::default()
    };
    let left = group.connection.call(5, &leave).expect("an answer");
    assert_eq!(left.members[0].error_code, ErrorCode::NONE);
    // Only the classic member is left: the group is a classic one, in which it must rejoin.
    let shown = describe(&mut group.connection, "mixed");
    assert_eq!(shown.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(group.classic_beat(&id, 4), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(group.classic_beat(&id, 3), ErrorCode::REBALANCE_IN_PROGRESS);
}

/// An empty group of either kind becomes one of the other by the first join, and keeps its offsets.
#[test]
fn empty_groups_change_their_kind() {
    let target = Target::start();
    let mut group = Group::open(&target, "turning");
    let committed = |group: &mut Group| {
        let request = OffsetFetchRequest {
            group_id: "turning".into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: TOPIC.into(),
                partition_indexes: vec![0],
            }]),
            ..OffsetFetchRequest::default()
        };
        let answer = group.connection.call(7, &request).expect("an answer");
        answer.topics[0].partitions[0].committed_offset
    };
    let commit = OffsetCommitRequest {
        group_id: "turning".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 42,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    // A simple group is an empty classic one.
    let answer = group.connection.call(8, &commit).expect("an answer");
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    assert_eq!(group.beat("n", 1).error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(group.join("n", None), (ErrorCode::NONE, 2));
    assert_eq!(committed(&mut group), 42);
    let refused = group.connection.call(8, &commit).expect("an answer");
    assert_eq!(
        refused.topics[0].partitions[0].error_code,
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    assert_eq!(group.beat("n", -1).member_epoch, -1);
    // Classic again, from the first generation.
    let unknown = group.classic_join(&"somebody".into());
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    let id = group.classic_join(&Str::EMPTY).member_id;
    let joined = group.classic_join(&id);
    assert_eq!(
        (joined.error_code, joined.generation_id),
        (ErrorCode::NONE, 1)
    );
    assert_eq!(joined.leader, id);
    assert_eq!(committed(&mut group), 42);
    let shown = describe(&mut group.connection, "turning");
    assert_eq!(shown.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    // A native member joins while the classic one is there, and takes its place.
    assert_eq!(group.join("n", None).0, ErrorCode::NONE);
    assert_eq!(group.classic_beat(&id, 1), ErrorCode::REBALANCE_IN_PROGRESS);
    let shown = describe(&mut group.connection, "turning");
    assert_eq!((shown.group_epoch, shown.members.len()), (2, 2));
    let leave = LeaveGroupRequest {
        group_id: "turning".into(),
        members: vec![MemberIdentity {
            member_id: id,
            ..MemberIdentity::default()
        }],
        ..LeaveGroupRequest::default()
    };
    let left = group.connection.call(5, &leave).expect("an answer");
    assert_eq!(left.members[0].error_code, ErrorCode::NONE);
    assert_eq!(group.beat("n", -1).member_epoch, -1);
    assert_eq!(committed(&mut group), 42);
    let delete = DeleteGroupsRequest {
        groups_names: vec!["turning".into()],
    };
    let deleted = group.connection.call(2, &delete).expect("an answer");
    assert_eq!(deleted.results[0].error_code, ErrorCode::NONE);
    assert_eq!(committed(&mut group), -1);
    let shown = describe(&mut group.connection, "turning");
    assert_eq!(shown.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
}
