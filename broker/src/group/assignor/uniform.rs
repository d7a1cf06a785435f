//! The uniform assignor where all members subscribe to the same topics.
//!
//! Members' counts differ by at most one, and no assignment with this property would move fewer
//! partitions: the members that held most get the counts that are greater by one, and everyone
//! keeps as much of what it held as its count allows.

use std::collections::{BTreeMap, VecDeque};

use palisade_protocol::types::TopicId;

use super::{AssignorMember, Board};
use crate::group::partitions::PartitionSet;

pub(super) fn assign(
    members: &[AssignorMember<'_>],
    partitions: &BTreeMap<TopicId, i32>,
) -> Vec<PartitionSet> {
    let Some(first) = members.first() else {
        return Vec::new();
    };
    let mut board = Board::of(first.topics.iter().copied(), partitions);
    let held: Vec<Vec<usize>> = members
        .iter()
        .enumerate()
        .map(|(at, member)| hold(&mut board, at, member))
        .collect();

    let total = board.holder.len();
    let (quota, surplus) = (total / members.len(), total % members.len());
    let mut by_count: Vec<usize> = (0..members.len()).collect();
    by_count.sort_by_key(|at| std::cmp::Reverse(held.get(*at).map_or(0, Vec::len)));
    let mut wanting = VecDeque::new();
    for (rank, member) in by_count.into_iter().enumerate() {
        let quota = quota + usize::from(rank < surplus);
        let held = held.get(member).map_or(&[][..], Vec::as_slice);
        for partition in held.iter().skip(quota) {
            if let Some(holder) = board.holder.get_mut(*partition) {
                *holder = None;
            }
        }
        if held.len() < quota {
            wanting.push_back((member, quota - held.len()));
        }
    }
    // Dealt in turn, so that a topic's partitions spread over members.
    for holder in board.holder.iter_mut().filter(|holder| holder.is_none()) {
        let Some((member, missing)) = wanting.pop_front() else {
            break;
        };
        *holder = Some(member);
        if missing > 1 {
            wanting.push_back((member, missing - 1));
        }
    }
    board.into_sets(members.len())
}

/// Gives a member what it held, as far as that is still on the board and nobody else's.
fn hold(board: &mut Board, at: usize, member: &AssignorMember<'_>) -> Vec<usize> {
    let mut held = Vec::new();
    for (topic, partition) in member.owned.iter() {
        let Some(number) = board.number(topic, partition) else {
            continue;
        };
        if let Some(holder @ None) = board.holder.get_mut(number) {
            *holder = Some(at);
            held.push(number);
        }
    }
    held
}
