//! Read-only regions of files, and the only unsafe code of the crate.
//!
//! The promises every block leans on:
//! 1. The data directory is locked by one process (`.lock`), and nobody else writes in it.
//! 2. A mapped file never shrinks while a region of it lives: truncation first drops the region,
//!    and where a reader still holds it, writes a new file beside it; files are unlinked, which
//!    keeps the old bytes, and cut before unlinking only when no region is left.
//! 3. Bytes below the published end never change.
//! 4. The end is stored with Release after the bytes and loaded with Acquire ([`PublishedEnd`]).
//! 5. No slice reaches past the published end, which never passes the file's length.
//!
//! The heap-backed twin keeps the same promises where files cannot be mapped (the in-memory file
//! system of the tests, Miri), and checks 2 and 3 at run time.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;

use crate::sync::PublishedEnd;

/// A read-only view of one file, bounded by its published end.
#[derive(Debug)]
pub struct Region {
    source: Source,
    end: Arc<PublishedEnd>,
}

#[derive(Debug)]
enum Source {
    Mapped { map: MmapRaw, file: Arc<File> },
    Heap(Arc<HeapBytes>),
}

impl Region {
    /// Maps `capacity` bytes of `file`, which may be shorter: pages past its end stay untouched.
    ///
    /// # Errors
    /// That of the mapping call.
    pub fn map(file: Arc<File>, capacity: usize, end: Arc<PublishedEnd>) -> io::Result<Self> {
        let map = MmapOptions::new()
            .len(capacity.max(1))
            .map_raw_read_only(&*file)?;
        Ok(Self {
            source: Source::Mapped { map, file },
            end,
        })
    }

    /// A view of heap bytes.
    pub fn heap(bytes: Arc<HeapBytes>, end: Arc<PublishedEnd>) -> Self {
        Self {
            source: Source::Heap(bytes),
            end,
        }
    }

    /// Bytes that may be read now.
    pub fn published(&self) -> u64 {
        self.end.load()
    }

    /// The bytes of `range`.
    ///
    /// # Panics
    /// When the range passes the published end: the caller's arithmetic is wrong, and touching
    /// the bytes could raise a signal.
    pub fn slice(&self, range: Range<usize>) -> &[u8] {
        self.check(&range);
        let base = match &self.source {
            Source::Mapped { map, .. } => map.as_ptr(),
            Source::Heap(bytes) => {
                assert!(bytes.is_readable(&range), "range {range:?} raises a signal");
                bytes.bytes.as_ptr().cast_const()
            }
        };
        // SAFETY: `check` proved the range to lie in the allocation and below the published end
        // (promise 5), where bytes exist in the file (2) and never change (3). The borrow of
        // `self` keeps the mapping alive.
        unsafe { std::slice::from_raw_parts(base.add(range.start), range.len()) }
    }

    /// True when touching the bytes of `range` needs no disk I/O.
    ///
    /// A refusal of the kernel to tell counts as resident: the touch then blocks, no more.
    pub fn is_resident(&self, range: Range<usize>) -> bool {
        self.check(&range);
        match &self.source {
            _ if range.is_empty() => true,
            Source::Heap(bytes) => bytes.is_readable(&range),
            Source::Mapped { map, file } => {
                cachestat(file, &range).unwrap_or_else(|| mincore(map, &range).unwrap_or(true))
            }
        }
    }

    /// Reads the bytes of `range` into the page cache and maps them; blocks.
    ///
    /// # Errors
    /// The error of the read, where a touch would raise SIGBUS.
    pub fn make_resident(&self, range: Range<usize>) -> io::Result<()> {
        self.check(&range);
        match &self.source {
            _ if range.is_empty() => Ok(()),
            Source::Heap(bytes) if bytes.is_readable(&range) => Ok(()),
            Source::Heap(_) => Err(io::Error::from_raw_os_error(libc::EIO)),
            Source::Mapped { map, file } => {
                crate::failpoint::hit("read.before_populate")?;
                populate(map, file, &range)
            }
        }
    }

    fn check(&self, range: &Range<usize>) {
        let (capacity, end) = match &self.source {
            Source::Mapped { map, .. } => (map.len(), self.end.load()),
            Source::Heap(bytes) => (bytes.len, self.end.load()),
        };
        assert!(range.start <= range.end, "range {range:?} is upside down");
        assert!(
            range.end as u64 <= end,
            "range {range:?} passes the published end {end}"
        );
        assert!(
            range.end <= capacity,
            "range {range:?} passes the mapping of {capacity}"
        );
    }
}

/// Bytes on the heap that grow like a file under a map; the twin of a mapping.
#[derive(Debug)]
pub struct HeapBytes {
    bytes: NonNull<u8>,
    len: usize,
    end: Arc<PublishedEnd>,
    writing: Mutex<()>,
    /// What a touch of a mapping would raise a signal for; the bytes themselves are there.
    unreadable: Vec<Range<usize>>,
}

