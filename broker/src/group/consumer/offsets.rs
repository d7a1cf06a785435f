//! Whether a member may commit and fetch offsets (coordination.md §3).

use palisade_protocol::types::TopicId;

use super::{ConsumerGroup, Member};
use crate::group::error::GroupError;

/// What a commit says of who commits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committer<'a> {
    /// Its id.
    pub(crate) member_id: &'a str,
    /// Its epoch, or generation.
    pub(crate) epoch: i32,
    /// Whether the request is of a version that tells stale epochs (OffsetCommit 9).
    pub(crate) knows_epochs: bool,
    /// Whether it is part of a transaction.
    pub(crate) transactional: bool,
}

impl ConsumerGroup {
    /// Judges a commit of these partitions.
    ///
    /// # Errors
    /// `UnknownMember`, `UnsupportedVersion`, `StaleMemberEpoch`, or `IllegalGeneration` for
    /// those who do not know epochs.
    pub(crate) fn check_commit(
        &self,
        committer: &Committer<'_>,
        mut partitions: impl Iterator<Item = (TopicId, i32)>,
    ) -> Result<(), GroupError> {
        let anonymous = committer.transactional && committer.member_id.is_empty();
        if committer.epoch < 0 && (self.is_empty() || anonymous) {
            return Ok(());
        }
        let member = self.members.get(committer.member_id);
        let member = member.ok_or(GroupError::UnknownMember)?;
        let native = member.classic.is_none();
        if native && !committer.knows_epochs && !committer.transactional {
            return Err(GroupError::UnsupportedVersion);
        }
        if committer.epoch == member.epoch {
            return Ok(());
        }
        if !native || committer.transactional {
            return Err(GroupError::IllegalGeneration);
        }
        // Who missed an answer may still commit what it has owned since before.
        let since_before = |(topic, partition)| {
            let epoch = assignment_epoch(member, topic, partition);
            epoch.is_some_and(|epoch| epoch <= committer.epoch)
        };
        if committer.epoch >= 0 && committer.epoch < member.epoch && partitions.all(since_before) {
            return Ok(());
        }
        Err(GroupError::StaleMemberEpoch)
    }

    /// Judges a fetch of offsets in a member's name.
    ///
    /// # Errors
    /// `UnknownMember` or `StaleMemberEpoch`.
    pub(crate) fn check_fetch(
        &self,
        member_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), GroupError> {
        if member_id.is_none_or(str::is_empty) && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member_id.unwrap_or_default());
        match member.ok_or(GroupError::UnknownMember)?.epoch == epoch {
            true => Ok(()),
            false => Err(GroupError::StaleMemberEpoch),
        }
    }
}

fn assignment_epoch(member: &Member, topic: TopicId, partition: i32) -> Option<i32> {
    let assigned = member.assigned.epoch_of(topic, partition);
    assigned.or_else(|| member.revoking.epoch_of(topic, partition))
}
