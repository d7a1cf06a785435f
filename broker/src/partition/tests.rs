#![allow(
    clippy::single_range_in_vec_init,
    reason = "ranges of offsets are compared as they are"
)]

mod side_by_side;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use palisade_auth::grant::{Delete, Describe, Read, Write};
use palisade_auth::principal::Principal;
use palisade_protocol::PartitionIndex;
use palisade_protocol::batch::BatchIter;
use palisade_protocol::types::{LeaderEpoch, TimestampMs, TopicId};
use palisade_storage::Asker;
use palisade_storage::fs::FaultyFs;
use tokio::time::{Instant, timeout};

use super::ready::ReadyList;
use super::testing::{
    NOW, ROOT, TestNode, batch, offset, open_on, partition_record, set, topic_id,
};
use super::waiter::Waiter;
use super::*;
use crate::config::FlushPolicyName;
use crate::metadata::record::MetadataRecord;

fn open<O: palisade_auth::grant::OperationKind>(
    node: &TestNode,
    topic: &str,
) -> Result<Partition<O>, PartitionError> {
    let grant = node.access(ROOT).topic::<O>(topic).unwrap();
    node.replicas.partition(&grant, PartitionIndex::new(0))
}

async fn append(node: &TestNode, topic: &str, count: i64) -> i64 {
    node.append(topic, 0, batch(count)).await
}

/// The records that make a topic of that name with another id, and the id.
fn made_again(name: &str) -> (TopicId, [MetadataRecord; 2]) {
    let mut id = topic_id(name).as_bytes().to_owned();
    id[15] ^= 1;
    let id = TopicId::from_bytes(id);
    let topic = MetadataRecord::Topic {
        id,
        name: name.to_owned(),
    };
    (id, [topic, partition_record(id, 0, &[1], &[1], Some(1), 0)])
}

/// Waits until the high watermark stands at `end`.
async fn committed(node: &TestNode, topic: &str, end: i64) {
    let partition = open::<Write>(node, topic).unwrap();
    let waiter = Waiter::new(1);
    partition.await_high_watermark(offset(end), partition.leader_epoch(), &waiter);
    let decided = waiter.wait(Instant::now() + Duration::from_secs(60)).await;
    assert!(decided && partition.high_watermark() >= offset(end));
}

async fn read_all(node: &TestNode, topic: &str) -> Vec<std::ops::Range<i64>> {
    let partition = open::<Read>(node, topic).unwrap();
    let limits = ReadLimits {
        isolation: Isolation::ReadUncommitted,
        max_bytes: 1 << 20,
        at_least_one: true,
    };
    let start = partition.log_start_offset();
    let read = partition.read(start, limits).await.unwrap();
    let bytes = read.slice.as_ref().map_or(&[][..], AsRef::as_ref);
    BatchIter::new(bytes)
        .map(|batch| {
            let (header, _) = batch.unwrap();
            header.base_offset.value()..header.next_offset().value()
        })
        .collect()
}

#[tokio::test]
async fn a_restart_keeps_records_and_high_watermark() {
    for flush in [FlushPolicyName::Ack, FlushPolicyName::Os] {
        let mut node = TestNode::with_flush(flush).topic("t", 1, &[]);
        append(&node, "t", 3).await;
        append(&node, "t", 2).await;
        committed(&node, "t", 5).await;
        node.restart();
        assert_eq!(
            open::<Read>(&node, "t").unwrap().high_watermark(),
            offset(5)
        );
        assert_eq!(read_all(&node, "t").await, [0..3, 3..5]);
        assert_eq!(append(&node, "t", 1).await, 5);
    }
}

#[tokio::test]
async fn a_log_waits_for_its_sync_in_the_line_of_who_sent_the_batch() {
    let node = TestNode::new().topic("as_sent", 1, &[]).topic(
        "opened",
        1,
        &[("compression.type", "gzip")],
    );
    for topic in ["as_sent", "opened"] {
        let partition = open::<Write>(&node, topic).unwrap();
        for name in ["alice", "bob"] {
            let user = Principal::user(name);
            let checked = partition.check(batch(1).freeze(), NOW, &user).await;
            let asker = checked.unwrap().asker();
            assert_eq!(asker, Asker::user(&Principal::user(name)), "{topic}");
            assert_ne!(asker, Asker::user(&Principal::user("mallory")));
        }
    }
    let own = ValidBatch::built(batch(1).freeze());
    assert_eq!(own.asker(), Asker::NODE);
}

#[tokio::test]
async fn a_recreated_topic_is_empty() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    append(&node, "t", 3).await;
    let old = open::<Read>(&node, "t").unwrap();
    node.apply(&[MetadataRecord::RemoveTopic { id: topic_id("t") }]);
    assert!(matches!(
        open::<Read>(&node, "t"),
        Err(PartitionError::NotHosted)
    ));
    assert!(matches!(old.lead(None), Err(PartitionError::Offline)));
    let (id, made) = made_again("t");
    node.apply(&made);
    assert_eq!(open::<Read>(&node, "t").unwrap().topic_id(), id);
    assert!(read_all(&node, "t").await.is_empty());
}

