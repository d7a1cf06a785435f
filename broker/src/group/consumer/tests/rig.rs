//! A group with a log, a clock and timers, all in the hands of the test.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_auth::principal::Principal;
use palisade_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, RequestTopicPartitions,
};
use palisade_protocol::types::{BrokerId, LeaderEpoch, PartitionIndex};

use super::super::subscription::WALKED;
use super::super::sum::{LOOKED_AT, Sum};
use super::super::*;
use crate::group::config::GroupConfig;
use crate::group::decision::{Decision, TimerChange, TimerKey};
use crate::group::error::GroupError;
use crate::group::expressions::judge;
use crate::group::record::GroupRecord;
use crate::metadata::builder::ImageBuilder;
use crate::metadata::record::{MetadataRecord, PartitionRecord};

pub(super) type Request = ConsumerGroupHeartbeatRequest;

/// Of the batches that the log of a test would take.
pub(super) const MAX_BATCH_BYTES: usize = 4096;

pub(super) struct Rig {
    pub(super) group: ConsumerGroup,
    pub(super) image: ClusterImage,
    pub(super) config: ConsumerGroupConfig,
    pub(super) now: TimestampMs,
    pub(super) timers: BTreeMap<String, (TimestampMs, TimerKey)>,
    pub(super) log: Vec<GroupRecord>,
    /// How many topics were deleted; a topic that comes back has another id.
    deleted: u8,
}

pub(super) fn topic(name: &str) -> TopicId {
    let mut bytes = [b'-'; 16];
    for (place, byte) in bytes.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    TopicId::from_bytes(bytes)
}

pub(super) fn set(partitions: &[(&str, &[i32])]) -> PartitionSet {
    let mut set = PartitionSet::default();
    for (name, partitions) in partitions {
        set.add(topic(name), partitions.iter().copied());
    }
    set
}

pub(super) fn names(names: &[&str]) -> Option<Vec<Str>> {
    Some(names.iter().map(|name| Str::copy(name)).collect())
}

/// What a member says it owns.
pub(super) fn owns(set: &PartitionSet) -> Option<Vec<RequestTopicPartitions>> {
    let topics = set.topics();
    let owned = topics.map(|(topic_id, partitions)| RequestTopicPartitions {
        topic_id,
        partitions: partitions.to_vec(),
    });
    Some(owned.collect())
}

/// A bare heartbeat.
pub(super) fn beat(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: Str::from("g"),
        member_id: Str::copy(member),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

/// A request to join.
pub(super) fn join(member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 300_000,
        subscribed_topic_names: names(topics),
        topic_partitions: Some(Vec::new()),
        ..beat(member, 0)
    }
}

pub(super) fn client() -> Client {
    Client {
        id: Str::from("c"),
        host: Str::from("/127.0.0.1"),
        principal: Principal::user("alice"),
    }
}

impl Rig {
    /// Topics with their counts of partitions; the assignor runs in every heartbeat.
    pub(super) fn new(topics: &[(&str, i32)]) -> Self {
        let mut rig = Self {
            group: timeless(),
            image: ClusterImage::empty(),
            config: ConsumerGroupConfig {
                assignment_interval: Duration::ZERO,
                ..GroupConfig::defaults().consumer
            },
            now: TimestampMs::new(1_000_000),
            timers: BTreeMap::new(),
            log: Vec::new(),
            deleted: 0,
        };
        for (name, count) in topics {
            rig.create(name, *count);
        }
        rig
    }

    fn change(&mut self, records: &[MetadataRecord]) {
        let mut builder = ImageBuilder::new(&self.image);
        for record in records {
            builder.apply(record).unwrap();
        }
        let next = self.image.offset.checked_add(1).unwrap();
        builder.advance(next, LeaderEpoch::new(1));
        self.image = builder.finish().1;
    }

