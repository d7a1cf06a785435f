//! The only way a group changes: records, as decided or as read from the log.
//!
//! Compaction may keep a member's newer subscription behind its older progress, so pieces come in
//! any order, and a piece of an unknown member makes the member known.

use std::collections::BTreeMap;

use palisade_protocol::Str;
use palisade_protocol::types::{Offset, TimestampMs, TopicId};

use super::subscription::topics_of;
use super::{ConsumerGroup, Member, Resolved};
use crate::group::partitions::{OwnedPartitions, PartitionSet};
use crate::group::record::{
    CurrentAssignmentValue, GroupRecord, MemberValue, RegexValue, TargetAssignmentValue,
};

impl ConsumerGroup {
    /// Takes a record of this group over. Whoever holds the group drops it when its epoch is
    /// deleted; records of other kinds change nothing.
    pub(crate) fn replay(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::ConsumerGroup {
                value: Some(value), ..
            } => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
                self.remembered.checked = None;
            }
            GroupRecord::TargetEpoch {
                value: Some(value), ..
            } => {
                self.target_epoch = value.assignment_epoch;
                self.target_timestamp = TimestampMs::new(value.assignment_timestamp);
            }
            GroupRecord::Member { member, value, .. } => self.replay_member(member, value.as_ref()),
            GroupRecord::Target { member, value, .. } => self.replay_target(member, value.as_ref()),
            GroupRecord::Current { member, value, .. } => {
                self.replay_current(member, value.as_ref());
            }
            GroupRecord::Regex { regex, value, .. } => self.replay_regex(regex, value.as_ref()),
            GroupRecord::ConsumerGroup { value: None, .. }
            | GroupRecord::TargetEpoch { value: None, .. }
            | GroupRecord::PartitionMetadata { .. }
            | GroupRecord::Group { .. }
            | GroupRecord::Offset { .. } => {}
        }
        let names = self.names.len() + self.matched.len();
        self.kept_sum.bound(names);
    }

    fn replay_member(&mut self, id: &Str, value: Option<&MemberValue>) {
        self.remembered.checked = None;
        let old = self.members.remove(id);
        // Most of what a member says anew is said of other things.
        let keeps_names = value.is_some_and(|value| {
            let names = &value.subscribed_topic_names;
            old.as_ref().is_some_and(|old| old.names.iter().eq(names))
        });
        if let Some(old) = &old {
            for name in old.names.iter().filter(|_| !keeps_names) {
                if discount(&mut self.names, name) {
                    self.kept_sum.turn(name, &self.matched);
                }
            }
            if let Some(pattern) = &old.pattern {
                discount(&mut self.patterns, pattern);
                if !self.patterns.contains_key(pattern) && self.resolved.contains_key(pattern) {
                    self.unused.insert(pattern.clone());
                }
            }
            if let Some(instance) = &old.instance_id
                && self.instances.get(instance) == Some(id)
            {
                self.instances.remove(instance);
            }
        }
        let Some(value) = value else {
            self.remembered.asked_to_rejoin.remove(id);
            if let Some(old) = old {
                self.release(id, &old.assigned, &old.revoking);
            }
            return;
        };
        let mut member = old.unwrap_or_else(|| Member::new(id.detached()));
        let kept = keeps_names.then(|| member.names.clone());
        member.subscribe(value, kept);
        for name in member.names.iter().filter(|_| !keeps_names) {
            if count(&mut self.names, name) {
                self.kept_sum.turn(name, &self.matched);
            }
        }
        if let Some(pattern) = &member.pattern {
            count(&mut self.patterns, pattern);
            self.unused.remove(pattern);
        }
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    fn replay_target(&mut self, id: &Str, value: Option<&TargetAssignmentValue>) {
        let Some(value) = value else {
            self.targets.remove(id);
            return;
        };
        let mut target = PartitionSet::default();
        for topic in &value.topic_partitions {
            target.add(topic.topic_id, topic.partitions.iter().copied());
        }
        self.targets.insert(id.detached(), target);
    }

    fn replay_current(&mut self, id: &Str, value: Option<&CurrentAssignmentValue>) {
        let Some(mut member) = self.members.remove(id).or_else(|| {
            // The progress of a member that is already deleted is no member.
            value.map(|_| Member::new(id.detached()))
        }) else {
            return;
        };
        self.release(id, &member.assigned, &member.revoking);
        member.advance(value.unwrap_or(&CurrentAssignmentValue::default()));
        for (topic, partition, _) in member.assigned.iter().chain(member.revoking.iter()) {
            self.owners.insert((topic, partition), member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    /// Partitions are owned by nobody, unless another member has got them meanwhile.
    fn release(&mut self, id: &Str, assigned: &OwnedPartitions, revoking: &OwnedPartitions) {
        for (topic, partition, _) in assigned.iter().chain(revoking.iter()) {
            let place: (TopicId, i32) = (topic, partition);
            if self.owners.get(&place) == Some(id) {
                self.owners.remove(&place);
            }
        }
    }

    fn replay_regex(&mut self, regex: &Str, value: Option<&RegexValue>) {
        self.remembered.checked = None;
        if let Some(known) = self.resolved.get(regex) {
            for topic in topics_of(known) {
                if discount(&mut self.matched, topic) {
                    self.kept_sum.turn(topic, &self.names);
                }
            }
        }
        let Some(value) = value else {
            self.resolved.remove(regex);
            self.unused.remove(regex);
            return;
        };
        let resolved = Resolved {
            topics: value.topics.iter().map(Str::detached).collect(),
            version: Offset::new(value.metadata_version),
            timestamp: TimestampMs::new(value.timestamp),
            owner: self
                .resolved
                .get(regex)
                .and_then(|known| known.owner.clone()),
        };
        for topic in topics_of(&resolved) {
            if count(&mut self.matched, topic) {
                self.kept_sum.turn(topic, &self.names);
            }
        }
        let regex = regex.detached();
        if !self.patterns.contains_key(&regex) {
            self.unused.insert(regex.clone());
        }
        self.resolved.insert(regex, resolved);
    }
}

/// Counts one more; says whether it is the first.
fn count(counts: &mut BTreeMap<Str, usize>, name: &Str) -> bool {
    let count = counts.entry(name.clone()).or_default();
    *count += 1;
    *count == 1
}

/// Counts one less; says whether it was the last.
fn discount(counts: &mut BTreeMap<Str, usize>, name: &Str) -> bool {
    let Some(count) = counts.get_mut(name) else {
        return false;
    };
    *count -= 1;
    let was_last = *count == 0;
    if was_last {
        counts.remove(name);
    }
    was_last
}
