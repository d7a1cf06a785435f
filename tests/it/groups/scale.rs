//! Ten thousand groups with a hundred thousand offsets: what they take, and how they come back. Five
//! thousand members that say that they live: nothing of it is written. What it costs is printed.

use std::fs;

use palisade_protocol::api::ApiKey;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, RequestTopicPartitions,
};
use palisade_protocol::messages::heartbeat::HeartbeatRequest;
use palisade_protocol::messages::join_group::JoinGroupRequest;
use palisade_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_tests::access::Access;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests::{self, newest};
use palisade_tests::wire::Connection;

use super::{PATIENCE, committed, coordinator, joining};

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

/// Records that were ever written to the topic of groups.
fn written(connection: &mut Connection) -> i64 {
    const PARTITIONS: i32 = 50;
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "__consumer_offsets".into(),
            partitions: (0..PARTITIONS)
                .map(|index| ListOffsetsPartition {
                    partition_index: index,
                    timestamp: -1,
                    ..ListOffsetsPartition::default()
                })
                .collect(),
        }],
        ..ListOffsetsRequest::default()
    };
    let version = newest(ApiKey::ListOffsets);
    let answer = connection.call(version, &request).expect("an answer");
    let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
    rows.map(|row| {
        assert_eq!(row.error_code, ErrorCode::NONE);
        row.offset
    })
    .sum()
}

/// A member of the consumer protocol, and the heartbeat it sends next.
struct Native {
    beat: ConsumerGroupHeartbeatRequest,
    /// How many partitions it has been given.
    owned: usize,
}

impl Native {
    /// The `number`th of all members, of which `size` are in one group.
    fn new(number: usize, size: usize) -> Self {
        let beat = ConsumerGroupHeartbeatRequest {
            group_id: format!("native-{size}-{}", number / size).into(),
            member_id: format!("00000000-0000-4000-8000-{number:012}").into(),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![TOPIC.into()]),
            topic_partitions: Some(Vec::new()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        Native { beat, owned: 0 }
    }

    /// Takes an answer; whether it brought anything new.
    fn heard(&mut self, answer: ConsumerGroupHeartbeatResponse) -> bool {
        assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
        let is_news = answer.member_epoch != self.beat.member_epoch;
        let assigned: Option<Vec<_>> = answer.assignment.map(|assignment| {
            let topics = assignment.topic_partitions.into_iter();
            let topics = topics.map(|topic| RequestTopicPartitions {
                topic_id: topic.topic_id,
                partitions: topic.partitions,
            });
            topics.collect()
        });
        let is_news = is_news || assigned.is_some();
        if let Some(assigned) = &assigned {
            self.owned = assigned.iter().map(|topic| topic.partitions.len()).sum();
        }
        self.beat = ConsumerGroupHeartbeatRequest {
            group_id: self.beat.group_id.clone(),
            member_id: self.beat.member_id.clone(),
            member_epoch: answer.member_epoch,
            topic_partitions: assigned,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        is_news
    }
}

/// One heartbeat of every member; how many answers brought anything new.
fn beat(connection: &mut Connection, members: &mut [Native]) -> usize {
    let mut news = 0;
    for chunk in members.chunks_mut(PIPELINE) {
        let asked: Vec<_> = chunk
            .iter()
            .map(|member| connection.ask(1, &member.beat).expect("sent"))
            .collect();
        for (member, id) in chunk.iter_mut().zip(asked) {
            let answer = connection.answer::<ConsumerGroupHeartbeatRequest>(1, id);
            news += usize::from(member.heard(answer.expect("an answer")));
        }
    }
    news
}

/// For the consumer protocol, where a member's heartbeat is compared with its group's target, in
/// small groups and in a large one.
#[test]
fn heartbeats_of_consumer_groups_write_nothing() {
    const MEMBERS: usize = 5000;
    const BEATS: usize = 20;
    for size in [1, 100, MEMBERS] {
        let mut node = Node::prepare();
        node.set("group.consumer.session.timeout.ms", "60000");
        node.run();
        let access = node.certificate();
        let mut connection = coordinator(&access, "native");
        requests::create_topic(&mut connection, TOPIC, 100, &[]).expect("a topic");
        let mut members: Vec<_> = (0..MEMBERS).map(|at| Native::new(at, size)).collect();
        let (empty, idle) = (anonymous_memory(&node), ticks(&node));
        beat(&mut connection, &mut members);
        let joined = ticks(&node);
        // Every join raises the epoch of its group, which begins with 1.
        let last = i32::try_from(size).expect("a small number") + 1;
        eventually("an assignment for everyone", PATIENCE, || {
            let news = beat(&mut connection, &mut members);
            let arrived = members
                .iter()
                .all(|member| member.beat.member_epoch == last);
            let owned: usize = members.iter().map(|member| member.owned).sum();
            match news == 0 && arrived && owned == MEMBERS / size * 100 {
                true => Ok(()),
                false => Err(format!(
                    "{news} had news, {owned} partitions, all at {last}: {arrived}"
                )),
            }
        });
        let settled = ticks(&node);
        let full = anonymous_memory(&node);
        let before = written(&mut connection);
        assert!(before >= i64::from(last), "{before} records");
        for _ in 0..BEATS {
            assert_eq!(beat(&mut connection, &mut members), 0);
        }
        assert_eq!(written(&mut connection), before);
        let count = u64::try_from(MEMBERS).expect("a small number");
        let beats = count * u64::try_from(BEATS).expect("a small number");
        let micros = |ticks: u64, count: u64| ticks * 10_000 / count;
        println!(
            "{MEMBERS} members, {size} in a group: join {} us, until settled {} us, then {} us a \
             heartbeat, {} bytes a member",
            micros(joined - idle, count),
            micros(settled - joined, count),
            micros(ticks(&node) - settled, beats),
            full.saturating_sub(empty) / count
        );
    }
}

#[test]
fn heartbeats_write_nothing() {
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
                let request = joining(&format!("beat-{group}"));
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
    let (before, records) = (ticks(&node), written(&mut connection));
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
    assert_eq!(written(&mut connection), records);
    let ticks = ticks(&node) - before;
    let beats = u64::try_from(MEMBERS * BEATS).expect("a small number");
    println!("{beats} heartbeats: {} us each", ticks * 10_000 / beats);
}
