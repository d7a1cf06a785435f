//! Committed offsets of one group, and the names they share.
//!
//! A node may hold hundreds of thousands: a topic's name is kept once per shard, an offset takes
//! some eighty bytes.

use std::collections::HashMap;
use std::sync::Arc;

use palisade_protocol::{Str, Uuid};

use super::record::{GroupRecord, OffsetCommitValue};

/// Where a consumer is in one partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Committed {
    /// The next offset to consume.
    pub(crate) offset: i64,
    /// The leader epoch of the last consumed record; -1 for none.
    pub(crate) leader_epoch: i32,
    /// The client's own text; `None` when empty.
    pub(crate) metadata: Option<Arc<str>>,
    /// When it was committed, in milliseconds since the epoch.
    pub(crate) commit_timestamp: i64,
    /// When it expires, in milliseconds since the epoch; -1 by the broker's retention.
    pub(crate) expire_timestamp: i64,
    /// The topic's id; zero when not known.
    pub(crate) topic_id: Uuid,
}

impl From<&OffsetCommitValue> for Committed {
    fn from(value: &OffsetCommitValue) -> Self {
        let metadata = value.metadata.as_str();
        Self {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: (!metadata.is_empty()).then(|| metadata.into()),
            commit_timestamp: value.commit_timestamp,
            expire_timestamp: value.expire_timestamp,
            topic_id: value.topic_id,
        }
    }
}

/// Names of topics by number, counted by use.
#[derive(Debug, Default)]
pub(crate) struct TopicNames {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Option<(Arc<str>, usize)>>,
    free: Vec<u32>,
}

impl TopicNames {
    /// The number of a name that is in use.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    fn name(&self, number: u32) -> &str {
        let slot = self.names.get(number as usize).and_then(Option::as_ref);
        slot.map_or("", |(name, _)| name)
    }

    /// Counts one more use of a name.
    fn acquire(&mut self, name: &str) -> u32 {
        let number = match self.number(name) {
            Some(number) => number,
            None => {
                let number = self.free.pop().unwrap_or_else(|| {
                    self.names.push(None);
                    u32::try_from(self.names.len() - 1).expect("fewer topics than numbers")
                });
                self.numbers.insert(Arc::from(name), number);
                number
            }
        };
        let slot = &mut self.names[number as usize];
        match slot {
            Some((_, uses)) => *uses += 1,
            None => *slot = Some((Arc::from(name), 1)),
        }
        number
    }

    /// Counts one use less; an unused name is forgotten.
    fn release(&mut self, number: u32) {
        let Some(slot) = self.names.get_mut(number as usize) else {
            return;
        };
        let Some((name, uses)) = slot else { return };
        *uses -= 1;
        if *uses == 0 {
            self.numbers.remove(name);
            *slot = None;
            self.free.push(number);
        }
    }
}

// How many offsets were walked over in this thread.
#[cfg(test)]
thread_local!(pub(super) static WALKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

/// The offsets of one group, by topic number and partition.
#[derive(Debug, Default)]
pub(crate) struct Offsets(HashMap<(u32, i32), Committed>);

impl Offsets {
    /// Whether nothing is committed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many partitions have an offset.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where the group is in a partition.
    pub(crate) fn get(
        &self,
        names: &TopicNames,
        topic: &str,
        partition: i32,
    ) -> Option<&Committed> {
        self.0.get(&(names.number(topic)?, partition))
    }

    /// Every offset with its topic's name and partition, in no order.
    pub(crate) fn rows<'a>(
        &'a self,
        names: &'a TopicNames,
    ) -> impl Iterator<Item = (&'a str, i32, &'a Committed)> {
        self.0.iter().map(|((topic, partition), committed)| {
            #[cfg(test)]
            WALKED.set(WALKED.get() + 1);
            (names.name(*topic), *partition, committed)
        })
    }

    /// Every offset, by topic name and partition.
    pub(crate) fn sorted<'a>(
        &'a self,
        names: &'a TopicNames,
    ) -> Vec<(&'a str, i32, &'a Committed)> {
        let mut rows: Vec<_> = self.rows(names).collect();
        rows.sort_unstable_by_key(|(topic, partition, _)| (*topic, *partition));
        rows
    }

    /// Takes over what a record says.
    pub(crate) fn set(
        &mut self,
        names: &mut TopicNames,
        topic: &str,
        partition: i32,
        committed: Committed,
    ) {
        let number = names.acquire(topic);
        if self.0.insert((number, partition), committed).is_some() {
            names.release(number);
        }
    }

    /// Forgets an offset.
    pub(crate) fn remove(&mut self, names: &mut TopicNames, topic: &str, partition: i32) {
        let Some(number) = names.number(topic) else {
            return;
        };
        if self.0.remove(&(number, partition)).is_some() {
            names.release(number);
        }
    }

    /// Forgets everything.
    #[cfg(test)]
    pub(crate) fn clear(&mut self, names: &mut TopicNames) {
        for ((number, _), _) in self.0.drain() {
            names.release(number);
        }
    }
}

/// The record that deletes an offset.
pub(crate) fn tombstone(group: &Str, topic: &str, partition: i32) -> GroupRecord {
    GroupRecord::Offset {
        group: group.clone(),
        topic: Str::copy(topic),
        partition,
        value: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Committed {
        Committed {
            offset,
            leader_epoch: -1,
            metadata: None,
            commit_timestamp: 0,
            expire_timestamp: -1,
            topic_id: Uuid::NIL,
        }
    }

    #[test]
    fn names_are_kept_while_they_are_used() {
        let mut names = TopicNames::default();
        let (mut one, mut two) = (Offsets::default(), Offsets::default());
        one.set(&mut names, "a", 0, at(1));
        one.set(&mut names, "a", 0, at(2));
        two.set(&mut names, "a", 1, at(3));
        two.set(&mut names, "b", 0, at(4));
        assert_eq!(one.get(&names, "a", 0), Some(&at(2)));
        assert_eq!(one.get(&names, "b", 0), None);
        one.remove(&mut names, "a", 0);
        assert_eq!(two.get(&names, "a", 1), Some(&at(3)));
        two.clear(&mut names);
        assert_eq!((names.number("a"), names.number("b")), (None, None));
        one.set(&mut names, "c", 0, at(5));
        assert_eq!(names.names.len(), 2);
        assert_eq!(one.sorted(&names), [("c", 0, &at(5))]);
    }

    #[test]
    fn an_offset_is_small() {
        assert!(size_of::<((u32, i32), Committed)>() <= 72);
    }
}
