//! A next target that no batch holds: who is there goes on with the last one.

use std::time::Duration;

use super::super::target::ASSIGNED;
use super::super::*;
use super::classic::{classic, generation, heartbeat, send, sync};
use super::joining::{NOW, STEP};
use super::patterns::{like, look_up};
use super::rig::{Request, Rig, beat, join, names, owns, set};
use crate::group::error::GroupError;

/// A topic whose partitions no batch of the tests holds.
const LARGE: (&str, i32) = ("u", 2_000);

/// Has a member come with the large topic, which nobody knows before it is in.
fn come_too_much(rig: &mut Rig, member: &str) {
    let answer = rig.send(&like(member, "u.*")).unwrap();
    look_up(rig, &answer.look_up);
}

/// Heartbeats of members at their epochs, for longer than sessions last; nobody hears more than
/// that it is there.
fn beats(rig: &mut Rig, members: &[(&str, i32)]) {
    for _ in 0..30 {
        for (member, epoch) in members {
            assert_eq!(rig.ok(&beat(member, *epoch)), (*epoch, None), "{member}");
        }
        rig.pass(3_000);
    }
}

fn is_refused(rig: &mut Rig, request: &Request) -> bool {
    matches!(rig.err(request), GroupError::Unknown(_))
}

/// Two at once, the second of whom comes while the assignor must wait.
#[test]
fn who_is_there_goes_on_beside_who_came_too_much() {
    let mut rig = Rig::new(&[("t", 2), LARGE, ("t2", 1)]);
    rig.group.remembered.pace = Pace::by(|| NOW.replace(NOW.get() + STEP.get()));
    let epoch = rig.ok(&join("a", &["t"])).0;
    NOW.set(Duration::from_secs(60));
    assert!(is_refused(&mut rig, &join("b", &["u"])));
    STEP.set(Duration::ZERO);
    assert_eq!(rig.ok(&join("c", &["u", "t2"])), (epoch, Some(set(&[]))));
    assert_eq!(rig.group.epoch(), epoch + 1);

    NOW.set(Duration::from_secs(120));
    let assigned = ASSIGNED.get();
    beats(&mut rig, &[("a", epoch), ("c", epoch)]);
    let runs = ASSIGNED.get() - assigned;
    assert!((1..=9).contains(&runs), "{runs} in 90 s");
    assert_eq!(rig.group.state(), GroupState::Assigning);
    rig.assert_reloads();

    rig.ok(&beat("c", -1));
    assert_eq!(rig.ok(&beat("a", epoch)), (epoch + 2, None));
    assert_eq!(rig.group.state(), GroupState::Stable);
    rig.assert_reloads();
}

#[test]
fn who_is_there_goes_on_beside_an_expression_that_is_too_much() {
    let mut rig = Rig::new(&[("t", 2), LARGE]);
    let epoch = rig.ok(&join("a", &["t"])).0;
    come_too_much(&mut rig, "c");
    assert_eq!(rig.group.epoch(), epoch + 1);
    beats(&mut rig, &[("a", epoch), ("c", epoch)]);
    // Who says something new is told.
    let mut more = beat("a", epoch);
    more.subscribed_topic_names = names(&["t", "u"]);
    assert!(is_refused(&mut rig, &more));
    assert!(is_refused(&mut rig, &join("b", &["t"])));
    beats(&mut rig, &[("a", epoch), ("c", epoch)]);
    // What fits is assigned, whoever says it.
    let mut other = beat("c", epoch);
    other.subscribed_topic_regex = Some(Str::EMPTY);
    other.subscribed_topic_names = names(&["t"]);
    let epoch = rig.ok(&other).0;
    assert_eq!(rig.group.state(), GroupState::Reconciling);
    assert_eq!(rig.group.epoch(), epoch);
    rig.assert_reloads();
}

/// The last target is gone to as if the next one were not to be made.
#[test]
fn who_gives_up_partitions_goes_on() {
    let mut rig = Rig::new(&[("t", 2), LARGE]);
    let epoch = rig.ok(&join("a", &["t"])).0;
    let target = rig.ok(&join("b", &["t"])).0;
    come_too_much(&mut rig, "c");
    let kept = set(&[("t", &[0])]);
    assert_eq!(rig.ok(&beat("a", epoch)), (epoch, Some(kept.clone())));
    beats(&mut rig, &[("a", epoch), ("b", target), ("c", target)]);
    let mut given = beat("a", epoch);
    given.topic_partitions = owns(&kept);
    assert_eq!(rig.ok(&given).0, target);
    let got = set(&[("t", &[1])]);
    assert_eq!(rig.ok(&beat("b", target)), (target, Some(got)));
    beats(&mut rig, &[("a", target), ("b", target), ("c", target)]);
    rig.assert_reloads();
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut rig = Rig::new(&[("t", 2), LARGE]);
    let mut request = join("a", &["t"]);
    request.instance_id = Some("i".into());
    let (epoch, all) = rig.ok(&request);
    come_too_much(&mut rig, "c");
    let mut away = beat("a", -2);
    away.instance_id = Some("i".into());
    rig.ok(&away);
    request.member_id = "b".into();
    assert_eq!(rig.ok(&request), (epoch, all));
    rig.assert_reloads();
}

