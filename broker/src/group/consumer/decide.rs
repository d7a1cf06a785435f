//! What every change of a member comes down to: group epoch, target, the member's next step.

use std::cell::Cell;
use std::time::Duration;

use palisade_protocol::Str;
use palisade_protocol::types::{Offset, TopicId};

use super::reconcile::{Goal, reconcile};
use super::subscription::Subscriptions;
use super::{ConsumerGroup, Member, MemberState, Moment, TargetOf};
use crate::group::decision::{Decision, TimerChange, TimerKey};
use crate::group::partitions::PartitionSet;
use crate::group::record::{
    EpochValue, GroupRecord, TargetAssignmentEpochValue, TargetAssignmentValue, TargetPartitions,
};
use crate::group::write::{fits_bytes, size};
use crate::metadata::ClusterImage;

/// A member's event, half decided.
pub(super) struct Change<'a> {
    /// The member of this id as it is; `None` for a new one.
    pub(super) before: Option<&'a Member>,
    /// The static member of another id whose place this one takes.
    pub(super) replaced: Option<&'a Member>,
    /// The member as its request describes it.
    pub(super) after: Member,
    /// What it says it owns; `None` where it says nothing.
    pub(super) reported: Option<&'a PartitionSet>,
}

/// Records and timers of a decision so far.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) records: Vec<GroupRecord>,
    pub(super) timers: Vec<TimerChange>,
    /// The metadata that the group's hash was found to be right for.
    pub(super) checked: Option<Offset>,
    /// The target that should be made, and of which no batch would hold the records.
    pub(super) too_large: Option<TargetOf>,
    /// It should be made for what this member brings: who brings nothing goes on with the last one.
    pub(super) is_refused: bool,
}

impl Draft {
    pub(super) fn set(&mut self, key: TimerKey, after: Duration) {
        self.timers.push(TimerChange::Set { key, after });
    }

    pub(super) fn cancel(&mut self, key: TimerKey) {
        self.timers.push(TimerChange::Cancel { key });
    }

    /// Whether a batch of at most `max_bytes` can hold all records.
    pub(super) fn fits(&self, max_bytes: usize) -> bool {
        let encoded = self.records.iter().filter_map(|one| one.encode().ok());
        fits_bytes(encoded.map(|pair| size(&pair)).sum(), max_bytes)
    }

    pub(super) fn into_decision<T>(self, answer: T) -> Decision<T> {
        Decision {
            records: self.records,
            answer: Ok(answer),
            timers: self.timers,
        }
    }
}

impl ConsumerGroup {
    /// Decides a change of one member: whether the group's epoch rises, whether the assignor runs,
    /// and how far the member comes. Returns the member as it will be.
    pub(super) fn advance(&self, change: Change<'_>, at: &Moment<'_>, draft: &mut Draft) -> Member {
        let Change {
            before,
            replaced,
            mut after,
            reported,
        } = change;
        if let Some(replaced) = replaced {
            self.forget(&replaced.id, draft);
        }
        if before.is_none_or(|before| !before.same_subscription(&after)) {
            draft.records.push(self.member_record(&after));
        }
        let of = self.next_epoch(before, replaced, &after, at, draft);
        let (target_epoch, target) = self.next_target(of, replaced, &after, at, draft);
        let brings_nothing = replaced
            .or(before)
            .is_some_and(|old| old.names == after.names && old.pattern == after.pattern);
        draft.is_refused = draft.too_large.is_some() && !brings_nothing;

        let subscribed = self.subscribes(&after, at.image);
        let id = after.id.clone();
        let is_own =
            |owner: &Str| *owner == id || replaced.is_some_and(|replaced| *owner == replaced.id);
        let goal = Goal {
            epoch: target_epoch,
            target: &target,
            subscribed: &subscribed,
            free: &|topic, partition| self.owner(topic, partition).is_none_or(is_own),
            reported,
        };
        reconcile(&mut after, &goal);
        let moved = before.is_none_or(|before| !before.same_progress(&after));
        if moved {
            draft.records.push(self.current_record(&after));
        }
        draft.set(
            self.session_key(&after.id),
            after.session_timeout(at.config),
        );
        if after.state == MemberState::Unrevoked && moved {
            draft.set(self.rebalance_key(&after.id), after.rebalance_timeout());
        } else if after.state != MemberState::Unrevoked
            && before.is_some_and(|before| before.state == MemberState::Unrevoked)
        {
            draft.cancel(self.rebalance_key(&after.id));
        }
        after
    }

