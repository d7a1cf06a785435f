//! What members see when a node is asked to stop, and when it is back.

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::heartbeat::HeartbeatRequest;
use palisade_protocol::messages::join_group::JoinGroupRequest;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use palisade_tests::check::{eventually, tell};
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::wire::Connection;

use super::{PATIENCE, committed, coordinator, describe, joining};

const TOPIC: &str = "stop";
const GROUP: &str = "stop";

fn join(group: &str, member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        member_id: member.to_owned().into(),
        ..joining(group)
    }
}

/// A stable group outlives a stop: same generation, same assignment, same offsets; and what waited for others
/// is told to look for its coordinator again.
#[test]
fn a_stop_keeps_what_members_have() {
    let mut node = Node::prepare();
    node.set("group.initial.rebalance.delay.ms", "0");
    node.run();
    let access = node.certificate();
    let mut member = coordinator(&access, GROUP);
    requests::create_topic(&mut member, TOPIC, 1, &[]).expect("a topic");
    let joined = member.call(3, &join(GROUP, "")).expect("an answer");
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let (id, generation) = (joined.member_id, joined.generation_id);
    let sync = SyncGroupRequest {
        group_id: GROUP.into(),
        generation_id: generation,
        member_id: id.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: id.clone(),
            assignment: vec![1, 2, 3].into(),
        }],
        ..SyncGroupRequest::default()
    };
    let answer = member.call(3, &sync).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let commit = OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: generation,
        member_id: id.clone(),
        topics: vec![OffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 11,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let answer = member.call(8, &commit).expect("an answer");
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);

    // Of another group, the second member waits for the first one, which does not come.
    let other = "stop-waiting";
    let mut first = Connection::open(&access).expect("a login");
    let answer = first.call(3, &join(other, "")).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let mut second = Connection::open(&access).expect("a login");
    let parked = second.ask(3, &join(other, "")).expect("sent");
    eventually("the join to be parked", PATIENCE, || {
        let found = describe(&mut member, other);
        match &*found.group_state {
            "PreparingRebalance" => Ok(()),
            state => Err(state.to_owned()),
        }
    });

    let log = node.terminate();
    assert!(
        !log.iter().any(|line| line.contains("given up")),
        "{log:#?}"
    );
    let answer = second.answer::<JoinGroupRequest>(3, parked);
    let answer = answer.expect("the parked request is answered");
    assert_eq!(answer.error_code, ErrorCode::NOT_COORDINATOR);

    node.run();
    let mut member = Connection::open(&access).expect("a login");
    let beat = HeartbeatRequest {
        group_id: GROUP.into(),
        generation_id: generation,
        member_id: id,
        ..HeartbeatRequest::default()
    };
    let answer = member.call(3, &beat).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let answer = eventually("the coordinator to have loaded", PATIENCE, || {
        let answer = member.call(3, &sync).map_err(|error| error.to_string())?;
        match answer.error_code {
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => Err("loading".to_owned()),
            _ => Ok(answer),
        }
    });
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert_eq!(&answer.assignment[..], &[1, 2, 3]);
    assert_eq!(
        member.call(3, &beat).expect("an answer").error_code,
        ErrorCode::NONE
    );
    let found = committed(&mut member, GROUP, TOPIC, 1).expect("an answer");
    assert_eq!(found, [11]);
    let kept = format!("1 stop, generation {generation} and offsets {found:?} kept");
    tell("a_stop_keeps_what_members_have", &kept);
}
