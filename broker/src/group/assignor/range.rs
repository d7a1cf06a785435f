//! The range assignor: each topic by itself, in blocks.
//!
//! Of every topic each subscriber gets its share, rounded down or up; members in the order of
//! their instance ids, then of their ids. Equal topics are dealt alike, so a member gets the same
//! numbers of all of them. A member keeps the lowest of what it held, up to its share.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use palisade_protocol::types::TopicId;

use super::{AssignorMember, Lists};
use crate::group::partitions::PartitionSet;

pub(super) fn assign(
    members: &[AssignorMember<'_>],
    lists: &Lists,
    partitions: &BTreeMap<TopicId, i32>,
) -> Vec<PartitionSet> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    // Static members first: their ids outlive them, so their order does.
    order.sort_by_key(|at| {
        members
            .get(*at)
            .map(|member| (member.instance_id.is_none(), member.instance_id, member.id))
    });
    let mut ranks = vec![Vec::new(); lists.all.len()];
    let mut owners: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (rank, at) in order.iter().enumerate() {
        if let Some(ranks) = ranks.get_mut(lists.of_member(*at)) {
            ranks.push(rank);
        }
        let Some(member) = members.get(*at) else {
            continue;
        };
        for (topic, _) in member.owned.topics() {
            if member.topics.binary_search(&topic).is_ok() {
                owners.entry(topic).or_default().push(rank);
            }
        }
    }
    let mut sets = vec![PartitionSet::default(); members.len()];
    for (topic, listed) in lists.by_topic() {
        let count = partitions.get(&topic).copied().unwrap_or(0);
        let row = Row {
            count: usize::try_from(count).unwrap_or(0),
            subscribers: lists.member_count(&listed),
            owners: owners.get(&topic).map_or(&[], Vec::as_slice),
        };
        let mut give = |rank: usize, partitions: Vec<i32>| {
            let set = order.get(rank).and_then(|at| sets.get_mut(*at));
            if let Some(set) = set {
                set.add(topic, partitions);
            }
        };
        let owned = |rank: usize| {
            let member = order.get(rank).and_then(|at| members.get(*at));
            member.map_or(&[][..], |member| member.owned.of(topic))
        };
        row.deal(in_order(&ranks, &listed), owned, &mut give);
    }
    sets
}

/// The ranks of all who share one of these lists, ascending, each found when it is asked for.
fn in_order<'a>(ranks: &'a [Vec<usize>], lists: &[usize]) -> impl Iterator<Item = usize> + 'a {
    let of_lists = lists.iter().filter_map(|list| ranks.get(*list));
    let mut next: BinaryHeap<_> = of_lists
        .filter_map(|ranks| Some(Reverse((ranks.first()?, ranks.as_slice()))))
        .collect();
    std::iter::from_fn(move || {
        let Reverse((first, ranks)) = next.pop()?;
        let rest = ranks.get(1..).unwrap_or_default();
        next.extend(rest.first().map(|first| Reverse((first, rest))));
        #[cfg(test)]
        super::LOOKED_AT.set(super::LOOKED_AT.get() + 1);
        Some(*first)
    })
}

/// One topic: how many partitions it has, how many subscribe to it, and the ranks of those that had
/// some of it.
struct Row<'a> {
    count: usize,
    subscribers: usize,
    owners: &'a [usize],
}

impl Row<'_> {
    /// Deals the topic; `ranks` are those of its subscribers, in their order.
    fn deal<'a>(
        &self,
        ranks: impl Iterator<Item = usize>,
        owned: impl Fn(usize) -> &'a [i32],
        give: &mut impl FnMut(usize, Vec<i32>),
    ) {
        let quota = self.count / self.subscribers;
        let mut surplus = self.count % self.subscribers;
        let mut free: BTreeSet<i32> = (0..).take(self.count).collect();
        let mut kept: BTreeMap<usize, (Vec<i32>, usize)> = BTreeMap::new();
        for rank in self.owners {
            #[cfg(test)]
            super::LOOKED_AT.set(super::LOOKED_AT.get() + 1);
            let held = owned(*rank).iter().copied();
            let held: Vec<i32> = held.filter(|at| free.contains(at)).collect();
            let mut share = quota;
            if held.len() > quota && surplus > 0 {
                surplus -= 1;
                share += 1;
            }
            let held: Vec<i32> = held.into_iter().take(share).collect();
            for partition in &held {
                free.remove(partition);
            }
            kept.insert(*rank, (held, share));
        }
        let mut free = free.into_iter();
        for rank in ranks {
            // Where there are fewer partitions than subscribers, the others get nothing.
            if quota == 0 && surplus == 0 {
                break;
            }
            let nothing = || (Vec::new(), quota);
            let (mut partitions, mut share) = kept.remove(&rank).unwrap_or_else(nothing);
            if share == quota && surplus > 0 {
                surplus -= 1;
                share += 1;
            }
            let missing = share.saturating_sub(partitions.len());
            partitions.extend(free.by_ref().take(missing));
            give(rank, partitions);
        }
        for (rank, (partitions, _)) in kept {
            give(rank, partitions);
        }
    }
}
