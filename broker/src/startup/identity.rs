//! Who this node is: cluster and node id, kept in the log directory from the first start.

use std::io;
use std::path::PathBuf;

use openssl::rand::rand_bytes;
use palisade_auth::Secret;
use palisade_protocol::Uuid;
use palisade_protocol::types::BrokerId;
use palisade_storage::{LogDir, MetaProperties, StorageError};

use crate::rng;

/// The log directory belongs to somebody else.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It was written by another node.
    #[error(
        "{} belongs to node {found}, this is node {configured}: set node.id={found}, or log.dirs to \
         another directory",
        path.display()
    )]
    OtherNode {
        /// The log directory.
        path: PathBuf,
        /// The node that wrote it.
        found: i32,
        /// `node.id`.
        configured: i32,
    },
    /// It was written in another cluster.
    #[error(
        "{} belongs to cluster {found:?}, not to {configured:?}: set palisade.cluster.id={found}, or \
         log.dirs to another directory",
        path.display()
    )]
    OtherCluster {
        /// The log directory.
        path: PathBuf,
        /// The cluster it was written in.
        found: String,
        /// `palisade.cluster.id`.
        configured: String,
    },
    /// Its identity cannot be read or written.
    #[error("identity of the log directory: {0}")]
    Storage(#[from] StorageError),
    /// No randomness.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Reads the directory's identity, or gives it one; returns the cluster's id.
///
/// # Errors
/// The directory belongs to another node or cluster.
pub(super) fn settle(
    log_dir: &LogDir,
    node_id: BrokerId,
    cluster_id: Option<&str>,
) -> Result<String, IdentityError> {
    if let Some(found) = log_dir.meta() {
        if found.node_id != node_id {
            return Err(IdentityError::OtherNode {
                path: log_dir.path().to_owned(),
                found: found.node_id.value(),
                configured: node_id.value(),
            });
        }
        if let Some(configured) = cluster_id.filter(|id| *id != found.cluster_id) {
            return Err(IdentityError::OtherCluster {
                path: log_dir.path().to_owned(),
                found: found.cluster_id,
                configured: configured.to_owned(),
            });
        }
        return Ok(found.cluster_id);
    }
    let cluster_id = match cluster_id {
        Some(configured) => configured.to_owned(),
        None => random_uuid()?.to_string(),
    };
    log_dir.set_meta(MetaProperties {
        cluster_id: cluster_id.clone(),
        node_id,
        directory_id: random_uuid()?,
    })?;
    Ok(cluster_id)
}

/// An id that nobody else has (RFC 9562, version 4).
///
/// # Errors
/// No randomness.
pub(super) fn random_uuid() -> io::Result<Uuid> {
    let mut bytes = [0; 16];
    rand_bytes(&mut bytes)?;
    Ok(rng::from_chance(bytes))
}

/// 256 bits that nobody can guess.
///
/// # Errors
/// No randomness.
pub(super) fn random_secret() -> io::Result<Secret> {
    let mut bytes = [0; 32];
    rand_bytes(&mut bytes)?;
    Ok(Secret::new(bytes.to_vec()))
}
