//! What may stop the raft engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use palisade_storage::StorageError;
use thiserror::Error;

use super::codec::CodecError;
use super::command::MachineError;

/// Why the raft engine could not start or go on.
#[derive(Debug, Error)]
pub enum RaftError {
    /// A file or the log failed.
    #[error("raft storage: {0}")]
    Storage(#[from] StorageError),
    /// A file of the metadata beside its log is damaged.
    #[error(
        "{} is damaged ({reason}): it holds {holds}, nothing was changed; restore the data directory \
         from a copy that was made of all of it at one time",
        path.display()
    )]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// Which check failed.
        reason: &'static str,
        /// What it is for.
        holds: &'static str,
    },
    /// Bytes on disk do not read as what they should be.
    #[error("{file}: {source}")]
    Codec {
        /// Which file or log.
        file: &'static str,
        /// What is wrong with its bytes.
        source: CodecError,
    },
    /// An entry of the log is not where the log says it is.
    #[error("raft log: entry {found} where {expected} belongs")]
    Misplaced {
        /// Index that was expected.
        expected: u64,
        /// Index that the log has.
        found: u64,
    },
    /// Entries that were synced, and may have been acknowledged, do not verify any more.
    #[error(
        "the metadata log is damaged: entries {from} to {to} were acknowledged and do not verify \
         ({reason}) in {}; nothing was cut: restore the data directory from a copy",
        path.display()
    )]
    Damaged {
        /// Index of the first damaged entry.
        from: u64,
        /// Index of the last.
        to: u64,
        /// The segment file.
        path: Arc<Path>,
        /// Which check failed.
        reason: &'static str,
    },
    /// The log has fewer entries than this node knows to be committed: data was lost.
    #[error(
        "the metadata log ends at index {last}, but index {commit} was acknowledged; nothing was \
         cut: restore the data directory from a copy"
    )]
    LostEntries {
        /// Last index of the log.
        last: u64,
        /// Commit index of the hard state, or last index that was synced.
        commit: u64,
    },
    /// Some of the three parts are there, but not this one.
    #[error(
        "the metadata is incomplete: {0} is missing while other parts of it exist, nothing was \
         changed; restore the data directory from a copy that was made of all of it at one time"
    )]
    Incomplete(&'static str),
    /// There are partitions, but nothing of the metadata that would say whose they are.
    #[error(
        "the metadata is missing, but there are {logs} partition logs, as {example:?}: restore it, \
         or move the logs away to begin a new cluster"
    )]
    MetadataLost {
        /// How many logs were found.
        logs: usize,
        /// Directory name of one.
        example: String,
    },
    /// The machine refused an entry or a snapshot.
    #[error("metadata at raft index {index}: {source}")]
    Machine {
        /// Index of the entry or snapshot.
        index: u64,
        /// Why.
        source: MachineError,
    },
    /// The library refused.
    #[error("raft: {0}")]
    Library(#[from] raft::Error),
    /// The thread could not be started.
    #[error("raft thread: {0}")]
    Thread(std::io::Error),
}

impl RaftError {
    /// The error of reading a small file, with what that file is for.
    pub(super) fn reading(holds: &'static str) -> impl FnOnce(StorageError) -> RaftError {
        move |error| match error {
            StorageError::BadFile { path, reason } => RaftError::DamagedFile {
                path,
                reason,
                holds,
            },
            other => RaftError::Storage(other),
        }
    }

    /// Whether nothing is lost and the same step may succeed later: the disk was full, or the
    /// process had no file descriptor left.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let RaftError::Storage(error) = self else {
            return false;
        };
        matches!(error, StorageError::DiskFull { .. }) || error.found_no_descriptor()
    }
}
