//! A file system in memory that fails the way disks and kernels do.
//!
//! It keeps two states of everything: what a reader sees now, and what a power loss leaves. Only
//! syncs carry the first into the second. One lock guards it all; it is made for tests, and it
//! panics when the log breaks a promise of the mapping (shrinking under a reader).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Entry, Fs, FsFile, OpenHow, Space};
use crate::mmap::HeapBytes;

mod file;
mod tree;

use file::FaultyFile;
use tree::Tree;

/// Unit in which unsynced writes reach the disk, in bytes.
pub(crate) const SECTOR: usize = 512;

/// What a crash leaves of what was never synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process was killed: the page cache survives.
    Kill,
    /// Power was lost, and nothing unsynced reached the disk.
    PowerLoss,
    /// Power was lost; sectors, lengths and directory entries reached the disk by chance.
    Torn {
        /// Seed of the chance.
        seed: u64,
    },
}

/// A faulty file system in memory; clones share it.
#[derive(Clone, Debug)]
pub struct FaultyFs {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    /// Bumped by a restart: handles of an earlier life answer errors.
    life: u64,
    crashed: bool,
    operations: u64,
    crash_at: Option<u64>,
    syncs: u64,
    fail_sync_at: Option<u64>,
    growths: u64,
    refuse_growth_at: Option<u64>,
    capacity: u64,
    short_writes: bool,
    no_descriptors: bool,
    dir_syncs: u64,
    unopened_dir_at: Option<u64>,
    random: u64,
    locked: HashSet<PathBuf>,
}

struct HeldLock {
    shared: Weak<Mutex<State>>,
    life: u64,
    path: PathBuf,
}

impl Default for FaultyFs {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultyFs {
    /// An empty file system without faults.
    pub fn new() -> Self {
        let state = State {
            tree: Tree::new(),
            life: 0,
            crashed: false,
            operations: 0,
            crash_at: None,
            syncs: 0,
            fail_sync_at: None,
            growths: 0,
            refuse_growth_at: None,
            capacity: 1 << 40,
            short_writes: false,
            no_descriptors: false,
            dir_syncs: 0,
            unopened_dir_at: None,
            random: 1,
            locked: HashSet::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(state)),
        }
    }

    /// The trait object for a log directory.
    pub fn as_fs(&self) -> Arc<dyn Fs> {
        Arc::new(self.clone())
    }

    /// Changing operations so far (writes, syncs, renames, ...).
    pub fn operations(&self) -> u64 {
        self.shared.lock().operations
    }

    /// Fails the operation with this number, counted from the start, and all after it.
    pub fn crash_at(&self, operation: u64) {
        self.shared.lock().crash_at = Some(operation);
    }

    /// True once the file system has stopped working.
    pub fn is_crashed(&self) -> bool {
        self.shared.lock().crashed
    }

    /// File syncs so far.
    pub fn syncs(&self) -> u64 {
        self.shared.lock().syncs
    }

    /// Fails the file sync with this number once; its dirty bytes are lost, later syncs succeed.
    pub fn fail_sync_at(&self, sync: u64) {
        self.shared.lock().fail_sync_at = Some(sync);
    }

    /// Operations so far that need space (creations, writes, allocations).
    pub fn growths(&self) -> u64 {
        self.shared.lock().growths
    }

    /// Answers "no space" once, to the space-needing operation with this number.
    pub fn refuse_growth_at(&self, growth: u64) {
        self.shared.lock().refuse_growth_at = Some(growth);
    }

