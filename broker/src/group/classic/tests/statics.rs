use bytes::Bytes;
use palisade_protocol::{ErrorCode, Str};

use super::scene::{Fate, Scene, join_timer, session_timer, sync_timer};
use crate::group::classic::{JoinAsk, State};
use crate::group::error::GroupError;

fn instance(name: &'static str) -> impl Fn(&mut JoinAsk) {
    move |ask| ask.instance_id = Some(name.into())
}

/// A stable group of two static members, `a` leading.
fn pair() -> (Scene, Str, Str) {
    let mut scene = Scene::new();
    let ids = scene.make_stable(2, |index, ask| {
        ask.needs_known_id = true;
        ask.instance_id = Some(["a", "b"][index].into());
    });
    (scene, ids[0].clone(), ids[1].clone())
}

#[test]
fn they_need_no_id_first() {
    let (_, a, b) = pair();
    assert!(a.starts_with("a-") && b.starts_with("b-"), "{a} {b}");
}

#[test]
fn a_restarted_follower_takes_its_place_back() {
    let (mut scene, a, b) = pair();
    let token = scene.join("", instance("b"));
    let joined = scene.joined(token);
    assert_ne!(joined.member_id, b);
    assert_eq!((joined.generation, &joined.leader), (1, &a));
    assert_eq!(scene.group.state(), State::Stable);
    let stored = scene.last_stored();
    assert!(
        stored
            .members
            .iter()
            .any(|one| one.member_id == joined.member_id)
    );
    assert!(!scene.timers.contains_key(&session_timer(&b)));
    assert!(scene.timers.contains_key(&session_timer(&joined.member_id)));
    // The old id is nobody's; with the instance it is fenced.
    assert_eq!(scene.heartbeat(&b, 1), Err(GroupError::UnknownMember));
    let (fenced, _) = scene.group.heartbeat(&b, Some("b"), 1);
    assert_eq!(fenced, Err(GroupError::FencedInstanceId));
    let token = scene.join(&b, instance("b"));
    let expected = Fate::Refused(ErrorCode::FENCED_INSTANCE_ID, b);
    assert_eq!(scene.fate(token), expected);
}

#[test]
fn a_restarted_leader_does_not_assign() {
    let (mut scene, a, _) = pair();
    // Old clients are told of the old leader, so that nobody assigns.
    let token = scene.join("", instance("a"));
    let joined = scene.joined(token);
    assert_eq!((joined.leader, joined.members.len()), (a, 0));
    assert!(!joined.skip_assignment);
    // New ones are told not to.
    let token = scene.join("", |ask| {
        instance("a")(ask);
        ask.may_skip_assignment = true;
    });
    let joined = scene.joined(token);
    assert_eq!(
        (&joined.leader, joined.members.len()),
        (&joined.member_id, 2)
    );
    assert!(joined.skip_assignment);
}

#[test]
fn another_protocol_rebalances() {
    let (mut scene, ..) = pair();
    let token = scene.join("", |ask| {
        instance("b")(ask);
        ask.protocols[0].1 = Bytes::from_static(b"metadata may change");
    });
    assert_eq!(scene.joined(token).generation, 1);
    let token = scene.join("", |ask| {
        instance("b")(ask);
        ask.protocols.insert(0, ("range".into(), Bytes::new()));
        ask.protocols[1].0 = "sticky".into();
    });
    // Still the only protocol that both support.
    assert_eq!(scene.joined(token).generation, 1);
}

#[test]
fn a_restart_in_a_rebalance() {
    let (mut scene, a, b) = pair();
    let parked = scene.join(&b, |ask| {
        instance("b")(ask);
        ask.protocols[0].1 = Bytes::from_static(b"other");
    });
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    let token = scene.join("", instance("b"));
    let expected = Fate::Refused(ErrorCode::FENCED_INSTANCE_ID, b);
    assert_eq!(scene.fate(parked), expected);
    assert_eq!(scene.fate(token), Fate::Parked);
    let leader = scene.join(&a, instance("a"));
    assert_eq!(scene.joined(token).generation, 2);
    // Completing: the leader may have seen the old id already.
    let new = scene.joined(token).member_id;
    let sync = scene.sync(&new, 2, &[], |_| {});
    let again = scene.join("", instance("b"));
    assert_eq!(
        scene.fate(sync),
        Fate::Failed(ErrorCode::FENCED_INSTANCE_ID)
    );
    assert_eq!(scene.fate(again), Fate::Parked);
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    assert_eq!(scene.joined(leader).generation, 2);
}