/// Nobody said anything new: a topic has grown.
#[test]
fn a_topic_that_grows_too_large_ends_nobody() {
    let mut rig = Rig::new(&[("t", 2)]);
    let epoch = rig.ok(&join("a", &["t"])).0;
    rig.create("t", 2_000);
    beats(&mut rig, &[("a", epoch)]);
    assert_eq!(rig.group.epoch(), epoch + 1);
    rig.delete("t");
    rig.create("t", 2);
    rig.ok(&beat("a", epoch));
    let mut given = beat("a", epoch);
    given.topic_partitions = owns(&set(&[]));
    let (next, assignment) = rig.ok(&given);
    assert!(next > epoch + 1);
    assert_eq!(assignment.map(|all| all.len()), Some(2));
    assert_eq!(rig.group.state(), GroupState::Stable);
    rig.assert_reloads();
}

/// They come again once for each attempt, and not without end.
#[test]
fn classic_members_go_on_too() {
    let mut rig = Rig::new(&[("t", 2), LARGE]);
    let all = set(&[("t", &[0, 1])]);
    let epoch = rig.ok(&join("n", &["u2"])).0;
    let mut request = classic(&rig, "c", &["t"], &set(&[]));
    let joined = generation(&send(&mut rig, &request).unwrap());
    assert_eq!(sync(&mut rig, "c", joined), Ok(all.clone()));
    assert_eq!(rig.ok(&beat("n", epoch)).0, joined);
    come_too_much(&mut rig, "d");
    request = classic(&rig, "c", &["t"], &all);
    let mut rejoined = 0;
    for _ in 0..30 {
        if let Err(error) = heartbeat(&mut rig, "c", joined) {
            assert_eq!(error, GroupError::RebalanceInProgress);
            let generation = generation(&send(&mut rig, &request).unwrap());
            assert_eq!(generation, joined);
            assert_eq!(sync(&mut rig, "c", joined), Ok(all.clone()));
            rejoined += 1;
        }
        for native in ["n", "d"] {
            assert_eq!(rig.ok(&beat(native, joined)), (joined, None));
        }
        rig.pass(3_000);
    }
    assert!((1..=9).contains(&rejoined), "{rejoined} times in 90 s");
    rig.assert_reloads();

    rig.ok(&beat("d", -1));
    rig.ok(&beat("n", joined));
    let error = heartbeat(&mut rig, "c", joined).unwrap_err();
    assert_eq!(error, GroupError::RebalanceInProgress);
    let next = generation(&send(&mut rig, &request).unwrap());
    assert!(next > joined);
    assert_eq!(sync(&mut rig, "c", next), Ok(all));
    assert_eq!(heartbeat(&mut rig, "c", next), Ok(()));
}

/// Whoever is refused has the assignor wait: until it may run, the others have nothing to come for.
#[test]
fn classic_members_do_not_come_again_while_the_assignor_waits() {
    let mut rig = Rig::new(&[("t", 2), LARGE]);
    rig.group.remembered.pace = Pace::by(|| NOW.replace(NOW.get() + STEP.get()));
    let epoch = rig.ok(&join("n", &["u2"])).0;
    NOW.set(NOW.get() + Duration::from_secs(60));
    let request = classic(&rig, "c", &["t"], &set(&[]));
    let joined = generation(&send(&mut rig, &request).unwrap());
    assert_eq!(sync(&mut rig, "c", joined), Ok(set(&[("t", &[0, 1])])));
    assert_eq!(rig.ok(&beat("n", epoch)).0, joined);
    NOW.set(NOW.get() + Duration::from_secs(60));
    come_too_much(&mut rig, "d");
    assert_eq!(rig.ok(&beat("n", joined)), (joined, None));
    NOW.set(NOW.get() + Duration::from_secs(60));
    assert!(is_refused(&mut rig, &join("b", &["u"])));
    STEP.set(Duration::ZERO);
    assert_eq!(heartbeat(&mut rig, "c", joined), Ok(()));
    NOW.set(NOW.get() + Duration::from_secs(60));
    let error = heartbeat(&mut rig, "c", joined).unwrap_err();
    assert_eq!(error, GroupError::RebalanceInProgress);
}
