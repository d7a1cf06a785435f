//! Running the assignor over a whole group.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use palisade_protocol::Str;
use palisade_protocol::types::TopicId;

use super::decide::Draft;
#[cfg(test)]
use super::sum::LOOKED_AT;
use super::{ConsumerGroup, Member, Moment, TargetOf};
use crate::foreign;
use crate::group::assignor::{Assignor, AssignorMember};
use crate::group::config::ConsumerGroupConfig;
use crate::group::error::GroupError;
use crate::group::partitions::PartitionSet;
use crate::logging::Throttle;
use crate::metadata::ClusterImage;

/// How long a target that no batch holds is not made again, unless it would be another.
const RETRY: Duration = Duration::from_secs(10);

// How often an assignor ran in this thread.
#[cfg(test)]
thread_local!(pub(super) static ASSIGNED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

/// What a member subscribes to: names, and an expression.
type Wish<'a> = (&'a BTreeSet<Str>, Option<&'a Str>);

impl ConsumerGroup {
    /// Whether the assignor may run again; it waits between runs, so that many joins cost one, and
    /// longer if it took long.
    pub(super) fn may_assign(&self, at: &Moment<'_>) -> bool {
        let since = at.now.millis_since(self.target_timestamp);
        let wait = i64::try_from(at.config.assignment_interval.as_millis()).unwrap_or(i64::MAX);
        // A clock that went back would otherwise stop the group for as long as it went.
        (since >= wait || since < 0) && self.remembered.pace.is_due()
    }

    /// Whether this target was made a moment ago, and no batch would have held it.
    pub(super) fn is_too_large(&self, of: TargetOf, at: &Moment<'_>) -> bool {
        self.remembered.too_large.is_some_and(|(known, when)| {
            let age = u128::try_from(at.now.millis_since(when));
            known == of && age.is_ok_and(|age| age < RETRY.as_millis())
        })
    }

    /// Whether no batch would have held this target when it was last made, and the assignor has to
    /// wait before it may make another.
    pub(super) fn was_too_large(&self, of: TargetOf, at: &Moment<'_>) -> bool {
        let known = self.remembered.too_large;
        let must_wait = || self.is_too_large(of, at) || !self.remembered.pace.is_due();
        known.is_some_and(|(known, _)| known == of) && must_wait()
    }

    /// Remembers a target that should have been made and that no batch holds.
    ///
    /// # Errors
    /// As the log would, where it should have been made for what the request brings. All others go
    /// on with the last one, or else one that comes too much would end them all.
    pub(super) fn note_target(&mut self, draft: &Draft, at: &Moment<'_>) -> Result<(), GroupError> {
        let Some(of) = draft.too_large else {
            return Ok(());
        };
        if !self.is_too_large(of, at) {
            self.remembered.too_large = Some((of, at.now));
            if !draft.is_refused {
                self.tell_too_large(at);
            }
        }
        if !draft.is_refused {
            return Ok(());
        }
        let (id, most) = (foreign::name(&self.id), at.max_batch_bytes);
        Err(GroupError::Unknown(format!(
            "Group {id} keeps its assignment: the records of the next one are larger than a batch \
             of {most} bytes."
        )))
    }

    /// Who goes on hears nothing of it.
    fn tell_too_large(&self, at: &Moment<'_>) {
        static SAID: Throttle = Throttle::new();
        if SAID.may_speak() {
            let (group, most) = (self.id.as_str(), at.max_batch_bytes);
            tracing::warn!(?group, most, "next assignment larger than a batch");
        }
    }

    /// The topics a member subscribes to, as ids of topics that exist, ascending.
    fn subscribed_ids(&self, member: &Member, image: &ClusterImage) -> Vec<TopicId> {
        let resolved = self.resolved_topics(member.pattern.as_ref());
        let names = member.names.iter().chain(resolved.into_iter().flatten());
        let look_up = |name| {
            #[cfg(test)]
            LOOKED_AT.set(LOOKED_AT.get() + 1);
            Some(image.topics.get(name)?.id)
        };
        let ids: BTreeSet<TopicId> = names.filter_map(|name: &Str| look_up(name)).collect();
        ids.into_iter().collect()
    }

    /// What each of these members is to own.
    ///
    /// `members`: everyone, with what each was to own before.
    pub(super) fn assign(
        &self,
        members: &[(&Member, &PartitionSet)],
        at: &Moment<'_>,
    ) -> Vec<PartitionSet> {
        #[cfg(test)]
        ASSIGNED.set(ASSIGNED.get() + 1);
        let assign = || self.run_assignor(members, at);
        self.remembered.pace.run(assign)
    }

    fn run_assignor(
        &self,
        members: &[(&Member, &PartitionSet)],
        at: &Moment<'_>,
    ) -> Vec<PartitionSet> {
        let mut lists: HashMap<Wish<'_>, Arc<[TopicId]>> = HashMap::new();
        let seen: Vec<AssignorMember<'_>> = members
            .iter()
            .map(|(member, owned)| {
                let topics = lists
                    .entry((&*member.names, member.pattern.as_ref()))
                    .or_insert_with(|| self.subscribed_ids(member, at.image).into());
                AssignorMember {
                    id: &member.id,
                    instance_id: member.instance_id.as_deref(),
                    topics: Arc::clone(topics),
                    owned,
                }
            })
            .collect();
        let ids: BTreeSet<TopicId> = lists
            .values()
            .flat_map(|list| list.iter().copied())
            .collect();
        let partitions: BTreeMap<TopicId, i32> = ids
            .into_iter()
            .filter_map(|id| {
                let count = at.image.topics.by_id(id)?.partitions.len();
                Some((id, i32::try_from(count).unwrap_or(i32::MAX)))
            })
            .collect();
        preferred(members.iter().map(|(member, _)| *member), at.config).assign(&seen, &partitions)
    }
}

/// The assignor that most members name, those that name none not counted; of several that are
/// named alike the one that the configuration names first.
pub(super) fn preferred<'a>(
    members: impl Iterator<Item = &'a Member>,
    config: &ConsumerGroupConfig,
) -> Assignor {
    let mut votes: HashMap<&str, usize> = HashMap::new();
    for name in members.filter_map(|member| member.assignor.as_deref()) {
        *votes.entry(name).or_default() += 1;
    }
    let mut best = (Assignor::Uniform, None);
    for name in &config.assignors {
        let Some(assignor) = Assignor::parse(name) else {
            continue;
        };
        let count = votes.get(assignor.name()).copied().unwrap_or(0);
        if best.1.is_none_or(|most| count > most) {
            best = (assignor, Some(count));
        }
    }
    best.0
}
