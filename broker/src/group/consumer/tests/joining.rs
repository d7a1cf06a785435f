//! Requests, members, epochs (coordination.md §4, first table and "Member lookup").

use std::cell::Cell;
use std::time::Duration;

use super::super::*;
use super::rig::{MAX_BATCH_BYTES, Request, Rig, beat, join, names, owns, set};
use crate::group::error::GroupError;

fn is_invalid(error: &GroupError) -> bool {
    matches!(error, GroupError::InvalidRequest(_))
}

fn is_fenced(error: &GroupError) -> bool {
    matches!(error, GroupError::FencedMemberEpoch(_))
}

#[test]
fn requests_that_say_too_little_are_refused() {
    let mut rig = Rig::new(&[("t", 2)]);
    let changes: [fn(&mut Request); 13] = [
        |request| request.group_id = Str::EMPTY,
        |request| request.member_id = Str::EMPTY,
        |request| request.instance_id = Some(Str::EMPTY),
        |request| request.rack_id = Some(Str::EMPTY),
        |request| request.rebalance_timeout_ms = -1,
        |request| request.topic_partitions = None,
        |request| request.topic_partitions = owns(&set(&[("t", &[0])])),
        |request| request.subscribed_topic_names = None,
        |request| request.member_epoch = -2,
        |request| request.member_epoch = -3,
        |request| {
            request.member_epoch = -3;
            request.instance_id = Some(Str::from("i"));
        },
        |request| {
            request.member_epoch = -1;
            request.member_id = Str::EMPTY;
        },
        |request| {
            request.member_epoch = 1;
            request.member_id = Str::EMPTY;
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut request = join("a", &["t"]);
        change(&mut request);
        assert!(is_invalid(&rig.err(&request)), "case {at}");
    }
}

#[test]
fn a_broker_made_id_may_be_missing() {
    let rig = Rig::new(&[]);
    let mut request = join("", &["t"]);
    assert_eq!(check_request(&request, true, &rig.config), Ok(()));
    request.member_epoch = 1;
    assert!(is_invalid(
        &check_request(&request, true, &rig.config).unwrap_err()
    ));
}

#[test]
fn only_the_assignors_served_are_taken() {
    let mut rig = Rig::new(&[("t", 2)]);
    for name in ["", "sticky", "Uniform"] {
        let mut request = join("a", &["t"]);
        request.server_assignor = Some(Str::copy(name));
        let error = rig.err(&request);
        assert!(
            matches!(error, GroupError::UnsupportedAssignor(_)),
            "{name}"
        );
    }
    let mut request = join("a", &["t"]);
    request.server_assignor = Some(Str::from("range"));
    assert_eq!(rig.ok(&request).0, 2);
}

#[test]
fn the_first_epoch_tells_whether_names_were_given() {
    let mut rig = Rig::new(&[("t", 2)]);
    let everything = set(&[("t", &[0, 1])]);
    assert_eq!(rig.ok(&join("a", &["t"])), (2, Some(everything)));
    let mut rig = Rig::new(&[("t", 2)]);
    assert_eq!(rig.ok(&join("a", &[])), (1, Some(set(&[]))));
    rig.assert_reloads();
}

#[test]
fn what_is_not_a_change_of_topics_raises_no_epoch() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("a", &["t"]));
    let mut request = beat("a", 2);
    request.rack_id = Some(Str::from("r"));
    request.server_assignor = Some(Str::from("range"));
    request.rebalance_timeout_ms = 7;
    request.subscribed_topic_names = names(&["t", "t"]);
    assert_eq!(rig.ok(&request), (2, None));
    assert_eq!(rig.group.epoch(), 2);
    let member = rig.group.member("a").unwrap();
    assert_eq!(member.rebalance_timeout_ms, 7);
    assert_eq!(member.assignor.as_deref(), Some("range"));
    assert_eq!(rig.ok(&join("b", &[])), (2, Some(set(&[]))));
    rig.assert_reloads();
}

