//! Requests in, answers and state out, as if every append succeeded at once.

mod admission;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use palisade_auth::principal::Principal;
use palisade_protocol::types::{Offset, TimestampMs};
use palisade_protocol::{ErrorCode, Str, Uuid};
use tokio::sync::oneshot;

use super::*;
use crate::group::classic::{Identity, JoinAsk, JoinRefused, Joined, SyncAsk};
use crate::group::config::GroupConfig;
use crate::group::decision::Decision;
use crate::metadata::ClusterImage;

const TOPIC_ID: Uuid = Uuid::from_bytes([3; 16]);
const DAY_MS: i64 = 86_400_000;

struct Bench {
    shard: Shard,
    config: GroupConfig,
    image: Arc<ClusterImage>,
    max_batch_bytes: usize,
    now: i64,
    log: Vec<GroupRecord>,
    timers: Vec<TimerKey>,
}

impl Bench {
    fn new() -> Self {
        Self {
            shard: Shard::new(Budget::new(128 << 20)),
            config: GroupConfig {
                initial_rebalance_delay: Duration::ZERO,
                ..GroupConfig::defaults()
            },
            image: Arc::new(ClusterImage::empty()),
            max_batch_bytes: 1 << 20,
            now: 1000,
            log: Vec::new(),
            timers: Vec::new(),
        }
    }

