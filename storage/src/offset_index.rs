//! Offset -> position in a segment, one entry per few KiB of log.
//!
//! ```text
//! 0  4  magic "PLOI"
//! 4  4  format version, little endian: 1
//! 8  8  number of entries
//! 16 .. per entry: offset relative to the segment's base (u32), position (u32), little endian
//! ```
//!
//! The CRC of the whole file stands in the segment's seal. An active segment has no file: its
//! entries are a plain vector in memory.

use crate::append_vec::AppendVec;

/// One entry: a batch with base offset `base + relative` starts at `position`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) relative: u32,
    pub(crate) position: u32,
}

/// Length of an entry in the file, in bytes.
pub(crate) const ENTRY_LEN: usize = 8;
/// First bytes of the file.
pub(crate) const MAGIC: &[u8; 4] = b"PLOI";

impl IndexEntry {
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.relative) << 32 | u64::from(self.position)
    }

    pub(crate) fn unpack(packed: u64) -> Self {
        Self {
            relative: (packed >> 32) as u32,
            position: packed as u32,
        }
    }

    pub(crate) fn encode(self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.relative.to_le_bytes());
        into.extend_from_slice(&self.position.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (relative, position) = bytes.split_first_chunk::<4>()?;
        Some(Self {
            relative: u32::from_le_bytes(*relative),
            position: u32::from_le_bytes(*position.first_chunk::<4>()?),
        })
    }
}

/// Entries of an active segment.
#[derive(Debug, Default)]
pub(crate) struct OffsetIndex(AppendVec);

impl OffsetIndex {
    pub(crate) fn push(&self, entry: IndexEntry) {
        self.0.push(entry.pack());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, index: usize) -> IndexEntry {
        IndexEntry::unpack(self.0.get(index))
    }
}

/// Number of entries in `0..len` for which `before` holds, which it does for a prefix of them.
pub(crate) fn partition_point(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        let entry = IndexEntry {
            relative: 0x8000_0001,
            position: u32::MAX,
        };
        assert_eq!(IndexEntry::unpack(entry.pack()), entry);
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(bytes.len(), ENTRY_LEN);
        assert_eq!(IndexEntry::decode(&bytes), Some(entry));
        assert_eq!(IndexEntry::decode(&bytes[..7]), None);
    }

    #[test]
    fn partition_point_finds_the_edge() {
        for edge in 0..=9 {
            assert_eq!(partition_point(9, |n| n < edge), edge.min(9));
        }
    }
}
