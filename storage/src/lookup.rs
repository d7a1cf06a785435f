//! Finding records by their timestamp (ListOffsets, KIP-79, KIP-734).
//!
//! A look-up may touch cold pages and open a compressed batch: call it where blocking is allowed.

use std::cell::Cell;
use std::io::Read;
use std::sync::Arc;

use palisade_protocol::batch::compression::Decoder;
use palisade_protocol::batch::{BatchHeader, Codec, RecordIter, RecordScanner, TimestampType};

use crate::batch::{Bad, Found, HEADER_LEN};
use crate::damage::{Hurdle, Known};
use crate::error::StorageError;
use crate::log::{Log, TimestampOffset};
use crate::mmap::Region;
use crate::segment::Segment;
use crate::types::{Offset, TimestampMs};

/// Largest size a batch is opened to, in bytes, piece by piece.
const OPENED: usize = 256 << 20;
/// Bytes of an opened batch that are in memory at a time.
const PIECE: usize = 16 << 10;

impl Log {
    /// The first record below `up_to`, and not below the log start, with a timestamp at or above
    /// `timestamp`; blocks.
    ///
    /// # Errors
    /// `Corrupt` when the bytes on the way do not verify; `Io`.
    pub fn find_by_timestamp(
        &self,
        timestamp: TimestampMs,
        up_to: Offset,
    ) -> Result<Option<TimestampOffset>, StorageError> {
        let limit = up_to.min(self.end.load());
        self.in_segments(|list| self.find_in(list, timestamp, limit))
    }

    /// Looks something up, again where retention took segments from under it.
    fn in_segments<T>(
        &self,
        look_up: impl Fn(&[Arc<Segment>]) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let base = |segment: &Arc<Segment>| segment.base;
        loop {
            let list = self.segments.load_full();
            match look_up(&list) {
                // What went has lost its file names, which is no fault of the disk.
                Err(_) if self.segments.load().first().map(base) != list.first().map(base) => {}
                answer => return answer,
            }
        }
    }

    fn find_in(
        &self,
        list: &[Arc<Segment>],
        timestamp: TimestampMs,
        limit: Offset,
    ) -> Result<Option<TimestampOffset>, StorageError> {
        let start = self.start.load();
        let damage = self.damage.load();
        for segment in list
            .iter()
            .filter(|segment| segment.max_timestamp() >= timestamp)
        {
            if segment.base >= limit {
                break;
            }
            let known = Known::of(&damage, &segment.path);
            let entry = segment.index()?.floor_time(timestamp);
            let from = (u64::from(entry.position), entry.relative);
            let found = first_record(segment, &known, from, start, |time| time >= timestamp)?;
            if let Some(found) = found {
                return Ok(Some(found).filter(|found| found.offset < limit));
            }
        }
        Ok(None)
    }

    /// The first record that carries the largest timestamp of those below `up_to`, and not below
    /// the log start; blocks.
    ///
    /// Kafka looks at whole segments, so what it finds may lie below the log start, where nobody
    /// can read it.
    ///
    /// # Errors
    /// As [`Log::find_by_timestamp`].
    pub fn max_timestamp(&self, up_to: Offset) -> Result<Option<TimestampOffset>, StorageError> {
        let limit = up_to.min(self.end.load());
        self.in_segments(|list| match self.max_in(list, limit, true)? {
            Largest::Found(found) => Ok(Some(found)),
            Largest::Nothing => Ok(None),
            // The last segment knows the time of a batch that cannot be read yet: its records are
            // asked instead.
            Largest::BeyondTheLimit => match self.max_in(list, limit, false)? {
                Largest::Found(found) => Ok(Some(found)),
                Largest::Nothing | Largest::BeyondTheLimit => Ok(None),
            },
        })
    }

