//! Classic members in a consumer group (coordination.md §4, Interop).

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use palisade_auth::principal::Principal;
use palisade_protocol::Uuid;

use super::super::*;
use super::rig::{Rig, beat, join, owns, set, topic};
use crate::group::classic::JoinAsk;
use crate::group::config::MigrationPolicy;
use crate::group::embedded::{Assignment, PARSED, Subscription, TopicPartitions};
use crate::group::error::GroupError;

pub(super) fn subscription(topics: &[&str], owned: &PartitionSet, image: &ClusterImage) -> Bytes {
    let named = owned.topics().map(|(id, partitions)| TopicPartitions {
        topic: Str::copy(&image.topics.by_id(id).unwrap().name),
        partitions: partitions.to_vec(),
    });
    let subscription = Subscription {
        topics: topics.iter().map(|name| Str::copy(name)).collect(),
        owned_partitions: named.collect(),
        ..Subscription::default()
    };
    subscription.to_bytes(1).unwrap()
}

/// A classic member's JoinGroup.
pub(super) fn classic(rig: &Rig, member: &str, topics: &[&str], owned: &PartitionSet) -> JoinAsk {
    let metadata = subscription(topics, owned, &rig.image);
    JoinAsk {
        principal: Principal::user("alice"),
        member_id: Str::copy(member),
        instance_id: None,
        client_id: Str::from("c"),
        client_host: Str::from("/127.0.0.1"),
        session_timeout: Duration::from_secs(20),
        rebalance_timeout: Duration::from_secs(60),
        protocol_type: Str::from("consumer"),
        protocols: ["cooperative-sticky", "range"]
            .map(|name| (Str::from_static(name), metadata.clone()))
            .to_vec(),
        needs_known_id: true,
        may_skip_assignment: true,
        chance: Uuid::from_bytes([1; 16]),
    }
}

/// The id that a first chance makes.
const FRESH: &str = "AQEBAQEBAQEBAQEBAQEBAQ";

pub(super) fn send(rig: &mut Rig, ask: &JoinAsk) -> Result<ClassicJoined, GroupError> {
    rig.decide(|group, at| group.classic_join(ask, at))
}

pub(super) fn generation(joined: &ClassicJoined) -> i32 {
    match joined {
        ClassicJoined::Member { generation, .. } => *generation,
        ClassicJoined::IdRequired(_) => panic!("an id is asked for"),
    }
}

fn identity(member_id: &str) -> ClassicIdentity<'_> {
    ClassicIdentity {
        member_id,
        instance_id: None,
    }
}

pub(super) fn sync(rig: &mut Rig, member: &str, epoch: i32) -> Result<PartitionSet, GroupError> {
    let protocol = (Some("consumer"), Some("cooperative-sticky"));
    let bytes =
        rig.decide(|group, at| group.classic_sync(identity(member), epoch, protocol, at))?;
    let assignment = Assignment::parse(&bytes).unwrap();
    Ok(ConsumerGroup::partitions_of(
        &assignment.assigned_partitions,
        &rig.image,
    ))
}

pub(super) fn heartbeat(rig: &mut Rig, member: &str, epoch: i32) -> Result<(), GroupError> {
    rig.decide(|group, at| group.classic_heartbeat(identity(member), epoch, at))
}

/// `n` is native and owns everything, `c` is classic and came later.
fn mixed() -> Rig {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("n", &["t"]));
    let request = classic(&rig, "c", &["t"], &set(&[]));
    let joined = send(&mut rig, &request).unwrap();
    let expected = ClassicJoined::Member {
        member_id: Str::from("c"),
        generation: 3,
        protocol: Str::from("cooperative-sticky"),
    };
    assert_eq!(joined, expected);
    rig
}

#[test]
fn ids_are_given_first() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("n", &["t"]));
    let mut request = classic(&rig, "", &["t"], &set(&[]));
    let joined = send(&mut rig, &request).unwrap();
    assert_eq!(joined, ClassicJoined::IdRequired(Str::from(FRESH)));
    assert_eq!(rig.group.members().count(), 1);
    request.needs_known_id = false;
    assert_eq!(generation(&send(&mut rig, &request).unwrap()), 3);
}

