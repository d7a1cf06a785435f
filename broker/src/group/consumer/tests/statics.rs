//! Static members (coordination.md §4; KIP-345).

use super::super::*;
use super::rig::{Request, Rig, beat, join, set};
use crate::group::error::GroupError;

fn fixed(mut request: Request) -> Request {
    request.instance_id = Some(Str::from("i"));
    request
}

fn paused() -> Rig {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&fixed(join("a", &["t"])));
    rig.ok(&join("b", &["t"]));
    let answer = rig.send(&fixed(beat("a", -2))).unwrap();
    assert_eq!((answer.member_epoch, answer.heartbeat_interval_ms), (-2, 0));
    rig
}

#[test]
fn a_held_place_is_not_given_twice() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&fixed(join("a", &["t"])));
    for member in ["a", "b"] {
        let error = rig.err(&fixed(join(member, &["t"])));
        assert_eq!(error, GroupError::UnreleasedInstanceId);
    }
    assert_eq!(rig.err(&fixed(beat("b", 2))), GroupError::FencedInstanceId);
    assert_eq!(rig.err(&fixed(beat("b", -1))), GroupError::FencedInstanceId);
    assert_eq!(rig.err(&fixed(beat("b", -2))), GroupError::FencedInstanceId);
    let mut other = beat("a", 2);
    other.instance_id = Some(Str::from("j"));
    assert_eq!(rig.err(&other), GroupError::UnknownMember);
    assert_eq!(
        rig.ok(&beat("a", 2)),
        (2, None),
        "without its instance it is served"
    );
}

#[test]
fn who_is_away_keeps_its_place() {
    let mut rig = paused();
    assert_eq!(rig.group.epoch(), 3);
    assert_eq!(rig.group.state(), GroupState::Reconciling);
    for request in [
        fixed(beat("a", 2)),
        fixed(beat("a", 3)),
        beat("a", 3),
        join("a", &["t"]),
    ] {
        assert!(matches!(
            rig.err(&request),
            GroupError::FencedMemberEpoch(_)
        ));
    }
    // What it had to give up anyway is free at once.
    rig.assert_reloads();
}

#[test]
fn a_successor_inherits() {
    for id in ["a", "c"] {
        let mut rig = paused();
        let (epoch, assignment) = rig.ok(&fixed(join(id, &["t"])));
        assert_eq!((epoch, assignment.unwrap().len()), (3, 1));
        assert_eq!(rig.group.epoch(), 3, "no epoch for the same subscription");
        assert_eq!(rig.group.members().count(), 2);
        rig.ok(&beat("b", 3));
        assert_eq!(rig.group.state(), GroupState::Stable);
        rig.assert_reloads();
        if id == "c" {
            assert_eq!(rig.err(&fixed(beat("a", 3))), GroupError::FencedInstanceId);
            assert_eq!(rig.err(&beat("a", 3)), GroupError::UnknownMember);
            assert!(rig.timers.keys().all(|key| !key.contains("\"a\"")));
        }
    }
}

#[test]
fn a_successor_with_another_subscription_raises_the_epoch() {
    let mut rig = paused();
    rig.create("u", 1);
    rig.ok(&fixed(join("c", &["t", "u"])));
    assert_eq!(rig.group.epoch(), 4);
    rig.assert_reloads();
}

#[test]
fn who_stays_away_is_removed() {
    let mut rig = paused();
    rig.pass(40_000);
    rig.ok(&beat("b", 3));
    rig.pass(5_000);
    assert_eq!(rig.group.members().count(), 1);
    assert_eq!(rig.ok(&beat("b", 3)), (4, Some(set(&[("t", &[0, 1])]))));
    assert_eq!(rig.err(&fixed(beat("a", -1))), GroupError::UnknownMember);
}

#[test]
fn a_static_member_can_leave_for_good() {
    let mut rig = paused();
    rig.ok(&fixed(join("c", &["t"])));
    assert_eq!(rig.ok(&fixed(beat("c", -1))), (-1, None));
    assert_eq!(rig.group.members().count(), 1);
    assert!(rig.group.instance("i").is_none());
    // The place is anybody's.
    rig.ok(&fixed(join("d", &["t"])));
    rig.assert_reloads();
}
