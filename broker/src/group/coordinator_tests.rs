//! The whole coordinator over real logs: elected, deposed, elected again.

mod aside;
mod expressions;
mod leaving;
mod turns;

use std::future::poll_fn;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use palisade_protocol::batch::{BatchBuilder, Codec};
use palisade_protocol::types::{LeaderEpoch, PartitionIndex};
use palisade_protocol::{ErrorCode, Str, Uuid};
use tokio::time::Instant;

use super::classic::{JoinAnswer, JoinAsk};
use super::config::GroupConfig;
use super::coordinator::{Awaited, GroupCoordinator, TOPIC};
use super::decision::Decision;
use super::error::GroupError;
use super::record::{GroupRecord, OffsetCommitValue};
use super::shard::{CommitAsk, CommitRow, FetchAsk, Fetcher, Shard};
use super::step::{Moment, Step};
use crate::metadata::record::MetadataRecord;
use crate::metadata::{ClusterDelta, ImageListener, Internal, MetadataHandle};
use crate::partition::testing::{NODE, NOW, TestNode, partition_record, topic_id};
use crate::shutdown::{Shutdown, Stage};

struct Rig {
    node: TestNode,
    groups: Arc<GroupCoordinator>,
    metadata: MetadataHandle,
    shutdown: Shutdown,
}

impl Rig {
    /// A coordinator of one partition, in epoch 0.
    fn new() -> Self {
        Self::over(TestNode::new().topic(TOPIC, 1, &[]))
    }

    /// A coordinator of what a node has.
    fn over(node: TestNode) -> Self {
        Self::with(node, GroupConfig::defaults())
    }

    /// The same with settings besides those that keep a test waiting.
    fn with(node: TestNode, config: GroupConfig) -> Self {
        let shutdown = Shutdown::new();
        let config = GroupConfig {
            initial_rebalance_delay: Duration::ZERO,
            commit_timeout: Duration::from_secs(60),
            ..config
        };
        let metadata = MetadataHandle::new(Arc::clone(&node.image));
        let groups = GroupCoordinator::with(
            config,
            NODE,
            Arc::clone(&node.replicas),
            metadata.clone(),
            shutdown.clone(),
        );
        let rig = Self {
            node,
            groups,
            metadata,
            shutdown,
        };
        rig.follow();
        rig
    }

    /// Has the coordinator see the node's image, and act on it.
    fn follow(&self) {
        let everything = self.publish();
        self.groups.changed(&everything, &self.node.image);
    }

    /// Has the coordinator see the node's image.
    fn publish(&self) -> ClusterDelta {
        let everything = ClusterDelta::everything(&self.node.image);
        self.metadata.publish(&everything, &self.node.image);
        everything
    }

    /// Gives the partition to a node in an epoch.
    fn elect(&mut self, leader: i32, epoch: i32) {
        self.record(leader, epoch);
        self.follow();
    }

    /// The same, of which the coordinator knows nothing yet.
    fn record(&mut self, leader: i32, epoch: i32) {
        let id = topic_id(TOPIC);
        let record = partition_record(id, 0, &[1, 2], &[1, 2], Some(leader), epoch);
        self.node.apply(&[record]);
        // One replica again: nobody else answers in this test.
        if leader == 1 {
            let alone = partition_record(id, 0, &[1], &[1], Some(1), epoch);
            self.node.apply(&[alone]);
        }
    }