#[test]
fn changes_of_topics_raise_the_epoch() {
    let mut rig = Rig::new(&[("t", 1), ("u", 1)]);
    rig.ok(&join("a", &["t"]));
    let mut request = beat("a", 2);
    request.subscribed_topic_names = names(&["t", "u"]);
    let both = set(&[("t", &[0]), ("u", &[0])]);
    assert_eq!(rig.ok(&request), (3, Some(both)));
    rig.create("t", 2);
    let more = set(&[("t", &[0, 1]), ("u", &[0])]);
    assert_eq!(rig.ok(&beat("a", 3)), (4, Some(more)));
    rig.create("other", 2);
    assert_eq!(rig.ok(&beat("a", 4)), (4, None));
    rig.delete("u");
    let less = set(&[("t", &[0, 1])]);
    let mut request = beat("a", 4);
    request.topic_partitions = owns(&less);
    assert_eq!(rig.ok(&request), (5, Some(less)));
    rig.assert_reloads();
}

#[test]
fn a_full_request_is_told_its_assignment() {
    let mut rig = Rig::new(&[("t", 1)]);
    rig.ok(&join("a", &["t"]));
    let all = set(&[("t", &[0])]);
    let mut request = join("a", &["t"]);
    request.member_epoch = 2;
    request.topic_partitions = owns(&all);
    assert_eq!(rig.ok(&request), (2, Some(all)));
    request.rebalance_timeout_ms = -1;
    assert_eq!(rig.ok(&request), (2, None));
}

#[test]
fn unknown_members_and_wrong_epochs() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("a", &["t"]));
    assert_eq!(rig.err(&beat("x", 2)), GroupError::UnknownMember);
    assert_eq!(rig.err(&beat("x", -1)), GroupError::UnknownMember);
    assert!(is_fenced(&rig.err(&beat("a", 3))));
    assert!(is_fenced(&rig.err(&beat("a", 1))));
}

#[test]
fn a_lost_answer_is_made_good() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("a", &["t"]));
    rig.create("t", 4);
    // The answer with epoch 3 and four partitions is lost.
    rig.ok(&beat("a", 2));
    assert!(
        is_fenced(&rig.err(&beat("a", 2))),
        "it must say what it owns"
    );
    let mut again = beat("a", 2);
    again.topic_partitions = owns(&set(&[("t", &[0, 1])]));
    assert_eq!(rig.ok(&again), (3, None));
    let mut full = join("a", &["t"]);
    full.member_epoch = 2;
    full.topic_partitions = owns(&set(&[("t", &[0, 1])]));
    assert_eq!(rig.ok(&full), (3, Some(set(&[("t", &[0, 1, 2, 3])]))));
    again.topic_partitions = owns(&set(&[("u", &[0])]));
    assert!(is_fenced(&rig.err(&again)), "it owns what it was not given");
}

#[test]
fn who_joins_again_keeps_its_place() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("a", &["t"]));
    assert_eq!(
        rig.ok(&join("a", &["t"])),
        (2, Some(set(&[("t", &[0, 1])])))
    );
    rig.ok(&join("b", &["t"]));
    rig.ok(&beat("a", 2));
    assert_eq!(rig.group.member("a").unwrap().state, MemberState::Unrevoked);
    // It starts anew, so it has given up what it had to.
    let mut again = join("a", &["t"]);
    again.instance_id = Some(Str::from("i"));
    let (epoch, assignment) = rig.ok(&again);
    assert_eq!((epoch, assignment.unwrap().len()), (3, 1));
    assert_eq!(rig.ok(&beat("b", 3)).1.unwrap().len(), 1);
    assert_eq!(
        rig.group.member("a").unwrap().instance_id.as_deref(),
        Some("i")
    );
    rig.assert_reloads();
}

#[test]
fn full_groups_take_no_new_members() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.config.max_size = 1;
    rig.ok(&join("a", &["t"]));
    assert_eq!(
        rig.err(&join("b", &["t"])),
        GroupError::GroupMaxSizeReached(1)
    );
    rig.ok(&join("a", &["t"]));
    rig.ok(&beat("a", 2));
}

