//! Compaction: of each key only the last record stays (storage page, §9; coordination page, §8).
//!
//! A pass reads the *dirty* part of a log (what came since the last pass, in sealed segments below
//! the bound it is given), notes the last offset of each key, then writes all segments from the
//! front to the end of that part anew without the records that a later one has replaced. Small
//! segments are merged on the way, up to `segment.bytes`. Each new segment takes the place of its
//! inputs at once and for good (see `swap.rs`), so a pass may end after any of them.
//!
//! - Offsets never change. A batch keeps its base offset, last offset, sequences and leader epoch,
//!   however many of its records go. It goes itself when it is empty, unless a producer is known
//!   by it, or it is the last of a segment, which then still says where the segment ends.
//! - A tombstone gets a *delete horizon* in the first pass that finds nothing older of its key, and
//!   goes in a later pass after that time. So does a transaction's marker once its data is gone.
//! - Data of aborted transactions goes, and never counts as the last record of its key.
//! - What was read is compared with checksums; damage ends the cleaning of that log.
//!
//! Memory: the key map, one read and one write buffer, and one opened batch. More keys than the map
//! can hold take more passes. The caller's [`Pace`] slows a pass down, or ends it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use palisade_protocol::batch::compaction::emptied;

use crate::batch::BatchHeader;
use crate::error::StorageError;
use crate::failpoint;
use crate::graveyard::Grave;
use crate::log::Log;
use crate::producer_state::snapshot;
use crate::segment::Segment;
use crate::segment_index;
use crate::swap;
use crate::txn_index::AbortedTxn;
use crate::types::{Offset, TimestampMs};

mod dirty;
mod filter;
mod key_map;
mod output;
mod reader;
mod transactions;

pub use dirty::Dirtiness;
use dirty::Dirty;
use filter::{Filter, Opened, Verdict};
use key_map::KeyMap;
use output::{DroppedMarkers, Output};
use reader::SegmentReader;
use transactions::{Transactions, kept_entries};

/// Slows a cleaner down.
pub trait Pace {
    /// Notes bytes that were read or written, and may sleep; false ends the pass.
    fn spend(&mut self, bytes: u64) -> bool;
}

/// A pace without limits.
impl Pace for () {
    fn spend(&mut self, _bytes: u64) -> bool {
        true
    }
}

/// How much memory a pass may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanOptions {
    /// Most bytes of the key map (`log.cleaner.dedupe.buffer.size` over the threads).
    pub map_bytes: usize,
    /// Share of the map that may be taken (`log.cleaner.io.buffer.load.factor`).
    pub map_load: f64,
    /// Bytes of the read buffer; a larger batch grows it (`log.cleaner.io.buffer.size`).
    pub buffer_bytes: usize,
}

impl Default for CleanOptions {
    fn default() -> Self {
        Self {
            map_bytes: 40 << 20,
            map_load: 0.9,
            buffer_bytes: 512 << 10,
        }
    }
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CleanedBy {
    /// There was nothing to do, or another pass is under way.
    #[default]
    Nothing,
    /// The pass went to its end.
    Done,
    /// The pace ended it.
    Stopped,
    /// Segments left the log under it, or a file of theirs that was lost could not be written
    /// again; what was replaced before stays replaced.
    Overtaken,
    /// There is no room for another segment beside the reserve.
    NoRoom,
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// How it ended.
    pub by: CleanedBy,
    /// Nothing below has an older record of its key, exclusive; only after `Done`.
    pub up_to: Offset,
    /// Bytes of the segments that were replaced.
    pub bytes_before: u64,
    /// Bytes of the segments in their place.
    pub bytes_after: u64,
    /// Records passed.
    pub records_before: u64,
    /// Records that stayed.
    pub records_after: u64,
    /// Segments replaced.
    pub segments_before: usize,
    /// Segments in their place.
    pub segments_after: usize,
    /// Keys in the map.
    pub keys: usize,
}

/// Why a pass ends before its end.
#[derive(Debug)]
enum Halt {
    Stopped,
    Overtaken,
    NoRoom,
    Failed(StorageError),
}

impl From<StorageError> for Halt {
    fn from(error: StorageError) -> Self {
        Self::Failed(error)
    }
}

/// Inputs on their way into one output.
struct Group<'a> {
    output: Output<'a>,
    inputs: Vec<Arc<Segment>>,
    /// The last batch met, where it is not needed for what it holds.
    tail: Option<Tail>,
    dropped: DroppedMarkers,
    /// A batch was dropped or replaced.
    changed: bool,
}