// SAFETY: the bytes are owned by this value; stores are serialised by `writing` and never touch
// what has been published, loads touch only what has (promises 3 to 5).
unsafe impl Send for HeapBytes {}
// SAFETY: as above.
unsafe impl Sync for HeapBytes {}

impl HeapBytes {
    /// `capacity` zeroed bytes whose readers stop at `end`.
    pub fn new(capacity: usize, end: Arc<PublishedEnd>) -> Self {
        let bytes = vec![0u8; capacity.max(1)].into_boxed_slice();
        let len = bytes.len();
        let bytes = NonNull::new(Box::into_raw(bytes).cast::<u8>()).expect("a box is not null");
        Self {
            bytes,
            len,
            end,
            writing: Mutex::new(()),
            unreadable: Vec::new(),
        }
    }

    /// The same where these bytes cannot be brought into memory.
    #[must_use]
    pub fn without(mut self, unreadable: Vec<Range<usize>>) -> Self {
        self.unreadable = unreadable;
        self
    }

    fn is_readable(&self, range: &Range<usize>) -> bool {
        let hit = |bad: &Range<usize>| bad.start < range.end && range.start < bad.end;
        !self.unreadable.iter().any(hit)
    }

    /// Fills the bytes of a file that existed before anything was read through this value.
    pub fn fill(capacity: usize, content: &[u8], end: Arc<PublishedEnd>) -> Self {
        let bytes = Self::new(capacity, end);
        let n = content.len().min(bytes.len);
        // SAFETY: nobody else knows the allocation yet, and `n` is at most its length.
        unsafe { std::ptr::copy_nonoverlapping(content.as_ptr(), bytes.bytes.as_ptr(), n) };
        bytes
    }

    /// Stores `content` at `offset`; what passes the capacity is dropped, as a map would not see
    /// it.
    ///
    /// # Panics
    /// When the store would change bytes that readers may hold (promise 3).
    pub fn store(&self, offset: usize, content: &[u8]) {
        let _writing = self.writing.lock();
        let end = self.end.load();
        assert!(
            offset as u64 >= end,
            "store at {offset} below the published end {end}"
        );
        let n = content.len().min(self.len.saturating_sub(offset));
        if n > 0 {
            // SAFETY: the target lies in the allocation and at or past the published end, where
            // no slice points (5), and `writing` keeps other stores away.
            unsafe {
                let target = self.bytes.as_ptr().add(offset);
                std::ptr::copy_nonoverlapping(content.as_ptr(), target, n);
            }
        }
    }

    /// Bytes that readers may touch.
    pub fn published(&self) -> u64 {
        self.end.load()
    }
}

impl Drop for HeapBytes {
    fn drop(&mut self) {
        let slice = std::ptr::slice_from_raw_parts_mut(self.bytes.as_ptr(), self.len);
        // SAFETY: pointer and length come from `Box::into_raw` in `new` and are freed only here.
        drop(unsafe { Box::from_raw(slice) });
    }
}

/// Starts writing dirty pages of the range to disk, without waiting; no durability.
///
/// # Errors
/// That of `sync_file_range`.
pub(crate) fn start_writeback(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: the call takes no pointers, and `file` keeps the descriptor open across it.
    let answer = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE)
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Set once the kernel has refused `cachestat` (before 6.5, or a seccomp profile).
static NO_CACHESTAT: AtomicBool = AtomicBool::new(false);
/// Set once the kernel has refused `MADV_POPULATE_READ` (before 5.14).
static NO_POPULATE: AtomicBool = AtomicBool::new(false);

const SYS_CACHESTAT: libc::c_long = 451;
const MADV_POPULATE_READ: libc::c_int = 22;
const PAGE: usize = 4096;

/// Whether these bytes of a file are in memory; no, where the kernel does not tell.
pub(crate) fn is_resident(file: &File, offset: u64, length: usize) -> bool {
    let range = usize::try_from(offset)
        .ok()
        .and_then(|start| Some(start..start.checked_add(length)?));
    range.and_then(|range| cachestat(file, &range)) == Some(true)
}

fn cachestat(file: &File, range: &Range<usize>) -> Option<bool> {
    if NO_CACHESTAT.load(Ordering::Relaxed) || cfg!(miri) {
        return None;
    }
    // `struct cachestat_range` and `struct cachestat` of linux/mman.h.
    let asked = [range.start as u64, range.len() as u64];
    let mut found = [0u64; 5];
    // SAFETY: both arrays have the layout of the kernel's structures (u64 fields only) and
    // outlive the call; the descriptor is open.
    let answer = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.as_raw_fd(),
            asked.as_ptr(),
            found.as_mut_ptr(),
            0 as libc::c_uint,
        )
    };
    if answer != 0 {
        NO_CACHESTAT.store(true, Ordering::Relaxed);
        return None;
    }
    let pages = range.end.div_ceil(PAGE) - range.start / PAGE;
    Some(found[0] >= pages as u64)
}

