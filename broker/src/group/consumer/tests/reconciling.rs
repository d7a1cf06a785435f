//! Partitions change hands (coordination.md §4, "Reconciliation of one member").

use super::super::target::ASSIGNED;
use super::super::*;
use super::rig::{MAX_BATCH_BYTES, Rig, beat, join, owns, set};
use crate::group::decision::TimerKey;
use crate::group::error::GroupError;

fn two() -> Rig {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("a", &["t"]));
    assert_eq!(rig.ok(&join("b", &["t"])), (3, Some(set(&[]))));
    rig
}

fn state(rig: &Rig, member: &str) -> (i32, MemberState) {
    let member = rig.group.member(member).unwrap();
    (member.epoch, member.state)
}

#[test]
fn a_partition_is_free_when_its_owner_says_so() {
    let mut rig = two();
    assert_eq!(state(&rig, "b"), (3, MemberState::Unreleased));
    let kept = set(&[("t", &[0])]);
    assert_eq!(rig.ok(&beat("a", 2)), (2, Some(kept.clone())));
    assert_eq!(state(&rig, "a"), (2, MemberState::Unrevoked));
    // Still owning it, or not saying, changes nothing.
    let mut owning = beat("a", 2);
    owning.topic_partitions = owns(&set(&[("t", &[0, 1])]));
    assert_eq!(rig.ok(&owning), (2, None));
    assert_eq!(rig.ok(&beat("a", 2)), (2, None));
    assert_eq!(rig.ok(&beat("b", 3)), (3, None));
    owning.topic_partitions = owns(&kept);
    assert_eq!(rig.ok(&owning), (3, None));
    assert_eq!(state(&rig, "a"), (3, MemberState::Stable));
    assert_eq!(rig.ok(&beat("b", 3)), (3, Some(set(&[("t", &[1])]))));
    assert_eq!(rig.group.state(), GroupState::Stable);
    rig.assert_reloads();
}

#[test]
fn owning_a_part_of_it_keeps_the_state() {
    let mut rig = Rig::new(&[("t", 4)]);
    rig.ok(&join("a", &["t"]));
    rig.ok(&join("b", &["t"]));
    rig.ok(&beat("a", 2));
    let mut part = beat("a", 2);
    part.topic_partitions = owns(&set(&[("t", &[0, 1, 3])]));
    assert_eq!(rig.ok(&part), (2, None));
    assert_eq!(state(&rig, "a"), (2, MemberState::Unrevoked));
    assert_eq!(rig.ok(&beat("b", 3)), (3, None));
}

#[test]
fn who_does_not_give_up_in_time_is_removed() {
    let mut rig = two();
    let mut request = beat("a", 2);
    request.rebalance_timeout_ms = 10_000;
    rig.ok(&request);
    for _ in 0..3 {
        rig.pass(3_000);
        rig.ok(&beat("a", 2));
        rig.ok(&beat("b", 3));
    }
    rig.pass(1_000);
    assert!(rig.group.member("a").is_none());
    let all = set(&[("t", &[0, 1])]);
    assert_eq!(rig.ok(&beat("b", 3)), (4, Some(all)));
}

#[test]
fn giving_up_stops_the_timer() {
    let mut rig = two();
    rig.ok(&beat("a", 2));
    let rebalances = |rig: &Rig| {
        let keys = rig.timers.values();
        keys.filter(|(_, key)| matches!(key, TimerKey::Rebalance { .. }))
            .count()
    };
    assert_eq!(rebalances(&rig), 1);
    let mut given = beat("a", 2);
    given.topic_partitions = owns(&set(&[("t", &[0])]));
    rig.ok(&given);
    assert_eq!(rebalances(&rig), 0);
}

#[test]
fn a_new_coordinator_goes_on_where_the_old_one_was() {
    let mut rig = two();
    rig.ok(&beat("a", 2));
    rig.group = rig.reload();
    let at = Moment {
        now: rig.now,
        config: &rig.config,
        image: &rig.image,
        max_batch_bytes: MAX_BATCH_BYTES,
    };
    assert_eq!(
        rig.group.timers(&at).len(),
        3,
        "two sessions, one revocation"
    );
    let mut given = beat("a", 2);
    given.topic_partitions = owns(&set(&[("t", &[0])]));
    assert_eq!(rig.ok(&given), (3, None));
    assert_eq!(rig.ok(&beat("b", 3)), (3, Some(set(&[("t", &[1])]))));
}

#[test]
fn what_is_no_longer_wanted_goes_before_the_next_target() {
    let mut rig = Rig::new(&[("t", 1), ("u", 1)]);
    rig.config.assignment_interval = std::time::Duration::from_secs(1);
    rig.ok(&join("a", &["t", "u"]));
    let mut request = beat("a", 2);
    request.subscribed_topic_names = super::rig::names(&["u"]);
    assert_eq!(rig.ok(&request), (2, Some(set(&[("u", &[0])]))));
    assert_eq!(state(&rig, "a"), (2, MemberState::Unrevoked));
    rig.pass(1_000);
    let mut given = beat("a", 2);
    given.topic_partitions = owns(&set(&[("u", &[0])]));
    assert_eq!(rig.ok(&given), (3, None));
    rig.assert_reloads();
}

#[test]
fn a_newer_target_may_give_back_what_was_to_go() {
    let mut rig = two();
    rig.ok(&beat("a", 2));
    rig.ok(&beat("b", -1));
    // It never said that it gave the partition up, so it goes on owning it for now.
    assert_eq!(rig.ok(&beat("a", 2)), (2, None));
    let mut given = beat("a", 2);
    given.topic_partitions = owns(&set(&[("t", &[0])]));
    assert_eq!(rig.ok(&given), (4, Some(set(&[("t", &[0, 1])]))));
    assert_eq!(state(&rig, "a"), (4, MemberState::Stable));
}

/// The log would refuse such a target at each heartbeat anew, after the assignor has run for it.
#[test]
fn a_target_that_no_batch_holds_is_made_once_in_a_while() {
    let mut rig = Rig::new(&[("t", 3), ("u", 1)]);
    rig.ok(&join("m", &["t"]));
    rig.create("t", 2000);
    assert_eq!(rig.ok(&beat("m", 2)), (2, None));
    let made = ASSIGNED.get();
    for _ in 0..5 {
        rig.now = rig.now.checked_add(1_999).unwrap();
        assert_eq!(rig.ok(&beat("m", 2)), (2, None));
    }
    assert_eq!(ASSIGNED.get(), made, "not for each");
    rig.now = rig.now.checked_add(5).unwrap();
    assert_eq!(rig.ok(&beat("m", 2)), (2, None));
    assert_eq!(ASSIGNED.get(), made + 1, "it is tried again");
    let refused = rig.err(&join("n", &["t"]));
    assert!(
        matches!(&refused, GroupError::Unknown(text) if text.contains("a batch of 4096 bytes")),
        "{refused:?}"
    );
    // What would make another target is tried at once.
    let mut other = join("m", &["u"]);
    other.member_epoch = 2;
    other.topic_partitions = owns(&set(&[("t", &[0, 1, 2])]));
    rig.ok(&other);
    rig.assert_reloads();
}
