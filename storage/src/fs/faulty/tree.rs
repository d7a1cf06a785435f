//! Files and directories of the double, each with its present and its stable state.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Component, Path};
use std::sync::Weak;

use super::{Crash, Entries, Entry, HeapBytes, SECTOR, Sectors, next_random};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(u64),
    Dir(u64),
}

#[derive(Clone, Debug)]
enum DirChange {
    Set(String, Node),
    Remove(String),
    Rename(String, String, Node),
}

#[derive(Debug, Default)]
struct DirNode {
    entries: Entries,
    stable: Entries,
    /// Changes since the last sync, in order; a journal keeps a prefix of them.
    pending: Vec<DirChange>,
}

#[derive(Debug, Default)]
pub(super) struct FileNode {
    pub(super) data: Vec<u8>,
    pub(super) stable: Vec<u8>,
    pub(super) dirty: Sectors,
    pub(super) allocated: usize,
    pub(super) maps: Vec<Weak<HeapBytes>>,
    /// Bytes that the disk does not give back any more.
    pub(super) unreadable: Vec<Range<usize>>,
}

#[derive(Debug)]
pub(super) struct Tree {
    files: HashMap<u64, FileNode>,
    dirs: HashMap<u64, DirNode>,
    next: u64,
}

const ROOT: u64 = 0;

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl FileNode {
    /// How many of `count` bytes from `offset` on can be read, as a kernel stops at the first page
    /// that it does not get.
    ///
    /// # Errors
    /// `EIO` where not even the first can.
    pub(super) fn readable(&self, offset: usize, count: usize) -> io::Result<usize> {
        let end = offset + count;
        let hit = |bad: &&Range<usize>| bad.start < end && offset < bad.end;
        let first = self
            .unreadable
            .iter()
            .filter(hit)
            .map(|bad| bad.start)
            .min();
        match first {
            Some(start) if start <= offset => Err(io::Error::from_raw_os_error(libc::EIO)),
            Some(start) => Ok(start - offset),
            None => Ok(count),
        }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
        self.maps.retain(|map| map.strong_count() > 0);
        for map in self.maps.iter().filter_map(Weak::upgrade) {
            map.store(offset, bytes);
        }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        for map in self.maps.iter().filter_map(Weak::upgrade) {
            let shown = map.published();
            assert!(
                shown <= len as u64,
                "file cut to {len} under a reader of {shown} bytes"
            );
        }
        let first = len.min(self.data.len()) / SECTOR;
        let last = len.max(self.data.len()).div_ceil(SECTOR);
        self.dirty.extend(first..last);
        self.data.resize(len, 0);
        self.allocated = len;
    }

    pub(super) fn sync(&mut self) {
        self.stable.resize(self.data.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.keep_sector(sector);
        }
    }

    fn keep_sector(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.data.len()).min(self.stable.len());
        if start < end {
            self.stable[start..end].copy_from_slice(&self.data[start..end]);
        }
    }

    fn crash(&mut self, crash: Crash, random: &mut u64) {
        match crash {
            Crash::Kill => return,
            Crash::PowerLoss => {}
            Crash::Torn { .. } => {
                let mut chance = |n: usize| {
                    *random = next_random(*random);
                    (*random >> 33) as usize % n.max(1)
                };
                let (low, high) = (
                    self.stable.len().min(self.data.len()),
                    self.stable.len().max(self.data.len()),
                );
                let len = match chance(3) {
                    0 => self.stable.len(),
                    1 => self.data.len(),
                    _ => low + chance(high - low + 1),
                };
                self.stable.resize(len, 0);
                let kept: Vec<usize> = self
                    .dirty
                    .iter()
                    .copied()
                    .filter(|_| chance(2) == 0)
                    .collect();
                for sector in kept {
                    self.keep_sector(sector);
                }
            }
        }
        self.data.clone_from(&self.stable);
        self.dirty.clear();
        self.allocated = 0;
    }
}

impl DirNode {
    fn change(&mut self, change: DirChange) {
        apply(&mut self.entries, change.clone());
        self.pending.push(change);
    }

    fn crash(&mut self, crash: Crash, random: &mut u64) {
        let kept = match crash {
            Crash::Kill => return,
            Crash::PowerLoss => 0,
            Crash::Torn { .. } => {
                *random = next_random(*random);
                (*random >> 33) as usize % (self.pending.len() + 1)
            }
        };
        for change in self.pending.drain(..).take(kept) {
            apply(&mut self.stable, change);
        }
        self.entries.clone_from(&self.stable);
    }
}

