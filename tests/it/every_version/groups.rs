//! The APIs of groups: one member goes through every version of each.

use std::time::Duration;

use bytes::Bytes;
use palisade_protocol::api::ApiKey;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use palisade_protocol::messages::delete_groups::DeleteGroupsRequest;
use palisade_protocol::messages::describe_groups::DescribeGroupsRequest;
use palisade_protocol::messages::find_coordinator::FindCoordinatorRequest;
use palisade_protocol::messages::heartbeat::HeartbeatRequest;
use palisade_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use palisade_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use palisade_protocol::messages::list_groups::ListGroupsRequest;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use palisade_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use palisade_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use palisade_protocol::text::Str;
use palisade_tests::check::eventually;
use palisade_tests::requests;

use super::{TOPIC, Walk};

const GROUP: &str = "every-version";
const TYPE: &str = "consumer";
const PROTOCOL: &str = "range";
const OFFSET: i64 = 7;
/// The first version of OffsetFetch with several groups.
const GROUPS_IN_FETCH: i16 = 8;
/// The first version of OffsetCommit and OffsetFetch with topics by id.
const BY_ID: i16 = 10;
/// The first version of LeaveGroup with several members.
const MEMBERS_IN_LEAVE: i16 = 3;

pub(super) fn groups(walk: &mut Walk) {
    walk.each(
        |_, version| FindCoordinatorRequest {
            key: if version < 4 {
                GROUP.into()
            } else {
                Str::EMPTY
            },
            coordinator_keys: (version >= 4).then(|| GROUP.into()).into_iter().collect(),
            ..FindCoordinatorRequest::default()
        },
        |answer| {
            let rows = answer.coordinators.iter().map(|row| row.error_code);
            rows.chain([answer.error_code]).collect()
        },
    );
    requests::await_coordinators(&mut walk.connection, GROUP, Duration::from_secs(60));
    let member = joined(walk, 0, "");
    let (id, generation) = (member.member_id, member.generation_id);
    // The same member with the same metadata is told its generation again.
    walk.each(
        |_, _| join(&id),
        |answer| {
            assert_eq!((&answer.member_id, answer.generation_id), (&id, generation));
            vec![answer.error_code]
        },
    );
    walk.each(
        |_, version| SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: generation,
            member_id: id.clone(),
            protocol_type: (version >= 5).then(|| TYPE.into()),
            protocol_name: (version >= 5).then(|| PROTOCOL.into()),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: id.clone(),
                assignment: Bytes::from_static(b"all of it"),
            }],
            ..SyncGroupRequest::default()
        },
        |answer| {
            assert_eq!(&answer.assignment[..], b"all of it");
            vec![answer.error_code]
        },
    );
    walk.each(
        |_, _| HeartbeatRequest {
            group_id: GROUP.into(),
            generation_id: generation,
            member_id: id.clone(),
            ..HeartbeatRequest::default()
        },
        |answer| vec![answer.error_code],
    );
    walk.each(
        |walk, version| commit(walk, version, GROUP, &id, generation),
        |answer| {
            let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
            rows.map(|row| row.error_code).collect()
        },
    );
    fetch(walk);
    admin(walk);
    leave(walk);
    consumers(walk);
}

/// A consumer group gets a member by each version.
fn consumers(walk: &mut Walk) {
    const GROUP: &str = "every-version-consumers";
    walk.each(
        |_, version| ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: Str::from(format!("member-{version}")),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![TOPIC.into()]),
            topic_partitions: Some(Vec::new()),
            ..ConsumerGroupHeartbeatRequest::default()
        },
        |answer| {
            assert!(answer.member_epoch > 0 && answer.assignment.is_some());
            vec![answer.error_code]
        },
    );
    walk.each(
        |_, _| ConsumerGroupDescribeRequest {
            group_ids: vec![GROUP.into()],
            include_authorized_operations: true,
        },
        |answer| {
            let group = &answer.groups[0];
            assert!(!group.members.is_empty());
            vec![group.error_code]
        },
    );
}

fn join(member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        member_id: Str::copy(member),
        protocol_type: TYPE.into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: PROTOCOL.into(),
            // Version 0 of a subscription to no topic.
            metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 255, 255, 255, 255]),
        }],
        ..JoinGroupRequest::default()
    }
}

/// Joins once the coordinator is ready for it.
fn joined(walk: &mut Walk, version: i16, member: &str) -> JoinGroupResponse {
    eventually("a first join", Duration::from_secs(60), || {
        let answer = walk.connection.call(version, &join(member));
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.error_code {
            ErrorCode::NONE | ErrorCode::MEMBER_ID_REQUIRED => Ok(answer),
            code => Err(code.name().to_owned()),
        }
    })
}

