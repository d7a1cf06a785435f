//! The file-system operations the log needs, and nothing else.
//!
//! Two implementations: the operating system's files, and [`FaultyFs`], a double in memory that
//! loses, tears and reorders unsynced writes, fails syncs, and runs full.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::mmap::Region;
use crate::sync::PublishedEnd;
use crate::types::TimestampMs;

mod faulty;
mod real;

pub use faulty::{Crash, FaultyFs};
pub use real::real;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenHow {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new or emptied file, for reading and writing, mode 0600.
    Create,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// File name.
    pub name: String,
    /// The entry is a directory.
    pub is_dir: bool,
}

/// Space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total: u64,
    /// Free for this process.
    pub free: u64,
}

/// A file system.
pub trait Fs: Send + Sync + Debug {
    /// Creates a directory, mode 0700; one that exists is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Opens a file.
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn FsFile>>;
    /// Renames a file or directory over what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory survive a crash.
    ///
    /// # Errors
    /// Codes `EMFILE`, `ENFILE` and `ENOMEM`: the directory was not opened, so no sync has failed.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory, in no order; names that are not UTF-8 are left out.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// True when the path exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Space of the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Locks a file against other processes; `None` when another one holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>>;
}

/// An open file.
pub trait FsFile: Send + Sync + Debug {
    /// Writes at a position; may write less than asked.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Writes two pieces, one behind the other, at a position; may write less than asked.
    ///
    /// Doubles join the pieces first.
    fn write_two_at(&self, first: &[u8], second: &[u8], offset: u64) -> io::Result<usize> {
        self.write_at(&[first, second].concat(), offset)
    }
    /// Reads at a position; may read less than asked, 0 at the end.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// The same for bytes that nobody is likely to ask for again soon: what was not in memory
    /// before does not stay there, so that it drives nothing else out.
    fn read_aside(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(into, offset)
    }
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends the file; cutting also frees blocks allocated past the end.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Brings data and length to stable storage (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Allocates blocks without changing the length; may succeed in part when it fails.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Starts writing dirty bytes, without waiting and without durability.
    fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()>;
    /// When the content was last written.
    ///
    /// # Errors
    /// `Unsupported` by a double, which has no clock.
    fn modified(&self) -> io::Result<TimestampMs> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Has the file say that its content was last written at `time`.
    ///
    /// # Errors
    /// `Unsupported` by a double.
    fn set_modified(&self, _time: TimestampMs) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Maps `capacity` bytes for reading, bounded by `end`.
    fn map(&self, capacity: usize, end: Arc<PublishedEnd>) -> io::Result<Region>;
}

/// Makes a change to a file that adds no record: the file says afterwards that it was last written
/// when it was before. Records without timestamps are as old as their file.
///
/// # Errors
/// That of the change.
pub(crate) fn keeping_age<E>(
    file: &dyn FsFile,
    change: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let written = file.modified();
    change()?;
    if let Ok(written) = written {
        set_age(file, written);
    }
    Ok(())
}

/// Has a file say that it was last written at `written`, if it can.
pub(crate) fn set_age(file: &dyn FsFile, written: TimestampMs) {
    if let Err(error) = file.set_modified(written) {
        tracing::debug!(%error, "records without timestamps count as written anew");
    }
}

/// Writes all of `bytes` at `offset`, going on after short writes.
///
/// # Errors
/// The first error; a write of nothing counts as a full disk.
pub fn write_all_at(file: &dyn FsFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut rest = bytes;
    let mut at = offset;
    while !rest.is_empty() {
        match file.write_at(rest, at) {
            Ok(0) => return Err(io::ErrorKind::StorageFull.into()),
            Ok(n) => {
                rest = rest.get(n..).unwrap_or_default();
                at += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of two pieces, one behind the other, at `offset`, at most `step` bytes of the second
/// at a time, going on after short writes.
///
/// # Errors
/// As [`write_all_at`].
pub(crate) fn write_all_two_at(
    file: &dyn FsFile,
    first: &[u8],
    second: &[u8],
    offset: u64,
    step: usize,
) -> io::Result<()> {
    let mut done = 0;
    while done < first.len() + second.len() {
        let head = first.get(done..).unwrap_or_default();
        let from = done.saturating_sub(first.len());
        let until = from.saturating_add(step).min(second.len());
        let tail = second.get(from..until).unwrap_or_default();
        match file.write_two_at(head, tail, offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::StorageFull.into()),
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// That of the read, or `InvalidData` when the file is larger.
pub fn read_all(file: &dyn FsFile, limit: u64) -> io::Result<Vec<u8>> {
    let size = file.size()?;
    if size > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    read_part(file, 0, size)
}

/// Reads `length` bytes of a file from `position` on, fewer where it ends before.
pub(crate) fn read_part(file: &dyn FsFile, position: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?];
    let mut at = 0;
    while at < bytes.len() {
        let chunk = bytes.get_mut(at..).unwrap_or_default();
        match file.read_at(chunk, position + at as u64) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(at);
    Ok(bytes)
}

/// True for the errors that mean "no room": full disk, quota, no inodes.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
