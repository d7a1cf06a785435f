use std::future::poll_fn;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;

use palisade_auth::audit::{AuditEvent, AuditSink};
use palisade_auth::grant::Describe;
use palisade_protocol::Str;
use palisade_protocol::messages::delete_records::DeleteRecordsTopic;
use parking_lot::Mutex;

use super::*;
use crate::partition::testing::{ROOT, TestNode, batch};
use crate::task::BoxFuture;

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

/// What was said of each target.
#[derive(Default)]
struct Trail(Mutex<Vec<(String, &'static str)>>);

impl AuditSink for Trail {
    fn record(&self, event: AuditEvent) {
        let outcome = event.reason.unwrap_or(event.outcome.name());
        let change = event.change.expect("only changes are recorded");
        self.0.lock().push((change.target, outcome));
    }
}

impl AuditTrail for Trail {
    fn record_ahead(&self, events: Vec<AuditEvent>) -> BoxFuture<'_, bool> {
        events.into_iter().for_each(|event| self.record(event));
        Box::pin(std::future::ready(true))
    }
}

/// Stops the disk thread where it gets to; it says so, and goes on once the sender is dropped.
fn stop_disk(node: &TestNode) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (arrive, arrived) = mpsc::channel();
    let (go_on, held) = mpsc::channel();
    node.replicas.directories()[0].storage().spawn(move || {
        let _ = arrive.send(());
        let _ = held.recv();
    });
    (arrived, go_on)
}

async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn who_goes_away_in_the_middle_leaves_true_words() {
    let node = TestNode::new().topic("t", 3, &[]);
    for index in 0..3 {
        node.append("t", index, batch(5)).await;
    }
    let all = (0..3).map(|partition_index| DeleteRecordsPartition {
        partition_index,
        offset: 4,
    });
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: Str::from("t"),
            partitions: all.collect(),
        }],
        timeout_ms: 60_000,
    };
    let trail = Arc::new(Trail::default());
    let access = node.access(ROOT);
    let scene = Scene {
        replicas: &node.replicas,
        image: &node.image,
        access: &access,
        audit: Some((
            Arc::clone(&trail) as Arc<dyn AuditTrail>,
            AuditContext::default(),
        )),
    };
    let mut deletion = Box::pin(delete_records(&scene, &request));
    let (_, go_on) = stop_disk(&node);
    assert!(is_pending(deletion.as_mut()).await);
    let (behind_the_first, go_on_with_the_second) = stop_disk(&node);
    drop(go_on);
    behind_the_first.recv().unwrap();
    assert!(is_pending(deletion.as_mut()).await);
    drop(deletion);

    let mut told = std::mem::take(&mut *trail.0.lock());
    told.retain(|(_, outcome)| *outcome != "intent");
    told.sort();
    let expected = [
        ("records of t-0".to_owned(), "ok"),
        ("records of t-1".to_owned(), "unknown"),
        ("records of t-2".to_owned(), "not_executed"),
    ];
    assert_eq!(told, expected);
    drop(go_on_with_the_second);
    let directory = &node.replicas.directories()[0];
    directory.run(|| ()).await.unwrap();
    let grant = access.topic::<Describe>("t").unwrap();
    let starts = [0, 1, 2].map(|index| {
        let index = PartitionIndex::new(index);
        let partition = node.replicas.partition(&grant, index).unwrap();
        partition.log_start_offset().value()
    });
    assert_eq!(starts, [4, 4, 0]);
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
