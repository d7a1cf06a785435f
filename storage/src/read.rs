//! Reading a range of whole batches.
//!
//! A read is planned here and sent by whoever asked: the plan looks at the index and at a few
//! batch headers, the bytes stay in the mapping. No lock of the append path is taken.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use palisade_protocol::types::RecordSource;

use crate::batch::{Bad, Found};
use crate::damage::{DamagedRange, Hurdle, Known, Readable};
use crate::error::StorageError;
use crate::log::Log;
use crate::mmap::Region;
use crate::segment::{Segment, Tail};
use crate::segment_index::SegmentIndex;
use crate::types::Offset;

/// Answer of a read.
#[derive(Clone, Debug)]
pub struct LogRead {
    /// Base offset of the first batch returned (may lie below the offset asked for); the offset
    /// asked for when nothing is returned.
    pub start_offset: Offset,
    /// Offset after the last batch returned, exclusive: where the next read starts.
    pub next_offset: Offset,
    /// Whole batches, or `None` when there is nothing to return.
    pub slice: Option<LogSlice>,
    /// The read reached its upper bound: a waiter has nothing more to fetch now.
    pub at_end: bool,
}

impl LogRead {
    /// There is nothing at or above the offset.
    fn nothing(from: Offset) -> Self {
        Self {
            start_offset: from,
            next_offset: from,
            slice: None,
            at_end: true,
        }
    }
}

/// Answer of a read that does not wait for the disk.
#[derive(Clone, Debug)]
pub enum TryRead {
    /// The plan; the records themselves may still be cold.
    Done(LogRead),
    /// The index or a header is not in memory: call `read` where blocking is allowed.
    Cold,
}

/// Whole batches of a segment, kept alive and unchanged while this value lives.
#[derive(Clone)]
pub struct LogSlice {
    region: Arc<Region>,
    start: usize,
    len: usize,
}

impl fmt::Debug for LogSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSlice")
            .field("start", &self.start)
            .field("len", &self.len)
            .finish()
    }
}

impl LogSlice {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True when the bytes of `range` (relative to the slice) can be touched without disk I/O.
    pub fn is_resident(&self, range: Range<usize>) -> bool {
        self.region.is_resident(self.inner(&range))
    }

    /// Reads the bytes of `range` into the page cache; blocks.
    ///
    /// # Errors
    /// The error of the read, where touching the bytes would raise a signal.
    pub fn make_resident(&self, range: Range<usize>) -> io::Result<()> {
        crate::failpoint::hit("read.before_populate")?;
        self.region.make_resident(self.inner(&range))
    }

    fn inner(&self, range: &Range<usize>) -> Range<usize> {
        assert!(
            range.end <= self.len,
            "range {range:?} passes a slice of {}",
            self.len
        );
        self.start + range.start..self.start + range.end
    }
}

impl AsRef<[u8]> for LogSlice {
    fn as_ref(&self) -> &[u8] {
        self.region.slice(self.start..self.start + self.len)
    }
}

impl RecordSource for LogSlice {
    fn len(&self) -> usize {
        self.len
    }

    fn slice(&self, range: Range<usize>) -> &[u8] {
        self.region.slice(self.inner(&range))
    }

    fn is_resident(&self, range: Range<usize>) -> bool {
        LogSlice::is_resident(self, range)
    }

    fn make_resident(&self, range: Range<usize>) -> io::Result<()> {
        LogSlice::make_resident(self, range)
    }
}

/// What one read wants.
#[derive(Clone, Copy)]
struct Wanted {
    from: Offset,
    limit: Offset,
    max_bytes: u64,
    at_least_one: bool,
    may_block: bool,
}

/// A plan that could not be made.
enum Stopped {
    Cold,
    Failed(StorageError),
}

impl From<StorageError> for Stopped {
    fn from(error: StorageError) -> Self {
        Self::Failed(error)
    }
}

impl Log {
    /// Reads whole batches from the one that holds `from`, below `up_to` (exclusive).
    ///
    /// At most `max_bytes` bytes of one segment; with `at_least_one` the first batch comes even
    /// when it is larger. Blocks when index or headers are cold.
    ///
    /// # Errors
    /// `OutOfRange`; `Corrupt` when the bytes at `from` do not verify; `Io`.
    pub fn read(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<LogRead, StorageError> {
        match self.read_with(from, up_to, max_bytes, at_least_one, true) {
            Ok(read) => Ok(read),
            Err(Stopped::Failed(error)) => Err(error),
            Err(Stopped::Cold) => unreachable!("a read that may block is never cold"),
        }
    }

    /// The same where blocking is not allowed.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn try_read(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<TryRead, StorageError> {
        match self.read_with(from, up_to, max_bytes, at_least_one, false) {
            Ok(read) => Ok(TryRead::Done(read)),
            Err(Stopped::Cold) => Ok(TryRead::Cold),
            Err(Stopped::Failed(error)) => Err(error),
        }
    }

