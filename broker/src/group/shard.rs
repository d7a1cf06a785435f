//! The state of one partition of `__consumer_offsets`: groups and their offsets.
//!
//! Owned by one task. Engines decide; committed offsets change in [`Shard::replay`] only.

mod admin;
mod admission;
mod commit;
mod consumer;
mod expire;
mod fetch;
mod members;
mod size;
#[cfg(test)]
mod tests;
mod upgrade;

use std::collections::HashMap;
use std::sync::Arc;

use palisade_protocol::Str;

pub(crate) use admin::{GroupView, ListedGroup, OffsetDeletion};
pub(crate) use commit::{CommitAsk, CommitRow};
pub(crate) use consumer::{HeartbeatAsk, LookedUp};
pub(crate) use expire::Gone;
pub(crate) use fetch::{FetchAsk, FetchedOffset, FetchedTopic, Fetcher};
pub(crate) use size::MANY;

use super::budget::Budget;
use super::classic::{ClassicGroup, Effects, JoinAnswer, Reply, SyncAnswer, Token};
use super::consumer::ConsumerGroup;
use super::decision::TimerKey;
use super::error::GroupError;
use super::offsets::{Committed, Offsets, TopicNames};
use super::record::GroupRecord;
use super::step::{Asker, Moment, Step, Verdict, deliver};

/// A group of either kind.
#[derive(Debug)]
pub(crate) enum Group {
    /// A classic one, or one that only has offsets.
    Classic(Box<ClassicGroup>),
    /// A consumer group (KIP-848).
    Consumer(Box<ConsumerGroup>),
}

/// A group with its offsets.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The members' part.
    pub(crate) group: Group,
    /// The offsets.
    pub(crate) offsets: Offsets,
}

impl Entry {
    fn empty(id: &Str, budget: &Arc<Budget>) -> Self {
        let mut group = ClassicGroup::new(id.clone());
        group.attach(budget);
        Self {
            group: Group::Classic(Box::new(group)),
            offsets: Offsets::default(),
        }
    }
}

/// Whether a record comes from the log or was just decided here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// The log is being read.
    Log,
    /// It was decided here and appended.
    Decision,
}

/// A request that a classic group keeps waiting.
enum Parked {
    Join(Asker<JoinAnswer>),
    Sync(Asker<SyncAnswer>),
}

/// All groups of one partition.
pub(crate) struct Shard {
    groups: HashMap<Str, Entry>,
    budget: Arc<Budget>,
    topics: TopicNames,
    parked: HashMap<Token, Parked>,
    next_token: u64,
}

