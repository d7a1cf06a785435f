//! One segment: a file of whole batches, its mapping, its indexes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::batch::Walk;
use crate::error::StorageError;
use crate::fs::{Fs, FsFile, OpenHow};
use crate::map_cache::MapCache;
use crate::mmap::Region;
use crate::recovery::{SEGMENT_EXTENSIONS, replay_aborted};
use crate::seal::Seal;
use crate::segment_index::{IndexBuilder, MemoryIndex, SegmentIndex, stored_aborted};
use crate::sync::PublishedEnd;
use crate::types::{Offset, TimestampMs};

/// No timestamp seen yet.
const UNKNOWN: i64 = i64::MIN;

/// Distance of index entries when a sealed segment's index is rebuilt, in bytes.
const REBUILD_INTERVAL: u32 = 4096;

/// One segment of a log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    /// Path of the `.log`.
    pub(crate) path: Arc<Path>,
    /// Bytes the mapping spans; the file never grows past it.
    pub(crate) capacity: u64,
    /// Time of creation, or of opening.
    pub(crate) created: TimestampMs,
    fs: Arc<dyn Fs>,
    maps: Arc<MapCache>,
    end: Arc<PublishedEnd>,
    /// End position (high half) and next offset relative to the base (low half), together.
    tail: AtomicU64,
    max_timestamp: AtomicI64,
    first_timestamp: AtomicI64,
    index: ArcSwapOption<SegmentIndex>,
    region: ArcSwapOption<Region>,
    /// The writing descriptor, held until the last sync.
    file: Mutex<Option<Arc<dyn FsFile>>>,
    seal: Mutex<Option<Seal>>,
    sealed: AtomicBool,
    synced: AtomicBool,
    /// The first sync of its bytes has to sync its directory too.
    name_unsynced: AtomicBool,
    pub(crate) touched: AtomicBool,
    /// What is mapped counts in `maps`, and is given back when others want the room.
    counted: AtomicBool,
    /// A reader held what was mapped when that was given back.
    outlived: AtomicBool,
    /// The files are about to lose their names: what is open stays open. Guarded by `file`.
    pinned: AtomicBool,
}

/// End of a segment at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) position: u64,
    pub(crate) next: Offset,
}

/// Where files of a segment go.
#[derive(Clone, Debug)]
pub(crate) struct SegmentHome {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) maps: Arc<MapCache>,
    pub(crate) dir: PathBuf,
}

impl SegmentHome {
    /// Path of the `.log` of the segment at `base`.
    pub(crate) fn path(&self, base: Offset) -> PathBuf {
        self.dir.join(format!("{:020}.log", base.value()))
    }

    /// Removes the seal of a segment, and its indexes; answers whether one of them was there.
    ///
    /// The directory is not synced, as after [`Self::remove_segment`].
    pub(crate) fn remove_seal(&self, base: Offset) -> Result<bool, StorageError> {
        let others = SEGMENT_EXTENSIONS.into_iter().filter(|ext| *ext != "log");
        self.remove(base, others)
    }

    /// Removes the files of a segment that are there.
    pub(crate) fn remove_segment(&self, base: Offset) -> Result<(), StorageError> {
        self.remove(base, SEGMENT_EXTENSIONS).map(|_| ())
    }

    fn remove(
        &self,
        base: Offset,
        extensions: impl IntoIterator<Item = &'static str>,
    ) -> Result<bool, StorageError> {
        let mut removed = false;
        for extension in extensions {
            let path = self.path(base).with_extension(extension);
            match self.fs.remove_file(&path) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(StorageError::io("remove", &path, &error)),
            }
        }
        Ok(removed)
    }
}

/// Base offset in the name of a `.log` file.
pub(crate) fn base_of(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    plain
        .then(|| digits.parse().ok().map(Offset::new))
        .flatten()
}

impl Segment {
    /// An unsealed segment around an open file, with the content described by `tail`.
    pub(crate) fn open(
        home: &SegmentHome,
        base: Offset,
        capacity: u64,
        file: Arc<dyn FsFile>,
        tail: Tail,
        content: IndexBuilder,
        created: TimestampMs,
    ) -> Self {
        let first = content.first_timestamp.map_or(UNKNOWN, TimestampMs::value);
        let segment = Self::bare(home, base, capacity.max(tail.position), tail, created);
        segment
            .max_timestamp
            .store(content.max_timestamp.value(), Ordering::Relaxed);
        segment.first_timestamp.store(first, Ordering::Relaxed);
        segment
            .index
            .store(Some(Arc::new(SegmentIndex::Memory(content.index))));
        *segment.file.lock() = Some(file);
        segment
    }

    /// A sealed segment; its files are opened when they are needed.
    pub(crate) fn sealed(
        home: &SegmentHome,
        base: Offset,
        seal: Seal,
        created: TimestampMs,
    ) -> Self {
        let tail = Tail {
            position: seal.size,
            next: seal.next_offset,
        };
        let segment = Self::bare(home, base, seal.size, tail, created);
        segment
            .max_timestamp
            .store(seal.max_timestamp.value(), Ordering::Relaxed);
        segment
            .first_timestamp
            .store(seal.first_timestamp.value(), Ordering::Relaxed);
        segment.sealed.store(true, Ordering::Relaxed);
        segment.synced.store(true, Ordering::Relaxed);
        *segment.seal.lock() = Some(seal);
        segment
    }