#[tokio::test]
async fn strays_are_kept_and_do_not_come_back() {
    let mut node = TestNode::new().topic("t", 1, &[]).topic("gone", 1, &[]);
    append(&node, "t", 3).await;
    append(&node, "gone", 3).await;
    // The cluster moves on while the node is down: one topic is deleted, one recreated.
    let (_, [topic, partition]) = made_again("t");
    node.restart_after(&[
        MetadataRecord::RemoveTopic {
            id: topic_id("gone"),
        },
        MetadataRecord::RemoveTopic { id: topic_id("t") },
        topic,
        partition,
    ]);
    for _ in 0..2 {
        assert!(read_all(&node, "t").await.is_empty());
        let directories = node.log_directories();
        assert!(directories.iter().any(|name| name == "t-0"));
        assert!(!directories.iter().any(|name| name == "gone-0"));
        let mut strays: Vec<_> = directories
            .iter()
            .filter(|name| name.ends_with("-stray"))
            .collect();
        strays.sort_unstable();
        assert_eq!(strays.len(), 2, "{strays:?}");
        for (name, topic) in strays.iter().zip(["gone", "t"]) {
            assert!(name.starts_with(&format!("{topic}-0.{}.", topic_id(topic))));
            let log = node.log_file(name);
            assert!(
                std::fs::metadata(log).unwrap().len() > 0,
                "records are kept"
            );
        }
        // Later starts pass them by, and nothing lists them.
        node.restart();
        assert_eq!(node.replicas.replicas().len(), 1);
    }
}

/// Takes files of a log's directory away.
type Loss = fn(&Path);

/// What may happen to the files of a partition while its node is down.
const LOSSES: [(&str, Loss); 4] = [
    ("the directory", |log| std::fs::remove_dir_all(log).unwrap()),
    ("everything in it", |log| {
        std::fs::remove_dir_all(log).unwrap();
        std::fs::create_dir(log).unwrap();
    }),
    ("the segments", |log| {
        for entry in std::fs::read_dir(log).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|name| name == "log") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }),
    ("the bytes of the segments", |log| {
        std::fs::write(log.join("00000000000000000000.log"), b"").unwrap();
    }),
];

#[tokio::test]
async fn a_partition_whose_records_vanished_stays_offline() {
    for (what, lose) in LOSSES {
        let mut node = TestNode::with_flush(FlushPolicyName::Ack)
            .topic("t", 2, &[])
            .topic("u", 1, &[]);
        append(&node, "t", 3).await;
        append(&node, "u", 3).await;
        committed(&node, "t", 3).await;
        let kept = tempfile::tempdir().unwrap();
        let copy = kept.path().join("copy");
        node.restart_with(&[], |logs| {
            copy_dir(&logs.join("t-0"), &copy);
            lose(&logs.join("t-0"));
        });
        for _ in 0..2 {
            assert!(
                matches!(open::<Read>(&node, "t"), Err(PartitionError::Offline)),
                "{what} lost"
            );
            assert_eq!(read_all(&node, "u").await, [0..3], "others serve");
            // A change of the topic does not make it anew either.
            node.assign("t", 1, &[1], 1);
            assert!(open::<Read>(&node, "t").is_err());
            node.restart();
        }
        node.restart_with(&[], |logs| {
            let log = logs.join("t-0");
            let _ = std::fs::remove_dir_all(&log);
            copy_dir(&copy, &log);
        });
        assert_eq!(read_all(&node, "t").await, [0..3], "{what} restored");
    }
}

#[tokio::test]
async fn records_that_vanished_can_be_given_up() {
    let mut node = TestNode::with_flush(FlushPolicyName::Ack).topic("t", 1, &[]);
    append(&node, "t", 3).await;
    committed(&node, "t", 3).await;
    let lose = |logs: &Path| std::fs::remove_dir_all(logs.join("t-0")).unwrap();
    node.restart_with(&[], lose);
    assert!(open::<Read>(&node, "t").is_err());
    node.restart_with(&[], |logs| {
        std::fs::create_dir(logs.join("t-0")).unwrap();
        std::fs::write(logs.join("t-0/accept-loss"), b"").unwrap();
    });
    for next in 3..5 {
        assert_eq!(append(&node, "t", 1).await, next);
        node.restart();
    }
    assert_eq!(read_all(&node, "t").await, [3..4, 4..5]);
}

