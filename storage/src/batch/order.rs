//! Which of the batches that contradict each other is wrong, where offsets may leave gaps.
//!
//! No checksum covers a base offset. One that is too high is believed until the batches behind it
//! go back, and then it is not they who are wrong: the longest row in which each batch lies behind
//! the one before it is right, and who stands between its batches is not.

use std::cmp::{Ordering, Reverse};
use std::collections::VecDeque;

use super::{BatchHeader, Found, HEADER_LEN, Source, Walk};
use crate::types::Offset;

/// Batches that are looked at on either side of a contradiction.
const SIDE: usize = 16;

/// A batch that was written as it stands, apart from its base offset and leader epoch, which no
/// checksum covers.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    position: u64,
    header: BatchHeader,
}

impl Whole {
    /// Where the batch behind it begins.
    fn end(&self) -> u64 {
        self.position + self.header.total_len() as u64
    }

    /// Offsets that it has.
    fn offsets(&self) -> i64 {
        i64::from(self.header.last_offset_delta).saturating_add(1)
    }

    fn next(&self) -> Option<Offset> {
        self.header.base_offset.checked_add(self.offsets())
    }

    /// True where its base offset may be what a power loss left of it: the first bytes, in a sector
    /// that was not written, are zeros though those of `expected` are not.
    pub(crate) fn may_be_torn(&self, expected: Offset) -> bool {
        let written = (SECTOR - self.position % SECTOR) as usize;
        let head = |offset: Offset| {
            let bytes = offset.value().to_be_bytes();
            let mut head = bytes.into_iter().take(written);
            head.any(|byte| byte != 0)
        };
        written < super::CRC_START && !head(self.header.base_offset) && head(expected)
    }
}

/// The smallest piece of a file that reaches the disk as one, in bytes.
const SECTOR: u64 = 512;

/// Whole batches of which none fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misfits {
    /// Where they end.
    pub(crate) end: u64,
    /// Offsets that they have.
    pub(crate) offsets: i64,
}

/// A batch of a row.
#[derive(Clone, Copy, Debug)]
struct Placed {
    position: u64,
    base: Offset,
    offsets: i64,
    /// Nothing but its place speaks against it.
    usable: bool,
}

impl Placed {
    fn next(&self) -> Offset {
        Offset::new(self.base.value().saturating_add(self.offsets))
    }
}

/// The batches that a walk has passed last.
#[derive(Debug, Default)]
pub(super) struct Recent {
    passed: VecDeque<Placed>,
    /// Nothing before the first of them reaches above it.
    floor: Option<Offset>,
}

impl Recent {
    /// Notes a batch; `expected` was the lowest offset that it could have.
    pub(super) fn note(&mut self, found: &Found, expected: Offset) {
        self.floor.get_or_insert(expected);
        if self.passed.len() == SIDE {
            self.floor = self.passed.pop_front().map(|first| first.next());
        }
        self.passed.push_back(Placed {
            position: found.position,
            base: found.header.base_offset,
            offsets: found.next.distance(found.header.base_offset),
            usable: true,
        });
    }

    /// Forgets them all: nothing before what comes reaches above `floor`.
    pub(super) fn restart(&mut self, floor: Offset) {
        self.passed.clear();
        self.floor = Some(floor);
    }
}

impl<S: Source> Walk<'_, S> {
    /// The batch at a position, if what its checksum covers is as it was written.
    pub(crate) fn whole(&mut self, position: u64) -> Option<Whole> {
        let head = position..position.checked_add(HEADER_LEN as u64)?;
        if head.end > self.end {
            return None;
        }
        let header = self
            .source
            .look(head, |bytes| BatchHeader::parse(bytes).ok());
        let header = header.ok()??;
        let whole = Whole { position, header };
        let sane = whole.header.last_offset_delta >= 0 && whole.end() <= self.end;
        let verifies = sane && self.source.verifies(position..whole.end()).ok()?;
        verifies.then_some(whole)
    }

    /// The first of the whole batches behind `misfit` that may follow an end at `lowest`.
    ///
    /// # Errors
    /// What was passed, where there is none.
    pub(crate) fn next_fitting(
        &mut self,
        misfit: &Whole,
        lowest: Offset,
    ) -> Result<Found, Misfits> {
        let (mut end, mut offsets) = (misfit.end(), misfit.offsets());
        while let Some(whole) = self.whole(end) {
            let base = whole.header.base_offset;
            let fits = match self.exact {
                true => Some(base) == lowest.checked_add(offsets),
                false => base >= lowest,
            };
            let fits = fits && !self.is_blamed(whole.position);
            let next = whole.next().filter(|next| fits && *next <= self.bound);
            if let Some(next) = next {
                return Ok(Found {
                    position: whole.position,
                    header: whole.header,
                    next,
                });
            }
            end = whole.end();
            offsets = offsets.saturating_add(whole.offsets());
        }
        Err(Misfits { end, offsets })
    }

    /// Finds the batches that were passed though their offsets are wrong, by those that follow from
    /// `met` on, the batch that was met last and does not fit. Where there are some the walk goes
    /// on behind what was looked at for that.
    pub(crate) fn weigh(&mut self, met: &Whole) -> Vec<u64> {
        let recent = self.recent.as_ref().filter(|_| !self.exact);
        let Some(recent) = recent.filter(|recent| !recent.passed.is_empty()) else {
            return Vec::new();
        };
        let mut row: Vec<Placed> = recent.passed.iter().copied().collect();
        let (passed, floor) = (row.len(), recent.floor);
        let mut next = Some(met.clone());
        let mut end = met.position;
        while let Some(whole) = next.filter(|_| row.len() < passed + SIDE) {
            end = whole.end();
            let after = whole.next().filter(|after| *after <= self.bound);
            row.push(Placed {
                position: whole.position,
                base: whole.header.base_offset,
                offsets: whole.offsets(),
                usable: after.is_some() && !self.is_blamed(whole.position),
            });
            next = self.whole(end);
        }
        let known_end = self.known_end.filter(|_| end == self.end);
        let right = longest(&row, floor, known_end);
        let Some(last) = right.last().and_then(|last| row.get(*last)).copied() else {
            return Vec::new();
        };
        let is_wrong = |n: &usize| right.binary_search(n).is_err();
        if !(0..passed).any(|n| is_wrong(&n)) {
            return Vec::new();
        }
        // Nothing tells of those behind the last.
        let looked_at = row.iter().enumerate().filter(|(n, _)| is_wrong(n));
        let wrong = looked_at
            .map(|(_, batch)| batch.position)
            .filter(|position| *position < last.position.max(met.position))
            .filter(|position| !self.is_blamed(*position))
            .collect();
        self.resume(end, last.next(), last.next());
        wrong
    }
}

