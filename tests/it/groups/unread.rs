//! Answers about groups that nobody reads yet: what they say, and that all of them come.

use palisade_protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use palisade_protocol::messages::describe_groups::DescribeGroupsRequest;
use palisade_protocol::messages::list_groups::ListGroupsRequest;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::wire::{Connection, Transport};

const COMMIT: i16 = 8;
const FETCH: i16 = 7;
const DESCRIBE: i16 = 6;
const LIST: i16 = 5;
const CONSUMERS: i16 = 1;
const HEARTBEAT: i16 = 1;

/// So many texts of this length are sixteen megabytes: more than sockets hold.
const TEXTS: i32 = 512;
const TEXT: usize = 32_000;
const COMMITTED_AT_ONCE: usize = 16;

fn commit(
    group: &str,
    partitions: impl Iterator<Item = i32>,
    text: &str,
    offset: i64,
) -> OffsetCommitRequest {
    let partitions = partitions.map(|index| OffsetCommitRequestPartition {
        partition_index: index,
        committed_offset: offset,
        committed_metadata: Some(text.to_owned().into()),
        ..OffsetCommitRequestPartition::default()
    });
    OffsetCommitRequest {
        group_id: group.to_owned().into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "wide".into(),
            partitions: partitions.collect(),
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

fn fetch(group: &str) -> OffsetFetchRequest {
    OffsetFetchRequest {
        group_id: group.to_owned().into(),
        topics: None,
        ..OffsetFetchRequest::default()
    }
}

/// A node with the group `texts`, and a connection.
fn large() -> (Node, Connection) {
    let mut node = Node::prepare();
    node.set("offset.metadata.max.bytes", TEXT.to_string())
        .set("group.initial.rebalance.delay.ms", "0");
    node.run();
    let mut connection = super::coordinator(&node.certificate(), "texts");
    requests::create_topic(&mut connection, "wide", TEXTS, &[]).expect("a topic");
    let text = "x".repeat(TEXT);
    for from in (0..TEXTS).step_by(COMMITTED_AT_ONCE) {
        let partitions = (from..TEXTS).take(COMMITTED_AT_ONCE);
        let answer = connection.call(COMMIT, &commit("texts", partitions, &text, 1));
        let answer = answer.expect("an answer");
        let mut rows = answer.topics[0].partitions.iter();
        assert!(rows.all(|row| !row.error_code.is_error()), "{answer:?}");
    }
    (node, connection)
}

fn is_whole(answer: &OffsetFetchResponse) -> bool {
    let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let texts = rows.filter_map(|row| row.metadata.as_ref());
    texts.filter(|text| text.len() == TEXT).count() == TEXTS as usize
}

/// Each is asked for once the answer before it has left, and so knows what was done meanwhile.
#[test]
fn no_group_is_asked_for_an_answer_that_nobody_reads() {
    let (node, mut connection) = large();
    let mut other = Connection::open(&node.certificate()).expect("a login");
    let describe = DescribeGroupsRequest {
        groups: vec!["late".into()],
        ..DescribeGroupsRequest::default()
    };
    let consumers = ConsumerGroupDescribeRequest {
        group_ids: vec!["consumers".into()],
        ..ConsumerGroupDescribeRequest::default()
    };
    let first = connection.ask(FETCH, &fetch("texts")).expect("sent");
    let fetched = connection.ask(FETCH, &fetch("late")).expect("sent");
    let described = connection.ask(DESCRIBE, &describe).expect("sent");
    let consuming = connection.ask(CONSUMERS, &consumers).expect("sent");
    let listed = connection
        .ask(LIST, &ListGroupsRequest::default())
        .expect("sent");

    let late = commit("late", 0..1, "", 7);
    let answer = other.call(COMMIT, &late).expect("an answer");
    assert!(
        !answer.topics[0].partitions[0].error_code.is_error(),
        "{answer:?}"
    );
    let joining = ConsumerGroupHeartbeatRequest {
        group_id: "consumers".into(),
        member_id: "member".into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["wide".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let answer = other.call(HEARTBEAT, &joining).expect("an answer");
    assert!(!answer.error_code.is_error(), "{answer:?}");

    let answer = connection.answer::<OffsetFetchRequest>(FETCH, first);
    assert!(is_whole(&answer.expect("an answer")));
    let answer = connection.answer::<OffsetFetchRequest>(FETCH, fetched);
    let answer = answer.expect("an answer");
    let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let offsets: Vec<_> = rows.map(|row| row.committed_offset).collect();
    let answer = connection.answer::<DescribeGroupsRequest>(DESCRIBE, described);
    let state = answer.expect("an answer").groups.remove(0).group_state;
    let answer = connection.answer::<ConsumerGroupDescribeRequest>(CONSUMERS, consuming);
    let members = answer.expect("an answer").groups.remove(0).members.len();
    let answer = connection.answer::<ListGroupsRequest>(LIST, listed);
    let groups = answer.expect("an answer").groups;
    let groups: Vec<_> = groups.iter().map(|group| &*group.group_id).collect();
    assert_eq!(
        (offsets, &*state, members, groups),
        (vec![7], "Empty", 1, vec!["consumers", "late", "texts"])
    );
}

/// As if each were asked once the one before it was answered.
#[test]
fn requests_that_are_sent_at_once_are_done_in_their_order() {
    const ROUNDS: i64 = 10;
    let node = Node::start();
    let mut connection = super::coordinator(&node.certificate(), "g");
    requests::create_topic(&mut connection, "wide", 1, &[]).expect("a topic");
    let mut asked = Vec::new();
    for offset in 0..ROUNDS {
        let committed = connection.ask(COMMIT, &commit("g", 0..1, "", offset));
        let fetched = connection.ask(FETCH, &fetch("g"));
        asked.push((committed.expect("sent"), fetched.expect("sent")));
    }
    for (offset, (committed, fetched)) in (0..).zip(asked) {
        let answer = connection.answer::<OffsetCommitRequest>(COMMIT, committed);
        let rows = answer.expect("an answer").topics.remove(0).partitions;
        assert!(!rows[0].error_code.is_error(), "{rows:?}");
        let answer = connection.answer::<OffsetFetchRequest>(FETCH, fetched);
        let rows = answer.expect("an answer").topics.remove(0).partitions;
        assert_eq!(rows[0].committed_offset, offset);
    }
}

#[test]
fn who_has_nothing_more_to_ask_gets_every_answer() {
    const ASKED: usize = 3;
    let (_node, mut connection) = large();
    let asked: Vec<_> = (0..ASKED)
        .map(|_| connection.ask(FETCH, &fetch("texts")).expect("sent"))
        .collect();
    match connection.transport() {
        Transport::Tls(stream) => drop(stream.shutdown().expect("a goodbye")),
        Transport::Plain(_) => panic!("a certificate goes over TLS"),
    }
    for id in asked {
        let answer = connection.answer::<OffsetFetchRequest>(FETCH, id);
        assert!(is_whole(&answer.expect("an answer")));
    }
}
