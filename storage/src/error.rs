//! Everything that can go wrong in the log, with its values.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::types::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// An error of the storage crate.
///
/// Cheap to clone, since one failure may be told to many waiters.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The offset is below the log start or above the log end.
    #[error("offset {requested} is outside [{start}, {end}]")]
    OutOfRange {
        /// The offset asked for.
        requested: Offset,
        /// Log start offset.
        start: Offset,
        /// Log end offset, exclusive.
        end: Offset,
    },
    /// The producer skipped or repeated a sequence number (KIP-98).
    #[error("producer {producer_id}: sequence {found} follows {expected:?}")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// First sequence of the batch.
        found: i32,
        /// The sequence that would have been accepted; `None` where the producer is unknown.
        expected: Option<i32>,
    },
    /// The producer epoch is older than the one stored (KIP-360).
    #[error("producer {producer_id}: epoch {found} is older than {current}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// Epoch of the batch.
        found: ProducerEpoch,
        /// Epoch stored.
        current: ProducerEpoch,
    },
    /// A batch outside a transaction came while the producer has one open (KIP-890).
    #[error("producer {producer_id}: not allowed in the present transaction state")]
    InvalidTxnState {
        /// The producer.
        producer_id: ProducerId,
    },
    /// A transaction marker came from a coordinator that has been replaced.
    #[error("producer {producer_id}: coordinator epoch {found} is older than {current}")]
    TransactionCoordinatorFenced {
        /// The producer.
        producer_id: ProducerId,
        /// Coordinator epoch of the marker.
        found: i32,
        /// Coordinator epoch stored.
        current: i32,
    },
    /// The stored bytes of this range do not verify; nothing of it is served.
    #[error("damaged from offset {from} to {to} in {}: {reason}", path.display())]
    Corrupt {
        /// First damaged offset.
        from: Offset,
        /// End of the damaged offsets, exclusive.
        to: Offset,
        /// The segment file.
        path: Arc<Path>,
        /// Which check failed.
        reason: &'static str,
    },
    /// Records that were on stable storage are gone, with their files or their whole directory.
    /// Nothing was made anew: offsets would be given twice, and the loss would not show.
    #[error(
        "{}: the records from offset {from} to {to} were on disk and are gone; restore the \
         directory from a copy, or give them up with an empty file accept-loss in it, and start \
         again",
        path.display()
    )]
    RecordsGone {
        /// The log's directory.
        path: PathBuf,
        /// Log start offset as it was.
        from: Offset,
        /// End of what is known to have been there, exclusive.
        to: Offset,
    },
    /// The batch given to append is not one whole, plausible batch.
    #[error("batch refused: {reason}")]
    InvalidBatch {
        /// Which check failed.
        reason: &'static str,
    },
    /// The batch is larger than a segment (`RECORD_LIST_TOO_LARGE`).
    #[error("batch of {size} bytes exceeds the segment limit of {limit}")]
    RecordBatchTooLarge {
        /// Size of the batch in bytes.
        size: u64,
        /// Limit in bytes.
        limit: u64,
    },
    /// The file system has no room; the log keeps its old end and heals when space returns.
    #[error("no space left in {}", path.display())]
    DiskFull {
        /// The file or directory that could not grow.
        path: Arc<Path>,
    },
    /// The operating system refused an operation.
    #[error("{operation} {}: {}", path.display(), reason(*kind, *os_code))]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which file.
        path: Arc<Path>,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The error number, where the system gave one.
        os_code: Option<i32>,
    },
    /// A sync of this log or directory failed once; it takes no more writes.
    #[error("log is poisoned by an earlier failed sync")]
    Poisoned,
    /// The log was closed or deleted, or its directory is offline.
    #[error("log is offline")]
    Offline,
    /// The leader epoch is older than the log's (KIP-320).
    #[error("leader epoch {found} is older than {current}")]
    FencedEpoch {
        /// The epoch offered.
        found: LeaderEpoch,
        /// The log's latest epoch.
        current: LeaderEpoch,
    },
    /// A replicated batch does not continue the log.
    #[error("batch at offset {found} does not follow the log end {end}")]
    OffsetMismatch {
        /// Base offset of the batch.
        found: Offset,
        /// Log end offset.
        end: Offset,
    },
    /// Another process holds the directory.
    #[error("{} is locked by another process{}", path.display(), Number(*pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, if it left its number there.
        pid: Option<u32>,
    },
    /// The directory belongs to another cluster or node.
    #[error("meta.properties: {field} is {found}, expected {expected}")]
    MetaMismatch {
        /// The field that differs.
        field: &'static str,
        /// Stored value.
        found: String,
        /// Expected value.
        expected: String,
    },
    /// The directory holds logs, but nothing says whose they are.
    #[error(
        "{}: meta.properties is missing, but there is {example:?}: restore it, or move everything \
         away to begin anew",
        path.display()
    )]
    MetaMissing {
        /// The log directory.
        path: PathBuf,
        /// Name of something in it that only an earlier start can have written.
        example: String,
    },
    /// The directory belongs to another node.
    #[error("meta.properties: node {found}, expected {expected}")]
    NodeMismatch {
        /// Stored node id.
        found: BrokerId,
        /// This node's id.
        expected: BrokerId,
    },
    /// The directory of the log belongs to another topic of the same name.
    #[error("{} belongs to another topic id", path.display())]
    TopicIdMismatch {
        /// The log's directory.
        path: PathBuf,
    },
    /// A file was written by a newer version of the broker.
    #[error("{}: format version {found}, this release reads up to {supported}", path.display())]
    FormatTooNew {
        /// The file.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Newest version this release reads.
        supported: u32,
    },
    /// A small file does not parse or its checksum is wrong.
    #[error(
        "{}: {reason}: the file is damaged; put a copy of it in its place and start again",
        path.display()
    )]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file system does not show positional writes in mappings.
    #[error("{}: writes do not show in mappings on this file system", path.display())]
    IncoherentMapping {
        /// The directory.
        path: PathBuf,
    },
    /// A name that cannot be a log directory.
    #[error("not a log directory name: {0:?}")]
    BadName(String),
}