/// A batch that goes unless it is the last of its output.
struct Tail {
    /// The batch without its records; a marker keeps its record, as an empty one says nothing.
    bytes: Vec<u8>,
    /// Offset of the marker, if it is one.
    marker: Option<Offset>,
    emptied: bool,
}

impl Tail {
    fn of(header: &BatchHeader, batch: &[u8]) -> Result<Self, StorageError> {
        if header.is_control() {
            return Ok(Self {
                bytes: batch.to_vec(),
                marker: Some(header.base_offset),
                emptied: false,
            });
        }
        let bytes = emptied(header).map_err(|_| StorageError::InvalidBatch {
            reason: "cannot be emptied",
        })?;
        Ok(Self {
            bytes,
            marker: None,
            emptied: header.records_count > 0,
        })
    }
}

impl Group<'_> {
    /// Another batch follows the dropped one: it is gone for good.
    fn let_tail_go(&mut self) {
        if let Some(tail) = self.tail.take() {
            self.changed = true;
            self.dropped.extend(tail.marker);
        }
    }
}

/// One pass over one log.
struct Pass<'a> {
    log: &'a Log,
    options: &'a CleanOptions,
    pace: &'a mut dyn Pace,
    buffer: Vec<u8>,
    write_buffer: Vec<u8>,
    /// How often the log had been cut when the pass began.
    cuts: u64,
    cleaned: Cleaned,
}

impl Log {
    /// Cleans the log once; blocks for as long as that takes.
    ///
    /// `stable`: nothing at or above it is touched; the last stable offset, which is never above
    /// the high watermark. Nothing happens while the policy is not `compact`. Whether a pass is
    /// worth its cost is the caller's to ask ([`Log::dirtiness`]).
    ///
    /// # Errors
    /// `Corrupt` when bytes on the way do not verify, `Io` with the operation `read` when they
    /// cannot be read: the log is not cleaned again while it is open. `DiskFull`, `Io`, `Offline`,
    /// `Poisoned`.
    pub fn clean(
        &self,
        stable: Offset,
        now: TimestampMs,
        options: &CleanOptions,
        pace: &mut dyn Pace,
    ) -> Result<Cleaned, StorageError> {
        let Some(_turn) = self.cleaning.try_lock() else {
            return Ok(Cleaned::default());
        };
        let mut pass = Pass {
            log: self,
            options,
            pace,
            buffer: Vec::new(),
            write_buffer: Vec::new(),
            cuts: self.cuts.load(Ordering::Acquire),
            cleaned: Cleaned::default(),
        };
        let by = match pass.run(stable, now) {
            Ok(by) => by,
            Err(Halt::Stopped) => CleanedBy::Stopped,
            Err(Halt::Overtaken) => CleanedBy::Overtaken,
            Err(Halt::NoRoom) => CleanedBy::NoRoom,
            Err(Halt::Failed(error)) => return Err(self.cleaning_failed(error, pass.pace)),
        };
        let mut cleaned = pass.cleaned;
        cleaned.by = by;
        if cleaned.segments_after > 0 {
            self.remove_merged_snapshots();
        }
        Ok(cleaned)
    }

    /// Removes the producer snapshots of segments that were merged into the one before.
    fn remove_merged_snapshots(&self) {
        let _maintenance = self.maintenance.lock();
        let list = self.segments.load_full();
        let sealed: Vec<_> = list.iter().filter(|s| s.is_sealed()).cloned().collect();
        snapshot::remove_inside(&*self.shared.fs, &self.home.dir, &sealed);
    }

    fn cleaning_failed(&self, error: StorageError, pace: &mut dyn Pace) -> StorageError {
        let damaged = match &error {
            StorageError::Corrupt { path, .. } => Some(path),
            StorageError::Io { path, .. } if error.is_failed_read() => Some(path),
            _ => None,
        };
        if let Some(path) = damaged {
            self.uncleanable.store(true, Ordering::Release);
            let list = self.segments.load();
            let segment = list.iter().find(|segment| segment.path == *path).cloned();
            drop(list);
            let examined = segment.map(|segment| self.examine(segment, pace));
            if let Some(Err(second)) = examined {
                tracing::warn!(log = %self.name, error = %second, "damage not located");
            }
        }
        self.shared.judge(error)
    }
}

