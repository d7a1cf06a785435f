use std::time::Duration;

use bytes::Bytes;
use palisade_protocol::{ErrorCode, Str};

use super::scene::{Fate, Scene, join_timer, pending_timer, session_timer, sync_timer};
use crate::group::classic::{JoinAsk, State};

fn known(ask: &mut JoinAsk) {
    ask.needs_known_id = true;
}

fn changed(ask: &mut JoinAsk) {
    ask.protocols[0].1 = Bytes::from_static(b"other");
}

#[test]
fn the_first_members_are_collected() {
    let mut scene = Scene::new();
    let first = scene.join("", |_| {});
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    assert_eq!(scene.timers[&join_timer()], Duration::from_secs(3));
    let second = scene.join("", |ask| ask.session_timeout = Duration::from_secs(10));
    assert_eq!(scene.fate(second), Fate::Parked);
    // Somebody came meanwhile: the same step again, and nobody comes in that one.
    scene.fire(join_timer());
    assert_eq!(scene.fate(first), Fate::Parked);
    assert_eq!(scene.timers[&join_timer()], Duration::from_secs(3));
    scene.fire(join_timer());
    let (a, b) = (scene.joined(first), scene.joined(second));
    assert_eq!((a.generation, b.generation), (1, 1));
    assert_eq!(a.leader, a.member_id);
    assert_eq!((a.members.len(), b.members.len()), (2, 0));
    assert_eq!(a.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(a.protocol.as_deref(), Some("range"));
    assert_eq!(&a.members[0].metadata[..], b"meta");
    assert_eq!(scene.group.state(), State::CompletingRebalance);
    assert_eq!(scene.timers[&sync_timer()], Duration::from_secs(60));
    let session = scene.timers[&session_timer(&b.member_id)];
    assert_eq!(session, Duration::from_secs(10));
}

#[test]
fn the_first_step_has_an_end() {
    let mut scene = Scene::new();
    let first = scene.join("", |ask| ask.rebalance_timeout = Duration::from_secs(7));
    let mut steps = Vec::new();
    while scene.fate(first) == Fate::Parked {
        steps.push(scene.timers[&join_timer()].as_secs());
        scene.join("", |ask| ask.rebalance_timeout = Duration::from_secs(7));
        scene.fire(join_timer());
    }
    assert_eq!(steps, [3, 3, 1]);
}

#[test]
fn an_id_is_handed_out_first() {
    let mut scene = Scene::new();
    let asked = scene.join("", known);
    let Fate::Refused(ErrorCode::MEMBER_ID_REQUIRED, id) = scene.fate(asked) else {
        panic!("{:?}", scene.fate(asked));
    };
    assert_eq!(id, "c-00000000-0000-0000-0000-000000000001");
    assert_eq!(scene.group.state(), State::Empty);
    assert_eq!(scene.timers[&pending_timer(&id)], Duration::from_secs(45));
    // Until it is used, it is nobody's for everything else.
    let refused = scene.heartbeat(&id, 0).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::UNKNOWN_MEMBER_ID);
    let with_instance = scene.join(&id, |ask| ask.instance_id = Some("i".into()));
    let expected = Fate::Refused(ErrorCode::UNKNOWN_SERVER_ERROR, id.clone());
    assert_eq!(scene.fate(with_instance), expected);
    let joined = scene.join(&id, known);
    assert!(!scene.timers.contains_key(&pending_timer(&id)));
    scene.fire(join_timer());
    assert_eq!(scene.joined(joined).member_id, id);
}

#[test]
fn ids_that_are_not_used_do_not_hold_up_for_ever() {
    let (mut scene, ids) = Scene::stable(1);
    let asked = scene.join("", known);
    let Fate::Refused(_, pending) = scene.fate(asked) else {
        panic!("an id was asked for");
    };
    assert_eq!(scene.group.state(), State::Stable);
    let rejoined = scene.join(&ids[0], changed);
    assert_eq!(scene.fate(rejoined), Fate::Parked);
    scene.fire(pending_timer(&pending));
    assert_eq!(scene.joined(rejoined).generation, 2);
    let late = scene.join(&pending, known);
    let expected = Fate::Refused(ErrorCode::UNKNOWN_MEMBER_ID, pending);
    assert_eq!(scene.fate(late), expected);
}

#[test]
fn protocols_must_fit() {
    let mut scene = Scene::new();
    for with in [
        |ask: &mut JoinAsk| ask.protocol_type = Str::EMPTY,
        |ask: &mut JoinAsk| ask.protocols.clear(),
    ] {
        let token = scene.join("", with);
        let expected = Fate::Refused(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, Str::EMPTY);
        assert_eq!(scene.fate(token), expected);
    }
    let (mut scene, ids) = Scene::stable(2);
    for with in [
        |ask: &mut JoinAsk| ask.protocol_type = "connect".into(),
        |ask: &mut JoinAsk| ask.protocols[0].0 = "sticky".into(),
    ] {
        // The member's own old list counts too.
        for id in ["", &ids[0], "stranger"] {
            let token = scene.join(id, with);
            let expected = Fate::Refused(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, Str::copy(id));
            assert_eq!(scene.fate(token), expected);
        }
    }
    assert_eq!(scene.group.state(), State::Stable);
}

