//! Opening logs: whose they are, where a new one goes, and what recovery found in all of them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use palisade_protocol::types::{BrokerId, Offset, PartitionIndex, TimestampMs, TopicId};
use palisade_storage::{
    FoundLog, LogObserver, LogSpec, RecoveryReport, StorageError, failpoint, side_by_side,
};
use parking_lot::Mutex;
use tracing::{error, info, warn};

use super::directory::Directory;
use super::error::PartitionError;
use super::hosted::Hosted;
use super::replica::{Replica, ReplicaParts};
use super::settings::PartitionSettings;
use crate::metadata::TopicImage;
use crate::shutdown::CallOff;

/// Directory names that belong to the metadata log, never to a topic.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// A replica, or why its log could not be opened.
pub(super) type Opened = Result<Arc<Replica>, PartitionError>;

/// Logs found on disk at start that no partition has claimed yet, by directory name.
pub(super) struct FoundLogs {
    directories: Vec<Arc<Directory>>,
    logs: HashMap<String, Unclaimed>,
}

/// A log found on disk at start.
struct Unclaimed {
    directory: Arc<Directory>,
    found: FoundLog,
    /// The operator knows that its topic id does not read.
    is_reported: bool,
}

impl FoundLogs {
    /// Looks through open log directories.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub(super) fn list(directories: &[Arc<Directory>]) -> Result<FoundLogs, StorageError> {
        let mut logs = HashMap::new();
        for directory in directories {
            let storage = directory.storage();
            let mut all = storage.list()?;
            all.retain(|found| found.topic != METADATA_TOPIC);
            if all.iter().any(|found| found.has_records) {
                storage.report_missing_checkpoints();
            }
            for found in all {
                let log = Unclaimed {
                    directory: Arc::clone(directory),
                    found,
                    is_reported: false,
                };
                logs.insert(log.found.dir_name.clone(), log);
            }
        }
        Ok(FoundLogs {
            directories: directories.to_vec(),
            logs,
        })
    }

    /// The directory that has the log of a partition, or that a new one goes to.
    ///
    /// # Errors
    /// `Offline` where its records are there, but not readable as its; `Storage` where what lies
    /// in its place cannot be moved.
    fn home_of(
        &mut self,
        dir_name: &str,
        topic_id: TopicId,
    ) -> Result<Arc<Directory>, PartitionError> {
        if let Some(log) = self.logs.get_mut(dir_name)
            && log.found.topic_id.is_none()
            && log.found.has_records
        {
            // Whose records these are cannot be read: damage, not a leftover (storage.md §10).
            if !std::mem::replace(&mut log.is_reported, true) {
                error!(
                    directory = %dir_name,
                    "partition.metadata does not read, so nobody can tell whose records these are: \
                     left offline; put a copy of the file in its place and start again"
                );
            }
            return Err(PartitionError::Offline);
        }
        let present = self.logs.get(dir_name);
        if let Some(log) = present.filter(|log| log.found.topic_id == Some(topic_id)) {
            return Ok(Arc::clone(&log.directory));
        }
        let remembers = |directory: &&Arc<Directory>| {
            let storage = directory.storage();
            storage.remembers(dir_name, topic_id)
        };
        if let Some(directory) = self.directories.iter().find(remembers) {
            // Records were there: the log says what is gone, and makes nothing in its place.
            return Ok(Arc::clone(directory));
        }
        if let Some(log) = present {
            match log.found.topic_id {
                // A deleted topic of the same name: its records must not come back (KIP-516).
                Some(_) => log.set_aside()?,
                // A creation that was cut short.
                None => log.directory.storage().delete_found(dir_name)?,
            }
            self.logs.remove(dir_name);
        }
        self.emptiest()
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

    /// Sets logs aside that no partition of this node claims, and removes what was never one; call
    /// it when the image is complete.
    pub(super) fn set_strays_aside(&mut self, hosted: &Hosted) {
        let mut half_made = 0_usize;
        self.logs.retain(|dir_name, log| {
            let claimed = hosted.replica(&log.found.topic, log.found.partition);
            if matches!(claimed, Err(PartitionError::Offline)) {
                // It is a partition's, and why it was not opened has been logged.
                return true;
            }
            if log.found.is_half_made {
                match log.directory.storage().delete_found(dir_name) {
                    Ok(()) => half_made += 1,
                    Err(error) => warn!(directory = %dir_name, %error, "not removed"),
                }
                return false;
            }
            if log.found.topic_id.is_none() {
                // Without an id nobody can tell whose records these are: an operator decides.
                warn!(directory = %dir_name, "directory without topic id left alone");
                return true;
            }
            if let Err(error) = log.set_aside() {
                warn!(directory = %dir_name, %error, "stray log not set aside");
            }
            false
        });
        if half_made > 0 {
            info!(
                half_made,
                "directories of partitions whose creation was cut short removed"
            );
        }
    }
}

