use palisade_protocol::Str;
use palisade_protocol::messages::delete_records::DeleteRecordsTopic;

use super::*;
use crate::partition::testing::{ROOT, TestNode, batch};

async fn delete_as(
    node: &TestNode,
    user: &str,
    topic: &str,
    partition_index: i32,
    offset: i64,
) -> (ErrorCode, i64) {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: Str::copy(topic),
            partitions: vec![DeleteRecordsPartition {
                partition_index,
                offset,
            }],
        }],
        timeout_ms: 60_000,
    };
    let access = node.access(user);
    let scene = Scene {
        replicas: &node.replicas,
        image: &node.image,
        access: &access,
        audit: None,
    };
    let response = match delete_records(&scene, &request).await {
        Handled::Now(response) => response,
        Handled::Later(wait) | Handled::Patient(wait) => wait.await,
        Handled::NoResponse | Handled::Close => panic!("no response"),
    };
    let row = &response.topics[0].partitions[0];
    (row.error_code, row.low_watermark)
}

#[tokio::test]
async fn the_log_start_moves_up_to_the_high_watermark() {
    let node = TestNode::new().topic("t", 1, &[]);
    node.append("t", 0, batch(5)).await;
    node.append("t", 0, batch(5)).await;
    let delete = async |offset| delete_as(&node, ROOT, "t", 0, offset).await;
    assert_eq!(delete(3).await, (ErrorCode::NONE, 3));
    assert_eq!(delete(2).await, (ErrorCode::NONE, 3));
    assert_eq!(delete(11).await, (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(delete(-2).await, (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(delete(-1).await, (ErrorCode::NONE, 10));
}

#[tokio::test]
async fn rights_policies_and_leadership() {
    let mut node = TestNode::new()
        .topic("t", 2, &[])
        .topic("keyed", 1, &[("cleanup.policy", "compact")])
        .topic("both", 1, &[("cleanup.policy", "compact,delete")])
        .topic("__consumer_offsets", 1, &[]);
    node.assign("t", 1, &[2, 1], 1);
    let cases = [
        ("alice", "nowhere", 0, ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        (ROOT, "nowhere", 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (ROOT, "t", 2, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (ROOT, "t", 1, ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (ROOT, "keyed", 0, ErrorCode::POLICY_VIOLATION),
        (
            ROOT,
            "__consumer_offsets",
            0,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
        ),
    ];
    for (user, topic, index, expected) in cases {
        let answer = delete_as(&node, user, topic, index, 0).await;
        assert_eq!(answer, (expected, -1), "{topic}-{index}");
    }
    assert_eq!(
        delete_as(&node, ROOT, "both", 0, 0).await,
        (ErrorCode::NONE, 0)
    );
}
