//! Reading a segment's file in pieces, past its mapping and at a pace.
//!
//! Nobody else wants what a closer look at a damaged segment reads: it drives nothing out of
//! memory, and neither the disk nor a stop of the node has to wait for its end.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::batch::{BatchHeader, CRC_START, HEADER_LEN, Source};
use crate::cleaner::Pace;
use crate::fs::FsFile;

/// Bytes read at once.
const STEP: u64 = 256 << 10;

/// One file on its way through one small buffer.
pub(crate) struct Aside<'a>(RefCell<Reader<'a>>);

struct Reader<'a> {
    file: Arc<dyn FsFile>,
    pace: &'a mut dyn Pace,
    /// Nothing at or above it is read.
    end: u64,
    buffer: Vec<u8>,
    /// Where in the file the buffer's bytes stand, and how many they are.
    from: u64,
    held: usize,
    stopped: bool,
}

impl<'a> Aside<'a> {
    /// The first `end` bytes of a file.
    pub(crate) fn new(file: Arc<dyn FsFile>, end: u64, pace: &'a mut dyn Pace) -> Self {
        Self(RefCell::new(Reader {
            file,
            pace,
            end,
            buffer: vec![0; STEP.min(end) as usize],
            from: 0,
            held: 0,
            stopped: false,
        }))
    }

    /// True once the pace has ended it; all that is asked for since answers an error.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.borrow().stopped
    }

    /// CRC-32C of all of it.
    ///
    /// # Errors
    /// When a byte cannot be read, or the pace has ended it.
    pub(crate) fn checksum(&self) -> io::Result<u32> {
        let mut reader = self.0.borrow_mut();
        let end = reader.end;
        reader.crc(0..end)
    }
}

impl Source for &Aside<'_> {
    fn look<T>(&mut self, range: Range<u64>, look: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let length = (range.end - range.start) as usize;
        let mut reader = self.0.borrow_mut();
        let bytes = reader.piece(range.start, length)?;
        Ok(look(bytes.get(..length).unwrap_or_default()))
    }

    fn verifies(&mut self, batch: Range<u64>) -> io::Result<bool> {
        let head = batch.start..batch.start + HEADER_LEN as u64;
        let Ok(header) = self.look(head, BatchHeader::parse)? else {
            return Ok(false);
        };
        let covered = batch.start + CRC_START as u64..batch.end;
        Ok(self.0.borrow_mut().crc(covered)? == header.crc)
    }
}

impl Reader<'_> {
    /// The bytes from `at` on: at least `least` of them, which is no more than the buffer has.
    fn piece(&mut self, at: u64, least: usize) -> io::Result<&[u8]> {
        let skipped = at.checked_sub(self.from).map(|skipped| skipped as usize);
        let start = match skipped {
            Some(skipped) if skipped + least <= self.held => skipped,
            _ => {
                self.fill(at, least)?;
                0
            }
        };
        Ok(self.buffer.get(start..self.held).unwrap_or_default())
    }

    fn fill(&mut self, at: u64, least: usize) -> io::Result<()> {
        (self.from, self.held) = (at, 0);
        let room = (self.end.saturating_sub(at) as usize).min(self.buffer.len());
        while self.held < least {
            if self.stopped {
                return Err(io::Error::other("stopped"));
            }
            let into = self.buffer.get_mut(self.held..room).unwrap_or_default();
            match self.file.read_aside(into, at + self.held as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.held += count;
                    self.stopped = !self.pace.spend(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn crc(&mut self, range: Range<u64>) -> io::Result<u32> {
        let (mut crc, mut at) = (0, range.start);
        while at < range.end {
            let piece = self.piece(at, 1)?;
            let count = piece.len().min((range.end - at) as usize);
            crc = crc32c::crc32c_append(crc, piece.get(..count).unwrap_or_default());
            at += count as u64;
        }
        Ok(crc)
    }
}
