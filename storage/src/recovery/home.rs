//! The directory of a log, and whose it is.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::durable::{self, check_version, read_small_text};
use crate::error::StorageError;
use crate::failpoint;
use crate::fs::{Fs, OpenHow};
use crate::segment::base_of;
use crate::shared::Shared;
use crate::types::{Offset, TopicId};

/// File with the topic id.
pub(crate) const METADATA_FILE: &str = "partition.metadata";
const METADATA_VERSION: u32 = 1;
/// The same before it has its name.
const HALF_WRITTEN: &str = "partition.metadata.tmp";

/// Drops the stored offsets of a log that was deleted, before a new one takes its name.
pub(super) fn forget_predecessor(
    shared: &Shared,
    name: &str,
    dir: &Path,
) -> Result<(), StorageError> {
    let there = shared
        .fs
        .exists(dir)
        .map_err(|e| StorageError::io("open", dir, &e))?;
    if there {
        return Ok(());
    }
    for table in [
        &shared.recovery_points,
        &shared.log_starts,
        &shared.high_watermarks,
        &shared.cleaner_points,
    ] {
        // Removed from memory at the deletion; the file may be older than that.
        if table.remove(name) || table.is_stale() {
            table.store(&*shared.fs)?;
        }
    }
    Ok(())
}

/// File with which an operator says that the records of a log are given up.
const ACCEPT_LOSS: &str = "accept-loss";

/// Refuses a log whose records were synced, as the checkpoints say, and are gone: neither an empty
/// log nor one that goes on behind the gap may take its place.
///
/// A missing directory counts whatever the checkpoints say above 0, since its creation was synced.
/// In one that is there, only what was synced must be: the rest a power cut may have taken.
///
/// With the file [`ACCEPT_LOSS`] in its directory the log goes on, empty, at the offset where it
/// was.
pub(super) fn refuse_vanished(
    shared: &Arc<Shared>,
    name: &str,
    topic_id: TopicId,
    dir: &Path,
    sparse: bool,
) -> Result<(), StorageError> {
    let io = |error| StorageError::io("open", dir, &error);
    let of = |table: &Checkpoint| table.get(name, topic_id).unwrap_or(Offset::ZERO);
    let (synced, from) = (of(&shared.recovery_points), of(&shared.log_starts));
    let fs = &*shared.fs;
    let to = if !fs.exists(dir).map_err(io)? {
        synced.max(of(&shared.high_watermarks)).max(from)
    } else if synced > from && !holds_records(fs, dir, synced, sparse).map_err(io)? {
        synced
    } else {
        Offset::ZERO
    };
    let accepted = dir.join(ACCEPT_LOSS);
    match (to > Offset::ZERO, fs.exists(&accepted).map_err(io)?) {
        (false, false) => return Ok(()),
        (true, false) => {
            return Err(StorageError::RecordsGone {
                path: dir.to_owned(),
                from,
                to,
            });
        }
        (false, true) => {
            tracing::warn!(path = %accepted.display(), "nothing is lost here, removed");
        }
        (true, true) => {
            let to = to.max(of(&shared.high_watermarks));
            tracing::warn!(log = name, %from, %to, "loss accepted, the log goes on empty");
            // No offset is given twice. Stored first: without the file the records are missed
            // again.
            shared.log_starts.set(name, topic_id, to);
            shared.store(&shared.log_starts)?;
        }
    }
    fs.remove_file(&accepted).map_err(io)?;
    fs.sync_dir(dir).map_err(io)
}

/// Whether a log's directory has a byte of records, or shows that there need not be one below
/// `synced`: compaction may have taken all of them.
fn holds_records(fs: &dyn Fs, dir: &Path, synced: Offset, sparse: bool) -> std::io::Result<bool> {
    for entry in fs.list(dir)? {
        let Some(base) = base_of(&entry.name) else {
            if entry.name.ends_with(".swap") {
                return Ok(true);
            }
            continue;
        };
        let size = fs.open(&dir.join(&entry.name), OpenHow::Read)?.size()?;
        if size > 0 || sparse && base >= synced {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the directory and its topic id, or checks the id. Answers whether the log is new; `made`
/// tells whether the directory is, also where what follows fails.
pub(super) fn prepare_dir(
    shared: &Shared,
    dir: &Path,
    topic_id: TopicId,
    made: &mut bool,
) -> Result<bool, StorageError> {
    let fs = &*shared.fs;
    let io = |error| StorageError::io("create", dir, &error);
    let metadata = dir.join(METADATA_FILE);
    let there = fs.exists(dir).map_err(io)?;
    if there {
        if let Some(found) = stored_topic_id(fs, &metadata)? {
            return if found == topic_id {
                Ok(false)
            } else {
                Err(StorageError::TopicIdMismatch {
                    path: dir.to_owned(),
                })
            };
        }
        let entries = fs.list(dir).map_err(io)?;
        if entries.iter().any(|entry| base_of(&entry.name).is_some()) {
            let reason = "segments without a topic id";
            return Err(StorageError::BadFile {
                path: metadata,
                reason,
            });
        }
    }
    fs.create_dir(dir).map_err(io)?;
    *made = !there;
    failpoint::hit("create.after_dir").map_err(io)?;
    let text = format!("version={METADATA_VERSION}\ntopic_id={topic_id}\n");
    durable::write_small_file(fs, &metadata, text.as_bytes())?;
    failpoint::hit("create.before_parent_sync").map_err(io)?;
    fs.sync_dir(&shared.path).map_err(io)?;
    Ok(true)
}

/// Takes away what a creation that failed has made of a log, which holds no record yet.
///
/// By name, since there may be no descriptor left to list it with. What stays, the next start
/// finds.
pub(super) fn remove_unmade(shared: &Shared, dir: &Path) {
    let fs = &*shared.fs;
    let first = format!("{:020}.log", 0);
    for name in [first.as_str(), METADATA_FILE, HALF_WRITTEN] {
        let _ = fs.remove_file(&dir.join(name));
    }
    if fs.remove_dir(dir).is_ok() {
        let _ = fs.sync_dir(&shared.path);
    }
}

/// True for the directory of a creation that was cut short before it had a topic id: it holds what
/// that makes and nothing else. False where that cannot be seen.
pub(crate) fn is_half_made(fs: &dyn Fs, dir: &Path) -> bool {
    let made = |name: &str| match base_of(name) {
        Some(_) => {
            let file = fs.open(&dir.join(name), OpenHow::Read);
            matches!(file.and_then(|file| file.size()), Ok(0))
        }
        None => name == HALF_WRITTEN,
    };
    let entries = fs.list(dir);
    entries.is_ok_and(|all| all.iter().all(|entry| !entry.is_dir && made(&entry.name)))
}

/// Topic id in a metadata file; `None` when there is no file.
pub(crate) fn stored_topic_id(fs: &dyn Fs, path: &Path) -> Result<Option<TopicId>, StorageError> {
    let Some(text) = read_small_text(fs, path)? else {
        return Ok(None);
    };
    let mut lines = check_version(&text, METADATA_VERSION, path)?;
    let reason = "no topic id";
    lines
        .find_map(|line| line.strip_prefix("topic_id=")?.parse().ok())
        .map(Some)
        .ok_or(StorageError::BadFile {
            path: path.to_owned(),
            reason,
        })
}
