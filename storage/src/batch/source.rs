//! Where a walk over batches takes their bytes from.

use std::io;
use std::ops::Range;

use super::verify_crc;
use crate::mmap::Region;

/// How far ahead a walk asks for pages, in bytes.
pub(crate) const WINDOW: u64 = 64 << 10;

/// The bytes of a segment, by position.
pub(crate) trait Source {
    /// Hands the bytes of a small range to `look`.
    ///
    /// # Errors
    /// When they cannot be read.
    fn look<T>(&mut self, range: Range<u64>, look: impl FnOnce(&[u8]) -> T) -> io::Result<T>;

    /// Whether the batch that lies there has the checksum that its header names.
    ///
    /// # Errors
    /// When it cannot be read.
    fn verifies(&mut self, batch: Range<u64>) -> io::Result<bool>;
}

/// A mapping, whose pages are brought in before a touch that could block for long or raise a
/// signal.
#[derive(Debug)]
pub(crate) struct Mapped<'a> {
    region: &'a Region,
    end: u64,
    /// Known to be in memory.
    resident: Range<u64>,
}

impl<'a> Mapped<'a> {
    /// A mapping of which nothing at or above `end` is asked for.
    pub(crate) fn new(region: &'a Region, end: u64) -> Self {
        Self {
            region,
            end,
            resident: 0..0,
        }
    }

    /// True when a walk from there would touch its first headers without disk I/O.
    pub(crate) fn is_warm(&self, position: u64) -> bool {
        let end = self.end.min(position + WINDOW);
        self.region.is_resident(position as usize..end as usize)
    }

    /// The bytes of `range`, brought in.
    fn load(&mut self, range: Range<u64>) -> io::Result<&'a [u8]> {
        let bytes = range.start as usize..range.end as usize;
        if range.start < self.resident.start || self.resident.end < range.end {
            let ahead = range.end.max(range.start + WINDOW).min(self.end);
            let window = range.start as usize..ahead as usize;
            self.resident = if self.region.is_resident(window.clone())
                || self.region.make_resident(window).is_ok()
            {
                range.start..ahead
            } else {
                // What cannot be read may lie behind what is asked for.
                self.region.make_resident(bytes.clone())?;
                range
            };
        }
        Ok(self.region.slice(bytes))
    }
}

impl Source for Mapped<'_> {
    fn look<T>(&mut self, range: Range<u64>, look: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        self.load(range).map(look)
    }

    fn verifies(&mut self, batch: Range<u64>) -> io::Result<bool> {
        self.load(batch).map(verify_crc)
    }
}
