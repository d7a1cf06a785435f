//! The coordinator as handlers see it: finds the shard of a group and waits for its answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use palisade_protocol::types::{BrokerId, LeaderEpoch, Offset, PartitionIndex};
use palisade_protocol::{Str, Uuid};
use palisade_storage::failpoint;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::budget::Budget;
use super::config::GroupConfig;
use super::error::GroupError;
use super::expressions::Expressions;
use super::runtime::{Command, Phase, Runner, ShardHandle};
use super::shard::Shard;
use super::step::{Asker, Moment, Step, Verdict};
use super::write::refusal;
use crate::clock::Clock;
use crate::config::Config;
use crate::metadata::{
    ClusterDelta, ClusterImage, ImageListener, Internal, MetadataHandle, TopicImage,
};
use crate::partition::ReplicaManager;
use crate::shutdown::{Shutdown, Stage};
use crate::task;

/// The topic in which groups are kept.
pub(crate) const TOPIC: &str = "__consumer_offsets";

/// How long nobody has the topic made after that failed: whoever may describe a group asks for it,
/// as often as he likes.
const TOPIC_PAUSE: Duration = Duration::from_secs(1);

/// The group coordinator of this node.
pub(crate) struct GroupCoordinator {
    config: Arc<GroupConfig>,
    /// What members of all groups keep in memory.
    budget: Arc<Budget>,
    expressions: Expressions,
    node: BrokerId,
    topics: Arc<ReplicaManager>,
    metadata: MetadataHandle,
    shutdown: Shutdown,
    /// Tasks are spawned from the raft thread, which is not the runtime's.
    runtime: Handle,
    /// The shards led here, by partition.
    shards: RwLock<BTreeMap<PartitionIndex, Arc<ShardHandle>>>,
    /// Told whenever those have changed.
    reconciled: watch::Sender<()>,
    /// When the topic could not be made.
    not_made: Mutex<Option<Instant>>,
}

/// An answer that is on its way.
pub(crate) struct Awaited<T> {
    shard: Arc<ShardHandle>,
    answer: oneshot::Receiver<Verdict<T>>,
    config: Arc<GroupConfig>,
    shutdown: Shutdown,
}

