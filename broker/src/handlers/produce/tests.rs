use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use palisade_auth::acl::Operation;
use palisade_auth::principal::Principal;
use palisade_protocol::batch::{BatchBuilder, Codec};
use palisade_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, TopicProduceData,
};
use palisade_protocol::types::{ProducerEpoch, ProducerId, TopicId};
use palisade_protocol::{Records, Str};

use super::*;
use crate::config::FlushPolicyName;
use crate::partition::testing::{
    NOW, ROOT, TestNode, batch, batch_with, partition_record, topic_id, topic_rule,
};

const VERSION: i16 = 12;

fn request(acks: i16, topic: &str, partitions: &[(i32, BytesMut)]) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 60_000,
        topic_data: vec![TopicProduceData {
            name: Str::copy(topic),
            topic_id: topic_id(topic),
            partition_data: partitions
                .iter()
                .map(|(index, records)| PartitionProduceData {
                    index: *index,
                    records: Some(Records::Inline(records.clone().freeze())),
                })
                .collect(),
        }],
        ..ProduceRequest::default()
    }
}

async fn send_as(
    node: &TestNode,
    user: &str,
    version: i16,
    request: ProduceRequest,
) -> Handled<ProduceResponse> {
    let scene = Scene {
        replicas: &node.replicas,
        image: &node.image,
        access: &node.access(user),
        listener: &Arc::from("SASL_SSL"),
        version,
        now: NOW,
    };
    produce(&scene, request).await
}

async fn send(node: &TestNode, request: ProduceRequest) -> Vec<PartitionProduceResponse> {
    rows(send_as(node, ROOT, VERSION, request).await).await
}

async fn rows(handled: Handled<ProduceResponse>) -> Vec<PartitionProduceResponse> {
    let response = match handled {
        Handled::Now(response) => response,
        Handled::Later(wait) | Handled::Patient(wait) => wait.await,
        Handled::NoResponse | Handled::Close => panic!("no response"),
    };
    response
        .responses
        .into_iter()
        .flat_map(|topic| topic.partition_responses)
        .collect()
}

fn codes(rows: &[PartitionProduceResponse]) -> Vec<ErrorCode> {
    rows.iter().map(|row| row.error_code).collect()
}

fn idempotent(sequence: i32, count: i64) -> BytesMut {
    let builder = BatchBuilder::new(Codec::None).producer(
        ProducerId::new(7),
        ProducerEpoch::new(0),
        sequence,
    );
    batch_with(builder, count)
}

fn transactional() -> BytesMut {
    let builder = BatchBuilder::new(Codec::None)
        .producer(ProducerId::new(7), ProducerEpoch::new(0), 0)
        .transactional(true);
    batch_with(builder, 1)
}

#[tokio::test]
async fn batches_get_consecutive_offsets() {
    let node = TestNode::new().topic("t", 2, &[]);
    let rows = send(&node, request(1, "t", &[(0, batch(3)), (1, batch(1))])).await;
    assert_eq!(codes(&rows), [ErrorCode::NONE; 2]);
    assert_eq!((rows[0].base_offset, rows[0].log_append_time_ms), (0, -1));
    assert_eq!(rows[0].log_start_offset, 0);
    let rows = send(&node, request(-1, "t", &[(0, batch(1))])).await;
    assert_eq!(rows[0].base_offset, 3);
}

#[tokio::test]
async fn a_batch_stands_in_the_line_of_who_sends_it() {
    let mut node = TestNode::new().topic("t", 1, &[("compression.type", "gzip")]);
    node.allow(topic_rule("alice", Operation::Write, "t"));
    let opener = node.replicas.directories()[0].opener();
    let hold = opener.hold().await;
    let asked = request(1, "t", &[(0, batch(3))]);
    let mut answer = pin!(send_as(&node, "alice", VERSION, asked));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(answer.as_mut().poll(&mut cx).is_pending());
    assert_eq!(opener.users_of_batches(), [Principal::user("alice")]);
    drop(hold);
    assert_eq!(codes(&rows(answer.await).await), [ErrorCode::NONE]);
}

