//! Who of a consumer group gets which partitions (KIP-848).
//!
//! An assignor sees every member with what it was to own before, and says what each is to own
//! now. All are pure and deterministic: the same input gives the same assignment. Each partition
//! of a topic that someone subscribes to goes to exactly one subscriber; nobody gets a partition
//! of a topic that it does not subscribe to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use palisade_protocol::types::TopicId;

use super::partitions::PartitionSet;

mod general;
mod range;
mod uniform;

#[cfg(test)]
mod tests;

/// The assignors by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Assignor {
    /// Even counts, as few moves as they allow.
    Uniform,
    /// Blocks per topic; equal topics go to members alike.
    Range,
}

/// A member as an assignor sees it.
#[derive(Clone, Debug)]
pub(crate) struct AssignorMember<'a> {
    /// Its id.
    pub(crate) id: &'a str,
    /// Its instance id, if it is a static member.
    pub(crate) instance_id: Option<&'a str>,
    /// Ids of existing topics that it subscribes to, ascending; members share equal lists.
    pub(crate) topics: Arc<[TopicId]>,
    /// What it was to own before.
    pub(crate) owned: &'a PartitionSet,
}

impl Assignor {
    /// The assignor that goes by a name, or by the name of its class in Kafka.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        const PACKAGE: &str = "org.apache.kafka.coordinator.group.assignor.";
        match name.strip_prefix(PACKAGE).unwrap_or(name) {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            "UniformAssignor" if name.starts_with(PACKAGE) => Some(Self::Uniform),
            "RangeAssignor" if name.starts_with(PACKAGE) => Some(Self::Range),
            _ => None,
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// What each member is to own, in the members' order.
    ///
    /// `partitions`: how many partitions each topic has; topics that are not in it do not exist.
    pub(crate) fn assign(
        self,
        members: &[AssignorMember<'_>],
        partitions: &BTreeMap<TopicId, i32>,
    ) -> Vec<PartitionSet> {
        let lists = Lists::of(members);
        match self {
            Self::Range => range::assign(members, &lists, partitions),
            Self::Uniform if lists.are_equal() => uniform::assign(members, partitions),
            Self::Uniform => general::assign(members, &lists, partitions),
        }
    }
}

// How many members were looked at for a topic, in this thread.
#[cfg(test)]
thread_local!(static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

/// Lists of topics, each shared by many members: thousands of members of thousands of topics are
/// not to be looked at for each topic.
struct Lists {
    /// Each once; equal lists that members do not share count as two.
    all: Vec<Arc<[TopicId]>>,
    /// The list of each member, by its place in `all`.
    of_member: Vec<usize>,
    /// Per list, how many members share it.
    sizes: Vec<usize>,
}

impl Lists {
    fn of(members: &[AssignorMember<'_>]) -> Self {
        let mut known: HashMap<*const TopicId, usize> = HashMap::new();
        let mut lists = Self {
            all: Vec::new(),
            of_member: Vec::with_capacity(members.len()),
            sizes: Vec::new(),
        };
        for member in members {
            let list = *known.entry(member.topics.as_ptr()).or_insert_with(|| {
                lists.all.push(Arc::clone(&member.topics));
                lists.sizes.push(0);
                lists.all.len() - 1
            });
            lists.of_member.push(list);
            if let Some(size) = lists.sizes.get_mut(list) {
                *size += 1;
            }
        }
        lists
    }

    fn are_equal(&self) -> bool {
        let mut pairs = self.all.windows(2);
        pairs.all(|pair| matches!(pair, [one, other] if one == other))
    }

    /// Every topic with the lists that it is in.
    fn by_topic(&self) -> BTreeMap<TopicId, Vec<usize>> {
        let mut by_topic: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (list, topics) in self.all.iter().enumerate() {
            for topic in topics.iter() {
                by_topic.entry(*topic).or_default().push(list);
            }
        }
        by_topic
    }

    /// The list of a member.
    fn of_member(&self, member: usize) -> usize {
        self.of_member.get(member).copied().unwrap_or(0)
    }

    /// How many members share one of these lists.
    fn member_count(&self, lists: &[usize]) -> usize {
        let sizes = lists.iter().filter_map(|list| self.sizes.get(*list));
        sizes.sum()
    }
}

/// Every partition that someone subscribes to, numbered from 0, and who holds it.
struct Board {
    /// Topic, number of its first partition, count of its partitions; by topic id.
    topics: Vec<(TopicId, usize, usize)>,
    /// Per partition its member's place in the list of members.
    holder: Vec<Option<usize>>,
}

impl Board {
    /// All partitions of these topics, held by nobody.
    fn of(topics: impl Iterator<Item = TopicId>, partitions: &BTreeMap<TopicId, i32>) -> Self {
        let mut rows = Vec::new();
        let mut next = 0;
        for topic in topics {
            let count = partitions.get(&topic).copied().unwrap_or(0);
            let count = usize::try_from(count).unwrap_or(0);
            rows.push((topic, next, count));
            next += count;
        }
        Self {
            topics: rows,
            holder: vec![None; next],
        }
    }

    /// The number of a partition, if it is on the board.
    fn number(&self, topic: TopicId, partition: i32) -> Option<usize> {
        let row = self.topics.binary_search_by_key(&topic, |row| row.0).ok()?;
        let (_, first, count) = *self.topics.get(row)?;
        let partition = usize::try_from(partition).ok()?;
        (partition < count).then_some(first + partition)
    }

    /// What each of `members` members holds.
    fn into_sets(self, members: usize) -> Vec<PartitionSet> {
        let mut sets = vec![PartitionSet::default(); members];
        for (topic, first, count) in self.topics {
            let holders = self.holder.iter().skip(first).take(count);
            for (partition, holder) in (0..).zip(holders) {
                if let Some(set) = holder.and_then(|member| sets.get_mut(member)) {
                    set.push(topic, partition);
                }
            }
        }
        sets
    }
}