    /// The same in these segments. `believe_last`: the last one's largest timestamp, which is known
    /// a moment before the batch that brings it is readable, is taken as it stands.
    fn max_in(
        &self,
        list: &[Arc<Segment>],
        limit: Offset,
        believe_last: bool,
    ) -> Result<Largest, StorageError> {
        let mut best: Option<(TimestampMs, Arc<Segment>)> = None;
        let last = list.last().filter(|_| !believe_last);
        let start = self.start.load();
        let damage = self.damage.load();
        for segment in list.iter().filter(|segment| segment.base < limit) {
            let (base, next) = (segment.base, segment.tail().next);
            if next <= start {
                continue;
            }
            let most = segment.max_timestamp();
            if best.as_ref().is_some_and(|(largest, _)| most <= *largest) {
                continue;
            }
            let known = Known::of(&damage, &segment.path);
            // A segment knows the largest of all that it was given, also where that is damaged or
            // deleted now. One without any may have no record, or records without timestamps.
            let is_settled = last.is_none_or(|last| !Arc::ptr_eq(last, segment));
            let is_whole = is_settled && base >= start && next <= limit && known.is_empty();
            let time = if is_whole && most.value() >= 0 {
                Some(most)
            } else {
                max_between(segment, &known, start, limit)?
            };
            let Some(time) = time else { continue };
            if best.as_ref().is_none_or(|(largest, _)| time > *largest) {
                best = Some((time, segment.clone()));
            }
        }
        let Some((largest, segment)) = best else {
            return Ok(Largest::Nothing);
        };
        let entry = segment.index()?.floor_time(largest);
        let from = (u64::from(entry.position), entry.relative);
        let known = Known::of(&damage, &segment.path);
        let found = first_record(&segment, &known, from, start, |time| time >= largest)?;
        let found = found.filter(|found| found.offset < limit);
        Ok(found.map_or(Largest::BeyondTheLimit, Largest::Found))
    }
}

/// What a look-up for the largest timestamp came to.
enum Largest {
    Found(TimestampOffset),
    /// No record has a timestamp.
    Nothing,
    /// The largest that a segment knows is of no record below the limit.
    BeyondTheLimit,
}

/// The first record of a segment, from an index entry on and not below `start`, whose timestamp
/// fits.
fn first_record(
    segment: &Arc<Segment>,
    known: &Known<'_>,
    (position, relative): (u64, u32),
    start: Offset,
    fits: impl Fn(TimestampMs) -> bool,
) -> Result<Option<TimestampOffset>, StorageError> {
    let region = segment.region()?;
    let tail = segment.tail();
    let expected = Offset::new(segment.base.value() + i64::from(relative));
    let mut walk = known.walk(&region, position, expected, tail);
    while let Some(step) = walk.next() {
        let found = match step {
            Ok(found) => found,
            Err(Hurdle::Known(_)) => continue,
            Err(Hurdle::Fresh(bad)) => return Err(corrupt(segment, bad)),
        };
        if found.next <= start || !fits(found.header.max_timestamp) {
            continue;
        }
        let header = || {
            let header = &found.header;
            Some((header.base_offset.max(start), header.max_timestamp))
        };
        let record = match in_batch(&region, &found, start, &fits) {
            // A header that tells of a time which none of its records has, as who wrote them may
            // make it: of such batches one is opened, and not all there are.
            Ok(None) if is_closed(&found, start) && found.verifies(&region) => header(),
            Ok(record) => record,
            // As its producer sent it: where its records cannot be opened, its header stands
            // for them, so that the answer is never behind one that fits.
            Err(_) if found.verifies(&region) => header(),
            Err(reason) => {
                return Err(StorageError::Corrupt {
                    from: found.header.base_offset,
                    to: found.next,
                    path: segment.path.clone(),
                    reason,
                });
            }
        };
        if let Some((offset, timestamp)) = record {
            let epoch = found.header.partition_leader_epoch;
            let epoch = (epoch.value() >= 0).then_some(epoch);
            return Ok(Some(TimestampOffset {
                offset,
                timestamp,
                epoch,
            }));
        }
    }
    Ok(None)
}

/// Whether a batch has compressed records, all of them from `start` on.
fn is_closed(found: &Found, start: Offset) -> bool {
    let header = &found.header;
    let is_compressed = header.codec().is_ok_and(|codec| codec != Codec::None);
    is_compressed && header.base_offset >= start && header.records_count > 0
}

/// Damage that nobody has met before, and that hides the rest of its segment.
fn corrupt(segment: &Segment, bad: Bad) -> StorageError {
    StorageError::Corrupt {
        from: bad.offset,
        to: segment.tail().next,
        path: segment.path.clone(),
        reason: bad.reason,
    }
}