    /// Asks until the log is read.
    async fn commit(&self, offset: i64) -> Result<Vec<ErrorCode>, GroupError> {
        loop {
            let rows = vec![CommitRow {
                topic: "t".into(),
                topic_id: Uuid::NIL,
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: Str::EMPTY,
            }];
            let ask = CommitAsk {
                member_id: Str::EMPTY,
                instance_id: None,
                generation: -1,
                retention_ms: None,
                knows_consumer_groups: true,
                rows,
            };
            let asked = self
                .groups
                .ask("g".into(), |shard, moment, asker| {
                    Step::decided(shard.commit(&"g".into(), ask, moment), asker)
                })
                .await;
            match asked {
                Ok(awaited) => return awaited.answer().await?,
                Err(GroupError::Loading) => tokio::task::yield_now().await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn offset(&self) -> Result<i64, GroupError> {
        loop {
            let ask = FetchAsk::Topics(vec![("t".into(), None, vec![0])]);
            let asked = self
                .groups
                .ask("g".into(), |shard, _, asker| {
                    Step::decided(shard.fetch(&"g".into(), &Fetcher::NOBODY, ask), asker)
                })
                .await;
            match asked {
                Ok(awaited) => {
                    let topics = awaited.answer().await??;
                    return Ok(topics[0].partitions[0].offset);
                }
                Err(GroupError::Loading) => tokio::task::yield_now().await,
                Err(error) => return Err(error),
            }
        }
    }

    /// A new member: the first one is let in, the next one waits for the first to rejoin.
    async fn parked(&self, chance: u8) -> Awaited<JoinAnswer> {
        let session = Duration::from_secs(45);
        self.join("members", chance, session).await
    }

    /// A new member of a group.
    async fn join(&self, group: &str, chance: u8, session: Duration) -> Awaited<JoinAnswer> {
        let ask = JoinAsk {
            session_timeout: session,
            ..JoinAsk::of_a_consumer(Uuid::from_bytes([chance; 16]))
        };
        let group = Str::copy(group);
        let asked = self
            .groups
            .ask(group.clone(), move |shard, moment, asker| {
                shard.join(&group, ask, asker, moment)
            })
            .await;
        asked.expect("an active coordinator")
    }
}

#[tokio::test]
async fn state_follows_leadership() {
    let mut rig = Rig::new();
    assert_eq!(rig.commit(7).await, Ok(vec![ErrorCode::NONE]));
    assert_eq!(rig.offset().await, Ok(7));
    rig.elect(2, 1);
    assert_eq!(rig.offset().await, Err(GroupError::NotCoordinator));
    rig.elect(1, 2);
    assert_eq!(rig.offset().await, Ok(7));
    assert_eq!(rig.commit(8).await, Ok(vec![ErrorCode::NONE]));
    // Elected again without having lost it: the epoch alone makes a new coordinator.
    rig.elect(1, 3);
    assert_eq!(rig.offset().await, Ok(8));
}

#[tokio::test]
async fn without_a_topic_there_is_no_coordinator() {
    let mut rig = Rig::new();
    assert_eq!(rig.commit(7).await, Ok(vec![ErrorCode::NONE]));
    rig.node.apply(&[MetadataRecord::RemoveTopic {
        id: topic_id(TOPIC),
    }]);
    rig.follow();
    assert_eq!(rig.offset().await, Err(GroupError::NotAvailable));
}

#[tokio::test]
async fn a_topic_that_could_not_be_made_is_left_for_a_moment() {
    let rig = Rig::new();
    let now = Instant::now();
    assert!(rig.groups.may_make_topic(now));
    rig.groups.topic_not_made(now);
    assert!(!rig.groups.may_make_topic(now));
    let almost = now + Duration::from_millis(999);
    assert!(!rig.groups.may_make_topic(almost));
    assert!(rig.groups.may_make_topic(now + Duration::from_secs(1)));
}

#[tokio::test]
async fn a_coordinator_in_the_making_loads() {
    let mut rig = Rig::new();
    rig.elect(2, 1);
    assert_eq!(rig.offset().await, Err(GroupError::NotCoordinator));
    rig.record(1, 2);
    rig.publish();
    let asked = rig.groups.ask::<()>("g".into(), |_, _, _| Step::none());
    assert_eq!(asked.await.map(drop), Err(GroupError::Loading));
    rig.follow();
    assert_eq!(rig.commit(7).await, Ok(vec![ErrorCode::NONE]));
}

#[tokio::test]
async fn a_coordinator_in_the_making_is_waited_for() {
    let mut rig = Rig::new();
    rig.elect(2, 1);
    rig.record(1, 2);
    rig.publish();
    let index = PartitionIndex::new(0);
    let groups = Arc::clone(&rig.groups);
    let hour = Instant::now() + Duration::from_secs(3600);
    let mut wait = pin!(groups.wait_taken_up(index, hour));
    assert!(poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_pending())).await);
    rig.follow();
    assert!(wait.await);
    rig.elect(2, 3);
    assert!(!groups.wait_taken_up(index, Instant::now()).await);
}

#[tokio::test]
async fn who_waits_learns_that_the_partition_is_lost() {
    let mut rig = Rig::new();
    rig.commit(1).await.unwrap();
    let first = rig.parked(1).await;
    first.answer().await.unwrap().unwrap();
    // The first member does not come back, so the second one waits for it.
    let waiting = rig.parked(2).await;
    rig.elect(2, 1);
    let answer = waiting.answer().await;
    match answer {
        Ok(Err(refused)) => assert_eq!(refused.error, GroupError::NotCoordinator),
        Err(error) => assert_eq!(error, GroupError::NotCoordinator),
        Ok(Ok(joined)) => panic!("{joined:?}"),
    }
}

#[tokio::test]
async fn a_stop_answers_who_waits() {
    let rig = Rig::new();
    rig.commit(1).await.unwrap();
    let first = rig.parked(1).await;
    first.answer().await.unwrap().unwrap();
    let waiting = rig.parked(2).await;
    rig.shutdown.advance(Stage::Draining);
    let refused = waiting.answer().await.unwrap().unwrap_err();
    assert_eq!(refused.error, GroupError::NotCoordinator);
    // What is quick is still served.
    assert_eq!(rig.offset().await, Ok(1));
    rig.shutdown.advance(Stage::Stopped);
    rig.shutdown.gate().emptied().await;
    assert_eq!(rig.offset().await, Err(GroupError::NotCoordinator));
}

#[tokio::test]
async fn records_of_unknown_kinds_do_not_stop_a_load() {
    let mut rig = Rig::new();
    assert_eq!(rig.commit(7).await, Ok(vec![ErrorCode::NONE]));
    let token = Internal::for_purpose("test");
    let index = PartitionIndex::new(0);
    let partition = rig
        .node
        .replicas
        .own_partition(&token, TOPIC, index)
        .unwrap();
    // A share group's record, and a batch that another codec packed.
    let mut builder = BatchBuilder::new(Codec::Lz4);
    let key = [0, 11, 0, 1, b's'];
    builder.add(NOW, Some(&key), Some(&[0, 0]), &[]).unwrap();
    let batch = builder.build().unwrap();
    let epoch = LeaderEpoch::new(0);
    partition.append(batch, epoch, NOW).await.unwrap();
    rig.elect(1, 1);
    assert_eq!(rig.offset().await, Ok(7));
}

#[tokio::test]
async fn a_log_that_does_not_decode_is_not_served() {
    let mut rig = Rig::new();
    assert_eq!(rig.commit(7).await, Ok(vec![ErrorCode::NONE]));
    let token = Internal::for_purpose("test");
    let index = PartitionIndex::new(0);
    let partition = rig
        .node
        .replicas
        .own_partition(&token, TOPIC, index)
        .unwrap();
    let mut builder = BatchBuilder::new(Codec::None);
    // An offset whose value is of a version to come.
    let key = [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 0];
    builder.add(NOW, Some(&key), Some(&[0, 99]), &[]).unwrap();
    let batch = builder.build().unwrap();
    partition
        .append(batch, LeaderEpoch::new(0), NOW)
        .await
        .unwrap();
    rig.elect(1, 1);
    // Never -1, from which consumers would start anew.
    assert_eq!(rig.offset().await, Err(GroupError::NotAvailable));
}

#[tokio::test]
async fn a_bit_that_flipped_is_not_served() {
    const COMMITTED: i64 = 0x0123_4567_89AB;
    let mut rig = Rig::new();
    assert_eq!(rig.commit(1).await, Ok(vec![ErrorCode::NONE]));
    assert_eq!(rig.commit(COMMITTED).await, Ok(vec![ErrorCode::NONE]));
    let log = rig.node.log_file("__consumer_offsets-0");
    let bytes = std::fs::read(&log).unwrap();
    let value = COMMITTED.to_be_bytes();
    let place = bytes.windows(8).position(|window| *window == value);
    let at = u64::try_from(place.unwrap()).unwrap();
    let file = std::fs::File::options().write(true).open(&log).unwrap();
    file.write_all_at(&[value[0] ^ 0x40], at).unwrap();
    rig.elect(1, 1);
    // A consumer would go on wherever the damage says.
    assert_eq!(rig.offset().await, Err(GroupError::NotAvailable));
    file.write_all_at(&value[..1], at).unwrap();
    rig.elect(1, 2);
    assert_eq!(rig.offset().await, Ok(COMMITTED));
}

#[tokio::test]
async fn no_bit_of_a_header_makes_offsets_vanish() {
    const HEADER: usize = 61;
    let mut refused = 0;
    for (batch, bit) in [(0, 0x01), (0, 0x80), (1, 0x01)] {
        for at in 0..HEADER {
            let mut rig = Rig::new();
            let log = rig.node.log_file("__consumer_offsets-0");
            let mut ends = [0; 2];
            for (end, offset) in ends.iter_mut().zip([1, 7]) {
                assert_eq!(rig.commit(offset).await, Ok(vec![ErrorCode::NONE]));
                *end = std::fs::read(&log).unwrap().len();
            }
            let at = [0, ends[0]][batch] + at;
            let byte = std::fs::read(&log).unwrap()[at];
            let file = std::fs::File::options().write(true).open(&log).unwrap();
            let place = u64::try_from(at).unwrap();
            file.write_all_at(&[byte ^ bit], place).unwrap();
            rig.elect(1, 1);
            match rig.offset().await {
                // Nothing hangs on a batch's leader epoch here.
                Ok(offset) => assert_eq!(offset, 7, "bit {bit:#x} of byte {at}"),
                Err(error) => {
                    assert_eq!(error, GroupError::NotAvailable, "bit {bit:#x} of byte {at}");
                    refused += 1;
                }
            }
        }
    }
    // All but the four bytes of the epoch.
    assert!(refused >= 3 * (HEADER - 4), "{refused}");
}

/// A commit of a group, as the coordinator writes it.
fn commit_of(group: &str, offset: i64) -> GroupRecord {
    GroupRecord::Offset {
        group: Str::copy(group),
        topic: "t".into(),
        partition: 0,
        value: Some(OffsetCommitValue {
            offset,
            leader_epoch: -1,
            metadata: Str::EMPTY,
            commit_timestamp: NOW.value(),
            expire_timestamp: -1,
            topic_id: Uuid::NIL,
        }),
    }
}

/// A log that holds these records.
async fn node_with(records: impl IntoIterator<Item = GroupRecord>) -> TestNode {
    let node = TestNode::new().topic(TOPIC, 1, &[]);
    let mut builder = BatchBuilder::new(Codec::None);
    for record in records {
        let (key, value) = record.encode().unwrap();
        builder.add(NOW, Some(&key), value.as_deref(), &[]).unwrap();
    }
    let token = Internal::for_purpose("test");
    let index = PartitionIndex::new(0);
    let partition = node.replicas.own_partition(&token, TOPIC, index).unwrap();
    let appended = partition.append(builder.build().unwrap(), LeaderEpoch::new(0), NOW);
    appended.await.unwrap();
    node
}

#[tokio::test]
async fn a_partition_that_comes_back_is_coordinated() {
    let mut node = node_with([commit_of("g", 7)]).await;
    let log = node.log_file("__consumer_offsets-0");
    let log = log.parent().unwrap();
    let away = log.with_file_name("away");
    node.restart_with(&[], |_| std::fs::rename(log, &away).unwrap());
    let mut rig = Rig::over(node);
    assert_eq!(rig.offset().await, Err(GroupError::NotAvailable));
    let event = |shard: &mut Shard, _: &Moment<'_>, asker| {
        Step::decided(Decision::answer(shard.list()), asker)
    };
    let asked = rig.groups.ask_all(event).await;
    assert_eq!(asked.map(|asked| asked.len()), Ok(0), "others are listed");