#[test]
fn a_classic_member_gets_what_natives_give_up() {
    let mut rig = mixed();
    assert_eq!(sync(&mut rig, "c", 3), Ok(set(&[])));
    assert_eq!(
        heartbeat(&mut rig, "c", 3),
        Ok(()),
        "nothing is free for it yet"
    );
    let kept = set(&[("t", &[0])]);
    assert_eq!(rig.ok(&beat("n", 2)), (2, Some(kept.clone())));
    let mut given = beat("n", 2);
    given.topic_partitions = owns(&kept);
    rig.ok(&given);
    assert_eq!(
        heartbeat(&mut rig, "c", 3),
        Err(GroupError::RebalanceInProgress)
    );
    let request = classic(&rig, "c", &["t"], &set(&[]));
    assert_eq!(generation(&send(&mut rig, &request).unwrap()), 3);
    assert_eq!(sync(&mut rig, "c", 3), Ok(set(&[("t", &[1])])));
    assert_eq!(heartbeat(&mut rig, "c", 3), Ok(()));
    assert_eq!(rig.group.state(), GroupState::Stable);
    rig.assert_reloads();
}

/// Which may be long, of a member that asks in a few bytes: its version is all that is needed.
#[test]
fn a_sync_does_not_have_the_subscription_read() {
    let mut rig = mixed();
    let parsed = PARSED.get();
    assert_eq!(sync(&mut rig, "c", 3), Ok(set(&[])));
    assert_eq!(PARSED.get() - parsed, 1, "the test reads the answer");
}

#[test]
fn a_classic_member_gives_up_by_rejoining() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("n", &["t"]));
    rig.ok(&join("m", &["t"]));
    rig.ok(&beat("n", 2));
    rig.ok(&beat("m", -1));
    rig.ok(&beat("n", -1));
    let request = classic(&rig, "c", &["t"], &set(&[]));
    let epoch = generation(&send(&mut rig, &request).unwrap());
    let all = set(&[("t", &[0, 1])]);
    assert_eq!(sync(&mut rig, "c", epoch), Ok(all.clone()));
    rig.ok(&join("n", &["t"]));
    assert_eq!(
        heartbeat(&mut rig, "c", epoch),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(
        sync(&mut rig, "c", epoch),
        Err(GroupError::RebalanceInProgress)
    );
    // While it owns what is to go it keeps its generation and is shown the smaller assignment.
    let request = classic(&rig, "c", &["t"], &all);
    assert_eq!(generation(&send(&mut rig, &request).unwrap()), epoch);
    let kept = sync(&mut rig, "c", epoch).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        heartbeat(&mut rig, "c", epoch),
        Err(GroupError::RebalanceInProgress)
    );
    let request = classic(&rig, "c", &["t"], &kept);
    assert_eq!(generation(&send(&mut rig, &request).unwrap()), epoch + 1);
    assert_eq!(rig.ok(&beat("n", epoch + 1)).1.unwrap().len(), 1);
    rig.assert_reloads();
}

#[test]
fn classic_members_that_do_not_follow_are_removed() {
    let mut rig = mixed();
    // It does not fetch its assignment, though it is alive.
    for _ in 0..6 {
        rig.pass(10_000);
        let _ = heartbeat(&mut rig, "c", 3);
        rig.ok(&beat("n", 2));
    }
    assert!(rig.group.member("c").is_none());
    let mut rig = mixed();
    sync(&mut rig, "c", 3).unwrap();
    rig.create("t", 4);
    rig.ok(&beat("n", 2));
    // It is told to rejoin and does not.
    for _ in 0..6 {
        assert_eq!(
            heartbeat(&mut rig, "c", 3),
            Err(GroupError::RebalanceInProgress)
        );
        rig.pass(10_000);
        rig.ok(&beat("n", 2));
    }
    assert!(rig.group.member("c").is_none());
}

