//! Walks over the records of a section that comes piece by piece, out of a decompressor.

use super::error::{BatchError, RecordFault};
use crate::varint;

/// What a scan tells of one record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RecordOutline {
    /// Milliseconds after the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Offset after the batch's base offset.
    pub offset_delta: i32,
    /// The record has a key.
    pub has_key: bool,
}

/// Checks records as [`super::RecordIter`] does, without ever holding one: keys and values are
/// counted and passed over.
#[derive(Clone, Debug)]
pub struct RecordScanner {
    count: i32,
    index: i32,
    state: State,
    /// The integer being read, and its bits so far.
    value: u64,
    shift: u32,
    /// Bytes of the record that its fields have not claimed.
    body: usize,
    /// Bytes to pass over before the next field.
    skip: usize,
    headers: i32,
    outline: RecordOutline,
}

/// The field that comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Length,
    Attributes,
    TimestampDelta,
    OffsetDelta,
    KeyLength,
    ValueLength,
    HeaderCount,
    HeaderKeyLength,
    HeaderValueLength,
}

impl RecordScanner {
    /// Expects the `count` records that the batch header speaks of.
    pub fn new(count: i32) -> Self {
        Self {
            count,
            index: 0,
            state: State::Length,
            value: 0,
            shift: 0,
            body: 0,
            skip: 0,
            headers: 0,
            outline: RecordOutline::default(),
        }
    }