    fn bare(
        home: &SegmentHome,
        base: Offset,
        capacity: u64,
        tail: Tail,
        created: TimestampMs,
    ) -> Self {
        let segment = Self {
            base,
            path: home.path(base).into(),
            capacity,
            created,
            fs: home.fs.clone(),
            maps: home.maps.clone(),
            end: Arc::new(PublishedEnd::new(tail.position)),
            tail: AtomicU64::new(0),
            max_timestamp: AtomicI64::new(-1),
            first_timestamp: AtomicI64::new(UNKNOWN),
            index: ArcSwapOption::empty(),
            region: ArcSwapOption::empty(),
            file: Mutex::new(None),
            seal: Mutex::new(None),
            sealed: AtomicBool::new(false),
            synced: AtomicBool::new(false),
            name_unsynced: AtomicBool::new(false),
            touched: AtomicBool::new(false),
            counted: AtomicBool::new(false),
            outlived: AtomicBool::new(false),
            pinned: AtomicBool::new(false),
        };
        segment.set_tail(tail);
        segment
    }

    fn set_tail(&self, tail: Tail) {
        let relative = u32::try_from(tail.next.distance(self.base)).expect("a segment spans 2^31");
        let position = u32::try_from(tail.position).expect("a segment is below 4 GiB");
        self.tail.store(
            u64::from(position) << 32 | u64::from(relative),
            Ordering::Release,
        );
    }

    /// End position and next offset, as one pair.
    pub(crate) fn tail(&self) -> Tail {
        let packed = self.tail.load(Ordering::Acquire);
        let relative = i64::from(packed as u32);
        Tail {
            position: packed >> 32,
            next: Offset::new(self.base.value() + relative),
        }
    }

    /// Shows an appended batch to readers; the caller holds the append lock.
    pub(crate) fn publish(&self, tail: Tail, max_timestamp: TimestampMs) {
        if self.first_timestamp.load(Ordering::Relaxed) == UNKNOWN {
            self.first_timestamp
                .store(max_timestamp.value(), Ordering::Relaxed);
        }
        self.max_timestamp
            .fetch_max(max_timestamp.value(), Ordering::Relaxed);
        self.end.publish(tail.position);
        self.set_tail(tail);
    }

    /// Largest timestamp; -1 where there is none.
    pub(crate) fn max_timestamp(&self) -> TimestampMs {
        TimestampMs::new(self.max_timestamp.load(Ordering::Relaxed))
    }

    /// Largest timestamp of the first batch.
    pub(crate) fn first_timestamp(&self) -> Option<TimestampMs> {
        let first = self.first_timestamp.load(Ordering::Relaxed);
        (first != UNKNOWN).then_some(TimestampMs::new(first))
    }

    /// What its records are as old as: the largest timestamp, or the last write where none has one.
    pub(crate) fn newest(&self) -> TimestampMs {
        match self.max_timestamp() {
            time if time.value() >= 0 => time,
            _ => self.last_written().unwrap_or(self.created),
        }
    }

