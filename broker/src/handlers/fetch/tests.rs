#![allow(
    clippy::single_range_in_vec_init,
    reason = "ranges of offsets are compared as they are"
)]

use std::sync::Arc;

use bytes::BytesMut;
use palisade_auth::acl::Operation;
use palisade_auth::grant::Write;
use palisade_protocol::batch::BatchIter;
use palisade_protocol::messages::fetch::{
    FetchPartition, FetchTopic, ForgottenTopic, PartitionData, ReplicaState,
};
use palisade_protocol::types::PartitionIndex;
use palisade_protocol::{Records, Str};

use super::*;
use crate::metadata::record::MetadataRecord;
use crate::partition::testing::{NOW, ROOT, TestNode, batch, offset, topic_id, topic_rule};

const VERSION: i16 = 12;

struct Client<'a> {
    node: &'a TestNode,
    user: &'a str,
    version: i16,
    sessions: Arc<FetchSessions>,
}

impl<'a> Client<'a> {
    fn new(node: &'a TestNode) -> Client<'a> {
        Client {
            node,
            user: ROOT,
            version: VERSION,
            sessions: Arc::new(FetchSessions::new(100)),
        }
    }

    async fn begin(&self, request: FetchRequest) -> Handled<FetchResponse> {
        let scene = Scene {
            replicas: Arc::clone(&self.node.replicas),
            sessions: Arc::clone(&self.sessions),
            image: Arc::clone(&self.node.image),
            access: self.node.access(self.user),
            listener: Arc::from("SASL_SSL"),
            max_bytes: 50 << 20,
            version: self.version,
        };
        scene.handle(request).await
    }

    async fn fetch(&self, request: FetchRequest) -> FetchResponse {
        let response = match self.begin(request).await {
            Handled::Now(response) => response,
            Handled::Later(wait) | Handled::Patient(wait) => wait.await,
            Handled::NoResponse | Handled::Close => panic!("no response"),
        };
        let key = palisade_protocol::ApiKey::Fetch;
        let buffer = BytesMut::new();
        palisade_protocol::frame::encode_response(buffer, key, self.version, 1, &response).unwrap();
        response
    }
}

/// Asks for partitions (index, offset) of one topic, without waiting.
fn request(topic: &str, partitions: &[(i32, i64)]) -> FetchRequest {
    FetchRequest {
        min_bytes: 1,
        max_bytes: 10 << 20,
        topics: vec![FetchTopic {
            topic: Str::copy(topic),
            topic_id: topic_id(topic),
            partitions: partitions
                .iter()
                .map(|(partition, fetch_offset)| FetchPartition {
                    partition: *partition,
                    fetch_offset: *fetch_offset,
                    partition_max_bytes: 1 << 20,
                    ..FetchPartition::default()
                })
                .collect(),
        }],
        ..FetchRequest::default()
    }
}

/// The same inside a session.
fn in_session(id: i32, epoch: i32, mut request: FetchRequest) -> FetchRequest {
    request.session_id = id;
    request.session_epoch = epoch;
    request
}

fn nothing_new(id: i32, epoch: i32) -> FetchRequest {
    let mut request = in_session(id, epoch, request("t", &[]));
    request.topics.clear();
    request
}

fn rows(response: &FetchResponse) -> Vec<&PartitionData> {
    response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .collect()
}

fn indexes(response: &FetchResponse) -> Vec<i32> {
    rows(response)
        .iter()
        .map(|row| row.partition_index)
        .collect()
}

fn codes(response: &FetchResponse) -> Vec<ErrorCode> {
    rows(response).iter().map(|row| row.error_code).collect()
}

/// Offsets of the records of one row, as far as batch headers tell.
fn offsets(row: &PartitionData) -> Vec<std::ops::Range<i64>> {
    BatchIter::new(row.records.as_ref().map_or(&[], Records::as_bytes))
        .map(|batch| {
            let (header, _) = batch.unwrap();
            header.base_offset.value()..header.next_offset().value()
        })
        .collect()
}

#[tokio::test]
async fn what_is_named_twice_is_answered_once() {
    let node = TestNode::new().topic("t", 2, &[]);
    for _ in 0..2 {
        node.append("t", 0, batch(3)).await;
        node.append("t", 1, batch(3)).await;
    }
    let mut twice = in_session(0, -1, request("t", &[(0, 0), (1, 0), (0, 3)]));
    twice.topics.extend(request("t", &[(1, 3)]).topics);
    let response = Client::new(&node).fetch(twice).await;
    assert_eq!(indexes(&response), [0, 1]);
    for row in rows(&response) {
        assert_eq!(offsets(row), [3..6], "the last one counts");
    }
}

#[tokio::test]
async fn whole_batches_from_the_one_asked_for() {
    let node = TestNode::new().topic("t", 2, &[]);
    node.append("t", 0, batch(3)).await;
    node.append("t", 0, batch(2)).await;
    let client = Client::new(&node);
    let response = client.fetch(request("t", &[(0, 1), (1, 0)])).await;
    assert_eq!(response.session_id, 0);
    let rows = rows(&response);
    assert_eq!(offsets(rows[0]), [0..3, 3..5]);
    assert_eq!((rows[0].high_watermark, rows[0].log_start_offset), (5, 0));
    assert_eq!(rows[0].last_stable_offset, 5);
    assert_eq!(rows[0].aborted_transactions, None);
    assert_eq!(rows[1].records, Some(Records::default()));
    assert_eq!(rows[1].high_watermark, 0);
    let mut committed = request("t", &[(0, 3)]);
    committed.isolation_level = 1;
    let response = client.fetch(committed).await;
    let row = tests::rows(&response)[0];
    assert_eq!(offsets(row), [3..5]);
    assert_eq!(row.aborted_transactions, Some(Vec::new()));
}

#[tokio::test]
async fn every_version_can_be_sent() {
    let mut node = TestNode::new().topic("t", 2, &[]);
    node.append("t", 0, batch(3)).await;
    node.assign("t", 1, &[2, 1], 4);
    for version in 4..=18 {
        let client = Client {
            version,
            ..Client::new(&node)
        };
        let epoch = if version < 7 { -1 } else { 0 };
        let asked = in_session(0, epoch, request("t", &[(0, 0), (1, 0), (7, 0), (0, 9)]));
        let response = client.fetch(asked).await;
        assert_eq!(response.session_id > 0, version >= 7);
        assert_eq!(indexes(&response), [0, 1, 7]);
    }
}

#[tokio::test]
async fn limits_are_soft_for_the_first_batch_only() {
    let node = TestNode::new().topic("t", 2, &[]);
    for _ in 0..2 {
        node.append("t", 0, batch(3)).await;
        node.append("t", 1, batch(3)).await;
    }
    let client = Client::new(&node);
    let mut small = request("t", &[(0, 0), (1, 0)]);
    small.max_bytes = 0;
    let response = client.fetch(small).await;
    let found: Vec<_> = rows(&response).into_iter().map(offsets).collect();
    assert_eq!(found, [vec![0..3], vec![]]);
    let mut narrow = request("t", &[(0, 0), (1, 0)]);
    for partition in &mut narrow.topics[0].partitions {
        partition.partition_max_bytes = batch(3).len() as i32 + 1;
    }
    let response = client.fetch(narrow).await;
    let found: Vec<_> = rows(&response).into_iter().map(offsets).collect();
    assert_eq!(found, [vec![0..3], vec![0..3]]);
    let mut negative = request("t", &[(0, 0), (1, 0)]);
    negative.topics[0].partitions[1].partition_max_bytes = -1;
    let response = client.fetch(negative).await;
    assert_eq!(
        codes(&response),
        [ErrorCode::NONE, ErrorCode::UNKNOWN_SERVER_ERROR]
    );
}

#[tokio::test]
async fn a_parked_fetch_is_woken_by_the_append() {
    let node = TestNode::new().topic("t", 3, &[]);
    let client = Client::new(&node);
    for session_epoch in [-1, 0] {
        let end = node_end(&node);
        let mut patient = in_session(0, session_epoch, request("t", &[(0, end), (1, 0)]));
        patient.max_wait_ms = 60_000;
        let Handled::Later(wait) = client.begin(patient).await else {
            panic!("not parked");
        };
        let (response, _) = tokio::join!(wait, node.append("t", 0, batch(2)));
        assert_eq!(offsets(rows(&response)[0]), [end..end + 2]);
        assert_eq!(indexes(&response), [0, 1]);
    }
}

fn node_end(node: &TestNode) -> i64 {
    let grant = node.access(ROOT).topic::<Write>("t").unwrap();
    let partition = node.replicas.partition(&grant, PartitionIndex::new(0));
    partition.unwrap().log_end_offset().value()
}

#[tokio::test]
async fn bytes_add_up_to_the_minimum() {
    let node = TestNode::new().topic("t", 2, &[]);
    let client = Client::new(&node);
    let mut patient = request("t", &[(0, 0), (1, 0)]);
    patient.max_wait_ms = 60_000;
    patient.min_bytes = batch(2).len() as i32 * 2;
    let Handled::Later(wait) = client.begin(patient).await else {
        panic!("not parked");
    };
    let appends = async {
        node.append("t", 0, batch(2)).await;
        node.append("t", 1, batch(2)).await;
    };
    let (response, ()) = tokio::join!(wait, appends);
    let found: Vec<_> = rows(&response).into_iter().map(offsets).collect();
    assert_eq!(found, [vec![0..2], vec![0..2]]);
}

#[tokio::test]
async fn the_deadline_answers_with_what_there_is() {
    let node = TestNode::new().topic("t", 1, &[]);
    node.append("t", 0, batch(1)).await;
    let client = Client::new(&node);
    let mut patient = request("t", &[(0, 0)]);
    patient.max_wait_ms = 1;
    patient.min_bytes = 1 << 20;
    let response = client.fetch(patient).await;
    assert_eq!(offsets(rows(&response)[0]), [0..1]);
}

#[tokio::test]
async fn a_deleted_topic_wakes_its_readers() {
    let node = TestNode::new().topic("t", 1, &[]);
    let client = Client::new(&node);
    let mut patient = request("t", &[(0, 0)]);
    patient.max_wait_ms = 60_000;
    let Handled::Later(wait) = client.begin(patient).await else {
        panic!("not parked");
    };
    let delete = async {
        let mut builder = crate::metadata::delta::ImageBuilder::new(&node.image);
        let id = topic_id("t");
        builder.apply(&MetadataRecord::RemoveTopic { id }).unwrap();
        let (delta, image) = builder.finish();
        node.replicas.apply(&delta, &image, NOW);
    };
    let (response, ()) = tokio::join!(wait, delete);
    assert_eq!(codes(&response), [ErrorCode::NOT_LEADER_OR_FOLLOWER]);
}

#[tokio::test]
async fn errors_per_partition() {
    let mut node = TestNode::new().topic("t", 3, &[]);
    node.append("t", 0, batch(5)).await;
    node.assign("t", 1, &[2], 1);
    node.assign("t", 2, &[2, 1], 4);
    let client = Client::new(&node);
    let mut asked = request("t", &[(0, 6), (0, 0), (1, 0), (2, 0), (9, 0)]);
    asked.topics[0].partitions.remove(1);
    asked.topics[0].partitions[2].current_leader_epoch = 3;
    let response = client.fetch(asked).await;
    assert_eq!(
        codes(&response),
        [
            ErrorCode::OFFSET_OUT_OF_RANGE,
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::FENCED_LEADER_EPOCH,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ]
    );
    let row = rows(&response)[0];
    assert_eq!((row.high_watermark, row.log_start_offset), (-1, -1));
    assert_eq!(row.records, Some(Records::default()));
    let unknown = client.fetch(request("nowhere", &[(0, 0)])).await;
    assert_eq!(codes(&unknown), [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
    assert_eq!(rows(&unknown)[0].aborted_transactions, Some(Vec::new()));
    let mut newer = request("t", &[(0, 0)]);
    newer.topics[0].partitions[0].current_leader_epoch = 1;
    assert_eq!(
        codes(&client.fetch(newer).await),
        [ErrorCode::UNKNOWN_LEADER_EPOCH]
    );
    let hinted = Client {
        version: 16,
        ..Client::new(&node)
    };
    let response = hinted.fetch(request("t", &[(2, 0)])).await;
    let leader = &rows(&response)[0].current_leader;
    assert_eq!((leader.leader_id, leader.leader_epoch), (2, 4));
}

#[tokio::test]
async fn topics_by_id() {
    let node = TestNode::new().topic("t", 1, &[]);
    node.append("t", 0, batch(1)).await;
    let client = Client {
        version: 13,
        ..Client::new(&node)
    };
    let response = client.fetch(request("t", &[(0, 0)])).await;
    assert_eq!(response.responses[0].topic_id, topic_id("t"));
    assert_eq!(offsets(rows(&response)[0]), [0..1]);
    let unknown = client.fetch(request("u", &[(0, 0)])).await;
    assert_eq!(codes(&unknown), [ErrorCode::UNKNOWN_TOPIC_ID]);
}

#[tokio::test]
async fn diverging_logs_are_told_where() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    node.append("t", 0, batch(3)).await;
    node.assign("t", 0, &[1], 5);
    node.append("t", 0, batch(2)).await;
    let client = Client::new(&node);
    let ask = async |fetch_offset, epoch| {
        let mut asked = request("t", &[(0, fetch_offset)]);
        asked.topics[0].partitions[0].last_fetched_epoch = epoch;
        let response = client.fetch(asked).await;
        let row = rows(&response)[0].clone();
        (
            row.error_code,
            row.diverging_epoch.epoch,
            row.diverging_epoch.end_offset,
        )
    };
    assert_eq!(ask(3, 0).await, (ErrorCode::NONE, -1, -1));
    assert_eq!(ask(4, 0).await, (ErrorCode::NONE, 0, 3));
    assert_eq!(ask(4, 3).await, (ErrorCode::NONE, 0, 3));
    assert_eq!(ask(4, 9).await, (ErrorCode::OFFSET_OUT_OF_RANGE, -1, -1));
}

#[tokio::test]
async fn replicas_need_the_right_of_a_node() {
    let node = TestNode::new().topic("t", 1, &[]);
    let as_replica = |version| {
        let mut asked = request("t", &[(0, 0)]);
        if version >= 15 {
            asked.replica_state = ReplicaState {
                replica_id: 2,
                replica_epoch: 1,
            };
        } else {
            asked.replica_id = 2;
        }
        asked
    };
    for version in [12, 17] {
        let alice = Client {
            user: "alice",
            version,
            ..Client::new(&node)
        };
        let response = alice.fetch(as_replica(version)).await;
        assert_eq!(codes(&response), [ErrorCode::TOPIC_AUTHORIZATION_FAILED]);
        let root = Client {
            version,
            ..Client::new(&node)
        };
        let response = root.fetch(as_replica(version)).await;
        assert_eq!(codes(&response), [ErrorCode::NOT_LEADER_OR_FOLLOWER]);
    }
}

#[tokio::test]
async fn unknown_isolation_levels_fail_everything() {
    let node = TestNode::new().topic("t", 1, &[]);
    let mut asked = request("t", &[(0, 0)]);
    asked.isolation_level = 2;
    let response = Client::new(&node).fetch(asked).await;
    assert_eq!(response.error_code, ErrorCode::UNKNOWN_SERVER_ERROR);
    assert_eq!(codes(&response), [ErrorCode::UNKNOWN_SERVER_ERROR]);
}

#[tokio::test]
async fn a_session_answers_what_changed() {
    let node = TestNode::new().topic("t", 3, &[]);
    let client = Client::new(&node);
    let created = client
        .fetch(in_session(
            0,
            0,
            request("t", &[(0, 0), (1, 0), (2, 0), (9, 0)]),
        ))
        .await;
    assert_eq!(indexes(&created), [0, 1, 2, 9]);
    let id = created.session_id;
    assert!(id > 0);
    // The partition in error is in every answer.
    let quiet = client.fetch(nothing_new(id, 1)).await;
    assert_eq!((quiet.session_id, indexes(&quiet)), (id, vec![9]));
    node.append("t", 1, batch(2)).await;
    let changed = client.fetch(nothing_new(id, 2)).await;
    assert_eq!(indexes(&changed), [9, 1]);
    // The position did not move: the same records come again.
    let again = client.fetch(nothing_new(id, 3)).await;
    assert_eq!(indexes(&again), [9, 1]);
    let mut moved = in_session(id, 4, request("t", &[(1, 2)]));
    moved.forgotten_topics_data = vec![ForgottenTopic {
        topic: Str::from("t"),
        topic_id: topic_id("t"),
        partitions: vec![9, 77],
    }];
    assert_eq!(indexes(&client.fetch(moved).await), [0; 0]);
    assert_eq!(indexes(&client.fetch(nothing_new(id, 5)).await), [0; 0]);
}

#[tokio::test]
async fn session_faults() {
    let node = TestNode::new().topic("t", 1, &[]);
    let client = Client::new(&node);
    let created = client
        .fetch(in_session(0, 0, request("t", &[(0, 0)])))
        .await;
    let id = created.session_id;
    let fault = async |client: &Client<'_>, request| {
        let response = client.fetch(request).await;
        assert_eq!((response.session_id, response.responses.len()), (0, 0));
        response.error_code
    };
    let not_found = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
    assert_eq!(fault(&client, nothing_new(id ^ 1, 1)).await, not_found);
    assert_eq!(fault(&client, nothing_new(0, 7)).await, not_found);
    let epoch = ErrorCode::INVALID_FETCH_SESSION_EPOCH;
    assert_eq!(fault(&client, nothing_new(id, 2)).await, epoch);
    let by_id = Client {
        version: 13,
        sessions: Arc::clone(&client.sessions),
        ..Client::new(&node)
    };
    let topic_ids = ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR;
    assert_eq!(fault(&by_id, nothing_new(id, 1)).await, topic_ids);
    // None of these moved the session on.
    let next = client.fetch(nothing_new(id, 1)).await;
    assert_eq!((next.error_code, next.session_id), (ErrorCode::NONE, id));
    let closed = client
        .fetch(in_session(id, -1, request("t", &[(0, 0)])))
        .await;
    assert_eq!((closed.session_id, indexes(&closed)), (0, vec![0]));
    assert_eq!(fault(&client, nothing_new(id, 2)).await, not_found);
}

#[tokio::test]
async fn a_session_without_partitions_ends() {
    let node = TestNode::new().topic("t", 1, &[]);
    let client = Client::new(&node);
    let created = client
        .fetch(in_session(0, 0, request("t", &[(0, 0)])))
        .await;
    let mut forget = nothing_new(created.session_id, 1);
    forget.forgotten_topics_data = vec![ForgottenTopic {
        topic: Str::from("t"),
        topic_id: topic_id("t"),
        partitions: vec![0],
    }];
    assert_eq!(client.fetch(forget).await.session_id, 0);
    assert!(client.sessions.is_empty());
}

#[tokio::test]
async fn a_revoked_right_shows_without_news() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    let acl = topic_rule("alice", Operation::Read, "t");
    node.allow(acl.clone());
    let alice = Client {
        user: "alice",
        ..Client::new(&node)
    };
    let created = alice.fetch(in_session(0, 0, request("t", &[(0, 0)]))).await;
    assert_eq!(codes(&created), [ErrorCode::NONE]);
    let sessions = Arc::clone(&alice.sessions);
    node.apply(&[MetadataRecord::RemoveAcl(acl)]);
    let alice = Client {
        user: "alice",
        sessions,
        ..Client::new(&node)
    };
    let next = alice.fetch(nothing_new(created.session_id, 1)).await;
    assert_eq!(codes(&next), [ErrorCode::TOPIC_AUTHORIZATION_FAILED]);
}

