//! Files that are out of their log and wait to be removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fs::{Fs, OpenHow};
use crate::segment::Segment;
use crate::types::TimestampMs;

/// A large file is cut in steps of this many bytes before it is unlinked.
const STEP: u64 = if cfg!(test) { 1024 } else { 64 << 20 };

/// One removed segment, or the files of one removed log.
#[derive(Debug)]
pub(crate) struct Grave {
    /// Not before this time.
    pub(crate) due: TimestampMs,
    /// The segment, if readers may still hold its mapping.
    pub(crate) segment: Option<Arc<Segment>>,
    /// The files.
    pub(crate) files: Vec<PathBuf>,
    /// The directory to remove after them.
    pub(crate) dir: Option<PathBuf>,
}

/// All graves of a directory.
#[derive(Debug, Default)]
pub(crate) struct Graveyard {
    graves: Mutex<Vec<Grave>>,
    /// Directories of deleted logs that could not be looked into: the disk or the system refused.
    left: Mutex<Vec<PathBuf>>,
}

impl Graveyard {
    pub(crate) fn add(&self, grave: Grave) {
        self.graves.lock().push(grave);
    }

    /// Remembers the directory of a deleted log, for [`Graveyard::bury_left`].
    pub(crate) fn leave(&self, dir: PathBuf) {
        self.left.lock().push(dir);
    }

    /// True when there are such directories.
    pub(crate) fn has_left(&self) -> bool {
        !self.left.lock().is_empty()
    }

    /// Tries again to remove what deletions left in `parent`; blocks.
    pub(crate) fn bury_left(&self, fs: &dyn Fs, parent: &Path) {
        let left = std::mem::take(&mut *self.left.lock());
        if left.is_empty() {
            return;
        }
        let is_synced = fs.sync_dir(parent).is_ok();
        let (gone, kept): (Vec<_>, Vec<_>) = left
            .into_iter()
            .partition(|dir| is_synced && unlink(fs, dir).is_ok());
        self.left.lock().extend(kept);
        if !gone.is_empty() {
            tracing::info!(directories = gone.len(), "deleted logs removed after all");
        }
    }

    /// True when something waits that is due at `now`.
    pub(crate) fn is_due(&self, now: TimestampMs) -> bool {
        self.graves.lock().iter().any(|grave| grave.due <= now)
    }

    /// Removes what is due at `now`; blocks.
    pub(crate) fn bury_due(&self, fs: &dyn Fs, now: TimestampMs) {
        let due: Vec<Grave> = {
            let mut graves = self.graves.lock();
            let (due, later) = std::mem::take(&mut *graves)
                .into_iter()
                .partition(|g| g.due <= now);
            *graves = later;
            due
        };
        due.into_iter().for_each(|grave| bury(fs, grave));
    }

    /// Removes everything now; blocks.
    pub(crate) fn bury_all(&self, fs: &dyn Fs) {
        self.bury_due(fs, TimestampMs::new(i64::MAX));
    }
}

fn bury(fs: &dyn Fs, grave: Grave) {
    // Without its segment nobody knows who reads a file: it may have retired before its log.
    let unread = grave.segment.is_some_and(|segment| segment.is_unread(1));
    for path in &grave.files {
        if unread && holds_records(path) {
            // Nobody maps the file, so it may shrink; freeing all at once would stall the disk.
            cut_in_steps(fs, path);
        }
        if let Err(error) = fs.remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "file not removed");
        }
    }
    if let Some(dir) = grave.dir
        && let Err(error) = fs.remove_dir(&dir)
    {
        tracing::warn!(path = %dir.display(), %error, "directory not removed");
    }
}

/// Removes a directory of files that somebody may still map: none is cut.
fn unlink(fs: &dyn Fs, dir: &Path) -> std::io::Result<()> {
    let entries = match fs.list(dir) {
        // By somebody else: there is nothing left to do.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        fs.remove_file(&dir.join(entry.name))?;
    }
    fs.remove_dir(dir)
}

/// True for a `.log`, under whatever name it waits.
fn holds_records(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|name| name.ends_with(".log") || name.ends_with(".log.deleted"))
}

fn cut_in_steps(fs: &dyn Fs, path: &Path) {
    let Ok(file) = fs.open(path, OpenHow::Write) else {
        return;
    };
    let mut size = file.size().unwrap_or(0);
    while size > STEP {
        size -= STEP;
        if file.set_len(size).is_err() {
            return;
        }
    }
}
