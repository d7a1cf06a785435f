//! The range assignor: each topic by itself, in blocks.
//!
//! Of every topic each subscriber gets its share, rounded down or up; members in the order of
//! their instance ids, then of their ids. Equal topics are dealt alike, so a member gets the same
//! numbers of all of them. A member keeps the lowest of what it held, up to its share.

use std::collections::{BTreeMap, BTreeSet};

use palisade_protocol::types::TopicId;

use super::AssignorMember;
use crate::group::partitions::PartitionSet;

pub(super) fn assign(
    members: &[AssignorMember<'_>],
    partitions: &BTreeMap<TopicId, i32>,
) -> Vec<PartitionSet> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    // Static members first: their ids outlive them, so their order does.
    order.sort_by_key(|at| {
        members
            .get(*at)
            .map(|member| (member.instance_id.is_none(), member.instance_id, member.id))
    });
    let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for at in order {
        for topic in members.get(at).map_or(&[][..], |member| &member.topics) {
            subscribers.entry(*topic).or_default().push(at);
        }
    }
    let mut sets = vec![PartitionSet::default(); members.len()];
    for (topic, subscribers) in subscribers {
        let count = partitions.get(&topic).copied().unwrap_or(0);
        deal(topic, count, &subscribers, members, &mut sets);
    }
    sets
}

/// Deals one topic.
fn deal(
    topic: TopicId,
    count: i32,
    subscribers: &[usize],
    members: &[AssignorMember<'_>],
    sets: &mut [PartitionSet],
) {
    let count = usize::try_from(count).unwrap_or(0);
    let quota = count / subscribers.len();
    let mut surplus = count % subscribers.len();
    let mut free: BTreeSet<i32> = (0..).take(count).collect();
    let mut kept = Vec::with_capacity(subscribers.len());
    for member in subscribers {
        let held = members
            .get(*member)
            .map_or(&[][..], |member| member.owned.of(topic));
        let held: Vec<i32> = held
            .iter()
            .copied()
            .filter(|at| free.contains(at))
            .collect();
        let mut share = quota;
        if held.len() > quota && surplus > 0 {
            surplus -= 1;
            share += 1;
        }
        let held: Vec<i32> = held.into_iter().take(share).collect();
        for partition in &held {
            free.remove(partition);
        }
        kept.push((*member, held, share));
    }
    let mut free = free.into_iter();
    for (member, mut partitions, mut share) in kept {
        if share == quota && surplus > 0 {
            surplus -= 1;
            share += 1;
        }
        let missing = share.saturating_sub(partitions.len());
        partitions.extend(free.by_ref().take(missing));
        if let Some(set) = sets.get_mut(member) {
            set.add(topic, partitions);
        }
    }
}
