//! Opens, configures and deletes the partitions of this node as the metadata says.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use palisade_auth::grant::{Granted, OperationKind, Topic};
use palisade_protocol::types::{BrokerId, Offset, PartitionIndex, TimestampMs, TopicId};
use palisade_storage::{DISK_WAITERS, LogDir, StorageError};
use parking_lot::Mutex;
use tracing::{error, info};

use super::directory::Directory;
use super::error::PartitionError;
use super::failures::Failures;
use super::handle::Partition;
use super::hosted::{Failure, Hosted, HostedTopic, Slot};
use super::isr::Leadership;
use super::log_opening::{FoundLogs, Opened, Opening, Totals, open_all};
use super::opener::Opener;
use super::replica::Replica;
use super::settings::PartitionSettings;
use crate::metadata::{ClusterDelta, ClusterImage, PartitionImage, TopicImage};
use crate::shutdown::CallOff;

/// Reads a topic's settings out of its image.
pub type SettingsOf = Box<dyn Fn(&TopicImage) -> PartitionSettings + Send + Sync>;

/// All partitions of this node, by topic and index.
///
/// Changes come from the metadata alone, one delta at a time; requests read an immutable table.
pub struct ReplicaManager {
    node: BrokerId,
    directories: Vec<Arc<Directory>>,
    settings_of: SettingsOf,
    hosted: ArcSwap<Hosted>,
    /// One delta at a time; true once the directories are closed.
    applying: Mutex<bool>,
    found: Mutex<FoundLogs>,
    recovery_threads: usize,
    call_off: CallOff,
}

/// What the steps of one change hand on.
#[derive(Default)]
struct Work {
    /// Logs that were opened beforehand, by directory name.
    opened: HashMap<String, Opened>,
    failures: Failures,
}

