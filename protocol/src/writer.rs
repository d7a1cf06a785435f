//! The encoder's output: own bytes in a reused buffer, records as slices between them.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::EncodeError;
use crate::records::{RecordSource, Records};
use crate::varint;

/// Inline records up to this many bytes are copied; a system call's worth of chunks costs more.
const COPY_LIMIT: usize = 4096;
/// Bytes of a frame's size prefix.
const SIZE_PREFIX: usize = 4;

/// A part of an encoded frame, in sending order.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Records that lie elsewhere.
    Records(Arc<dyn RecordSource>),
}

impl Chunk {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Records(source) => source.len(),
        }
    }

    /// Says whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes. For records this may block on the disk.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Records(source) => source.slice(0..source.len()),
        }
    }
}

/// Writes values at the end of a buffer.
#[derive(Debug)]
pub struct Writer {
    /// What lies before the tail; own bytes stay writable until the size prefix is known.
    pieces: Vec<Piece>,
    tail: BytesMut,
}

#[derive(Debug)]
enum Piece {
    Own(BytesMut),
    Chunk(Chunk),
}

macro_rules! fixed {
    ($(#[$doc:meta])* $name:ident, $put:ident, $ty:ty) => {
        $(#[$doc])*
        #[inline]
        pub fn $name(&mut self, value: $ty) {
            self.tail.$put(value);
        }
    };
}

impl Writer {
    /// Writes after what `buffer` holds already, usually nothing.
    pub fn new(buffer: BytesMut) -> Self {
        Self {
            pieces: Vec::new(),
            tail: buffer,
        }
    }

    fixed! {
        /// Writes a signed byte.
        put_i8, put_i8, i8
    }

    fixed! {
        /// Writes a big-endian 16-bit integer.
        put_i16, put_i16, i16
    }

    fixed! {
        /// Writes a big-endian 32-bit integer.
        put_i32, put_i32, i32
    }

    fixed! {
        /// Writes a big-endian 64-bit integer.
        put_i64, put_i64, i64
    }

    fixed! {
        /// Writes a big-endian unsigned 16-bit integer.
        put_u16, put_u16, u16
    }

    fixed! {
        /// Writes a big-endian unsigned 32-bit integer.
        put_u32, put_u32, u32
    }

    fixed! {
        /// Writes an IEEE 754 double.
        put_f64, put_f64, f64
    }

    /// Writes bytes as they are.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    /// Writes an unsigned variable-length integer.
    #[inline]
    pub fn put_uvarint(&mut self, value: u32) {
        let mut bytes = [0; varint::MAX_U64];
        let length = varint::encode(u64::from(value), &mut bytes);
        self.tail.put_slice(bytes.get(..length).unwrap_or_default());
    }

    /// Writes the length of a string; `None` is null.
    ///
    /// # Errors
    /// `TooLong` above 32767 bytes, in both encodings.
    pub(crate) fn put_string_length(
        &mut self,
        length: Option<usize>,
        compact: bool,
    ) -> Result<(), EncodeError> {
        let short = length
            .map(|length| i16::try_from(length).map_err(|_| EncodeError::TooLong { length }))
            .transpose()?;
        if compact {
            return self.put_length(length, true);
        }
        self.put_i16(short.unwrap_or(-1));
        Ok(())
    }

    /// Writes the length of bytes or the count of an array; `None` is null.
    ///
    /// # Errors
    /// `TooLong` above 2147483647.
    pub fn put_length(&mut self, length: Option<usize>, compact: bool) -> Result<(), EncodeError> {
        let wide = length
            .map(|length| i32::try_from(length).map_err(|_| EncodeError::TooLong { length }))
            .transpose()?;
        if compact {
            self.put_uvarint(wide.map_or(0, |length| length.cast_unsigned().saturating_add(1)));
        } else {
            self.put_i32(wide.unwrap_or(-1));
        }
        Ok(())
    }

    /// Appends records: large and shared ones as a chunk of their own, small ones by copy.
    pub(crate) fn put_records(&mut self, records: &Records) {
        match records {
            Records::Inline(bytes) if bytes.len() <= COPY_LIMIT => self.put_slice(bytes),
            Records::Inline(bytes) => self.put_chunk(Chunk::Bytes(bytes.clone())),
            Records::Shared(source) if source.is_empty() => {}
            Records::Shared(source) => self.put_chunk(Chunk::Records(Arc::clone(source))),
        }
    }

    fn put_chunk(&mut self, chunk: Chunk) {
        let own = self.tail.split();
        if !own.is_empty() {
            self.pieces.push(Piece::Own(own));
        }
        self.pieces.push(Piece::Chunk(chunk));
    }

    /// Writes a tagged field: its tag, its size and what `value` writes.
    ///
    /// # Errors
    /// Those of `value`; `RecordsInTag` when it wrote more than plain bytes.
    pub fn put_tagged(
        &mut self,
        tag: u32,
        value: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.put_uvarint(tag);
        let (pieces, start) = (self.pieces.len(), self.tail.len());
        value(self)?;
        if self.pieces.len() != pieces {
            return Err(EncodeError::RecordsInTag);
        }
        // The size is known only now and usually takes one byte: write it behind, then turn it to
        // the front.
        let size = self.tail.len().saturating_sub(start);
        self.put_uvarint(u32::try_from(size).map_err(|_| EncodeError::TooLong { length: size })?);
        if let Some(written) = self.tail.get_mut(start..) {
            written.rotate_left(size);
        }
        Ok(())
    }

    /// Gives out what was written.
    pub fn finish(self) -> Vec<Chunk> {
        let mut chunks = Vec::with_capacity(self.pieces.len().saturating_add(1));
        chunks.extend(self.pieces.into_iter().map(|piece| match piece {
            Piece::Own(bytes) => Chunk::Bytes(bytes.freeze()),
            Piece::Chunk(chunk) => chunk,
        }));
        if !self.tail.is_empty() {
            chunks.push(Chunk::Bytes(self.tail.freeze()));
        }
        chunks
    }

    /// Starts a frame: leaves room for the size that [`Writer::finish_frame`] fills in.
    pub(crate) fn frame(mut buffer: BytesMut) -> Self {
        buffer.clear();
        buffer.put_slice(&[0; SIZE_PREFIX]);
        Self::new(buffer)
    }

    /// Fills in the size prefix and gives out the frame.
    ///
    /// # Errors
    /// `TooLong` when the frame's size does not fit its prefix.
    pub(crate) fn finish_frame(mut self) -> Result<Vec<Chunk>, EncodeError> {
        let mut total = self.tail.len();
        for piece in &self.pieces {
            let length = match piece {
                Piece::Own(bytes) => bytes.len(),
                Piece::Chunk(chunk) => chunk.len(),
            };
            total = total.saturating_add(length);
        }
        let length = total.saturating_sub(SIZE_PREFIX);
        let size = i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
        let first = match self.pieces.first_mut() {
            Some(Piece::Own(bytes)) => bytes,
            _ => &mut self.tail,
        };
        if let Some(prefix) = first.first_chunk_mut::<SIZE_PREFIX>() {
            *prefix = size.to_be_bytes();
        }
        Ok(self.finish())
    }
}
