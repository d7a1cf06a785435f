//! The questions about groups.

use std::io;

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use palisade_protocol::messages::delete_groups::DeleteGroupsRequest;
use palisade_protocol::messages::describe_groups::DescribeGroupsRequest;
use palisade_protocol::messages::find_coordinator::FindCoordinatorRequest;
use palisade_protocol::messages::heartbeat::HeartbeatRequest;
use palisade_protocol::messages::join_group::JoinGroupRequest;
use palisade_protocol::messages::leave_group::LeaveGroupRequest;
use palisade_protocol::messages::list_groups::ListGroupsRequest;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use palisade_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use palisade_protocol::messages::sync_group::SyncGroupRequest;
use palisade_tests::wire::Connection;

use super::{Codes, Place, TOPIC, call, codes_of};

/// The group of the table.
pub(crate) const GROUP: &str = "readers";

fn find(connection: &mut Connection, key_type: i8, key: &'static str) -> Codes {
    let request = FindCoordinatorRequest {
        key_type,
        coordinator_keys: vec![key.into()],
        ..FindCoordinatorRequest::default()
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.coordinators, |row| row.error_code)
}

pub(crate) fn find_group(connection: &mut Connection, _: &Place) -> Codes {
    find(connection, 0, GROUP)
}

pub(crate) fn find_transaction(connection: &mut Connection, _: &Place) -> Codes {
    find(connection, 1, "payments")
}

pub(crate) fn find_share(connection: &mut Connection, _: &Place) -> Codes {
    find(connection, 2, "readers:AAAAAAAAAAAAAAAAAAAAAQ:0")
}

/// Asked with a session too short for any broker, so that nobody becomes a member.
pub(crate) fn join(connection: &mut Connection, _: &Place) -> Codes {
    let request = JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: 1,
        protocol_type: "consumer".into(),
        ..JoinGroupRequest::default()
    };
    Ok(vec![call(connection, &request)?.error_code])
}

pub(crate) fn sync(connection: &mut Connection, _: &Place) -> Codes {
    let request = SyncGroupRequest {
        group_id: GROUP.into(),
        member_id: "nobody".into(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        ..SyncGroupRequest::default()
    };
    Ok(vec![call(connection, &request)?.error_code])
}

pub(crate) fn heartbeat(connection: &mut Connection, _: &Place) -> Codes {
    let request = HeartbeatRequest {
        group_id: GROUP.into(),
        member_id: "nobody".into(),
        ..HeartbeatRequest::default()
    };
    Ok(vec![call(connection, &request)?.error_code])
}

pub(crate) fn leave(connection: &mut Connection, _: &Place) -> Codes {
    let request = LeaveGroupRequest {
        group_id: GROUP.into(),
        ..LeaveGroupRequest::default()
    };
    Ok(vec![call(connection, &request)?.error_code])
}

pub(crate) fn describe(connection: &mut Connection, _: &Place) -> Codes {
    let request = DescribeGroupsRequest {
        groups: vec![GROUP.into()],
        ..DescribeGroupsRequest::default()
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.groups, |group| group.error_code)
}

/// Asked with an epoch that no unknown member has, so that nobody becomes a member.
fn consume(connection: &mut Connection, topics: &[&'static str]) -> Codes {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: "nobody".into(),
        member_epoch: 1,
        rebalance_timeout_ms: -1,
        subscribed_topic_names: Some(topics.iter().map(|topic| (*topic).into()).collect()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    Ok(vec![call(connection, &request)?.error_code])
}

pub(crate) fn consume_nothing(connection: &mut Connection, _: &Place) -> Codes {
    consume(connection, &[])
}

pub(crate) fn consume_topic(connection: &mut Connection, _: &Place) -> Codes {
    consume(connection, &[TOPIC])
}

pub(crate) fn describe_consumers(connection: &mut Connection, _: &Place) -> Codes {
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![GROUP.into()],
        ..ConsumerGroupDescribeRequest::default()
    };
    let groups = call(connection, &request)?.groups;
    codes_of(&groups, |group| group.error_code)
}

pub(crate) fn delete(connection: &mut Connection, _: &Place) -> Codes {
    let request = DeleteGroupsRequest {
        groups_names: vec![GROUP.into()],
    };
    let answer = call(connection, &request)?;
    codes_of(&answer.results, |row| row.error_code)
}

pub(crate) fn commit(connection: &mut Connection, place: &Place) -> Codes {
    let request = OffsetCommitRequest {
        group_id: GROUP.into(),
        topics: vec![OffsetCommitRequestTopic {
            topic_id: place.id,
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 1,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let answer = call(connection, &request)?;
    let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
    codes_of(rows, |row| row.error_code)
}

fn fetch_of(connection: &mut Connection, topics: Option<Vec<OffsetFetchRequestTopics>>) -> Codes {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            topics,
            ..OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    };
    let answer = call(connection, &request)?;
    let topics = answer.groups.iter().flat_map(|group| &group.topics);
    let rows = topics.flat_map(|topic| &topic.partitions);
    let codes: Vec<_> = rows.map(|row| row.error_code).collect();
    Ok(match codes.is_empty() {
        true => answer.groups.iter().map(|group| group.error_code).collect(),
        false => codes,
    })
}

pub(crate) fn fetch_all(connection: &mut Connection, _: &Place) -> Codes {
    fetch_of(connection, None)
}

pub(crate) fn fetch_topic(connection: &mut Connection, place: &Place) -> Codes {
    let topic = OffsetFetchRequestTopics {
        topic_id: place.id,
        partition_indexes: vec![0],
        ..OffsetFetchRequestTopics::default()
    };
    fetch_of(connection, Some(vec![topic]))
}

pub(crate) fn delete_no_offset(connection: &mut Connection, _: &Place) -> Codes {
    let request = OffsetDeleteRequest {
        group_id: GROUP.into(),
        topics: Vec::new(),
    };
    Ok(vec![call(connection, &request)?.error_code])
}

pub(crate) fn delete_offset(connection: &mut Connection, _: &Place) -> Codes {
    let request = OffsetDeleteRequest {
        group_id: GROUP.into(),
        topics: vec![OffsetDeleteRequestTopic {
            name: TOPIC.into(),
            partitions: vec![OffsetDeleteRequestPartition::default()],
        }],
    };
    let answer = call(connection, &request)?;
    let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let codes: Vec<ErrorCode> = rows.map(|row| row.error_code).collect();
    Ok(match codes.is_empty() {
        true => vec![answer.error_code],
        false => codes,
    })
}

/// The names in a listing of all groups.
pub(crate) fn list(connection: &mut Connection) -> io::Result<Vec<String>> {
    let answer = call(connection, &ListGroupsRequest::default())?;
    let names = answer.groups.iter().map(|group| group.group_id.to_string());
    Ok(names.collect())
}
