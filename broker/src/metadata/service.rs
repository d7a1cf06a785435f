//! Starts and stops this node's part in the metadata group.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use palisade_auth::Secret;
use palisade_auth::scram::ScramCredential;
use palisade_protocol::types::BrokerId;
use palisade_storage::fs::Fs;
use palisade_storage::{Log, LogDir};

use super::controller::{Controller, ControllerSettings};
use super::handle::MetadataHandle;
use super::image::ClusterImage;
use super::machine::{MetadataMachine, Submission};
use super::record::MetadataRecord;
use crate::raft::disk_log::{DIRECTORY, DiskLog};
use crate::raft::engine::{Engine, EngineFiles, EngineOptions};
use crate::raft::node::Clock;
use crate::raft::transport::NoPeers;
use crate::raft::{RaftError, RaftNode};

/// What a new cluster begins with; of no effect where there is one already.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The cluster's id.
    pub cluster_id: String,
    /// Key of the salts that unknown users are shown.
    pub fake_salt_secret: Secret,
    /// First users: without one, nobody could make others.
    pub scram: Vec<(String, ScramCredential)>,
    /// Finalised features.
    pub features: Vec<(String, i16)>,
}

impl Bootstrap {
    fn into_records(self) -> Vec<MetadataRecord> {
        let mut records = vec![
            MetadataRecord::ClusterId(self.cluster_id),
            MetadataRecord::FakeSaltSecret(self.fake_salt_secret),
        ];
        records.extend(
            self.features
                .into_iter()
                .map(|(name, level)| MetadataRecord::FeatureLevel { name, level }),
        );
        records.extend(
            self.scram
                .into_iter()
                .map(|(user, credential)| MetadataRecord::Scram { user, credential }),
        );
        records
    }
}

/// What a node's part in the group needs.
pub struct MetadataOptions {
    /// This node.
    pub node_id: BrokerId,
    /// The directory of logs, open and locked.
    pub log_dir: Arc<LogDir>,
    /// The same files, for the small ones beside the logs.
    pub fs: Arc<dyn Fs>,
    /// Where the small files are; the log directory's path.
    pub directory: PathBuf,
    /// Bytes of records between two snapshots.
    pub snapshot_bytes: u64,
    /// What decisions depend on.
    pub settings: ControllerSettings,
    /// What a new cluster begins with.
    pub bootstrap: Bootstrap,
    /// The time.
    pub clock: Clock,
}

impl fmt::Debug for MetadataOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataOptions")
            .field("node_id", &self.node_id)
            .field("directory", &self.directory)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Refuses to begin a new cluster over the partitions of another one: they would be taken for
/// leftovers of deleted topics.
fn refuse_orphans(log_dir: &LogDir) -> Result<(), RaftError> {
    let mut orphans = log_dir.list()?;
    orphans.retain(|found| found.dir_name != DIRECTORY);
    match orphans.first() {
        None => Ok(()),
        Some(first) => Err(RaftError::MetadataLost {
            logs: orphans.len(),
            example: first.dir_name.clone(),
        }),
    }
}

/// This node's running part in the metadata group.
#[derive(Debug)]
pub struct MetadataService {
    node: Arc<RaftNode<Submission>>,
    metadata: MetadataHandle,
    controller: Controller,
    /// Open until the log directory is closed, which seals the logs that are open then.
    _log: Arc<Log>,
}

impl MetadataService {
    /// Reads what is on disk and starts; blocks. A group of one is elected and has its first
    /// records applied when this returns.
    ///
    /// # Errors
    /// `RaftError`: what is on disk is damaged, incomplete, or of a newer release.
    pub fn start(options: MetadataOptions) -> Result<MetadataService, RaftError> {
        let files = EngineFiles::new(&options.fs, &options.directory);
        let recovered = files.recover()?;
        if recovered.is_new() {
            refuse_orphans(&options.log_dir)?;
        }
        let now = (options.clock)();
        let (log, open_log, report) =
            DiskLog::open(&options.log_dir, &options.fs, &recovered, now)?;
        tracing::info!(
            created = report.created,
            scanned_bytes = report.scanned_bytes,
            cut_bytes = report.cut_bytes,
            dropped_segments = report.dropped_segments,
            rebuilt_indexes = report.rebuilt_indexes,
            damaged_ranges = report.damaged_ranges,
            "metadata log opened"
        );
        let audit = options.settings.audit.clone();
        let metadata = MetadataHandle::new(Arc::new(ClusterImage::empty()));
        let machine = MetadataMachine::new(
            metadata.clone(),
            Arc::new(options.settings),
            options.bootstrap.into_records(),
        );
        let engine = Engine::open(
            &EngineOptions {
                node_id: options.node_id,
                initial_voters: vec![options.node_id],
                snapshot_bytes: options.snapshot_bytes,
            },
            files,
            recovered,
            Box::new(log),
            Box::new(NoPeers),
            machine,
        )?;
        let node = Arc::new(RaftNode::start(engine, options.clock)?);
        let controller = Controller::new(Arc::clone(&node), metadata.clone(), audit);
        Ok(MetadataService {
            node,
            metadata,
            controller,
            _log: open_log,
        })
    }

    /// How the broker reads the metadata.
    #[must_use]
    pub fn metadata(&self) -> &MetadataHandle {
        &self.metadata
    }

    /// How the broker changes it.
    #[must_use]
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// Ends the raft thread; blocks. Requests that still wait are answered `Stopped`.
    ///
    /// # Errors
    /// Only after a panic of the thread, which aborts the process first.
    pub fn stop(&self) -> std::io::Result<()> {
        self.node.stop()
    }
}

#[cfg(test)]
mod tests;