impl GroupCoordinator {
    /// A coordinator without groups; it follows the metadata once it listens to it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(
        config: &Config,
        node: BrokerId,
        topics: Arc<ReplicaManager>,
        metadata: MetadataHandle,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        let config = GroupConfig::of(config);
        Self::with(config, node, topics, metadata, shutdown)
    }

    /// The same with settings of the caller's.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn with(
        config: GroupConfig,
        node: BrokerId,
        topics: Arc<ReplicaManager>,
        metadata: MetadataHandle,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(config.members_max_bytes),
            config: Arc::new(config),
            expressions: Expressions::new(shutdown.clone()),
            node,
            topics,
            metadata,
            shutdown,
            runtime: Handle::current(),
            shards: RwLock::new(BTreeMap::new()),
            reconciled: watch::Sender::new(()),
            not_made: Mutex::new(None),
        })
    }

    /// The settings of groups.
    pub(crate) fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// Where expressions are compiled and looked up.
    pub(crate) fn expressions(&self) -> &Expressions {
        &self.expressions
    }

    /// Whether the topic may be made: it did not fail a moment ago.
    pub(crate) fn may_make_topic(&self, now: Instant) -> bool {
        let failed = *self.not_made.lock();
        failed.is_none_or(|at| now.saturating_duration_since(at) >= TOPIC_PAUSE)
    }

    /// The topic could not be made.
    pub(crate) fn topic_not_made(&self, now: Instant) {
        *self.not_made.lock() = Some(now);
    }

    /// Waits until this node has taken up the groups of a partition that it leads; false when that
    /// is not so by `deadline`.
    ///
    /// The image names the leader before its shard is there: a partition that was just created is
    /// waited for, so that a first member is not told to look for its coordinator again.
    pub(crate) async fn wait_taken_up(&self, index: PartitionIndex, deadline: Instant) -> bool {
        let mut reconciled = self.reconciled.subscribe();
        let taken_up = reconciled.wait_for(|()| self.shards.read().contains_key(&index));
        tokio::time::timeout_at(deadline, taken_up).await.is_ok()
    }

    /// The shard that coordinates a group.
    ///
    /// # Errors
    /// `NotAvailable` while there is no topic, `NotCoordinator`, `Loading`.
    fn shard_of(&self, group: &str) -> Result<Arc<ShardHandle>, GroupError> {
        let image = self.metadata.image();
        let topic = image.topics.get(TOPIC).ok_or(GroupError::NotAvailable)?;
        let index = partition_of(group, topic.partitions.len());
        let Some(shard) = self.shards.read().get(&index).cloned() else {
            // The image is seen before its listeners have acted on it, which takes a while when
            // the topic is new and its logs are made: whoever was sent here is to stay.
            let leader = topic.partition(index).and_then(|one| one.leader);
            return Err(match leader == Some(self.node) {
                true => GroupError::Loading,
                false => GroupError::NotCoordinator,
            });
        };
        check_phase(&shard)?;
        Ok(shard)
    }

    /// Has an event happen to a group; what it leads to is sent to the asker it is given.
    ///
    /// Ordered: events of one connection and one group happen in the order of the calls.
    ///
    /// # Errors
    /// `NotAvailable`, `NotCoordinator`, `Loading`: nothing has happened.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        group: Str,
        event: impl FnOnce(&mut Shard, &Moment<'_>, Asker<T>) -> Step + Send + 'static,
    ) -> Result<Awaited<T>, GroupError> {
        self.ask_of(group, 0, event).await
    }

    /// As [`GroupCoordinator::ask`], for a request that names `rows` members, offsets or topics:
    /// many are looked at beside other tasks.
    ///
    /// # Errors
    /// As [`GroupCoordinator::ask`].
    pub(crate) async fn ask_of<T: Send + 'static>(
        &self,
        group: Str,
        rows: usize,
        event: impl FnOnce(&mut Shard, &Moment<'_>, Asker<T>) -> Step + Send + 'static,
    ) -> Result<Awaited<T>, GroupError> {
        let shard = self.shard_of(&group)?;
        self.send(shard, Some(group), rows, event).await
    }

    /// Has an event happen to every shard of this node that is read, each with a copy of it.
    ///
    /// # Errors
    /// `Loading` where one of them is not ready.
    pub(crate) async fn ask_all<T, E>(&self, event: E) -> Result<Vec<Awaited<T>>, GroupError>
    where
        T: Send + 'static,
        E: FnOnce(&mut Shard, &Moment<'_>, Asker<T>) -> Step + Clone + Send + 'static,
    {
        let shards: Vec<_> = self.shards.read().values().cloned().collect();
        let mut awaited = Vec::with_capacity(shards.len());
        for shard in shards {
            match check_phase(&shard) {
                Ok(()) => awaited.push(self.send(shard, None, 0, event.clone()).await?),
                // Whoever leads it now lists its groups; those of a log that does not read are
                // left out, as in the original: they would keep all others from being listed.
                Err(GroupError::NotCoordinator | GroupError::NotAvailable) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(awaited)
    }

    async fn send<T: Send + 'static>(
        &self,
        shard: Arc<ShardHandle>,
        group: Option<Str>,
        rows: usize,
        event: impl FnOnce(&mut Shard, &Moment<'_>, Asker<T>) -> Step + Send + 'static,
    ) -> Result<Awaited<T>, GroupError> {
        let (asker, answer) = oneshot::channel();
        let run =
            Box::new(move |shard: &mut Shard, moment: &Moment<'_>| event(shard, moment, asker));
        let sent = shard.mailbox.send(Command { group, rows, run }).await;
        sent.map_err(|_| GroupError::NotCoordinator)?;
        Ok(Awaited {
            shard,
            answer,
            config: Arc::clone(&self.config),
            shutdown: self.shutdown.clone(),
        })
    }

    /// Makes the shards what the image says.
    fn reconcile(&self, topic: Option<&TopicImage>) {
        let mut led: BTreeMap<PartitionIndex, (Uuid, LeaderEpoch)> = BTreeMap::new();
        if let Some(topic) = topic {
            for (index, partition) in (0_i32..).zip(topic.partitions.iter()) {
                if partition.leader == Some(self.node) {
                    let place = (topic.id, partition.leader_epoch);
                    led.insert(PartitionIndex::new(index), place);
                }
            }
        }
        let mut shards = self.shards.write();
        shards.retain(|index, shard| {
            let stays = led.get(index) == Some(&(shard.topic_id, shard.epoch));
            if !stays {
                shard.close();
            }
            stays
        });
        for (index, (topic_id, epoch)) in led {
            shards
                .entry(index)
                .and_modify(|shard| shard.retry())
                .or_insert_with(|| self.start(index, topic_id, epoch));
        }
        drop(shards);
        self.reconciled.send_replace(());
    }

    fn start(&self, index: PartitionIndex, topic_id: Uuid, epoch: LeaderEpoch) -> Arc<ShardHandle> {
        let (handle, events) = ShardHandle::new(index, topic_id, epoch);
        let topics = Arc::clone(&self.topics);
        let runner = Runner {
            handle: Arc::clone(&handle),
            open: Box::new(move || {
                let token = Internal::for_purpose("group coordinator");
                topics.own_partition(&token, TOPIC, index)
            }),
            events,
            config: Arc::clone(&self.config),
            budget: Arc::clone(&self.budget),
            metadata: self.metadata.clone(),
            clock: Clock,
            shutdown: self.shutdown.clone(),
        };
        let _inside = self.runtime.enter();
        task::spawn_in(self.shutdown.gate(), "group shard", runner.run());
        handle
    }
}

impl ImageListener for GroupCoordinator {
    fn changed(&self, delta: &ClusterDelta, image: &Arc<ClusterImage>) {
        // A test holds the shards back here, or lets them be.
        let _ = failpoint::hit("groups.before_take_up");
        let topic = image.topics.get(TOPIC);
        let mut touched = delta
            .topics_created
            .values()
            .chain(delta.topics_deleted.values());
        let changed = topic.is_some_and(|topic| delta.topics_changed.contains_key(&topic.id));
        if delta.reset || changed || touched.any(|topic| *topic.name == *TOPIC) {
            self.reconcile(topic.map(Arc::as_ref));
        }
        let deleted: Vec<_> = delta
            .topics_deleted
            .values()
            .map(|topic| (Arc::clone(&topic.name), topic.id))
            .collect();
        if !deleted.is_empty() {
            for shard in self.shards.read().values() {
                shard.topics_deleted(&deleted);
            }
        }
    }
}

impl<T> Awaited<T> {
    /// The answer, once everything that it depends on is replicated.
    ///
    /// An answer that was overtaken by a newer request of the same member never comes while the
    /// node runs, as in the original.
    ///
    /// # Errors
    /// `NotCoordinator` when the partition was lost meanwhile, `NotAvailable` when its replicas
    /// are too slow.
    pub(crate) async fn answer(self) -> Result<T, GroupError> {
        match self.answer.await {
            Ok(Verdict::Answer(answer, end)) => {
                replicated(&self.shard, end, &self.config).await?;
                Ok(answer)
            }
            Ok(Verdict::Forgotten) => {
                self.shutdown.reached(Stage::Draining).await;
                Err(GroupError::NotCoordinator)
            }
            Err(_) => Err(GroupError::NotCoordinator),
        }
    }
}

impl<T: Send + 'static> Awaited<T> {
    /// The same, and `note` sees the answer even if nobody waits for it any more: a change that is
    /// decided happens, whether or not its asker stays to hear of it.
    ///
    /// # Errors
    /// As [`Awaited::answer`].
    pub(crate) fn noted(
        self,
        note: impl FnOnce(&T) + Send + 'static,
    ) -> impl Future<Output = Result<T, GroupError>> + Send {
        let noted = task::spawn("group change", async move {
            let answer = self.answer().await?;
            note(&answer);
            Ok(answer)
        });
        async move { noted.await.unwrap_or(Err(GroupError::NotCoordinator)) }
    }
}

async fn replicated(
    shard: &ShardHandle,
    end: Offset,
    config: &GroupConfig,
) -> Result<(), GroupError> {
    let deadline = Instant::now() + config.commit_timeout;
    let partition = shard.partition().ok_or(GroupError::NotAvailable)?;
    let waited = partition.replicated(end, shard.epoch, deadline).await;
    waited.map_err(|error| refusal(&error))
}

fn check_phase(shard: &ShardHandle) -> Result<(), GroupError> {
    match shard.phase() {
        Phase::Active => Ok(()),
        Phase::Loading => Err(GroupError::Loading),
        Phase::Failed => Err(GroupError::NotAvailable),
        Phase::Closed => Err(GroupError::NotCoordinator),
    }
}

/// The partition of `__consumer_offsets` that a group belongs to: Java's hash of its name.
pub(crate) fn partition_of(group: &str, partitions: usize) -> PartitionIndex {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX).max(1);
    // The one number without a positive twin counts as 0.
    PartitionIndex::new(hash.checked_abs().unwrap_or(0) % partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_as_java_does() {
        for (group, partition) in [
            ("", 0),
            ("my-group", 12),
            ("polygenelubricants", 0),
            ("größe", 7),
            ("😀", 49),
            ("console-consumer-1", 24),
        ] {
            assert_eq!(partition_of(group, 50).value(), partition, "{group}");
        }
        // i32::MIN has no absolute value.
        assert_eq!(partition_of("polygenelubricants", 7).value(), 0);
    }
}