/// The largest timestamp of the records of a segment from `start` on, in batches below `limit`;
/// `None` where there is no record.
fn max_between(
    segment: &Arc<Segment>,
    known: &Known<'_>,
    start: Offset,
    limit: Offset,
) -> Result<Option<TimestampMs>, StorageError> {
    let region = segment.region()?;
    let relative = u32::try_from(start.distance(segment.base)).unwrap_or(0);
    let entry = segment.index()?.floor_offset(relative);
    let expected = Offset::new(segment.base.value() + i64::from(entry.relative));
    let mut largest = None;
    let mut walk = known.walk(&region, u64::from(entry.position), expected, segment.tail());
    while let Some(step) = walk.next() {
        #[cfg(test)]
        LOOKED_AT.set(LOOKED_AT.get() + 1);
        match step {
            Ok(found) if found.next > limit => break,
            Ok(found) if found.next <= start => {}
            // A batch that lost its records keeps its timestamp, but nothing carries it any more.
            Ok(found) if found.header.records_count > 0 => {
                largest = largest.max(Some(max_in_batch(&region, &found, start)));
                if largest == Some(segment.max_timestamp()) {
                    // No other can be larger.
                    break;
                }
            }
            Ok(_) | Err(Hurdle::Known(_)) => {}
            Err(Hurdle::Fresh(bad)) => return Err(corrupt(segment, bad)),
        }
    }
    Ok(largest)
}

/// The largest timestamp of the records of one batch from `start` on; that of its header where
/// they cannot be opened.
fn max_in_batch(region: &Region, found: &Found, start: Offset) -> TimestampMs {
    if found.header.base_offset >= start {
        return found.header.max_timestamp;
    }
    let largest = Cell::new(TimestampMs::new(-1));
    let passed = in_batch(region, found, start, |time| {
        largest.set(largest.get().max(time));
        false
    });
    match passed {
        Ok(None) => largest.get(),
        Ok(Some((_, time))) => time,
        Err(_) => found.header.max_timestamp,
    }
}

