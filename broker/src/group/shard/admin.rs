//! What operators ask: lists, descriptions, deletions.

use palisade_protocol::{ErrorCode, Str};

use super::expire::group_tombstone;
use super::{Group, Shard};
use crate::foreign;
use crate::group::classic::{Description, InUse, State};
use crate::group::consumer::GroupState;
use crate::group::decision::Decision;
use crate::group::error::GroupError;
use crate::group::offsets::tombstone;
use crate::group::step::{Asker, Step, deliver};

const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";

/// A group in a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListedGroup {
    /// Its id.
    pub(crate) id: Str,
    /// Its protocol type.
    pub(crate) protocol_type: Str,
    /// Its state.
    pub(crate) state: &'static str,
    /// `classic` or `consumer`.
    pub(crate) kind: &'static str,
}

impl ListedGroup {
    /// Every state that a group of either kind can be in.
    pub(crate) const STATES: [&'static str; 6] = [
        State::Empty.name(),
        State::PreparingRebalance.name(),
        State::CompletingRebalance.name(),
        State::Stable.name(),
        GroupState::Assigning.name(),
        GroupState::Reconciling.name(),
    ];
    /// Every kind.
    pub(crate) const KINDS: [&'static str; 2] = [CLASSIC, CONSUMER];
}

/// A group as DescribeGroups sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GroupView {
    /// A classic group.
    Classic(Description),
    /// None, with why.
    Absent(String),
}

/// Partitions whose offsets are to be deleted, by topic.
pub(crate) type OffsetDeletion = Vec<(Str, Vec<i32>)>;

impl Shard {
    /// Every group.
    pub(crate) fn list(&self) -> Vec<ListedGroup> {
        let groups = self.groups.iter().map(|(id, entry)| match &entry.group {
            Group::Classic(group) => ListedGroup {
                id: id.clone(),
                protocol_type: Str::copy(group.protocol_type()),
                state: group.state().name(),
                kind: CLASSIC,
            },
            Group::Consumer(group) => ListedGroup {
                id: id.clone(),
                protocol_type: Str::from_static("consumer"),
                state: group.state().name(),
                kind: CONSUMER,
            },
        });
        groups.collect()
    }

    /// One group.
    pub(crate) fn describe(&self, id: &Str) -> GroupView {
        match self.groups.get(id.as_str()).map(|entry| &entry.group) {
            Some(Group::Classic(group)) => GroupView::Classic(group.describe()),
            Some(Group::Consumer(_)) => {
                let id = foreign::name(id);
                GroupView::Absent(format!("Group {id} is not a classic group."))
            }
            None => GroupView::Absent(GroupError::group_not_found(id).to_string()),
        }
    }

    /// Deletes an empty group with everything it committed.
    pub(crate) fn delete_group(&self, id: &Str, asker: Asker<Result<(), GroupError>>) -> Step {
        let refused = |asker, error| Step::decided(Decision::refuse(error), asker);
        let Some(entry) = self.groups.get(id.as_str()) else {
            return refused(asker, GroupError::group_not_found(id));
        };
        let group = match &entry.group {
            Group::Classic(group) => group.is_empty().then(|| vec![group_tombstone(id)]),
            Group::Consumer(group) => group.delete(),
        };
        let Some(group) = group else {
            return refused(asker, GroupError::NonEmptyGroup);
        };
        let rows = entry.offsets.sorted(&self.topics).into_iter();
        let mut records: Vec<_> = rows
            .map(|(topic, partition, _)| tombstone(id, topic, partition))
            .collect();
        records.extend(group);
        Step {
            records,
            divisible: true,
            after: Some(Box::new(move |_, _, result| Step {
                deliveries: vec![deliver(asker, result)],
                ..Step::default()
            })),
            ..Step::default()
        }
    }

    /// Deletes offsets of topics that no member consumes; one code for all partitions of a topic.
    pub(crate) fn delete_offsets(
        &self,
        id: &Str,
        asked: OffsetDeletion,
    ) -> Decision<Vec<ErrorCode>> {
        let Some(entry) = self.groups.get(id.as_str()) else {
            return Decision::refuse(GroupError::group_not_found(id));
        };
        let in_use = match &entry.group {
            Group::Classic(group) => group.topics_in_use(),
            Group::Consumer(group) => Ok(InUse::Topics(group.subscribed_topics())),
        };
        let in_use = match in_use {
            Ok(in_use) => in_use,
            Err(error) => return Decision::refuse(error),
        };
        let mut decision = Decision::answer(Vec::new());
        let mut codes = Vec::with_capacity(asked.len());
        for (topic, partitions) in asked {
            if in_use.contains(&topic) {
                codes.push(GroupError::SubscribedToTopic.code());
                continue;
            }
            codes.push(ErrorCode::NONE);
            for partition in partitions {
                if entry.offsets.get(&self.topics, &topic, partition).is_some() {
                    decision.records.push(tombstone(id, &topic, partition));
                }
            }
        }
        decision.answer = Ok(codes);
        decision
    }
}