#[test]
fn leaving_frees_and_raises_the_epoch() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("a", &["t"]));
    rig.ok(&join("b", &["t"]));
    let answer = rig.send(&beat("b", -1)).unwrap();
    assert_eq!((answer.member_epoch, answer.heartbeat_interval_ms), (-1, 0));
    assert_eq!(rig.group.epoch(), 4);
    assert_eq!(rig.group.state(), GroupState::Assigning);
    assert_eq!(rig.ok(&beat("a", 2)), (4, None));
    assert_eq!(rig.group.state(), GroupState::Stable);
    rig.ok(&beat("a", -1));
    assert_eq!(rig.group.state(), GroupState::Empty);
    assert_eq!(rig.group.epoch(), 5);
    assert!(rig.timers.is_empty());
    rig.assert_reloads();
    for record in rig.group.delete().unwrap() {
        rig.log.push(record);
    }
    let live: Vec<_> = {
        let mut last = BTreeMap::new();
        for record in &rig.log {
            let (key, value) = record.encode().unwrap();
            last.insert(key, value);
        }
        last.into_values().flatten().collect()
    };
    assert!(live.is_empty(), "a deleted group leaves only tombstones");
}

#[test]
fn the_silent_are_removed() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("a", &["t"]));
    rig.ok(&join("b", &["t"]));
    rig.pass(44_000);
    rig.ok(&beat("a", 2));
    rig.pass(1_000);
    assert!(rig.group.member("b").is_none());
    assert_eq!(rig.err(&beat("b", 3)), GroupError::UnknownMember);
    assert!(rig.group.member("a").is_some());
}

#[test]
fn the_assignor_waits_between_runs() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.config.assignment_interval = Duration::from_secs(1);
    rig.ok(&join("a", &["t"]));
    // Within the second the group is Assigning; who joins is told the old epoch and nothing.
    assert_eq!(rig.ok(&join("b", &["t"])), (2, Some(set(&[]))));
    assert_eq!(rig.group.epoch(), 3);
    assert_eq!(rig.group.state(), GroupState::Assigning);
    rig.pass(999);
    assert_eq!(rig.ok(&beat("a", 2)), (2, None));
    rig.pass(1);
    assert_eq!(rig.ok(&beat("b", 2)), (3, None));
    assert_eq!(rig.group.state(), GroupState::Reconciling);
    // A restart does not run it early.
    rig.group = rig.reload();
    rig.ok(&join("c", &["t"]));
    assert_eq!(rig.group.state(), GroupState::Assigning);
}

thread_local! {
    pub(super) static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// How much time goes by between two looks at the clock.
    pub(super) static STEP: Cell<Duration> = const { Cell::new(Duration::from_millis(100)) };
}

/// One group must not have most of a processor, whatever its size.
#[test]
fn an_assignor_that_took_long_waits_longer() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.group.remembered.pace = Pace::by(|| NOW.replace(NOW.get() + STEP.get()));
    rig.ok(&join("a", &["t"]));
    assert_eq!(
        NOW.get(),
        Duration::from_millis(200),
        "began at 0, done at 100"
    );
    STEP.set(Duration::ZERO);
    // The wall clock may have been set: it says nothing.
    rig.pass(40_000);
    assert_eq!(rig.ok(&join("b", &["t"])), (2, Some(set(&[]))));
    assert_eq!(rig.group.state(), GroupState::Assigning);
    NOW.set(Duration::from_millis(2_099));
    assert_eq!(rig.ok(&beat("a", 2)), (2, None));
    assert_eq!(rig.group.state(), GroupState::Assigning);
    NOW.set(Duration::from_millis(2_100));
    rig.ok(&beat("a", 2));
    assert_eq!(rig.group.state(), GroupState::Reconciling);
}

