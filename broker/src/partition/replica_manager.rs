//! Opens, configures and deletes the partitions of this node as the metadata says.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use palisade_auth::grant::{Granted, OperationKind, Topic};
use palisade_protocol::types::{BrokerId, Offset, PartitionIndex, TimestampMs, TopicId};
use palisade_storage::{FoundLog, LogDir, LogObserver, LogSpec, StorageError};
use parking_lot::Mutex;
use tracing::{error, info, warn};

use super::directory::Directory;
use super::error::PartitionError;
use super::handle::Partition;
use super::hosted::{Hosted, HostedTopic, Slot};
use super::isr::Leadership;
use super::replica::{Replica, ReplicaParts};
use super::settings::PartitionSettings;
use crate::metadata::{ClusterDelta, ClusterImage, PartitionImage, TopicImage};

/// Directory names that belong to the metadata log, never to a topic.
const METADATA_TOPIC: &str = "__cluster_metadata";

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
    /// Logs found on disk at start that no image has claimed yet; held while a delta is applied.
    unclaimed: Mutex<HashMap<String, Unclaimed>>,
}

/// A log found on disk at start.
struct Unclaimed {
    directory: Arc<Directory>,
    found: FoundLog,
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
        let mut unclaimed = HashMap::new();
        let mut directories = Vec::with_capacity(dirs.len());
        for dir in dirs {
            let directory = Arc::new(Directory::new(dir));
            for found in directory.storage().list()? {
                if found.topic == METADATA_TOPIC {
                    continue;
                }
                let entry = Unclaimed {
                    directory: Arc::clone(&directory),
                    found,
                };
                unclaimed.insert(entry.found.dir_name.clone(), entry);
            }
            directories.push(directory);
        }
        Ok(ReplicaManager {
            node,
            directories,
            settings_of,
            hosted: ArcSwap::from_pointee(Hosted::default()),
            unclaimed: Mutex::new(unclaimed),
        })
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

    /// Makes the partitions of this node what `image` says; `delta` names what changed.
    ///
    /// Blocks while logs are opened. A log that cannot be opened is reported and answers
    /// `Offline`; the others go on.
    pub fn apply(&self, delta: &ClusterDelta, image: &ClusterImage, now: TimestampMs) {
        let mut unclaimed = self.unclaimed.lock();
        let mut hosted = Hosted::clone(&self.hosted.load());
        for topic in delta.topics_deleted.values() {
            remove_topic(&mut hosted, &topic.name, topic.id);
        }
        if delta.reset {
            remove_unknown(&mut hosted, image);
        }
        for topic in delta.topics_created.values() {
            self.place_topic(&mut hosted, &mut unclaimed, topic, now);
        }
        for (id, change) in &delta.topics_changed {
            let Some(topic) = image.topics.by_id(*id) else {
                continue;
            };
            if !change.partitions.is_empty() {
                self.place_topic(&mut hosted, &mut unclaimed, topic, now);
            }
            if change.config && change.partitions.is_empty() {
                self.configure_topic(&hosted, topic);
            }
        }
        self.hosted.store(Arc::new(hosted));
        if delta.reset && image.is_bootstrapped() {
            remove_leftovers(&mut unclaimed);
        }
    }

