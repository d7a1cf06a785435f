//! Groups become of the other kind while they have members (coordination.md §4, Interop).

use bytes::Bytes;
use palisade_auth::principal::Principal;

use super::super::*;
use super::classic::{classic, heartbeat, send, subscription, sync};
use super::rig::{MAX_BATCH_BYTES, Rig, beat, client, join, owns, picture, set};
use crate::group::classic::ClassicGroup;
use crate::group::config::{GroupConfig, MigrationPolicy};
use crate::group::embedded::{Assignment, PARSED, TopicPartitions};
use crate::group::error::GroupError;
use crate::group::record::GroupRecord;
use crate::group::write::size;

fn member(rig: &Rig, id: &str, partitions: &[i32]) -> ClassicViewMember {
    let assignment = Assignment {
        assigned_partitions: vec![
            TopicPartitions {
                topic: Str::from("t"),
                partitions: partitions.to_vec(),
            },
            TopicPartitions {
                topic: Str::from("gone"),
                partitions: vec![0],
            },
        ],
        user_data: None,
    };
    ClassicViewMember {
        id: Str::copy(id),
        client_id: Str::from("c"),
        client_host: Str::from("/h"),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 20_000,
        protocols: vec![(
            Str::from("cooperative-sticky"),
            subscription(&["t"], &set(&[]), &rig.image),
        )],
        assignment: assignment.to_bytes(1).unwrap(),
        ..ClassicViewMember::default()
    }
}

fn view(rig: &Rig) -> ClassicView {
    ClassicView {
        generation: 7,
        protocol_type: Str::from("consumer"),
        protocol: Some(Str::from("cooperative-sticky")),
        members: vec![member(rig, "c", &[0, 1]), member(rig, "d", &[2])],
    }
}

fn upgrade(rig: &mut Rig, view: &ClassicView) -> Result<(), GroupError> {
    let at = Moment {
        now: rig.now,
        config: &rig.config,
        image: &rig.image,
        max_batch_bytes: MAX_BATCH_BYTES,
    };
    let (classic, _) = ClassicGroup::from_view("g".into(), view, rig.now, &GroupConfig::defaults());
    let outlook = classic.outlook("n", &Principal::user("n"));
    ConsumerGroup::check_upgrade(&"g".into(), &outlook, &join("n", &["t"]), &Ok(()), &at)?;
    let (group, records) = ConsumerGroup::upgrade(&"g".into(), view, &at)?;
    let pairs = records.iter().map(|record| record.encode().unwrap());
    let recorded: usize = pairs.map(|pair| size(&pair)).sum();
    let (told, kept_at_most) = outlook.sizes.unwrap();
    // What is gone from the metadata: in two records an id, counts, a partition and its epoch.
    let gone = view.members.iter().filter(|one| !one.assignment.is_empty());
    let gone = gone.count() * (2 * 16 + 7 + 3 * 4);
    let told = told - gone;
    // Where two owned a partition one does.
    let [one, other] = [0, 3 * 4].map(|twice| recorded + twice);
    assert!(told == one || told == other, "{told}, not {recorded}");
    assert!(group.held() <= kept_at_most);
    assert!(matches!(records[0], GroupRecord::Group { value: None, .. }));
    rig.group = group;
    rig.log = records;
    rig.assert_reloads();
    Ok(())
}

#[test]
fn a_classic_group_keeps_members_and_assignments() {
    let mut rig = Rig::new(&[("t", 3)]);
    let classic_group = view(&rig);
    upgrade(&mut rig, &classic_group).unwrap();
    assert_eq!(rig.group.epoch(), 7);
    assert_eq!(rig.group.state(), GroupState::Stable);
    let owned = rig.group.member("c").unwrap().assigned.partitions();
    assert_eq!(owned, set(&[("t", &[0, 1])]));
    assert_eq!(rig.ok(&join("n", &["t"])), (8, Some(set(&[]))));
    assert_eq!(
        heartbeat(&mut rig, "d", 7),
        Err(GroupError::RebalanceInProgress)
    );
    let request = classic(&rig, "c", &["t"], &set(&[("t", &[0, 1])]));
    send(&mut rig, &request).unwrap();
    let kept = sync(&mut rig, "c", 7).unwrap();
    let request = classic(&rig, "c", &["t"], &kept);
    send(&mut rig, &request).unwrap();
    assert_eq!(rig.ok(&beat("n", 8)).1.unwrap().len(), 1);
    rig.assert_reloads();
}