#[test]
fn wrong_words_are_refused() {
    let mut rig = mixed();
    let good = classic(&rig, "d", &["t"], &set(&[]));
    let inconsistent: [fn(&mut JoinAsk); 3] = [
        |request| request.protocol_type = Str::from("connect"),
        |request| request.protocols.clear(),
        |request| {
            request.protocols.truncate(1);
            request.protocols[0].0 = Str::from("mine");
        },
    ];
    for change in inconsistent {
        let mut request = good.clone();
        change(&mut request);
        assert_eq!(
            send(&mut rig, &request),
            Err(GroupError::InconsistentProtocol)
        );
    }
    let mut request = good.clone();
    request.protocols[0].1 = Bytes::from_static(b"x");
    assert!(matches!(
        send(&mut rig, &request),
        Err(GroupError::Unknown(_))
    ));
    let mut request = good.clone();
    request.instance_id = Some(Str::from("i"));
    assert_eq!(send(&mut rig, &request), Err(GroupError::UnknownMember));
    rig.config.migration = MigrationPolicy::Disabled;
    assert_eq!(send(&mut rig, &good), Err(GroupError::InconsistentProtocol));
    rig.config.migration = MigrationPolicy::Bidirectional;
    rig.config.max_size = 2;
    assert_eq!(
        send(&mut rig, &good),
        Err(GroupError::GroupMaxSizeReached(2))
    );
    assert_eq!(sync(&mut rig, "n", 2), Err(GroupError::UnknownMember));
    assert_eq!(heartbeat(&mut rig, "n", 2), Err(GroupError::UnknownMember));
    assert_eq!(heartbeat(&mut rig, "x", 3), Err(GroupError::UnknownMember));
    assert_eq!(
        heartbeat(&mut rig, "c", 2),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(sync(&mut rig, "c", 4), Err(GroupError::IllegalGeneration));
    let protocol = (Some("connect"), Some("range"));
    let other = rig.decide(|group, at| group.classic_sync(identity("c"), 3, protocol, at));
    assert_eq!(other, Err(GroupError::InconsistentProtocol));
}

#[test]
fn classic_members_commit_by_generation() {
    let rig = mixed();
    let old = Committer {
        member_id: "c",
        epoch: 3,
        knows_epochs: false,
        transactional: false,
    };
    let partitions = || [(topic("t"), 0)].into_iter();
    assert_eq!(rig.group.check_commit(&old, partitions()), Ok(()));
    let stale = Committer { epoch: 2, ..old };
    let refused = rig.group.check_commit(&stale, partitions());
    assert_eq!(refused, Err(GroupError::IllegalGeneration));
}

#[test]
fn leaving_takes_members_of_both_kinds() {
    let mut rig = mixed();
    let mut request = classic(&rig, "", &["t"], &set(&[]));
    request.instance_id = Some(Str::from("i"));
    send(&mut rig, &request).unwrap();
    let by_instance = |member_id| ClassicIdentity {
        member_id,
        instance_id: Some("i"),
    };
    let leaving = [
        by_instance("other"),
        by_instance(""),
        identity("x"),
        identity("n"),
        identity("n"),
    ];
    let epoch = rig.group.epoch();
    let left = rig
        .decide(|group, at| group.classic_leave(&leaving, at))
        .unwrap();
    let expected = [
        Err(GroupError::FencedInstanceId),
        Ok(()),
        Err(GroupError::UnknownMember),
        Ok(()),
        Err(GroupError::UnknownMember),
    ];
    assert_eq!(left.outcomes, expected);
    // Only the classic member is left, so the group is a classic one again.
    let view = left.removed.downgraded.unwrap();
    assert_eq!(view.generation, epoch);
    assert_eq!(view.members.len(), 1);
}

#[test]
fn a_static_classic_member_is_replaced() {
    let mut rig = mixed();
    let mut request = classic(&rig, "", &["t"], &set(&[]));
    request.instance_id = Some(Str::from("i"));
    send(&mut rig, &request).unwrap();
    let epoch = rig.group.epoch();
    request.chance = Uuid::from_bytes([2; 16]);
    assert!(matches!(
        send(&mut rig, &request),
        Ok(ClassicJoined::Member { .. })
    ));
    assert_eq!(rig.group.epoch(), epoch);
    assert!(rig.group.member(FRESH).is_none());
    request.member_id = Str::from(FRESH);
    assert_eq!(send(&mut rig, &request), Err(GroupError::FencedInstanceId));
    rig.assert_reloads();
}

/// It was away while the others were assigned anew.
#[test]
fn a_static_classic_member_that_comes_again_goes_to_the_new_target() {
    let mut rig = Rig::new(&[("t", 6)]);
    for native in ["n", "o"] {
        rig.ok(&join(native, &["t"]));
    }
    let mut request = classic(&rig, "", &["t"], &set(&[]));
    request.instance_id = Some(Str::from("i"));
    send(&mut rig, &request).unwrap();
    let mut owned: HashMap<&str, PartitionSet> = HashMap::new();
    let mut settle = |rig: &mut Rig, natives: &[&'static str]| {
        for native in natives.iter().cycle().take(6) {
            let epoch = rig.group.member(native).unwrap().epoch;
            let mut request = beat(native, epoch);
            request.topic_partitions = owns(owned.entry(*native).or_default());
            if let (_, Some(assigned)) = rig.ok(&request) {
                owned.insert(native, assigned);
            }
        }
    };
    settle(&mut rig, &["n", "o"]);
    request.member_id = Str::from(FRESH);
    let epoch = generation(&send(&mut rig, &request).unwrap());
    let before = sync(&mut rig, FRESH, epoch).unwrap();
    assert_eq!(before.len(), 2);

    rig.ok(&beat("o", -1));
    settle(&mut rig, &["n"]);
    request.member_id = Str::EMPTY;
    request.chance = Uuid::from_bytes([2; 16]);
    let joined = send(&mut rig, &request).unwrap();
    let ClassicJoined::Member { member_id, .. } = &joined else {
        panic!("{joined:?}");
    };
    let after = sync(&mut rig, member_id, generation(&joined)).unwrap();
    assert_eq!(after.len(), 3);
    settle(&mut rig, &["n"]);
    assert_eq!(rig.group.state(), GroupState::Stable);
    rig.assert_reloads();
}

/// A classic consumer cannot say that it goes for a while.
#[test]
fn a_native_member_takes_the_place_of_a_static_classic_one() {
    let mut rig = mixed();
    let mut request = classic(&rig, "", &["t"], &set(&[]));
    request.instance_id = Some(Str::from("i"));
    let joined = generation(&send(&mut rig, &request).unwrap());
    let mut native = join("m", &["t"]);
    native.instance_id = Some(Str::from("i"));
    assert_eq!(rig.ok(&native).0, joined);
    assert_eq!(rig.group.epoch(), joined, "nothing to assign anew");
    assert!(rig.group.member(FRESH).is_none());
    assert_eq!(
        heartbeat(&mut rig, FRESH, joined),
        Err(GroupError::UnknownMember)
    );
    native.member_id = Str::from("other");
    assert_eq!(rig.err(&native), GroupError::UnreleasedInstanceId);
    rig.assert_reloads();
}

#[test]
fn classic_members_alone_hear_of_new_partitions() {
    let mut rig = mixed();
    rig.config.migration = MigrationPolicy::Upgrade;
    rig.ok(&beat("n", -1));
    let request = classic(&rig, "c", &["t"], &set(&[]));
    let epoch = generation(&send(&mut rig, &request).unwrap());
    sync(&mut rig, "c", epoch).unwrap();
    assert_eq!(heartbeat(&mut rig, "c", epoch), Ok(()));
    rig.create("other", 1);
    assert_eq!(heartbeat(&mut rig, "c", epoch), Ok(()));
    rig.create("t", 3);
    assert_eq!(
        heartbeat(&mut rig, "c", epoch),
        Err(GroupError::RebalanceInProgress)
    );
    let epoch = generation(&send(&mut rig, &request).unwrap());
    assert_eq!(sync(&mut rig, "c", epoch), Ok(set(&[("t", &[0, 1, 2])])));
    assert_eq!(heartbeat(&mut rig, "c", epoch), Ok(()));
}

#[test]
fn a_classic_member_becomes_native() {
    let mut rig = mixed();
    sync(&mut rig, "c", 3).unwrap();
    let mut request = beat("c", 3);
    request.topic_partitions = Some(Vec::new());
    assert_eq!(rig.ok(&request).0, 3);
    let member = rig.group.member("c").unwrap();
    assert!(member.classic.is_none());
    assert_eq!(rig.group.epoch(), 3);
    assert_eq!(heartbeat(&mut rig, "c", 3), Err(GroupError::UnknownMember));
    rig.assert_reloads();
}