    /// Limits the size of the file system, in bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.lock().capacity = bytes;
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.shared.lock().tree.used()
    }

    /// Makes some writes shorter than asked.
    pub fn set_short_writes(&self, on: bool) {
        self.shared.lock().short_writes = on;
    }

    /// Refuses what takes a file descriptor (to open, to list, to sync a directory), as if none
    /// were left.
    pub fn set_no_descriptors(&self, on: bool) {
        self.shared.lock().no_descriptors = on;
    }

    /// Syncs of directories so far.
    pub fn dir_syncs(&self) -> u64 {
        self.shared.lock().dir_syncs
    }

    /// Has no descriptor left, once, for the sync of a directory with this number.
    pub fn unopened_dir_at(&self, dir_sync: u64) {
        self.shared.lock().unopened_dir_at = Some(dir_sync);
    }

    /// Stops the file system as a crash does, applies what the crash leaves, and restarts it.
    pub fn restart(&self, crash: Crash) {
        let mut state = self.shared.lock();
        state.tree.crash(crash);
        state.life += 1;
        state.crashed = false;
        state.crash_at = None;
        state.fail_sync_at = None;
        state.refuse_growth_at = None;
        state.locked.clear();
    }

    /// Flips bits of a stored byte, as a decaying disk does.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn flip(&self, path: &Path, offset: usize, mask: u8) {
        let mut state = self.shared.lock();
        let node = state.tree.file_at(path).expect("flip: the file exists");
        let file = state.tree.file(node);
        file.data[offset] ^= mask;
        if let Some(byte) = file.stable.get_mut(offset) {
            *byte ^= mask;
        }
    }

    /// Makes bytes of a file unreadable, as a dying disk does.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn spoil(&self, path: &Path, bytes: Range<usize>) {
        let mut state = self.shared.lock();
        let node = state.tree.file_at(path).expect("spoil: the file exists");
        state.tree.file(node).unreadable.push(bytes);
    }

    /// The current content of a file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.shared.lock();
        let node = state.tree.file_at(path).ok()?;
        Some(state.tree.file(node).data.clone())
    }

    /// Replaces the content of a file, synced.
    pub fn replace(&self, path: &Path, content: &[u8]) {
        let mut state = self.shared.lock();
        let node = match state.tree.file_at(path) {
            Ok(node) => node,
            Err(_) => {
                let node = state
                    .tree
                    .create_file(path)
                    .expect("replace: the folder exists");
                state
                    .tree
                    .sync_dir(path.parent().unwrap_or(path))
                    .expect("the folder exists");
                node
            }
        };
        let file = state.tree.file(node);
        file.data = content.to_vec();
        file.stable = content.to_vec();
        file.dirty.clear();
    }

    fn changing(&self, needs_space: bool) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let mut state = self.shared.lock();
        state.step(needs_space)?;
        Ok(state)
    }

    fn looking(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.shared.lock();
        if state.crashed {
            Err(dead())
        } else {
            Ok(state)
        }
    }
}

fn dead() -> io::Error {
    io::Error::other("the file system has crashed")
}

fn no_descriptor() -> io::Error {
    io::Error::from_raw_os_error(libc::EMFILE)
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl State {
    fn descriptor(&self) -> io::Result<()> {
        match self.no_descriptors {
            true => Err(no_descriptor()),
            false => Ok(()),
        }
    }

    fn step(&mut self, needs_space: bool) -> io::Result<()> {
        if self.crashed {
            return Err(dead());
        }
        let number = self.operations;
        self.operations += 1;
        if self.crash_at == Some(number) {
            self.crashed = true;
            return Err(dead());
        }
        if needs_space {
            let number = self.growths;
            self.growths += 1;
            if self.refuse_growth_at == Some(number) {
                return Err(full());
            }
        }
        Ok(())
    }

    fn chance(&mut self) -> u64 {
        self.random = next_random(self.random);
        self.random
    }
}

/// One step of a small generator (xorshift64*).
pub(crate) fn next_random(seed: u64) -> u64 {
    let mut x = seed | 1;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    x.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

impl Fs for FaultyFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.changing(true)?.tree.create_dir(path)
    }

    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn FsFile>> {
        let mut state = match how {
            OpenHow::Create => self.changing(true)?,
            OpenHow::Read | OpenHow::Write => self.looking()?,
        };
        state.descriptor()?;
        let node = match how {
            OpenHow::Create => state.tree.create_file(path)?,
            OpenHow::Read | OpenHow::Write => state.tree.file_at(path)?,
        };
        Ok(Arc::new(FaultyFile {
            shared: self.shared.clone(),
            life: state.life,
            node,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.changing(false)?.tree.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.changing(false)?.tree.remove(path, false)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.changing(false)?.tree.remove(path, true)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.changing(false)?;
        state.descriptor()?;
        let number = state.dir_syncs;
        state.dir_syncs += 1;
        if state.unopened_dir_at == Some(number) {
            return Err(no_descriptor());
        }
        state.tree.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.looking()?;
        state.descriptor()?;
        state.tree.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.looking()?.tree.exists(path))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let state = self.looking()?;
        let free = state.capacity.saturating_sub(state.tree.used());
        Ok(Space {
            total: state.capacity,
            free,
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut state = self.looking()?;
        if !state.locked.insert(path.to_owned()) {
            return Ok(None);
        }
        let life = state.life;
        let shared = Arc::downgrade(&self.shared);
        Ok(Some(Box::new(HeldLock {
            shared,
            life,
            path: path.to_owned(),
        })))
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut state = shared.lock();
            if state.life == self.life {
                state.locked.remove(&self.path);
            }
        }
    }
}

type Entries = BTreeMap<String, tree::Node>;
type Sectors = BTreeSet<usize>;

#[cfg(test)]
mod tests;