/// What one more batch in a row counts, against the doubts about the gaps in it.
const LENGTH: i64 = 8 * SIDE as i64;

/// The longest row of batches of which each lies behind the one before it, by their places in
/// `all`, ascending. Of several that whose gaps are what the others would fill; else one that ends
/// at `end`, or the one with the lowest end.
fn longest(all: &[Placed], floor: Option<Offset>, end: Option<Offset>) -> Vec<usize> {
    let floor = floor.unwrap_or(Offset::ZERO);
    // What the best row counts that ends with each, and the one before it there.
    let mut rows: Vec<Option<(i64, Option<usize>)>> = Vec::with_capacity(all.len());
    for (n, batch) in all.iter().enumerate() {
        let mut best = None;
        let mut left_out: i64 = 0;
        for before in (0..=n).rev() {
            // The one before it in the row, or none: then all before it are left out.
            let before = before.checked_sub(1);
            let (counts, from) = match before.and_then(|before| all.get(before)) {
                None => (Some(0), floor),
                Some(other) => {
                    let row = before.and_then(|before| *rows.get(before)?);
                    (row.map(|row| row.0), other.next())
                }
            };
            let room = batch.base.distance(from);
            if let Some(counts) = counts.filter(|_| batch.usable && room >= 0) {
                let doubts = match room.cmp(&left_out) {
                    Ordering::Equal => 0,
                    Ordering::Greater => 1,
                    // Those left out never had their place here: no row is worth that.
                    Ordering::Less => LENGTH + 2,
                };
                let counts = counts + LENGTH - doubts;
                // Of equals the first: it is the one that was believed.
                if best.is_none_or(|(most, _)| counts >= most) {
                    best = Some((counts, before));
                }
            }
            let other = before.and_then(|before| all.get(before));
            left_out = left_out.saturating_add(other.map_or(0, |other| other.offsets));
        }
        rows.push(best);
    }
    let ends = rows.iter().zip(all).enumerate();
    let best = ends.filter_map(|(n, (row, batch))| {
        let next = batch.next();
        row.map(|(counts, _)| (counts, end == Some(next), Reverse(next), n))
    });
    let best = best.max();
    let mut at = best.map(|best| best.3);
    let mut right = Vec::new();
    while let Some(n) = at {
        right.push(n);
        at = rows.get(n).copied().flatten().and_then(|row| row.1);
    }
    right.reverse();
    right
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;
    use std::ops::Range;

    use super::*;
    use crate::batch::{stamp, verify_crc};
    use crate::testing::{batch, offset};
    use crate::types::LeaderEpoch;

    /// Bytes in memory; counts the batches whose checksum was asked for.
    struct Counted<'a> {
        bytes: &'a [u8],
        verified: &'a Cell<usize>,
    }

    impl Source for Counted<'_> {
        fn look<T>(&mut self, range: Range<u64>, look: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
            Ok(look(&self.bytes[range.start as usize..range.end as usize]))
        }

        fn verifies(&mut self, batch: Range<u64>) -> io::Result<bool> {
            self.verified.set(self.verified.get() + 1);
            self.look(batch, verify_crc)
        }
    }

    #[test]
    fn where_nothing_was_passed_no_row_is_read() {
        let mut bytes = Vec::new();
        for tag in 0..30 {
            let mut batch = batch(tag, 1, 20, 1000);
            let head = batch.first_chunk_mut::<HEADER_LEN>().unwrap();
            stamp(head, offset(tag as i64), LeaderEpoch::new(0));
            bytes.extend(batch);
        }
        let verified = Cell::new(0);
        let source = Counted {
            bytes: &bytes,
            verified: &verified,
        };
        let mut walk = Walk::over(source, 0, bytes.len() as u64, offset(0))
            .within(offset(0), None)
            .epoch(LeaderEpoch::new(1));
        let bad = walk.next().unwrap().unwrap_err();
        let met = walk.whole(bad.position).unwrap();
        assert_eq!(walk.weigh(&met), []);
        assert_eq!(verified.get(), 1, "the batch that was met");
    }
}
