//! What of a record batch the log looks at: its header, and whether it can be believed.
//!
//! The CRC of a batch covers only the bytes from `attributes` on. Base offset, length, leader epoch
//! and magic are believed because they fit what stands before them (storage page, §7.1).

use std::cmp::Ordering;
use std::ops::Range;

use palisade_protocol::batch::BATCH_HEADER_LEN;
pub(crate) use palisade_protocol::batch::{BatchHeader, stamp, verify_crc};

use crate::mmap::Region;
use crate::types::{LeaderEpoch, Offset};

mod order;
mod source;

use order::Recent;
pub(crate) use order::{Misfits, Whole};
use source::WINDOW;
pub(crate) use source::{Mapped, Source};

/// Length of a batch header, in bytes.
pub(crate) const HEADER_LEN: usize = BATCH_HEADER_LEN;

/// Where the bytes of a batch start that its CRC covers.
pub(crate) const CRC_START: usize = 21;

// What other batches say against one: compared in `Bad::contradicts_others`.
const EPOCH_BACK: &str = "leader epoch goes back";
const BLAMED: &str = "batch does not fit its neighbours";
// Of a batch by itself.
const UNREADABLE: &str = "the bytes cannot be read";
/// Why a batch is damage whose checksum is not that of its bytes.
pub(crate) const WRONG_CHECKSUM: &str = "wrong checksum";

/// Parses the header of one batch and checks it against itself.
pub(crate) fn parse(bytes: &[u8]) -> Result<BatchHeader, &'static str> {
    let header = BatchHeader::parse(bytes).map_err(|_| "batch header does not parse")?;
    if header.total_len() < HEADER_LEN {
        return Err("batch length below the header");
    }
    if header.base_offset.value() < 0 {
        return Err("negative base offset");
    }
    if header.last_offset_delta < 0 {
        return Err("negative last offset delta");
    }
    next_offset(&header)
        .map(|_| header)
        .ok_or("offsets overflow")
}

/// Offset after the last one of a batch.
pub(crate) fn next_offset(header: &BatchHeader) -> Option<Offset> {
    header
        .base_offset
        .checked_add(i64::from(header.last_offset_delta))?
        .checked_add(1)
}

/// One batch met by a walk.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
    /// Offset after the batch.
    pub(crate) next: Offset,
}

impl Found {
    /// Whether its checksum is that of its bytes, which lie in `region`; reads all of them.
    pub(crate) fn verifies(&self, region: &Region) -> bool {
        let range = self.position as usize..self.end() as usize;
        region.make_resident(range.clone()).is_ok() && verify_crc(region.slice(range))
    }

    pub(crate) fn end(&self) -> u64 {
        self.position + self.header.total_len() as u64
    }
}

/// Where a walk met something that is no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) position: u64,
    /// The first offset that is missing.
    pub(crate) offset: Offset,
    pub(crate) reason: &'static str,
}

impl Bad {
    /// True where other batches show its leader epoch to be wrong, if what its checksum covers is
    /// right.
    pub(crate) fn contradicts_others(&self) -> bool {
        contradicts_others(self.reason)
    }
}

/// The same of the reason alone. A batch may be blamed for its place too.
pub(crate) fn contradicts_others(reason: &'static str) -> bool {
    matches!(reason, EPOCH_BACK | BLAMED)
}

/// Which batch is to blame for what shows in a later one; by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Culprit {
    /// It raises the leader epoch above that of those behind it.
    Raises(u64),
    /// It does not verify: its length or offset delta may be wrong.
    Unverified(u64),
}

impl Culprit {
    pub(crate) fn position(self) -> u64 {
        match self {
            Self::Raises(position) | Self::Unverified(position) => position,
        }
    }
}