    /// Reads every topic's settings again, after a change of the node's own defaults.
    pub fn reconfigure(&self, image: &ClusterImage) {
        let hosted = self.hosted.load();
        for (name, _) in hosted.iter() {
            if let Some(topic) = image.topics.get(name) {
                self.configure_topic(&hosted, topic);
            }
        }
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
        unclaimed: &mut HashMap<String, Unclaimed>,
        topic: &Arc<TopicImage>,
        now: TimestampMs,
    ) {
        let before = match hosted.topic(&topic.name) {
            Some(present) if present.id == topic.id => present.slots.clone(),
            Some(_) => {
                // The deletion of its namesake is part of the same delta or of an earlier one.
                remove_namesake(hosted, &topic.name);
                Vec::new()
            }
            None => Vec::new(),
        };
        let mut slots = Vec::with_capacity(topic.partitions.len());
        for (index, partition) in (0_i32..).zip(topic.partitions.iter()) {
            let index = PartitionIndex::new(index);
            let present = before.get(slots.len()).cloned().unwrap_or(Slot::Absent);
            slots.push(self.place(unclaimed, topic, index, partition, present, now));
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
        unclaimed: &mut HashMap<String, Unclaimed>,
        topic: &Arc<TopicImage>,
        index: PartitionIndex,
        partition: &PartitionImage,
        present: Slot,
        now: TimestampMs,
    ) -> Slot {
        if !partition.replicas.contains(&self.node) {
            if let Slot::Open(replica) = &present {
                remove_replica(replica);
            }
            return Slot::Absent;
        }
        let replica = match present {
            Slot::Open(replica) => replica,
            Slot::Absent | Slot::Failed => match self.open(unclaimed, topic, index, now) {
                Ok(replica) => replica,
                Err(error) => {
                    error!(topic = %topic.name, partition = %index, %error, "log not opened");
                    return Slot::Failed;
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

    fn open(
        &self,
        unclaimed: &mut HashMap<String, Unclaimed>,
        topic: &Arc<TopicImage>,
        index: PartitionIndex,
        now: TimestampMs,
    ) -> Result<Arc<Replica>, PartitionError> {
        let dir_name = format!("{}-{}", topic.name, index);
        let directory = match unclaimed.remove(&dir_name) {
            Some(log) if log.found.topic_id == Some(topic.id) => log.directory,
            // Whose records these are cannot be read: damage, not a leftover (storage.md §10).
            Some(log) if log.found.topic_id.is_none() && log.found.has_records => {
                error!(directory = %dir_name, "topic id of the log does not read, left offline");
                unclaimed.insert(dir_name, log);
                return Err(PartitionError::Offline);
            }
            Some(leftover) => {
                // A deleted topic of the same name: its records must not come back (KIP-516).
                leftover.remove();
                self.emptiest()?
            }
            None => self.emptiest()?,
        };
        let settings = (self.settings_of)(topic);
        let spec = LogSpec {
            dir_name,
            topic_id: topic.id,
        };
        let observer = Arc::new(ReplicaObserver::default());
        let listener: Arc<dyn LogObserver> = observer.clone();
        let (log, report) =
            directory
                .storage()
                .open_log(spec, settings.log.clone(), listener, now)?;
        if report.cut_bytes > 0 || report.damaged_ranges > 0 {
            warn!(
                topic = %topic.name,
                partition = %index,
                cut_bytes = report.cut_bytes,
                damaged_ranges = report.damaged_ranges,
                "log recovered with losses"
            );
        }
        let parts = ReplicaParts {
            topic: Arc::clone(&topic.name),
            topic_id: topic.id,
            index,
            node: self.node,
            log,
            directory,
        };
        parts.directory.note_opened();
        let replica = Arc::new(Replica::new(parts, settings, report.high_watermark));
        observer.attach(&replica);
        Ok(replica)
    }

    /// The usable directory with the fewest logs.
    fn emptiest(&self) -> Result<Arc<Directory>, PartitionError> {
        self.directories
            .iter()
            .filter(|directory| !directory.storage().is_offline())
            .min_by_key(|directory| directory.logs())
            .cloned()
            .ok_or(PartitionError::Offline)
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

impl Unclaimed {
    fn remove(&self) {
        let dir_name = &self.found.dir_name;
        match self.directory.storage().delete_found(dir_name) {
            Ok(()) => info!(directory = %dir_name, "leftover of a deleted topic removed"),
            Err(error) => warn!(directory = %dir_name, %error, "leftover not removed"),
        }
    }
}

/// Takes a deleted topic off this node, unless its name belongs to another one by now.
fn remove_topic(hosted: &mut Hosted, name: &str, id: TopicId) {
    if hosted.topic(name).is_some_and(|topic| topic.id == id) {
        remove_namesake(hosted, name);
    }
}

fn remove_namesake(hosted: &mut Hosted, name: &str) {
    let Some(topic) = hosted.remove(name) else {
        return;
    };
    for slot in &topic.slots {
        if let Slot::Open(replica) = slot {
            remove_replica(replica);
        }
    }
}

fn remove_replica(replica: &Arc<Replica>) {
    replica.go_offline();
    replica.directory.note_removed();
    let deleted = replica.directory.storage().delete_log(&replica.log);
    if let Err(error) = deleted {
        warn!(topic = %replica.topic, partition = %replica.index, %error, "log not deleted");
    }
}

/// Takes off what a snapshot no longer names.
fn remove_unknown(hosted: &mut Hosted, image: &ClusterImage) {
    let unknown: BTreeSet<Arc<str>> = hosted
        .iter()
        .filter(|(_, topic)| image.topics.by_id(topic.id).is_none())
        .map(|(name, _)| Arc::clone(name))
        .collect();
    for name in unknown {
        remove_namesake(hosted, &name);
    }
}

/// Removes logs that no topic of the cluster claims.
fn remove_leftovers(unclaimed: &mut HashMap<String, Unclaimed>) {
    for (dir_name, log) in unclaimed.drain() {
        if log.found.topic_id.is_some() {
            log.remove();
        } else {
            // Without an id nobody can tell whose records these are: an operator decides.
            warn!(directory = %dir_name, "directory without topic id left alone");
        }
    }
}

/// Passes the log's events on to its replica, which is made after the log.
#[derive(Default)]
struct ReplicaObserver {
    replica: OnceLock<Weak<Replica>>,
}

impl ReplicaObserver {
    fn attach(&self, replica: &Arc<Replica>) {
        // Set once, right after the replica was made.
        let _ = self.replica.set(Arc::downgrade(replica));
    }

    fn tell(&self, event: impl FnOnce(&Replica)) {
        if let Some(replica) = self.replica.get().and_then(Weak::upgrade) {
            event(&replica);
        }
    }
}

impl LogObserver for ReplicaObserver {
    fn durable(&self, _end: Offset) {
        self.tell(Replica::publish);
    }

    fn failed(&self) {
        self.tell(|replica| {
            error!(topic = %replica.topic, partition = %replica.index, "log failed");
            replica.go_offline();
        });
    }

    fn log_start_advanced(&self, _start: Offset) {
        self.tell(Replica::log_start_moved);
    }
}
