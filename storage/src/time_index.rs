//! Largest timestamp so far -> offset, at the same places as the offset index.
//!
//! ```text
//! 0  4  magic "PLTI"
//! 4  4  format version, little endian: 1
//! 8  8  number of entries
//! 16 .. per entry: largest timestamp of everything before (i64), offset relative to the
//!       segment's base of the batch that follows (u32), little endian
//! ```

use crate::append_vec::AppendVec;
use crate::types::TimestampMs;

/// One entry: nothing before offset `base + relative` is younger than `timestamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: TimestampMs,
    pub(crate) relative: u32,
}

/// Length of an entry in the file, in bytes.
pub(crate) const ENTRY_LEN: usize = 12;
/// First bytes of the file.
pub(crate) const MAGIC: &[u8; 4] = b"PLTI";

impl TimeEntry {
    pub(crate) fn encode(self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.timestamp.value().to_le_bytes());
        into.extend_from_slice(&self.relative.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (timestamp, relative) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            timestamp: TimestampMs::new(i64::from_le_bytes(*timestamp)),
            relative: u32::from_le_bytes(*relative.first_chunk::<4>()?),
        })
    }
}

/// Timestamps of an active segment; entry `n` belongs to entry `n` of its offset index.
#[derive(Debug, Default)]
pub(crate) struct TimeIndex(AppendVec);

impl TimeIndex {
    pub(crate) fn push(&self, largest_so_far: TimestampMs) {
        self.0.push(largest_so_far.value().cast_unsigned());
    }

    pub(crate) fn get(&self, index: usize) -> TimestampMs {
        TimestampMs::new(self.0.get(index).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        let entry = TimeEntry {
            timestamp: TimestampMs::new(-1),
            relative: 77,
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(bytes.len(), ENTRY_LEN);
        assert_eq!(TimeEntry::decode(&bytes), Some(entry));
        assert_eq!(TimeEntry::decode(&bytes[..11]), None);
        let index = TimeIndex::default();
        index.push(TimestampMs::new(-1));
        assert_eq!(index.get(0), TimestampMs::new(-1));
    }
}
