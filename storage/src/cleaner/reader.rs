//! Reading a sealed segment from end to end, through a buffer instead of the mapping.
//!
//! The mapping would count every page of a gigabyte as memory of the process. Each batch is checked
//! with its CRC, and the whole file with that of its seal: what a cleaner writes is sealed anew,
//! and a damaged byte must not become a verified one.

use std::sync::Arc;

use super::{Halt, Pace};
use crate::batch::{BatchHeader, HEADER_LEN, next_offset, parse, verify_crc};
use crate::error::StorageError;
use crate::fs::{Fs, FsFile, OpenHow};
use crate::seal::Seal;
use crate::segment::Segment;
use crate::types::Offset;

/// Walks over the batches of one sealed segment.
pub(super) struct SegmentReader {
    segment: Arc<Segment>,
    file: Arc<dyn FsFile>,
    seal: Seal,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold file content not handed out yet.
    start: usize,
    filled: usize,
    /// Position in the file behind the filled part.
    position: u64,
    /// CRC of everything before it.
    crc: u32,
    /// Lowest base offset of the next batch.
    expected: Offset,
}

impl SegmentReader {
    /// Starts at the front of a segment; `buffer` is used again from segment to segment.
    pub(super) fn open(
        fs: &dyn Fs,
        segment: &Arc<Segment>,
        mut buffer: Vec<u8>,
        buffer_bytes: usize,
    ) -> Result<Self, Halt> {
        // A segment that left the log meanwhile has left its name too.
        let file = match fs.open(&segment.path, OpenHow::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Halt::Overtaken);
            }
            Err(error) => return Err(StorageError::io("open", &segment.path, &error).into()),
        };
        let seal = segment.seal_info().ok_or(Halt::Overtaken)?;
        buffer.resize(buffer_bytes.max(HEADER_LEN), 0);
        Ok(Self {
            segment: segment.clone(),
            file,
            seal,
            buffer,
            start: 0,
            filled: 0,
            position: 0,
            crc: 0,
            expected: segment.base,
        })
    }

    /// Gives the buffer back.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// True when no batch follows the one handed out last.
    pub(super) fn is_done(&self) -> bool {
        self.start == self.filled && self.position >= self.seal.size
    }

    /// The next batch, verified; `None` at the end, after the whole file has been.
    pub(super) fn next(
        &mut self,
        pace: &mut dyn Pace,
    ) -> Result<Option<(BatchHeader, &[u8])>, Halt> {
        if self.is_done() {
            if self.crc != self.seal.log_crc {
                return Err(self.damaged("the file does not match its seal"));
            }
            return Ok(None);
        }
        self.fill(HEADER_LEN, pace)?;
        let header = self
            .buffer
            .get(self.start..self.start + HEADER_LEN)
            .ok_or("less than a batch header left")
            .and_then(parse)
            .map_err(|reason| self.damaged(reason))?;
        if header.base_offset < self.expected {
            return Err(self.damaged("base offset goes back"));
        }
        let next = next_offset(&header).filter(|next| *next <= self.seal.next_offset);
        let Some(next) = next else {
            return Err(self.damaged("batch reaches into the next segment"));
        };
        let length = header.total_len();
        self.fill(length, pace)?;
        let range = self.start..self.start + length;
        if !self.buffer.get(range.clone()).is_some_and(verify_crc) {
            return Err(self.damaged("wrong checksum"));
        }
        self.expected = next;
        self.start += length;
        let batch = self.buffer.get(range).unwrap_or_default();
        Ok(Some((header, batch)))
    }

    /// Sees to `need` bytes in the buffer from `start` on.
    fn fill(&mut self, need: usize, pace: &mut dyn Pace) -> Result<(), Halt> {
        if self.filled - self.start >= need {
            return Ok(());
        }
        let held = (self.filled - self.start) as u64;
        let left = self.seal.size.saturating_sub(self.position);
        // Before the buffer grows: a length that the file does not have is damage.
        if held + left < need as u64 {
            return Err(self.damaged("batch passes the end"));
        }
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        if need > self.buffer.len() {
            self.buffer.resize(need, 0);
        }
        let mut read = 0;
        while self.filled < need || (read == 0 && left > 0) {
            let room = (self.buffer.len() - self.filled) as u64;
            let want = room.min(self.seal.size - self.position) as usize;
            let into = self
                .buffer
                .get_mut(self.filled..self.filled + want)
                .unwrap_or_default();
            let count = match self.file.read_at(into, self.position) {
                Ok(0) => return Err(self.damaged("the file is shorter than its seal")),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(StorageError::io("read", &self.segment.path, &error).into());
                }
            };
            let fresh = self.buffer.get(self.filled..self.filled + count);
            self.crc = crc32c::crc32c_append(self.crc, fresh.unwrap_or_default());
            self.filled += count;
            self.position += count as u64;
            read += count;
        }
        if pace.spend(read as u64) {
            Ok(())
        } else {
            Err(Halt::Stopped)
        }
    }

    /// The error for bytes that do not verify; nothing tells where the batches behind them begin.
    fn damaged(&self, reason: &'static str) -> Halt {
        self.corrupt(self.expected, self.seal.next_offset, reason)
    }

    /// The error for one batch handed out before, whose checksum is right and whose records are
    /// not.
    pub(super) fn damaged_batch(&self, header: &BatchHeader, reason: &'static str) -> Halt {
        let to = next_offset(header).unwrap_or(self.seal.next_offset);
        self.corrupt(header.base_offset, to, reason)
    }

    fn corrupt(&self, from: Offset, to: Offset, reason: &'static str) -> Halt {
        Halt::Failed(StorageError::Corrupt {
            from,
            to,
            path: self.segment.path.clone(),
            reason,
        })
    }
}
