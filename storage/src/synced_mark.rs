//! A number on disk that is replaced in place: one write and one sync.
//!
//! For what must be remembered with every sync of a log, where [`crate::durable`] with its new
//! file, rename and directory sync would cost several times the sync it accompanies.
//!
//! ```text
//! two slots, at 0 and at 4096:
//! u32 magic "PSYM" | u16 format (1) | u16 0 | u64 sequence | u64 number | u32 CRC-32C of that
//! ```
//!
//! Writes go to the slots in turn, and the valid slot of the higher sequence counts: a write that a
//! power cut tears leaves the number of before. The blocks exist from the creation on, so a full
//! disk refuses no write.

use std::path::Path;
use std::sync::Arc;

use crate::error::StorageError;
use crate::failpoint;
use crate::fs::{Fs, FsFile, OpenHow, read_all, write_all_at};

const MAGIC: [u8; 4] = *b"PSYM";
const FORMAT: u16 = 1;
/// Distance of the slots: no disk writes both as one unit.
const SLOT_BYTES: usize = 4096;
const CONTENT_BYTES: usize = 24;

/// A number that only counts once it is on stable storage.
#[derive(Debug)]
pub struct SyncedMark {
    file: Arc<dyn FsFile>,
    path: Arc<Path>,
    sequence: u64,
    value: u64,
}

impl SyncedMark {
    /// Opens the file; `None` where it does not exist.
    ///
    /// # Errors
    /// `BadFile` when no slot verifies, `FormatTooNew`, `Io`.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<Option<SyncedMark>, StorageError> {
        let file = match fs.open(path, OpenHow::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io("open", path, &error)),
        };
        let bytes = read_all(&*file, 2 * SLOT_BYTES as u64)
            .map_err(|error| StorageError::io("read", path, &error))?;
        let mut newest: Option<(u64, u64)> = None;
        for slot in bytes.chunks(SLOT_BYTES) {
            if let Some(found) = decode(slot, path)? {
                newest = newest.max(Some(found));
            }
        }
        let (sequence, value) = newest.ok_or_else(|| StorageError::BadFile {
            path: path.to_owned(),
            reason: "no slot verifies",
        })?;
        Ok(Some(SyncedMark {
            file,
            path: path.into(),
            sequence,
            value,
        }))
    }

    /// Makes the file, with the number 0; a file of that name is replaced.
    ///
    /// # Errors
    /// `DiskFull` or `Io`; there is no such file then, or the one of before.
    pub fn create(fs: &dyn Fs, path: &Path) -> Result<SyncedMark, StorageError> {
        let temporary = path.with_extension("tmp");
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        for (sequence, slot) in (0..).zip(bytes.chunks_mut(SLOT_BYTES)) {
            let content = encode(sequence, 0);
            slot.iter_mut()
                .zip(content)
                .for_each(|(byte, new)| *byte = new);
        }
        let created = (|| {
            let file = fs.open(&temporary, OpenHow::Create)?;
            write_all_at(&*file, &bytes, 0)?;
            file.sync()?;
            fs.rename(&temporary, path)?;
            fs.sync_dir(path.parent().unwrap_or(Path::new("/")))?;
            Ok(file)
        })();
        let file = created.map_err(|error| StorageError::io("create", path, &error))?;
        Ok(SyncedMark {
            file,
            path: path.into(),
            sequence: 1,
            value: 0,
        })
    }

    /// The number, as it is on stable storage.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value
    }

    /// Moves the number up; it is on stable storage when this returns. A lower one changes nothing.
    ///
    /// # Errors
    /// `DiskFull` or `Io`: the number on disk is the old one or the new one.
    pub fn raise(&mut self, value: u64) -> Result<(), StorageError> {
        if value <= self.value {
            return Ok(());
        }
        self.put(value)
    }

    /// Moves the number down, in both slots: damage to one of them must not bring the higher one
    /// back. A higher one changes nothing.
    ///
    /// # Errors
    /// As those of [`SyncedMark::raise`].
    pub fn lower(&mut self, value: u64) -> Result<(), StorageError> {
        if value >= self.value {
            return Ok(());
        }
        self.put(value)?;
        self.put(value)
    }

    fn put(&mut self, value: u64) -> Result<(), StorageError> {
        let sequence = self.sequence + 1;
        let position = (sequence % 2) * SLOT_BYTES as u64;
        failpoint::hit("mark.before_write")
            .and_then(|()| write_all_at(&*self.file, &encode(sequence, value), position))
            .and_then(|()| self.file.sync())
            .map_err(|error| StorageError::io("sync", &self.path, &error))?;
        self.sequence = sequence;
        self.value = value;
        Ok(())
    }
}