/// The reason in words; for the error that operators meet most often the library has none.
fn reason(kind: io::ErrorKind, os_code: Option<i32>) -> String {
    match os_code {
        Some(libc::EMFILE) => "too many open files".to_owned(),
        _ => kind.to_string(),
    }
}

/// The operation that syncs the names in a directory.
pub(crate) const SYNC_DIR: &str = "sync names in";

impl StorageError {
    /// Keeps what is told of an I/O error; "no room" errors become [`StorageError::DiskFull`].
    pub(crate) fn io(operation: &'static str, path: &Path, error: &io::Error) -> Self {
        let path = Arc::from(path);
        if crate::fs::is_full(error) {
            return Self::DiskFull { path };
        }
        Self::Io {
            operation,
            path,
            kind: error.kind(),
            os_code: error.raw_os_error(),
        }
    }

    /// The process or the system had no file descriptor to give.
    #[must_use]
    pub fn found_no_descriptor(&self) -> bool {
        matches!(
            self,
            Self::Io {
                os_code: Some(libc::EMFILE | libc::ENFILE),
                ..
            }
        )
    }

    /// A directory was not synced because it could not be opened for that, for want of a file
    /// descriptor or of memory: nothing was written, and nothing was lost.
    pub(crate) fn is_unopened_dir(&self) -> bool {
        matches!(
            self,
            Self::Io {
                operation: SYNC_DIR,
                os_code: Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM),
                ..
            }
        )
    }

    /// Bytes of a file were not given back: the loss of what they belong to, while the rest of the
    /// disk may be well. A write or a sync that fails is another matter.
    pub(crate) fn is_failed_read(&self) -> bool {
        matches!(
            self,
            Self::Io {
                operation: "read",
                ..
            }
        )
    }
}

/// The number of a process, where it is known.
struct Number(Option<u32>);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, ", number {pid}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_why_in_words() {
        let said = |code| {
            let error = io::Error::from_raw_os_error(code);
            StorageError::io("open", Path::new("a.log"), &error).to_string()
        };
        assert_eq!(said(libc::EMFILE), "open a.log: too many open files");
        assert_eq!(said(libc::EACCES), "open a.log: permission denied");
    }
}
