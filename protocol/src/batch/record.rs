//! The records inside a batch, read in place.

use super::error::{BatchError, RecordFault};
use crate::varint::{self, VarintError};

/// One record; its parts are slices of the batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// Always 0 so far.
    pub attributes: i8,
    /// Milliseconds after the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Offset after the batch's base offset.
    pub offset_delta: i32,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; none marks a deletion in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers, checked already.
    pub headers: Headers<'a>,
}

/// One header of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header<'a> {
    /// The key; UTF-8 by agreement, which is not checked.
    pub key: &'a [u8],
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// The headers of one record, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Headers<'a> {
    cursor: Cursor<'a>,
    left: i32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1).filter(|left| *left >= 0)?;
        self.cursor.header().ok()
    }
}

/// Walks over the records of an uncompressed records section.
///
/// Allocates nothing. The iterator yields `count` records or one error, after which it ends; bytes
/// after the last record are an error.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    cursor: Cursor<'a>,
    index: i32,
    count: i32,
    done: bool,
}

impl<'a> RecordIter<'a> {
    /// Reads the `count` records (of the batch header) in `section`, what follows the header.
    pub fn new(section: &'a [u8], count: i32) -> Self {
        Self {
            cursor: Cursor { rest: section },
            index: 0,
            count,
            done: false,
        }
    }

    /// Bytes of the section that were not read yet: where a record ends, seen after it was read.
    pub fn unread(&self) -> usize {
        self.cursor.rest.len()
    }

    fn read(&mut self) -> Result<Option<Record<'a>>, BatchError> {
        if self.index >= self.count {
            return match self.cursor.rest.len() {
                0 => Ok(None),
                surplus => Err(BatchError::SurplusBytes { surplus }),
            };
        }
        let index = self.index;
        let record = if self.cursor.rest.is_empty() {
            Err(RecordFault::Missing)
        } else {
            self.cursor.record()
        };
        self.index = self.index.saturating_add(1);
        record
            .map(Some)
            .map_err(|cause| BatchError::InvalidRecord { index, cause })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.read().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Bytes not read yet.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn record(&mut self) -> Result<Record<'a>, RecordFault> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| RecordFault::NegativeLength(length))?;
        let mut body = Cursor {
            rest: self.take(length)?,
        };
        let attributes = match body.take(1)? {
            [byte] => byte.cast_signed(),
            _ => return Err(RecordFault::Truncated),
        };
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = body.nullable_bytes()?;
        let value = body.nullable_bytes()?;
        let count = body.varint()?;
        if count < 0 {
            return Err(RecordFault::NegativeLength(count));
        }
        let headers = Headers {
            cursor: body.clone(),
            left: count,
        };
        // Read to the end once, so that handing them out later cannot fail. Each takes two bytes at
        // least, which ends a false count early.
        for _ in 0..count {
            body.header()?;
        }
        match body.rest.len() {
            0 => Ok(Record {
                attributes,
                timestamp_delta,
                offset_delta,
                key,
                value,
                headers,
            }),
            surplus => Err(RecordFault::LengthMismatch(surplus)),
        }
    }

    fn header(&mut self) -> Result<Header<'a>, RecordFault> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| RecordFault::NegativeLength(length))?;
        Ok(Header {
            key: self.take(length)?,
            value: self.nullable_bytes()?,
        })
    }

    /// A length of -1 is null.
    fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, RecordFault> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let length =
                    usize::try_from(length).map_err(|_| RecordFault::NegativeLength(length))?;
                self.take(length).map(Some)
            }
        }
    }

    fn varint(&mut self) -> Result<i32, RecordFault> {
        let value = varint::unzigzag(self.unsigned(u32::BITS)?);
        i32::try_from(value).map_err(|_| RecordFault::Overflow)
    }

    fn varlong(&mut self) -> Result<i64, RecordFault> {
        self.unsigned(u64::BITS).map(varint::unzigzag)
    }

    fn unsigned(&mut self, bits: u32) -> Result<u64, RecordFault> {
        let (value, length) = varint::decode(self.rest, bits).map_err(|error| match error {
            VarintError::Truncated => RecordFault::Truncated,
            VarintError::Overflow => RecordFault::Overflow,
        })?;
        self.take(length)?;
        Ok(value)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordFault> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(RecordFault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delta 1 ms, offset delta 2, key `k`, null value, one header `h` without value.
    const RECORD: [u8; 11] = [20, 0, 2, 4, 2, b'k', 1, 2, 2, b'h', 1];

    fn all(section: &[u8], count: i32) -> Result<Vec<Record<'_>>, BatchError> {
        RecordIter::new(section, count).collect()
    }

    #[test]
    fn reads_every_part() {
        let record = all(&RECORD, 1).unwrap().remove(0);
        assert_eq!(
            (
                record.attributes,
                record.timestamp_delta,
                record.offset_delta
            ),
            (0, 1, 2)
        );
        assert_eq!((record.key, record.value), (Some(&b"k"[..]), None));
        let headers: Vec<_> = record.headers.collect();
        assert_eq!(
            headers,
            [Header {
                key: b"h",
                value: None
            }]
        );
    }

    #[test]
    fn every_truncation_is_noticed() {
        for end in 0..RECORD.len() {
            assert!(all(&RECORD[..end], 1).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn counts_and_lengths_must_be_exact() {
        let missing = all(&RECORD, 2).unwrap_err();
        assert!(matches!(
            missing,
            BatchError::InvalidRecord {
                index: 1,
                cause: RecordFault::Missing
            }
        ));
        assert!(matches!(
            all(&RECORD, 0),
            Err(BatchError::SurplusBytes { surplus: 11 })
        ));
        let mut longer = RECORD.to_vec();
        longer[0] += 2;
        longer.push(0);
        let error = all(&longer, 1).unwrap_err();
        assert!(matches!(
            error,
            BatchError::InvalidRecord {
                cause: RecordFault::LengthMismatch(1),
                ..
            }
        ));
    }

    #[test]
    fn false_lengths_are_refused() {
        for (at, byte) in [(0, 1), (4, 3), (6, 5), (7, 1), (7, 0x7e), (8, 1), (10, 3)] {
            let mut damaged = RECORD;
            damaged[at] = byte;
            assert!(all(&damaged, 1).is_err(), "byte {at} = {byte}");
        }
    }
}
