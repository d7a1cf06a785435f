//! Many members with wills of their own; one seed fixes everything.
//!
//! Clients join, call, lose answers, fall silent, leave, come back, change topics, and take their
//! time to give partitions up; topics come, grow and go; expressions are looked up late or not at
//! all; the coordinator moves. After each step the group is sound, nobody consumes what another
//! does, and the log brings the same group back. When events stop, everyone gets what is theirs.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::classic::{classic, generation, heartbeat, send, sync};
use super::rig::{Request, Rig, beat, join, names, owns, picture};
use crate::group::config::MigrationPolicy;
use crate::group::error::GroupError;
use crate::group::topic_pattern::TopicPattern;

const SEEDS: u64 = 3_000;
const STEPS: usize = 60;
const TOPICS: [&str; 4] = ["ta", "tb", "u", "v"];
const PATTERNS: [&str; 3] = ["t.*", "u|v", "none"];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }
}

/// A consumer: what it believes, and what it consumes.
#[derive(Clone, Debug, Default)]
struct Consumer {
    id: String,
    instance: Option<String>,
    is_classic: bool,
    /// Whether it is in the group as far as it knows.
    joined: bool,
    /// A classic member that has to ask for its assignment.
    must_sync: bool,
    epoch: i32,
    names: Vec<&'static str>,
    pattern: Option<&'static str>,
    consumes: PartitionSet,
    /// What it was told to consume, where it has not come to that yet.
    told: Option<PartitionSet>,
    /// It missed an answer, and does not know what it was told since.
    missed: bool,
}

struct World {
    rig: Rig,
    dice: Dice,
    consumers: Vec<Consumer>,
    look_ups: Vec<Vec<Str>>,
    ids: usize,
    group_epoch: i32,
    member_epochs: BTreeMap<Str, i32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut rig = Rig::new(&[("ta", 3), ("u", 2)]);
        // Without natives a group would turn classic, which is another engine's.
        rig.config.migration = MigrationPolicy::Upgrade;
        if dice.one_in(2) {
            rig.config.assignment_interval = std::time::Duration::from_secs(1);
        }
        Self {
            rig,
            dice,
            consumers: Vec::new(),
            look_ups: Vec::new(),
            ids: 0,
            group_epoch: 0,
            member_epochs: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        match self.dice.roll(24) {
            0 | 1 if self.consumers.len() < 7 => self.appear(),
            2 => self.change_topics(),
            3 => self.change_subscription(),
            4 => self.leave(),
            5 => self.fall_silent(),
            6 | 7 => self.finish_look_up(),
            8 => {
                let millis = [10, 500, 3_000, 20_000][self.dice.roll(4)];
                self.pass(millis);
            }
            9 => {
                self.rig.group = self.rig.reload();
                self.look_ups.clear();
            }
            _ if self.consumers.is_empty() => self.appear(),
            roll => {
                let at = self.dice.roll(self.consumers.len());
                if roll < 14 {
                    self.obey(at);
                }
                let lost = self.dice.one_in(12);
                self.call(at, lost);
            }
        }
        self.check();
    }

    fn subscription(&mut self) -> (Vec<&'static str>, Option<&'static str>) {
        let names = TOPICS.into_iter().filter(|_| self.dice.one_in(2)).collect();
        let pattern = match self.dice.one_in(3) {
            true => Some(PATTERNS[self.dice.roll(PATTERNS.len())]),
            false => None,
        };
        (names, pattern)
    }

    fn appear(&mut self) {
        self.ids += 1;
        let (names, pattern) = self.subscription();
        let is_classic = self.dice.one_in(4);
        let instance = self
            .dice
            .one_in(4)
            .then(|| format!("i{}", self.dice.roll(2)));
        // An instance runs once.
        let instance = instance.filter(|instance| {
            !self
                .consumers
                .iter()
                .any(|other| other.instance.as_ref() == Some(instance))
        });
        self.consumers.push(Consumer {
            id: format!("m{}", self.ids),
            instance: instance.filter(|_| !is_classic),
            is_classic,
            pattern: pattern.filter(|_| !is_classic),
            names,
            ..Consumer::default()
        });
    }