    /// Takes the next piece and tells of each record whose fields end in it.
    ///
    /// # Errors
    /// As [`super::RecordIter`]; nothing may be fed after one.
    pub fn feed(
        &mut self,
        mut piece: &[u8],
        mut found: impl FnMut(RecordOutline),
    ) -> Result<(), BatchError> {
        loop {
            let passed = self.skip.min(piece.len());
            self.skip = self.skip.saturating_sub(passed);
            piece = piece.get(passed..).unwrap_or_default();
            let Some((byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            if self.state == State::Length && self.index >= self.count {
                let surplus = piece.len();
                return Err(BatchError::SurplusBytes { surplus });
            }
            piece = rest;
            let ended = self
                .byte(*byte)
                .map_err(|cause| BatchError::InvalidRecord {
                    index: self.index,
                    cause,
                })?;
            if ended {
                self.index = self.index.saturating_add(1);
                found(self.outline);
            }
        }
    }

    /// Says whether the section ended where it should.
    ///
    /// # Errors
    /// A record is cut off or missing.
    pub fn finish(&self) -> Result<(), BatchError> {
        let whole = self.state == State::Length && self.shift == 0 && self.skip == 0;
        let cause = match whole {
            true if self.index >= self.count => return Ok(()),
            true => RecordFault::Missing,
            false => RecordFault::Truncated,
        };
        Err(BatchError::InvalidRecord {
            index: self.index,
            cause,
        })
    }

    /// Takes one byte of a field; true when it was the record's last field.
    fn byte(&mut self, byte: u8) -> Result<bool, RecordFault> {
        if self.state != State::Length {
            self.body = self.body.checked_sub(1).ok_or(RecordFault::Truncated)?;
        }
        if self.state == State::Attributes {
            self.state = State::TimestampDelta;
            return Ok(false);
        }
        let bits = match self.state {
            State::TimestampDelta => u64::BITS,
            _ => u32::BITS,
        };
        let group = u64::from(byte & 0x7f);
        let left = bits.saturating_sub(self.shift);
        if left == 0 || (left < 7 && group >> left != 0) {
            return Err(RecordFault::Overflow);
        }
        self.value |= group << self.shift;
        if byte & 0x80 != 0 {
            self.shift = self.shift.saturating_add(7);
            return Ok(false);
        }
        let value = varint::unzigzag(self.value);
        (self.value, self.shift) = (0, 0);
        self.field(value)
    }

    fn field(&mut self, value: i64) -> Result<bool, RecordFault> {
        if self.state == State::TimestampDelta {
            self.outline.timestamp_delta = value;
            self.state = State::OffsetDelta;
            return Ok(false);
        }
        let value = i32::try_from(value).map_err(|_| RecordFault::Overflow)?;
        self.state = match self.state {
            State::Length => {
                self.body =
                    usize::try_from(value).map_err(|_| RecordFault::NegativeLength(value))?;
                State::Attributes
            }
            // Both are done with before their value is read.
            State::Attributes | State::TimestampDelta => State::OffsetDelta,
            State::OffsetDelta => {
                self.outline.offset_delta = value;
                State::KeyLength
            }
            State::KeyLength => {
                self.outline.has_key = value != -1;
                self.pass_over_nullable(value)?;
                State::ValueLength
            }
            State::ValueLength => {
                self.pass_over_nullable(value)?;
                State::HeaderCount
            }
            State::HeaderCount => {
                if value < 0 {
                    return Err(RecordFault::NegativeLength(value));
                }
                self.headers = value;
                return self.next_header();
            }
            State::HeaderKeyLength => {
                self.pass_over(value)?;
                State::HeaderValueLength
            }
            State::HeaderValueLength => {
                self.pass_over_nullable(value)?;
                self.headers = self.headers.saturating_sub(1);
                return self.next_header();
            }
        };
        Ok(false)
    }

    /// Goes on with a header, or ends the record.
    fn next_header(&mut self) -> Result<bool, RecordFault> {
        if self.headers > 0 {
            self.state = State::HeaderKeyLength;
            return Ok(false);
        }
        self.state = State::Length;
        match self.body {
            0 => Ok(true),
            surplus => Err(RecordFault::LengthMismatch(surplus)),
        }
    }

    /// A length of -1 is null.
    fn pass_over_nullable(&mut self, length: i32) -> Result<(), RecordFault> {
        match length {
            -1 => Ok(()),
            length => self.pass_over(length),
        }
    }

    fn pass_over(&mut self, length: i32) -> Result<(), RecordFault> {
        let length = usize::try_from(length).map_err(|_| RecordFault::NegativeLength(length))?;
        self.body = self
            .body
            .checked_sub(length)
            .ok_or(RecordFault::Truncated)?;
        self.skip = length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{BATCH_HEADER_LEN, BatchBuilder, Codec, RecordIter};
    use crate::types::TimestampMs;

    /// What a scan of pieces of `step` bytes finds, or nothing if it fails.
    fn scan(section: &[u8], count: i32, step: usize) -> Option<Vec<RecordOutline>> {
        let mut scanner = RecordScanner::new(count);
        let mut found = Vec::new();
        for piece in section.chunks(step) {
            scanner.feed(piece, |outline| found.push(outline)).ok()?;
        }
        scanner.finish().ok()?;
        Some(found)
    }

    /// The same from the walk over a section that is there as a whole.
    fn walk(section: &[u8], count: i32) -> Option<Vec<RecordOutline>> {
        RecordIter::new(section, count)
            .map(|record| {
                record.ok().map(|record| RecordOutline {
                    timestamp_delta: record.timestamp_delta,
                    offset_delta: record.offset_delta,
                    has_key: record.key.is_some(),
                })
            })
            .collect()
    }

    /// Timestamp, key, value, and whether there are headers.
    type Fields = (i64, Option<Vec<u8>>, Option<Vec<u8>>, bool);

    fn section(records: &[Fields]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        for (timestamp, key, value, header) in records {
            let headers: &[_] = if *header {
                &[("h", Some(&b"x"[..])), ("i", None)]
            } else {
                &[]
            };
            builder
                .add(
                    TimestampMs::new(*timestamp),
                    key.as_deref(),
                    value.as_deref(),
                    headers,
                )
                .unwrap();
        }
        builder.build().unwrap()[BATCH_HEADER_LEN..].to_vec()
    }

    fn records() -> impl Strategy<Value = Vec<Fields>> {
        let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80));
        let record = (0..i64::from(u32::MAX), bytes(), bytes(), any::<bool>());
        proptest::collection::vec(record, 1..6)
    }

    proptest! {
        #[test]
        fn pieces_tell_the_same_as_the_whole(records in records(), step in 1_usize..40) {
            let count = i32::try_from(records.len()).unwrap();
            let section = section(&records);
            let found = scan(&section, count, step);
            prop_assert!(found.is_some());
            prop_assert_eq!(found, walk(&section, count));
        }

        #[test]
        fn damage_is_seen_alike(
            records in records(),
            step in 1_usize..40,
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
            more in -1_i32..2,
        ) {
            let count = i32::try_from(records.len()).unwrap() + more;
            let mut section = section(&records);
            let at = at.index(section.len());
            section[at] = byte;
            prop_assert_eq!(scan(&section, count, step), walk(&section, count));
        }

        #[test]
        fn every_truncation_is_noticed(records in records(), step in 1_usize..40) {
            let count = i32::try_from(records.len()).unwrap();
            let section = section(&records);
            for end in 0..section.len() {
                prop_assert!(scan(&section[..end], count, step).is_none(), "{end} bytes");
            }
        }
    }
}