/// The first record of one batch, at or above `start`, whose timestamp fits.
fn in_batch(
    region: &Region,
    found: &Found,
    start: Offset,
    fits: impl Fn(TimestampMs) -> bool,
) -> Result<Option<(Offset, TimestampMs)>, &'static str> {
    let header = &found.header;
    if header.records_count == 0 {
        return Ok(None);
    }
    let append_time = header.timestamp_type() == TimestampType::LogAppendTime;
    let whole = i64::from(header.records_count) == i64::from(header.last_offset_delta) + 1;
    if append_time && whole {
        return Ok(Some((header.base_offset.max(start), header.max_timestamp)));
    }
    let range = found.position as usize + HEADER_LEN..found.end() as usize;
    region
        .make_resident(range.clone())
        .map_err(|_| "the bytes cannot be read")?;
    let stored = region.slice(range);
    let fit = |offset_delta: i32, timestamp_delta: i64| {
        let offset = header.base_offset.checked_add(i64::from(offset_delta))?;
        let time = match append_time {
            true => header.max_timestamp,
            false => TimestampMs::new(
                header
                    .base_timestamp
                    .value()
                    .saturating_add(timestamp_delta),
            ),
        };
        (offset >= start && fits(time)).then_some((offset, time))
    };
    let codec = header.codec().map_err(|_| "unknown codec")?;
    if codec != Codec::None {
        return in_closed_batch(header, codec, stored, fit);
    }
    for record in RecordIter::new(stored, header.records_count) {
        let record = record.map_err(|_| "record does not parse")?;
        if let Some(found) = fit(record.offset_delta, record.timestamp_delta) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

// How many compressed batches were opened, and batches looked at, in this thread.
#[cfg(test)]
thread_local! {
    pub(crate) static OPENINGS: Cell<usize> = const { Cell::new(0) };
    pub(crate) static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
}

/// The same in compressed records, which are opened as far as needed and never held as a whole.
fn in_closed_batch(
    header: &BatchHeader,
    codec: Codec,
    stored: &[u8],
    fit: impl Fn(i32, i64) -> Option<(Offset, TimestampMs)>,
) -> Result<Option<(Offset, TimestampMs)>, &'static str> {
    #[cfg(test)]
    OPENINGS.set(OPENINGS.get() + 1);
    let damaged = "does not decompress";
    let mut decoder = Decoder::new(codec, stored, OPENED).map_err(|_| damaged)?;
    let mut scanner = RecordScanner::new(header.records_count);
    let mut piece = vec![0; PIECE];
    let mut found = None;
    while found.is_none() {
        let count = decoder.read(&mut piece).map_err(|_| damaged)?;
        if count == 0 {
            scanner.finish().map_err(|_| "record does not parse")?;
            break;
        }
        let plain = piece.get(..count).unwrap_or_default();
        let scanned = scanner.feed(plain, |record| {
            if found.is_none() {
                found = fit(record.offset_delta, record.timestamp_delta);
            }
        });
        // What was found before the damage stands.
        if found.is_none() {
            scanned.map_err(|_| "record does not parse")?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use palisade_protocol::batch::Codec;

    use crate::StorageError;
    use crate::testing::*;

    /// What a client calls gzip and is not.
    fn garbage(timestamp: i64) -> Vec<u8> {
        let mut garbage = batch(7, 5, 20, timestamp);
        garbage[22] |= Codec::Gzip.id() as u8;
        let crc = crc32c::crc32c(&garbage[21..]);
        garbage[17..21].copy_from_slice(&crc.to_be_bytes());
        garbage
    }

    #[test]
    fn a_batch_that_does_not_open_is_found_by_its_header() {
        let bench = Bench::new(small());
        bench.put(batch(1, 1, 20, 1000));
        bench.put(garbage(2000));
        bench.put(batch(2, 1, 20, 3000));
        let end = bench.log.log_end_offset();
        let find = |bench: &Bench, at| bench.log.find_by_timestamp(time(at), end);
        for (asked, at, timestamp) in [(500, 0, 1000), (1500, 1, 2000), (2500, 6, 3000)] {
            let found = find(&bench, asked).unwrap().unwrap();
            let found = (found.offset, found.timestamp);
            assert_eq!(found, (offset(at), time(timestamp)), "at {asked}");
        }
        bench.log.delete_records_before(offset(3)).unwrap();
        let found = find(&bench, 1500).unwrap().unwrap();
        assert_eq!(found.offset, offset(3), "not below the log start");
        // What the disk has changed is nobody's record.
        let segment = bench.log.segments.load()[0].clone();
        let place = batch(1, 1, 20, 1000).len() + 70;
        bench.fs.flip(&segment.path, place, 1);
        let bench = bench.reopen(small());
        let found = find(&bench, 1500);
        assert!(
            matches!(found, Err(StorageError::Corrupt { .. })),
            "{found:?}"
        );
        assert!(find(&bench, 2500).is_ok());
    }

    #[test]
    fn the_largest_timestamp_is_not_told_past_damage_that_nobody_met() {
        let bench = Bench::new(small());
        for (tag, timestamp) in [(1, 1000), (2, 2000), (3, 4000), (4, 3000)] {
            bench.put(batch(tag, 1, 20, timestamp));
        }
        let largest = |bench: &Bench| bench.log.max_timestamp(offset(3));
        let found = largest(&bench).unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (offset(2), time(4000)));
        // The magic of the second batch: nobody can tell where the third one begins.
        let segment = bench.log.segments.load()[0].clone();
        let place = batch(1, 1, 20, 1000).len() + 16;
        bench.fs.flip(&segment.path, place, 1);
        let bench = bench.reopen(small());
        let found = largest(&bench);
        assert!(
            matches!(found, Err(StorageError::Corrupt { from, .. }) if from == offset(1)),
            "{found:?}"
        );
    }

    #[test]
    fn without_timestamps_the_first_record_has_the_largest() {
        let bench = Bench::new(small());
        bench.put(batch(1, 3, 20, -1));
        bench.put(batch(2, 3, 20, -1));
        let largest = |limit| {
            let found = bench.log.max_timestamp(offset(limit)).unwrap();
            found.map(|found| (found.offset, found.timestamp))
        };
        assert_eq!(largest(6), Some((offset(0), time(-1))));
        assert_eq!(largest(4), Some((offset(0), time(-1))));
        assert_eq!(largest(2), None, "no batch is below that");
    }

    #[test]
    fn a_look_up_outlives_the_segments_that_retention_takes() {
        let bench = Bench::new(small());
        bench.fill(0, 60);
        // Opened again, no sealed segment is mapped yet.
        let bench = bench.reopen(small());
        let log = &bench.log;
        let rounds = Cell::new(0);
        let found = log.in_segments(|list| {
            if rounds.replace(rounds.get() + 1) == 0 {
                log.delete_records_before(offset(33)).unwrap();
            }
            log.find_in(list, time(0), offset(60))
        });
        assert_eq!(found.unwrap().unwrap().offset, offset(33));
        assert_eq!(rounds.get(), 2);
    }
}
