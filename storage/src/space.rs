//! Watches the free space of a directory: reserve and ballast (storage page, §12).
//!
//! Below the reserve only essential logs are written (raft, coordinators). When a write really
//! meets a full disk, the ballast file is given back, so that checkpoints, deletion and the raft
//! log still work. Twice the reserve free, beside what the ballast gave back, ends it: the ballast
//! is allocated again and all logs are written.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crate::config::LogDirOptions;
use crate::error::StorageError;
use crate::fs::{Fs, OpenHow, Space};
use crate::types::TimestampMs;

/// Milliseconds between two looks at a full file system.
const RECHECK_MS: i64 = 500;
/// Bytes appended in the directory between two looks at a file system with room.
const CHECK_BYTES: u64 = 16 << 20;
/// Largest default reserve, in bytes.
const LARGEST_RESERVE: u64 = 1 << 30;
/// The ballast takes at most this part of the file system.
const BALLAST_PART: u64 = 16;

/// State of the file system's free space.
#[derive(Debug)]
pub(crate) struct SpaceGuard {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    ballast: PathBuf,
    ballast_bytes: u64,
    reserve_bytes: Option<u64>,
    full: AtomicBool,
    /// The ballast is allocated.
    held: AtomicBool,
    /// The ballast was given back: its bytes are free, but not for clients.
    given_back: AtomicBool,
    checked_at: AtomicI64,
    appended: AtomicU64,
}

