//! Bytes of everything the metadata keeps on disk: a small cursor pair, big endian, lengths first.
//!
//! Kept apart from the wire codec on purpose: the wire follows Kafka's schemas, while these bytes
//! follow our own releases and must stay readable when a schema moves.
//!
//! ```text
//! u8 u16 u32 u64 i16 i32 i64   fixed width, big endian
//! bool                         u8, 0 or 1
//! bytes, str                   u32 length, bytes (str: UTF-8)
//! option                       u8 0, or u8 1 and the value
//! list                         u32 count, elements
//! ```

use palisade_protocol::types::Uuid;
use thiserror::Error;

/// Why persisted metadata could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    /// The bytes end inside a value.
    #[error("metadata bytes end inside {what}: {needed} more wanted, {left} left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes the value needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A value is not one that the format allows.
    #[error("metadata bytes hold an impossible {what}: {value}")]
    Invalid {
        /// What was being read.
        what: &'static str,
        /// The value, as a number.
        value: i64,
    },
    /// A text is not UTF-8.
    #[error("metadata bytes hold a text that is not UTF-8 in {0}")]
    NotUtf8(&'static str),
    /// A newer release wrote this.
    #[error("{what} has format {found}; this release reads up to {supported}")]
    TooNew {
        /// Which format.
        what: &'static str,
        /// Version found.
        found: u32,
        /// Highest version this release reads.
        supported: u32,
    },
    /// Bytes are left where the value should have ended.
    #[error("{left} bytes left after {what}")]
    Trailing {
        /// What was read.
        what: &'static str,
        /// Bytes that are left.
        left: usize,
    },
}

/// Appends values to a growing buffer.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Starts an empty buffer.
    #[must_use]
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// Ends the writing.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes one byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Writes a flag.
    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    /// Writes two bytes.
    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes four bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes two bytes.
    pub fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes four bytes.
    pub fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes eight bytes.
    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes a count or a length.
    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("metadata values stay far below 4 GiB"));
    }

    /// Writes length and bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.bytes.extend_from_slice(value);
    }

    /// Writes length and text.
    pub fn str(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// Writes the sixteen bytes of an id.
    pub fn uuid(&mut self, value: &Uuid) {
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// Writes a flag and, where there is one, the value.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Encoder, T)) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                write(self, value);
            }
        }
    }

    /// Writes a count and each element.
    pub fn list<T>(
        &mut self,
        values: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Encoder, T),
    ) {
        self.count(values.len());
        for value in values {
            write(self, value);
        }
    }

    /// Writes a length, then what `write` appends; the length is filled in afterwards.
    pub fn sized(&mut self, write: impl FnOnce(&mut Encoder)) {
        let at = self.bytes.len();
        self.u32(0);
        write(self);
        let length =
            u32::try_from(self.bytes.len() - at - 4).expect("metadata values stay far below 4 GiB");
        self.bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// Reads values from bytes of our own disk; checks every length first.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    left: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { left: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.left.len()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// `Trailing` with the number of bytes left.
    pub fn finish(&self, what: &'static str) -> Result<(), CodecError> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(CodecError::Trailing {
                what,
                left: self.left.len(),
            })
        }
    }

    fn take(&mut self, needed: usize, what: &'static str) -> Result<&'a [u8], CodecError> {
        let left = self.left.len();
        let (taken, rest) = self
            .left
            .split_at_checked(needed)
            .ok_or(CodecError::Truncated { what, needed, left })?;
        self.left = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CodecError> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N, what)?);
        Ok(value)
    }

    /// Reads one byte. Errors of this and the other readers: `Truncated`.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, CodecError> {
        Ok(self.fixed::<1>(what)?[0])
    }

    /// Reads a flag.
    ///
    /// # Errors
    /// `Truncated`; `Invalid` for a byte above 1.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, CodecError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(CodecError::Invalid {
                what,
                value: i64::from(value),
            }),
        }
    }

    /// Reads two bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, CodecError> {
        Ok(u16::from_be_bytes(self.fixed(what)?))
    }

    /// Reads four bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, CodecError> {
        Ok(u32::from_be_bytes(self.fixed(what)?))
    }

    /// Reads eight bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, CodecError> {
        Ok(u64::from_be_bytes(self.fixed(what)?))
    }

    /// Reads two bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn i16(&mut self, what: &'static str) -> Result<i16, CodecError> {
        Ok(i16::from_be_bytes(self.fixed(what)?))
    }

    /// Reads four bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn i32(&mut self, what: &'static str) -> Result<i32, CodecError> {
        Ok(i32::from_be_bytes(self.fixed(what)?))
    }

    /// Reads eight bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn i64(&mut self, what: &'static str) -> Result<i64, CodecError> {
        Ok(i64::from_be_bytes(self.fixed(what)?))
    }

    /// Reads length and bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], CodecError> {
        let length = self.u32(what)? as usize;
        self.take(length, what)
    }

    /// Reads length and text.
    ///
    /// # Errors
    /// `Truncated`, `NotUtf8`.
    pub fn str(&mut self, what: &'static str) -> Result<&'a str, CodecError> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| CodecError::NotUtf8(what))
    }

    /// Reads the sixteen bytes of an id.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn uuid(&mut self, what: &'static str) -> Result<Uuid, CodecError> {
        Ok(Uuid::from_bytes(self.fixed(what)?))
    }

    /// Reads a flag and, where it is set, the value.
    ///
    /// # Errors
    /// Those of `read`, and those of a flag.
    pub fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Decoder<'a>) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        if self.bool(what)? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Reads a count and each element; memory grows with what is there, not with the count.
    ///
    /// # Errors
    /// Those of `read`, and `Truncated`.
    pub fn list<T>(
        &mut self,
        what: &'static str,
        mut read: impl FnMut(&mut Decoder<'a>) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let count = self.u32(what)?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(read(self)?);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut out = Encoder::new();
        out.u8(7);
        out.bool(true);
        out.u16(0xabcd);
        out.i32(-5);
        out.i64(i64::MIN);
        out.str("größe");
        out.option(Some("x"), Encoder::str);
        out.option(None::<&str>, Encoder::str);
        out.list([1_i32, 2, 3].into_iter(), Encoder::i32);
        out.sized(|out| out.u64(9));
        out.finish()
    }

    fn read(bytes: &[u8]) -> Result<(), CodecError> {
        let mut input = Decoder::new(bytes);
        assert_eq!(input.u8("a")?, 7);
        assert!(input.bool("b")?);
        assert_eq!(input.u16("c")?, 0xabcd);
        assert_eq!(input.i32("d")?, -5);
        assert_eq!(input.i64("e")?, i64::MIN);
        assert_eq!(input.str("f")?, "größe");
        assert_eq!(input.option("g", |input| input.str("g"))?, Some("x"));
        assert_eq!(input.option("h", |input| input.str("h"))?, None);
        assert_eq!(input.list("i", |input| input.i32("i"))?, vec![1, 2, 3]);
        assert_eq!(Decoder::new(input.bytes("j")?).u64("k")?, 9);
        input.finish("sample")
    }

    #[test]
    fn values_return_as_written() {
        read(&sample()).unwrap();
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = sample();
        for end in 0..bytes.len() {
            assert!(
                matches!(read(&bytes[..end]), Err(CodecError::Truncated { .. })),
                "{end}"
            );
        }
    }

    #[test]
    fn a_count_without_elements_reserves_nothing() {
        let bytes = u32::MAX.to_be_bytes();
        let read = Decoder::new(&bytes).list("list", |input| input.u64("element"));
        assert!(matches!(read, Err(CodecError::Truncated { .. })));
    }
}