/// Walks the batches of a segment, checking each against the one before.
#[derive(Debug)]
pub(crate) struct Walk<'a, S = Mapped<'a>> {
    source: S,
    position: u64,
    end: u64,
    /// Lowest base offset that the next batch may have.
    expected: Offset,
    /// The next batch must have exactly that offset.
    exact: bool,
    epoch: LeaderEpoch,
    /// Batches ending past this offset are checked with their CRC.
    crc_from: Offset,
    /// Batches known to be bad, by position, ascending.
    blamed: &'a [u64],
    /// Where the last batch ends, if that is known, and what none may pass.
    known_end: Option<Offset>,
    bound: Offset,
    recent: Option<Recent>,
    /// The batch before, and the last one that raised the epoch.
    before: Option<Found>,
    raised: Option<Raise>,
}

/// A batch with a higher leader epoch than those before it.
#[derive(Debug)]
struct Raise {
    position: u64,
    /// The epoch before.
    from: LeaderEpoch,
    /// Batches behind it with the same epoch.
    shared: usize,
}

/// With so many batches behind it of the same leader epoch no batch is to blame for that.
const BELIEVED: usize = 4;
/// How many batches behind a lower leader epoch are asked who is to blame for it.
const AHEAD: usize = 2 * BELIEVED;

impl<'a> Walk<'a> {
    /// Starts at `position` of a mapping, where no batch lies below offset `expected`.
    pub(crate) fn new(region: &'a Region, position: u64, end: u64, expected: Offset) -> Self {
        Self::over(Mapped::new(region, end), position, end, expected)
    }

    /// True when the first headers can be touched without disk I/O.
    pub(crate) fn is_warm(&self) -> bool {
        self.source.is_warm(self.position)
    }
}

impl<'a, S: Source> Walk<'a, S> {
    /// The same over any bytes.
    pub(crate) fn over(source: S, position: u64, end: u64, expected: Offset) -> Self {
        Self {
            source,
            position,
            end,
            expected,
            exact: false,
            epoch: LeaderEpoch::new(-1),
            crc_from: Offset::new(i64::MAX),
            blamed: &[],
            known_end: None,
            bound: Offset::new(i64::MAX),
            recent: None,
            before: None,
            raised: None,
        }
    }

    /// Takes these batches, in ascending order, for bad, whatever they look like.
    pub(crate) fn blaming(mut self, positions: &'a [u64]) -> Self {
        self.blamed = positions;
        self
    }

    /// The batch whose fault the last error really is, where an earlier one is to blame.
    ///
    /// A wrong length, offset delta or epoch shows only in the batch that follows.
    pub(crate) fn culprit(&mut self, bad: &Bad) -> Option<Culprit> {
        if let Some(before) = &self.before {
            let range = before.position..before.end();
            if !self.source.verifies(range).unwrap_or(false) {
                return Some(Culprit::Unverified(before.position));
            }
        }
        let raised = self.raised.as_ref().filter(|_| bad.reason == EPOCH_BACK)?;
        let (position, from) = (raised.position, raised.from);
        // Either the raise is wrong, in it and in those that share its epoch, or the lower epochs
        // behind it are: who blames fewer batches is believed. Batches of the raised epoch behind
        // the last lower one fit both stories; they only break a tie, for the epoch then exists.
        let (mut if_raise_is_wrong, mut if_lower_are_wrong) = (1 + raised.shared, 1);
        let mut undecided = 0;
        let met = self.header(bad.position)?;
        if met.partition_leader_epoch < from {
            return None;
        }
        let mut at = bad.position + met.total_len() as u64;
        for _ in 0..AHEAD {
            let Some(header) = self.header(at) else { break };
            match header.partition_leader_epoch.cmp(&self.epoch) {
                Ordering::Equal => undecided += 1,
                Ordering::Less => {
                    if_raise_is_wrong += std::mem::take(&mut undecided);
                    if_lower_are_wrong += 1;
                }
                Ordering::Greater => break,
            }
            at += header.total_len() as u64;
        }
        let is_wrong = match if_lower_are_wrong.cmp(&if_raise_is_wrong) {
            Ordering::Greater => true,
            Ordering::Equal => undecided == 0,
            Ordering::Less => false,
        };
        is_wrong.then_some(Culprit::Raises(position))
    }