#[test]
fn the_absent_stay_for_a_while() {
    let (mut scene, a, b) = pair();
    let token = scene.join(&b, |ask| {
        instance("b")(ask);
        ask.protocols[0].1 = Bytes::from_static(b"other");
    });
    scene.fire(join_timer());
    let joined = scene.joined(token);
    assert_eq!((joined.generation, joined.members.len()), (2, 2));
    assert_eq!(joined.leader, b);
    assert_eq!(scene.heartbeat(&a, 1), Err(GroupError::IllegalGeneration));
    let generation = joined.generation;
    scene.sync(&b, generation, &[], |_| {});
    scene.fire(sync_timer());
    assert_eq!(scene.group.describe().members.len(), 1);
}

#[test]
fn only_absent_static_members_wait_on() {
    let (mut scene, a, b) = pair();
    scene.join("", |_| {});
    let dynamic = "c-00000000-0000-0000-0000-000000000005";
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    assert_eq!(scene.leave(dynamic, None), Ok(()));
    scene.fire(join_timer());
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    assert!(scene.timers.contains_key(&join_timer()));
    scene.fire(session_timer(&a));
    scene.fire(session_timer(&b));
    assert_eq!(scene.group.state(), State::Empty);
}

#[test]
fn operators_remove_by_instance() {
    let (mut scene, a, b) = pair();
    assert_eq!(
        scene.leave("", Some("nobody")),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(
        scene.leave(&a, Some("b")),
        Err(GroupError::FencedInstanceId)
    );
    assert_eq!(scene.leave("", Some("b")), Ok(()));
    assert_eq!(scene.leave(&b, None), Err(GroupError::UnknownMember));
    assert_eq!(scene.leave(&a, Some("a")), Ok(()));
    assert_eq!(scene.group.state(), State::Empty);
}

#[test]
fn a_replacement_that_is_not_stored_is_undone() {
    let (mut scene, _, b) = pair();
    scene.store = Err(GroupError::NotCoordinator);
    let token = scene.join("", instance("b"));
    let expected = Fate::Refused(ErrorCode::NOT_COORDINATOR, Str::EMPTY);
    assert_eq!(scene.fate(token), expected);
    assert_eq!(scene.heartbeat(&b, 1), Ok(()));
    assert_eq!(scene.group.describe().members.len(), 2);
}

#[test]
fn who_comes_back_undone_still_owes_a_sync() {
    let mut scene = Scene::new();
    let tokens = ["a", "b"].map(|name| scene.join("", instance(name)));
    while scene.timers.contains_key(&join_timer()) {
        scene.fire(join_timer());
    }
    let joined = tokens.map(|token| scene.joined(token));
    let leader = joined[0].leader.clone();
    let late = joined.iter().position(|one| one.member_id != leader);
    let late = ["a", "b"][late.unwrap()];
    scene.sync(&leader, 1, &[(&leader, b"lead")], |_| {});
    assert_eq!(scene.group.state(), State::Stable);
    scene.store = Err(GroupError::NotAvailable);
    let token = scene.join("", instance(late));
    let expected = Fate::Refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, Str::EMPTY);
    assert_eq!(scene.fate(token), expected);
    // It never asked for its assignment, whichever id it has.
    scene.fire(sync_timer());
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    assert_eq!(scene.group.describe().members.len(), 1);
}

#[test]
fn a_session_that_ran_out_in_a_refused_sync_begins_anew() {
    let (mut scene, a, b) = pair();
    scene.join(&a, instance("a"));
    let joining = scene.join(&b, instance("b"));
    let generation = scene.joined(joining).generation;
    let waiting = scene.sync(&b, generation, &[], |_| {});
    scene.fire(session_timer(&b));
    assert_eq!(scene.fate(waiting), Fate::Parked);
    scene.leave(&a, Some("a")).unwrap();
    let expected = Fate::Failed(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(scene.fate(waiting), expected);
    // The member is gone for good: without a session it would stay in the group for ever.
    scene.fire(session_timer(&b));
    assert_eq!(scene.group.state(), State::Empty);
}
