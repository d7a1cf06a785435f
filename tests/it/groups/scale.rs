//! Ten thousand groups with a hundred thousand offsets: what they take, and how they come back.

use std::fs;

use palisade_protocol::error_code::ErrorCode;
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