    fn change_topics(&mut self) {
        let name = TOPICS[self.dice.roll(TOPICS.len())];
        let count = self
            .rig
            .image
            .topics
            .get(name)
            .map_or(0, |topic| topic.partitions.len());
        if count > 0 && self.dice.one_in(3) {
            self.rig.delete(name);
        } else if count < 6 {
            let more = 1 + i32::try_from(self.dice.roll(3) + count).unwrap();
            self.rig.create(name, more);
        }
    }

    fn change_subscription(&mut self) {
        let (names, pattern) = self.subscription();
        let Some(at) = self.any() else { return };
        let consumer = &mut self.consumers[at];
        consumer.names = names;
        if consumer.is_classic {
            // It says so by joining again.
            consumer.joined = false;
            consumer.must_sync = false;
        } else {
            consumer.pattern = pattern;
            let mut request = self.full(at, self.consumers[at].epoch);
            if self.consumers[at].joined {
                request.topic_partitions = owns(&self.consumers[at].consumes);
                self.send(at, &request, false);
            }
        }
    }

    fn any(&mut self) -> Option<usize> {
        (!self.consumers.is_empty()).then(|| self.dice.roll(self.consumers.len()))
    }

    fn leave(&mut self) {
        let Some(at) = self.any() else { return };
        let consumer = self.consumers.remove(at);
        if !consumer.joined || consumer.is_classic {
            return;
        }
        let mut request = beat(&consumer.id, -1);
        request.instance_id = consumer.instance.as_deref().map(Str::copy);
        if consumer.instance.is_some() && self.dice.one_in(2) {
            request.member_epoch = -2;
        }
        // It may have been removed meanwhile.
        let _ = self.rig.send(&request);
    }

    fn fall_silent(&mut self) {
        if let Some(at) = self.any() {
            self.consumers.remove(at);
        }
    }

    fn finish_look_up(&mut self) {
        if self.look_ups.is_empty() {
            return;
        }
        let at = self.dice.roll(self.look_ups.len());
        let patterns = self.look_ups.remove(at);
        if self.dice.one_in(4) {
            self.rig.group.patterns_not_found();
            return;
        }
        let mut found: Found = patterns
            .into_iter()
            .map(|pattern| {
                let parsed = TopicPattern::parse(&pattern).unwrap();
                let topics = self.rig.image.topics.iter();
                let topics = topics.filter(|topic| parsed.matches(&topic.name));
                let topics = topics.map(|topic| Str::copy(&topic.name)).collect();
                (pattern, topics)
            })
            .collect();
        let version = self.rig.image.offset;
        self.rig
            .decide(|group, at| group.patterns_found(&mut found, version, false, at))
            .unwrap();
        let now = self.rig.now;
        assert_eq!(self.rig.group.patterns_stored(&found, now), 0);
    }

    fn pass(&mut self, millis: i64) {
        self.rig.pass(millis);
        // Who was removed finds out by itself in the same time, and stops consuming.
        for consumer in &mut self.consumers {
            if self.rig.group.member(&consumer.id).is_none() {
                consumer.consumes = PartitionSet::default();
                consumer.joined = false;
                consumer.told = None;
            }
        }
    }

    /// A consumer comes to what it was told: it stops consuming the rest and begins with the new.
    fn obey(&mut self, at: usize) {
        let consumer = &mut self.consumers[at];
        let Some(told) = &consumer.told else { return };
        let given_up = consumer
            .consumes
            .iter()
            .any(|(id, at)| !told.contains(id, at));
        if given_up {
            let kept = consumer
                .consumes
                .iter()
                .filter(|(id, at)| told.contains(*id, *at));
            consumer.consumes = kept.collect();
        } else if let Some(told) = consumer.told.take() {
            consumer.consumes = told;
        }
    }

    fn full(&self, at: usize, epoch: i32) -> Request {
        let consumer = &self.consumers[at];
        let mut request = join(&consumer.id, &[]);
        request.member_epoch = epoch;
        request.subscribed_topic_names = names(&consumer.names);
        request.subscribed_topic_regex = Some(Str::copy(consumer.pattern.unwrap_or_default()));
        request.instance_id = consumer.instance.as_deref().map(Str::copy);
        request
    }

