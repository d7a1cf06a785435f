//! Members go: they leave, fall silent, or do not give up partitions in time.

use super::convert::ClassicView;
use super::decide::Draft;
use super::subscription::Subscriptions;
use super::{ConsumerGroup, Member, MemberState, Moment};
use crate::group::decision::{Decision, TimerChange};
use crate::group::record::GroupRecord;
use crate::group::write::RECORD_OVERHEAD;

/// What a removal made of the group besides.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Removed {
    /// The classic group that the records turn this one into, because its last members of the
    /// consumer protocol are gone.
    pub(crate) downgraded: Option<ClassicView>,
}

impl ConsumerGroup {
    /// Removes members: their partitions are free, and the group's epoch rises once.
    ///
    /// They may be spread over batches. The new epoch comes first: whoever stays is assigned what
    /// the others had, however many of the records the log takes.
    pub(super) fn remove(
        &self,
        members: &[&Member],
        at: &Moment<'_>,
        draft: &mut Draft,
    ) -> Removed {
        if members.is_empty() {
            return Removed::default();
        }
        if let Some((mut whole, view)) = self.turned_classic(members, at) {
            draft.records.append(&mut whole.records);
            draft.timers.append(&mut whole.timers);
            return Removed {
                downgraded: Some(view),
            };
        }
        let subscriptions = Subscriptions::of(self).without(members.iter().copied());
        let hash = subscriptions.hash(at.image);
        self.raise_epoch(hash, draft);
        for member in members {
            self.forget(&member.id, draft);
        }
        self.forget_patterns(&subscriptions, at, draft);
        Removed::default()
    }

    /// The group as a classic one, where nobody but classic members stays and one batch holds the
    /// change; else it stays a consumer group, of classic members only.
    fn turned_classic(&self, members: &[&Member], at: &Moment<'_>) -> Option<(Draft, ClassicView)> {
        // A lower bound first, three records with both ids for each member: making all is slow.
        let ids = self.members.keys().map(|id| 3 * (self.id.len() + id.len()));
        let may_fit = ids.sum::<usize>() <= at.max_batch_bytes;
        let view = may_fit.then(|| self.downgrade(members, at)).flatten()?;
        let mut whole = Draft::default();
        self.dissolve(&mut whole);
        whole.records.push(view.to_record(&self.id, at.now));
        whole.fits(at.max_batch_bytes).then_some((whole, view))
    }

    /// Deletes the topics of expressions that nobody will subscribe with. Others go with a later
    /// decision where they are too many: what has to be in one batch must leave room there.
    pub(super) fn forget_patterns(
        &self,
        subscriptions: &Subscriptions<'_>,
        at: &Moment<'_>,
        draft: &mut Draft,
    ) {
        // A quarter of a batch, but one expression at least, so that all are gone one day.
        let mut left = at.max_batch_bytes / 4;
        for (n, pattern) in subscriptions.abandoned_patterns().into_iter().enumerate() {
            let bytes = self.id.len() + pattern.len() + RECORD_OVERHEAD;
            if n > 0 && bytes > left {
                break;
            }
            left = left.saturating_sub(bytes);
            draft.records.push(self.no_regex_record(pattern));
        }
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
