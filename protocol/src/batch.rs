//! Record batches of format v2 (KIP-98; records.md §3).
//!
//! ```text
//! offset size field                     offset size field
//!  0     8    base offset                27     8    base timestamp
//!  8     4    length of what follows     35     8    max timestamp
//! 12     4    leader epoch               43     8    producer id
//! 16     1    magic = 2                  51     2    producer epoch
//! 17     4    CRC-32C from 21 on         53     4    base sequence
//! 21     2    attributes                 57     4    number of records
//! 23     4    last offset delta          61     .    records, maybe compressed
//! ```
//!
//! Base offset, length and leader epoch lie outside the CRC, so that a leader stamps them for
//! nothing.

pub mod builder;
pub mod compaction;
pub mod compression;
pub mod crc;
pub mod error;
pub mod header;
pub mod record;
pub mod scanner;

pub use builder::BatchBuilder;
pub use compression::Codec;
pub use crc::{seal, stamp, verify_crc};
pub use error::BatchError;
pub use header::{BATCH_HEADER_LEN, BatchHeader, TimestampType};
pub use record::{Record, RecordIter};
pub use scanner::{RecordOutline, RecordScanner};

/// Walks over batches that lie end to end, as in a fetch response or a segment.
///
/// Yields each header with the whole batch. Stops after the first error; bytes at the end that are
/// no whole batch are an error too.
#[derive(Clone, Debug)]
pub struct BatchIter<'a> {
    rest: &'a [u8],
}

impl<'a> BatchIter<'a> {
    /// Starts at the first batch.
    pub fn new(batches: &'a [u8]) -> Self {
        Self { rest: batches }
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let header = match BatchHeader::parse(rest) {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        match rest.split_at_checked(header.total_len()) {
            Some((batch, after)) => {
                self.rest = after;
                Some(Ok((header, batch)))
            }
            None => Some(Err(BatchError::Truncated {
                needed: header.total_len(),
                available: rest.len(),
            })),
        }
    }
}