    /// Tells whether a member subscribes to a topic that exists.
    fn subscribes<'a>(
        &'a self,
        member: &Member,
        image: &'a ClusterImage,
    ) -> impl Fn(TopicId) -> bool + 'a {
        let names = member.names.clone();
        let resolved = self.resolved_topics(member.pattern.as_ref());
        // Partitions of one topic follow each other.
        let last = Cell::new(None);
        move |id| match last.get() {
            Some((known, is)) if known == id => is,
            _ => {
                let is = image.topics.by_id(id).is_some_and(|topic| {
                    let resolved = resolved.is_some_and(|topics| topics.contains(&*topic.name));
                    resolved || names.contains(&*topic.name)
                });
                last.set(Some((id, is)));
                is
            }
        }
    }

    /// The group's epoch and the hash of its topics once the member is as described, with a record
    /// where the epoch rises.
    fn next_epoch(
        &self,
        before: Option<&Member>,
        replaced: Option<&Member>,
        after: &Member,
        at: &Moment<'_>,
        draft: &mut Draft,
    ) -> TargetOf {
        let known = |member: Option<&Member>| {
            let topics = self.resolved_topics(member.and_then(|member| member.pattern.as_ref()));
            topics.filter(|topics| !topics.is_empty())
        };
        let old = replaced.or(before);
        let pattern_changed = old.and_then(|old| old.pattern.as_ref()) != after.pattern.as_ref();
        let resubscribed = match old {
            None => !after.names.is_empty(),
            Some(old) => old.names != after.names,
        } || (pattern_changed && known(old) != known(Some(after)));
        // The end of a look-up compares for everybody.
        let looked = self.remembered.checked == Some(at.image.offset) || self.is_looking_up(at);
        if looked && !resubscribed && !pattern_changed {
            return (self.epoch, self.metadata_hash);
        }
        let subscriptions = Subscriptions::of(self)
            .without(before.into_iter().chain(replaced))
            .with(after);
        self.forget_patterns(&subscriptions, at, draft);
        let hash = subscriptions.hash(at.image);
        if !resubscribed && hash == self.metadata_hash {
            draft.checked = Some(at.image.offset);
            return (self.epoch, hash);
        }
        (self.raise_epoch(hash, draft), hash)
    }

    /// Records the next epoch.
    pub(super) fn raise_epoch(&self, metadata_hash: i64, draft: &mut Draft) -> i32 {
        let epoch = self.epoch.saturating_add(1);
        draft.records.push(GroupRecord::ConsumerGroup {
            group: self.id.clone(),
            value: Some(EpochValue {
                epoch,
                metadata_hash,
            }),
        });
        epoch
    }

    /// What the member is to own and since which epoch; runs the assignor where that is due. What
    /// it finds and no batch holds is left out: the last target stays.
    fn next_target(
        &self,
        of: TargetOf,
        replaced: Option<&Member>,
        after: &Member,
        at: &Moment<'_>,
        draft: &mut Draft,
    ) -> (i32, PartitionSet) {
        let (epoch, _) = of;
        let place = replaced.map_or(&after.id, |replaced| &replaced.id);
        let nothing = PartitionSet::default();
        let old_of = |id: &Str| self.targets.get(id).unwrap_or(&nothing);
        let is_new = replaced.is_none() && !self.members.contains_key(&after.id);
        if is_new && self.was_too_large(of, at) {
            // Let in without a target, it would have all others refused theirs.
            draft.too_large = Some(of);
            return (self.target_epoch, nothing);
        }
        let last = |draft: &mut Draft| {
            let target = old_of(place).clone();
            if replaced.is_some() {
                draft.records.push(self.target_record(&after.id, &target));
            }
            (self.target_epoch, target)
        };
        if epoch <= self.target_epoch || !self.may_assign(at) {
            return last(draft);
        }
        if self.is_too_large(of, at) {
            draft.too_large = Some(of);
            return last(draft);
        }
        let kept = draft.records.len();
        let others = self
            .members()
            .filter(|member| member.id != after.id && member.id != *place);
        let mut members: Vec<(&Member, &PartitionSet)> =
            others.map(|member| (member, old_of(&member.id))).collect();
        members.push((after, old_of(place)));
        members.sort_by(|one, other| one.0.id.cmp(&other.0.id));
        let mut own = PartitionSet::default();
        for ((member, old), target) in members.iter().zip(self.assign(&members, at)) {
            let is_own = member.id == after.id;
            if target != **old || (is_own && replaced.is_some()) {
                draft.records.push(self.target_record(&member.id, &target));
            }
            if is_own {
                own = target;
            }
        }
        draft.records.push(GroupRecord::TargetEpoch {
            group: self.id.clone(),
            value: Some(TargetAssignmentEpochValue {
                assignment_epoch: epoch,
                assignment_timestamp: at.now.value(),
            }),
        });
        if !draft.fits(at.max_batch_bytes) {
            draft.too_large = Some(of);
            draft.records.truncate(kept);
            return last(draft);
        }
        (epoch, own)
    }

    /// Removes all that is recorded of a member, and its timers.
    pub(super) fn forget(&self, member: &Str, draft: &mut Draft) {
        let group = || self.id.clone();
        let member = || member.clone();
        draft.records.extend([
            GroupRecord::Current {
                group: group(),
                member: member(),
                value: None,
            },
            GroupRecord::Target {
                group: group(),
                member: member(),
                value: None,
            },
            GroupRecord::Member {
                group: group(),
                member: member(),
                value: None,
            },
        ]);
        draft.cancel(self.session_key(&member()));
        draft.cancel(self.rebalance_key(&member()));
        draft.cancel(self.sync_key(&member()));
    }

    pub(super) fn owner(&self, topic: TopicId, partition: i32) -> Option<&Str> {
        self.owners.get(&(topic, partition))
    }

    pub(super) fn member_record(&self, member: &Member) -> GroupRecord {
        GroupRecord::Member {
            group: self.id.clone(),
            member: member.id.clone(),
            value: Some(member.value()),
        }
    }

    pub(super) fn current_record(&self, member: &Member) -> GroupRecord {
        GroupRecord::Current {
            group: self.id.clone(),
            member: member.id.clone(),
            value: Some(member.progress()),
        }
    }

    pub(super) fn target_record(&self, member: &Str, target: &PartitionSet) -> GroupRecord {
        let topic_partitions = target
            .topics()
            .map(|(topic_id, partitions)| TargetPartitions {
                topic_id,
                partitions: partitions.to_vec(),
            })
            .collect();
        GroupRecord::Target {
            group: self.id.clone(),
            member: member.clone(),
            value: Some(TargetAssignmentValue { topic_partitions }),
        }
    }

    pub(super) fn no_regex_record(&self, pattern: Str) -> GroupRecord {
        GroupRecord::Regex {
            group: self.id.clone(),
            regex: pattern,
            value: None,
        }
    }

    pub(super) fn session_key(&self, member: &Str) -> TimerKey {
        TimerKey::Session {
            group: self.id.clone(),
            member: member.clone(),
        }
    }

    pub(super) fn rebalance_key(&self, member: &Str) -> TimerKey {
        TimerKey::Rebalance {
            group: self.id.clone(),
            member: member.clone(),
        }
    }

    pub(super) fn sync_key(&self, member: &Str) -> TimerKey {
        TimerKey::MemberSync {
            group: self.id.clone(),
            member: member.clone(),
        }
    }
}