impl ReplicaManager {
    /// Takes over open log directories; partitions appear with the first image.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn new(
        node: BrokerId,
        dirs: Vec<Arc<LogDir>>,
        settings_of: SettingsOf,
    ) -> Result<ReplicaManager, StorageError> {
        let opener = Arc::new(Opener::new());
        let directories: Vec<_> = dirs
            .into_iter()
            .map(|dir| Arc::new(Directory::new(dir, Arc::clone(&opener))))
            .collect();
        let found = FoundLogs::list(&directories)?;
        Ok(ReplicaManager {
            node,
            directories,
            settings_of,
            hosted: ArcSwap::from_pointee(Hosted::default()),
            applying: Mutex::new(false),
            found: Mutex::new(found),
            recovery_threads: 1,
            call_off: CallOff::default(),
        })
    }

    /// Opens the logs of a start on this many threads (`num.recovery.threads.per.data.dir`).
    #[must_use]
    pub fn with_recovery_threads(mut self, threads: usize) -> ReplicaManager {
        self.recovery_threads = threads;
        self
    }

    /// Opens no more logs of a start that is called off: it has no partitions then.
    #[must_use]
    pub fn with_call_off(mut self, call_off: CallOff) -> ReplicaManager {
        self.call_off = call_off;
        self
    }

    /// Opens one partition for what the grant allows, on the topic that the grant names.
    ///
    /// # Errors
    /// `NotHosted` where this node has no such replica, `Offline` where its log failed.
    pub fn partition<O: OperationKind>(
        &self,
        grant: &Granted<Topic, O>,
        index: PartitionIndex,
    ) -> Result<Partition<O>, PartitionError> {
        let hosted = self.hosted.load();
        let replica = hosted.replica(grant.name(), index)?;
        Ok(Partition::new(Arc::clone(replica)))
    }

    /// A replica of this node, for the broker's own work.
    ///
    /// # Errors
    /// `NotHosted`, `Offline`.
    pub(super) fn replica(
        &self,
        topic: &str,
        index: PartitionIndex,
    ) -> Result<Arc<Replica>, PartitionError> {
        self.hosted.load().replica(topic, index).cloned()
    }

    /// Makes the partitions of this node what `image` says; `delta` names what changed.
    ///
    /// Blocks while logs are opened. A log that cannot be opened is reported and answers
    /// `Offline`; the others go on. Once the node has closed its logs nothing happens.
    pub fn apply(&self, delta: &ClusterDelta, image: &ClusterImage, now: TimestampMs) {
        let is_closed = self.applying.lock();
        if *is_closed {
            return;
        }
        let mut hosted = Hosted::clone(&self.hosted.load());
        let mut work = Work::default();
        for topic in delta.topics_deleted.values() {
            remove_topic(&mut hosted, &topic.name, topic.id, &mut work.failures);
        }
        if delta.reset {
            remove_unknown(&mut hosted, image, &mut work.failures);
        }
        let starting = delta.reset && hosted.iter().next().is_none();
        work.opened = self.open_beforehand(&hosted, delta, image, starting, now);
        if starting && self.call_off.is_called_off() {
            // Nobody will ask for them, and none may be taken for missing or a stray.
            return;
        }
        for topic in delta.topics_created.values() {
            self.place_topic(&mut hosted, &mut work, topic, now);
        }
        for (id, change) in &delta.topics_changed {
            let Some(topic) = image.topics.by_id(*id) else {
                continue;
            };
            if !change.partitions.is_empty() {
                self.place_topic(&mut hosted, &mut work, topic, now);
            }
            if change.config && change.partitions.is_empty() {
                self.configure_topic(&hosted, topic);
            }
        }
        if delta.reset && image.is_bootstrapped() {
            self.found.lock().set_strays_aside(&hosted);
        }
        work.failures.tell();
        self.hosted.store(Arc::new(hosted));
    }

    /// The logs that are closed only because the system was short of something.
    pub fn waiting(&self) -> Vec<(TopicId, PartitionIndex)> {
        let hosted = self.hosted.load();
        let waiting = hosted.iter().flat_map(|(_, topic)| {
            let indexes = topic.waiting().map(PartitionIndex::new);
            indexes.map(|index| (topic.id, index))
        });
        waiting.collect()
    }

    /// Tries again to open a log that found the disk full or no file descriptor left; blocks.
    /// Answers whether it was opened; none is once the node has closed its logs.
    ///
    /// `image`: the one that was applied last.
    pub fn reopen(
        &self,
        image: &ClusterImage,
        topic: TopicId,
        index: PartitionIndex,
        now: TimestampMs,
    ) -> bool {
        let is_closed = self.applying.lock();
        if *is_closed {
            return false;
        }
        let mut hosted = Hosted::clone(&self.hosted.load());
        let Some(topic) = image.topics.by_id(topic) else {
            return false;
        };
        let Some(mut entry) = hosted.topic(&topic.name).map(|it| HostedTopic::clone(it)) else {
            return false;
        };
        let slot = usize::try_from(index.value())
            .ok()
            .filter(|_| entry.id == topic.id)
            .and_then(|slot| entry.slots.get_mut(slot));
        let (Some(slot), Some(partition)) = (slot, topic.partition(index)) else {
            return false;
        };
        if !matches!(slot, Slot::Failed(Failure::Passing)) {
            return false;
        }
        let mut work = Work::default();
        *slot = self.place(&mut work, topic, index, partition, slot.clone(), now);
        work.failures.tell();
        let opened = matches!(slot, Slot::Open(_));
        if opened {
            info!(topic = %topic.name, partition = %index, "log opened after all");
        }
        hosted.insert(Arc::clone(&topic.name), entry);
        self.hosted.store(Arc::new(hosted));
        opened
    }

    /// Waits for the change in work; after it no log is opened, deleted or set aside any more.
    pub(crate) fn stop_changing(&self) {
        *self.applying.lock() = true;
    }

    /// Every open replica, for the periodic work.
    pub(crate) fn replicas(&self) -> Vec<Arc<Replica>> {
        self.hosted.load().replicas().cloned().collect()
    }

    /// The log directories.
    pub(crate) fn directories(&self) -> &[Arc<Directory>] {
        &self.directories
    }

    /// Opens what is assigned here and gives every replica its role.
    fn place_topic(
        &self,
        hosted: &mut Hosted,
        work: &mut Work,
        topic: &Arc<TopicImage>,
        now: TimestampMs,
    ) {
        let before = match hosted.topic(&topic.name) {
            Some(present) if present.id == topic.id => present.slots.clone(),
            Some(_) => {
                // The deletion of its namesake is part of the same delta or of an earlier one.
                remove_namesake(hosted, &topic.name, &mut work.failures);
                Vec::new()
            }
            None => Vec::new(),
        };
        let mut slots = Vec::with_capacity(topic.partitions.len());
        for (index, partition) in (0_i32..).zip(topic.partitions.iter()) {
            let index = PartitionIndex::new(index);
            let present = before.get(slots.len()).cloned().unwrap_or(Slot::Absent);
            slots.push(self.place(work, topic, index, partition, present, now));
        }
        let entry = HostedTopic {
            id: topic.id,
            slots,
        };
        hosted.insert(Arc::clone(&topic.name), entry);
        // How a log is flushed depends on how many replicas there are.
        self.configure_topic(hosted, topic);
    }

    fn place(
        &self,
        work: &mut Work,
        topic: &Arc<TopicImage>,
        index: PartitionIndex,
        partition: &PartitionImage,
        present: Slot,
        now: TimestampMs,
    ) -> Slot {
        if !partition.replicas.contains(&self.node) {
            if let Slot::Open(replica) = &present {
                remove_replica(replica, &mut work.failures);
            }
            return Slot::Absent;
        }
        let replica = match present.clone() {
            Slot::Open(replica) => replica,
            Slot::Absent | Slot::Failed(_) => match self.open(work, topic, index, now) {
                Ok(replica) => replica,
                // Why was told when it was found, and this is tried at each change of the topic.
                Err(PartitionError::Offline) => return Slot::Failed(Failure::Lasting),
                Err(error) => {
                    let failure = Failure::of(&error);
                    // One that is tried again and again is told of once.
                    if !matches!(present, Slot::Failed(before) if before == failure) {
                        work.failures.not_opened(&topic.name, index, &error);
                    }
                    return Slot::Failed(failure);
                }
            },
        };
        let leadership = Leadership {
            leader: partition.leader,
            is_leader: partition.leader == Some(self.node),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas.clone(),
            isr: partition.isr.clone(),
            expanding: None,
            epoch_start: Offset::ZERO,
        };
        if let Err(error) = replica.apply(leadership) {
            error!(topic = %topic.name, partition = %index, %error, "leader epoch not entered");
        }
        Slot::Open(replica)
    }

    /// Opens the logs that a delta adds side by side: each waits for the disk several times, and
    /// what changes next waits for all of them.
    fn open_beforehand(
        &self,
        hosted: &Hosted,
        delta: &ClusterDelta,
        image: &ClusterImage,
        starting: bool,
        now: TimestampMs,
    ) -> HashMap<String, Opened> {
        let changed = delta.topics_changed.iter();
        let grown = changed
            .filter(|(_, change)| !change.partitions.is_empty())
            .filter_map(|(id, _)| image.topics.by_id(*id));
        let openings = delta
            .topics_created
            .values()
            .chain(grown)
            .flat_map(|topic| self.missing(hosted, topic))
            .collect();
        let never = CallOff::default();
        let (threads, call_off) = match starting {
            true => (self.recovery_threads, &self.call_off),
            false => (DISK_WAITERS, &never),
        };
        let began = Instant::now();
        let (opened, totals) = open_all(openings, &self.found, threads, call_off, now);
        if starting && !call_off.is_called_off() {
            totals.tell(opened.len(), began.elapsed());
        }
        opened
    }

    /// Takes what was opened beforehand, or opens it now.
    fn open(
        &self,
        work: &mut Work,
        topic: &Arc<TopicImage>,
        index: PartitionIndex,
        now: TimestampMs,
    ) -> Opened {
        let opening = self.opening(topic, index);
        match work.opened.remove(&opening.dir_name()) {
            Some(opened) => opened,
            None => opening.run(&self.found, &mut Totals::default(), now),
        }
    }

    fn opening(&self, topic: &Arc<TopicImage>, index: PartitionIndex) -> Opening {
        Opening {
            node: self.node,
            topic: Arc::clone(topic),
            index,
            settings: (self.settings_of)(topic),
        }
    }

    /// The logs of a topic that belong on this node and were never opened here.
    fn missing(&self, hosted: &Hosted, topic: &Arc<TopicImage>) -> Vec<Opening> {
        let slots = match hosted.topic(&topic.name) {
            Some(present) if present.id == topic.id => present.slots.as_slice(),
            // Its files have the names of the new ones until it is removed.
            Some(_) => return Vec::new(),
            None => &[],
        };
        (0_i32..)
            .zip(topic.partitions.iter())
            .filter(|(_, partition)| partition.replicas.contains(&self.node))
            .filter(|(index, _)| {
                let slot = usize::try_from(*index).ok().and_then(|n| slots.get(n));
                matches!(slot, None | Some(Slot::Absent))
            })
            .map(|(index, _)| self.opening(topic, PartitionIndex::new(index)))
            .collect()
    }

    fn configure_topic(&self, hosted: &Hosted, topic: &TopicImage) {
        let Some(entry) = hosted.topic(&topic.name) else {
            return;
        };
        let settings = (self.settings_of)(topic);
        for slot in &entry.slots {
            if let Slot::Open(replica) = slot
                && *replica.settings() != settings
            {
                replica.configure(settings.clone());
            }
        }
    }
}

