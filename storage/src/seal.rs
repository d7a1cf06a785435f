//! The seal of a finished segment: what its bytes and its indexes must be.
//!
//! A small text file `<base>.seal` of `key=value` lines after `version=1`: `size`, `next_offset`,
//! `max_timestamp`, `first_timestamp`, and CRC-32C values in hex: `log_crc` (the whole `.log`),
//! `index_crc`, `time_crc`, `txn_crc` (0 stands for "no file"). It is written after everything
//! it speaks of has been synced. `suspect=1` is added when the bytes were found not to verify: the
//! next start then looks at each batch before it serves any.
//!
//! A clean stop seals the last segment too. The next start goes on with it and leaves the seal,
//! which counts for nothing beside a longer file, until it is sealed anew or cut.

use std::fmt::Write as _;
use std::path::Path;

use crate::durable::{self, check_version, read_small_text};
use crate::error::StorageError;
use crate::fs::Fs;
use crate::types::{Offset, TimestampMs};

const VERSION: u32 = 1;

/// What a sealed segment was when it was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// Length of the `.log`, in bytes.
    pub(crate) size: u64,
    /// Offset after the last batch.
    pub(crate) next_offset: Offset,
    /// Largest timestamp; -1 when there is none.
    pub(crate) max_timestamp: TimestampMs,
    /// Largest timestamp of the first batch.
    pub(crate) first_timestamp: TimestampMs,
    pub(crate) log_crc: u32,
    pub(crate) index_crc: u32,
    pub(crate) time_crc: u32,
    /// `None`: no transaction was aborted in the segment, there is no file.
    pub(crate) txn_crc: Option<u32>,
    /// The bytes were found not to verify.
    pub(crate) suspect: bool,
}

impl Seal {
    /// Reads a seal; `None` where there is none, or it does not verify or cannot be read (the
    /// segment then counts as unsealed).
    ///
    /// # Errors
    /// `FormatTooNew`, or `Io` when the file is there but cannot be opened.
    pub(crate) fn load(fs: &dyn Fs, path: &Path) -> Result<Option<Self>, StorageError> {
        match read_small_text(fs, path) {
            Ok(Some(text)) => Self::parse(&text, path),
            Ok(None) | Err(StorageError::BadFile { .. }) => Ok(None),
            Err(error) if error.is_failed_read() => {
                tracing::warn!(
                    %error,
                    "seal not read: its segment is looked through and sealed anew; check the disk"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Option<Self>, StorageError> {
        let lines = check_version(text, VERSION, path)?;
        let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once('=')).collect();
        let text = |key: &str| fields.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let number = |key: &str| text(key).and_then(|v| v.parse::<i64>().ok());
        let crc = |key: &str| text(key).and_then(|v| u32::from_str_radix(v, 16).ok());
        Ok((|| {
            Some(Self {
                size: number("size")?.try_into().ok()?,
                next_offset: Offset::new(number("next_offset")?),
                max_timestamp: TimestampMs::new(number("max_timestamp")?),
                first_timestamp: TimestampMs::new(number("first_timestamp")?),
                log_crc: crc("log_crc")?,
                index_crc: crc("index_crc")?,
                time_crc: crc("time_crc")?,
                txn_crc: crc("txn_crc").filter(|crc| *crc != 0),
                suspect: text("suspect").is_some(),
            })
        })())
    }

    /// Writes the seal.
    pub(crate) fn store(&self, fs: &dyn Fs, path: &Path) -> Result<(), StorageError> {
        let mut text = format!("version={VERSION}\n");
        let _ = writeln!(text, "size={}", self.size);
        let _ = writeln!(text, "next_offset={}", self.next_offset);
        let _ = writeln!(text, "max_timestamp={}", self.max_timestamp);
        let _ = writeln!(text, "first_timestamp={}", self.first_timestamp);
        let _ = writeln!(text, "log_crc={:08x}", self.log_crc);
        let _ = writeln!(text, "index_crc={:08x}", self.index_crc);
        let _ = writeln!(text, "time_crc={:08x}", self.time_crc);
        let _ = writeln!(text, "txn_crc={:08x}", self.txn_crc.unwrap_or(0));
        if self.suspect {
            text.push_str("suspect=1\n");
        }
        durable::write_small_file(fs, path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::FaultyFs;

    #[test]
    fn a_seal_is_stored_and_a_bad_one_is_no_seal() {
        let fs = FaultyFs::new();
        let path = Path::new("/00000000000000000000.seal");
        assert_eq!(Seal::load(&fs, path).unwrap(), None);
        let seal = Seal {
            size: 5,
            next_offset: Offset::new(9),
            max_timestamp: TimestampMs::new(-1),
            first_timestamp: TimestampMs::new(3),
            log_crc: 0xdead_beef,
            index_crc: 1,
            time_crc: 2,
            txn_crc: None,
            suspect: true,
        };
        seal.store(&fs, path).unwrap();
        assert_eq!(Seal::load(&fs, path).unwrap(), Some(seal));
        let seal = Seal {
            suspect: false,
            ..seal
        };
        seal.store(&fs, path).unwrap();
        assert_eq!(Seal::load(&fs, path).unwrap(), Some(seal));
        fs.flip(path, 12, 1);
        assert_eq!(Seal::load(&fs, path).unwrap(), None);
        durable::write_small_file(&fs, path, b"version=2\n").unwrap();
        assert!(matches!(
            Seal::load(&fs, path),
            Err(StorageError::FormatTooNew { .. })
        ));
    }
}
