//! Replacing segments by a cleaned one (storage page, §9): both generations or one, never a mix.
//!
//! ```text
//! 1  <base>.log.cleaned, .index.cleaned, .timeindex.cleaned, .txnindex.cleaned, .seal.cleaned
//!    are written and synced, the directory too                  a start removes them
//! 2  <base>.log.cleaned -> <base>.log.swap, directory synced    the commit point: a start finishes
//! 3  the replaced segments, whose bases lie from <base> to the next offset of the seal, go
//! 4  indexes and seal get their final names, directory synced
//! 5  <base>.log.swap -> <base>.log, directory synced
//! ```
//!
//! Every step after the commit can be done again, so a start begins with step 3 as long as it
//! finds a `.swap` file.

use std::path::{Path, PathBuf};

use crate::error::StorageError;
use crate::failpoint;
use crate::fs::OpenHow;
use crate::recovery::SEGMENT_EXTENSIONS;
use crate::seal::Seal;
use crate::segment::{SegmentHome, base_of};
use crate::types::Offset;

/// Ends the name of a file that is not committed yet.
pub(crate) const CLEANED: &str = "cleaned";
/// Ends the name of committed records.
const SWAP: &str = "swap";
/// Files of an output.
pub(crate) const OUTPUTS: [&str; 5] = SEGMENT_EXTENSIONS;

/// Path of a file beside the segment at `log`: `<base>.<extension>.<state>`.
pub(crate) fn with_state(log: &Path, extension: &str, state: &str) -> PathBuf {
    log.with_extension(format!("{extension}.{state}"))
}

/// Base offset in the name of committed records.
fn swap_base(name: &str) -> Option<Offset> {
    base_of(name.strip_suffix(SWAP)?.strip_suffix('.')?)
}

/// The commit: from here on the new generation is the log's.
pub(crate) fn commit(home: &SegmentHome, base: Offset) -> std::io::Result<()> {
    let log = home.path(base);
    failpoint::hit("clean.before_commit")?;
    home.fs.rename(
        &with_state(&log, "log", CLEANED),
        &with_state(&log, "log", SWAP),
    )
}

/// Undoes [`commit`], as long as nothing was replaced and the commit was not synced.
pub(crate) fn take_back(home: &SegmentHome, base: Offset) -> std::io::Result<()> {
    let log = home.path(base);
    home.fs.rename(
        &with_state(&log, "log", SWAP),
        &with_state(&log, "log", CLEANED),
    )
}

/// Gives committed files their final names, once the replaced ones are out of the way.
pub(crate) fn put_in_place(home: &SegmentHome, base: Offset, seal: &Seal) -> std::io::Result<()> {
    let (fs, log) = (&*home.fs, home.path(base));
    for extension in OUTPUTS.iter().filter(|extension| **extension != "log") {
        let (from, to) = (
            with_state(&log, extension, CLEANED),
            log.with_extension(extension),
        );
        if *extension == "txnindex" && seal.txn_crc.is_none() {
            // That of the replaced segment must not stay beside the new one.
            ignore_missing(fs.remove_file(&to))?;
        } else {
            ignore_missing(fs.rename(&from, &to))?;
        }
    }
    failpoint::hit("clean.before_place")?;
    fs.sync_dir(&home.dir)?;
    fs.rename(&with_state(&log, "log", SWAP), &log)?;
    failpoint::hit("clean.after_place")?;
    fs.sync_dir(&home.dir)
}

/// Finishes what a stop left behind its commit point; called before anything else looks at the
/// directory.
///
/// # Errors
/// `BadFile` when the committed files do not fit each other: which segments they replace cannot be
/// told then, and nothing is removed. `Io`.
pub(crate) fn finish(home: &SegmentHome) -> Result<(), StorageError> {
    let fs = &*home.fs;
    let io = |error| StorageError::io("finish", &home.dir, &error);
    let entries = fs.list(&home.dir).map_err(io)?;
    let mut bases: Vec<Offset> = entries.iter().filter_map(|e| swap_base(&e.name)).collect();
    bases.sort_unstable();
    for base in bases {
        let log = home.path(base);
        let swap = with_state(&log, "log", SWAP);
        let size = fs.open(&swap, OpenHow::Read).and_then(|file| file.size());
        let seal = match Seal::load(fs, &with_state(&log, "seal", CLEANED))? {
            None => Seal::load(fs, &log.with_extension("seal"))?,
            found => found,
        };
        let size = size.map_err(io)?;
        let Some(seal) = seal.filter(|seal| seal.size == size) else {
            return Err(StorageError::BadFile {
                path: swap,
                reason: "cleaned records without their seal",
            });
        };
        let replaced = entries
            .iter()
            .filter_map(|entry| base_of(&entry.name))
            .filter(|old| *old > base && *old < seal.next_offset);
        for old in replaced {
            home.remove_segment(old)?;
        }
        put_in_place(home, base, &seal).map_err(io)?;
        tracing::info!(path = %log.display(), "cleaned segment put in place");
    }
    Ok(())
}

fn ignore_missing(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