    fn with<T>(&mut self, event: impl FnOnce(&mut Shard, &Moment<'_>) -> T) -> T {
        let moment = Moment {
            now: TimestampMs::new(self.now),
            image: &self.image,
            config: &self.config,
            max_batch_bytes: self.max_batch_bytes,
        };
        event(&mut self.shard, &moment)
    }

    fn take(&mut self, step: Step) {
        self.run(step);
        self.shard.assert_counted();
    }

    fn run(&mut self, mut step: Step) {
        for record in &step.records {
            self.shard.replay(record, Source::Decision);
        }
        self.log.append(&mut step.records);
        self.timers
            .extend(step.timers.into_iter().filter_map(|change| match change {
                crate::group::decision::TimerChange::Set { key, .. } => Some(key),
                crate::group::decision::TimerChange::Cancel { .. } => None,
            }));
        for delivery in step.deliveries {
            delivery(Offset::ZERO);
        }
        if let Some(after) = step.after {
            let next = self.with(|shard, moment| after(shard, moment, Ok(())));
            self.run(next);
        }
        drop(step.reserved);
    }

    fn ask<T: Send + 'static>(
        &mut self,
        event: impl FnOnce(&mut Shard, &Moment<'_>, Asker<T>) -> Step,
    ) -> oneshot::Receiver<Verdict<T>> {
        let (asker, answer) = oneshot::channel();
        let step = self.with(|shard, moment| event(shard, moment, asker));
        self.take(step);
        answer
    }

    fn decide<T: Send + 'static>(
        &mut self,
        decide: impl FnOnce(&mut Shard, &Moment<'_>) -> Decision<T>,
    ) -> Result<T, GroupError> {
        let answer = self.ask(|shard, moment, asker| {
            let decision = decide(shard, moment);
            Step::decided(decision, asker)
        });
        answered(answer)
    }

    fn commit(&mut self, group: &'static str, ask: CommitAsk) -> Result<Vec<ErrorCode>, ErrorCode> {
        let decided = self.decide(|shard, moment| shard.commit(&group.into(), ask, moment));
        decided.map_err(|error| error.code())
    }

    fn offset(&self, group: &'static str, topic: &'static str) -> i64 {
        let asked = FetchAsk::Topics(vec![(topic.into(), None, vec![0])]);
        fetch(&self.shard, group, asked)[0].partitions[0].offset
    }

    /// One member in a stable group; its id.
    fn member(&mut self, group: &'static str, metadata: Bytes) -> Str {
        let ask = JoinAsk {
            protocols: vec![("range".into(), metadata)],
            ..JoinAsk::of_a_consumer(Uuid::NIL)
        };
        let answer = self.ask(|shard, moment, asker| shard.join(&group.into(), ask, asker, moment));
        let key = TimerKey::Join {
            group: group.into(),
        };
        let step = self.with(|shard, moment| shard.expired(&key, moment));
        self.take(step);
        let joined: Joined = answered(answer).unwrap();
        let ask = SyncAsk {
            principal: Principal::user("alice"),
            member_id: joined.member_id.clone(),
            instance_id: None,
            generation: joined.generation,
            protocol_type: None,
            protocol: None,
            assignments: Vec::new(),
        };
        let answer = self.ask(|shard, moment, asker| shard.sync(&group.into(), ask, asker, moment));
        answered(answer).unwrap();
        joined.member_id
    }

    /// A shard that read the log as it is.
    fn reloaded(&self) -> Shard {
        let mut shard = Shard::new(Budget::new(128 << 20));
        for record in &self.log {
            shard.replay(record, Source::Log);
        }
        shard
    }

    fn expire(&mut self, group: &'static str) {
        let step = self.with(|shard, moment| shard.expire(&group.into(), moment));
        self.take(step);
    }
}

/// What a shard says to who is no member.
fn fetch(shard: &Shard, group: &'static str, ask: FetchAsk) -> Vec<FetchedTopic> {
    shard
        .fetch(&group.into(), &Fetcher::NOBODY, ask)
        .answer
        .unwrap()
}

fn answered<T>(mut answer: oneshot::Receiver<Verdict<T>>) -> T {
    match answer.try_recv() {
        Ok(Verdict::Answer(answer, _)) => answer,
        Ok(Verdict::Forgotten) => panic!("forgotten"),
        Err(error) => panic!("not answered: {error}"),
    }
}

fn of(generation: i32, offsets: &[(&'static str, i64)]) -> CommitAsk {
    let rows = offsets.iter().map(|(topic, offset)| CommitRow {
        topic: (*topic).into(),
        topic_id: TOPIC_ID,
        partition: 0,
        offset: *offset,
        leader_epoch: 2,
        metadata: "m".into(),
    });
    CommitAsk {
        member_id: Str::EMPTY,
        instance_id: None,
        generation,
        retention_ms: None,
        knows_consumer_groups: true,
        rows: rows.collect(),
    }
}

fn subscribed_to_a() -> Bytes {
    Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b'a', 255, 255, 255, 255])
}

#[test]
fn a_commit_without_membership_makes_a_simple_group() {
    let mut bench = Bench::new();
    let none = vec![ErrorCode::NONE];
    assert_eq!(bench.commit("g", of(-1, &[("a", 7)])), Ok(none.clone()));
    assert_eq!(bench.commit("g", of(-1, &[("a", -5)])), Ok(none));
    assert_eq!(bench.offset("g", "a"), -5);
    let listed = &bench.shard.list()[0];
    assert_eq!(
        (&*listed.protocol_type, listed.state, listed.kind),
        ("", "Empty", "classic")
    );
    let refused = bench.commit("h", of(0, &[("a", 1)]));
    assert_eq!(refused, Err(ErrorCode::GROUP_ID_NOT_FOUND));
    let old = CommitAsk {
        knows_consumer_groups: false,
        ..of(0, &[("a", 1)])
    };
    assert_eq!(bench.commit("h", old), Err(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(bench.shard.group_count(), 1);
}

/// Nobody knows when an answer will be read: until then it takes no copy of a text.
#[test]
fn texts_are_shared_with_who_asks() {
    let mut bench = Bench::new();
    bench.commit("g", of(-1, &[("a", 1)])).unwrap();
    let text = |ask: FetchAsk| {
        let offset = fetch(&bench.shard, "g", ask)[0].partitions.remove(0);
        offset.metadata.unwrap()
    };
    let named = || FetchAsk::Topics(vec![("a".into(), Some(TOPIC_ID), vec![0])]);
    let first = text(named());
    assert_eq!(&*first, "m");
    assert!(Arc::ptr_eq(&first, &text(named())));
    assert!(Arc::ptr_eq(&first, &text(FetchAsk::All)));
}

#[test]
fn long_metadata_fails_its_partition_only() {
    let mut bench = Bench::new();
    let mut ask = of(-1, &[("a", 1), ("b", 2), ("c", 3)]);
    // Counted in UTF-16 units.
    ask.rows[0].metadata = "ä".repeat(4096).into();
    ask.rows[1].metadata = "x".repeat(4097).into();
    ask.rows[2].metadata = "😀".repeat(2049).into();
    let codes = bench.commit("g", ask).unwrap();
    let too_large = ErrorCode::OFFSET_METADATA_TOO_LARGE;
    assert_eq!(codes, [ErrorCode::NONE, too_large, too_large]);
    assert_eq!((bench.offset("g", "a"), bench.offset("g", "b")), (1, -1));
}

#[test]
fn the_log_gives_the_same_shard() {
    let mut bench = Bench::new();
    bench
        .commit("simple", of(-1, &[("a", 1), ("b", 2)]))
        .unwrap();
    let member = bench.member("g", subscribed_to_a());
    let ask = CommitAsk {
        member_id: member,
        ..of(1, &[("a", 9)])
    };
    bench.commit("g", ask).unwrap();
    bench.member("gone", subscribed_to_a());
    let key = TimerKey::Session {
        group: "gone".into(),
        member: "c-00000000-0000-0000-0000-000000000000".into(),
    };
    let step = bench.with(|shard, moment| shard.expired(&key, moment));
    bench.take(step);
    let deleted = bench.ask(|shard, _, asker| shard.delete_group(&"gone".into(), asker));
    assert_eq!(answered(deleted), Ok(()));
    let reloaded = bench.reloaded();
    assert_eq!(reloaded.group_count(), 2);
    for group in ["simple", "g"] {
        let all = |shard: &Shard| fetch(shard, group, FetchAsk::All);
        assert_eq!(all(&reloaded), all(&bench.shard));
        assert_eq!(
            reloaded.describe(&group.into()),
            bench.shard.describe(&group.into())
        );
    }
}

#[test]
fn fetching_by_id_and_of_nothing() {
    let mut bench = Bench::new();
    bench.commit("g", of(-1, &[("b", 2), ("a", 1)])).unwrap();
    let by_id = |id| FetchAsk::Topics(vec![("a".into(), Some(id), vec![0, 1])]);
    let fetch_g = |ask| fetch(&bench.shard, "g", ask);
    let offsets = |topics: Vec<FetchedTopic>| -> Vec<i64> {
        let rows = topics.into_iter().flat_map(|topic| topic.partitions);
        rows.map(|row| row.offset).collect()
    };
    assert_eq!(offsets(fetch_g(by_id(TOPIC_ID))), [1, -1]);
    // A topic that was made again has nothing committed.
    assert_eq!(offsets(fetch_g(by_id(Uuid::from_bytes([4; 16])))), [-1, -1]);
    assert_eq!(offsets(fetch_g(FetchAsk::All)), [1, 2]);
    assert_eq!(fetch(&bench.shard, "h", FetchAsk::All), []);
}

#[test]
fn offsets_expire_when_nobody_needs_them() {
    let mut bench = Bench::new();
    let member = bench.member("g", subscribed_to_a());
    let ask = CommitAsk {
        member_id: member.clone(),
        ..of(1, &[("a", 1), ("b", 2)])
    };
    bench.commit("g", ask).unwrap();
    bench.now += 8 * DAY_MS;
    bench.expire("g");
    // The members consume a.
    assert_eq!((bench.offset("g", "a"), bench.offset("g", "b")), (1, -1));
    let leaving = [Identity {
        member_id: member,
        instance_id: None,
    }];
    let left = bench.ask(|shard, moment, asker| shard.leave(&"g".into(), &leaving, asker, moment));
    assert_eq!(answered(left), Ok(vec![Ok(())]));
    // Empty: the time counts from there on.
    bench.now += 6 * DAY_MS;
    bench.expire("g");
    assert_eq!(bench.offset("g", "a"), 1);
    bench.now += DAY_MS;
    bench.expire("g");
    assert_eq!(bench.shard.group_count(), 0);
    assert_eq!(bench.reloaded().group_count(), 0);
}

#[test]
fn a_commit_may_say_how_long_it_is_kept() {
    let mut bench = Bench::new();
    let ask = CommitAsk {
        retention_ms: Some(1000),
        ..of(-1, &[("a", 1)])
    };
    bench.commit("g", ask).unwrap();
    bench.commit("g", of(-1, &[("b", 2)])).unwrap();
    bench.now += 999;
    bench.expire("g");
    assert_eq!(bench.offset("g", "a"), 1);
    bench.now += 1;
    bench.expire("g");
    assert_eq!((bench.offset("g", "a"), bench.offset("g", "b")), (-1, 2));
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let mut bench = Bench::new();
    bench.commit("g", of(-1, &[("a", 1), ("b", 2)])).unwrap();
    for (id, left) in [(Uuid::from_bytes([4; 16]), 1), (TOPIC_ID, -1)] {
        let gone = [("a".into(), id)].into_iter().collect();
        let step = bench.with(|shard, _| shard.drop_topics(&"g".into(), &gone));
        bench.take(step);
        assert_eq!((bench.offset("g", "a"), bench.offset("g", "b")), (left, 2));
    }
}

#[test]
fn deleting_offsets_and_groups() {
    let mut bench = Bench::new();
    let delete = |bench: &mut Bench, group: &'static str| {
        let asked = vec![("a".into(), vec![0, 1]), ("b".into(), vec![0])];
        let decided = bench.decide(|shard, _| shard.delete_offsets(&group.into(), asked));
        decided.map_err(|error| error.code())
    };
    assert_eq!(delete(&mut bench, "h"), Err(ErrorCode::GROUP_ID_NOT_FOUND));
    bench.commit("g", of(-1, &[("a", 1), ("b", 2)])).unwrap();
    bench.member("g", subscribed_to_a());
    let in_use = ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC;
    let codes = delete(&mut bench, "g").unwrap();
    assert_eq!(codes, [in_use, ErrorCode::NONE]);
    assert_eq!((bench.offset("g", "a"), bench.offset("g", "b")), (1, -1));

    let mut gone = |group: &'static str| {
        let answer = bench.ask(|shard, _, asker| shard.delete_group(&group.into(), asker));
        answered(answer).map_err(|error| error.code())
    };
    assert_eq!(gone("g"), Err(ErrorCode::NON_EMPTY_GROUP));
    assert_eq!(gone("h"), Err(ErrorCode::GROUP_ID_NOT_FOUND));
}

#[test]
fn what_is_parked_is_released_when_the_partition_is_lost() {
    let mut bench = Bench::new();
    bench.member("g", subscribed_to_a());
    let ask = JoinAsk {
        protocols: vec![("range".into(), subscribed_to_a())],
        ..JoinAsk::of_a_consumer(TOPIC_ID)
    };
    let mut parked = bench.ask(|shard, moment, asker| shard.join(&"g".into(), ask, asker, moment));
    assert!(parked.try_recv().is_err());
    let step = bench.shard.release_parked();
    bench.take(step);
    let refused = answered(parked).unwrap_err();
    assert_eq!(refused.error, GroupError::NotCoordinator);
}

/// Asks for a place in a group; ids come before members.
fn ask_to_join(bench: &mut Bench, group: &Str, protocols: usize) -> JoinRefused {
    let ask = JoinAsk {
        protocols: vec![("range".into(), subscribed_to_a()); protocols],
        needs_known_id: true,
        ..JoinAsk::of_a_consumer(TOPIC_ID)
    };
    let answer = bench.ask(|shard, moment, asker| shard.join(group, ask, asker, moment));
    answered(answer).unwrap_err()
}

#[test]
fn refused_joins_leave_nothing_behind() {
    let mut bench = Bench::new();
    for number in 0..1000 {
        let group = Str::from(format!("g-{number}"));
        let refused = ask_to_join(&mut bench, &group, 0);
        assert_eq!(refused.error, GroupError::InconsistentProtocol);
    }
    assert_eq!(bench.shard.group_count(), 0);
    // Who has an id may come back, and a group with offsets stays.
    let refused = ask_to_join(&mut bench, &"g".into(), 1);
    assert_eq!(refused.error, GroupError::MemberIdRequired);
    assert_eq!(bench.shard.group_count(), 1);
    bench.commit("simple", of(-1, &[("a", 1)])).unwrap();
    ask_to_join(&mut bench, &"simple".into(), 0);
    assert_eq!(bench.shard.group_count(), 2);
}

#[test]
fn ids_that_nobody_uses_leave_nothing_behind() {
    let mut bench = Bench::new();
    let group = Str::from("g");
    let expires = |bench: &mut Bench, member: Str| {
        let group = group.clone();
        let key = TimerKey::Pending { group, member };
        let step = bench.with(|shard, moment| shard.expired(&key, moment));
        bench.take(step);
    };
    let id = ask_to_join(&mut bench, &group, 1).member_id;
    expires(&mut bench, id);
    assert_eq!(bench.shard.group_count(), 0);

    let member_id = ask_to_join(&mut bench, &group, 1).member_id;
    let leaving = [Identity {
        member_id,
        instance_id: None,
    }];
    let left = bench.ask(|shard, moment, asker| shard.leave(&group, &leaving, asker, moment));
    assert_eq!(answered(left), Ok(vec![Ok(())]));
    assert_eq!(bench.shard.group_count(), 0);
}