    /// Creates a topic, or gives it more partitions.
    pub(super) fn create(&mut self, name: &str, count: i32) {
        let known = self
            .image
            .topics
            .get(name)
            .map_or(0, |topic| topic.partitions.len());
        let mut bytes = *topic(name).as_bytes();
        bytes[15] = bytes[15].wrapping_add(self.deleted);
        let fresh = TopicId::from_bytes(bytes);
        let topic_id = self.image.topics.get(name).map_or(fresh, |topic| topic.id);
        let mut records = Vec::new();
        if known == 0 {
            records.push(MetadataRecord::Topic {
                id: topic_id,
                name: name.to_owned(),
            });
        }
        for index in i32::try_from(known).unwrap()..count {
            records.push(MetadataRecord::Partition(PartitionRecord {
                topic_id,
                partition: PartitionIndex::new(index),
                replicas: vec![BrokerId::new(1)],
                isr: vec![BrokerId::new(1)],
                leader: Some(BrokerId::new(1)),
                leader_epoch: LeaderEpoch::new(0),
                partition_epoch: 0,
            }));
        }
        self.change(&records);
    }

    pub(super) fn delete(&mut self, name: &str) {
        let id = self.image.topics.get(name).unwrap().id;
        self.deleted += 1;
        self.change(&[MetadataRecord::RemoveTopic { id }]);
    }

