//! Consumer groups of the classic protocol: members of several makes, ends of all kinds, formats.

mod crash;
mod damage;
mod formats;
mod hostile;
mod limits;
mod members;
mod memory;
mod scale;
mod shares;
mod stop;
mod unread;

use std::time::Duration;

use palisade_protocol::api::ApiKey;
use palisade_protocol::messages::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use palisade_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use palisade_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use palisade_tests::access::Access;
use palisade_tests::check::eventually;
use palisade_tests::requests::{self, newest};
use palisade_tests::wire::Connection;

const PATIENCE: Duration = Duration::from_secs(60);

/// Opens a connection, and has the topic of groups made.
fn coordinator(access: &Access, group: &str) -> Connection {
    let mut connection = Connection::open(access).expect("a login");
    requests::await_coordinators(&mut connection, group, PATIENCE);
    connection
}

/// What a member of the classic protocol joins with that subscribes to nothing.
fn joining(group: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.to_owned().into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            // A subscription of version 0, without topics.
            metadata: vec![0, 0, 0, 0, 0, 0, 255, 255, 255, 255].into(),
        }],
        ..JoinGroupRequest::default()
    }
}

fn describe(connection: &mut Connection, group: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest {
        groups: vec![group.to_owned().into()],
        ..DescribeGroupsRequest::default()
    };
    let version = newest(ApiKey::DescribeGroups).min(5);
    let mut answer = connection.call(version, &request).expect("an answer");
    answer.groups.remove(0)
}

/// Waits until a group is stable with so many members, each with an assignment.
fn until_stable(connection: &mut Connection, group: &str, members: usize) {
    eventually(&format!("{members} members"), PATIENCE, || {
        let found = describe(connection, group);
        let assigned = found.members.iter();
        let assigned = assigned.filter(|member| !member.member_assignment.is_empty());
        match (&*found.group_state, assigned.count()) {
            ("Stable", count) if count == members => Ok(()),
            _ => Err(format!("{found:?}")),
        }
    });
}

/// The committed offsets of the first partitions of a topic.
fn committed(
    connection: &mut Connection,
    group: &str,
    topic: &str,
    partitions: i32,
) -> Result<Vec<i64>, String> {
    let request = OffsetFetchRequest {
        group_id: group.to_owned().into(),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: topic.to_owned().into(),
            partition_indexes: (0..partitions).collect(),
        }]),
        ..OffsetFetchRequest::default()
    };
    let answer = connection
        .call(7, &request)
        .map_err(|error| error.to_string())?;
    if answer.error_code.is_error() {
        return Err(answer.error_code.name().to_owned());
    }
    let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
    Ok(rows.map(|row| row.committed_offset).collect())
}
