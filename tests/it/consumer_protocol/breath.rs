//! Much work for few bytes: who asks a coordinator for it does not keep others waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::{BufMut, Bytes, BytesMut};
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use palisade_protocol::messages::metadata::MetadataRequest;
use palisade_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use palisade_protocol::messages::sync_group::SyncGroupRequest;
use palisade_protocol::text::Str;
use palisade_tests::check::{eventually, tell};
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::wire::Connection;

use super::{PATIENCE, coordinator};

const HEARTBEAT: i16 = 1;
const OFFSET_DELETE: i16 = 0;
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

/// Asks for a committed offset of a group to be deleted.
fn deletion(group: &str) -> OffsetDeleteRequest {
    let partition = OffsetDeleteRequestPartition::default();
    let topic = OffsetDeleteRequestTopic {
        name: TOPIC.into(),
        partitions: vec![partition],
    };
    OffsetDeleteRequest {
        group_id: group.to_owned().into(),
        topics: vec![topic],
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

/// Groups of as many shards as there are workers and more, each of a member that names much. Who has
/// offsets deleted has all those names read, as often as he asks: an honest request takes its turn
/// among those.
#[test]
fn others_are_answered_between_long_turns() {
    const GROUPS: [&str; 4] = ["breath-0", "breath-1", "breath-2", "breath-3"];
    /// All of them may be on their way at once.
    const EACH: usize = 60;
    const ALL: usize = GROUPS.len() * EACH;
    let mut node = Node::prepare();
    node.run();
    node.create_admin();
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
                let request = deletion(group);
                let asked: Vec<_> = (0..EACH)
                    .map(|_| connection.ask(OFFSET_DELETE, &request).expect("sent"))
                    .collect();
                for id in asked {
                    let answer = connection.answer::<OffsetDeleteRequest>(OFFSET_DELETE, id);
                    assert_eq!(answer.expect("an answer").error_code, ErrorCode::NONE);
                    done.fetch_add(1, Ordering::Relaxed);
                }
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
    assert!(largest_gap < EACH, "waited for {largest_gap} of {ALL}");
}

/// A subscription as the embedded protocol of consumers has it.
fn subscription(names: &[Str]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_i32(i32::try_from(names.len()).expect("a count"));
    for name in names {
        bytes.put_i16(i16::try_from(name.len()).expect("a short name"));
        bytes.put_slice(name.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.put_i32(0);
    bytes.freeze()
}

/// A classic member, alone in its group.
fn classic(connection: &mut Connection, group: &str, metadata: Bytes) {
    let request = requests::join(group, metadata);
    let joined = eventually("the coordinator", PATIENCE, || {
        let joined = connection.call(3, &request).expect("an answer");
        match joined.error_code {
            ErrorCode::NONE => Ok(joined),
            other => Err(other.name().to_owned()),
        }
    });
    let request = SyncGroupRequest {
        group_id: group.to_owned().into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id,
        ..SyncGroupRequest::default()
    };
    let synced = connection.call(2, &request).expect("an answer");
    assert_eq!(synced.error_code, ErrorCode::NONE);
}

/// Whoever has large groups turned up and down is told to come again, in whatever group; others are
/// not, and after a while he gets on.
#[test]
fn conversions_of_one_user_are_held_back() {
    const GROUPS: [&str; 2] = ["held-0", "held-1"];
    let mut node = Node::prepare();
    node.set("group.initial.rebalance.delay.ms", "0");
    node.run();
    node.create_admin();
    let mut alice = coordinator(&node.certificate(), GROUPS[0]);
    let mut mallory = Connection::open(&node.scram("SCRAM-SHA-512")).expect("a login");
    requests::create_topic(&mut alice, TOPIC, 1, &[]).expect("a topic");
    for group in GROUPS {
        classic(&mut mallory, group, subscription(&names(20_000)));
    }
    let mut codes = Vec::new();
    turns(&mut mallory, &GROUPS, 15, |code| codes.push(code));
    assert_eq!(codes[..4], [ErrorCode::NONE; 4], "some are free");
    let again = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    assert!(codes.contains(&again), "{codes:?}");

    for group in GROUPS {
        turns(&mut alice, &[group], 1, |code| {
            assert_eq!(code, ErrorCode::NONE);
        });
    }
    eventually("his turn", PATIENCE, || {
        let answer = mallory.call(HEARTBEAT, &beat(GROUPS[0], "hasty", 0));
        match answer.expect("an answer").error_code {
            ErrorCode::NONE => Ok(()),
            other => Err(other.name().to_owned()),
        }
    });
}
