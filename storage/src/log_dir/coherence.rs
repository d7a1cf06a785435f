//! The check at start that the file system can serve as a log directory.

use std::path::Path;
use std::sync::Arc;

use crate::error::StorageError;
use crate::fs::{Fs, OpenHow, write_all_at};
use crate::sync::PublishedEnd;

/// Proves that a positional write shows in a mapping.
pub(super) fn check(fs: &dyn Fs, dir: &Path) -> Result<(), StorageError> {
    let path = dir.join(".coherence.tmp");
    let io = |error| StorageError::io("probe", &path, &error);
    let file = fs.open(&path, OpenHow::Create).map_err(io)?;
    let end = Arc::new(PublishedEnd::default());
    let region = file.map(8192, end.clone()).map_err(io)?;
    let page: Vec<u8> = (0..4096u32).map(|n| (n % 251) as u8).collect();
    let mut same = true;
    for at in [0, 4096] {
        write_all_at(&*file, &page, at as u64).map_err(io)?;
        end.publish(at as u64 + 4096);
        same &= region.slice(at..at + 4096) == page;
    }
    drop(region);
    fs.remove_file(&path).map_err(io)?;
    if same {
        Ok(())
    } else {
        Err(StorageError::IncoherentMapping {
            path: dir.to_owned(),
        })
    }
}
