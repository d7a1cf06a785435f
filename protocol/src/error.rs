//! What can go wrong between bytes and values.

use thiserror::Error;

/// Bytes that are not the message they claim to be. The connection that sent them is closed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DecodeError {
    /// The frame ends inside a value.
    #[error("{needed} more bytes needed, {remaining} left")]
    Truncated {
        /// Bytes the value needs, as far as known.
        needed: usize,
        /// Bytes left.
        remaining: usize,
    },
    /// A length or count is negative where null is not a value.
    #[error("length {length} is negative")]
    NegativeLength {
        /// The length as read.
        length: i32,
    },
    /// A variable-length integer does not end, or does not fit its type.
    #[error("variable-length integer overflows")]
    VarintOverflow,
    /// An array claims more elements than the rest of the frame can hold.
    #[error("{count} elements cannot fit {remaining} bytes")]
    CountTooLarge {
        /// Elements claimed.
        count: usize,
        /// Bytes left.
        remaining: usize,
    },
    /// The elements of arrays would take more memory than the reader was allowed.
    #[error("elements of {needed} bytes, {left} allowed")]
    TooMuchMemory {
        /// Bytes that the next array takes in memory.
        needed: usize,
        /// Bytes that were left of the allowance.
        left: usize,
    },
    /// A string is longer than 32767 bytes, the most the protocol allows.
    #[error("string of {length} bytes is too long")]
    StringTooLong {
        /// Bytes claimed.
        length: usize,
    },
    /// A string is not UTF-8.
    #[error("string is not UTF-8")]
    NotUtf8,
    /// Null where the version does not allow it.
    #[error("null where a value must be")]
    UnexpectedNull,
    /// The marker before an optional struct is neither null (-1) nor present (1).
    #[error("{marker} does not say whether a struct is present")]
    PresenceMarker {
        /// The marker as read.
        marker: i8,
    },
    /// A known tagged field in a version that lacks it.
    #[error("tag {tag} does not exist in this version")]
    TagNotInVersion {
        /// The tag.
        tag: u32,
    },
    /// Tags that repeat or descend (KIP-482 wants them ascending).
    #[error("tag {tag} is out of order")]
    TagOrder {
        /// The offending tag.
        tag: u32,
    },
    /// A tagged field whose value does not fill its announced size.
    #[error("tag {tag} has {surplus} bytes after its value")]
    TagSize {
        /// The tag.
        tag: u32,
        /// Bytes left over.
        surplus: usize,
    },
    /// A version outside the message's range.
    #[error("version {version} is not known")]
    UnsupportedVersion {
        /// The version asked for.
        version: i16,
    },
}

/// A value that cannot be written at the version asked for. Always a mistake of the caller.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum EncodeError {
    /// A version outside the message's range.
    #[error("version {version} is not known")]
    UnsupportedVersion {
        /// The version asked for.
        version: i16,
    },
    /// A field that matters is set, and the version cannot carry it.
    #[error("{field} cannot be sent in version {version}")]
    FieldNotInVersion {
        /// The field's name.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// Null where the version does not allow it.
    #[error("{field} must not be null")]
    UnexpectedNull {
        /// The field's name.
        field: &'static str,
    },
    /// A length that its prefix cannot express.
    #[error("{length} bytes or elements are too many")]
    TooLong {
        /// Bytes or elements.
        length: usize,
    },
    /// Shared records inside a tagged field, whose size has to be known before its bytes.
    #[error("records cannot be sent in a tagged field")]
    RecordsInTag,
}