    fn last_written(&self) -> std::io::Result<TimestampMs> {
        match self.file() {
            Some(file) => file.modified(),
            None => self.fs.open(&self.path, OpenHow::Read)?.modified(),
        }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Marks a rolled segment whose last sync has succeeded.
    pub(crate) fn set_synced(&self) {
        self.synced.store(true, Ordering::Release);
    }

    /// Notes that the name of the file may not be on stable storage.
    pub(crate) fn set_name_unsynced(&self) {
        self.name_unsynced.store(true, Ordering::Release);
    }

    /// True once, where it may not be: for whoever syncs it.
    pub(crate) fn take_name_unsynced(&self) -> bool {
        self.name_unsynced.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn seal_info(&self) -> Option<Seal> {
        *self.seal.lock()
    }

    /// Notes that the seal on disk says so too.
    pub(crate) fn set_suspect(&self) {
        if let Some(seal) = &mut *self.seal.lock() {
            seal.suspect = true;
        }
    }

    /// The writing descriptor; none once sealed.
    pub(crate) fn file(&self) -> Option<Arc<dyn FsFile>> {
        self.file.lock().clone()
    }

    /// Turns the segment into a sealed one: its index and descriptor are given back.
    pub(crate) fn set_sealed(self: &Arc<Self>, seal: Seal) {
        *self.seal.lock() = Some(seal);
        self.sealed.store(true, Ordering::Release);
        self.index.store(None);
        *self.file.lock() = None;
        if self.region.load().is_some() {
            self.count();
        }
    }

    /// Has what was mapped of a sealed segment counted, once until it is evicted.
    fn count(self: &Arc<Self>) {
        if self.is_sealed() && !self.counted.swap(true, Ordering::AcqRel) {
            self.maps.add(self);
        }
    }

    /// The mapping, made on first use.
    ///
    /// # Errors
    /// `Io` when the file cannot be opened or mapped.
    pub(crate) fn region(self: &Arc<Self>) -> Result<Arc<Region>, StorageError> {
        if let Some(region) = &*self.region.load() {
            self.touched.store(true, Ordering::Relaxed);
            return Ok(region.clone());
        }
        let mut mapped = self.map();
        if mapped.is_err() {
            // Out of maps or descriptors: give back all that can be and try once more.
            self.maps.evict_all();
            mapped = self.map();
        }
        let region = mapped.map_err(|error| StorageError::io("map", &self.path, &error))?;
        let mine = Arc::new(region);
        let before = self
            .region
            .compare_and_swap(&None::<Arc<Region>>, Some(mine.clone()));
        if let Some(theirs) = &*before {
            return Ok(theirs.clone());
        }
        self.count();
        Ok(mine)
    }

    fn map(&self) -> std::io::Result<Region> {
        let file = match self.file() {
            Some(file) => file,
            None => self.fs.open(&self.path, OpenHow::Read)?,
        };
        let end = self.end.load();
        if file.size()? < end {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let capacity = usize::try_from(self.capacity.max(end)).unwrap_or(usize::MAX);
        file.map(capacity, self.end.clone())
    }

    /// True when reading needs no file to be opened first.
    pub(crate) fn is_open(&self) -> bool {
        self.region.load().is_some() && self.index.load().is_some()
    }

    #[cfg(test)]
    pub(crate) fn is_mapped(&self) -> bool {
        self.region.load().is_some()
    }

    #[cfg(test)]
    pub(crate) fn keeps_files(&self) -> bool {
        self.is_mapped() || self.index.load().is_some()
    }

    /// The indexes; those of a sealed segment are mapped on first use, or rebuilt.
    pub(crate) fn index(self: &Arc<Self>) -> Result<Arc<SegmentIndex>, StorageError> {
        if let Some(index) = self.index.load_full() {
            return Ok(index);
        }
        let loaded = self
            .seal_info()
            .and_then(|s| SegmentIndex::load(&*self.fs, &self.path, &s));
        let index = match loaded {
            Some(index) => index,
            None => {
                tracing::warn!(path = %self.path.display(), "segment index rebuilt by scanning");
                SegmentIndex::Memory(self.rebuild()?)
            }
        };
        let index = Arc::new(index);
        self.index.store(Some(index.clone()));
        self.count();
        Ok(index)
    }

    fn rebuild(self: &Arc<Self>) -> Result<MemoryIndex, StorageError> {
        let region = self.region()?;
        let mut builder = IndexBuilder::new(self.base, REBUILD_INTERVAL);
        let mut walk = Walk::new(&region, 0, self.tail().position, self.base);
        // Damage ends the index early; a read there walks into it and says so.
        while let Some(Ok(found)) = walk.next() {
            builder.add(&found);
        }
        if let Some(seal) = self.seal_info().filter(|seal| seal.txn_crc.is_some()) {
            match stored_aborted(&*self.fs, &self.path, &seal) {
                Some(stored) => {
                    let index = &builder.index;
                    stored.into_iter().for_each(|txn| index.push_aborted(txn));
                }
                None => replay_aborted(&*self.fs, self, &region, &builder.index)?,
            }
        }
        Ok(builder.index)
    }

    /// The index of a segment that is being appended to.
    pub(crate) fn memory_index(&self) -> Option<Arc<SegmentIndex>> {
        self.index
            .load_full()
            .filter(|index| index.memory().is_some())
    }

    /// Gives back the mapping and the mapped indexes; readers keep what they hold.
    pub(crate) fn evict(&self) {
        let _file = self.file.lock();
        // First: what is mapped from here on is counted anew.
        self.counted.store(false, Ordering::Release);
        if self.is_sealed() && !self.pinned.load(Ordering::Relaxed) {
            if let Some(region) = self.region.swap(None)
                && Arc::strong_count(&region) > 1
            {
                self.outlived.store(true, Ordering::Release);
            }
            self.index.store(None);
        }
    }

    /// Opens what readers need and keeps it open: another file is about to take the name.
    ///
    /// # Errors
    /// As [`Segment::region`] and [`Segment::index`].
    pub(crate) fn pin(self: &Arc<Self>) -> Result<(), StorageError> {
        {
            let _file = self.file.lock();
            self.pinned.store(true, Ordering::Relaxed);
        }
        self.region()?;
        self.index()?;
        Ok(())
    }

    /// True when nobody can touch the mapping any more; it is given back then.
    ///
    /// The segment must have left the list, and `holders` references be known not to read. Weak
    /// references do not count: they only ever evict.
    pub(crate) fn is_unread(self: &Arc<Self>, holders: usize) -> bool {
        if Arc::strong_count(self) > holders {
            return false;
        }
        let _file = self.file.lock();
        let is_unread = match self.region.swap(None) {
            None => true,
            Some(region) => Arc::try_unwrap(region).is_ok(),
        };
        is_unread && !self.outlived.load(Ordering::Acquire)
    }
}
