//! Much work for few bytes: who asks a coordinator for it does not keep others waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use palisade_protocol::messages::metadata::MetadataRequest;
use palisade_protocol::text::Str;
use palisade_tests::check::{eventually, tell};
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::wire::Connection;

use super::{PATIENCE, coordinator};

const HEARTBEAT: i16 = 1;
const TOPIC: &str = "breath";

/// Many topics that do not exist, with short names.
fn names(count: usize) -> Vec<Str> {
    (0..count).map(|n| Str::from(format!("{n:05}"))).collect()
}

/// A heartbeat that joins or leaves.
fn beat(group: &str, member: &str, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.to_owned().into(),
        member_id: member.to_owned().into(),
        member_epoch,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![TOPIC.into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

/// Sends pairs of a member that joins a group and leaves it, and says how each was answered.
fn turns(
    connection: &mut Connection,
    groups: &[&str],
    pairs: usize,
    mut answered: impl FnMut(ErrorCode),
) {
    let epochs = (0..pairs).flat_map(|_| [0, -1]);
    let beats =
        epochs.flat_map(|epoch| groups.iter().map(move |group| beat(group, "hasty", epoch)));
    let asked: Vec<_> = beats
        .map(|beat| connection.ask(HEARTBEAT, &beat).expect("sent"))
        .collect();
    for id in asked {
        let answer = connection.answer::<ConsumerGroupHeartbeatRequest>(HEARTBEAT, id);
        answered(answer.expect("an answer").error_code);
    }
}

/// Groups of as many shards as there are workers and more, each of a member that names much, and a
/// small one that comes and goes: an honest request takes its turn among those.
#[test]
fn others_are_answered_between_long_turns() {
    const GROUPS: [&str; 4] = ["breath-0", "breath-1", "breath-2", "breath-3"];
    /// All of them may be on their way at once.
    const PAIRS: usize = 30;
    const ALL: usize = GROUPS.len() * PAIRS * 2;
    let node = Node::start();
    let access = node.certificate();
    let mut honest = coordinator(&access, GROUPS[0]);
    requests::create_topic(&mut honest, TOPIC, 1, &[]).expect("a topic");
    let large = names(60_000);
    for group in GROUPS {
        let joining = ConsumerGroupHeartbeatRequest {
            subscribed_topic_names: Some(large.clone()),
            ..beat(group, "large", 0)
        };
        eventually("the large member", PATIENCE, || {
            let answer = honest.call(HEARTBEAT, &joining).expect("an answer");
            match answer.error_code {
                ErrorCode::NONE => Ok(()),
                other => Err(other.name().to_owned()),
            }
        });
    }

    let done = AtomicUsize::new(0);
    let largest_gap = thread::scope(|scope| {
        let done = &done;
        let hasty = GROUPS.map(|group| {
            let mut connection = Connection::open(&access).expect("a login");
            scope.spawn(move || {
                turns(&mut connection, &[group], PAIRS, |code| {
                    assert_eq!(code, ErrorCode::NONE);
                    done.fetch_add(1, Ordering::Relaxed);
                });
            })
        });
        // How many of theirs were answered while one of hers was not.
        let (mut largest, mut before) = (0, 0);
        while !hasty.iter().all(|one| one.is_finished()) {
            let metadata = MetadataRequest::default();
            honest.call(9, &metadata).expect("an answer");
            let now = done.load(Ordering::Relaxed);
            largest = largest.max(now - before);
            before = now;
        }
        largest
    });
    tell("breath", &format!("{largest_gap} answers between two"));
    assert!(largest_gap < 2 * PAIRS, "waited for {largest_gap} of {ALL}");
}