impl<'a> Pass<'a> {
    fn run(&mut self, stable: Offset, now: TimestampMs) -> Result<CleanedBy, Halt> {
        let log = self.log;
        log.check_writable()?;
        let Some(dirty) = log.dirty(stable, now).filter(|dirty| dirty.bytes > 0) else {
            return Ok(CleanedBy::Nothing);
        };
        let transactions = Transactions::of(log, dirty.end)?;
        let (map, covered) = self.map_keys(&dirty, &transactions)?;
        self.cleaned.keys = map.len();
        let retention = log.config.load().delete_retention_ms;
        let mut filter = Filter::new(map, covered, transactions, now, retention);
        self.begin_point()?;
        let replaced = self.rewrite(&dirty, &mut filter);
        (self.cleaned.records_before, self.cleaned.records_after) = filter.records;
        replaced?;
        failpoint::hit("clean.before_checkpoint")
            .map_err(|error| StorageError::io("write", log.shared.cleaner_points.path(), &error))?;
        self.note_point(covered)?;
        self.cleaned.up_to = covered;
        Ok(CleanedBy::Done)
    }

    /// Notes the last offset of each key of the dirty part, as far as the map has room; answers the
    /// offset up to which it is complete.
    fn map_keys(
        &mut self,
        dirty: &Dirty,
        transactions: &Transactions,
    ) -> Result<(KeyMap, Offset), Halt> {
        let span = dirty.end.distance(dirty.first).unsigned_abs();
        let (bytes, load) = (self.options.map_bytes, self.options.map_load);
        let mut map = KeyMap::new(dirty.first, span, bytes, load);
        let dirty_segments = dirty
            .segments
            .iter()
            .filter(|s| s.tail().next > dirty.first);
        for segment in dirty_segments {
            let mut reader = self.open(segment)?;
            let mut full = None;
            let mut wrong = None;
            while let Some((header, batch)) = reader.next(self.pace)? {
                let wanted = full.is_none() && header.next_offset() > dirty.first;
                if !wanted || header.is_control() || transactions.is_aborted(&header) {
                    continue;
                }
                let put = filter::open(&header, batch).and_then(|opened| match opened {
                    Opened::Records(records) => put_keys(&mut map, &header, &records, dirty.first),
                    Opened::Opaque => Ok(None),
                });
                match put {
                    Ok(found) => full = found,
                    Err(reason) => {
                        wrong = Some((header, reason));
                        break;
                    }
                }
            }
            if let Some((header, reason)) = wrong {
                return Err(reader.damaged_batch(&header, reason));
            }
            self.buffer = reader.into_buffer();
            // Only after the whole file was compared with its seal.
            if let Some(covered) = full {
                return Ok((map, covered));
            }
        }
        Ok((map, dirty.end))
    }

    fn open(&mut self, segment: &Arc<Segment>) -> Result<SegmentReader, Halt> {
        let buffer = std::mem::take(&mut self.buffer);
        SegmentReader::open(
            &*self.log.shared.fs,
            segment,
            buffer,
            self.options.buffer_bytes,
        )
    }

    /// Writes the segments below the covered offset anew, group by group.
    fn rewrite(&mut self, dirty: &Dirty, filter: &mut Filter) -> Result<(), Halt> {
        let config = self.log.config.load_full();
        let mut group: Option<Group<'a>> = None;
        let inputs: Vec<&Arc<Segment>> = dirty
            .segments
            .iter()
            .filter(|segment| segment.base < filter.covered)
            .collect();
        let mut left: u64 = inputs.iter().map(|segment| segment.tail().position).sum();
        for segment in inputs {
            let tail = segment.tail();
            let entries = segment.index()?.len();
            let fits = group.as_ref().is_none_or(|group| {
                let index = (group.output.entries() + entries) as u64;
                // Each stays mapped from its commit until its last reader has gone.
                group.inputs.len() < self.log.shared.maps.limit()
                    && group.output.len() + tail.position <= config.segment_bytes
                    && tail.next.distance(group.output.base) <= i64::from(i32::MAX)
                    && index * crate::offset_index::ENTRY_LEN as u64 <= config.segment_index_bytes
            });
            if !fits && let Some(done) = group.take() {
                self.close(done)?;
            }
            let mut open = match group.take() {
                Some(open) => open,
                None => self.start(
                    segment.base,
                    left.min(config.segment_bytes.max(tail.position)),
                )?,
            };
            self.pass(segment, filter, &mut open)?;
            left -= tail.position;
            group = Some(open);
        }
        group.map_or(Ok(()), |done| self.close(done))
    }

