//! What can be wrong with a batch.

use std::io;

use thiserror::Error;

use super::compression::Codec;

/// A batch, or its records, that cannot be read or written.
#[derive(Debug, Error)]
pub enum BatchError {
    /// Fewer bytes than the batch or its header takes.
    #[error("{needed} bytes needed, {available} there")]
    Truncated {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        available: usize,
    },
    /// Not format v2. Formats 0 and 1 are refused, others do not exist.
    #[error("magic {magic} is not 2")]
    UnsupportedMagic {
        /// The magic byte.
        magic: i8,
    },
    /// The length field is too small for the header.
    #[error("batch length {length} is too small")]
    InvalidLength {
        /// The length field.
        length: i32,
    },
    /// The attributes name a codec that does not exist.
    #[error("codec {id} does not exist")]
    UnknownCodec {
        /// The codec's number.
        id: i16,
    },
    /// The compressed bytes are damaged.
    #[error("{codec} data is damaged")]
    Decompress {
        /// The codec.
        codec: Codec,
        /// The library's complaint.
        #[source]
        source: io::Error,
    },
    /// The decompressed bytes exceed the limit; nothing beyond it was produced.
    #[error("{codec} data exceeds {limit} bytes")]
    TooLarge {
        /// The codec.
        codec: Codec,
        /// The limit in bytes.
        limit: usize,
    },
    /// Compression failed, which no input should cause.
    #[error("{codec} compression failed")]
    Compress {
        /// The codec.
        codec: Codec,
        /// The library's complaint.
        #[source]
        source: io::Error,
    },
    /// A record is damaged.
    #[error("record {index} is damaged: {cause}")]
    InvalidRecord {
        /// Its index within the batch.
        index: i32,
        /// What is wrong with it.
        cause: RecordFault,
    },
    /// Bytes after the last record.
    #[error("{surplus} bytes after the last record")]
    SurplusBytes {
        /// How many.
        surplus: usize,
    },
    /// More bytes or records than a batch can count.
    #[error("too large for one batch")]
    BatchFull,
}

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum RecordFault {
    /// The bytes end inside it.
    #[error("truncated")]
    Truncated,
    /// An integer does not fit its type.
    #[error("integer overflows")]
    Overflow,
    /// A length is below what its field allows.
    #[error("length {0} is negative")]
    NegativeLength(i32),
    /// Its fields do not fill its length.
    #[error("{0} bytes left over")]
    LengthMismatch(usize),
    /// The batch counts more records than it holds.
    #[error("missing")]
    Missing,
}
