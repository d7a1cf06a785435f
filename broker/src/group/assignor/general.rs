//! The uniform assignor where subscriptions differ.
//!
//! Everyone first keeps what it held and still subscribes to; what is left goes to the subscriber
//! with the least, beginning with the topics that have the fewest subscribers. Then partitions
//! move from a member to another subscriber that has at least two fewer, until none can: each
//! such move lowers the sum of the squares of all counts, so this ends.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use palisade_protocol::types::TopicId;

use super::{AssignorMember, Board};
use crate::group::partitions::PartitionSet;

pub(super) fn assign(
    members: &[AssignorMember<'_>],
    partitions: &BTreeMap<TopicId, i32>,
) -> Vec<PartitionSet> {
    let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        for topic in member.topics.iter() {
            subscribers.entry(*topic).or_default().push(at);
        }
    }
    let mut board = Board::of(subscribers.keys().copied(), partitions);
    let mut counts = vec![0_usize; members.len()];
    keep(&mut board, &mut counts, members);

    let mut rows: Vec<Row> = board
        .topics
        .iter()
        .zip(subscribers.into_values())
        .map(|(&(_, first, count), subscribers)| Row {
            first,
            count,
            subscribers,
        })
        .collect();
    // Who may go to few members is dealt first; the rest evens out what that brings about.
    rows.sort_by_key(|row| (row.subscribers.len(), Reverse(row.count), row.first));
    for row in &rows {
        deal(&mut board, &mut counts, row);
    }
    loop {
        let mut moved = false;
        for row in &rows {
            moved |= level(&mut board, &mut counts, row);
        }
        if !moved {
            return board.into_sets(members.len());
        }
    }
}

/// One topic: its partitions on the board, and the members that subscribe to it.
struct Row {
    first: usize,
    count: usize,
    subscribers: Vec<usize>,
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
                add(counts, at);
            }
        }
    }
}

/// Gives the partitions that nobody holds to the subscribers with the least.
fn deal(board: &mut Board, counts: &mut [usize], row: &Row) {
    let holders = board.holder.iter_mut().skip(row.first).take(row.count);
    let mut free = holders.filter(|holder| holder.is_none()).peekable();
    if free.peek().is_none() {
        return;
    }
    let mut least: BinaryHeap<_> = row
        .subscribers
        .iter()
        .map(|member| Reverse((count(counts, *member), *member)))
        .collect();
    for holder in free {
        let Some(Reverse((held, member))) = least.pop() else {
            return;
        };
        *holder = Some(member);
        add(counts, member);
        least.push(Reverse((held + 1, member)));
    }
}

/// Moves partitions of one topic until no subscriber has two fewer than a holder of them.
fn level(board: &mut Board, counts: &mut [usize], row: &Row) -> bool {
    let held = |board: &Board| {
        let mut held: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let holders = board.holder.iter().enumerate();
        for (number, holder) in holders.skip(row.first).take(row.count) {
            if let Some(member) = holder {
                held.entry(*member).or_default().push(number);
            }
        }
        held
    };
    let mut by_holder = held(board);
    let least = row.subscribers.iter().map(|at| count(counts, *at)).min();
    let most = by_holder.keys().map(|at| count(counts, *at)).max();
    let (Some(least), Some(most)) = (least, most) else {
        return false;
    };
    if most < least + 2 {
        return false;
    }
    let mut poor: BTreeSet<(usize, usize)> = row
        .subscribers
        .iter()
        .map(|member| (count(counts, *member), *member))
        .collect();
    let mut rich: BTreeSet<(usize, usize)> = by_holder
        .keys()
        .map(|member| (count(counts, *member), *member))
        .collect();
    let mut moved = false;
    while let (Some(&(most, from)), Some(&(least, to))) = (rich.last(), poor.first()) {
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
            poor.remove(&(before, member));
            poor.insert((after, member));
            rich.remove(&(before, member));
            rich.insert((after, member));
            if let Some(count) = counts.get_mut(member) {
                *count = after;
            }
        }
        moved = true;
    }
    moved
}

fn count(counts: &[usize], member: usize) -> usize {
    counts.get(member).copied().unwrap_or(0)
}

fn add(counts: &mut [usize], member: usize) {
    if let Some(count) = counts.get_mut(member) {
        *count += 1;
    }
}
