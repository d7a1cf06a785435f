//! Keeping what recovery cuts off, for inspection.

use std::path::Path;

use crate::error::StorageError;
use crate::fs::{FsFile, OpenHow, write_all_at};
use crate::shared::Shared;

/// Largest part of one torn tail that is kept, in bytes.
const KEPT: u64 = 1 << 20;

/// Copies the first MiB after `position` to the quarantine folder, if there is room for it.
///
/// A copy that fails is not worth failing the start for: the bytes are no part of the log.
pub(super) fn keep_tail(
    shared: &Shared,
    log: &str,
    segment: &Path,
    file: &dyn FsFile,
    position: u64,
    size: u64,
) {
    let length = (size - position).min(KEPT);
    if let Err(error) = copy(shared, log, segment, file, position, length) {
        tracing::warn!(log, %error, "torn tail not kept");
    }
}

fn copy(
    shared: &Shared,
    log: &str,
    segment: &Path,
    file: &dyn FsFile,
    position: u64,
    length: u64,
) -> Result<(), StorageError> {
    let dir = shared.path.join("quarantine");
    let io = |error| StorageError::io("quarantine", &dir, &error);
    let fs = &*shared.fs;
    fs.create_dir(&dir).map_err(io)?;
    let mut held = 0;
    for entry in fs.list(&dir).map_err(io)? {
        let kept = fs.open(&dir.join(&entry.name), OpenHow::Read).map_err(io)?;
        held += kept.size().map_err(io)?;
    }
    if held + length > shared.options.quarantine_bytes {
        return Ok(());
    }
    let mut bytes = vec![0; length as usize];
    let mut read = 0;
    while read < bytes.len() {
        let chunk = bytes.get_mut(read..).unwrap_or_default();
        match file.read_at(chunk, position + read as u64).map_err(io)? {
            0 => break,
            count => read += count,
        }
    }
    bytes.truncate(read);
    let base = segment
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("segment");
    let path = dir.join(format!("{log}.{base}.{position}"));
    let copy = fs.open(&path, OpenHow::Create).map_err(io)?;
    write_all_at(&*copy, &bytes, 0).map_err(io)
}
