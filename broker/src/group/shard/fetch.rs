//! OffsetFetch (coordination.md §3).

use std::sync::Arc;

use palisade_protocol::{Str, Uuid};

use super::{Group, Shard};
use crate::group::decision::Decision;
use crate::group::offsets::Committed;

/// What is asked of one group.
#[derive(Clone, Debug)]
pub(crate) enum FetchAsk {
    /// Everything that is committed.
    All,
    /// These partitions; with an id, offsets stored under another id do not count.
    Topics(Vec<(Str, Option<Uuid>, Vec<i32>)>),
}

impl FetchAsk {
    /// How many partitions are named.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Topics(topics) => topics
                .iter()
                .map(|(_, _, partitions)| partitions.len())
                .sum(),
        }
    }
}

/// Who asks, for groups that know their members.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    /// The member's id, where it is named.
    pub(crate) member_id: Option<Str>,
    /// Its epoch; negative for none.
    pub(crate) epoch: i32,
}

impl Fetcher {
    /// Nobody in particular.
    #[cfg(test)]
    pub(crate) const NOBODY: Self = Self {
        member_id: None,
        epoch: -1,
    };
}

/// The offsets of one topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FetchedTopic {
    /// Its name.
    pub(crate) name: Str,
    /// Its partitions.
    pub(crate) partitions: Vec<FetchedOffset>,
}

/// Where a group is in one partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FetchedOffset {
    /// The partition.
    pub(crate) partition: i32,
    /// The next offset to consume; -1 for none.
    pub(crate) offset: i64,
    /// The leader epoch of the last consumed record; -1 for none.
    pub(crate) leader_epoch: i32,
    /// The client's own text, `None` when empty; shared, since nobody knows when it will be read.
    pub(crate) metadata: Option<Arc<str>>,
    /// The topic's id when it was committed; zero when not known.
    pub(crate) topic_id: Uuid,
}

impl FetchedOffset {
    fn of(partition: i32, committed: Option<&Committed>) -> Self {
        match committed {
            Some(committed) => Self {
                partition,
                offset: committed.offset,
                leader_epoch: committed.leader_epoch,
                metadata: committed.metadata.clone(),
                topic_id: committed.topic_id,
            },
            None => Self {
                partition,
                offset: -1,
                leader_epoch: -1,
                metadata: None,
                topic_id: Uuid::NIL,
            },
        }
    }
}

impl Shard {
    /// Where a group is; an unknown one is nowhere.
    pub(crate) fn fetch(
        &self,
        id: &Str,
        fetcher: &Fetcher,
        ask: FetchAsk,
    ) -> Decision<Vec<FetchedTopic>> {
        let entry = self.groups.get(id.as_str());
        if let Some(Group::Consumer(group)) = entry.map(|entry| &entry.group)
            && let Err(error) = group.check_fetch(fetcher.member_id.as_deref(), fetcher.epoch)
        {
            return Decision::refuse(error);
        }
        let asked = match ask {
            FetchAsk::Topics(asked) => asked,
            FetchAsk::All => return Decision::answer(self.all_offsets(id)),
        };
        let topics = asked.into_iter().map(|(name, topic_id, partitions)| {
            let partitions = partitions.into_iter().map(|partition| {
                let found =
                    entry.and_then(|entry| entry.offsets.get(&self.topics, &name, partition));
                let found = found.filter(|one| is_of(one, topic_id));
                FetchedOffset::of(partition, found)
            });
            let partitions = partitions.collect();
            FetchedTopic { name, partitions }
        });
        Decision::answer(topics.collect())
    }

    fn all_offsets(&self, id: &Str) -> Vec<FetchedTopic> {
        let mut topics: Vec<FetchedTopic> = Vec::new();
        let Some(entry) = self.groups.get(id.as_str()) else {
            return topics;
        };
        for (name, partition, committed) in entry.offsets.sorted(&self.topics) {
            let row = FetchedOffset::of(partition, Some(committed));
            match topics.last_mut().filter(|topic| topic.name == name) {
                Some(topic) => topic.partitions.push(row),
                None => topics.push(FetchedTopic {
                    name: Str::copy(name),
                    partitions: vec![row],
                }),
            }
        }
        topics
    }
}

/// Whether an offset was committed for the topic of this id, as far as is known.
fn is_of(committed: &Committed, topic_id: Option<Uuid>) -> bool {
    topic_id.is_none_or(|id| committed.topic_id.is_nil() || committed.topic_id == id)
}