/// Takes a deleted topic off this node, unless its name belongs to another one by now.
fn remove_topic(hosted: &mut Hosted, name: &str, id: TopicId, failures: &mut Failures) {
    if hosted.topic(name).is_some_and(|topic| topic.id == id) {
        remove_namesake(hosted, name, failures);
    }
}

fn remove_namesake(hosted: &mut Hosted, name: &str, failures: &mut Failures) {
    let Some(topic) = hosted.remove(name) else {
        return;
    };
    for slot in &topic.slots {
        if let Slot::Open(replica) = slot {
            remove_replica(replica, failures);
        }
    }
}

fn remove_replica(replica: &Arc<Replica>, failures: &mut Failures) {
    replica.go_offline();
    replica.directory.note_removed();
    let deleted = replica.directory.storage().delete_log(&replica.log);
    if let Err(error) = deleted {
        failures.not_deleted(replica, &error);
    }
}

/// Takes off what a snapshot no longer names.
fn remove_unknown(hosted: &mut Hosted, image: &ClusterImage, failures: &mut Failures) {
    let unknown: BTreeSet<Arc<str>> = hosted
        .iter()
        .filter(|(_, topic)| image.topics.by_id(topic.id).is_none())
        .map(|(name, _)| Arc::clone(name))
        .collect();
    for name in unknown {
        remove_namesake(hosted, &name, failures);
    }
}