fn apply(entries: &mut Entries, change: DirChange) {
    match change {
        DirChange::Set(name, node) => {
            entries.insert(name, node);
        }
        DirChange::Remove(name) => {
            entries.remove(&name);
        }
        DirChange::Rename(from, to, node) => {
            entries.remove(&from);
            entries.insert(to, node);
        }
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        let dirs = HashMap::from([(ROOT, DirNode::default())]);
        Self {
            files: HashMap::new(),
            dirs,
            next: ROOT + 1,
        }
    }

    pub(super) fn file(&mut self, id: u64) -> &mut FileNode {
        self.files.get_mut(&id).expect("files are never forgotten")
    }

    pub(super) fn used(&self) -> u64 {
        self.dirs
            .values()
            .flat_map(|dir| dir.entries.values())
            .filter_map(|node| match node {
                Node::File(id) => self.files.get(id),
                Node::Dir(_) => None,
            })
            .map(|file| file.allocated.max(file.data.len()) as u64)
            .sum()
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        let mut at = Node::Dir(ROOT);
        for part in path.components() {
            let Component::Normal(name) = part else {
                continue;
            };
            let Node::Dir(id) = at else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
            at = *self.dirs[&id].entries.get(name).ok_or_else(not_found)?;
        }
        Ok(at)
    }

    fn dir_of(&mut self, path: &Path) -> io::Result<(&mut DirNode, String)> {
        let parent = path.parent().ok_or_else(not_found)?;
        let Node::Dir(id) = self.find(parent)? else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(not_found)?;
        Ok((
            self.dirs
                .get_mut(&id)
                .expect("directories are never forgotten"),
            name.to_owned(),
        ))
    }

    pub(super) fn file_at(&self, path: &Path) -> io::Result<u64> {
        match self.find(path)? {
            Node::File(id) => Ok(id),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.find(path).is_ok()
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let Node::Dir(id) = self.find(path)? else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        Ok(self.dirs[&id]
            .entries
            .iter()
            .map(|(name, node)| Entry {
                name: name.clone(),
                is_dir: matches!(node, Node::Dir(_)),
            })
            .collect())
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        if let Ok(node) = self.find(path) {
            return match node {
                Node::Dir(_) => Ok(()),
                Node::File(_) => Err(io::ErrorKind::AlreadyExists.into()),
            };
        }
        let id = self.next;
        let (dir, name) = self.dir_of(path)?;
        dir.change(DirChange::Set(name, Node::Dir(id)));
        self.dirs.insert(id, DirNode::default());
        self.next += 1;
        Ok(())
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<u64> {
        if let Ok(id) = self.file_at(path) {
            self.file(id).set_len(0);
            return Ok(id);
        }
        let id = self.next;
        let (dir, name) = self.dir_of(path)?;
        dir.change(DirChange::Set(name, Node::File(id)));
        self.files.insert(id, FileNode::default());
        self.next += 1;
        Ok(id)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        if from.parent() == to.parent() {
            let (_, target) = self.dir_of(to)?;
            let (dir, name) = self.dir_of(from)?;
            dir.change(DirChange::Rename(name, target, node));
            return Ok(());
        }
        let (dir, target) = self.dir_of(to)?;
        dir.change(DirChange::Set(target, node));
        let (dir, name) = self.dir_of(from)?;
        dir.change(DirChange::Remove(name));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, want_dir: bool) -> io::Result<()> {
        match (self.find(path)?, want_dir) {
            (Node::Dir(id), true) if self.dirs[&id].entries.is_empty() => {}
            (Node::Dir(_), true) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            (Node::File(_), false) => {}
            (Node::Dir(_), false) => return Err(io::ErrorKind::IsADirectory.into()),
            (Node::File(_), true) => return Err(io::ErrorKind::NotADirectory.into()),
        }
        let (dir, name) = self.dir_of(path)?;
        dir.change(DirChange::Remove(name));
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let Node::Dir(id) = self.find(path)? else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        let dir = self
            .dirs
            .get_mut(&id)
            .expect("directories are never forgotten");
        dir.pending.clear();
        dir.stable.clone_from(&dir.entries);
        Ok(())
    }

    pub(super) fn crash(&mut self, crash: Crash) {
        let mut random = match crash {
            Crash::Torn { seed } => next_random(seed ^ 0x9E37_79B9_7F4A_7C15),
            Crash::Kill | Crash::PowerLoss => 1,
        };
        // In order of ids, so that one seed always means one outcome.
        let mut ids: Vec<u64> = self.dirs.keys().chain(self.files.keys()).copied().collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(dir) = self.dirs.get_mut(&id) {
                dir.crash(crash, &mut random);
            }
            if let Some(file) = self.files.get_mut(&id) {
                file.crash(crash, &mut random);
                file.maps.clear();
            }
        }
    }
}
