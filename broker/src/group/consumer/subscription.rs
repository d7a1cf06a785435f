//! What a group subscribes to, and how its topics' metadata is compared.

use std::collections::{BTreeMap, BTreeSet};

use palisade_protocol::Str;

#[cfg(test)]
use super::sum::LOOKED_AT;
use super::{ConsumerGroup, Member, Resolved};
use crate::metadata::ClusterImage;

/// A group's subscriptions as they will be once a decision is replayed.
pub(super) struct Subscriptions<'a> {
    group: &'a ConsumerGroup,
    without: Vec<&'a Member>,
    /// Expressions of those, with the count of them that subscribe with each.
    dropped: BTreeMap<&'a Str, usize>,
    with: Option<&'a Member>,
    resolved: Option<&'a BTreeMap<Str, BTreeSet<Str>>>,
}

impl<'a> Subscriptions<'a> {
    /// The subscriptions of a group as it is.
    pub(super) fn of(group: &'a ConsumerGroup) -> Self {
        Self {
            group,
            without: Vec::new(),
            dropped: BTreeMap::new(),
            with: None,
            resolved: None,
        }
    }

    /// Leaves members out, as they are, that will be gone or different.
    pub(super) fn without(mut self, members: impl IntoIterator<Item = &'a Member>) -> Self {
        for member in members {
            if let Some(pattern) = &member.pattern {
                *self.dropped.entry(pattern).or_default() += 1;
            }
            self.without.push(member);
        }
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

    /// Whether some member subscribes with an expression.
    fn wants(&self, pattern: &Str) -> bool {
        let added = self.with.and_then(|member| member.pattern.as_ref());
        added == Some(pattern) || remains(&self.group.patterns, &self.dropped, pattern)
    }

    /// Expressions that some member subscribes with.
    pub(super) fn patterns(&self) -> BTreeSet<&'a Str> {
        let remaining = remaining(&self.group.patterns, &self.dropped);
        let mut patterns: BTreeSet<&Str> = remaining.collect();
        patterns.extend(self.with.and_then(|member| member.pattern.as_ref()));
        patterns
    }

    /// Expressions with known topics that nobody will subscribe with.
    pub(super) fn abandoned_patterns(&self) -> Vec<Str> {
        self.abandoned().into_iter().cloned().collect()
    }

    fn abandoned(&self) -> BTreeSet<&'a Str> {
        let unused = self.group.unused.iter();
        let dropped = self.dropped.keys().copied();
        let dropped = dropped.filter(|pattern| self.group.resolved.contains_key(*pattern));
        let all = unused.chain(dropped);
        all.filter(|pattern| !self.wants(pattern)).collect()
    }

    /// A number that changes with the topics subscribed to: which exist, their ids and partitions.
    ///
    /// The topics of who comes and goes, and of expressions that do, are looked at; all others are
    /// in the group's own sum.
    pub(super) fn hash(&self, image: &ClusterImage) -> i64 {
        let group = self.group;
        let found = || self.resolved.into_iter().flatten();
        let mut stale = self.abandoned();
        stale.extend(found().map(|(pattern, _)| pattern));
        let stale = stale.into_iter();
        let stale = stale.filter_map(|pattern| group.resolved.get(pattern));
        let unmatched = tally(stale.flat_map(topics_of));
        // A member that goes on with the names that it has changes nothing by them.
        let names = |member: &&'a Member| member.names.iter();
        let goes_on = |before: &&Member| self.with.is_some_and(|with| with.names.is(&before.names));
        let going_on = self.without.iter().position(goes_on);
        let without = self.without.iter().enumerate();
        let without = without.filter(|(place, _)| Some(*place) != going_on);
        let unnamed = tally(without.flat_map(|(_, member)| names(member)));
        let with = self.with.iter().filter(|_| going_on.is_none());
        let found = found().filter(|(pattern, _)| self.wants(pattern));
        let mut come: BTreeSet<&Str> = found.flat_map(|(_, topics)| topics).collect();
        come.extend(with.flat_map(names));

        let mut touched = come.clone();
        touched.extend(unmatched.keys().chain(unnamed.keys()));
        let mut sum = group.sum(image);
        for name in touched {
            #[cfg(test)]
            LOOKED_AT.set(LOOKED_AT.get() + 1);
            let is = come.contains(name)
                || remains(&group.names, &unnamed, name)
                || remains(&group.matched, &unmatched, name);
            sum.turn(name, group.counts(name), is, image);
        }
        sum.value()
    }
}

impl ConsumerGroup {
    /// Topics that some member subscribes to, by name or by an expression.
    pub(crate) fn subscribed_topics(&self) -> BTreeSet<String> {
        let unused = self.unused.iter();
        let unused = unused.filter_map(|pattern| self.resolved.get(pattern));
        let unmatched = tally(unused.flat_map(topics_of));
        let topics = self.names.keys();
        let topics = topics.chain(remaining(&self.matched, &unmatched));
        topics.map(|topic| topic.to_string()).collect()
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

/// How often there is each of these.
fn tally<'a>(names: impl Iterator<Item = &'a Str>) -> BTreeMap<&'a Str, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// What is still counted once some are taken off.
fn remaining<'a>(
    counts: &'a BTreeMap<Str, usize>,
    off: &BTreeMap<&Str, usize>,
) -> impl Iterator<Item = &'a Str> {
    let counts = counts.iter();
    let counts = counts.filter(|(name, all)| **all > off.get(name).copied().unwrap_or(0));
    counts.map(|(name, _)| name)
}

fn remains(counts: &BTreeMap<Str, usize>, off: &BTreeMap<&Str, usize>, name: &Str) -> bool {
    let off = off.get(name).copied().unwrap_or(0);
    counts.get(name).is_some_and(|all| *all > off)
}