/// Let in without a target, the second would have all others refused theirs.
#[test]
fn newcomers_whose_target_no_batch_holds_change_nothing() {
    let mut rig = Rig::new(&[("t", 2), ("u", 2_000)]);
    rig.group.remembered.pace = Pace::by(|| NOW.replace(NOW.get() + STEP.get()));
    let epoch = rig.ok(&join("a", &["t"])).0;
    NOW.set(Duration::from_secs(60));
    for member in ["b", "c"] {
        let refused = rig.send(&join(member, &["u"]));
        assert!(matches!(refused, Err(GroupError::Unknown(_))), "{member}");
        STEP.set(Duration::ZERO);
        rig.pass(40_000);
        assert_eq!(rig.group.epoch(), epoch);
        rig.ok(&beat("a", epoch));
    }
    // Who can be given something comes in.
    rig.ok(&join("d", &["t"]));
    assert_eq!(rig.group.members().count(), 2);
}

#[test]
fn most_votes_choose_the_assignor() {
    let mut rig = Rig::new(&[("t", 4), ("u", 4)]);
    for (member, assignor) in [
        ("a", Some("range")),
        ("b", Some("range")),
        ("c", Some("uniform")),
    ] {
        let mut request = join(member, &["t", "u"]);
        request.server_assignor = assignor.map(Str::from_static);
        rig.ok(&request);
    }
    rig.ok(&join("d", &["t", "u"]));
    let at = Moment {
        now: rig.now,
        config: &rig.config,
        image: &rig.image,
        max_batch_bytes: MAX_BATCH_BYTES,
    };
    assert_eq!(rig.group.describe(&at).assignor_name, "range");
}

#[test]
fn descriptions_show_what_is_owned_and_wanted() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("a", &["t"]));
    rig.ok(&join("b", &["t"]));
    rig.ok(&beat("a", 2));
    let at = Moment {
        now: rig.now,
        config: &rig.config,
        image: &rig.image,
        max_batch_bytes: MAX_BATCH_BYTES,
    };
    let shown = rig.group.describe(&at);
    assert_eq!(shown.group_state, "Reconciling");
    assert_eq!((shown.group_epoch, shown.assignment_epoch), (3, 3));
    let a = &shown.members[0];
    assert_eq!((&*a.member_id, a.member_epoch, a.member_type), ("a", 2, 1));
    assert_eq!(a.assignment.topic_partitions[0].partitions, [0, 1]);
    assert_eq!(a.target_assignment.topic_partitions[0].partitions.len(), 1);
    assert_eq!(a.target_assignment.topic_partitions[0].topic_name, "t");
    assert!(shown.members[1].assignment.topic_partitions.is_empty());
}

/// A description may name a topic for each of its members, and wait for its reader.
#[test]
fn descriptions_copy_no_name() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("a", &["t"]));
    let at = Moment {
        now: rig.now,
        config: &rig.config,
        image: &rig.image,
        max_batch_bytes: MAX_BATCH_BYTES,
    };
    let shown = rig.group.describe(&at);
    let target = &shown.members[0].target_assignment;
    let known = rig.image.topics.get("t").unwrap();
    assert!(std::ptr::eq(
        target.topic_partitions[0].topic_name.as_str(),
        &*known.name
    ));
}

/// Only who says nothing, and is where it should be, is answered without a look at what it owns;
/// the rig compares each such answer with what the look would have found.
#[test]
fn nothing_new_is_found_out_at_once() {
    let mut rig = Rig::new(&[("t", 4)]);
    rig.ok(&join("a", &["t"]));
    let request = beat("a", 2);
    assert!(
        !rig.is_unchanged(&request),
        "the metadata was not looked at"
    );
    rig.ok(&request);
    assert!(rig.is_unchanged(&request));
    for other in [
        beat("b", 2),
        beat("a", 1),
        beat("a", 3),
        join("a", &["t"]),
        Request {
            topic_partitions: Some(Vec::new()),
            ..request.clone()
        },
        Request {
            subscribed_topic_names: names(&[]),
            ..request.clone()
        },
        Request {
            instance_id: Some("i".into()),
            ..request.clone()
        },
    ] {
        assert!(!rig.is_unchanged(&other), "{other:?}");
    }
    rig.create("u", 1);
    assert!(!rig.is_unchanged(&request), "the metadata changed");
    rig.ok(&request);
    assert!(rig.is_unchanged(&request));
    rig.ok(&join("b", &["t"]));
    assert!(!rig.is_unchanged(&request), "the target changed");
}
