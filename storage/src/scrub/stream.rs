//! Checking batches that come in pieces, in no more memory than a header.

use crate::batch::{CRC_START, HEADER_LEN, next_offset, parse};
use crate::types::Offset;

/// The batches of one segment, from its first byte on.
#[derive(Debug)]
pub(super) struct BatchStream {
    head: [u8; HEADER_LEN],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes of the batch behind its header that have not.
    left: usize,
    /// CRC over what has come, and the one in the header.
    crc: u32,
    wanted: u32,
    /// Lowest base offset of the next batch, and the end of the segment, exclusive.
    expected: Offset,
    end: Offset,
}

impl BatchStream {
    /// Before the first byte of a segment that spans these offsets.
    pub(super) fn new(base: Offset, end: Offset) -> Self {
        Self {
            head: [0; HEADER_LEN],
            have: 0,
            left: 0,
            crc: 0,
            wanted: 0,
            expected: base,
            end,
        }
    }

    /// Takes the next bytes; false when they do not verify, after which nothing more counts.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let wanted = match HEADER_LEN - self.have {
                0 => self.left,
                missing => missing,
            };
            let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if self.have < HEADER_LEN {
                let into = self.head.get_mut(self.have..).unwrap_or_default();
                into.iter_mut()
                    .zip(taken)
                    .for_each(|(to, from)| *to = *from);
                self.have += taken.len();
                if self.have == HEADER_LEN && !self.begin() {
                    return false;
                }
            } else {
                self.crc = crc32c::crc32c_append(self.crc, taken);
                self.left -= taken.len();
            }
            if self.have == HEADER_LEN && self.left == 0 {
                if self.crc != self.wanted {
                    return false;
                }
                self.have = 0;
            }
        }
        true
    }

    /// True when the last batch has come to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.have == 0
    }

    /// Judges a header.
    fn begin(&mut self) -> bool {
        let Ok(header) = parse(&self.head) else {
            return false;
        };
        let Some(next) = next_offset(&header).filter(|next| *next <= self.end) else {
            return false;
        };
        if header.base_offset < self.expected {
            return false;
        }
        self.expected = next;
        self.left = header.total_len() - HEADER_LEN;
        self.wanted = header.crc;
        self.crc = crc32c::crc32c(self.head.get(CRC_START..).unwrap_or_default());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, offset};

    #[test]
    fn any_pieces_verify_and_any_flip_under_a_checksum_shows() {
        let mut bytes = Vec::new();
        for n in 0..3_i64 {
            let mut one = batch(n as u64, 1, 40, 1000);
            one[..8].copy_from_slice(&n.to_be_bytes());
            bytes.extend(one);
        }
        let verifies = |bytes: &[u8], piece: usize| {
            let mut stream = BatchStream::new(offset(0), offset(3));
            bytes.chunks(piece).all(|piece| stream.feed(piece)) && stream.is_whole()
        };
        let length = bytes.len() / 3;
        for piece in [1, 7, HEADER_LEN, length, bytes.len()] {
            assert!(verifies(&bytes, piece), "{piece}");
            assert!(!verifies(&bytes[..bytes.len() - 1], piece), "cut short");
        }
        for at in (0..length).filter(|at| !(12..16).contains(at)) {
            bytes[length + at] ^= 0x20;
            assert!(!verifies(&bytes, 64), "byte {at}");
            bytes[length + at] ^= 0x20;
        }
        let mut stream = BatchStream::new(offset(0), offset(2));
        assert!(!stream.feed(&bytes), "more offsets than the segment has");
    }
}
