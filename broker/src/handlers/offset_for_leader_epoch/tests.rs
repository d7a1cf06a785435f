use palisade_protocol::Str;
use palisade_protocol::messages::offset_for_leader_epoch::OffsetForLeaderTopic;

use super::*;
use crate::partition::testing::{ROOT, TestNode, batch};

fn ask(node: &TestNode, user: &str, partition: i32, epoch: i32) -> EpochEndOffset {
    let request = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: Str::from("t"),
            partitions: vec![OffsetForLeaderPartition {
                partition,
                current_leader_epoch: -1,
                leader_epoch: epoch,
            }],
        }],
        ..OffsetForLeaderEpochRequest::default()
    };
    let access = node.access(user);
    let response = epoch_ends(&node.replicas, &node.image, &access, &request);
    response.topics[0].partitions[0].clone()
}

#[tokio::test]
async fn epochs_end_where_the_next_begins() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    for epoch in [1, 4] {
        node.assign("t", 0, &[1], epoch);
        node.append("t", 0, batch(3)).await;
    }
    let end = |epoch| {
        let row = ask(&node, ROOT, 0, epoch);
        assert_eq!(row.error_code, ErrorCode::NONE);
        (row.leader_epoch, row.end_offset)
    };
    assert_eq!(end(4), (4, 6));
    assert_eq!(end(1), (1, 3));
    assert_eq!(end(2), (1, 3));
    assert_eq!(end(5), (-1, -1));
    assert_eq!(end(-1), (-1, -1));
    // A new leader enters its epoch before it appends anything.
    node.assign("t", 0, &[1], 9);
    let row = ask(&node, ROOT, 0, 9);
    assert_eq!((row.leader_epoch, row.end_offset), (9, 6));
}

#[tokio::test]
async fn errors_have_no_offsets() {
    let mut node = TestNode::new().topic("t", 2, &[]);
    node.assign("t", 1, &[2], 1);
    let denied = ask(&node, "alice", 0, 0);
    assert_eq!(denied.error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!((denied.leader_epoch, denied.end_offset), (-1, -1));
    let elsewhere = ask(&node, ROOT, 1, 0);
    assert_eq!(elsewhere.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let unknown = ask(&node, ROOT, 5, 0);
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}
