//! Identity of a log directory, and the marker of a clean stop.
//!
//! `meta.properties`: `version=1`, `cluster.id`, `node.id`, `directory.id`. Its version is the one
//! of the whole directory: a release that changes the layout raises it.
//! `clean-shutdown`: `version=1`, `broker.epoch`; written last at a clean stop, removed before
//! anything is served.

use std::path::Path;

use crate::durable::{self, check_version, read_small_text};
use crate::error::StorageError;
use crate::fs::Fs;
use crate::types::{BrokerId, Uuid};

/// What every log directory has, of Kafka's too, from its first start on.
pub const META_FILE: &str = "meta.properties";
pub(crate) const CLEAN_FILE: &str = "clean-shutdown";
/// Layout version of a log directory written and read.
const VERSION: u32 = 1;

/// Identity of a log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// The cluster the directory belongs to.
    pub cluster_id: String,
    /// The node it belongs to.
    pub node_id: BrokerId,
    /// Its own id.
    pub directory_id: Uuid,
}

impl MetaProperties {
    /// Reads the identity; `None` in a new directory.
    pub(crate) fn load(fs: &dyn Fs, dir: &Path) -> Result<Option<Self>, StorageError> {
        let path = dir.join(META_FILE);
        let Some(text) = read_small_text(fs, &path)? else {
            return Ok(None);
        };
        let lines: Vec<(&str, &str)> = check_version(&text, VERSION, &path)?
            .filter_map(|line| line.split_once('='))
            .collect();
        let field = |key: &str| {
            lines
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, value)| *value)
        };
        (|| {
            Some(Self {
                cluster_id: field("cluster.id")?.to_owned(),
                node_id: BrokerId::new(field("node.id")?.parse().ok()?),
                directory_id: field("directory.id")?.parse().ok()?,
            })
        })()
        .map(Some)
        .ok_or(StorageError::BadFile {
            path,
            reason: "a field is missing",
        })
    }

    pub(crate) fn store(&self, fs: &dyn Fs, dir: &Path) -> Result<(), StorageError> {
        let text = format!(
            "version={VERSION}\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
            self.cluster_id, self.node_id, self.directory_id
        );
        durable::write_small_file(fs, &dir.join(META_FILE), text.as_bytes())
    }

    /// Refuses an identity that differs from the stored one.
    pub(crate) fn check(&self, stored: &Self) -> Result<(), StorageError> {
        let fields = [
            (
                "cluster.id",
                stored.cluster_id.clone(),
                self.cluster_id.clone(),
            ),
            (
                "node.id",
                stored.node_id.to_string(),
                self.node_id.to_string(),
            ),
            (
                "directory.id",
                stored.directory_id.to_string(),
                self.directory_id.to_string(),
            ),
        ];
        for (field, found, expected) in fields {
            if found != expected {
                return Err(StorageError::MetaMismatch {
                    field,
                    found,
                    expected,
                });
            }
        }
        Ok(())
    }
}

/// Writes the marker of a clean stop.
pub(crate) fn write_clean(fs: &dyn Fs, dir: &Path, broker_epoch: i64) -> Result<(), StorageError> {
    let text = format!("version={VERSION}\nbroker.epoch={broker_epoch}\n");
    durable::write_small_file(fs, &dir.join(CLEAN_FILE), text.as_bytes())
}

/// Takes the marker away; answers the broker epoch in it. A marker that does not verify counts as
/// none, as the stop cannot have been clean.
pub(crate) fn take_clean(fs: &dyn Fs, dir: &Path) -> Result<Option<i64>, StorageError> {
    let path = dir.join(CLEAN_FILE);
    let epoch = match read_small_text(fs, &path) {
        Ok(None) => return Ok(None),
        Ok(Some(text)) => check_version(&text, VERSION, &path)?
            .find_map(|line| line.strip_prefix("broker.epoch=")?.parse().ok()),
        Err(StorageError::BadFile { .. }) => None,
        Err(error) => return Err(error),
    };
    fs.remove_file(&path)
        .map_err(|error| StorageError::io("remove", &path, &error))?;
    fs.sync_dir(dir)
        .map_err(|error| StorageError::io("sync", dir, &error))?;
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Crash, FaultyFs};

    #[test]
    fn identity_is_stored_and_compared() {
        let fs = FaultyFs::new();
        let dir = Path::new("/");
        assert_eq!(MetaProperties::load(&fs, dir).unwrap(), None);
        let meta = MetaProperties {
            cluster_id: "c1".into(),
            node_id: BrokerId::new(3),
            directory_id: Uuid::from_bytes([7; 16]),
        };
        meta.store(&fs, dir).unwrap();
        let stored = MetaProperties::load(&fs, dir).unwrap().unwrap();
        assert_eq!(stored, meta);
        meta.check(&stored).unwrap();
        let other = MetaProperties {
            node_id: BrokerId::new(4),
            ..meta
        };
        let error = other.check(&stored).unwrap_err();
        assert!(matches!(
            error,
            StorageError::MetaMismatch {
                field: "node.id",
                ..
            }
        ));
    }

    #[test]
    fn a_newer_directory_is_refused() {
        let fs = FaultyFs::new();
        durable::write_small_file(&fs, Path::new("/meta.properties"), b"version=7\n").unwrap();
        let error = MetaProperties::load(&fs, Path::new("/")).unwrap_err();
        assert!(matches!(
            error,
            StorageError::FormatTooNew {
                found: 7,
                supported: 1,
                ..
            }
        ));
    }

    #[test]
    fn the_clean_marker_is_taken_once() {
        let fs = FaultyFs::new();
        let dir = Path::new("/");
        write_clean(&fs, dir, 42).unwrap();
        assert_eq!(take_clean(&fs, dir).unwrap(), Some(42));
        fs.restart(Crash::PowerLoss);
        assert_eq!(take_clean(&fs, dir).unwrap(), None, "its removal is synced");
    }
}
