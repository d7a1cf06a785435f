//! One raft entry, and its bytes in the log.
//!
//! Each entry is one record batch: offset = index - 1, leader epoch = term, and one record without
//! a key whose value is:
//!
//! ```text
//! u8 format (1) | u8 kind | data      kind 0: data of the machine, or nothing
//! ```
//!
//! Kind 1 is kept for changes of the group's members, which are not built.

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::CodecError;

const FORMAT: u8 = 1;
const KIND_NORMAL: u8 = 0;

/// An entry of the raft log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Index, from 1.
    pub index: u64,
    /// Term of the leader that made it.
    pub term: u64,
    /// What the machine applies; empty for the first entry of a term.
    pub data: Bytes,
}

impl LogEntry {
    /// The value of the entry's record.
    #[must_use]
    pub fn encode_value(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(self.data.len() + 2);
        value.put_u8(FORMAT);
        value.put_u8(KIND_NORMAL);
        value.put_slice(&self.data);
        value.freeze()
    }

    /// Reads the value of an entry's record.
    ///
    /// # Errors
    /// `Truncated`; `TooNew` for another format or kind.
    pub fn decode_value(index: u64, term: u64, value: &[u8]) -> Result<LogEntry, CodecError> {
        let [format, kind, data @ ..] = value else {
            return Err(CodecError::Truncated {
                what: "raft entry",
                needed: 2,
                left: value.len(),
            });
        };
        for (what, found, supported) in [
            ("raft entry", *format, FORMAT),
            ("raft entry kind", *kind, KIND_NORMAL),
        ] {
            if found != supported {
                return Err(CodecError::TooNew {
                    what,
                    found: u32::from(found),
                    supported: u32::from(supported),
                });
            }
        }
        Ok(LogEntry {
            index,
            term,
            data: Bytes::copy_from_slice(data),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_returns_as_written() {
        for data in [&b""[..], b"x", &[7; 1000]] {
            let entry = LogEntry {
                index: 9,
                term: 3,
                data: Bytes::copy_from_slice(data),
            };
            assert_eq!(
                LogEntry::decode_value(9, 3, &entry.encode_value()).unwrap(),
                entry
            );
        }
    }

    #[test]
    fn other_formats_and_kinds_are_refused() {
        assert!(matches!(
            LogEntry::decode_value(1, 1, &[2, 0]),
            Err(CodecError::TooNew { .. })
        ));
        assert!(matches!(
            LogEntry::decode_value(1, 1, &[1, 1]),
            Err(CodecError::TooNew { .. })
        ));
        assert!(matches!(
            LogEntry::decode_value(1, 1, &[1]),
            Err(CodecError::Truncated { .. })
        ));
    }
}
