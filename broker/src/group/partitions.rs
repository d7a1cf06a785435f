//! Sets of partitions, as members own and report them.

use std::collections::BTreeMap;

use palisade_protocol::types::TopicId;

/// Partitions by topic: sorted, each once, no topic without partitions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct PartitionSet(BTreeMap<TopicId, Vec<i32>>);

impl PartitionSet {
    /// Adds partitions of a topic, in any order.
    pub(crate) fn add(&mut self, topic: TopicId, partitions: impl IntoIterator<Item = i32>) {
        let known = self.0.entry(topic).or_default();
        known.extend(partitions);
        known.sort_unstable();
        known.dedup();
        if known.is_empty() {
            self.0.remove(&topic);
        }
    }

    /// Adds a partition that is greater than all of this topic so far.
    pub(super) fn push(&mut self, topic: TopicId, partition: i32) {
        let known = self.0.entry(topic).or_default();
        debug_assert!(known.last().is_none_or(|last| *last < partition));
        known.push(partition);
    }

    /// Whether the set has this partition.
    pub(crate) fn contains(&self, topic: TopicId, partition: i32) -> bool {
        self.of(topic).binary_search(&partition).is_ok()
    }

    /// The partitions of one topic, ascending.
    pub(crate) fn of(&self, topic: TopicId) -> &[i32] {
        self.0.get(&topic).map_or(&[], Vec::as_slice)
    }

    /// Topics with their partitions, by id.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (TopicId, &[i32])> {
        self.0
            .iter()
            .map(|(topic, partitions)| (*topic, partitions.as_slice()))
    }

    /// Every partition.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicId, i32)> {
        self.topics()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |at| (topic, *at)))
    }

    /// How many partitions there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

impl FromIterator<(TopicId, i32)> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = (TopicId, i32)>>(partitions: I) -> Self {
        let mut by_topic: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in partitions {
            by_topic.entry(topic).or_default().push(partition);
        }
        for partitions in by_topic.values_mut() {
            partitions.sort_unstable();
            partitions.dedup();
        }
        Self(by_topic)
    }
}

/// Partitions with the epoch in which each was assigned.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct OwnedPartitions(BTreeMap<TopicId, BTreeMap<i32, i32>>);

impl OwnedPartitions {
    /// Adds a partition, or sets its epoch.
    pub(crate) fn insert(&mut self, topic: TopicId, partition: i32, epoch: i32) {
        self.0.entry(topic).or_default().insert(partition, epoch);
    }

    /// Whether the partition is there.
    pub(crate) fn contains(&self, topic: TopicId, partition: i32) -> bool {
        self.epoch_of(topic, partition).is_some()
    }

    /// The epoch in which a partition was assigned.
    pub(crate) fn epoch_of(&self, topic: TopicId, partition: i32) -> Option<i32> {
        self.0.get(&topic)?.get(&partition).copied()
    }

    /// Every partition with its epoch.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicId, i32, i32)> {
        self.0.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, epoch)| (*topic, *partition, *epoch))
        })
    }

    /// Topics with their partitions and epochs.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (TopicId, &BTreeMap<i32, i32>)> {
        self.0
            .iter()
            .map(|(topic, partitions)| (*topic, partitions))
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The partitions without their epochs.
    pub(crate) fn partitions(&self) -> PartitionSet {
        self.iter()
            .map(|(topic, partition, _)| (topic, partition))
            .collect()
    }

    /// The same partitions, each assigned or not, in any epoch.
    pub(crate) fn same_partitions(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|(mine, theirs)| mine.0 == theirs.0 && mine.1.keys().eq(theirs.1.keys()))
    }
}

impl FromIterator<(TopicId, i32, i32)> for OwnedPartitions {
    fn from_iter<I: IntoIterator<Item = (TopicId, i32, i32)>>(partitions: I) -> Self {
        let mut owned = Self::default();
        for (topic, partition, epoch) in partitions {
            owned.insert(topic, partition, epoch);
        }
        owned
    }
}