    /// The header at a position, if it parses.
    fn header(&mut self, position: u64) -> Option<BatchHeader> {
        let end = position.checked_add(HEADER_LEN as u64)?;
        let head = (end <= self.end).then_some(position..end)?;
        self.source.look(head, parse).ok()?.ok()
    }

    /// Goes on as if the batch that raised the leader epoch last had not.
    pub(crate) fn take_raise_back(&mut self) {
        if let Some(raised) = self.raised.take() {
            self.epoch = raised.from;
        }
    }

    /// The batch that raised the leader epoch last, where no more than a few have said the same
    /// since and what lies behind the end has only `epoch`.
    pub(crate) fn raised_above(&self, epoch: LeaderEpoch) -> Option<u64> {
        let raised = self.raised.as_ref().filter(|_| self.epoch > epoch);
        raised.map(|raised| raised.position)
    }

    /// As [`Walk::raised_above`], but only a raise that no batch behind it shares.
    pub(crate) fn raised_alone_above(&self, epoch: LeaderEpoch) -> Option<u64> {
        let alone = self
            .raised
            .as_ref()
            .is_some_and(|raised| raised.shared == 0);
        self.raised_above(epoch).filter(|_| alone)
    }

    /// Demands offsets without gaps.
    pub(crate) fn exact(mut self, exact: bool) -> Self {
        self.exact = exact;
        self
    }

    /// Lets no batch end above `end`, where the last one does, or where that is not known further
    /// from the segment's `base` than a segment reaches.
    pub(crate) fn within(mut self, base: Offset, end: Option<Offset>) -> Self {
        let span = base.value().saturating_add(i64::from(i32::MAX));
        self.recent = Some(Recent::default());
        self.known_end = end;
        self.bound = end.unwrap_or(Offset::new(i64::MAX)).min(Offset::new(span));
        self
    }

    /// Lets no batch end above `end`.
    pub(crate) fn up_to(mut self, end: Offset) -> Self {
        self.bound = end;
        self
    }

    /// Demands leader epochs from `epoch` on.
    pub(crate) fn epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.epoch = epoch;
        self
    }

    /// Checks the CRC of every batch that ends past `offset`.
    pub(crate) fn crc_from(mut self, offset: Offset) -> Self {
        self.crc_from = offset;
        self
    }

    /// Goes on at another place, after damage that begins at offset `from`.
    pub(crate) fn resume(&mut self, position: u64, from: Offset, expected: Offset) {
        if let Some(recent) = &mut self.recent {
            recent.restart(from);
        }
        // Which batch raised the epoch stays known: those behind the damage may tell on it.
        self.before = None;
        self.position = position;
        self.expected = expected;
    }

    /// Where the next batch is looked for; `None` at the end.
    pub(crate) fn position(&self) -> Option<u64> {
        Some(self.position).filter(|position| *position < self.end)
    }

    /// The next batch; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Result<Found, Bad>> {
        if self.position >= self.end {
            return None;
        }
        let result = self.step().map_err(|reason| Bad {
            position: self.position,
            offset: self.expected,
            reason,
        });
        if let Ok(found) = &result {
            if let Some(recent) = &mut self.recent {
                recent.note(found, self.expected);
            }
            self.position = found.end();
            self.expected = found.next;
            self.note_epoch(found.position, found.header.partition_leader_epoch);
            self.before = Some(found.clone());
        }
        Some(result)
    }

    fn note_epoch(&mut self, position: u64, epoch: LeaderEpoch) {
        if epoch > self.epoch {
            self.raised = Some(Raise {
                position,
                from: self.epoch,
                shared: 0,
            });
            self.epoch = epoch;
        } else if let Some(raised) = &mut self.raised {
            raised.shared += 1;
            if raised.shared == BELIEVED {
                self.raised = None;
            }
        }
    }

    fn is_blamed(&self, position: u64) -> bool {
        self.blamed.binary_search(&position).is_ok()
    }

    fn step(&mut self) -> Result<Found, &'static str> {
        let left = self.end - self.position;
        if self.is_blamed(self.position) {
            return Err(BLAMED);
        }
        if left < HEADER_LEN as u64 {
            return Err("less than a batch header left");
        }
        let head = self.position..self.position + HEADER_LEN as u64;
        let header = self.source.look(head, parse).map_err(|_| UNREADABLE)??;
        let length = header.total_len() as u64;
        if length > left {
            return Err("batch passes the end");
        }
        if header.base_offset < self.expected {
            return Err("base offset goes back");
        }
        if self.exact && header.base_offset != self.expected {
            return Err("base offset leaves a gap");
        }
        let epoch = header.partition_leader_epoch;
        if epoch < self.epoch {
            return Err(EPOCH_BACK);
        }
        let next = next_offset(&header).ok_or("offsets overflow")?;
        if next > self.bound {
            return Err("batch ends beyond its segment");
        }
        if next > self.crc_from {
            let batch = self.position..self.position + length;
            if !self.source.verifies(batch).map_err(|_| UNREADABLE)? {
                return Err(WRONG_CHECKSUM);
            }
        }
        Ok(Found {
            position: self.position,
            header,
            next,
        })
    }
}

