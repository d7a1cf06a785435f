use std::time::Duration;

use bytes::Bytes;
use palisade_protocol::{ErrorCode, Str};

use super::scene::{Fate, Scene, join_timer, session_timer, sync_timer};
use crate::group::classic::State;

#[test]
fn heartbeats_by_state() {
    let mut scene = Scene::new();
    let code = |result: Result<(), crate::group::error::GroupError>| {
        result.map_or_else(|error| error.code(), |()| ErrorCode::NONE)
    };
    let first = scene.join("", |_| {});
    scene.fire(join_timer());
    let id = scene.joined(first).member_id;
    // Completing.
    assert_eq!(code(scene.heartbeat(&id, 1)), ErrorCode::NONE);
    for generation in [0, 2, -1] {
        let answer = scene.heartbeat(&id, generation);
        assert_eq!(code(answer), ErrorCode::ILLEGAL_GENERATION);
    }
    scene.sync(&id, 1, &[], |_| {});
    scene.timers.remove(&session_timer(&id));
    assert_eq!(code(scene.heartbeat(&id, 1)), ErrorCode::NONE);
    assert_eq!(scene.timers[&session_timer(&id)], Duration::from_secs(45));
    // Preparing: the session goes on, the member must rejoin.
    scene.join("", |_| {});
    scene.timers.remove(&session_timer(&id));
    let answer = scene.heartbeat(&id, 1);
    assert_eq!(code(answer), ErrorCode::REBALANCE_IN_PROGRESS);
    assert!(scene.timers.contains_key(&session_timer(&id)));
    // Refused for the member: nobody's session.
    assert_eq!(
        code(scene.heartbeat("stranger", 1)),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    assert!(
        !scene
            .timers
            .contains_key(&session_timer(&"stranger".into()))
    );
}

#[test]
fn the_last_one_leaves_an_empty_group() {
    let (mut scene, ids) = Scene::stable(1);
    assert_eq!(scene.leave(&ids[0], None), Ok(()));
    assert_eq!(scene.group.state(), State::Empty);
    let stored = scene.last_stored();
    assert_eq!((stored.generation, stored.members.len()), (2, 0));
    assert_eq!((&stored.protocol, &stored.leader), (&None, &None));
    assert_eq!(&*stored.protocol_type, "consumer");
    assert_eq!(scene.timers.len(), 0);
    // Generations go on from there.
    let token = scene.join("", |_| {});
    scene.fire(join_timer());
    assert_eq!(scene.joined(token).generation, 3);
}

#[test]
fn a_departure_rebalances() {
    let (mut scene, ids) = Scene::stable(3);
    assert_eq!(scene.leave(&ids[0], None), Ok(()));
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    let a = scene.join(&ids[1], |_| {});
    // The other one's departure ends the join phase.
    assert_eq!(scene.leave(&ids[2], None), Ok(()));
    assert_eq!(scene.joined(a).members.len(), 1);
    let error = scene.leave("stranger", None).unwrap_err();
    assert_eq!(error.code(), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn what_was_parked_of_a_leaver() {
    let (mut scene, ids) = Scene::stable(2);
    let parked = scene.join(&ids[0], |_| {});
    assert_eq!(scene.leave(&ids[0], None), Ok(()));
    let expected = Fate::Refused(ErrorCode::UNKNOWN_MEMBER_ID, ids[0].clone());
    assert_eq!(scene.fate(parked), expected);
    let token = scene.join(&ids[1], |_| {});
    assert_eq!(scene.joined(token).members.len(), 1);
    assert_eq!(scene.group.state(), State::CompletingRebalance);
}

#[test]
fn a_leavers_sync_is_never_answered() {
    let mut scene = Scene::new();
    let tokens = [scene.join("", |_| {}), scene.join("", |_| {})];
    while scene.timers.contains_key(&join_timer()) {
        scene.fire(join_timer());
    }
    let joined = tokens.map(|token| scene.joined(token));
    let follower = joined.iter().find(|one| one.members.is_empty()).unwrap();
    let parked = scene.sync(&follower.member_id, 1, &[], |_| {});
    assert_eq!(scene.leave(&follower.member_id, None), Ok(()));
    assert_eq!(scene.fate(parked), Fate::Forgotten);
}

#[test]
fn silence_ends_a_membership() {
    let (mut scene, ids) = Scene::stable(2);
    scene.fire(session_timer(&ids[1]));
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    // Who waits for the others is not silent.
    let waiting = scene.join(&ids[0], |_| {});
    assert_eq!(scene.joined(waiting).generation, 2);
    let parked = scene.join("", |_| {});
    let waiting = scene.join(&ids[0], |_| {});
    assert_eq!(scene.joined(waiting).generation, 3);
    assert_eq!(scene.joined(parked).generation, 3);
}

#[test]
fn who_waits_is_not_silent() {
    let (mut scene, ids) = Scene::stable(2);
    let waiting = scene.join(&ids[0], |_| {});
    scene.fire(session_timer(&ids[0]));
    assert_eq!(scene.fate(waiting), Fate::Parked);
    scene.fire(session_timer(&ids[1]));
    assert_eq!(scene.joined(waiting).members.len(), 1);
}

#[test]
fn members_that_never_sync_are_dropped() {
    let mut scene = Scene::new();
    let tokens = [scene.join("", |_| {}), scene.join("", |_| {})];
    while scene.timers.contains_key(&join_timer()) {
        scene.fire(join_timer());
    }
    let joined = tokens.map(|token| scene.joined(token));
    let leader = joined.iter().find(|one| !one.members.is_empty()).unwrap();
    scene.sync(&leader.member_id, 1, &[], |_| {});
    assert_eq!(scene.group.state(), State::Stable);
    scene.fire(sync_timer());
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    assert_eq!(scene.group.describe().members.len(), 1);
}

#[test]
fn syncs_by_state_and_in_order_of_checks() {
    let (mut scene, ids) = Scene::stable(1);
    let id = ids[0].clone();
    let unknown = scene.sync("stranger", 9, &[], |_| {});
    assert_eq!(
        scene.fate(unknown),
        Fate::Failed(ErrorCode::UNKNOWN_MEMBER_ID)
    );
    for generation in [0, 2, -1] {
        let token = scene.sync(&id, generation, &[], |ask| ask.protocol = Some("x".into()));
        assert_eq!(
            scene.fate(token),
            Fate::Failed(ErrorCode::ILLEGAL_GENERATION)
        );
    }
    let token = scene.sync(&id, 1, &[], |ask| ask.protocol = Some("x".into()));
    let inconsistent = Fate::Failed(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(scene.fate(token), inconsistent);
    let token = scene.sync(&id, 1, &[], |ask| ask.protocol_type = Some("x".into()));
    assert_eq!(scene.fate(token), inconsistent);
    // Stable: what is stored, whatever the leader says now.
    let token = scene.sync(&id, 1, &[(&id, b"new")], |ask| {
        ask.protocol_type = Some("consumer".into());
        ask.protocol = Some("range".into());
    });
    assert_eq!(scene.fate(token), Fate::Synced(Bytes::from_static(b"lead")));
    scene.join("", |_| {});
    let token = scene.sync(&id, 1, &[], |_| {});
    assert_eq!(
        scene.fate(token),
        Fate::Failed(ErrorCode::REBALANCE_IN_PROGRESS)
    );
    let token = scene.sync(&id, 1, &[], |ask| ask.protocol = Some("x".into()));
    assert_eq!(scene.fate(token), inconsistent);
}

#[test]
fn assignments_reach_those_they_are_for() {
    let mut scene = Scene::new();
    let ids = scene.make_stable(2, |_, _| {});
    let stored = scene.last_stored();
    let of = |id: &Str| {
        let member = stored.members.iter().find(|one| one.member_id == *id);
        member.unwrap().assignment.clone()
    };
    assert_eq!(
        (&of(&ids[0])[..], &of(&ids[1])[..]),
        (&b"lead"[..], &b""[..])
    );
    assert_eq!(stored.leader.as_ref(), Some(&ids[0]));
    // A stranger in the leader's map is nobody.
    let (mut scene, ids) = Scene::stable(1);
    scene.join(&ids[0], |_| {});
    let token = scene.sync(&ids[0], 2, &[("stranger", b"x")], |_| {});
    assert_eq!(scene.fate(token), Fate::Synced(Bytes::new()));
    assert_eq!(scene.last_stored().members.len(), 1);
}