fn commit(
    walk: &Walk,
    version: i16,
    group: &str,
    member: &str,
    generation: i32,
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: Str::copy(group),
        generation_id_or_member_epoch: generation,
        member_id: Str::copy(member),
        topics: vec![OffsetCommitRequestTopic {
            name: if version < BY_ID {
                TOPIC.into()
            } else {
                Str::EMPTY
            },
            topic_id: if version < BY_ID {
                Default::default()
            } else {
                walk.id
            },
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: OFFSET,
                committed_metadata: Some("here".into()),
                ..OffsetCommitRequestPartition::default()
            }],
        }],
        ..OffsetCommitRequest::default()
    }
}

fn fetch(walk: &mut Walk) {
    for all in [false, true] {
        walk.each(
            |walk, version| {
                // Version 1 has no word for all topics.
                let all = all && version > 1;
                if version < GROUPS_IN_FETCH {
                    let topics = vec![OffsetFetchRequestTopic {
                        name: TOPIC.into(),
                        partition_indexes: vec![0],
                    }];
                    return OffsetFetchRequest {
                        group_id: GROUP.into(),
                        topics: (!all).then_some(topics),
                        ..OffsetFetchRequest::default()
                    };
                }
                let topics = vec![OffsetFetchRequestTopics {
                    name: if version < BY_ID {
                        TOPIC.into()
                    } else {
                        Str::EMPTY
                    },
                    topic_id: if version < BY_ID {
                        Default::default()
                    } else {
                        walk.id
                    },
                    partition_indexes: vec![0],
                }];
                OffsetFetchRequest {
                    groups: vec![OffsetFetchRequestGroup {
                        group_id: GROUP.into(),
                        topics: (!all).then_some(topics),
                        ..OffsetFetchRequestGroup::default()
                    }],
                    require_stable: true,
                    ..OffsetFetchRequest::default()
                }
            },
            |answer| {
                let of_one = answer.topics.iter().flat_map(|topic| &topic.partitions);
                let of_many = answer.groups.iter().flat_map(|group| &group.topics);
                let of_many = of_many.flat_map(|topic| &topic.partitions);
                let one = of_one.map(|row| (row.committed_offset, row.error_code));
                let many = of_many.map(|row| (row.committed_offset, row.error_code));
                let rows: Vec<_> = one.chain(many).collect();
                assert_eq!(rows, [(OFFSET, ErrorCode::NONE)]);
                let groups = answer.groups.iter().map(|group| group.error_code);
                groups.chain([answer.error_code]).collect()
            },
        );
    }
}

fn admin(walk: &mut Walk) {
    walk.each(
        |_, _| DescribeGroupsRequest {
            groups: vec![GROUP.into()],
            ..DescribeGroupsRequest::default()
        },
        |answer| {
            let group = &answer.groups[0];
            assert_eq!((&*group.group_state, group.members.len()), ("Stable", 1));
            vec![group.error_code]
        },
    );
    walk.each(
        |_, _| ListGroupsRequest::default(),
        |answer| {
            let listed = answer.groups.iter().any(|one| one.group_id == GROUP);
            assert!(listed, "{answer:?}");
            vec![answer.error_code]
        },
    );
    let gone = |version: i16| Str::from(format!("gone-{version}"));
    for version in walk.versions(ApiKey::DeleteGroups).into_iter().chain([-1]) {
        let request = commit(walk, 9, &gone(version), "", -1);
        let answer = walk.connection.call(9, &request).expect("a commit");
        let code = answer.topics[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::NONE, "{version}");
    }
    walk.each(
        |_, _| OffsetDeleteRequest {
            group_id: gone(-1),
            topics: vec![OffsetDeleteRequestTopic {
                name: TOPIC.into(),
                partitions: vec![OffsetDeleteRequestPartition::default()],
            }],
        },
        |answer| {
            let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let rows = rows.map(|row| row.error_code);
            rows.chain([answer.error_code]).collect()
        },
    );
    walk.each(
        |_, version| DeleteGroupsRequest {
            groups_names: vec![gone(version)],
        },
        |answer| answer.results.iter().map(|row| row.error_code).collect(),
    );
}

/// Ids that were handed out and not used can leave, one per version.
fn leave(walk: &mut Walk) {
    let versions = walk.versions(ApiKey::LeaveGroup);
    let ids = versions.iter().map(|_| joined(walk, 4, "").member_id);
    let ids: Vec<_> = ids.collect();
    let id = |version: i16| ids[usize::try_from(version).expect("from 0")].clone();
    walk.each(
        |_, version| LeaveGroupRequest {
            group_id: GROUP.into(),
            member_id: match version {
                ..MEMBERS_IN_LEAVE => id(version),
                _ => Str::EMPTY,
            },
            members: (version >= MEMBERS_IN_LEAVE)
                .then(|| MemberIdentity {
                    member_id: id(version),
                    ..MemberIdentity::default()
                })
                .into_iter()
                .collect(),
        },
        |answer| {
            let members = answer.members.iter().map(|member| member.error_code);
            members.chain([answer.error_code]).collect()
        },
    );
}
