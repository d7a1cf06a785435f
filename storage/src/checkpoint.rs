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
    /// The file does not say what the table does.
    changed: AtomicBool,
    /// There was no file.
    missing: bool,
    /// What follows when the file tells nothing, for the operator.
    without: &'static str,
}

impl Checkpoint {
    /// Reads the file; a missing one is empty, and so is a damaged one, after a warning with what
    /// follows from that (`without`): no offset in it is needed to open a log.
    ///
    /// # Errors
    /// `FormatTooNew`, or `Io` when the file is there but cannot be read.
    pub(crate) fn load(
        fs: &dyn Fs,
        path: PathBuf,
        without: &'static str,
    ) -> Result<Self, StorageError> {
        let text = match read_small_text(fs, &path) {
            Ok(text) => text,
            Err(StorageError::BadFile { reason, .. }) => {
                tell(&path, reason, without);
                Some(String::new())
            }
            Err(error) => return Err(error),
        };
        let missing = text.is_none();
        let text = text.filter(|text| !text.is_empty());
        let entries = match &text {
            Some(text) => check_version(text, VERSION, &path)?
                .filter_map(parse)
                .collect(),
            None => BTreeMap::new(),
        };
        Ok(Self {
            path,
            entries: Mutex::new(entries),
            writing: Mutex::new(()),
            stale: AtomicBool::new(false),
            changed: AtomicBool::new(text.is_none()),
            missing,
            without,
        })
    }

    /// Warns of a file that was not there; for a directory that must have had it.
    pub(crate) fn report_missing(&self) {
        if self.missing {
            tell(&self.path, "missing", self.without);
        }
    }

    pub(crate) fn get(&self, name: &str, topic_id: TopicId) -> Option<Offset> {
        let entries = self.entries.lock();
        entries
            .get(name)
            .filter(|(id, _)| *id == topic_id)
            .map(|(_, offset)| *offset)
    }

    pub(crate) fn set(&self, name: &str, topic_id: TopicId, offset: Offset) {
        let entry = (topic_id, offset);
        let before = self.entries.lock().insert(name.to_owned(), entry);
        if before != Some(entry) {
            self.changed.store(true, Ordering::Release);
        }
    }

    /// Drops the offset of a log; answers whether there was one.
    pub(crate) fn remove(&self, name: &str) -> bool {
        let removed = self.entries.lock().remove(name).is_some();
        if removed {
            self.stale.store(true, Ordering::Release);
            self.changed.store(true, Ordering::Release);
        }
        removed
    }

    /// True when an offset was dropped since the file was written.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Replaces the file, unless it says the same already.
    pub(crate) fn store(&self, fs: &dyn Fs) -> Result<(), StorageError> {
        let _writing = self.writing.lock();
        // Before the table is read: what changes from here on is written the next time.
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let stale = self.stale.swap(false, Ordering::AcqRel);
        let mut text = format!("version={VERSION}\n");
        for (name, (topic_id, offset)) in &*self.entries.lock() {
            let _ = writeln!(text, "{name} {topic_id} {offset}");
        }
        durable::write_small_file(fs, &self.path, text.as_bytes()).inspect_err(|_| {
            self.stale.store(stale, Ordering::Release);
            self.changed.store(true, Ordering::Release);
        })
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn tell(path: &Path, reason: &str, without: &str) {
    tracing::warn!(
        path = %path.display(), reason,
        "checkpoint not read: {without}; a copy of the file can be put in its place while the node is \
         stopped"
    );
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
    fn what_could_not_be_written_is_written_the_next_time() {
        let fs = FaultyFs::new();
        let path = PathBuf::from("/recovery-point-checkpoint");
        let id = TopicId::from_bytes([1; 16]);
        let points = Checkpoint::load(&fs, path.clone(), "").unwrap();
        points.store(&fs).unwrap();
        assert!(fs.exists(&path).unwrap(), "an empty table has a file too");
        points.set("t-0", id, Offset::new(7));
        fs.fail_sync_at(fs.syncs());
        assert!(points.store(&fs).is_err());
        points.store(&fs).unwrap();
        let points = Checkpoint::load(&fs, path, "").unwrap();
        assert_eq!(points.get("t-0", id), Some(Offset::new(7)));
    }

    #[test]
    fn offsets_are_kept_per_log_and_topic_id() {
        let fs = FaultyFs::new();
        let path = PathBuf::from("/recovery-point-checkpoint");
        let (a, b) = (TopicId::from_bytes([1; 16]), TopicId::from_bytes([2; 16]));
        let points = Checkpoint::load(&fs, path.clone(), "").unwrap();
        points.set("t-0", a, Offset::new(7));
        points.set("u-1", b, Offset::new(9));
        points.store(&fs).unwrap();
        let before = fs.operations();
        points.set("t-0", a, Offset::new(7));
        points.store(&fs).unwrap();
        assert_eq!(fs.operations(), before, "nothing to write");
        let points = Checkpoint::load(&fs, path.clone(), "").unwrap();
        assert_eq!(points.get("t-0", a), Some(Offset::new(7)));
        assert_eq!(points.get("t-0", b), None, "another topic of the same name");
        points.remove("t-0");
        assert_eq!(points.get("t-0", a), None);
        fs.flip(&path, 20, 1);
        assert_eq!(Checkpoint::load(&fs, path, "").unwrap().get("u-1", b), None);
    }
}