#[test]
fn the_protocol_most_prefer_is_chosen() {
    let mut scene = Scene::new();
    let lists: [&[&'static str]; 3] = [&["a", "b", "c"], &["b", "a"], &["x", "b", "a"]];
    let tokens: Vec<_> = lists
        .iter()
        .map(|list| {
            scene.join("", |ask| {
                let names = list.iter();
                ask.protocols = names.map(|name| ((*name).into(), Bytes::new())).collect();
            })
        })
        .collect();
    while scene.timers.contains_key(&join_timer()) {
        scene.fire(join_timer());
    }
    // x and c are not supported by all: two votes for b, one for a.
    assert_eq!(scene.joined(tokens[0]).protocol.as_deref(), Some("b"));
}

#[test]
fn rejoining_by_state() {
    let (mut scene, ids) = Scene::stable(2);
    let (leader, follower) = (&ids[0], &ids[1]);
    // Stable: a follower that changes nothing gets what it had.
    let token = scene.join(follower, |_| {});
    let joined = scene.joined(token);
    assert_eq!((joined.generation, &joined.leader), (1, leader));
    assert_eq!(joined.members, []);
    assert_eq!(scene.group.state(), State::Stable);
    // The leader asks for a rebalance by joining.
    let token = scene.join(leader, |_| {});
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    assert_eq!(scene.timers[&join_timer()], Duration::from_secs(60));
    assert_eq!(scene.fate(token), Fate::Parked);
    // A second request takes the place of the first, which is never answered.
    let again = scene.join(leader, |_| {});
    assert_eq!(scene.fate(token), Fate::Forgotten);
    let other = scene.join(follower, |_| {});
    assert_eq!(scene.joined(again).members.len(), 2);
    assert_eq!(scene.joined(other).generation, 2);
    // Completing: the same again, changed metadata starts anew.
    let lost = scene.join(leader, |_| {});
    assert_eq!(scene.joined(lost).members.len(), 2);
    let parked = scene.sync(follower, 2, &[], |_| {});
    let token = scene.join(leader, changed);
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    assert_eq!(
        scene.fate(parked),
        Fate::Failed(ErrorCode::REBALANCE_IN_PROGRESS)
    );
    assert_eq!(scene.fate(token), Fate::Parked);
    assert!(!scene.timers.contains_key(&sync_timer()));
}

#[test]
fn who_does_not_rejoin_is_dropped() {
    let (mut scene, ids) = Scene::stable(3);
    let token = scene.join(&ids[1], changed);
    assert_eq!(
        scene.heartbeat(&ids[0], 1).unwrap_err().code(),
        ErrorCode::REBALANCE_IN_PROGRESS
    );
    scene.fire(join_timer());
    let joined = scene.joined(token);
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    assert_eq!(joined.leader, ids[1]);
    assert_eq!(
        scene.heartbeat(&ids[0], 1).unwrap_err().code(),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    assert!(!scene.timers.contains_key(&session_timer(&ids[0])));
}

#[test]
fn unknown_ids_are_refused() {
    let mut scene = Scene::new();
    let token = scene.join("stranger", |_| {});
    let expected = Fate::Refused(ErrorCode::UNKNOWN_MEMBER_ID, "stranger".into());
    assert_eq!(scene.fate(token), expected);
    let (mut scene, ids) = Scene::stable(1);
    let token = scene.join(&ids[0], |ask| ask.instance_id = Some("i".into()));
    let expected = Fate::Refused(ErrorCode::UNKNOWN_MEMBER_ID, ids[0].clone());
    assert_eq!(scene.fate(token), expected);
}

#[test]
fn a_full_group_refuses() {
    let full = Fate::Refused(ErrorCode::GROUP_MAX_SIZE_REACHED, Str::EMPTY);
    let mut scene = Scene::new();
    scene.config.max_size = 2;
    let ids = scene.make_stable(2, |_, _| {});
    let token = scene.join("", |_| {});
    assert_eq!(scene.fate(token), full);
    let token = scene.join(&ids[1], |_| {});
    assert_eq!(scene.joined(token).generation, 1);
    // While members join, those that wait count; a member that comes too late is removed.
    scene.config.max_size = 1;
    let first = scene.join(&ids[1], changed);
    let late = scene.join(&ids[0], |_| {});
    assert_eq!(scene.fate(late), full);
    assert_eq!(scene.joined(first).members.len(), 1);
    assert_eq!(scene.group.describe().members.len(), 1);
}

#[test]
fn a_new_member_waits_for_a_bounded_time() {
    let (mut scene, _) = Scene::stable(1);
    let token = scene.join("", |_| {});
    let id = "c-00000000-0000-0000-0000-000000000003".into();
    assert_eq!(scene.timers[&session_timer(&id)], Duration::from_secs(300));
    scene.fire(session_timer(&id));
    let expected = Fate::Refused(ErrorCode::UNKNOWN_MEMBER_ID, id);
    assert_eq!(scene.fate(token), expected);
}

#[test]
fn made_ids_are_short() {
    let mut scene = Scene::new();
    let token = scene.join("", |ask| {
        ask.needs_known_id = true;
        ask.client_id = "ä".repeat(16_383).into();
    });
    let Fate::Refused(_, id) = scene.fate(token) else {
        panic!("an id was asked for");
    };
    assert_eq!(id.len(), 254 + 37);
}
