//! Crash-safe small files.
//!
//! ```text
//! <content> "#crc32c " <8 hex digits of the CRC-32C of content> "\n"
//! ```
//!
//! A file is replaced by writing `<name>.tmp`, syncing it, renaming it over the old one and syncing
//! the directory, so a reader finds the old content or the new one, never half of either.

use std::path::{Path, PathBuf};

use crate::error::StorageError;
use crate::failpoint;
use crate::fs::{Fs, OpenHow, read_all, write_all_at};

/// Largest small file that is read, in bytes.
pub const MAX_SMALL_FILE: u64 = 256 << 20;

const MARK: &[u8] = b"#crc32c ";
const FOOTER_LEN: usize = MARK.len() + 8 + 1;

/// Replaces a small file: temporary file, sync, rename, directory sync; a CRC line ends it.
///
/// # Errors
/// `DiskFull` or `Io`; the old content is then still in place.
pub fn write_small_file(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let temporary = temporary_name(path);
    let mut content = Vec::with_capacity(bytes.len() + FOOTER_LEN);
    content.extend_from_slice(bytes);
    content.extend_from_slice(MARK);
    content.extend_from_slice(format!("{:08x}\n", crc32c::crc32c(bytes)).as_bytes());

    let written = (|| {
        let file = fs.open(&temporary, OpenHow::Create)?;
        write_all_at(&*file, &content, 0)?;
        failpoint::hit("durable.before_sync")?;
        file.sync()?;
        failpoint::hit("durable.before_rename")?;
        fs.rename(&temporary, path)?;
        failpoint::hit("durable.before_dir_sync")?;
        fs.sync_dir(path.parent().unwrap_or(Path::new("/")))
    })();
    written.map_err(|error| StorageError::io("write", path, &error))
}

/// Reads a small file and checks its CRC line; `None` when it does not exist.
///
/// # Errors
/// `BadFile` when the checksum is missing or wrong, `Io` when it cannot be read or is longer than
/// [`MAX_SMALL_FILE`].
pub fn read_small_file(fs: &dyn Fs, path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    read_file(fs, path, MAX_SMALL_FILE)
}

/// The same of a file of at most `limit` bytes, CRC line included; `u64::MAX` for what is written
/// whatever its length.
///
/// # Errors
/// As [`read_small_file`].
pub fn read_file(fs: &dyn Fs, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let file = match fs.open(path, OpenHow::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("open", path, &error)),
    };
    let mut bytes =
        read_all(&*file, limit).map_err(|error| StorageError::io("read", path, &error))?;
    let bad = |reason| StorageError::BadFile {
        path: path.to_owned(),
        reason,
    };
    let length = bytes
        .len()
        .checked_sub(FOOTER_LEN)
        .ok_or_else(|| bad("no checksum line"))?;
    let footer = bytes.split_off(length);
    let crc = footer
        .strip_prefix(MARK)
        .and_then(|rest| rest.strip_suffix(b"\n"))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| bad("no checksum line"))?;
    if crc != crc32c::crc32c(&bytes) {
        return Err(bad("wrong checksum"));
    }
    Ok(Some(bytes))
}

/// Reads a small text file as lines; see [`read_small_file`].
pub(crate) fn read_small_text(fs: &dyn Fs, path: &Path) -> Result<Option<String>, StorageError> {
    let Some(bytes) = read_small_file(fs, path)? else {
        return Ok(None);
    };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| StorageError::BadFile {
            path: path.to_owned(),
            reason: "not text",
        })
}

/// Checks the `version=<n>` line that starts our text files and answers the lines after it.
pub(crate) fn check_version<'a>(
    text: &'a str,
    supported: u32,
    path: &Path,
) -> Result<std::str::Lines<'a>, StorageError> {
    let mut lines = text.lines();
    let found = lines
        .next()
        .and_then(|line| line.strip_prefix("version="))
        .and_then(|number| number.parse::<u32>().ok())
        .ok_or(StorageError::BadFile {
            path: path.to_owned(),
            reason: "no version",
        })?;
    if found > supported {
        return Err(StorageError::FormatTooNew {
            path: path.to_owned(),
            found,
            supported,
        });
    }
    Ok(lines)
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Crash, FaultyFs};

    #[test]
    fn content_survives_and_damage_is_found() {
        let fs = FaultyFs::new();
        let path = Path::new("/state");
        assert!(read_small_file(&fs, path).unwrap().is_none());
        write_small_file(&fs, path, b"term=4\n").unwrap();
        fs.restart(Crash::PowerLoss);
        assert_eq!(read_small_file(&fs, path).unwrap().unwrap(), b"term=4\n");
        for offset in 0..fs.content(path).unwrap().len() {
            fs.flip(path, offset, 0x10);
            assert!(read_small_file(&fs, path).is_err(), "flip at {offset}");
            fs.flip(path, offset, 0x10);
        }
        fs.replace(path, b"");
        assert!(read_small_file(&fs, path).is_err());
    }

    #[test]
    fn a_limit_counts_the_checksum_line() {
        let fs = FaultyFs::new();
        let path = Path::new("/state");
        write_small_file(&fs, path, b"term=4\n").unwrap();
        let length = u64::try_from(fs.content(path).unwrap().len()).unwrap();
        assert!(read_file(&fs, path, length - 1).is_err());
        for limit in [length, u64::MAX] {
            let read = read_file(&fs, path, limit).unwrap();
            assert_eq!(read.unwrap(), b"term=4\n");
        }
    }

    #[test]
    fn a_crash_at_any_step_leaves_old_or_new() {
        for step in 0..6 {
            for seed in 0..8 {
                let fs = FaultyFs::new();
                let path = Path::new("/state");
                write_small_file(&fs, path, b"old").unwrap();
                fs.crash_at(fs.operations() + step);
                let done = write_small_file(&fs, path, b"new").is_ok();
                fs.restart(if seed == 0 {
                    Crash::PowerLoss
                } else {
                    Crash::Torn { seed }
                });
                let found = read_small_file(&fs, path).unwrap().unwrap();
                assert!(found == b"new" || (!done && found == b"old"), "step {step}");
            }
        }
    }

    #[test]
    fn a_newer_version_is_refused_with_both_numbers() {
        let error = check_version("version=9\nx\n", 1, Path::new("/f")).unwrap_err();
        assert!(matches!(
            error,
            StorageError::FormatTooNew {
                found: 9,
                supported: 1,
                ..
            }
        ));
        assert_eq!(
            check_version("version=1\nx\n", 1, Path::new("/f"))
                .unwrap()
                .next(),
            Some("x")
        );
        assert!(check_version("x\n", 1, Path::new("/f")).is_err());
    }
}