#[tokio::test]
async fn an_incremental_fetch_costs_what_changed() {
    let mut looks = Vec::new();
    for partitions in [10, 1000] {
        let node = TestNode::new().topic("t", partitions, &[]);
        let client = Client::new(&node);
        let all: Vec<(i32, i64)> = (0..partitions).map(|index| (index, 0)).collect();
        let created = client.fetch(in_session(0, 0, request("t", &all))).await;
        node.append("t", 4, batch(1)).await;
        let before = client.sessions.partitions_looked_at();
        let changed = client.fetch(nothing_new(created.session_id, 1)).await;
        assert_eq!(indexes(&changed), [4]);
        looks.push(client.sessions.partitions_looked_at() - before);
    }
    assert_eq!(looks, [1, 1]);
}

#[tokio::test]
async fn passed_over_partitions_come_first_next_time() {
    let node = TestNode::new().topic("t", 3, &[]);
    for index in 0..3 {
        node.append("t", index, batch(2)).await;
    }
    let client = Client::new(&node);
    let mut small = in_session(0, 0, request("t", &[(0, 0), (1, 0), (2, 0)]));
    small.max_bytes = 1;
    let first = client.fetch(small).await;
    let served = |response: &FetchResponse| -> Vec<i32> {
        rows(response)
            .iter()
            .filter(|row| !offsets(row).is_empty())
            .map(|row| row.partition_index)
            .collect()
    };
    assert_eq!(served(&first), [0]);
    let mut order = Vec::new();
    for epoch in 1..=4 {
        let mut next = nothing_new(first.session_id, epoch);
        next.max_bytes = 1;
        order.extend(served(&client.fetch(next).await));
    }
    assert_eq!(order, [1, 2, 0, 1]);
}

#[tokio::test]
async fn subscriptions_end_with_their_fetch() {
    let node = TestNode::new().topic("t", 1, &[]);
    let client = Client::new(&node);
    let mut patient = request("t", &[(0, 0)]);
    patient.max_wait_ms = 1;
    let end = offset(0).value();
    assert_eq!(end, node_end(&node));
    client.fetch(patient).await;
    let subscribers = || node.replicas.replicas()[0].subscribers();
    assert_eq!(subscribers(), 0);
    let created = client
        .fetch(in_session(0, 0, request("t", &[(0, 0)])))
        .await;
    assert_eq!(subscribers(), 1);
    client
        .fetch(in_session(created.session_id, -1, request("t", &[])))
        .await;
    assert_eq!(subscribers(), 0);
}