/// Where a header has its magic, and the one that is known.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;

/// What a disk gives or does not give, in bytes.
const PAGE: u64 = 4096;

/// Finds the next batch that verifies, byte by byte, after damage at `position`.
///
/// `below`: the batch must start at an offset in `expected..=below`, so that payload bytes that
/// look like a batch are hardly ever taken for one. None of `blamed`, ascending, is it.
pub(crate) fn resync(
    region: &Region,
    position: u64,
    end: u64,
    expected: Offset,
    below: Offset,
    blamed: &[u64],
) -> Option<Found> {
    let mut at = position + 1;
    while at + HEADER_LEN as u64 <= end {
        // The bytes of many places are looked at together: there may be a gigabyte of them.
        let window = at..end.min(at + WINDOW);
        let Some(readable) = readable(region, &window) else {
            at = window.end;
            continue;
        };
        at = match readable.end < window.end {
            true => readable.end,
            false => window.end - (HEADER_LEN as u64 - 1),
        };
        let bytes = region.slice(readable.start as usize..readable.end as usize);
        let places = bytes.windows(HEADER_LEN).zip(readable.start..);
        for (head, place) in places.filter(|(head, _)| head.get(MAGIC_AT) == Some(&MAGIC)) {
            if parse(head).is_err() {
                continue;
            }
            let mut walk = Walk::new(region, place, end, expected)
                .crc_from(Offset::new(-1))
                .blaming(blamed);
            if let Some(Ok(found)) = walk.next()
                && found.header.base_offset <= below
            {
                return Some(found);
            }
        }
    }
    None
}

/// The first bytes of `window` that can be read, up to the first behind them that cannot.
fn readable(region: &Region, window: &Range<u64>) -> Option<Range<u64>> {
    let can_be_read = |range: Range<u64>| {
        let range = range.start as usize..range.end as usize;
        region.make_resident(range).is_ok()
    };
    if can_be_read(window.clone()) {
        return Some(window.clone());
    }
    // One page that cannot must not hide those beside it.
    let mut found: Option<Range<u64>> = None;
    let mut at = window.start;
    while at < window.end {
        let next = window.end.min((at / PAGE + 1) * PAGE);
        match (&mut found, can_be_read(at..next)) {
            (Some(found), true) => found.end = next,
            (Some(_), false) => break,
            (None, true) => found = Some(at..next),
            (None, false) => {}
        }
        at = next;
    }
    found
}
