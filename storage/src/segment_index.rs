//! The indexes of one segment: vectors in memory while it is active, mapped files once sealed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::batch::Found;
use crate::error::StorageError;
use crate::fs::{Fs, OpenHow, read_all, write_all_at};
use crate::mmap::Region;
use crate::offset_index::{self, IndexEntry, OffsetIndex, partition_point};
use crate::seal::Seal;
use crate::sync::PublishedEnd;
use crate::time_index::{self, TimeEntry, TimeIndex};
use crate::txn_index::{self, AbortedTxn};
use crate::types::{Offset, TimestampMs};

/// Format version of the three index files.
const VERSION: u32 = 1;
const FILE_HEADER: usize = 16;
/// Largest transaction index that is read, in bytes.
const MAX_TXN_FILE: u64 = 64 << 20;

/// Indexes of one segment.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "each lives in an Arc of its own, never in a list"
)]
pub(crate) enum SegmentIndex {
    Memory(MemoryIndex),
    Files(FileIndex),
}

/// Indexes of an active segment.
#[derive(Debug, Default)]
pub(crate) struct MemoryIndex {
    offsets: OffsetIndex,
    times: TimeIndex,
    aborted: Mutex<Vec<AbortedTxn>>,
}

/// Indexes of a sealed segment.
#[derive(Debug)]
pub(crate) struct FileIndex {
    offsets: Region,
    times: Region,
    count: usize,
    aborted: Vec<AbortedTxn>,
}

/// CRCs of the files just written, for the seal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexCrcs {
    pub(crate) index: u32,
    pub(crate) time: u32,
    pub(crate) txn: Option<u32>,
}

impl MemoryIndex {
    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Adds an entry for the batch at `entry`; nothing before it is younger than `largest`.
    pub(crate) fn push(&self, entry: IndexEntry, largest: TimestampMs) {
        // Times first: a reader that sees the offset entry finds its time.
        self.times.push(largest);
        self.offsets.push(entry);
    }

    /// The same for a replay, which may pass a marker again.
    pub(crate) fn push_aborted_once(&self, txn: AbortedTxn) {
        let mut aborted = self.aborted.lock();
        if !aborted.contains(&txn) {
            aborted.push(txn);
        }
    }

    pub(crate) fn push_aborted(&self, txn: AbortedTxn) {
        self.aborted.lock().push(txn);
    }
}

impl SegmentIndex {
    pub(crate) fn memory(&self) -> Option<&MemoryIndex> {
        match self {
            Self::Memory(index) => Some(index),
            Self::Files(_) => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Memory(index) => index.offsets.len(),
            Self::Files(index) => index.count,
        }
    }

    pub(crate) fn entry(&self, n: usize) -> IndexEntry {
        match self {
            Self::Memory(index) => index.offsets.get(n),
            Self::Files(index) => {
                let at = FILE_HEADER + n * offset_index::ENTRY_LEN;
                let bytes = index.offsets.slice(at..at + offset_index::ENTRY_LEN);
                IndexEntry::decode(bytes).unwrap_or_default()
            }
        }
    }

    pub(crate) fn time(&self, n: usize) -> TimestampMs {
        match self {
            Self::Memory(index) => index.times.get(n),
            Self::Files(index) => {
                let at = FILE_HEADER + n * time_index::ENTRY_LEN;
                let bytes = index.times.slice(at..at + time_index::ENTRY_LEN);
                TimeEntry::decode(bytes).map_or(TimestampMs::new(-1), |entry| entry.timestamp)
            }
        }
    }

    /// Last entry at or below the relative offset; the segment's start where there is none.
    pub(crate) fn floor_offset(&self, relative: u32) -> IndexEntry {
        self.before(partition_point(self.len(), |n| {
            self.entry(n).relative <= relative
        }))
    }

    /// Last entry at or below the position.
    pub(crate) fn floor_position(&self, position: u64) -> IndexEntry {
        let below = |n| u64::from(self.entry(n).position) <= position;
        self.before(partition_point(self.len(), below))
    }

    /// First entry above the position.
    pub(crate) fn after_position(&self, position: u64) -> Option<IndexEntry> {
        let below = |n| u64::from(self.entry(n).position) <= position;
        let point = partition_point(self.len(), below);
        (point < self.len()).then(|| self.entry(point))
    }

    /// Last entry with nothing at or above `timestamp` before it.
    pub(crate) fn floor_time(&self, timestamp: TimestampMs) -> IndexEntry {
        self.before(partition_point(self.len(), |n| self.time(n) < timestamp))
    }

