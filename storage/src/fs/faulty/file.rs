//! Open files of the double.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{State, dead, full};
use crate::fs::FsFile;
use crate::mmap::{HeapBytes, Region};
use crate::sync::PublishedEnd;

#[derive(Debug)]
pub(super) struct FaultyFile {
    pub(super) shared: Arc<Mutex<State>>,
    pub(super) life: u64,
    pub(super) node: u64,
}

impl FaultyFile {
    fn with<T>(
        &self,
        prepare: impl FnOnce(&mut State) -> io::Result<()>,
        act: impl FnOnce(&mut State, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.shared.lock();
        if state.life != self.life || state.crashed {
            return Err(dead());
        }
        prepare(&mut state)?;
        act(&mut state, self.node)
    }
}

impl FsFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.with(
            |state| state.step(true),
            |state, node| {
                let room = state.capacity.saturating_sub(state.tree.used());
                let short = state.short_writes && state.chance() % 3 == 0;
                let file = state.tree.file(node);
                let offset = usize::try_from(offset).expect("a small file");
                let held = file.allocated.max(file.data.len());
                let fits = (held + usize::try_from(room).unwrap_or(usize::MAX >> 1))
                    .saturating_sub(offset);
                let mut count = bytes.len().min(fits);
                if short && count > 1 {
                    count /= 2;
                }
                if count == 0 && !bytes.is_empty() {
                    return Err(full());
                }
                file.write(offset, &bytes[..count]);
                Ok(count)
            },
        )
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(
            |_| Ok(()),
            |state, node| {
                let file = state.tree.file(node);
                let offset = usize::try_from(offset)
                    .expect("a small file")
                    .min(file.data.len());
                let count = into.len().min(file.data.len() - offset);
                let count = file.readable(offset, count)?;
                into[..count].copy_from_slice(&file.data[offset..offset + count]);
                Ok(count)
            },
        )
    }

    fn size(&self) -> io::Result<u64> {
        self.with(
            |_| Ok(()),
            |state, node| Ok(state.tree.file(node).data.len() as u64),
        )
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(
            |state| state.step(false),
            |state, node| {
                state
                    .tree
                    .file(node)
                    .set_len(usize::try_from(len).expect("a small file"));
                Ok(())
            },
        )
    }

    fn sync(&self) -> io::Result<()> {
        self.with(
            |state| state.step(false),
            |state, node| {
                let number = state.syncs;
                state.syncs += 1;
                let fails = state.fail_sync_at == Some(number);
                let file = state.tree.file(node);
                if fails {
                    // The kernel marks the pages clean: they are never written.
                    file.dirty.clear();
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                file.sync();
                Ok(())
            },
        )
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.with(
            |state| state.step(true),
            |state, node| {
                let room = state.capacity.saturating_sub(state.tree.used());
                let wanted = usize::try_from(offset + len).expect("a small file");
                let file = state.tree.file(node);
                let held = file.allocated.max(file.data.len());
                let got = wanted.min(held + usize::try_from(room).unwrap_or(usize::MAX >> 1));
                // As ext4 does: what was found stays allocated even when it is not enough.
                file.allocated = held.max(got);
                if got < wanted { Err(full()) } else { Ok(()) }
            },
        )
    }

    fn start_writeback(&self, _offset: u64, _len: u64) -> io::Result<()> {
        self.with(|_| Ok(()), |_, _| Ok(()))
    }

    fn map(&self, capacity: usize, end: Arc<PublishedEnd>) -> io::Result<Region> {
        self.with(
            |_| Ok(()),
            |state, node| {
                let file = state.tree.file(node);
                assert!(
                    end.load() <= file.data.len() as u64,
                    "published past the file's end"
                );
                let bytes = HeapBytes::fill(capacity, &file.data, end.clone());
                let bytes = Arc::new(bytes.without(file.unreadable.clone()));
                file.maps.push(Arc::downgrade(&bytes));
                Ok(Region::heap(bytes, end))
            },
        )
    }
}
