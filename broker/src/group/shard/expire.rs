//! Offsets and groups that are no longer used (coordination.md §3), and those of deleted topics.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use palisade_protocol::types::TimestampMs;
use palisade_protocol::{Str, Uuid};

use super::{Entry, Group, Shard};
use crate::group::classic::{ExpiryBase, InUse};
use crate::group::config::GroupConfig;
use crate::group::offsets::{Committed, tombstone};
use crate::group::record::GroupRecord;
use crate::group::step::{Moment, Step};

impl Shard {
    /// Deletes what of a group has been kept long enough, and the group if nothing is left.
    pub(crate) fn expire(&self, id: &Str, moment: &Moment<'_>) -> Step {
        let Some(entry) = self.groups.get(id.as_str()) else {
            return Step::none();
        };
        let ((base, in_use), group) = match &entry.group {
            Group::Classic(group) => {
                let gone = group.is_empty().then(|| vec![group_tombstone(id)]);
                (group.expiry(), gone)
            }
            Group::Consumer(group) => {
                let in_use = InUse::Topics(group.subscribed_topics());
                ((ExpiryBase::Commit, in_use), group.delete())
            }
        };
        let is_due = Due {
            base,
            in_use,
            now: moment.now,
            config: moment.config,
        };
        let rows = entry.offsets.sorted(&self.topics);
        let due = rows
            .iter()
            .filter(|(topic, _, one)| is_due.test(topic, one));
        let mut records: Vec<_> = due
            .map(|(topic, partition, _)| tombstone(id, topic, *partition))
            .collect();
        if let Some(group) = group
            && records.len() == entry.offsets.len()
        {
            records.extend(group);
        }
        Step {
            records,
            divisible: true,
            ..Step::default()
        }
    }

    /// Whether some group has an offset in a topic of this name.
    pub(crate) fn has_offsets_in(&self, name: &str) -> bool {
        self.topics.number(name).is_some()
    }

    /// How many offsets a group has.
    pub(crate) fn offsets_of(&self, id: &Str) -> usize {
        let entry = self.groups.get(id.as_str());
        entry.map_or(0, |entry| entry.offsets.len())
    }

    /// Deletes a group's offsets in topics that are gone; a namesake's stay.
    pub(crate) fn drop_topics(&self, id: &Str, gone: &Gone) -> Step {
        let Some(Entry { offsets, .. }) = self.groups.get(id.as_str()) else {
            return Step::none();
        };
        let rows = offsets.rows(&self.topics);
        let rows = rows.filter(|(topic, _, one)| gone.has(topic, one));
        Step {
            records: rows
                .map(|(topic, partition, _)| tombstone(id, topic, partition))
                .collect(),
            divisible: true,
            ..Step::default()
        }
    }
}

/// Topics that were deleted, by name; of one name several may be.
#[derive(Debug, Default)]
pub(crate) struct Gone(HashMap<Arc<str>, HashSet<Uuid>>);

impl Gone {
    /// Whether an offset is of one of them, as far as it says of which topic it is.
    fn has(&self, topic: &str, committed: &Committed) -> bool {
        let id = committed.topic_id;
        let ids = self.0.get(topic);
        ids.is_some_and(|ids| id.is_nil() || ids.contains(&id))
    }
}

impl FromIterator<(Arc<str>, Uuid)> for Gone {
    fn from_iter<T: IntoIterator<Item = (Arc<str>, Uuid)>>(topics: T) -> Self {
        let mut gone = Self::default();
        for (name, id) in topics {
            gone.0.entry(name).or_default().insert(id);
        }
        gone
    }
}

/// The record that deletes a classic group.
pub(super) fn group_tombstone(id: &Str) -> GroupRecord {
    GroupRecord::Group {
        group: id.clone(),
        value: None,
    }
}

/// The rule by which offsets of one group expire.
struct Due<'a> {
    base: ExpiryBase,
    in_use: InUse,
    now: TimestampMs,
    config: &'a GroupConfig,
}

impl Due<'_> {
    fn test(&self, topic: &str, committed: &Committed) -> bool {
        if self.in_use.contains(topic) {
            return false;
        }
        let base = match self.base {
            ExpiryBase::Never => return false,
            ExpiryBase::Commit => TimestampMs::new(committed.commit_timestamp),
            ExpiryBase::Instant(instant) => instant,
        };
        if committed.expire_timestamp >= 0 {
            return self.now.value() >= committed.expire_timestamp;
        }
        let kept = i64::try_from(self.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        self.now.millis_since(base) >= kept
    }
}
