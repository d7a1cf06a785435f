//! A bounds-checked cursor over the bytes of one frame.

use bytes::{Buf, Bytes};

use crate::error::DecodeError;
use crate::text::Str;
use crate::varint::{self, VarintError};

/// The most bytes a string may have, in every encoding.
const MAX_STRING: usize = i16::MAX as usize;

/// Reads values off the front of a frame. What it hands out are slices of the frame.
#[derive(Clone, Debug)]
pub struct Reader {
    rest: Bytes,
    /// Bytes of memory that the elements of arrays may still take.
    allowance: usize,
}

macro_rules! fixed {
    ($(#[$doc:meta])* $name:ident, $try_get:ident, $ty:ty) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// `Truncated` when the frame ends first.
        #[inline]
        pub fn $name(&mut self) -> Result<$ty, DecodeError> {
            self.rest.$try_get().map_err(|e| DecodeError::Truncated { needed: e.requested, remaining: e.available })
        }
    };
}

impl Reader {
    /// Starts at the first byte. Arrays may take as much memory as the bytes can make them.
    pub fn new(bytes: Bytes) -> Self {
        Self {
            rest: bytes,
            allowance: usize::MAX,
        }
    }

    /// Bounds what the elements of all arrays together may take in memory, in bytes.
    ///
    /// An element of a few bytes may be a struct of a hundred: without a bound a message decodes to
    /// dozens of times its length.
    #[must_use]
    pub fn allowing(mut self, bytes: usize) -> Self {
        self.allowance = bytes;
        self
    }

    /// Takes `bytes` of memory off the allowance.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        match self.allowance.checked_sub(bytes) {
            Some(left) => {
                self.allowance = left;
                Ok(())
            }
            None => Err(DecodeError::TooMuchMemory {
                needed: bytes,
                left: self.allowance,
            }),
        }
    }

    /// Reads the next `length` bytes with a reader of their own, under the same allowance.
    pub(crate) fn within<T>(
        &mut self,
        length: usize,
        read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<(T, usize), DecodeError> {
        let mut inner = Reader::new(self.take(length)?).allowing(self.allowance);
        let value = read(&mut inner)?;
        self.allowance = inner.allowance;
        Ok((value, inner.remaining()))
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fixed! {
        /// Reads a signed byte.
        read_i8, try_get_i8, i8
    }

    fixed! {
        /// Reads a big-endian 16-bit integer.
        read_i16, try_get_i16, i16
    }

    fixed! {
        /// Reads a big-endian 32-bit integer.
        read_i32, try_get_i32, i32
    }

    fixed! {
        /// Reads a big-endian 64-bit integer.
        read_i64, try_get_i64, i64
    }

    fixed! {
        /// Reads a big-endian unsigned 16-bit integer.
        read_u16, try_get_u16, u16
    }

    fixed! {
        /// Reads a big-endian unsigned 32-bit integer.
        read_u32, try_get_u32, u32
    }

    fixed! {
        /// Reads an IEEE 754 double.
        read_f64, try_get_f64, f64
    }

    /// Reads exactly 16 bytes.
    ///
    /// # Errors
    /// `Truncated` when the frame ends first.
    pub(crate) fn read_16_bytes(&mut self) -> Result<[u8; 16], DecodeError> {
        let mut bytes = [0; 16];
        self.rest
            .try_copy_to_slice(&mut bytes)
            .map_err(|e| DecodeError::Truncated {
                needed: e.requested,
                remaining: e.available,
            })?;
        Ok(bytes)
    }

    /// Reads an unsigned variable-length integer of at most 32 bits.
    ///
    /// # Errors
    /// `Truncated` or `VarintOverflow`.
    #[inline]
    pub fn read_uvarint(&mut self) -> Result<u32, DecodeError> {
        let window = self.rest.get(..varint::MAX_U32).unwrap_or(&self.rest);
        match varint::decode(window, u32::BITS) {
            Ok((value, length)) => {
                self.rest.advance(length);
                u32::try_from(value).map_err(|_| DecodeError::VarintOverflow)
            }
            Err(VarintError::Truncated) => Err(DecodeError::Truncated {
                needed: self.remaining().saturating_add(1),
                remaining: self.remaining(),
            }),
            Err(VarintError::Overflow) => Err(DecodeError::VarintOverflow),
        }
    }

    /// Reads the next `length` bytes as a slice of the frame.
    ///
    /// # Errors
    /// `Truncated` when fewer are left.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.rest.len() {
            return Err(DecodeError::Truncated {
                needed: length,
                remaining: self.rest.len(),
            });
        }
        Ok(self.rest.split_to(length))
    }

    /// Reads `length` bytes of UTF-8.
    ///
    /// # Errors
    /// `StringTooLong`, `Truncated` or `NotUtf8`.
    pub fn read_text(&mut self, length: usize) -> Result<Str, DecodeError> {
        if length > MAX_STRING {
            return Err(DecodeError::StringTooLong { length });
        }
        Str::from_utf8(self.take(length)?).map_err(|_| DecodeError::NotUtf8)
    }

    /// Reads the length of a string: `None` is null. Classic lengths are 16 bits wide.
    ///
    /// # Errors
    /// `Truncated`, `VarintOverflow` or `NegativeLength`.
    pub fn read_string_length(&mut self, compact: bool) -> Result<Option<usize>, DecodeError> {
        if compact {
            self.read_compact_length()
        } else {
            classic_length(i32::from(self.read_i16()?))
        }
    }

    /// Reads the length of bytes or the count of an array: `None` is null. Classic ones are 32 bits
    /// wide.
    ///
    /// # Errors
    /// `Truncated`, `VarintOverflow` or `NegativeLength`.
    pub fn read_length(&mut self, compact: bool) -> Result<Option<usize>, DecodeError> {
        if compact {
            self.read_compact_length()
        } else {
            classic_length(self.read_i32()?)
        }
    }

    fn read_compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.read_uvarint()?.checked_sub(1) {
            None => Ok(None),
            Some(length) => usize::try_from(length)
                .map(Some)
                .map_err(|_| DecodeError::VarintOverflow),
        }
    }
}

/// -1 is null, anything lower an error.
fn classic_length(length: i32) -> Result<Option<usize>, DecodeError> {
    if length == -1 {
        return Ok(None);
    }
    usize::try_from(length)
        .map(Some)
        .map_err(|_| DecodeError::NegativeLength { length })
}