#[test]
fn a_group_before_its_first_assignment_is_taken_too() {
    let mut rig = Rig::new(&[("t", 3)]);
    let mut classic_group = view(&rig);
    classic_group.generation = 0;
    for member in &mut classic_group.members {
        member.assignment = Bytes::new();
    }
    upgrade(&mut rig, &classic_group).unwrap();
    assert_eq!(rig.ok(&join("n", &[])).0, 2);
    assert_eq!(rig.ok(&join("m", &["t"])).0, 3);
}

/// Its last leader had not assigned everything yet.
#[test]
fn who_takes_a_place_has_all_assigned_anew() {
    let mut rig = Rig::new(&[("t", 3)]);
    let mut classic_group = view(&rig);
    classic_group.members = vec![member(&rig, "c", &[0]), member(&rig, "d", &[1])];
    for one in &mut classic_group.members {
        one.instance_id = Some(one.id.clone());
    }
    upgrade(&mut rig, &classic_group).unwrap();
    let mut native = join("n", &["t"]);
    native.instance_id = Some(Str::from("c"));
    let (epoch, assigned) = rig.ok(&native);
    assert_eq!(epoch, 8);
    let request = classic(&rig, "d", &["t"], &set(&[("t", &[1])]));
    let mut request = request;
    request.instance_id = Some(Str::from("d"));
    send(&mut rig, &request).unwrap();
    let others = sync(&mut rig, "d", 8).unwrap();
    assert_eq!(assigned.unwrap().len() + others.len(), 3);
    rig.assert_reloads();
}

#[test]
fn two_owners_of_one_partition_become_one() {
    let mut rig = Rig::new(&[("t", 3)]);
    let mut classic_group = view(&rig);
    classic_group.members = vec![member(&rig, "c", &[0, 1]), member(&rig, "d", &[1, 2])];
    upgrade(&mut rig, &classic_group).unwrap();
    let owned = rig.group.member("d").unwrap().assigned.partitions();
    assert_eq!(owned, set(&[("t", &[2])]));
}

#[test]
fn what_is_no_group_of_consumers_stays() {
    let mut rig = Rig::new(&[("t", 3)]);
    let good = view(&rig);
    let changes: [fn(&mut Rig, &mut ClassicView); 5] = [
        |_, view| view.protocol_type = Str::from("connect"),
        |_, view| view.members[1].protocols[0].1 = Bytes::from_static(b"\0"),
        |_, view| view.members[0].assignment = Bytes::from_static(b"\0"),
        |rig, _| rig.config.max_size = 1,
        |rig, _| rig.config.migration = MigrationPolicy::Downgrade,
    ];
    for change in changes {
        let before = rig.config.clone();
        let mut view = good.clone();
        change(&mut rig, &mut view);
        let refused = upgrade(&mut rig, &view);
        assert!(matches!(refused, Err(GroupError::GroupNotFound(_))));
        rig.config = before;
    }
    rig.config.migration = MigrationPolicy::Upgrade;
    assert_eq!(upgrade(&mut rig, &good), Ok(()));
}

