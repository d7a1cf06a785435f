//! Aborted transactions of a segment (KIP-98), for read_committed fetches.
//!
//! ```text
//! 0  4  magic "PLXI"
//! 4  4  format version, little endian: 1
//! 8  8  number of entries
//! 16 .. per entry: producer id, first offset, last offset (of the marker), last stable offset
//!       after the marker; i64 each, little endian
//! ```

use crate::types::{Offset, ProducerId};

/// One aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    /// The producer.
    pub producer_id: ProducerId,
    /// First offset of the transaction.
    pub first_offset: Offset,
    /// Offset of its abort marker, inclusive.
    pub last_offset: Offset,
    /// Last stable offset once the marker stood.
    pub last_stable_offset: Offset,
}

/// Length of an entry in the file, in bytes.
pub(crate) const ENTRY_LEN: usize = 32;
/// First bytes of the file.
pub(crate) const MAGIC: &[u8; 4] = b"PLXI";

impl AbortedTxn {
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.producer_id.value().to_le_bytes());
        into.extend_from_slice(&self.first_offset.value().to_le_bytes());
        into.extend_from_slice(&self.last_offset.value().to_le_bytes());
        into.extend_from_slice(&self.last_stable_offset.value().to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes
            .chunks_exact(8)
            .filter_map(|n| n.first_chunk::<8>())
            .map(|n| i64::from_le_bytes(*n));
        Some(Self {
            producer_id: ProducerId::new(numbers.next()?),
            first_offset: Offset::new(numbers.next()?),
            last_offset: Offset::new(numbers.next()?),
            last_stable_offset: Offset::new(numbers.next()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        let entry = AbortedTxn {
            producer_id: ProducerId::new(9),
            first_offset: Offset::new(10),
            last_offset: Offset::new(20),
            last_stable_offset: Offset::new(15),
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(bytes.len(), ENTRY_LEN);
        assert_eq!(AbortedTxn::decode(&bytes), Some(entry));
        assert_eq!(AbortedTxn::decode(&bytes[..31]), None);
    }
}