#[tokio::test]
async fn acks_all_waits_for_the_sync() {
    let node = TestNode::with_flush(FlushPolicyName::Ack).topic("t", 1, &[]);
    let rows = send(&node, request(-1, "t", &[(0, batch(3))])).await;
    assert_eq!(
        (rows[0].error_code, rows[0].base_offset),
        (ErrorCode::NONE, 0)
    );
    let grant = node.access(ROOT).topic::<Write>("t").unwrap();
    let partition = node
        .replicas
        .partition(&grant, palisade_protocol::PartitionIndex::new(0));
    assert_eq!(partition.unwrap().high_watermark().value(), 3);
}

#[tokio::test]
async fn acks_none_is_silent_or_closes() {
    let node = TestNode::new().topic("t", 1, &[]);
    let good = send_as(&node, ROOT, VERSION, request(0, "t", &[(0, batch(1))])).await;
    assert!(matches!(good, Handled::NoResponse));
    let bad = send_as(&node, ROOT, VERSION, request(0, "t", &[(9, batch(1))])).await;
    assert!(matches!(bad, Handled::Close));
}

#[tokio::test]
async fn the_right_comes_before_existence() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    node.allow(topic_rule("alice", Operation::Write, "ghost"));
    for (topic, expected) in [
        ("t", ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        ("nowhere", ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        ("ghost", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ] {
        // acks 5 as well: both checks come before it.
        let asked = request(5, topic, &[(0, batch(1))]);
        let answer = send_as(&node, "alice", VERSION, asked).await;
        let rows = rows(answer).await;
        assert_eq!(codes(&rows), [expected], "{topic}");
        assert_eq!((rows[0].base_offset, rows[0].log_start_offset), (-1, -1));
    }
    let by_id = send_as(&node, "alice", 13, request(1, "ghost", &[(0, batch(1))])).await;
    assert_eq!(codes(&rows(by_id).await), [ErrorCode::UNKNOWN_TOPIC_ID]);
    let known = send_as(&node, "alice", 13, request(1, "t", &[(0, batch(1))])).await;
    assert_eq!(
        codes(&rows(known).await),
        [ErrorCode::TOPIC_AUTHORIZATION_FAILED]
    );
    let root = send_as(&node, ROOT, 13, request(1, "t", &[(0, batch(1))])).await;
    assert_eq!(codes(&rows(root).await), [ErrorCode::NONE]);
}

#[tokio::test]
async fn partitions_fail_one_by_one() {
    let node = TestNode::new().topic("t", 3, &[]);
    let mut torn = batch(1);
    torn[30] ^= 1;
    let mut asked = request(
        5,
        "t",
        &[
            (0, batch(1)),
            (-1, batch(1)),
            (7, batch(1)),
            (1, BytesMut::new()),
        ],
    );
    asked.topic_data[0]
        .partition_data
        .push(PartitionProduceData {
            index: 2,
            records: None,
        });
    let rows = send(&node, asked).await;
    assert_eq!(
        codes(&rows),
        [
            ErrorCode::INVALID_REQUIRED_ACKS,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::INVALID_RECORD,
            ErrorCode::INVALID_RECORD,
        ]
    );
    let rows = send(
        &node,
        request(1, "t", &[(0, torn), (1, batch(1)), (1, batch(1))]),
    )
    .await;
    assert_eq!(codes(&rows), [ErrorCode::CORRUPT_MESSAGE, ErrorCode::NONE]);
    let rows = send(&node, request(1, "t", &[(1, batch(1))])).await;
    assert_eq!(rows[0].base_offset, 1, "listed twice, appended once");
}

#[tokio::test]
async fn what_is_named_twice_is_appended_once() {
    let node = TestNode::new().topic("t", 2, &[]).topic("u", 1, &[]);
    let mut twice = request(1, "t", &[(1, batch(5)), (0, batch(1))]);
    for more in [
        request(1, "u", &[(0, batch(1))]),
        request(1, "t", &[(1, batch(2))]),
    ] {
        twice.topic_data.extend(more.topic_data);
    }
    let Handled::Now(response) = send_as(&node, ROOT, VERSION, twice).await else {
        panic!("acks=1 answers at once");
    };
    let answered: Vec<(&str, Vec<i32>)> = response
        .responses
        .iter()
        .map(|topic| {
            let rows = topic.partition_responses.iter();
            (topic.name.as_str(), rows.map(|row| row.index).collect())
        })
        .collect();
    assert_eq!(answered, [("t", vec![1, 0]), ("u", vec![0])]);
    let rows = send(&node, request(1, "t", &[(1, batch(1))])).await;
    assert_eq!(rows[0].base_offset, 2, "the last one counts");
}

#[tokio::test]
async fn a_broken_first_batch_fails_the_request() {
    let node = TestNode::new().topic("t", 2, &[]);
    let mut magic = batch(1);
    magic[16] = 9;
    let rows = send(&node, request(1, "t", &[(0, batch(1)), (1, magic)])).await;
    assert_eq!(codes(&rows), [ErrorCode::CORRUPT_MESSAGE; 2]);
    let text = rows[0].error_message.as_deref();
    assert_eq!(text, Some("Invalid magic found in record: 9"));
    let rows = send(&node, request(1, "t", &[(0, batch(1))])).await;
    assert_eq!(rows[0].base_offset, 0, "nothing was appended before");
}

#[tokio::test]
async fn transactions_are_authorized_then_refused() {
    let node = TestNode::new().topic("t", 2, &[]);
    let both = || request(1, "t", &[(0, batch(1)), (1, transactional())]);
    let rows = send(&node, both()).await;
    assert_eq!(
        codes(&rows),
        [ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED; 2]
    );
    let mut named = both();
    named.transactional_id = Some(Str::from("x"));
    let denied = send_as(&node, "alice", VERSION, named.clone()).await;
    let denied = tests::rows(denied).await;
    assert_eq!(
        codes(&denied),
        [ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED; 2]
    );
    let rows = send(&node, named).await;
    assert_eq!(
        codes(&rows),
        [ErrorCode::NONE, ErrorCode::INVALID_TXN_STATE]
    );
    assert!(
        rows[1]
            .error_message
            .as_deref()
            .unwrap()
            .contains("not supported")
    );
}

#[tokio::test]
async fn producers_are_deduplicated() {
    let node = TestNode::new().topic("t", 1, &[]);
    let send_batch = async |records| {
        let rows = send(&node, request(-1, "t", &[(0, records)])).await;
        (rows[0].error_code, rows[0].base_offset)
    };
    assert_eq!(send_batch(idempotent(0, 2)).await, (ErrorCode::NONE, 0));
    assert_eq!(send_batch(idempotent(2, 1)).await, (ErrorCode::NONE, 2));
    assert_eq!(send_batch(idempotent(0, 2)).await, (ErrorCode::NONE, 0));
    let skipped = send_batch(idempotent(9, 1)).await;
    assert_eq!(skipped, (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1));
    assert_eq!(send_batch(batch(1)).await, (ErrorCode::NONE, 3));
}

#[tokio::test]
async fn internal_topics_are_guarded() {
    let node = TestNode::new().topic("__consumer_offsets", 1, &[]);
    let asked = || request(1, "__consumer_offsets", &[(0, batch(1))]);
    assert_eq!(
        codes(&send(&node, asked()).await),
        [ErrorCode::INVALID_TOPIC_EXCEPTION]
    );
}

#[tokio::test]
async fn too_few_replicas_refuse_acks_all() {
    let mut node = TestNode::new().topic("t", 1, &[("min.insync.replicas", "2")]);
    let rows = send(&node, request(-1, "t", &[(0, batch(1))])).await;
    assert_eq!(
        codes(&rows),
        [ErrorCode::NONE],
        "one replica bounds the minimum"
    );
    node.apply(&[partition_record(
        topic_id("t"),
        0,
        &[1, 2],
        &[1],
        Some(1),
        1,
    )]);
    let rows = send(&node, request(-1, "t", &[(0, batch(1))])).await;
    assert_eq!(codes(&rows), [ErrorCode::NOT_ENOUGH_REPLICAS]);
    assert_eq!(rows[0].log_start_offset, 0);
    let rows = send(&node, request(1, "t", &[(0, batch(1))])).await;
    assert_eq!(
        (rows[0].error_code, rows[0].base_offset),
        (ErrorCode::NONE, 1)
    );
}

#[tokio::test]
async fn the_leader_is_named_to_those_who_miss_it() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    node.assign("t", 0, &[2, 1], 5);
    let rows = send(&node, request(1, "t", &[(0, batch(1))])).await;
    assert_eq!(codes(&rows), [ErrorCode::NOT_LEADER_OR_FOLLOWER]);
    let leader = &rows[0].current_leader;
    assert_eq!((leader.leader_id, leader.leader_epoch), (2, 5));
    let old = send_as(&node, ROOT, 9, request(1, "t", &[(0, batch(1))])).await;
    assert_eq!(tests::rows(old).await[0].current_leader.leader_id, -1);
}

#[tokio::test]
async fn a_parked_request_ends_with_its_epoch_or_its_time() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    node.assign("t", 0, &[1, 2], 1);
    let mut hurried = request(-1, "t", &[(0, batch(2))]);
    hurried.timeout_ms = 0;
    let rows = send(&node, hurried).await;
    assert_eq!(codes(&rows), [ErrorCode::REQUEST_TIMED_OUT]);
    assert_eq!((rows[0].base_offset, rows[0].log_start_offset), (0, 0));

    let parked = send_as(&node, ROOT, VERSION, request(-1, "t", &[(0, batch(1))])).await;
    let Handled::Later(wait) = parked else {
        panic!("not parked");
    };
    node.assign("t", 0, &[1, 2], 2);
    let response = tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .unwrap();
    let row = &response.responses[0].partition_responses[0];
    assert_eq!(row.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(row.base_offset, -1);
}

#[tokio::test]
async fn a_parked_request_holds_none_of_its_bytes() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    node.assign("t", 0, &[1, 2], 1);
    let mut frame = BytesMut::from(&b"t"[..]);
    frame.extend_from_slice(&batch(4));
    let frame: Bytes = frame.freeze();
    let asked = ProduceRequest {
        acks: -1,
        timeout_ms: 60_000,
        topic_data: vec![TopicProduceData {
            name: Str::from_utf8(frame.slice(..1)).unwrap(),
            topic_id: TopicId::NIL,
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(Records::Inline(frame.slice(1..))),
            }],
        }],
        ..ProduceRequest::default()
    };
    let parked = send_as(&node, ROOT, VERSION, asked).await;
    assert!(matches!(parked, Handled::Later(_)));
    assert!(frame.is_unique());
    drop(parked);
}

#[tokio::test]
async fn every_version_can_be_sent() {
    let mut node = TestNode::new().topic("t", 2, &[]);
    node.assign("t", 1, &[2, 1], 4);
    for version in 3..=13 {
        let late = NOW.value() + 99_999_999;
        let mut builder = BatchBuilder::new(Codec::None);
        builder
            .add(TimestampMs::new(late), None, None, &[])
            .unwrap();
        let untimely = builder.build().unwrap();
        for records in [batch(1), untimely, BytesMut::new()] {
            let asked = request(1, "t", &[(0, records), (1, batch(1))]);
            let Handled::Now(response) = send_as(&node, ROOT, version, asked).await else {
                panic!("not answered at once");
            };
            let key = palisade_protocol::ApiKey::Produce;
            let buffer = BytesMut::new();
            palisade_protocol::frame::encode_response(buffer, key, version, 1, &response).unwrap();
        }
    }
}

#[tokio::test]
async fn nothing_asked_nothing_answered() {
    let node = TestNode::new();
    let empty = send(
        &node,
        ProduceRequest {
            acks: 1,
            ..ProduceRequest::default()
        },
    );
    assert!(empty.await.is_empty());
}