impl SpaceGuard {
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: PathBuf, options: &LogDirOptions) -> Self {
        Self {
            fs,
            ballast: dir.join("ballast"),
            dir,
            ballast_bytes: options.ballast_bytes,
            reserve_bytes: options.reserve_bytes,
            full: AtomicBool::new(false),
            held: AtomicBool::new(false),
            given_back: AtomicBool::new(false),
            checked_at: AtomicI64::new(i64::MIN),
            appended: AtomicU64::new(0),
        }
    }

    /// True while only essential logs may be written.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// A write met the end of the space. Answers true where something can be done about it.
    pub(crate) fn note_full(&self) -> bool {
        let first = !self.full.swap(true, Ordering::AcqRel);
        self.held.swap(false, Ordering::AcqRel) || first
    }

    /// Counts appended bytes; true when it is time to look at the free space.
    pub(crate) fn appended(&self, bytes: u64) -> bool {
        let before = self.appended.fetch_add(bytes, Ordering::Relaxed);
        before / CHECK_BYTES != (before + bytes) / CHECK_BYTES
    }

    /// True when a refused append should have the free space looked at again.
    pub(crate) fn recheck_due(&self, now: TimestampMs) -> bool {
        let before = self.checked_at.load(Ordering::Relaxed);
        let due = now.value().saturating_sub(before) >= RECHECK_MS || now.value() < before;
        due && self
            .checked_at
            .compare_exchange(before, now.value(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Space of the file system.
    pub(crate) fn space(&self) -> Result<Space, StorageError> {
        self.fs
            .space(&self.dir)
            .map_err(|error| StorageError::io("statvfs", &self.dir, &error))
    }

    /// True when `bytes` more leave the reserve untouched; blocks.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        let room = |space: Space| space.free >= bytes.saturating_add(self.reserve(&space));
        !self.is_full() && self.space().is_ok_and(room)
    }

    fn reserve(&self, space: &Space) -> u64 {
        self.reserve_bytes
            .unwrap_or_else(|| (space.total / 50).min(LARGEST_RESERVE))
    }

    /// Looks at the free space and changes the state; blocks. Answers whether the disk is full.
    pub(crate) fn check(&self) -> bool {
        let Ok(space) = self.space() else {
            return self.is_full();
        };
        let reserve = self.reserve(&space);
        if self.is_full() {
            // A ballast that was given back must fit again on top, or it would eat what has just
            // come free. One that never fitted is not waited for.
            let owed = match self.given_back.load(Ordering::Acquire) {
                true => self.missing_ballast(&space),
                false => 0,
            };
            let needed = reserve.saturating_mul(2).saturating_add(owed);
            if space.free >= needed.max(1) {
                self.hold_ballast();
                self.full.store(false, Ordering::Release);
                tracing::info!(free_bytes = space.free, "disk has room again");
            }
        } else if space.free < reserve {
            self.full.store(true, Ordering::Release);
            tracing::warn!(
                free_bytes = space.free,
                reserve,
                "disk is below its reserve"
            );
        } else if !self.held.load(Ordering::Acquire) {
            self.hold_ballast();
        }
        self.is_full()
    }

    /// Size of the ballast on this file system.
    fn ballast_bytes(&self, space: &Space) -> u64 {
        self.ballast_bytes.min(space.total / BALLAST_PART)
    }

    fn missing_ballast(&self, space: &Space) -> u64 {
        let there = self.fs.exists(&self.ballast).unwrap_or(false);
        if there { 0 } else { self.ballast_bytes(space) }
    }

    /// Allocates the ballast where it is missing and leaves twice the reserve; blocks.
    pub(crate) fn hold_ballast(&self) {
        let Ok(space) = self.space() else {
            return;
        };
        let missing = self.missing_ballast(&space);
        if missing == 0 {
            let held = self.ballast_bytes(&space) > 0;
            self.held.store(held, Ordering::Release);
            return;
        }
        let left = space.free.checked_sub(missing);
        if left.is_none_or(|left| left < self.reserve(&space).saturating_mul(2)) {
            return;
        }
        let held = (|| {
            let file = self.fs.open(&self.ballast, OpenHow::Create)?;
            file.allocate(0, missing)
        })();
        if held.is_err() {
            // A ballast that does not fit would be the failure it is meant to prevent.
            let _ = self.fs.remove_file(&self.ballast);
        } else {
            self.held.store(true, Ordering::Release);
            self.given_back.store(false, Ordering::Release);
        }
    }

    /// Gives the ballast back; blocks.
    pub(crate) fn drop_ballast(&self) {
        self.held.store(false, Ordering::Release);
        if self.fs.remove_file(&self.ballast).is_ok() {
            self.given_back.store(true, Ordering::Release);
            tracing::warn!("ballast given back on a full disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{FaultyFs, write_all_at};

    fn guard(fs: &FaultyFs) -> SpaceGuard {
        let options = LogDirOptions {
            ballast_bytes: 100,
            reserve_bytes: Some(50),
            ..LogDirOptions::default()
        };
        SpaceGuard::new(fs.as_fs(), "/".into(), &options)
    }

    #[test]
    fn the_reserve_closes_and_room_opens_again() {
        let fs = FaultyFs::new();
        fs.set_capacity(1600);
        let guard = guard(&fs);
        guard.hold_ballast();
        assert_eq!(fs.used(), 100);
        assert!(!guard.check());
        let file = fs
            .open(std::path::Path::new("/f"), OpenHow::Create)
            .unwrap();
        write_all_at(&*file, &[0; 1480], 0).unwrap();
        assert!(guard.check(), "20 bytes are below the reserve");
        guard.drop_ballast();
        assert!(guard.check(), "the ballast is not for clients");
        file.set_len(1360).unwrap();
        assert!(
            !guard.check(),
            "240 bytes hold the ballast and twice the reserve"
        );
        assert_eq!(fs.used(), 1460);
    }

    #[test]
    fn a_small_file_system_heals_with_a_small_ballast() {
        let fs = FaultyFs::new();
        fs.set_capacity(320);
        let guard = guard(&fs);
        guard.hold_ballast();
        assert_eq!(fs.used(), 20, "a sixteenth");
        let filler = fs
            .open(std::path::Path::new("/f"), OpenHow::Create)
            .unwrap();
        write_all_at(&*filler, &[0; 300], 0).unwrap();
        assert!(guard.check());
        guard.drop_ballast();
        filler.set_len(201).unwrap();
        assert!(guard.check(), "119 bytes lack one for both");
        filler.set_len(200).unwrap();
        assert!(!guard.check());
        assert_eq!(fs.used(), 220);
    }

    #[test]
    fn a_ballast_that_was_not_held_is_not_waited_for() {
        let fs = FaultyFs::new();
        fs.set_capacity(1600);
        let file = fs
            .open(std::path::Path::new("/f"), OpenHow::Create)
            .unwrap();
        write_all_at(&*file, &[0; 1580], 0).unwrap();
        let guard = guard(&fs);
        assert!(guard.check());
        guard.drop_ballast();
        file.set_len(1501).unwrap();
        assert!(guard.check(), "99 bytes are not twice the reserve");
        file.set_len(1500).unwrap();
        assert!(!guard.check());
        assert_eq!(fs.used(), 1500, "no ballast out of twice the reserve");
        file.set_len(1400).unwrap();
        assert!(!guard.check());
        assert_eq!(fs.used(), 1500, "the ballast came with the room for it");
    }

    #[test]
    fn rechecks_are_paced() {
        let guard = guard(&FaultyFs::new());
        assert!(guard.recheck_due(TimestampMs::new(1000)));
        assert!(!guard.recheck_due(TimestampMs::new(1100)));
        assert!(guard.recheck_due(TimestampMs::new(1500)));
        assert!(guard.appended(CHECK_BYTES));
        assert!(!guard.appended(1));
    }
}
