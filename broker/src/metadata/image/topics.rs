//! Topics and partitions.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet, Vector};
use palisade_protocol::types::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};

use super::ConfigMap;
use crate::metadata::topic_name;

/// One topic with all its partitions and settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Random id; a topic created again has another one.
    pub id: TopicId,
    /// Name.
    pub name: Arc<str>,
    /// Partitions by index, without gaps; a persistent vector, so that a change copies little.
    pub partitions: Vector<PartitionImage>,
    /// Settings of this topic, texts as set.
    pub config: ConfigMap,
}

impl TopicImage {
    /// A partition by index; `None` for negative and unknown ones.
    #[must_use]
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(index.value()).ok()?)
    }

    /// Replicas of the first partition: what tools show as the topic's replication factor.
    #[must_use]
    pub fn replication_factor(&self) -> usize {
        self.partitions
            .front()
            .map_or(0, |partition| partition.replicas.len())
    }

    /// Whether the broker keeps its own state in this topic (records.md §2).
    #[must_use]
    pub fn is_internal(&self) -> bool {
        topic_name::is_internal(&self.name)
    }
}

/// One partition (replication.md §1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    /// Leader; `None` while no in-sync replica is live.
    pub leader: Option<BrokerId>,
    /// Grows whenever the leader is set or re-set.
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change of the partition.
    pub partition_epoch: i32,
    /// Ordered assignment; the first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// Committed in-sync set.
    pub isr: Vec<BrokerId>,
}

/// Topics by name and by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicsImage {
    pub(in crate::metadata) by_name: OrdMap<Arc<str>, Arc<TopicImage>>,
    pub(in crate::metadata) names: OrdMap<TopicId, Arc<str>>,
    /// Names with '.' read as '_', to the names that read so: such names collide. One request may
    /// create two of them, as in the reference.
    pub(in crate::metadata) normalized: OrdMap<Arc<str>, OrdSet<Arc<str>>>,
}

impl TopicsImage {
    /// A topic by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_name.get(name)
    }

    /// A topic by id.
    #[must_use]
    pub fn by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.by_name.get(self.names.get(&id)?)
    }

    /// A partition of a topic by names.
    #[must_use]
    pub fn partition(&self, name: &str, index: PartitionIndex) -> Option<&PartitionImage> {
        self.get(name)?.partition(index)
    }

    /// Every topic, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.values()
    }

    /// Topics from this name on, by name.
    pub fn starting_at(&self, name: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        let from = (Bound::Included(name), Bound::Unbounded);
        self.by_name.range::<_, str>(from).map(|(_, topic)| topic)
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no topic.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// An existing topic whose name differs from this one only in '.' against '_'.
    #[must_use]
    pub fn colliding(&self, name: &str) -> Option<&Arc<str>> {
        self.normalized
            .get(topic_name::normalized(name).as_ref())?
            .get_min()
    }

    /// Puts a new topic in; the caller has checked that name and id are free.
    pub(in crate::metadata) fn insert(&mut self, topic: Arc<TopicImage>) {
        let name = Arc::clone(&topic.name);
        self.names.insert(topic.id, Arc::clone(&name));
        let normalized = topic_name::normalized(&name);
        self.normalized
            .entry(Arc::from(normalized.as_ref()))
            .or_default()
            .insert(Arc::clone(&name));
        self.by_name.insert(name, topic);
    }

    /// A topic to change; copied first where another image shares it.
    pub(in crate::metadata) fn by_name_mut(&mut self, name: &str) -> Option<&mut TopicImage> {
        self.by_name.get_mut(name).map(Arc::make_mut)
    }

    /// A topic to change, by id.
    pub(in crate::metadata) fn by_id_mut(&mut self, id: TopicId) -> Option<&mut TopicImage> {
        let name = self.names.get(&id)?;
        self.by_name.get_mut(name).map(Arc::make_mut)
    }

    pub(in crate::metadata) fn remove(&mut self, id: TopicId) -> Option<Arc<TopicImage>> {
        let name = self.names.remove(&id)?;
        let normalized = topic_name::normalized(&name);
        if let Some(names) = self.normalized.get_mut(normalized.as_ref()) {
            names.remove(&name);
            if names.is_empty() {
                self.normalized.remove(normalized.as_ref());
            }
        }
        self.by_name.remove(&name)
    }
}