#[tokio::test]
async fn a_topic_whose_records_vanished_can_be_deleted() {
    let mut node = TestNode::with_flush(FlushPolicyName::Ack).topic("t", 1, &[]);
    append(&node, "t", 3).await;
    node.restart_with(&[], |logs| {
        std::fs::remove_dir_all(logs.join("t-0")).unwrap();
    });
    assert!(open::<Read>(&node, "t").is_err());
    node.apply(&[MetadataRecord::RemoveTopic { id: topic_id("t") }]);
    let (_, made) = made_again("t");
    node.apply(&made);
    assert_eq!(append(&node, "t", 1).await, 0);
    node.restart();
    assert_eq!(read_all(&node, "t").await, [0..1]);
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn settings_reach_open_partitions() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    append(&node, "t", 3).await;
    node.apply(&[
        set("t", "max.message.bytes", "70"),
        set("t", "segment.bytes", "2000000"),
    ]);
    let partition = open::<Write>(&node, "t").unwrap();
    let user = Principal::user(ROOT);
    let refused = partition.check(batch(3).freeze(), NOW, &user).await;
    let refused = refused.unwrap_err();
    assert_eq!(
        refused.code,
        palisade_protocol::ErrorCode::MESSAGE_TOO_LARGE
    );
    let replica = &node.replicas.replicas()[0];
    assert_eq!(replica.log.config().segment_bytes, 2_000_000);
}

