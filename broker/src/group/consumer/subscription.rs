//! What a group subscribes to, and how its topics' metadata is compared.

use std::collections::{BTreeMap, BTreeSet};

use palisade_protocol::Str;

use super::{ConsumerGroup, Member, Resolved};
use crate::metadata::ClusterImage;

/// A group's subscriptions as they will be once a decision is replayed.
pub(super) struct Subscriptions<'a> {
    group: &'a ConsumerGroup,
    without: Vec<&'a Member>,
    with: Option<&'a Member>,
    resolved: Option<&'a BTreeMap<Str, BTreeSet<Str>>>,
}

impl<'a> Subscriptions<'a> {
    /// The subscriptions of a group as it is.
    pub(super) fn of(group: &'a ConsumerGroup) -> Self {
        Self {
            group,
            without: Vec::new(),
            with: None,
            resolved: None,
        }
    }

    /// Leaves members out, as they are, that will be gone or different.
    pub(super) fn without(mut self, members: impl IntoIterator<Item = &'a Member>) -> Self {
        self.without.extend(members);
        self
    }

    /// Adds a member as it will be.
    pub(super) fn with(mut self, member: &'a Member) -> Self {
        self.with = Some(member);
        self
    }

    /// Takes the topics of expressions that were looked up anew.
    pub(super) fn resolved(mut self, found: &'a BTreeMap<Str, BTreeSet<Str>>) -> Self {
        self.resolved = Some(found);
        self
    }

    /// Topics that some member subscribes to, whether they exist or not.
    pub(super) fn topics(&self) -> BTreeSet<&'a Str> {
        let mut topics = remaining(
            &self.group.names,
            self.without.iter().flat_map(|member| member.names.iter()),
        );
        topics.extend(self.with.iter().flat_map(|member| member.names.iter()));
        // Of all expressions together are many times as many topics as there are: those of the
        // few that change are taken off what is counted.
        let found = || self.resolved.into_iter().flatten();
        let mut gone = self.abandoned();
        gone.extend(found().map(|(pattern, _)| pattern));
        let gone = gone
            .into_iter()
            .filter_map(|pattern| self.group.resolved.get(pattern));
        topics.extend(remaining(&self.group.matched, gone.flat_map(topics_of)));
        let found = found().filter(|(pattern, _)| self.wants(pattern));
        topics.extend(found.flat_map(|(_, topics)| topics));
        topics
    }

    /// Whether some member subscribes with an expression.
    fn wants(&self, pattern: &Str) -> bool {
        let is_his = |member: &&&Member| member.pattern.as_ref() == Some(pattern);
        let gone = || self.without.iter().filter(is_his).count();
        let counted = self.group.patterns.get(pattern);
        self.with.iter().any(|member| is_his(&member)) || counted.is_some_and(|all| *all > gone())
    }

    /// Expressions that some member subscribes with.
    pub(super) fn patterns(&self) -> BTreeSet<&'a Str> {
        let mut patterns = remaining(
            &self.group.patterns,
            self.without
                .iter()
                .filter_map(|member| member.pattern.as_ref()),
        );
        patterns.extend(self.with.and_then(|member| member.pattern.as_ref()));
        patterns
    }

    /// Expressions with known topics that nobody will subscribe with.
    pub(super) fn abandoned_patterns(&self) -> Vec<Str> {
        self.abandoned().into_iter().cloned().collect()
    }

    fn abandoned(&self) -> BTreeSet<&'a Str> {
        let unused = self.group.unused.iter();
        let dropped = self.without.iter().filter_map(|one| one.pattern.as_ref());
        let dropped = dropped.filter(|pattern| self.group.resolved.contains_key(*pattern));
        let all = unused.chain(dropped);
        all.filter(|pattern| !self.wants(pattern)).collect()
    }

    /// A number that changes with the topics subscribed to: which exist, their ids and partitions.
    pub(super) fn hash(&self, image: &ClusterImage) -> i64 {
        let mut hash = Fnv::default();
        let mut any = false;
        for name in self.topics() {
            let Some(topic) = image.topics.get(name) else {
                continue;
            };
            any = true;
            hash.add(topic.id.as_bytes());
            let partitions = u64::try_from(topic.partitions.len()).unwrap_or(u64::MAX);
            hash.add(&partitions.to_be_bytes());
        }
        if any { hash.value() } else { 0 }
    }
}

// How many topics of expressions were looked at in this thread.
#[cfg(test)]
thread_local!(pub(super) static WALKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

/// The topics of an expression, one after the other.
pub(super) fn topics_of(resolved: &Resolved) -> impl Iterator<Item = &Str> {
    #[cfg(test)]
    WALKED.set(WALKED.get() + resolved.topics.len());
    resolved.topics.iter()
}

/// What is still counted once some are taken off.
fn remaining<'a>(
    counts: &'a BTreeMap<Str, usize>,
    off: impl Iterator<Item = &'a Str>,
) -> BTreeSet<&'a Str> {
    let mut gone: BTreeMap<&Str, usize> = BTreeMap::new();
    for name in off {
        *gone.entry(name).or_default() += 1;
    }
    counts
        .iter()
        .filter(|(name, count)| gone.get(name).is_none_or(|gone| gone < count))
        .map(|(name, _)| name)
        .collect()
}

/// FNV-1a of 64 bits: it is on disk, so it may not change between releases as std's hasher may.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn value(&self) -> i64 {
        i64::from_be_bytes(self.0.to_be_bytes())
    }
}