    let _ = std::fs::remove_dir_all(log);
    std::fs::rename(&away, log).unwrap();
    // The same leader in the same epoch: all that is new is that the log opens.
    let id = topic_id(TOPIC);
    let record = partition_record(id, 0, &[1], &[1], Some(1), 0);
    rig.node.apply(&[record]);
    rig.follow();
    while rig.offset().await == Err(GroupError::NotAvailable) {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.offset().await, Ok(7));
    assert_eq!(rig.commit(8).await, Ok(vec![ErrorCode::NONE]));
}

#[tokio::test]
async fn a_panic_does_not_take_the_coordinator_from_the_others() {
    let rig = Rig::new();
    assert_eq!(rig.commit(7).await, Ok(vec![ErrorCode::NONE]));
    let asked = rig
        .groups
        .ask::<()>("other".into(), |_, _, _| -> Step { panic!("a defect") });
    let asked = asked.await.expect("an active coordinator");
    assert_eq!(asked.answer().await, Err(GroupError::NotCoordinator));
    assert_eq!(rig.offset().await, Ok(7));
    assert_eq!(rig.commit(8).await, Ok(vec![ErrorCode::NONE]));
    assert_eq!(rig.offset().await, Ok(8));
}

#[tokio::test]
async fn a_change_is_noted_though_its_asker_is_gone() {
    let rig = Rig::new();
    assert_eq!(rig.commit(7).await, Ok(vec![ErrorCode::NONE]));
    let asked = rig.groups.ask("g".into(), |shard, _, asker| {
        shard.delete_group(&"g".into(), asker)
    });
    let (note, noted) = tokio::sync::oneshot::channel();
    let asked = asked.await.expect("an active coordinator");
    drop(asked.noted(move |deleted| note.send(deleted.clone()).expect("it is waited for")));
    assert_eq!(noted.await, Ok(Ok(())));
    assert_eq!(rig.offset().await, Ok(-1));
}
