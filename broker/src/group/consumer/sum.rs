//! A number for the topics that a group subscribes to: which exist, their ids and partitions.
//!
//! It is a sum over topics, kept with the names that came or went since it was made. So a decision
//! looks at what differs by it and not at what silent members said: who joins beside a member of
//! a hundred thousand names costs no more than beside one of a single name.

use std::collections::{BTreeMap, BTreeSet};

use palisade_protocol::Str;
use palisade_protocol::types::Offset;

use super::ConsumerGroup;
use crate::metadata::ClusterImage;

/// A sum of one number for each topic that exists; 0 for none.
///
/// It is on disk as the hash of a group's metadata, so it may not change between releases as std's
/// hasher may. Where it does all the same, each group's epoch rises once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sum(u64);

impl Sum {
    /// A topic was subscribed to, or not, and is it, or not.
    pub(super) fn turn(&mut self, name: &str, was: bool, is: bool, image: &ClusterImage) {
        self.0 = match (was, is) {
            (false, true) => self.0.wrapping_add(number(name, image)),
            (true, false) => self.0.wrapping_sub(number(name, image)),
            (false, false) | (true, true) => self.0,
        };
    }

    pub(super) fn value(self) -> i64 {
        i64::from_be_bytes(self.0.to_be_bytes())
    }
}

/// A group's sum as it was last made, and what it lacks.
#[derive(Debug, Default)]
pub(super) struct KeptSum {
    /// The sum, and the metadata it was made in; `None` where the next is made of all names.
    made: Option<(Offset, Sum)>,
    /// Names that are counted now and were not then, or the other way round: records are replayed
    /// without metadata to look them up in.
    turned: BTreeSet<Str>,
}

impl KeptSum {
    /// A name came into a count or went out of it; `others` counts it for other reasons.
    pub(super) fn turn(&mut self, name: &Str, others: &BTreeMap<Str, usize>) {
        if self.made.is_none() || others.contains_key(name) {
            return;
        }
        if !self.turned.remove(name) {
            self.turned.insert(name.clone());
        }
    }

    /// Forgets the sum where to make it of so many names costs no more than to mend it.
    pub(super) fn bound(&mut self, names: usize) {
        if self.turned.len() > names {
            *self = Self::default();
        }
    }
}

impl ConsumerGroup {
    /// Whether some member names a topic, or an expression is known to stand for it.
    pub(super) fn counts(&self, name: &Str) -> bool {
        self.names.contains_key(name) || self.matched.contains_key(name)
    }

    /// The sum over all topics that are counted.
    pub(super) fn sum(&self, image: &ClusterImage) -> Sum {
        let kept = &self.kept_sum;
        let made = kept.made.filter(|(version, _)| *version == image.offset);
        if let Some((_, mut sum)) = made {
            for name in &kept.turned {
                let is = self.counts(name);
                sum.turn(name, !is, is, image);
            }
            return sum;
        }
        let matched = self.matched.keys();
        let matched = matched.filter(|name| !self.names.contains_key(*name));
        let mut sum = Sum::default();
        for name in self.names.keys().chain(matched) {
            sum.turn(name, false, true, image);
        }
        sum
    }

    /// Makes the sum, so that what follows need not: to be called where a decision begins that may
    /// ask for it.
    pub(super) fn settle(&mut self, image: &ClusterImage) {
        self.kept_sum = KeptSum {
            made: Some((image.offset, self.sum(image))),
            turned: BTreeSet::new(),
        };
    }
}

// How many names and expressions were looked at in this thread.
#[cfg(test)]
thread_local!(pub(super) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

/// What a topic adds to a sum; 0 where there is none of that name.
fn number(name: &str, image: &ClusterImage) -> u64 {
    #[cfg(test)]
    LOOKED_AT.set(LOOKED_AT.get() + 1);
    let Some(topic) = image.topics.get(name) else {
        return 0;
    };
    let partitions = u64::try_from(topic.partitions.len()).unwrap_or(u64::MAX);
    let bytes = topic.id.as_bytes().iter().copied();
    mixed(fnv(bytes.chain(partitions.to_be_bytes())))
}

/// FNV-1a of 64 bits.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The end of SplitMix64: numbers of topics that differ in little must not add up to the same.
fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
