//! The uniform assignor where subscriptions differ.
//!
//! Everyone first keeps what it held and still subscribes to; what is left goes to the subscriber
//! with the least, beginning with the topics that have the fewest subscribers. Then partitions
//! move from a member to another subscriber that has at least two fewer, until none can: each
//! such move lowers the sum of the squares of all counts, so this ends.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use palisade_protocol::types::TopicId;

use super::{AssignorMember, Board, Lists};
use crate::group::partitions::PartitionSet;

pub(super) fn assign(
    members: &[AssignorMember<'_>],
    lists: &Lists,
    partitions: &BTreeMap<TopicId, i32>,
) -> Vec<PartitionSet> {
    let by_topic = lists.by_topic();
    let mut board = Board::of(by_topic.keys().copied(), partitions);
    let mut counts = vec![0_usize; members.len()];
    keep(&mut board, &mut counts, members);
    let mut tally = Tally::of(counts, lists);

    let mut rows: Vec<Row> = board
        .topics
        .iter()
        .zip(by_topic.into_values())
        .map(|(&(_, first, count), listed)| Row {
            first,
            count,
            subscribers: lists.member_count(&listed),
            lists: listed,
        })
        .collect();
    // Who may go to few members is dealt first; the rest evens out what that brings about.
    rows.sort_by_key(|row| (row.subscribers, Reverse(row.count), row.first));
    for row in &rows {
        deal(&mut board, &mut tally, row);
    }
    loop {
        let mut moved = false;
        for row in &rows {
            moved |= level(&mut board, &mut tally, row);
        }
        if !moved {
            return board.into_sets(members.len());
        }
    }
}

/// One topic: its partitions on the board, and who subscribes to it.
struct Row {
    first: usize,
    count: usize,
    subscribers: usize,
    lists: Vec<usize>,
}

/// How much each member holds, and who holds the least of those that share a list.
struct Tally<'a> {
    lists: &'a Lists,
    counts: Vec<usize>,
    by_list: Vec<BTreeSet<(usize, usize)>>,
}

impl<'a> Tally<'a> {
    fn of(counts: Vec<usize>, lists: &'a Lists) -> Self {
        let mut by_list = vec![BTreeSet::new(); lists.all.len()];
        for (member, count) in counts.iter().enumerate() {
            if let Some(sorted) = by_list.get_mut(lists.of_member(member)) {
                sorted.insert((*count, member));
            }
        }
        Self {
            lists,
            counts,
            by_list,
        }
    }

    fn count(&self, member: usize) -> usize {
        self.counts.get(member).copied().unwrap_or(0)
    }

    fn set(&mut self, member: usize, after: usize) {
        let before = self.count(member);
        if let Some(count) = self.counts.get_mut(member) {
            *count = after;
        }
        if let Some(sorted) = self.by_list.get_mut(self.lists.of_member(member)) {
            sorted.remove(&(before, member));
            sorted.insert((after, member));
        }
    }

    /// Of those that share a list, who holds the least: how much, who, and the list.
    fn least(&self, list: usize) -> Option<(usize, usize, usize)> {
        #[cfg(test)]
        super::LOOKED_AT.set(super::LOOKED_AT.get() + 1);
        let (count, member) = self.by_list.get(list)?.first()?;
        Some((*count, *member, list))
    }
}

fn keep(board: &mut Board, counts: &mut [usize], members: &[AssignorMember<'_>]) {
    for (at, member) in members.iter().enumerate() {
        for (topic, partition) in member.owned.iter() {
            if member.topics.binary_search(&topic).is_err() {
                continue;
            }
            let Some(number) = board.number(topic, partition) else {
                continue;
            };
            if let Some(holder @ None) = board.holder.get_mut(number) {
                *holder = Some(at);
                if let Some(count) = counts.get_mut(at) {
                    *count += 1;
                }
            }
        }
    }
}

/// Gives the partitions that nobody holds to the subscribers with the least.
fn deal(board: &mut Board, tally: &mut Tally<'_>, row: &Row) {
    let holders = board.holder.iter_mut().skip(row.first).take(row.count);
    let mut free = holders.filter(|holder| holder.is_none()).peekable();
    if free.peek().is_none() {
        return;
    }
    let least = row.lists.iter().filter_map(|list| tally.least(*list));
    let mut least: BinaryHeap<_> = least.map(Reverse).collect();
    for holder in free {
        let Some(Reverse((held, member, list))) = least.pop() else {
            return;
        };
        *holder = Some(member);
        tally.set(member, held + 1);
        least.extend(tally.least(list).map(Reverse));
    }
}

/// Moves partitions of one topic until no subscriber has two fewer than a holder of them.
fn level(board: &mut Board, tally: &mut Tally<'_>, row: &Row) -> bool {
    let mut by_holder: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let holders = board.holder.iter().enumerate();
    for (number, holder) in holders.skip(row.first).take(row.count) {
        if let Some(member) = holder {
            by_holder.entry(*member).or_default().push(number);
        }
    }
    let holders = by_holder.keys();
    let mut rich: BTreeSet<(usize, usize)> = holders
        .map(|member| (tally.count(*member), *member))
        .collect();
    let least = row.lists.iter().filter_map(|list| tally.least(*list));
    let mut poor: BTreeSet<(usize, usize, usize)> = least.collect();
    let mut moved = false;
    while let (Some(&(most, from)), Some(&(least, to, _))) = (rich.last(), poor.first()) {
        if most < least + 2 {
            break;
        }
        let Some(number) = by_holder.get_mut(&from).and_then(Vec::pop) else {
            // It holds no more of this topic, however much of others.
            rich.remove(&(most, from));
            continue;
        };
        if let Some(holder) = board.holder.get_mut(number) {
            *holder = Some(to);
        }
        by_holder.entry(to).or_default().push(number);
        for (member, before, after) in [(from, most, most - 1), (to, least, least + 1)] {
            let list = tally.lists.of_member(member);
            if let Some(first) = tally.least(list) {
                poor.remove(&first);
            }
            tally.set(member, after);
            poor.extend(tally.least(list));
            rich.remove(&(before, member));
            rich.insert((after, member));
        }
        moved = true;
    }
    moved
}