    fn read_with(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        at_least_one: bool,
        may_block: bool,
    ) -> Result<LogRead, Stopped> {
        // The end before the list: the list then covers all offsets below it.
        let end = self.end.load();
        let list = self.segments.load();
        let start = self.start.load();
        if from < start || from > end {
            return Err(StorageError::OutOfRange {
                requested: from,
                start,
                end,
            }
            .into());
        }
        let wanted = Wanted {
            from,
            limit: up_to.min(end),
            max_bytes: max_bytes as u64,
            at_least_one,
            may_block,
        };
        if from >= wanted.limit {
            return Ok(LogRead::nothing(from));
        }
        if let Some(range) = self
            .damage
            .load()
            .iter()
            .find(|r| r.from <= from && from < r.to)
        {
            return Err(range.error().into());
        }
        self.read_listed(&list, wanted)
    }

    /// The read in a list of segments, the first of which may have left the log since.
    fn read_listed(&self, list: &[Arc<Segment>], wanted: Wanted) -> Result<LogRead, Stopped> {
        let planned = self.plan_in(list, wanted);
        let start = self.start.load();
        match planned {
            // What is below the log start has lost its file names, which is no fault of the disk.
            Err(Stopped::Failed(_)) if wanted.from < start => Err(StorageError::OutOfRange {
                requested: wanted.from,
                start,
                end: self.end.load(),
            }
            .into()),
            planned => planned,
        }
    }

    fn plan_in(&self, list: &[Arc<Segment>], wanted: Wanted) -> Result<LogRead, Stopped> {
        let first = list
            .partition_point(|segment| segment.base <= wanted.from)
            .saturating_sub(1);
        for segment in list.iter().skip(first) {
            let tail = segment.tail();
            if tail.next <= wanted.from || tail.position == 0 {
                continue;
            }
            if let Some(read) = self.plan(segment, tail, wanted)? {
                return Ok(read);
            }
        }
        // Offsets without a batch (compaction), or a truncation under way.
        Ok(LogRead::nothing(wanted.from))
    }

    /// Finds the bytes in one segment; `None` when it holds nothing at or above `from`.
    fn plan(
        &self,
        segment: &Arc<Segment>,
        tail: Tail,
        wanted: Wanted,
    ) -> Result<Option<LogRead>, Stopped> {
        if !wanted.may_block && !segment.is_open() {
            return Err(Stopped::Cold);
        }
        // The mapping first: without the file there is no index to rebuild either.
        let region = segment.region()?;
        let index = segment.index()?;
        let damage = self.damage.load();
        let view = View {
            segment,
            index: &index,
            region: &region,
            tail,
            known: Known::of(&damage, &segment.path),
        };

        let Some(first) = view.first_at(wanted.from, wanted.may_block, self)? else {
            return Ok(None);
        };
        let start_offset = first.header.base_offset;
        if start_offset >= wanted.limit || first.next > wanted.limit {
            let slice = None;
            let next_offset = wanted.from;
            return Ok(Some(LogRead {
                start_offset: wanted.from,
                next_offset,
                slice,
                at_end: true,
            }));
        }
        let stop = view.stop(&first, wanted)?;
        let slice = (stop.position > first.position).then(|| LogSlice {
            region: region.clone(),
            start: first.position as usize,
            len: (stop.position - first.position) as usize,
        });
        let next_offset = if slice.is_some() {
            stop.next
        } else {
            wanted.from
        };
        let start_offset = if slice.is_some() {
            start_offset
        } else {
            wanted.from
        };
        Ok(Some(LogRead {
            start_offset,
            next_offset,
            slice,
            at_end: next_offset >= wanted.limit,
        }))
    }
}

/// One segment as a read sees it.
struct View<'a> {
    segment: &'a Arc<Segment>,
    index: &'a SegmentIndex,
    region: &'a Region,
    tail: Tail,
    known: Known<'a>,
}