#[tokio::test]
async fn the_high_watermark_waits_for_the_sync_and_the_isr() {
    let mut node = TestNode::with_flush(FlushPolicyName::Ack).topic("t", 1, &[]);
    append(&node, "t", 2).await;
    committed(&node, "t", 2).await;
    // With a second in-sync replica nothing moves before that one has fetched.
    node.assign("t", 0, &[1, 2], 1);
    append(&node, "t", 2).await;
    let partition = open::<Read>(&node, "t").unwrap();
    assert_eq!(partition.high_watermark(), offset(2));
    let replica = &node.replicas.replicas()[0];
    let follower = replica::Follower {
        log_end: offset(3),
        log_start: offset(0),
    };
    replica.follower_fetched(palisade_protocol::BrokerId::new(2), follower);
    assert_eq!(partition.high_watermark(), offset(3));
    assert_eq!(read_all(&node, "t").await, [0..2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_appends_leave_no_gap() {
    let node = Arc::new(TestNode::new().topic("t", 1, &[("segment.bytes", "1048576")]));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let node = Arc::clone(&node);
            crate::task::spawn("test", async move {
                for _ in 0..50 {
                    append(&node, "t", 7).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let expected: Vec<_> = (0..400).map(|at| at * 7..at * 7 + 7).collect();
    assert_eq!(read_all(&node, "t").await, expected);
    assert_eq!(
        open::<Read>(&node, "t").unwrap().high_watermark(),
        offset(2800)
    );
}

#[tokio::test]
async fn appends_go_to_the_disk_thread_while_writes_are_slow() {
    let node = TestNode::new().topic("t", 1, &[]);
    let directory = &node.replicas.directories()[0];
    directory.note_write(Duration::from_millis(6));
    assert!(directory.is_slow());
    assert_eq!(append(&node, "t", 2).await, 0);
    // A quick write brings them back.
    assert!(!directory.is_slow());
    assert_eq!(append(&node, "t", 2).await, 2);
    assert_eq!(read_all(&node, "t").await, [0..2, 2..4]);
}

#[tokio::test]
async fn an_old_epoch_appends_nothing() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    let partition = open::<Write>(&node, "t").unwrap();
    let user = Principal::user(ROOT);
    let valid = partition.check(batch(1).freeze(), NOW, &user).await;
    let valid = valid.unwrap();
    node.assign("t", 0, &[1], 3);
    let refused = partition.append(valid, LeaderEpoch::new(0), NOW).await;
    assert!(matches!(refused, Err(PartitionError::NotLeader { .. })));
    assert!(read_all(&node, "t").await.is_empty());
}

#[tokio::test]
async fn what_a_creation_left_half_made_goes_at_the_start() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    let segment = "00000000000000000000.log";
    node.restart_with(&[], |logs| {
        let make = |name: &str, files: &[(&str, &str)]| {
            let dir = logs.join(name);
            std::fs::create_dir(&dir).unwrap();
            for (file, content) in files {
                std::fs::write(dir.join(file), content).unwrap();
            }
        };
        make("half-0", &[]);
        make("half-1", &[("partition.metadata.tmp", "version=1")]);
        make("half-2", &[("partition.metadata.tmp", ""), (segment, "")]);
        make("whose-0", &[(segment, "records")]);
        make("photos-2024", &[("me.jpg", "")]);
    });
    // The same thread answers when it has removed them.
    let directory = &node.replicas.directories()[0];
    directory.run(|| ()).await.unwrap();
    let mut left = node.log_directories();
    left.retain(|name| {
        !name.starts_with("t-") && name.contains('-') && !name.contains("checkpoint")
    });
    left.sort_unstable();
    assert_eq!(left, ["photos-2024", "whose-0"]);
}

#[tokio::test]
async fn retention_follows_the_high_watermark() {
    let config = [("retention.ms", "1000"), ("segment.bytes", "1024")];
    let node = TestNode::new().topic("t", 1, &config);
    for _ in 0..40 {
        append(&node, "t", 10).await;
    }
    let partition = open::<Describe>(&node, "t").unwrap();
    assert_eq!(partition.log_start_offset(), offset(0));
    let later = TimestampMs::new(NOW.value() + 100_000);
    node.replicas.apply_retention(later);
    // The same thread answers after the pass.
    let directory = &node.replicas.directories()[0];
    timeout(Duration::from_secs(60), directory.run(|| ()))
        .await
        .unwrap()
        .unwrap();
    assert!(partition.log_start_offset() > offset(0));
    assert!(partition.log_start_offset() <= partition.high_watermark());
}

#[tokio::test]
async fn records_are_deleted_only_once_that_is_stored() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    append(&node, "t", 4).await;
    committed(&node, "t", 4).await;
    let logs = node.log_file("t-0").ancestors().nth(2).unwrap().to_owned();
    // A directory in the place of the temporary file refuses every new checkpoint.
    let in_the_way = logs.join("log-start-offset-checkpoint.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    for _ in 0..2 {
        let partition = open::<Delete>(&node, "t").unwrap();
        let refused = partition.delete_records_before(offset(3)).await;
        assert!(matches!(refused, Err(PartitionError::Storage(_))));
    }
    std::fs::remove_dir(&in_the_way).unwrap();
    let partition = open::<Delete>(&node, "t").unwrap();
    partition.delete_records_before(offset(3)).await.unwrap();
    drop(partition);
    node.restart();
    let partition = open::<Describe>(&node, "t").unwrap();
    assert_eq!(partition.log_start_offset(), offset(3));
}

#[tokio::test]
async fn a_node_hosts_what_is_assigned_to_it() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    append(&node, "t", 1).await;
    node.assign("t", 0, &[2], 1);
    assert!(matches!(
        open::<Read>(&node, "t"),
        Err(PartitionError::NotHosted)
    ));
    assert!(!node.log_directories().iter().any(|name| name == "t-0"));
}

/// Tries all logs that wait, once; tells whether one was opened.
fn reopen(node: &TestNode) -> bool {
    let waiting = node.replicas.waiting().into_iter();
    let opened =
        waiting.filter(|&(topic, index)| node.replicas.reopen(&node.image, topic, index, NOW));
    opened.count() > 0
}

#[test]
fn a_log_that_found_no_room_is_tried_again() {
    let fs = FaultyFs::new();
    let mut node = TestNode::new();
    node.replicas = open_on(Path::new("/logs"), fs.as_fs(), FlushPolicyName::Os);
    fs.set_capacity(fs.used());
    node = node.topic("t", 2, &[]);
    let refused = open::<Write>(&node, "t");
    assert!(matches!(refused, Err(PartitionError::Offline)));
    assert!(!reopen(&node));
    assert!(open::<Write>(&node, "t").is_err(), "there is still no room");
    fs.set_capacity(1 << 40);
    assert!(reopen(&node));
    open::<Write>(&node, "t").expect("a log");
}

#[tokio::test]
async fn a_log_that_was_refused_waits_for_an_operator() {
    let mut node = TestNode::new();
    // A file where the directory should be refuses it as the system does.
    let in_the_way = node.log_file("t-0").parent().unwrap().to_owned();
    std::fs::write(&in_the_way, "").unwrap();
    node = node.topic("t", 2, &[]);
    let refused = open::<Write>(&node, "t");
    assert!(matches!(refused, Err(PartitionError::Offline)));
    std::fs::remove_file(&in_the_way).unwrap();
    assert!(!reopen(&node));
    assert!(open::<Write>(&node, "t").is_err(), "nobody tries again");
    node.restart();
    assert_eq!(append(&node, "t", 2).await, 0);
    committed(&node, "t", 2).await;
    node.restart();
    assert_eq!(read_all(&node, "t").await, [0..2]);
}

#[test]
fn a_subscription_does_not_keep_what_is_deleted() {
    let mut node = TestNode::new().topic("t", 1, &[]);
    let replica = node.replicas.replicas().remove(0);
    let ready = ReadyList::new();
    let subscribed = replica.subscribe(ready.subscription(0, 1));
    assert_eq!(replica.subscribers(), 1);
    let kept = Arc::downgrade(&replica);
    drop(replica);
    node.apply(&[MetadataRecord::RemoveTopic { id: topic_id("t") }]);
    assert_eq!(kept.strong_count(), 0, "its files would stay open");
    drop(subscribed);
}
