//! Moving one member towards its target, a step per heartbeat.
//!
//! A member first gives up what its target has not, and stays at its epoch until it says that it
//! did; then it comes to the assignment epoch, with whatever of its target nobody else owns. A
//! partition so has one owner at a time.

use palisade_protocol::types::TopicId;

use super::member::{Member, MemberState};
use crate::group::partitions::{OwnedPartitions, PartitionSet};

/// Where a member is to go, and what stands in its way.
pub(super) struct Goal<'a> {
    /// The assignment epoch.
    pub(super) epoch: i32,
    /// What the member is to own.
    pub(super) target: &'a PartitionSet,
    /// Whether it still subscribes to a topic: the target may be older than its subscription.
    pub(super) subscribed: &'a dyn Fn(TopicId) -> bool,
    /// Whether no other member owns a partition.
    pub(super) free: &'a dyn Fn(TopicId, i32) -> bool,
    /// What the member says it owns; `None` where it says nothing.
    pub(super) reported: Option<&'a PartitionSet>,
}

/// The member after its next step.
pub(super) fn reconcile(member: &mut Member, goal: &Goal<'_>) {
    match member.state {
        MemberState::Stable if member.epoch == goal.epoch => strip(member, goal),
        MemberState::Unrevoked if holds(&member.revoking, goal) => strip(member, goal),
        MemberState::Stable | MemberState::Unrevoked | MemberState::Unreleased => {
            step(member, goal);
        }
    }
}

/// Whether the member still owns any of these, as far as it says.
fn holds(partitions: &OwnedPartitions, goal: &Goal<'_>) -> bool {
    match goal.reported {
        None => !partitions.is_empty(),
        Some(reported) => reported
            .iter()
            .any(|(topic, partition)| partitions.contains(topic, partition)),
    }
}

/// Takes away topics that the member no longer subscribes to, with no new target to go to.
fn strip(member: &mut Member, goal: &Goal<'_>) {
    let (assigned, dropped): (Vec<_>, Vec<_>) = member
        .assigned
        .iter()
        .partition(|(topic, _, _)| (goal.subscribed)(*topic));
    if dropped.is_empty() {
        return;
    }
    member.assigned = assigned.into_iter().collect();
    let revoking = member.revoking.iter().chain(dropped).collect();
    if holds(&revoking, goal) {
        member.state = MemberState::Unrevoked;
        member.revoking = revoking;
    }
}

fn step(member: &mut Member, goal: &Goal<'_>) {
    let is_target =
        |topic, partition| goal.target.contains(topic, partition) && (goal.subscribed)(topic);
    let (kept, dropped): (OwnedPartitions, OwnedPartitions) = {
        let (kept, dropped): (Vec<_>, Vec<_>) = member
            .assigned
            .iter()
            .partition(|(topic, partition, _)| is_target(*topic, *partition));
        (kept.into_iter().collect(), dropped.into_iter().collect())
    };
    if holds(&dropped, goal) {
        member.assigned = kept;
        member.revoking = dropped;
        member.state = MemberState::Unrevoked;
        return;
    }
    let mut assigned = kept;
    let mut unreleased = false;
    for (topic, partition) in goal.target.iter() {
        if assigned.contains(topic, partition) || !(goal.subscribed)(topic) {
            continue;
        }
        if (goal.free)(topic, partition) {
            assigned.insert(topic, partition, goal.epoch);
        } else {
            unreleased = true;
        }
    }
    if member.epoch != goal.epoch {
        member.previous_epoch = member.epoch;
        member.epoch = goal.epoch;
    }
    member.assigned = assigned;
    member.revoking = OwnedPartitions::default();
    member.state = match unreleased {
        true => MemberState::Unreleased,
        false => MemberState::Stable,
    };
}