fn encode(sequence: u64, value: u64) -> Vec<u8> {
    let mut slot = Vec::with_capacity(CONTENT_BYTES + 4);
    slot.extend_from_slice(&MAGIC);
    slot.extend_from_slice(&FORMAT.to_be_bytes());
    slot.extend_from_slice(&[0; 2]);
    slot.extend_from_slice(&sequence.to_be_bytes());
    slot.extend_from_slice(&value.to_be_bytes());
    let crc = crc32c::crc32c(&slot);
    slot.extend_from_slice(&crc.to_be_bytes());
    slot
}

/// Sequence and number of a slot; `None` for one that does not verify.
fn decode(slot: &[u8], path: &Path) -> Result<Option<(u64, u64)>, StorageError> {
    let fields = || {
        let (content, rest) = slot.split_at_checked(CONTENT_BYTES)?;
        let crc = u32::from_be_bytes(*rest.first_chunk()?);
        if !content.starts_with(&MAGIC) || crc != crc32c::crc32c(content) {
            return None;
        }
        let format = u16::from_be_bytes(*content.get(4..)?.first_chunk()?);
        let sequence = u64::from_be_bytes(*content.get(8..)?.first_chunk()?);
        let value = u64::from_be_bytes(*content.get(16..)?.first_chunk()?);
        Some((format, sequence, value))
    };
    match fields() {
        Some((format, _, _)) if format > FORMAT => Err(StorageError::FormatTooNew {
            path: path.to_owned(),
            found: u32::from(format),
            supported: u32::from(FORMAT),
        }),
        Some((_, sequence, value)) => Ok(Some((sequence, value))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Crash, FaultyFs};

    fn path() -> &'static Path {
        Path::new("/mark")
    }

    fn stored(fs: &FaultyFs) -> u64 {
        let mark = SyncedMark::open(fs, path()).unwrap();
        mark.expect("the file is there").value()
    }

    #[test]
    fn the_number_survives_and_goes_both_ways() {
        let fs = FaultyFs::new();
        assert!(SyncedMark::open(&fs, path()).unwrap().is_none());
        let mut mark = SyncedMark::create(&fs, path()).unwrap();
        assert_eq!(stored(&fs), 0);
        for value in [3, 3, 2, 9] {
            mark.raise(value).unwrap();
        }
        fs.restart(Crash::PowerLoss);
        assert_eq!(stored(&fs), 9);
        let mut mark = SyncedMark::open(&fs, path()).unwrap().unwrap();
        mark.lower(12).unwrap();
        mark.lower(4).unwrap();
        fs.restart(Crash::PowerLoss);
        assert_eq!(stored(&fs), 4);
        for slot in [0, SLOT_BYTES] {
            fs.flip(path(), slot + 20, 1);
            assert_eq!(stored(&fs), 4, "the other slot knows");
            fs.flip(path(), slot + 20, 1);
        }
    }

    #[test]
    fn a_torn_write_leaves_the_number_of_before() {
        for seed in 0..32 {
            let fs = FaultyFs::new();
            let mut mark = SyncedMark::create(&fs, path()).unwrap();
            mark.raise(5).unwrap();
            // Every operation from the write on: the write, its sync, and none at all.
            for step in 0..2 {
                fs.crash_at(fs.operations() + step);
                assert!(mark.raise(6).is_err());
                fs.restart(Crash::Torn { seed });
                let found = stored(&fs);
                assert!(found == 5 || found == 6, "{found}");
                mark = SyncedMark::open(&fs, path()).unwrap().unwrap();
                mark.lower(5).unwrap();
            }
        }
    }

    #[test]
    fn what_does_not_verify_is_refused() {
        let fs = FaultyFs::new();
        SyncedMark::create(&fs, path()).unwrap();
        for byte in 0..CONTENT_BYTES + 4 {
            fs.flip(path(), byte, 4);
            fs.flip(path(), SLOT_BYTES + byte, 4);
            let error = SyncedMark::open(&fs, path()).unwrap_err();
            assert!(matches!(error, StorageError::BadFile { .. }), "{error}");
            fs.flip(path(), byte, 4);
            fs.flip(path(), SLOT_BYTES + byte, 4);
        }
        fs.replace(path(), b"");
        assert!(SyncedMark::open(&fs, path()).is_err());
        let mut newer = encode(1, 1)[..CONTENT_BYTES].to_vec();
        newer[5] = 2;
        let crc = crc32c::crc32c(&newer);
        newer.extend_from_slice(&crc.to_be_bytes());
        fs.replace(path(), &newer);
        assert!(matches!(
            SyncedMark::open(&fs, path()),
            Err(StorageError::FormatTooNew { found: 2, .. })
        ));
    }
}
