//! One offset per log, kept for a whole directory in one small file.
//!
//! Text: `version=1`, then one line per log, `<directory name> <topic id> <offset>`. The topic id
//! keeps the offset of a deleted topic from a new one of the same name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::durable::{self, check_version, read_small_text};
use crate::error::StorageError;
use crate::fs::Fs;
use crate::types::{Offset, TopicId};

const VERSION: u32 = 1;

/// One checkpoint file and what will be written to it next.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
    entries: Mutex<BTreeMap<String, (TopicId, Offset)>>,
    /// Held while the file is replaced, so that an older table never overwrites a newer one.
    writing: Mutex<()>,
    stale: AtomicBool,
}

impl Checkpoint {
    /// Reads the file; a missing one is empty, and so is a damaged one, after a warning: every
    /// offset in it only spares work or is bounded by the log itself.
    ///
    /// # Errors
    /// `FormatTooNew`, or `Io` when the file is there but cannot be read.
    pub(crate) fn load(fs: &dyn Fs, path: PathBuf) -> Result<Self, StorageError> {
        let text = match read_small_text(fs, &path) {
            Ok(text) => text.unwrap_or_else(|| format!("version={VERSION}\n")),
            Err(StorageError::BadFile { reason, .. }) => {
                tracing::warn!(path = %path.display(), reason, "checkpoint ignored");
                format!("version={VERSION}\n")
            }
            Err(error) => return Err(error),
        };
        let entries = check_version(&text, VERSION, &path)?
            .filter_map(parse)
            .collect();
        Ok(Self {
            path,
            entries: Mutex::new(entries),
            writing: Mutex::new(()),
            stale: AtomicBool::new(false),
        })
    }

    pub(crate) fn get(&self, name: &str, topic_id: TopicId) -> Option<Offset> {
        let entries = self.entries.lock();
        entries
            .get(name)
            .filter(|(id, _)| *id == topic_id)
            .map(|(_, offset)| *offset)
    }

    pub(crate) fn set(&self, name: &str, topic_id: TopicId, offset: Offset) {
        self.entries
            .lock()
            .insert(name.to_owned(), (topic_id, offset));
    }

    /// Drops the offset of a log; answers whether there was one.
    pub(crate) fn remove(&self, name: &str) -> bool {
        let removed = self.entries.lock().remove(name).is_some();
        if removed {
            self.stale.store(true, Ordering::Release);
        }
        removed
    }

    /// True when an offset was dropped since the file was written.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Replaces the file.
    pub(crate) fn store(&self, fs: &dyn Fs) -> Result<(), StorageError> {
        let _writing = self.writing.lock();
        let stale = self.stale.swap(false, Ordering::AcqRel);
        let mut text = format!("version={VERSION}\n");
        for (name, (topic_id, offset)) in &*self.entries.lock() {
            let _ = writeln!(text, "{name} {topic_id} {offset}");
        }
        durable::write_small_file(fs, &self.path, text.as_bytes())
            .inspect_err(|_| self.stale.store(stale, Ordering::Release))
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn parse(line: &str) -> Option<(String, (TopicId, Offset))> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let topic_id = words.next()?.parse().ok()?;
    let offset = words.next()?.parse().ok()?;
    Some((name.to_owned(), (topic_id, Offset::new(offset))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::FaultyFs;

    #[test]
    fn offsets_are_kept_per_log_and_topic_id() {
        let fs = FaultyFs::new();
        let path = PathBuf::from("/recovery-point-checkpoint");
        let (a, b) = (TopicId::from_bytes([1; 16]), TopicId::from_bytes([2; 16]));
        let points = Checkpoint::load(&fs, path.clone()).unwrap();
        points.set("t-0", a, Offset::new(7));
        points.set("u-1", b, Offset::new(9));
        points.store(&fs).unwrap();
        let points = Checkpoint::load(&fs, path.clone()).unwrap();
        assert_eq!(points.get("t-0", a), Some(Offset::new(7)));
        assert_eq!(points.get("t-0", b), None, "another topic of the same name");
        points.remove("t-0");
        assert_eq!(points.get("t-0", a), None);
        fs.flip(&path, 20, 1);
        assert_eq!(Checkpoint::load(&fs, path).unwrap().get("u-1", b), None);
    }
}