    fn call(&mut self, at: usize, lost: bool) {
        if self.consumers[at].is_classic {
            return self.call_classic(at);
        }
        if !self.consumers[at].joined {
            let request = self.full(at, 0);
            return self.send(at, &request, lost);
        }
        if self.consumers[at].missed && !self.dice.one_in(3) {
            let mut request = self.full(at, self.consumers[at].epoch);
            request.topic_partitions = owns(&self.consumers[at].consumes);
            return self.send(at, &request, lost);
        }
        let consumer = &self.consumers[at];
        let mut request = beat(&consumer.id, consumer.epoch);
        request.instance_id = consumer.instance.as_deref().map(Str::copy);
        // Half of them say what they own; who lost an answer has to.
        if !self.dice.one_in(2) {
            request.topic_partitions = owns(&self.consumers[at].consumes);
        }
        self.send(at, &request, lost);
    }

    fn send(&mut self, at: usize, request: &Request, lost: bool) {
        let answer = self.rig.send(request);
        if let Ok(answer) = &answer
            && !answer.look_up.is_empty()
        {
            self.look_ups.push(answer.look_up.clone());
        }
        let consumer = &mut self.consumers[at];
        match answer {
            // It asks again with all it knows; what it was told before may be out of date.
            Ok(_) if lost => {
                consumer.told = None;
                consumer.missed = true;
            }
            Ok(answer) => {
                if request.member_epoch == 0 {
                    consumer.consumes = PartitionSet::default();
                }
                consumer.joined = true;
                consumer.epoch = answer.member_epoch;
                if answer.assignment.is_some() {
                    consumer.told = answer.assignment;
                    consumer.missed = false;
                }
            }
            Err(
                GroupError::UnknownMember
                | GroupError::FencedMemberEpoch(_)
                | GroupError::FencedInstanceId,
            ) => {
                consumer.joined = false;
                consumer.consumes = PartitionSet::default();
                consumer.told = None;
            }
            Err(GroupError::UnreleasedInstanceId) => assert!(!consumer.joined),
            Err(error) => panic!("{error:?} to {request:?}"),
        }
    }

    fn call_classic(&mut self, at: usize) {
        let consumer = self.consumers[at].clone();
        if consumer.joined && !consumer.must_sync {
            let result = heartbeat(&mut self.rig, &consumer.id, consumer.epoch);
            return self.after_classic(at, result);
        }
        if !consumer.must_sync {
            let request = classic(&self.rig, &consumer.id, &consumer.names, &self.existing(at));
            let joined = send(&mut self.rig, &request).unwrap();
            let consumer = &mut self.consumers[at];
            consumer.epoch = generation(&joined);
            consumer.joined = true;
            consumer.must_sync = true;
            return;
        }
        let result = sync(&mut self.rig, &consumer.id, consumer.epoch);
        if let Ok(assignment) = &result {
            let consumer = &mut self.consumers[at];
            consumer.must_sync = false;
            // The cooperative protocol gives up at once, and rejoins to say so.
            let gives_up = consumer
                .consumes
                .iter()
                .any(|(id, at)| !assignment.contains(id, at));
            consumer.consumes = assignment.clone();
            consumer.joined = !gives_up;
        }
        self.after_classic(at, result.map(|_| ()));
    }

    /// What a consumer consumes of topics that exist.
    fn existing(&self, at: usize) -> PartitionSet {
        let consumes = self.consumers[at].consumes.iter();
        consumes
            .filter(|(id, _)| self.rig.image.topics.by_id(*id).is_some())
            .collect()
    }