    fn start(&mut self, base: Offset, expected_bytes: u64) -> Result<Group<'a>, Halt> {
        if !self.log.shared.space.has_room_for(expected_bytes) {
            return Err(Halt::NoRoom);
        }
        let buffer = std::mem::take(&mut self.write_buffer);
        Ok(Group {
            output: Output::create(self.log, base, buffer)?,
            inputs: Vec::new(),
            tail: None,
            dropped: HashSet::new(),
            changed: false,
        })
    }

    /// Passes the batches of one input to the output of its group.
    fn pass(
        &mut self,
        segment: &Arc<Segment>,
        filter: &mut Filter,
        group: &mut Group<'a>,
    ) -> Result<(), Halt> {
        let mut reader = self.open(segment)?;
        while let Some((header, batch)) = reader.next(self.pace)? {
            let tail = match filter.judge(&header, batch) {
                Ok(Verdict::Keep) => {
                    group.let_tail_go();
                    group.output.push(batch, self.pace)?;
                    None
                }
                Ok(Verdict::Replace(bytes)) => {
                    group.let_tail_go();
                    group.output.push(&bytes, self.pace)?;
                    group.changed = true;
                    None
                }
                Ok(Verdict::Drop) => {
                    group.let_tail_go();
                    Some(Tail::of(&header, batch)?)
                }
                Err(reason) => return Err(reader.damaged_batch(&header, reason)),
            };
            group.tail = tail;
        }
        self.buffer = reader.into_buffer();
        group.inputs.push(segment.clone());
        Ok(())
    }

    /// Completes an output and puts it in the place of its inputs.
    fn close(&mut self, mut group: Group<'a>) -> Result<(), Halt> {
        if let Some(tail) = group.tail.take() {
            group.output.push(&tail.bytes, self.pace)?;
            group.changed |= tail.emptied;
        }
        if group.inputs.len() == 1 && !group.changed {
            // The same bytes again: what is there may stay.
            self.write_buffer = group.output.take_buffer();
            return Ok(());
        }
        group.output.complete(self.pace)?;
        self.write_buffer = group.output.take_buffer();
        let before: u64 = group.inputs.iter().map(|s| s.tail().position).sum();
        let (after, count) = (group.output.len(), group.inputs.len());
        self.replace(group)?;
        self.cleaned.bytes_before += before;
        self.cleaned.bytes_after += after;
        self.cleaned.segments_before += count;
        self.cleaned.segments_after += 1;
        Ok(())
    }

    /// Swaps the output in for its inputs.
    fn replace(&mut self, mut group: Group<'a>) -> Result<(), Halt> {
        let log = self.log;
        let graves = {
            let _maintenance = log.maintenance.lock();
            log.check_writable()?;
            let list = log.segments.load_full();
            let at = position_of(&group.inputs, &list)
                .filter(|_| log.damage.load().is_empty())
                .ok_or(Halt::Overtaken)?;
            let next = group
                .inputs
                .last()
                .map_or(group.output.base, |s| s.tail().next);
            let aborted = self.pin_inputs(&group)?;
            let seal = group.output.seal(next, aborted)?;
            if seal.max_timestamp.value() < 0 {
                group.output.set_age_of(&group.inputs);
            }
            let base = group.output.base;
            swap::commit(&log.home, base)
                .map_err(|error| StorageError::io("commit", &log.home.dir, &error))?;
            if let Err(error) = log.sync_dir() {
                // Nothing has been replaced yet.
                let is_unopened = error.is_unopened_dir();
                if !is_unopened || swap::take_back(&log.home, base).is_err() {
                    group.output.set_committed();
                    log.swap_failed(&error);
                }
                return Err(error.into());
            }
            group.output.set_committed();
            let created = group
                .inputs
                .first()
                .map_or(TimestampMs::NONE, |s| s.created);
            let graves = log
                .finish_swap(base, &seal, &group.inputs)
                .inspect_err(|error| log.swap_failed(error))?;
            let segment = Arc::new(Segment::sealed(&log.home, base, seal, created));
            let mut after: Vec<Arc<Segment>> = list.as_ref().clone();
            after.splice(at..at + group.inputs.len(), [segment]);
            log.segments.store(Arc::new(after));
            graves
        };
        group.inputs.clear();
        let shared = &log.shared;
        graves
            .into_iter()
            .for_each(|grave| shared.graveyard.add(grave));
        shared
            .graveyard
            .bury_due(&*shared.fs, TimestampMs::new(i64::MIN));
        Ok(())
    }

    /// Keeps the inputs readable without their names; answers the aborted transactions in them
    /// that stay.
    fn pin_inputs(&self, group: &Group<'_>) -> Result<Vec<AbortedTxn>, Halt> {
        let fs = &*self.log.shared.fs;
        let mut aborted = Vec::new();
        for segment in &group.inputs {
            segment.pin()?;
            let seal = segment.seal_info().ok_or(Halt::Overtaken)?;
            // Known when the pass began, though what was lost may not have been written again:
            // only the next pass can tell whether the records still say it.
            let listed =
                segment_index::stored_aborted(fs, &segment.path, &seal).ok_or(Halt::Overtaken)?;
            aborted.extend(kept_entries(listed, &group.dropped));
        }
        Ok(aborted)
    }

    /// Stores that the log is cleaned, before it is: one with a point may have gaps, also where it
    /// is compacted no more.
    fn begin_point(&mut self) -> Result<(), Halt> {
        let shared = &self.log.shared;
        let points = &shared.cleaner_points;
        if points.get(&self.log.name, self.log.topic_id).is_none() {
            return self.note_point(self.log.cleaned_up_to());
        }
        // Another pass may have noted it, and found no room to store it.
        shared.store(points)?;
        Ok(())
    }

    /// Remembers how far the log is clean.
    fn note_point(&mut self, covered: Offset) -> Result<(), Halt> {
        let log = self.log;
        let _maintenance = log.maintenance.lock();
        // What was cut in between may have come again with other records.
        if log.cuts.load(Ordering::Acquire) != self.cuts {
            return Err(Halt::Overtaken);
        }
        log.check_writable()?;
        log.shared
            .cleaner_points
            .set(&log.name, log.topic_id, covered);
        log.shared.store(&log.shared.cleaner_points)?;
        Ok(())
    }
}