impl View<'_> {
    /// Walk from the entry that `place` names.
    fn walk(&self, relative: u32, position: u64, may_block: bool) -> Result<Readable<'_>, Stopped> {
        let expected = Offset::new(self.segment.base.value() + i64::from(relative));
        let walk = self.known.walk(self.region, position, expected, self.tail);
        if !may_block && !walk.is_warm() {
            return Err(Stopped::Cold);
        }
        Ok(walk)
    }

    /// The batch that holds `from`, or the first one after it.
    fn first_at(&self, from: Offset, may_block: bool, log: &Log) -> Result<Option<Found>, Stopped> {
        let relative = u32::try_from(from.distance(self.segment.base)).unwrap_or(0);
        let entry = self.index.floor_offset(relative);
        let mut walk = self.walk(entry.relative, u64::from(entry.position), may_block)?;
        while let Some(step) = walk.next() {
            match step {
                Ok(found) if found.next > from => return Ok(Some(found)),
                Err(Hurdle::Known(range)) if range.to > from => return Err(range.error().into()),
                Ok(_) | Err(Hurdle::Known(_)) => {}
                Err(Hurdle::Fresh(bad)) => return Err(self.blame(&bad, log)),
            }
        }
        Ok(None)
    }

    /// Notes fresh damage, and says so.
    fn blame(&self, bad: &Bad, log: &Log) -> Stopped {
        let range = self.damaged(bad);
        let error = range.error();
        log.note_damage(range);
        error.into()
    }

    /// The range that fresh damage makes unreadable: up to the next index entry.
    fn damaged(&self, bad: &Bad) -> DamagedRange {
        let (end, to) = match self.index.after_position(bad.position) {
            Some(entry) => (
                u64::from(entry.position),
                Offset::new(self.segment.base.value() + i64::from(entry.relative)),
            ),
            None => (self.tail.position, self.tail.next),
        };
        let path = self.segment.path.clone();
        DamagedRange {
            from: bad.offset,
            to,
            path,
            start: bad.position,
            end,
            reason: bad.reason,
        }
    }

    /// End of the read: position and offset after its last batch.
    fn stop(&self, first: &Found, wanted: Wanted) -> Result<Tail, Stopped> {
        // Damage ahead ends the readable part.
        let hard = match self.known.ahead(first.position) {
            Some(range) if range.start < self.tail.position => Tail {
                position: range.start,
                next: range.from,
            },
            _ => self.tail,
        };
        let limited = hard.next > wanted.limit;
        let budget = first.position.saturating_add(wanted.max_bytes);
        if !limited && hard.position <= budget {
            return Ok(hard);
        }
        // The last entry that is surely inside both bounds; a few headers from there.
        let by_bytes = self.index.floor_position(budget.min(hard.position));
        let limit = wanted.limit.distance(self.segment.base);
        let by_offset = self
            .index
            .floor_offset(u32::try_from(limit).unwrap_or(u32::MAX));
        let entry = if by_bytes.position < by_offset.position {
            by_bytes
        } else {
            by_offset
        };
        let (position, relative) = if u64::from(entry.position) > first.position {
            (u64::from(entry.position), entry.relative)
        } else {
            let relative = first.header.base_offset.distance(self.segment.base);
            (first.position, u32::try_from(relative).unwrap_or(0))
        };
        let mut stop = Tail {
            position,
            next: Offset::new(self.segment.base.value() + i64::from(relative)),
        };
        let mut walk = self.walk(relative, position, wanted.may_block)?;
        while let Some(Ok(found)) = walk.next() {
            let is_first = found.position == first.position;
            let too_long = found.end() > budget && !(is_first && wanted.at_least_one);
            if too_long || found.next > wanted.limit || found.end() > hard.position {
                break;
            }
            stop = Tail {
                position: found.end(),
                next: found.next,
            };
        }
        Ok(stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn a_batch_that_claims_an_offset_beyond_the_end_is_damage() {
        let bench = Bench::new(small());
        bench.fill(0, 3);
        bench.fs.flip(&bench.log.home.path(offset(0)), 2, 1);
        for _ in 0..2 {
            match bench.log.read(offset(0), offset(3), 1000, true) {
                Err(StorageError::Corrupt { from, .. }) => assert_eq!(from, offset(0)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn damage_begins_where_its_batch_should() {
        let bench = Bench::new(small());
        let sent = batch(7, 10, 16, 1000);
        for _ in 0..3 {
            bench.put(sent.clone());
        }
        bench
            .fs
            .flip(&bench.log.home.path(offset(0)), sent.len() + 2, 1);
        for from in [15, 12] {
            match bench.log.read(offset(from), offset(30), 1000, true) {
                Err(StorageError::Corrupt { from, .. }) => assert_eq!(from, offset(10)),
                other => panic!("{other:?}"),
            }
        }
        let before = bench.log.read(offset(0), offset(30), 1000, true).unwrap();
        assert_eq!(before.slice.map(|slice| slice.len()), Some(sent.len()));
        assert_eq!(before.next_offset, offset(10));
    }

    #[test]
    fn a_segment_that_retention_takes_from_under_a_read_is_out_of_range() {
        let bench = Bench::new(small());
        bench.fill(0, 60);
        // Opened again, no sealed segment is mapped yet.
        let bench = bench.reopen(small());
        let list = bench.log.segments.load_full();
        bench.log.delete_records_before(offset(33)).unwrap();
        let wanted = Wanted {
            from: offset(0),
            limit: offset(60),
            max_bytes: 10,
            at_least_one: true,
            may_block: true,
        };
        match bench.log.read_listed(&list, wanted) {
            Err(Stopped::Failed(StorageError::OutOfRange { start, .. })) => {
                assert_eq!(start, offset(33));
            }
            Err(Stopped::Failed(error)) => panic!("{error}"),
            Err(Stopped::Cold) => panic!("a read that may block is never cold"),
            Ok(read) => panic!("{read:?}"),
        }
        let above = Wanted {
            from: offset(40),
            ..wanted
        };
        let read = bench.log.read_listed(&list, above).ok().unwrap();
        assert!(read.slice.is_some(), "what stayed is read");
    }
}
