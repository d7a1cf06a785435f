//! Walking over a segment past what is known of it not to verify.

use std::path::Path;

use super::DamagedRange;
use crate::batch::{Bad, Found, Walk};
use crate::mmap::Region;
use crate::segment::Tail;
use crate::types::Offset;

/// The known damage of one segment: batches in it may look as if they were right.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    /// By position, ascending.
    ranges: Vec<&'a DamagedRange>,
}

impl<'a> Known<'a> {
    /// What `damage`, that of a log, says of the segment at `path`.
    pub(crate) fn of(damage: &'a [DamagedRange], path: &Path) -> Self {
        let here = damage.iter().filter(|range| *range.path == *path);
        let mut ranges: Vec<_> = here.collect();
        ranges.sort_unstable_by_key(|range| range.start);
        Self { ranges }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The range that holds the byte at a position.
    fn at(&self, position: u64) -> Option<&'a DamagedRange> {
        let behind = self.ranges.partition_point(|r| r.start <= position);
        let range = behind.checked_sub(1).and_then(|n| self.ranges.get(n));
        range.copied().filter(|range| position < range.end)
    }

    /// The first range that starts at or behind a position.
    pub(crate) fn ahead(&self, position: u64) -> Option<&'a DamagedRange> {
        let before = self.ranges.partition_point(|r| r.start < position);
        self.ranges.get(before).copied()
    }

    /// Walks from `position` to `tail`, where no batch lies below offset `expected`.
    pub(crate) fn walk<'w>(
        &'w self,
        region: &'w Region,
        position: u64,
        expected: Offset,
        tail: Tail,
    ) -> Readable<'w> {
        Readable {
            walk: Walk::new(region, position, tail.position, expected).up_to(tail.next),
            known: self,
        }
    }
}

/// What a walk meets in place of a batch.
#[derive(Debug)]
pub(crate) enum Hurdle<'a> {
    /// Known damage; the walk goes on behind it.
    Known(&'a DamagedRange),
    /// Damage that nobody has met before; the walk goes no further.
    Fresh(Bad),
}

/// The batches of a segment but those in known damage.
#[derive(Debug)]
pub(crate) struct Readable<'a> {
    walk: Walk<'a>,
    known: &'a Known<'a>,
}

impl<'a> Readable<'a> {
    /// True when the first headers can be touched without disk I/O.
    pub(crate) fn is_warm(&self) -> bool {
        self.walk.is_warm()
    }

    /// The next batch; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Result<Found, Hurdle<'a>>> {
        // Before it is looked at: the range may begin with a batch that seems to fit.
        if let Some(range) = self.known.at(self.walk.position()?) {
            self.walk.resume(range.end, range.from, range.to);
            return Some(Err(Hurdle::Known(range)));
        }
        Some(self.walk.next()?.map_err(Hurdle::Fresh))
    }
}