impl Shard {
    /// No groups; what members keep is counted in the node's budget.
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            groups: HashMap::new(),
            budget,
            topics: TopicNames::default(),
            parked: HashMap::new(),
            next_token: 0,
        }
    }

    /// How many groups there are.
    pub(crate) fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// How many offsets are committed.
    pub(crate) fn offset_count(&self) -> usize {
        let offsets = self.groups.values().map(|entry| entry.offsets.len());
        offsets.sum()
    }

    /// Names of all groups.
    pub(crate) fn names(&self) -> Vec<Str> {
        self.groups.keys().cloned().collect()
    }

    /// A group's entry, made where there is none.
    fn entry(&mut self, id: &Str) -> &mut Entry {
        if !self.groups.contains_key(id.as_str()) {
            let id = id.detached();
            let entry = Entry::empty(&id, &self.budget);
            self.groups.insert(id, entry);
        }
        self.groups.get_mut(id.as_str()).expect("was just put in")
    }

    fn classic(&mut self, id: &str) -> Option<&mut ClassicGroup> {
        match &mut self.groups.get_mut(id)?.group {
            Group::Classic(group) => Some(group),
            Group::Consumer(_) => None,
        }
    }

    /// Changes the state as a record says.
    pub(crate) fn replay(&mut self, record: &GroupRecord, source: Source) {
        match record {
            GroupRecord::Offset {
                group,
                topic,
                partition,
                value: Some(value),
            } => {
                self.entry(group);
                let entry = self.groups.get_mut(group.as_str());
                if let Some(entry) = entry {
                    let committed = Committed::from(value);
                    entry
                        .offsets
                        .set(&mut self.topics, topic, *partition, committed);
                }
            }
            GroupRecord::Offset {
                group,
                topic,
                partition,
                value: None,
            } => {
                if let Some(entry) = self.groups.get_mut(group.as_str()) {
                    entry.offsets.remove(&mut self.topics, topic, *partition);
                }
            }
            GroupRecord::Group { group, value } => match (value, source) {
                (Some(value), Source::Log) => {
                    let restored = ClassicGroup::from_record(group.detached(), value);
                    self.place(group, Group::Classic(Box::new(restored)));
                }
                // The engine made the record out of the state that it is in already.
                (Some(_), Source::Decision) => {}
                (None, _) if self.is_consumer(group) => {}
                (None, _) => self.forget(group),
            },
            GroupRecord::PartitionMetadata { .. } => {}
            GroupRecord::ConsumerGroup { value, .. } => {
                self.replay_consumer(record, value.is_none());
            }
            GroupRecord::Member { value, .. } => self.replay_consumer(record, value.is_none()),
            GroupRecord::TargetEpoch { value, .. } => {
                self.replay_consumer(record, value.is_none());
            }
            GroupRecord::Target { value, .. } => self.replay_consumer(record, value.is_none()),
            GroupRecord::Current { value, .. } => self.replay_consumer(record, value.is_none()),
            GroupRecord::Regex { value, .. } => self.replay_consumer(record, value.is_none()),
        }
    }

    /// Takes a group out, unless it has offsets: then those stay, without a protocol.
    fn forget(&mut self, id: &Str) {
        let Some(entry) = self.groups.get_mut(id.as_str()) else {
            return;
        };
        if entry.offsets.is_empty() {
            self.groups.remove(id.as_str());
        } else {
            entry.group = Entry::empty(&id.detached(), &self.budget).group;
        }
    }

    /// Takes out a group that came into being for a member that it did not get: nothing of it was
    /// ever stored, and who only asks must not make it stay.
    fn forget_unused(&mut self, id: &Str) {
        let unused = self.groups.get(id.as_str()).is_some_and(|entry| {
            let of_members = match &entry.group {
                Group::Classic(group) => group.is_unused(),
                Group::Consumer(_) => false,
            };
            of_members && entry.offsets.is_empty()
        });
        if unused {
            self.groups.remove(id.as_str());
        }
    }

    /// The log is read: sessions begin.
    pub(crate) fn loaded(&mut self, moment: &Moment<'_>) -> Vec<Step> {
        let ids = self.names();
        let steps = ids.into_iter().map(|id| match self.is_consumer(&id) {
            true => self.consumer_loaded(&id, moment),
            false => self.on_classic(&id, |group| group.loaded(moment.now, moment.config)),
        });
        steps.collect()
    }

    /// A timer went off.
    pub(crate) fn expired(&mut self, key: &TimerKey, moment: &Moment<'_>) -> Step {
        let (now, config) = (moment.now, moment.config);
        match key {
            TimerKey::Session { group, .. } if self.is_consumer(group) => {
                self.consumer_expired(key, moment)
            }
            TimerKey::Session { group, member } => {
                self.on_classic(group, |one| one.session_expired(member, now, config))
            }
            TimerKey::Pending { group, member } => {
                let step = self.on_classic(group, |one| one.pending_expired(member, now));
                self.forget_unused(group);
                step
            }
            TimerKey::Join { group } => self.on_classic(group, |one| one.join_expired(now, config)),
            TimerKey::Sync { group } => self.on_classic(group, |one| one.sync_expired(now, config)),
            TimerKey::Rebalance { .. } | TimerKey::MemberSync { .. } => {
                self.consumer_expired(key, moment)
            }
        }
    }

    /// Has a classic group take an event; nothing where there is no such group.
    fn on_classic(&mut self, id: &Str, event: impl FnOnce(&mut ClassicGroup) -> Effects) -> Step {
        match self.classic(id) {
            Some(group) => {
                let effects = event(group);
                self.step(id, effects)
            }
            None => Step::none(),
        }
    }

    /// Turns an engine's effects into what the runtime does.
    fn step(&mut self, id: &Str, effects: Effects) -> Step {
        let mut step = Step {
            timers: effects.timers,
            ..Step::default()
        };
        for reply in effects.replies {
            match reply {
                Reply::Join(token, answer) => {
                    if let Some(Parked::Join(asker)) = self.parked.remove(&token) {
                        step.deliveries.push(deliver(asker, answer));
                    }
                }
                Reply::Sync(token, answer) => {
                    if let Some(Parked::Sync(asker)) = self.parked.remove(&token) {
                        step.deliveries.push(deliver(asker, answer));
                    }
                }
                Reply::Forget(token) => match self.parked.remove(&token) {
                    Some(Parked::Join(asker)) => drop(asker.send(Verdict::Forgotten)),
                    Some(Parked::Sync(asker)) => drop(asker.send(Verdict::Forgotten)),
                    None => {}
                },
            }
        }
        if let Some((record, then)) = effects.store {
            let id = id.clone();
            step.records.push(record);
            step.after = Some(Box::new(move |shard, moment, result| {
                let (now, config) = (moment.now, moment.config);
                shard.on_classic(&id, |group| group.stored(then, result, now, config))
            }));
        }
        step
    }

    fn park(&mut self, parked: Parked) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.parked.insert(token, parked);
        token
    }

    /// Answers every request that waits in a group: this broker does not coordinate any more.
    pub(crate) fn release_parked(&mut self) -> Step {
        let mut step = Step::none();
        for (_, parked) in self.parked.drain() {
            step.deliveries.push(match parked {
                Parked::Join(asker) => {
                    let error = GroupError::NotCoordinator;
                    let member_id = Str::EMPTY;
                    deliver(asker, Err(super::classic::JoinRefused { error, member_id }))
                }
                Parked::Sync(asker) => deliver(asker, Err(GroupError::NotCoordinator)),
            });
        }
        step
    }
}