impl Unclaimed {
    /// Keeps the log under a name that no topic can have.
    fn set_aside(&self) -> Result<(), StorageError> {
        let kept_as = self.directory.storage().set_aside(&self.found)?;
        warn!(
            directory = %self.found.dir_name,
            %kept_as,
            "log of a topic that the cluster does not know set aside"
        );
        Ok(())
    }
}

/// One log to open.
pub(super) struct Opening {
    pub(super) node: BrokerId,
    pub(super) topic: Arc<TopicImage>,
    pub(super) index: PartitionIndex,
    pub(super) settings: PartitionSettings,
}

impl Opening {
    pub(super) fn dir_name(&self) -> String {
        format!("{}-{}", self.topic.name, self.index)
    }

    /// Opens the log; blocks.
    ///
    /// # Errors
    /// Why it cannot be opened; what lies there is as it was.
    pub(super) fn run(
        self,
        found: &Mutex<FoundLogs>,
        totals: &mut Totals,
        now: TimestampMs,
    ) -> Opened {
        let dir_name = self.dir_name();
        let directory = found.lock().home_of(&dir_name, self.topic.id)?;
        let Opening {
            node,
            topic,
            index,
            settings,
        } = self;
        let spec = LogSpec {
            dir_name,
            topic_id: topic.id,
            // The metadata is caught up before the first log is opened.
            leader_epoch: topic
                .partition(index)
                .map(|partition| partition.leader_epoch),
        };
        let observer = Arc::new(ReplicaObserver::default());
        let listener: Arc<dyn LogObserver> = observer.clone();
        let dir_name = spec.dir_name.clone();
        let (log, report) =
            directory
                .storage()
                .open_log(spec, settings.log.clone(), listener, now)?;
        found.lock().logs.remove(&dir_name);
        totals.add(&report);
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
            node,
            log,
            directory,
        };
        parts.directory.note_opened();
        let replica = Arc::new(Replica::new(parts, settings, report.high_watermark));
        observer.attach(&replica);
        Ok(replica)
    }
}

/// What the recovery of several logs came to.
#[derive(Debug, Default)]
pub(super) struct Totals {
    logs: usize,
    scanned_bytes: u64,
    cut_bytes: u64,
    damaged_ranges: usize,
}

impl Totals {
    fn add(&mut self, report: &RecoveryReport) {
        self.logs += 1;
        self.scanned_bytes += report.scanned_bytes;
        self.cut_bytes += report.cut_bytes;
        self.damaged_ranges += report.damaged_ranges;
    }

    /// Says once what opening the logs of a start took.
    pub(super) fn tell(&self, wanted: usize, took: Duration) {
        info!(
            logs = self.logs,
            failed = wanted - self.logs,
            scanned_bytes = self.scanned_bytes,
            cut_bytes = self.cut_bytes,
            damaged_ranges = self.damaged_ranges,
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "partition logs opened"
        );
    }

    fn join(&mut self, other: &Totals) {
        self.logs += other.logs;
        self.scanned_bytes += other.scanned_bytes;
        self.cut_bytes += other.cut_bytes;
        self.damaged_ranges += other.damaged_ranges;
    }
}

/// Opens logs on `threads` threads; by directory name. Those that it had not come to when the start
/// was called off are not among them.
pub(super) fn open_all(
    openings: Vec<Opening>,
    found: &Mutex<FoundLogs>,
    threads: usize,
    call_off: &CallOff,
    now: TimestampMs,
) -> (HashMap<String, Opened>, Totals) {
    let totals = Mutex::new(Totals::default());
    let opened = side_by_side(openings, threads, |one| {
        if call_off.is_called_off() {
            return None;
        }
        // A test holds the start here.
        let _ = failpoint::hit("open.before_log");
        let mut own = Totals::default();
        let opened = (one.dir_name(), one.run(found, &mut own, now));
        totals.lock().join(&own);
        Some(opened)
    });
    (opened.into_iter().flatten().collect(), totals.into_inner())
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