#[test]
fn the_last_native_member_leaves_a_classic_group() {
    for policy in [MigrationPolicy::Bidirectional, MigrationPolicy::Downgrade] {
        let mut rig = Rig::new(&[("t", 2)]);
        rig.config.migration = policy;
        rig.ok(&join("n", &["t"]));
        let request = classic(&rig, "c", &["t"], &set(&[]));
        send(&mut rig, &request).unwrap();
        rig.ok(&beat("n", 2));
        let mut given = beat("n", 2);
        given.topic_partitions = owns(&set(&[("t", &[0])]));
        rig.ok(&given);
        let request = classic(&rig, "c", &["t"], &set(&[]));
        send(&mut rig, &request).unwrap();
        let leave = beat("n", -1);
        let id = leave.member_id.clone();
        let answer = rig
            .decide(|group, at| group.heartbeat(&leave, &id, &client(), &Ok(()), at))
            .unwrap();
        let view = answer.removed.downgraded.unwrap();
        assert_eq!((view.generation, &*view.protocol_type), (3, "consumer"));
        assert_eq!(view.protocol.as_deref(), Some("cooperative-sticky"));
        let member = &view.members[0];
        assert_eq!((&*member.id, member.session_timeout_ms), ("c", 20_000));
        let assignment = Assignment::parse(&member.assignment).unwrap();
        assert_eq!(assignment.assigned_partitions[0].partitions, [1]);
        // Of the consumer group nothing is left in the log but tombstones.
        let last = rig.log.last().unwrap();
        assert!(matches!(last, GroupRecord::Group { value: Some(value), .. }
            if value.generation == 3 && value.members.len() == 1));
        assert_eq!(rig.group.members().count(), 0);
        assert!(rig.group.owners.is_empty() && rig.group.targets.is_empty());
        assert!(rig.timers.is_empty());
    }
}

#[test]
fn without_leave_to_it_stays_a_consumer_group() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.config.migration = MigrationPolicy::Upgrade;
    rig.ok(&join("n", &["t"]));
    let request = classic(&rig, "c", &["t"], &set(&[]));
    send(&mut rig, &request).unwrap();
    rig.ok(&beat("n", -1));
    assert_eq!(
        heartbeat(&mut rig, "c", 3),
        Err(GroupError::RebalanceInProgress)
    );
    send(&mut rig, &request).unwrap();
    assert_eq!(sync(&mut rig, "c", 4), Ok(set(&[("t", &[0, 1])])));
    let before = picture(&rig.group);
    assert_eq!(heartbeat(&mut rig, "c", 4), Ok(()));
    assert_eq!(picture(&rig.group), before);
}

#[test]
fn what_no_batch_holds_stays() {
    let mut rig = Rig::new(&[("t", 3)]);
    let longest = |rig: &Rig, count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("{n:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut classic_group = view(rig);
        classic_group.members[0].protocols[0].1 = subscription(&names, &set(&[]), &rig.image);
        classic_group
    };
    for count in (0..1000).step_by(7) {
        let classic_group = longest(&rig, count);
        match upgrade(&mut rig, &classic_group) {
            Ok(()) => assert!(count < 400),
            Err(GroupError::Unknown(text)) => {
                assert!(count > 250, "{count}");
                assert!(text.contains("larger than a batch of 4096"), "{text}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    let mut classic_group = view(&rig);
    let partitions: Vec<i32> = (0..1000).collect();
    classic_group.members[0] = member(&rig, "c", &partitions);
    let refused = upgrade(&mut rig, &classic_group);
    assert!(matches!(refused, Err(GroupError::Unknown(_))));
}

/// Classic members stay many while the last native ones and others of theirs go: what each said is
/// read when the group is made of them, and not with every departure.
#[test]
fn who_goes_does_not_have_the_others_read() {
    let mut rig = Rig::new(&[("t", 2)]);
    rig.ok(&join("z", &["t"]));
    for id in ["a", "b", "c", "d"] {
        let request = classic(&rig, id, &["t"], &set(&[]));
        send(&mut rig, &request).unwrap();
    }
    let parsed = PARSED.get();
    let mut leave = |id| {
        let identity = ClassicIdentity {
            member_id: id,
            instance_id: None,
        };
        rig.decide(|group, at| group.classic_leave(&[identity], at))
            .unwrap()
    };
    assert_eq!(leave("c").removed.downgraded, None);
    assert_eq!(PARSED.get(), parsed);
    let view = leave("z").removed.downgraded.unwrap();
    assert_eq!(view.members.len(), 3);
}
