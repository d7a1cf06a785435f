//! The operating system's files.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{Advice, FallocateFlags, FlockOperation};

use super::{Entry, Fs, FsFile, OpenHow, Space};
use crate::mmap::{self, Region};
use crate::sync::PublishedEnd;
use crate::types::TimestampMs;

/// The operating system's files.
pub fn real() -> Arc<dyn Fs> {
    Arc::new(RealFs)
}

#[derive(Debug)]
struct RealFs;

#[derive(Debug)]
struct RealFile(Arc<File>);

/// Open while the lock is held.
struct HeldLock(File);

impl HeldLock {
    /// Locks the file; `None` when another process, or another value of this type, holds it.
    fn take(path: &Path) -> io::Result<Option<HeldLock>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // Only for the message of the next one that tries; a full disk has no room for it.
                let number = format!("{}\n", process::id());
                let _ = file.set_len(0);
                let _ = file.write_all_at(number.as_bytes(), 0);
                Ok(Some(HeldLock(file)))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for HeldLock {
    /// Unlocks in so many words: a child that another thread has just forked holds a copy of the
    /// descriptor until it runs its program, and closing ours would leave the lock with it.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

impl Fs for RealFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn FsFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            OpenHow::Read => {}
            OpenHow::Write => {
                options.write(true);
            }
            OpenHow::Create => {
                options.write(true).create(true).truncate(true).mode(0o600);
            }
        }
        Ok(Arc::new(RealFile(Arc::new(options.open(path)?))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = File::open(path)?;
        dir.sync_all().map_err(|error| match error.raw_os_error() {
            // This code is the open's alone: who meets it knows that nothing was asked of the disk.
            Some(libc::ENOMEM) => io::Error::other(error),
            _ => error,
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let is_dir = entry.file_type()?.is_dir();
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(Entry { name, is_dir });
            }
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(path)?;
        let unit = found.f_frsize;
        Ok(Space {
            total: found.f_blocks.saturating_mul(unit),
            free: found.f_bavail.saturating_mul(unit),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let held = HeldLock::take(path)?;
        Ok(held.map(|held| Box::new(held) as Box<dyn Send + Sync>))
    }
}

impl FsFile for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn write_two_at(&self, first: &[u8], second: &[u8], offset: u64) -> io::Result<usize> {
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        Ok(rustix::io::pwritev(&*self.0, &pieces, offset)?)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }

    fn read_aside(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        // Nothing is read ahead, or the next piece would seem to have been in memory before.
        rustix::fs::fadvise(&*self.0, 0, None, Advice::Random)?;
        let was_resident = mmap::is_resident(&self.0, offset, into.len());
        let count = self.0.read_at(into, offset)?;
        if !was_resident {
            // Pages that someone has mapped, or written and not synced, stay: the kernel sees to
            // it.
            let length = NonZeroU64::new(count as u64);
            rustix::fs::fadvise(&*self.0, offset, length, Advice::DontNeed)?;
        }
        Ok(count)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(
            &*self.0,
            FallocateFlags::KEEP_SIZE,
            offset,
            len,
        )?)
    }

    fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        mmap::start_writeback(&self.0, offset, len)
    }

    fn modified(&self) -> io::Result<TimestampMs> {
        let since = self.0.metadata()?.modified()?.duration_since(UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis());
        Ok(TimestampMs::new(i64::try_from(millis).unwrap_or(i64::MAX)))
    }

    fn set_modified(&self, time: TimestampMs) -> io::Result<()> {
        let millis = u64::try_from(time.value()).unwrap_or(0);
        self.0
            .set_modified(UNIX_EPOCH + Duration::from_millis(millis))
    }

    fn map(&self, capacity: usize, end: Arc<PublishedEnd>) -> io::Result<Region> {
        Region::map(self.0.clone(), capacity, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{read_all, write_all_at, write_all_two_at};

    #[test]
    fn files_do_what_the_trait_says() {
        let dir = tempfile::tempdir().unwrap();
        let fs = real();
        let sub = dir.path().join("a");
        fs.create_dir(&sub).unwrap();
        fs.create_dir(&sub).unwrap();
        let path = sub.join("f");
        let file = fs.open(&path, OpenHow::Create).unwrap();
        write_all_at(&*file, b"abcdef", 0).unwrap();
        file.allocate(0, 1 << 20).unwrap();
        assert_eq!(file.size().unwrap(), 6, "allocation keeps the length");
        file.set_len(3).unwrap();
        file.sync().unwrap();
        file.start_writeback(0, 3).unwrap();
        fs.sync_dir(&sub).unwrap();
        assert_eq!(read_all(&*file, 10).unwrap(), b"abc");
        assert!(read_all(&*file, 2).is_err());
        write_all_two_at(&*file, b"xy", b"0123456789", 1, 3).unwrap();
        assert_eq!(read_all(&*file, 20).unwrap(), b"axy0123456789");
        file.set_len(3).unwrap();
        fs.rename(&path, &sub.join("g")).unwrap();
        assert_eq!(
            fs.list(&sub).unwrap(),
            [Entry {
                name: "g".into(),
                is_dir: false
            }]
        );
        assert!(!fs.exists(&path).unwrap());
        assert!(fs.space(&sub).unwrap().total > 0);
        fs.remove_file(&sub.join("g")).unwrap();
        fs.remove_dir(&sub).unwrap();
    }

    #[test]
    fn directories_and_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let fs = real();
        let sub = dir.path().join("a");
        fs.create_dir(&sub).unwrap();
        let path = sub.join("f");
        fs.open(&path, OpenHow::Create).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&sub), 0o700);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn reading_aside_leaves_memory_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let fs = real();
        let file = fs.open(&path, OpenHow::Create).unwrap();
        let content: Vec<u8> = (0..1 << 20).map(|n: u32| (n >> 8) as u8).collect();
        write_all_at(&*file, &content, 0).unwrap();
        file.sync().unwrap();
        let plain = File::open(&path).unwrap();
        let resident = |from: u64| mmap::is_resident(&plain, from, 1 << 16);
        let mut read = vec![0; 1 << 16];
        let mut read_all = |file: &dyn FsFile| {
            for at in (0..1 << 20).step_by(1 << 16) {
                assert_eq!(file.read_aside(&mut read, at as u64).unwrap(), 1 << 16);
                assert_eq!(read, content[at..at + (1 << 16)]);
            }
        };
        let aside = fs.open(&path, OpenHow::Read).unwrap();
        read_all(&*aside);
        assert!(resident(0) && resident(1 << 19), "it was in memory before");
        rustix::fs::fadvise(&plain, 0, None, Advice::DontNeed).unwrap();
        if resident(0) {
            eprintln!("SKIPPED: this file system keeps its files in memory");
            return;
        }
        read_all(&*aside);
        assert!(!resident(0) && !resident(1 << 19), "it was not");
    }

    #[test]
    fn a_lock_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let fs = real();
        let path = dir.path().join(".lock");
        let held = fs.lock(&path).unwrap();
        assert!(held.is_some());
        assert!(fs.lock(&path).unwrap().is_none());
        drop(held);
        assert!(fs.lock(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_ends_though_a_child_has_a_copy_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let held = HeldLock::take(&path).unwrap().unwrap();
        // What a process has between its fork and the start of its program.
        let copy = held.0.try_clone().unwrap();
        assert!(HeldLock::take(&path).unwrap().is_none());
        drop(held);
        assert!(HeldLock::take(&path).unwrap().is_some());
        drop(copy);
    }
}