    fn before(&self, point: usize) -> IndexEntry {
        point
            .checked_sub(1)
            .map_or_else(IndexEntry::default, |n| self.entry(n))
    }

    /// Last entry at or below the position, with the largest timestamp of everything before it.
    pub(crate) fn floor_with_time(&self, position: u64) -> (IndexEntry, TimestampMs) {
        let below = |n| u64::from(self.entry(n).position) <= position;
        match partition_point(self.len(), below).checked_sub(1) {
            Some(n) => (self.entry(n), self.time(n)),
            None => (IndexEntry::default(), TimestampMs::new(-1)),
        }
    }

    /// The transactions aborted in this segment.
    pub(crate) fn aborted(&self) -> Vec<AbortedTxn> {
        match self {
            Self::Memory(index) => index.aborted.lock().clone(),
            Self::Files(index) => index.aborted.clone(),
        }
    }

    /// The entries below `position`, as a new index in memory (a segment cut by truncation, or
    /// opened again for appending).
    pub(crate) fn to_memory(&self, position: u64, end: Offset) -> MemoryIndex {
        let copy = MemoryIndex::default();
        for n in 0..self.len() {
            let entry = self.entry(n);
            if u64::from(entry.position) >= position {
                break;
            }
            copy.push(entry, self.time(n));
        }
        for txn in self
            .aborted()
            .into_iter()
            .filter(|txn| txn.last_offset < end)
        {
            copy.push_aborted(txn);
        }
        copy
    }

    /// Writes and syncs the three files beside the segment at `log`.
    pub(crate) fn store(&self, fs: &dyn Fs, log: &Path) -> Result<IndexCrcs, StorageError> {
        self.store_as(fs, |extension| log.with_extension(extension))
    }

    /// The same under the names that `path_of` makes of their extensions.
    pub(crate) fn store_as(
        &self,
        fs: &dyn Fs,
        path_of: impl Fn(&str) -> PathBuf,
    ) -> Result<IndexCrcs, StorageError> {
        let count = self.len();
        let mut offsets = header(offset_index::MAGIC, count);
        let mut times = header(time_index::MAGIC, count);
        for n in 0..count {
            let entry = self.entry(n);
            entry.encode(&mut offsets);
            TimeEntry {
                timestamp: self.time(n),
                relative: entry.relative,
            }
            .encode(&mut times);
        }
        let index = write(fs, &path_of("index"), &offsets)?;
        let time = write(fs, &path_of("timeindex"), &times)?;
        let aborted = self.aborted();
        let txn = if aborted.is_empty() {
            None
        } else {
            Some(write(fs, &path_of("txnindex"), &encode_aborted(&aborted))?)
        };
        Ok(IndexCrcs { index, time, txn })
    }

    /// Maps the files of a sealed segment; `None` where one is missing or not what the seal says.
    pub(crate) fn load(fs: &dyn Fs, log: &Path, seal: &Seal) -> Option<Self> {
        let offsets = open(fs, &log.with_extension("index"), seal.index_crc)?;
        let times = open(fs, &log.with_extension("timeindex"), seal.time_crc)?;
        let count = entries(&offsets, offset_index::MAGIC, offset_index::ENTRY_LEN)?;
        if entries(&times, time_index::MAGIC, time_index::ENTRY_LEN)? != count {
            return None;
        }
        let aborted = stored_aborted(fs, log, seal)?;
        Some(Self::Files(FileIndex {
            offsets,
            times,
            count,
            aborted,
        }))
    }
}

fn header(magic: &[u8; 4], count: usize) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(count as u64).to_le_bytes());
    bytes
}

