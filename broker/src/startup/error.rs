//! Why a broker does not start, or not stop cleanly.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use palisade_auth::audit::WriterError;
use palisade_auth::principal::PrincipalError;
use palisade_auth::sasl::MechanismsError;
use palisade_protocol::ErrorCode;
use palisade_storage::StorageError;
use rustix::fs::{Access, access};

use super::identity::IdentityError;
use crate::metadata::ControllerError;
use crate::partition::StartScrubError;
use crate::raft::RaftError;
use crate::server::{BudgetTooSmall, ListenError};

/// A broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody called it off; what was opened is as after a kill, and the rest as it was.
    #[error("called off before it served")]
    CalledOff,
    /// The log directory is not there and cannot be made.
    #[error("log.dirs: {} cannot be made: {}", path.display(), Unmade(path, source))]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// The system's word for it.
        source: std::io::Error,
    },
    /// The log directory or a log in it.
    #[error("log.dirs: {0}")]
    Storage(#[from] StorageError),
    /// The directory belongs to another node or cluster.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] WriterError),
    /// The metadata log.
    #[error("metadata: {0}")]
    Raft(#[from] RaftError),
    /// The cluster did not take this node.
    #[error("the cluster does not take this node: {0}")]
    Controller(#[from] ControllerError),
    /// The cluster refused this node.
    #[error("the cluster refuses this node: {}", .0.name())]
    Refused(ErrorCode),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The mechanisms of a listener.
    #[error("listener {0}: {1}")]
    Mechanisms(String, MechanismsError),
    /// The limits do not fit each other.
    #[error(transparent)]
    Budget(#[from] BudgetTooSmall),
    /// What was to be in force before the first client.
    #[error("{0}")]
    Prepare(#[source] PrepareError),
    /// The threads that read sealed segments again.
    #[error("scrub: {0}")]
    Scrub(#[from] StartScrubError),
    /// `super.users`.
    #[error("super.users: {0}")]
    SuperUsers(#[from] PrincipalError),
    /// No randomness, or a thread that cannot be started.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Why a node cannot work in this log directory, as far as that can be seen without a start. One
/// that is not there is made for the look, and removed again.
pub(crate) fn unusable(dir: &Path) -> Option<String> {
    let shown = dir.display();
    if dir.exists() {
        let denied = access(dir, Access::WRITE_OK | Access::EXEC_OK).err()?;
        return Some(format!("{shown} cannot be written: {denied}"));
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {
            // It is empty, and if not somebody else has begun to use it.
            let _ = fs::remove_dir(dir);
            None
        }
        Err(error) => Some(format!("{shown} cannot be made: {}", Unmade(dir, &error))),
    }
}

/// Why a directory cannot be made: what is missing above it, or the system's word.
struct Unmade<'a>(&'a Path, &'a std::io::Error);

impl fmt::Display for Unmade<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let above = self
            .0
            .parent()
            .filter(|above| !above.as_os_str().is_empty());
        match above.filter(|above| !above.exists()) {
            Some(above) => write!(f, "{} is not there; make it first", above.display()),
            None => self.1.fmt(f),
        }
    }
}

/// Why a preparation failed: whatever its owner says.
pub type PrepareError = Box<dyn std::error::Error + Send + Sync>;

/// A broker did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A log directory could not be closed; it will be recovered.
    #[error("log directory: {0}")]
    Storage(#[from] StorageError),
    /// A thread panicked.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// A broker did not start or not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It did not stop cleanly.
    #[error(transparent)]
    Stop(#[from] StopError),
}
