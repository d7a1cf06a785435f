use std::time::Duration;

use bytes::Bytes;
use palisade_protocol::types::TimestampMs;
use palisade_protocol::{ErrorCode, Str};

use super::scene::{Fate, NOW, Scene, join_timer, session_timer};
use crate::group::classic::{ClassicGroup, ExpiryBase, InUse, State, topics_of_subscription};
use crate::group::config::GroupConfig;
use crate::group::error::GroupError;

#[test]
fn an_assignment_that_is_not_stored_starts_anew() {
    let (mut scene, ids) = Scene::stable(1);
    scene.join(&ids[0], |_| {});
    let late = scene.join("", |_| {});
    assert_eq!(scene.fate(late), Fate::Parked);
    let leader = scene.join(&ids[0], |_| {});
    let generation = scene.joined(leader).generation;
    let follower = scene.joined(late).member_id;
    let parked = scene.sync(&follower, generation, &[], |_| {});
    scene.store = Err(GroupError::NotAvailable);
    let token = scene.sync(&ids[0], generation, &[(&ids[0], b"new")], |_| {});
    let failed = Fate::Failed(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(scene.fate(token), failed);
    assert_eq!(scene.fate(parked), failed);
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    let members = scene.group.describe().members;
    assert!(members.iter().all(|member| member.assignment.is_empty()));
    assert!(scene.timers.contains_key(&join_timer()));
}

#[test]
fn what_is_stored_comes_back() {
    let (scene, ids) = Scene::stable(2);
    let mut restored = ClassicGroup::from_record("g".into(), scene.last_stored());
    let mut again = Scene::new();
    let effects = restored.loaded(NOW, &GroupConfig::defaults());
    again.group = restored;
    again.take(effects);
    assert_eq!(again.group.describe(), scene.group.describe());
    assert_eq!(
        again.timers[&session_timer(&ids[1])],
        Duration::from_secs(45)
    );
    assert_eq!(again.heartbeat(&ids[1], 1), Ok(()));
    let token = again.sync(&ids[0], 1, &[], |_| {});
    assert_eq!(again.fate(token), Fate::Synced(Bytes::from_static(b"lead")));
    // A follower that joins with what was stored of it changes nothing.
    let token = again.join(&ids[1], |_| {});
    assert_eq!(again.joined(token).generation, 1);
}

#[test]
fn a_group_that_is_too_large_rebalances_when_loaded() {
    let (scene, _) = Scene::stable(2);
    let mut restored = ClassicGroup::from_record("g".into(), scene.last_stored());
    let config = GroupConfig {
        max_size: 1,
        ..GroupConfig::defaults()
    };
    restored.loaded(NOW, &config);
    assert_eq!(restored.state(), State::PreparingRebalance);
}

#[test]
fn commits_by_state() {
    let commit = |scene: &Scene, member: &str, instance: Option<&str>, generation: i32| {
        let answer = scene.group.commit(&Str::copy(member), instance, generation);
        answer.map_or_else(|error| error.code(), |_| ErrorCode::NONE)
    };
    let scene = Scene::new();
    assert_eq!(commit(&scene, "", None, -1), ErrorCode::NONE);
    assert_eq!(commit(&scene, "anybody", Some("i"), -1), ErrorCode::NONE);
    assert_eq!(commit(&scene, "", None, 0), ErrorCode::UNKNOWN_MEMBER_ID);
    let (mut scene, ids) = Scene::stable(1);
    assert_eq!(commit(&scene, &ids[0], None, 1), ErrorCode::NONE);
    assert_eq!(commit(&scene, "", None, -1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(
        commit(&scene, &ids[0], None, -1),
        ErrorCode::ILLEGAL_GENERATION
    );
    assert_eq!(
        commit(&scene, &ids[0], None, 2),
        ErrorCode::ILLEGAL_GENERATION
    );
    assert_eq!(
        commit(&scene, &ids[0], Some("i"), 1),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    assert_eq!(
        commit(&scene, "stranger", None, 1),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    scene.join("", |_| {});
    assert_eq!(commit(&scene, &ids[0], None, 1), ErrorCode::NONE);
    scene.join(&ids[0], |_| {});
    assert_eq!(scene.group.state(), State::CompletingRebalance);
    let answer = commit(&scene, &ids[0], None, 2);
    assert_eq!(answer, ErrorCode::REBALANCE_IN_PROGRESS);
}

/// A subscription of version 1 to these topics, with what the version adds.
fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend([255, 255, 255, 255, 0, 0, 0, 0]);
    bytes.into()
}

#[test]
fn subscriptions_are_read_as_far_as_needed() {
    let read = topics_of_subscription(&subscription(&["a", "bc"]));
    assert_eq!(read, Some(vec!["a".to_owned(), "bc".to_owned()]));
    assert_eq!(topics_of_subscription(&Bytes::new()), None);
    let claims_much = Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, b'a']);
    assert_eq!(topics_of_subscription(&claims_much), None);
}

#[test]
fn topics_in_use_are_spared() {
    let mut scene = Scene::new();
    assert_eq!(scene.group.expiry().0, ExpiryBase::Commit);
    let ids = scene.make_stable(1, |_, ask| {
        ask.protocols[0].1 = subscription(&["a"]);
    });
    let in_use = scene.group.topics_in_use().unwrap();
    assert!(in_use.contains("a") && !in_use.contains("b"));
    assert_eq!(scene.group.expiry().0, ExpiryBase::Commit);
    scene.join("", |ask| ask.protocols[0].1 = Bytes::from_static(b"?"));
    assert_eq!(scene.group.expiry().0, ExpiryBase::Never);
    scene.join(&ids[0], |_| {});
    // One subscription does not parse: everything may be in use.
    assert_eq!(scene.group.topics_in_use(), Ok(InUse::All));

    let mut scene = Scene::new();
    let ids = scene.make_stable(1, |_, ask| ask.protocol_type = "connect".into());
    assert_eq!(scene.group.topics_in_use(), Err(GroupError::NonEmptyGroup));
    assert_eq!(scene.group.expiry(), (ExpiryBase::Never, InUse::All));
    assert_eq!(scene.leave(&ids[0], None), Ok(()));
    assert!(scene.group.topics_in_use().is_ok());
    let base = TimestampMs::new(NOW.value());
    assert_eq!(scene.group.expiry().0, ExpiryBase::Instant(base));
}