fn write(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<u32, StorageError> {
    (|| {
        let file = fs.open(path, OpenHow::Create)?;
        write_all_at(&*file, bytes, 0)?;
        file.sync()
    })()
    .map_err(|error| StorageError::io("write", path, &error))?;
    Ok(crc32c::crc32c(bytes))
}

fn open(fs: &dyn Fs, path: &Path, crc: u32) -> Option<Region> {
    let file = fs.open(path, OpenHow::Read).ok()?;
    let size = file.size().ok()?;
    let length = usize::try_from(size)
        .ok()
        .filter(|length| *length >= FILE_HEADER)?;
    let region = file.map(length, Arc::new(PublishedEnd::new(size))).ok()?;
    region.make_resident(0..length).ok()?;
    (crc32c::crc32c(region.slice(0..length)) == crc).then_some(region)
}

/// Number of entries, if the file is of this kind and whole.
fn entries(region: &Region, magic: &[u8; 4], entry_len: usize) -> Option<usize> {
    let length = usize::try_from(region.published()).ok()?;
    count_in(region.slice(0..FILE_HEADER), length, magic, entry_len)
}

fn count_in(head: &[u8], length: usize, magic: &[u8; 4], entry_len: usize) -> Option<usize> {
    let (found, rest) = head.split_first_chunk::<4>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(u64::from_le_bytes(*rest.first_chunk::<8>()?)).ok()?;
    let whole = count.checked_mul(entry_len)?.checked_add(FILE_HEADER)? == length;
    (found == magic && u32::from_le_bytes(*version) == VERSION && whole).then_some(count)
}

/// The aborted transactions that the files of a sealed segment name; `None` where they do not
/// verify.
pub(crate) fn stored_aborted(fs: &dyn Fs, log: &Path, seal: &Seal) -> Option<Vec<AbortedTxn>> {
    match seal.txn_crc {
        None => Some(Vec::new()),
        Some(crc) => load_aborted(fs, &log.with_extension("txnindex"), crc),
    }
}

fn encode_aborted(aborted: &[AbortedTxn]) -> Vec<u8> {
    let mut bytes = header(txn_index::MAGIC, aborted.len());
    aborted.iter().for_each(|txn| txn.encode(&mut bytes));
    bytes
}

/// True when these are the transactions of the file that the seal names.
pub(crate) fn are_sealed(aborted: &[AbortedTxn], seal: &Seal) -> bool {
    seal.txn_crc == Some(crc32c::crc32c(&encode_aborted(aborted)))
}

/// Writes the transaction index of a sealed segment again.
pub(crate) fn restore_aborted(
    fs: &dyn Fs,
    log: &Path,
    aborted: &[AbortedTxn],
) -> Result<(), StorageError> {
    let path = log.with_extension("txnindex");
    write(fs, &path, &encode_aborted(aborted)).map(|_| ())
}

fn load_aborted(fs: &dyn Fs, path: &Path, crc: u32) -> Option<Vec<AbortedTxn>> {
    let bytes = read_all(&*fs.open(path, OpenHow::Read).ok()?, MAX_TXN_FILE).ok()?;
    if crc32c::crc32c(&bytes) != crc {
        return None;
    }
    let (head, body) = bytes.split_at_checked(FILE_HEADER)?;
    count_in(head, bytes.len(), txn_index::MAGIC, txn_index::ENTRY_LEN)?;
    body.chunks_exact(txn_index::ENTRY_LEN)
        .map(AbortedTxn::decode)
        .collect()
}

/// Builds the index of a segment while its batches pass by, in order.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    pub(crate) index: MemoryIndex,
    base: Offset,
    interval: u32,
    since: u32,
    pub(crate) max_timestamp: TimestampMs,
    pub(crate) first_timestamp: Option<TimestampMs>,
}

impl IndexBuilder {
    pub(crate) fn new(base: Offset, interval: u32) -> Self {
        Self {
            index: MemoryIndex::default(),
            base,
            interval,
            since: 0,
            max_timestamp: TimestampMs::new(-1),
            first_timestamp: None,
        }
    }

    /// Takes the next batch into account.
    pub(crate) fn add(&mut self, found: &Found) {
        if self.since > self.interval {
            self.push(found);
        }
        self.count(found);
    }

    /// Takes the first batch after damage: it gets an entry of its own.
    pub(crate) fn add_after_gap(&mut self, found: &Found) {
        self.push(found);
        self.count(found);
    }

    /// Goes on from an index that is there, after the timestamps it saw.
    pub(crate) fn resume(
        base: Offset,
        index: MemoryIndex,
        first_timestamp: Option<TimestampMs>,
        max_timestamp: TimestampMs,
    ) -> Self {
        Self {
            index,
            base,
            interval: 0,
            since: 0,
            max_timestamp,
            first_timestamp,
        }
    }

    /// Bytes since the last entry.
    pub(crate) fn since(&self) -> u32 {
        self.since
    }

    fn push(&mut self, found: &Found) {
        let relative = u32::try_from(found.header.base_offset.distance(self.base));
        let position = u32::try_from(found.position);
        if let (Ok(relative), Ok(position)) = (relative, position) {
            self.index
                .push(IndexEntry { relative, position }, self.max_timestamp);
            self.since = 0;
        }
    }

    fn count(&mut self, found: &Found) {
        self.since = self.since.saturating_add(found.header.total_len() as u32);
        // A batch that lost its records keeps its timestamp, but nothing carries it any more.
        if found.header.records_count > 0 {
            self.max_timestamp = self.max_timestamp.max(found.header.max_timestamp);
            self.first_timestamp
                .get_or_insert(found.header.max_timestamp);
        }
    }
}