    pub(super) fn decide<T>(
        &mut self,
        decide: impl FnOnce(&mut ConsumerGroup, &Moment<'_>) -> Decision<T>,
    ) -> Result<T, GroupError> {
        let at = Moment {
            now: self.now,
            config: &self.config,
            image: &self.image,
            max_batch_bytes: MAX_BATCH_BYTES,
        };
        let decision = decide(&mut self.group, &at);
        let hashed = |record: &GroupRecord| {
            matches!(record, GroupRecord::ConsumerGroup { value: Some(_), .. })
        };
        let is_hashed = decision.records.iter().any(hashed);
        for record in decision.records {
            self.group.replay(&record);
            self.log.push(record);
        }
        for timer in decision.timers {
            match timer {
                TimerChange::Set { key, after } => {
                    let after = i64::try_from(after.as_millis()).unwrap();
                    let due = self.now.checked_add(after).unwrap();
                    self.timers.insert(format!("{key:?}"), (due, key));
                }
                TimerChange::Cancel { key } => {
                    self.timers.remove(&format!("{key:?}"));
                }
            }
        }
        self.assert_matched();
        self.assert_hash(is_hashed);
        decision.answer
    }

    /// The topics of expressions, counted anew.
    fn assert_matched(&self) {
        let mut matched: BTreeMap<Str, usize> = BTreeMap::new();
        let topics = self.group.resolved.values().flat_map(|one| &one.topics);
        topics.for_each(|topic| *matched.entry(topic.clone()).or_default() += 1);
        assert_eq!(self.group.matched, matched);
        let known = self.group.resolved.keys();
        let unused = known.filter(|pattern| !self.group.patterns.contains_key(*pattern));
        assert_eq!(self.group.unused, unused.cloned().collect());
    }

    /// The hash is that of all topics, looked at one by one; so is the one just recorded, or found
    /// to be right.
    fn assert_hash(&self, is_recorded: bool) {
        let (walked, looked_at) = (WALKED.get(), LOOKED_AT.get());
        let mut anew = Sum::default();
        for topic in self.group.subscribed_topics() {
            anew.turn(&topic, false, true, &self.image);
        }
        let kept = Subscriptions::of(&self.group).hash(&self.image);
        assert_eq!(kept, anew.value());
        if is_recorded || self.group.remembered.checked == Some(self.image.offset) {
            assert_eq!(self.group.metadata_hash, anew.value());
        }
        WALKED.set(walked);
        LOOKED_AT.set(looked_at);
    }

    pub(super) fn send(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<Heartbeat, GroupError> {
        check_request(request, false, &self.config)?;
        let id = request.member_id.clone();
        let judged = &judge(request);
        self.decide(|group, at| {
            if let Some(quick) = group.unchanged(request, &id, &client(), at) {
                let slow = group
                    .beat(request, &id, &client(), judged, at)
                    .expect("a member");
                assert_eq!((quick.answer, quick.timers), (slow.answer, slow.timers));
                assert!(quick.records.is_empty() && slow.records.is_empty());
            }
            group.heartbeat(request, &id, &client(), judged, at)
        })
    }

    /// Whether a heartbeat is answered without a look at what its member owns.
    pub(super) fn is_unchanged(&self, request: &ConsumerGroupHeartbeatRequest) -> bool {
        let at = Moment {
            now: self.now,
            config: &self.config,
            image: &self.image,
            max_batch_bytes: MAX_BATCH_BYTES,
        };
        let id = &request.member_id;
        self.group.unchanged(request, id, &client(), &at).is_some()
    }

    /// Sends and expects success: the epoch, and the assignment where there is one.
    pub(super) fn ok(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> (i32, Option<PartitionSet>) {
        let answer = self.send(request).unwrap();
        (answer.member_epoch, answer.assignment)
    }

    pub(super) fn err(&mut self, request: &ConsumerGroupHeartbeatRequest) -> GroupError {
        let before = self.log.len();
        let error = self.send(request).unwrap_err();
        assert_eq!(self.log.len(), before, "a refusal writes nothing");
        error
    }

    /// Lets time go by; timers that are due go off in their order.
    pub(super) fn pass(&mut self, millis: i64) {
        let end = self.now.checked_add(millis).unwrap();
        loop {
            let due = self.timers.values().filter(|(due, _)| *due <= end);
            let Some((due, key)) = due
                .min_by_key(|(due, key)| (*due, format!("{key:?}")))
                .cloned()
            else {
                break;
            };
            self.timers.remove(&format!("{key:?}"));
            self.now = self.now.max(due);
            let removed = self.decide(|group, at| match &key {
                TimerKey::Session { member, .. } => group.session_expired(member, at),
                TimerKey::Rebalance { member, .. } => group.rebalance_expired(member, at),
                TimerKey::MemberSync { member, .. } => group.sync_expired(member, at),
                other => panic!("not a timer of a consumer group: {other:?}"),
            });
            removed.unwrap();
        }
        self.now = end;
    }

    /// The group that another coordinator would read from the log, through bytes.
    pub(super) fn reload(&self) -> ConsumerGroup {
        reload(self.log.iter())
    }

    /// The same after compaction: of every key the last record, in the log's order.
    pub(super) fn reload_compacted(&self) -> ConsumerGroup {
        let mut last = BTreeMap::new();
        for (at, record) in self.log.iter().enumerate() {
            last.insert(record.encode().unwrap().0, at);
        }
        let mut kept: Vec<usize> = last.into_values().collect();
        kept.sort_unstable();
        reload(kept.into_iter().map(|at| &self.log[at]))
    }

    pub(super) fn assert_reloads(&self) {
        let expected = picture(&self.group);
        assert_eq!(picture(&self.reload()), expected, "replay of the log");
        assert_eq!(
            picture(&self.reload_compacted()),
            expected,
            "replay when compacted"
        );
    }
}

/// A group whose assignor never takes long.
fn timeless() -> ConsumerGroup {
    let mut group = ConsumerGroup::new(Str::from("g"));
    group.remembered.pace = Pace::by(|| Duration::ZERO);
    group
}

fn reload<'a>(records: impl Iterator<Item = &'a GroupRecord>) -> ConsumerGroup {
    let mut group = timeless();
    for record in records {
        let (key, value) = record.encode().unwrap();
        group.replay(&GroupRecord::decode(Some(key), value).unwrap());
    }
    group
}

/// Everything that the log must bring back.
pub(super) fn picture(group: &ConsumerGroup) -> String {
    let sorted = |owners: &HashMap<(TopicId, i32), Str>| {
        let owners: BTreeMap<_, _> = owners
            .iter()
            .map(|(at, owner)| (*at, owner.clone()))
            .collect();
        owners
    };
    format!(
        "{:?}",
        (
            (group.epoch, group.metadata_hash, group.target_epoch),
            &group.members,
            group.instances.iter().collect::<BTreeMap<_, _>>(),
            group.targets.iter().collect::<BTreeMap<_, _>>(),
            sorted(&group.owners),
            (&group.names, &group.patterns, &group.resolved),
            (&group.matched, &group.unused),
        )
    )
}