impl Log {
    /// The steps after the synced commit, with the maintenance lock held.
    fn finish_swap(
        &self,
        base: Offset,
        seal: &crate::seal::Seal,
        inputs: &[Arc<Segment>],
    ) -> Result<Vec<Grave>, StorageError> {
        let io = |error| StorageError::io("swap", &self.home.dir, &error);
        failpoint::hit("clean.after_commit").map_err(io)?;
        let mut graves = Vec::with_capacity(inputs.len());
        // Newest first, as a start would have to do without the commit.
        for segment in inputs.iter().rev() {
            let files = self.retire_files(segment)?;
            graves.push(Grave {
                due: TimestampMs::new(i64::MIN),
                segment: Some(segment.clone()),
                files,
                dir: None,
            });
        }
        swap::put_in_place(&self.home, base, seal).map_err(io)?;
        Ok(graves)
    }

    /// Names and memory may disagree after a commit that was not finished: only a start can tell.
    fn swap_failed(&self, error: &StorageError) {
        tracing::error!(log = %self.name, %error, "cleaned segment not put in place, log closed");
        self.closed.store(true, Ordering::Release);
        self.observer.failed();
    }
}

/// Where the inputs stand in the list, one behind the other, if they still do.
fn position_of(inputs: &[Arc<Segment>], list: &[Arc<Segment>]) -> Option<usize> {
    let first = inputs.first()?;
    let at = list.iter().position(|s| Arc::ptr_eq(s, first))?;
    let present = list.get(at..at + inputs.len())?;
    let same = present.iter().zip(inputs).all(|(a, b)| Arc::ptr_eq(a, b));
    same.then_some(at)
}

/// Puts the keys of one batch from `first` on; answers the offset at which the map was full.
fn put_keys(
    map: &mut KeyMap,
    header: &BatchHeader,
    records: &[u8],
    first: Offset,
) -> Result<Option<Offset>, &'static str> {
    for record in palisade_protocol::batch::RecordIter::new(records, header.records_count) {
        let record = record.map_err(|_| "record does not parse")?;
        let offset = header
            .base_offset
            .checked_add(i64::from(record.offset_delta))
            .ok_or("offsets overflow")?;
        let Some(key) = record.key.filter(|_| offset >= first) else {
            continue;
        };
        if !map.put(key, offset) {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}
