//! The records of a partition inside a request or response, opaque to the codec.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// Stored bytes that are sent as they lie, such as a slice of a mapped segment.
pub trait RecordSource: Send + Sync + Debug {
    /// Bytes in all.
    fn len(&self) -> usize;

    /// Says whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of `range`, which lies within the length.
    fn slice(&self, range: Range<usize>) -> &[u8];

    /// Says whether touching `range` needs no read from the disk.
    fn is_resident(&self, range: Range<usize>) -> bool;

    /// Brings `range` into memory; may block on the disk.
    ///
    /// # Errors
    /// The disk's error.
    fn make_resident(&self, range: Range<usize>) -> io::Result<()>;
}

/// Zero or more record batches, end to end.
#[derive(Clone, Debug)]
pub enum Records {
    /// Bytes in memory.
    Inline(Bytes),
    /// Bytes elsewhere, sent without a copy.
    Shared(Arc<dyn RecordSource>),
}

impl Records {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Shared(source) => source.len(),
        }
    }

    /// Says whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes, wherever they are. For shared records this may block on the disk.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline(bytes) => bytes,
            Self::Shared(source) => source.slice(0..source.len()),
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::Inline(Bytes::new())
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::Inline(bytes)
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Records {}
