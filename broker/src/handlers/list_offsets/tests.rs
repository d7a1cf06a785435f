use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};

use palisade_protocol::Str;
use palisade_protocol::messages::list_offsets::ListOffsetsTopic;

use super::*;
use crate::partition::testing::{NOW, ROOT, TestNode, batch};

fn request(partitions: &[(i32, i64)]) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: Str::from("t"),
            partitions: partitions
                .iter()
                .map(|(partition_index, timestamp)| ListOffsetsPartition {
                    partition_index: *partition_index,
                    current_leader_epoch: -1,
                    timestamp: *timestamp,
                })
                .collect(),
        }],
        ..ListOffsetsRequest::default()
    }
}

async fn ask(
    node: &TestNode,
    user: &str,
    version: i16,
    request: &ListOffsetsRequest,
) -> Vec<ListOffsetsPartitionResponse> {
    let scene = Scene {
        replicas: &node.replicas,
        image: &node.image,
        access: &node.access(user),
        version,
    };
    let response = list_offsets(&scene, request).await;
    encodes(&response, version);
    response
        .topics
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .collect()
}

fn encodes(response: &ListOffsetsResponse, version: i16) {
    let key = palisade_protocol::ApiKey::ListOffsets;
    palisade_protocol::frame::encode_response(bytes::BytesMut::new(), key, version, 1, response)
        .unwrap();
}

#[tokio::test]
async fn every_version_can_be_sent() {
    let node = TestNode::new().topic("t", 1, &[]);
    node.append("t", 0, batch(3)).await;
    for version in 1..=11 {
        for timestamp in [-1, -2, NOW.value() + 1] {
            let rows = ask(&node, ROOT, version, &request(&[(0, timestamp)])).await;
            assert_eq!(rows[0].error_code, ErrorCode::NONE);
            assert_eq!(rows[0].leader_epoch, if version < 4 { -1 } else { 0 });
        }
    }
}

/// Timestamp, offset and epoch of the answer for one special or real timestamp.
async fn one(node: &TestNode, timestamp: i64) -> (i64, i64, i32) {
    let rows = ask(node, ROOT, 11, &request(&[(0, timestamp)])).await;
    assert_eq!(rows[0].error_code, ErrorCode::NONE);
    (rows[0].timestamp, rows[0].offset, rows[0].leader_epoch)
}

#[tokio::test]
async fn specials_and_timestamps() {
    let node = TestNode::new().topic("t", 1, &[]);
    assert_eq!(one(&node, -1).await, (-1, 0, 0));
    assert_eq!(one(&node, -2).await, (-1, 0, 0));
    assert_eq!(one(&node, -3).await, (-1, -1, -1));
    node.append("t", 0, batch(3)).await;
    node.append("t", 0, batch(2)).await;
    let now = NOW.value();
    assert_eq!(one(&node, -1).await, (-1, 5, 0));
    assert_eq!(one(&node, -2).await, (-1, 0, 0));
    assert_eq!(one(&node, -3).await, (now + 2, 2, 0));
    assert_eq!(one(&node, -4).await, (-1, 0, 0));
    assert_eq!(one(&node, -5).await, (-1, -1, -1));
    assert_eq!(one(&node, -6).await, (-1, -1, -1));
    assert_eq!(one(&node, 0).await, (now, 0, 0));
    assert_eq!(one(&node, now + 1).await, (now + 1, 1, 0));
    assert_eq!(one(&node, now + 3).await, (-1, -1, -1));
    assert_eq!(one(&node, i64::MAX).await, (-1, -1, -1));
}

#[tokio::test]
async fn specials_need_their_version() {
    let node = TestNode::new();
    for (timestamp, since) in [
        (-3, 7),
        (-4, 8),
        (-5, 9),
        (-6, 11),
        (-7, 99),
        (i64::MIN, 99),
    ] {
        let below = ask(&node, ROOT, since.min(12) - 1, &request(&[(0, timestamp)])).await;
        // Decided before the topic is looked up: there is none.
        assert_eq!(
            below[0].error_code,
            ErrorCode::UNSUPPORTED_VERSION,
            "{timestamp}"
        );
    }
    let known = ask(&node, ROOT, 1, &request(&[(0, -1)])).await;
    assert_eq!(known[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[tokio::test]
async fn errors_per_partition() {
    let mut node = TestNode::new().topic("t", 3, &[]);
    node.assign("t", 1, &[2, 1], 4);
    let mut asked = request(&[(0, -1), (1, -1), (7, -1), (2, -1), (2, -2)]);
    asked.topics[0].partitions[0].current_leader_epoch = 1;
    let rows = ask(&node, ROOT, 11, &asked).await;
    let codes: Vec<_> = rows.iter().map(|row| row.error_code).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::UNKNOWN_LEADER_EPOCH,
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::INVALID_REQUEST,
        ]
    );
    let denied = ask(&node, "alice", 11, &request(&[(7, -1)])).await;
    assert_eq!(denied[0].error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let mut debugging = request(&[(1, -1)]);
    debugging.replica_id = DEBUGGING;
    assert_eq!(ask(&node, ROOT, 11, &debugging).await[0].offset, 0);
    let mut isolation = request(&[(0, -1)]);
    isolation.isolation_level = 3;
    let rows = ask(&node, ROOT, 11, &isolation).await;
    assert_eq!(rows[0].error_code, ErrorCode::UNKNOWN_SERVER_ERROR);
}

#[tokio::test]
async fn a_new_leader_waits_for_its_high_watermark() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    node.assign("t", 0, &[1, 2], 1);
    node.append("t", 0, batch(3)).await;
    node.assign("t", 0, &[1, 2], 2);
    let latest =
        async |version| ask(&node, ROOT, version, &request(&[(0, -1)])).await[0].error_code;
    assert_eq!(latest(11).await, ErrorCode::OFFSET_NOT_AVAILABLE);
    assert_eq!(latest(4).await, ErrorCode::LEADER_NOT_AVAILABLE);
    assert_eq!(one(&node, -2).await.1, 0);
    let found = ask(&node, ROOT, 11, &request(&[(0, 0)])).await;
    assert_eq!(found[0].error_code, ErrorCode::OFFSET_NOT_AVAILABLE);
}

#[tokio::test]
async fn a_look_up_stands_in_the_line_of_who_asks() {
    let node = TestNode::new().topic("t", 1, &[]);
    node.append("t", 0, batch(3)).await;
    let opener = node.replicas.directories()[0].opener();
    let mut cx = Context::from_waker(Waker::noop());
    let mallory = Principal::user("mallory");
    let busy = || {
        let (hold, held) = mpsc::channel::<()>();
        (hold, opener.look_up(&mallory, move || held.recv()))
    };
    let [(first_hold, first), (second_hold, second)] = [busy(), busy()];
    let (mut first, mut second) = (pin!(first), pin!(second));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert!(second.as_mut().poll(&mut cx).is_pending());
    for timestamp in [-3, NOW.value()] {
        let asked = request(&[(0, timestamp)]);
        let mut answer = pin!(ask(&node, ROOT, 11, &asked));
        assert!(answer.as_mut().poll(&mut cx).is_pending());
        let mut users = opener.users_of_look_ups();
        users.sort();
        assert_eq!(users, ["mallory", ROOT].map(Principal::user), "{timestamp}");
    }
    drop((first_hold, second_hold));
    assert!(first.await.unwrap().is_err());
    assert!(second.await.unwrap().is_err());
}