fn mincore(map: &MmapRaw, range: &Range<usize>) -> Option<bool> {
    let (first, last) = (range.start / PAGE, range.end.div_ceil(PAGE));
    let mut pages = [0u8; 256];
    let mut at = first;
    while at < last {
        let count = (last - at).min(pages.len());
        // SAFETY: the pages lie in the mapping (checked by the caller), the address is a multiple
        // of the page size as the mapping starts at one, and `pages` has room for `count` bytes.
        let answer = unsafe {
            let address = map.as_ptr().add(at * PAGE).cast_mut().cast();
            libc::mincore(address, count * PAGE, pages.as_mut_ptr())
        };
        if answer != 0 {
            return None;
        }
        if pages.iter().take(count).any(|page| page & 1 == 0) {
            return Some(false);
        }
        at += count;
    }
    Some(true)
}

fn populate(map: &MmapRaw, file: &File, range: &Range<usize>) -> io::Result<()> {
    if !NO_POPULATE.load(Ordering::Relaxed) {
        let start = range.start / PAGE * PAGE;
        // SAFETY: the range lies in the mapping (checked by the caller) and the address is page
        // aligned; populating only reads, and answers an error where a touch would raise SIGBUS.
        let answer = unsafe {
            let address = map.as_ptr().add(start).cast_mut().cast();
            libc::madvise(address, range.end - start, MADV_POPULATE_READ)
        };
        if answer == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
        NO_POPULATE.store(true, Ordering::Relaxed);
    }
    // Reading into a scratch buffer fills the page cache as well, and reports errors.
    let mut scratch = [0u8; 16 * PAGE];
    let mut at = range.start;
    while at < range.end {
        let want = (range.end - at).min(scratch.len());
        let chunk = scratch.get_mut(..want).unwrap_or_default();
        match file.read_at(chunk, at as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => at += n,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_positional_write_shows_in_the_map() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(dir.path().join("f"))
            .unwrap();
        let file = Arc::new(file);
        let end = Arc::new(PublishedEnd::default());
        let region = Region::map(file.clone(), 1 << 20, end.clone()).unwrap();
        file.write_all_at(b"hello", 0).unwrap();
        end.publish(5);
        assert_eq!(region.slice(0..5), b"hello");
        file.write_all_at(&[7; 9000], 5).unwrap();
        end.publish(9005);
        assert_eq!(region.slice(5..9005), &[7; 9000][..]);
        assert!(region.is_resident(0..9005));
        region.make_resident(0..9005).unwrap();
    }

    #[test]
    fn mincore_agrees_with_cachestat() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [1u8; 40_000]).unwrap();
        let file = File::open(&path).unwrap();
        let map = MmapOptions::new()
            .len(40_000)
            .map_raw_read_only(&file)
            .unwrap();
        assert_eq!(mincore(&map, &(10..39_000)), Some(true));
        NO_POPULATE.store(true, Ordering::Relaxed);
        populate(&map, &file, &(0..40_000)).unwrap();
        NO_POPULATE.store(false, Ordering::Relaxed);
    }

    #[test]
    fn a_missing_file_tail_is_an_error_not_a_signal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [1u8; 4096]).unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        // Promise 5 is broken on purpose: the end lies past the file.
        let end = Arc::new(PublishedEnd::new(20_000));
        let region = Region::map(file, 1 << 20, end).unwrap();
        assert!(region.make_resident(8192..20_000).is_err());
    }

    #[test]
    #[should_panic(expected = "published end")]
    fn a_slice_past_the_published_end_is_refused() {
        let end = Arc::new(PublishedEnd::new(4));
        let region = Region::heap(Arc::new(HeapBytes::new(64, end.clone())), end);
        region.slice(0..5);
    }

    #[test]
    #[should_panic(expected = "below the published end")]
    fn published_heap_bytes_cannot_change() {
        let end = Arc::new(PublishedEnd::new(4));
        HeapBytes::new(64, end).store(3, b"x");
    }

    #[test]
    fn heap_twin_publishes_across_threads() {
        let end = Arc::new(PublishedEnd::default());
        let bytes = Arc::new(HeapBytes::new(1000, end.clone()));
        let region = Region::heap(bytes.clone(), end.clone());
        let writer = std::thread::spawn(move || {
            for at in 0..1000 {
                bytes.store(at, &[at as u8]);
                end.publish(at as u64 + 1);
            }
        });
        let mut seen = 0;
        while seen < 1000 {
            seen = region.published() as usize;
            assert!(
                region
                    .slice(0..seen)
                    .iter()
                    .enumerate()
                    .all(|(n, b)| n as u8 == *b)
            );
        }
        writer.join().unwrap();
    }
}
