//! Members go: they leave, fall silent, or do not give up partitions in time.

use super::convert::ClassicView;
use super::decide::Draft;
use super::subscription::Subscriptions;
use super::{ConsumerGroup, Member, MemberState, Moment};
use crate::group::decision::{Decision, TimerChange};
use crate::group::record::GroupRecord;

/// What a removal made of the group besides.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Removed {
    /// The classic group that the records turn this one into, because its last members of the
    /// consumer protocol are gone.
    pub(crate) downgraded: Option<ClassicView>,
}

impl ConsumerGroup {
    /// Removes members: their partitions are free, and the group's epoch rises once.
    pub(super) fn remove(
        &self,
        members: &[&Member],
        at: &Moment<'_>,
        draft: &mut Draft,
    ) -> Removed {
        if members.is_empty() {
            return Removed::default();
        }
        if let Some(view) = self.downgrade(members, at) {
            self.dissolve(draft);
            draft.records.push(view.to_record(&self.id, at.now));
            return Removed {
                downgraded: Some(view),
            };
        }
        for member in members {
            self.forget(&member.id, draft);
        }
        let subscriptions = Subscriptions::of(self).without(members.iter().copied());
        for pattern in subscriptions.abandoned_patterns() {
            draft.records.push(self.no_regex_record(pattern));
        }
        let hash = subscriptions.hash(at.image);
        self.raise_epoch(hash, draft);
        Removed::default()
    }

    /// A member was silent for its session timeout.
    pub(crate) fn session_expired(&mut self, member: &str, at: &Moment<'_>) -> Decision<Removed> {
        self.remove_if(member, |_| true, at)
    }

    /// A member did not give up its partitions within its rebalance timeout.
    pub(crate) fn rebalance_expired(&mut self, member: &str, at: &Moment<'_>) -> Decision<Removed> {
        let is_late = |member: &Member| member.state == MemberState::Unrevoked;
        self.remove_if(member, is_late, at)
    }

    /// A classic member did not rejoin, or ask for its assignment, within its rebalance timeout.
    pub(crate) fn sync_expired(&mut self, member: &str, at: &Moment<'_>) -> Decision<Removed> {
        self.remove_if(member, |member| member.classic.is_some(), at)
    }

    fn remove_if(
        &mut self,
        member: &str,
        condition: impl FnOnce(&Member) -> bool,
        at: &Moment<'_>,
    ) -> Decision<Removed> {
        self.settle(at.image);
        let mut draft = Draft::default();
        let mut removed = Removed::default();
        if let Some(member) = self.members.get(member).filter(|member| condition(member)) {
            removed = self.remove(&[member], at, &mut draft);
        }
        draft.into_decision(removed)
    }

    /// The timers that run for a group that was read from the log.
    pub(crate) fn timers(&self, at: &Moment<'_>) -> Vec<TimerChange> {
        let mut draft = Draft::default();
        for member in self.members() {
            draft.set(
                self.session_key(&member.id),
                member.session_timeout(at.config),
            );
            if member.state == MemberState::Unrevoked {
                draft.set(self.rebalance_key(&member.id), member.rebalance_timeout());
            }
        }
        draft.timers
    }

    /// Deletes all that is recorded of the group, and stops its timers.
    pub(super) fn dissolve(&self, draft: &mut Draft) {
        for member in self.members() {
            self.forget(&member.id, draft);
        }
        for pattern in self.resolved.keys() {
            draft.records.push(self.no_regex_record(pattern.clone()));
        }
        draft.records.extend([
            GroupRecord::TargetEpoch {
                group: self.id.clone(),
                value: None,
            },
            GroupRecord::ConsumerGroup {
                group: self.id.clone(),
                value: None,
            },
        ]);
    }

    /// Records that delete an empty group; `None` while it has members.
    pub(crate) fn delete(&self) -> Option<Vec<GroupRecord>> {
        let mut draft = Draft::default();
        self.is_empty().then(|| {
            self.dissolve(&mut draft);
            draft.records
        })
    }
}
