//! Ten thousand groups with a hundred thousand offsets: what they take, and how they come back. Five
//! thousand members that say that they live: what that costs.

use std::fs;

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::heartbeat::HeartbeatRequest;
use palisade_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_tests::access::Access;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::wire::Connection;

use super::{PATIENCE, committed, coordinator};

const TOPIC: &str = "scale";
const PARTITIONS: i32 = 10;
/// Groups in one half; there are two.
const HALF: usize = 5000;
/// Requests on their way at once.
const PIPELINE: usize = 100;

fn commit(connection: &mut Connection, groups: std::ops::Range<usize>) {
    for chunk in groups.collect::<Vec<_>>().chunks(PIPELINE) {
        let asked: Vec<_> = chunk
            .iter()
            .map(|group| {
                let partitions = (0..PARTITIONS).map(|index| OffsetCommitRequestPartition {
                    partition_index: index,
                    committed_offset: i64::from(index),
                    ..OffsetCommitRequestPartition::default()
                });
                let request = OffsetCommitRequest {
                    group_id: format!("scale-{group}").into(),
                    topics: vec![OffsetCommitRequestTopic {
                        name: TOPIC.into(),
                        partitions: partitions.collect(),
                        ..OffsetCommitRequestTopic::default()
                    }],
                    ..OffsetCommitRequest::default()
                };
                connection.ask(8, &request).expect("sent")
            })
            .collect();
        for id in asked {
            let answer = connection.answer::<OffsetCommitRequest>(8, id);
            let answer = answer.expect("an answer");
            let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
            for row in rows {
                assert_eq!(row.error_code, ErrorCode::NONE);
            }
        }
    }
}

/// Bytes of memory that the process has for itself: files it maps come and go as the kernel likes.
fn anonymous_memory(node: &Node) -> u64 {
    let path = format!("/proc/{}/status", node.process().id());
    let status = fs::read_to_string(path).expect("a process has a status");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number")
        * 1024
}

fn check(access: &Access, group: usize) {
    let mut connection = Connection::open(access).expect("a login");
    let found = eventually("the coordinator to have loaded", PATIENCE, || {
        committed(
            &mut connection,
            &format!("scale-{group}"),
            TOPIC,
            PARTITIONS,
        )
    });
    assert_eq!(found, (0..i64::from(PARTITIONS)).collect::<Vec<_>>());
}

#[test]
fn many_groups_take_little() {
    let mut node = Node::prepare();
    node.run();
    let access = node.certificate();
    let mut connection = coordinator(&access, "scale-0");
    requests::create_topic(&mut connection, TOPIC, PARTITIONS, &[]).expect("a topic");
    let empty = anonymous_memory(&node);
    commit(&mut connection, 0..HALF);
    let half = anonymous_memory(&node);
    commit(&mut connection, HALF..2 * HALF);
    let full = anonymous_memory(&node);
    let (first, second) = (half.saturating_sub(empty), full.saturating_sub(half));
    println!("{} groups, {} offsets", 2 * HALF, 20 * HALF);
    println!("memory: {empty} bytes, then {first} and {second} more");
    // Linear: what maps reserve ahead may double, no more.
    assert!(second <= first.max(4 << 20) * 2, "{empty} {half} {full}");
    assert!(full - empty < 64 << 20, "{empty} {half} {full}");

    node.kill();
    node.run();
    for group in [0, HALF, 2 * HALF - 1] {
        check(&access, group);
    }
    let lines = node.process().lines();
    let loads = lines.iter().filter(|line| line.contains("groups loaded"));
    println!("{}", loads.cloned().collect::<Vec<_>>().join("\n"));
    println!(
        "memory after the restart: {} bytes",
        anonymous_memory(&node)
    );
}

/// Ticks of the clock, a hundredth of a second each, that the process has worked.
fn ticks(node: &Node) -> u64 {
    let path = format!("/proc/{}/stat", node.process().id());
    let stat = fs::read_to_string(path).expect("a process has a status");
    // User and system time are the 14th and 15th field; the second, a name, ends with a bracket.
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let fields = fields.split_whitespace().skip(11).take(2);
    fields
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn heartbeats_cost_little() {
    const MEMBERS: usize = 5000;
    const BEATS: usize = 20;
    let mut node = Node::prepare();
    node.set("group.initial.rebalance.delay.ms", "0");
    node.run();
    let access = node.certificate();
    let mut connection = coordinator(&access, "beat-0");
    let mut members = Vec::with_capacity(MEMBERS);
    for groups in (0..MEMBERS).collect::<Vec<_>>().chunks(PIPELINE) {
        let asked: Vec<_> = groups
            .iter()
            .map(|group| {
                let request = JoinGroupRequest {
                    group_id: format!("beat-{group}").into(),
                    session_timeout_ms: 60_000,
                    rebalance_timeout_ms: 60_000,
                    protocol_type: "consumer".into(),
                    protocols: vec![JoinGroupRequestProtocol {
                        name: "range".into(),
                        metadata: vec![0, 0, 0, 0, 0, 0, 255, 255, 255, 255].into(),
                    }],
                    ..JoinGroupRequest::default()
                };
                connection.ask(3, &request).expect("sent")
            })
            .collect();
        for (group, id) in groups.iter().zip(asked) {
            let answer = connection.answer::<JoinGroupRequest>(3, id);
            let answer = answer.expect("an answer");
            assert_eq!(answer.error_code, ErrorCode::NONE);
            members.push(HeartbeatRequest {
                group_id: format!("beat-{group}").into(),
                generation_id: answer.generation_id,
                member_id: answer.member_id,
                ..HeartbeatRequest::default()
            });
        }
    }
    let before = ticks(&node);
    for _ in 0..BEATS {
        for chunk in members.chunks(PIPELINE) {
            let asked = chunk.iter().map(|beat| connection.ask(3, beat));
            let asked: Vec<_> = asked.map(|id| id.expect("sent")).collect();
            for id in asked {
                let answer = connection.answer::<HeartbeatRequest>(3, id);
                assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
            }
        }
    }
    let ticks = ticks(&node) - before;
    let beats = u64::try_from(MEMBERS * BEATS).expect("a small number");
    println!("{beats} heartbeats: {} us each", ticks * 10_000 / beats);
}
