//! Many members that go at once (LeaveGroup).

use super::super::classic_member::ClassicRemoval;
use super::super::*;
use super::classic::{classic, send};
use super::patterns::{like, look_up};
use super::rig::{MAX_BATCH_BYTES, Rig, beat, join, owns, set};
use crate::group::decision::Decision;
use crate::group::error::GroupError;
use crate::group::record::GroupRecord;
use crate::group::write::{RECORD_OVERHEAD, fits_bytes};

fn identity(member_id: &str) -> ClassicIdentity<'_> {
    ClassicIdentity {
        member_id,
        instance_id: None,
    }
}

#[test]
fn who_is_named_again_is_unknown_from_the_second_time_on() {
    const MEMBERS: usize = 100;
    let mut rig = Rig::new(&[("ta", 1)]);
    let ids: Vec<String> = (0..MEMBERS).map(|n| format!("m{n}")).collect();
    for (n, id) in ids.iter().enumerate() {
        let answer = rig.send(&like(id, "t.*")).unwrap();
        if n == 0 {
            look_up(&mut rig, &answer.look_up);
        }
    }
    assert_eq!(rig.group.subscribed_topics().len(), 1);
    let last = std::iter::repeat_n(&ids[MEMBERS - 1], MEMBERS);
    let leaving: Vec<_> = ids.iter().chain(last).map(|id| identity(id)).collect();
    let left = rig.decide(|group, at| group.classic_leave(&leaving, at));
    let expected = [
        vec![Ok(()); MEMBERS],
        vec![Err(GroupError::UnknownMember); MEMBERS],
    ];
    assert_eq!(left.unwrap().outcomes, expected.concat());
    assert!(rig.group.is_empty() && rig.group.resolved.is_empty());
    rig.assert_reloads();
}

struct Native {
    id: &'static str,
    epoch: i32,
    owned: PartitionSet,
}

/// Each member's heartbeat says what it owns, and it takes and gives up what it is told to.
fn round(rig: &mut Rig, members: &mut [Native]) {
    for member in members {
        let mut request = beat(member.id, member.epoch);
        request.topic_partitions = owns(&member.owned);
        let (epoch, assignment) = rig.ok(&request);
        member.epoch = epoch;
        member.owned = assignment.unwrap_or_else(|| member.owned.clone());
    }
}

/// Three members with a partition each.
fn three() -> (Rig, Vec<Native>) {
    let mut rig = Rig::new(&[("t", 3)]);
    let mut members = Vec::new();
    for id in ["a", "b", "c"] {
        let (epoch, assignment) = rig.ok(&join(id, &["t"]));
        let owned = assignment.unwrap_or_default();
        members.push(Native { id, epoch, owned });
    }
    for _ in 0..4 {
        round(&mut rig, &mut members);
    }
    assert!(members.iter().all(|member| member.owned.len() == 1));
    (rig, members)
}

fn leave_two(rig: &mut Rig) -> Decision<ClassicRemoval> {
    let at = Moment {
        now: rig.now,
        config: &rig.config,
        image: &rig.image,
        max_batch_bytes: MAX_BATCH_BYTES,
    };
    let leaving = ["b", "c"].map(identity);
    rig.group.classic_leave(&leaving, &at)
}

/// Records of many are spread over batches, of which the log may take the first ones only: who
/// stays gets what those had who are gone.
#[test]
fn a_part_of_a_removal_leaves_nothing_without_an_owner() {
    let all = leave_two(&mut three().0).records.len();
    assert_eq!(all, 7, "three for each member, and the epoch");
    for taken in 0..=all {
        let (mut rig, mut members) = three();
        for record in leave_two(&mut rig).records.into_iter().take(taken) {
            rig.group.replay(&record);
            rig.log.push(record);
        }
        members.truncate(1);
        // Who is still a member falls silent.
        for _ in 0..10 {
            round(&mut rig, &mut members);
            rig.pass(10_000);
        }
        assert_eq!(members[0].owned, set(&[("t", &[0, 1, 2])]), "{taken} taken");
        assert_eq!(rig.group.members().count(), 1);
        rig.assert_reloads();
    }
}

/// What a removal in parts leaves behind is more than a batch holds, and goes bit by bit.
#[test]
fn many_abandoned_expressions_hold_up_no_decision() {
    let mut rig = Rig::new(&[("t", 1)]);
    let mut members = vec!["a".to_owned()];
    rig.ok(&join("a", &["t"]));
    for n in 0..6 {
        let id = format!("m{n}");
        let pattern = format!("t|{}{n}", "x".repeat(1_000));
        let answer = rig.send(&like(&id, &pattern)).unwrap();
        look_up(&mut rig, &answer.look_up);
        members.push(id);
    }
    let gone: Vec<_> = members[1..].iter().map(|id| identity(id)).collect();
    let (now, image, config) = (rig.now, rig.image.clone(), rig.config.clone());
    let at = Moment {
        now,
        config: &config,
        image: &image,
        max_batch_bytes: MAX_BATCH_BYTES,
    };
    let left = rig.group.classic_leave(&gone, &at);
    let is_expression = |record: &GroupRecord| matches!(record, GroupRecord::Regex { .. });
    for record in left.records.into_iter().filter(|one| !is_expression(one)) {
        rig.group.replay(&record);
        rig.log.push(record);
    }
    assert_eq!(rig.group.unused.len(), 6);
    for left in (0..6).rev() {
        let expired = rig.group.session_expired("a", &at);
        let size = |record: &GroupRecord| {
            let (key, value) = record.encode().unwrap();
            key.len() + value.map_or(0, |value| value.len()) + RECORD_OVERHEAD
        };
        let bytes = expired.records.iter().map(size).sum();
        assert!(fits_bytes(bytes, MAX_BATCH_BYTES), "{bytes}");
        for record in expired.records.into_iter().filter(is_expression) {
            rig.group.replay(&record);
            rig.log.push(record);
        }
        assert_eq!(rig.group.unused.len(), left);
    }
    rig.assert_reloads();
}

/// It would stay for ever otherwise, and each attempt have all that the others said copied.
#[test]
fn the_last_native_member_leaves_a_group_that_no_batch_holds_as_a_classic_one() {
    const OTHERS: usize = 8;
    let mut rig = Rig::new(&[("t", 1)]);
    rig.ok(&join("n", &["t"]));
    let topics = ["t"].repeat(200);
    for n in 0..OTHERS {
        let request = classic(&rig, &format!("c{n}"), &topics, &set(&[]));
        send(&mut rig, &request).unwrap();
    }
    let epoch = rig.group.epoch();
    let left = rig.decide(|group, at| group.classic_leave(&[identity("n")], at));
    let left = left.unwrap();
    assert_eq!(left.outcomes, [Ok(())]);
    assert!(left.removed.downgraded.is_none());
    assert_eq!(
        (rig.group.members().count(), rig.group.epoch()),
        (OTHERS, epoch + 1)
    );
    rig.assert_reloads();
    // What fits is a classic group again.
    let gone: Vec<String> = (1..OTHERS).map(|n| format!("c{n}")).collect();
    let gone: Vec<_> = gone.iter().map(|id| identity(id)).collect();
    let left = rig.decide(|group, at| group.classic_leave(&gone, at));
    let view = left.unwrap().removed.downgraded.unwrap();
    assert_eq!(view.members.len(), 1);
}