    fn after_classic(&mut self, at: usize, result: Result<(), GroupError>) {
        let consumer = &mut self.consumers[at];
        match result {
            Ok(()) => {}
            Err(GroupError::RebalanceInProgress) => {
                consumer.joined = false;
                consumer.must_sync = false;
            }
            Err(GroupError::UnknownMember | GroupError::IllegalGeneration) => {
                consumer.joined = false;
                consumer.must_sync = false;
                consumer.consumes = PartitionSet::default();
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// What holds after every step.
    fn check(&mut self) {
        let group = &self.rig.group;
        let anew = group.weighed_anew().into_iter();
        assert_eq!(group.held(), anew.map(|(_, bytes)| bytes).sum::<usize>());
        let mut owned = BTreeMap::new();
        for member in group.members() {
            for (id, partition, _) in member.assigned.iter().chain(member.revoking.iter()) {
                let other = owned.insert((id, partition), member.id.clone());
                assert_eq!(other, None, "two members own {partition}");
            }
            assert!(
                member.epoch == -2 || (0..=group.target_epoch).contains(&member.epoch),
                "{member:?} is ahead of {}",
                group.target_epoch
            );
            assert_eq!(
                member.revoking.is_empty(),
                member.state != MemberState::Unrevoked
            );
            let known = self.member_epochs.insert(member.id.clone(), member.epoch);
            let came_back = known == Some(-2) || member.epoch == -2;
            assert!(came_back || known.is_none_or(|known| known <= member.epoch));
        }
        let owners: BTreeMap<_, _> = group
            .owners
            .iter()
            .map(|(at, owner)| (*at, owner.clone()))
            .collect();
        assert_eq!(owners, owned);
        self.member_epochs
            .retain(|id, _| group.member(id).is_some());
        assert!(group.target_epoch <= group.epoch && self.group_epoch <= group.epoch);
        self.group_epoch = group.epoch;

        let mut consumed = BTreeMap::new();
        for consumer in &self.consumers {
            for place in consumer.consumes.iter() {
                let other = consumed.insert(place, consumer.id.clone());
                assert_eq!(other, None, "{} consumes {place:?} as well", consumer.id);
                if self.rig.image.topics.by_id(place.0).is_none() {
                    // There is nothing to consume, and it has not heard of that.
                    continue;
                }
                let owner = group.owners.get(&place).map(|owner| &**owner);
                assert_eq!(
                    owner,
                    Some(&*consumer.id),
                    "{place:?} is another's: {consumer:?}"
                );
            }
        }
    }

    /// Events stop, and everyone behaves: the group comes to rest.
    fn heal(&mut self) {
        for round in 0..120 {
            self.pass(1_000);
            while !self.look_ups.is_empty() {
                self.finish_look_up();
            }
            for at in 0..self.consumers.len() {
                self.obey(at);
                self.obey(at);
                if self.consumers[at].is_classic {
                    self.call(at, false);
                } else if self.consumers[at].joined {
                    let mut request = self.full(at, self.consumers[at].epoch);
                    request.topic_partitions = owns(&self.consumers[at].consumes);
                    self.send(at, &request, false);
                } else {
                    self.call(at, false);
                }
                self.check();
            }
            let settled = self.consumers.iter().all(|consumer| {
                consumer.joined
                    && !consumer.must_sync
                    && consumer
                        .told
                        .as_ref()
                        .is_none_or(|told| *told == consumer.consumes)
            });
            let rests = matches!(
                self.rig.group.state(),
                GroupState::Stable | GroupState::Empty
            );
            // Longer than a session: the silent are gone as well.
            if round > 60 && settled && rests {
                return self.check_rest();
            }
        }
        panic!(
            "no rest: {:#?}\n{:#?}",
            self.consumers,
            picture(&self.rig.group)
        );
    }

    fn check_rest(&self) {
        let group = &self.rig.group;
        let members: BTreeSet<&str> = group.members().map(|member| &*member.id).collect();
        let expected: BTreeSet<&str> = self
            .consumers
            .iter()
            .map(|consumer| &*consumer.id)
            .collect();
        assert_eq!(members, expected);
        let mut wanted = BTreeSet::new();
        for consumer in &self.consumers {
            let pattern = consumer
                .pattern
                .map(|pattern| TopicPattern::parse(pattern).unwrap());
            for topic in self.rig.image.topics.iter() {
                let by_name = consumer.names.iter().any(|name| **name == *topic.name);
                if by_name
                    || pattern
                        .as_ref()
                        .is_some_and(|pattern| pattern.matches(&topic.name))
                {
                    let count = i32::try_from(topic.partitions.len()).unwrap();
                    wanted.extend((0..count).map(|partition| (topic.id, partition)));
                }
            }
            let assigned = group.member(&consumer.id).unwrap().assigned.partitions();
            assert_eq!(consumer.consumes, assigned, "{consumer:?}");
        }
        let owned: BTreeSet<_> = group.owners.keys().copied().collect();
        assert_eq!(
            owned,
            wanted,
            "every partition that someone wants is consumed: {}",
            picture(group)
        );
    }
}

fn run(seed: u64) -> String {
    let mut world = World::new(seed);
    for step in 0..STEPS {
        world.step();
        if step % 20 == 0 {
            world.rig.assert_reloads();
        }
    }
    world.heal();
    world.rig.assert_reloads();
    format!("{:?}", world.rig.log)
}

#[test]
fn groups_stay_sound_and_come_to_rest() {
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = outcome {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn one_seed_has_one_trace() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
