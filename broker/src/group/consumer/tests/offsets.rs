//! Who may commit and fetch (coordination.md §3).

use super::super::*;
use super::rig::{Rig, beat, join, topic};
use crate::group::error::GroupError;

const NOBODY: Committer<'static> = Committer {
    member_id: "",
    epoch: -1,
    knows_epochs: true,
    transactional: false,
};

fn by(member_id: &str, epoch: i32) -> Committer<'_> {
    Committer {
        member_id,
        epoch,
        ..NOBODY
    }
}

fn check(rig: &Rig, committer: Committer<'_>, partition: i32) -> Result<(), GroupError> {
    let partitions = [(topic("t"), partition)];
    rig.group.check_commit(&committer, partitions.into_iter())
}

#[test]
fn commits_are_judged_by_member_and_epoch() {
    let mut rig = Rig::new(&[("t", 2)]);
    assert_eq!(check(&rig, NOBODY, 0), Ok(()), "nobody is there to disturb");
    rig.ok(&join("a", &["t"]));
    let mut old = by("a", 2);
    old.knows_epochs = false;
    let in_transaction = |mut committer: Committer<'static>| {
        committer.transactional = true;
        committer
    };
    let cases = [
        (NOBODY, Err(GroupError::UnknownMember)),
        (by("", 2), Err(GroupError::UnknownMember)),
        (by("x", 2), Err(GroupError::UnknownMember)),
        (by("a", 2), Ok(())),
        (old, Err(GroupError::UnsupportedVersion)),
        (by("a", 3), Err(GroupError::StaleMemberEpoch)),
        (by("a", 1), Err(GroupError::StaleMemberEpoch)),
        (by("a", -1), Err(GroupError::StaleMemberEpoch)),
        (in_transaction(NOBODY), Ok(())),
        (in_transaction(by("a", 2)), Ok(())),
        (
            in_transaction(by("a", 1)),
            Err(GroupError::IllegalGeneration),
        ),
    ];
    for (committer, expected) in cases {
        assert_eq!(check(&rig, committer, 0), expected, "{committer:?}");
    }
}

#[test]
fn an_older_epoch_serves_for_what_was_owned_since() {
    let mut rig = Rig::new(&[("t", 1)]);
    rig.ok(&join("a", &["t"]));
    rig.create("t", 2);
    assert_eq!(rig.ok(&beat("a", 2)).0, 3);
    assert_eq!(check(&rig, by("a", 2), 0), Ok(()));
    assert_eq!(
        check(&rig, by("a", 2), 1),
        Err(GroupError::StaleMemberEpoch)
    );
    assert_eq!(
        check(&rig, by("a", 2), 7),
        Err(GroupError::StaleMemberEpoch)
    );
    let both = [(topic("t"), 0), (topic("t"), 1)];
    let refused = rig.group.check_commit(&by("a", 2), both.into_iter());
    assert_eq!(refused, Err(GroupError::StaleMemberEpoch), "all or nothing");
}

#[test]
fn fetches_name_the_current_epoch_or_nobody() {
    let mut rig = Rig::new(&[("t", 1)]);
    rig.ok(&join("a", &["t"]));
    let group = &rig.group;
    assert_eq!(group.check_fetch(None, -1), Ok(()));
    assert_eq!(group.check_fetch(Some("a"), 2), Ok(()));
    assert_eq!(
        group.check_fetch(Some("a"), 1),
        Err(GroupError::StaleMemberEpoch)
    );
    assert_eq!(
        group.check_fetch(Some("a"), -1),
        Err(GroupError::StaleMemberEpoch)
    );
    assert_eq!(
        group.check_fetch(Some("x"), 2),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(group.check_fetch(None, 2), Err(GroupError::UnknownMember));
}
