//! A vector that one thread appends to while others read, without locks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Entries of the first chunk; each next chunk is twice as large.
const FIRST: usize = 64;
const CHUNKS: usize = 26;

/// Numbers in order of appending; entries never move and never change.
#[derive(Debug, Default)]
pub(crate) struct AppendVec {
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
    len: AtomicUsize,
}

impl AppendVec {
    /// Entries that may be read.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// The entry at `index`; 0 past the end.
    pub(crate) fn get(&self, index: usize) -> u64 {
        let (chunk, slot) = place(index);
        self.chunks
            .get(chunk)
            .and_then(OnceLock::get)
            .and_then(|slots| slots.get(slot))
            .map_or(0, |entry| entry.load(Ordering::Relaxed))
    }

    /// Appends one entry; only one thread at a time may do so (the append lock sees to it).
    pub(crate) fn push(&self, value: u64) {
        let index = self.len.load(Ordering::Relaxed);
        let (chunk, slot) = place(index);
        let slots = self.chunks[chunk]
            .get_or_init(|| (0..FIRST << chunk).map(|_| AtomicU64::new(0)).collect());
        slots[slot].store(value, Ordering::Relaxed);
        self.len.store(index + 1, Ordering::Release);
    }
}

fn place(index: usize) -> (usize, usize) {
    let shifted = index + FIRST;
    let chunk = (shifted.ilog2() - FIRST.ilog2()) as usize;
    (chunk, shifted - (FIRST << chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_places() {
        let vec = AppendVec::default();
        for n in 0..10_000u64 {
            vec.push(n * 3);
        }
        assert_eq!(vec.len(), 10_000);
        assert!((0..10_000).all(|n| vec.get(n) == n as u64 * 3));
        assert_eq!(vec.get(20_000), 0);
    }

    #[test]
    fn readers_see_whole_prefixes() {
        let vec = AppendVec::default();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..5000).for_each(|n| vec.push(n + 1)));
            scope.spawn(|| {
                loop {
                    let len = vec.len();
                    assert!((0..len).all(|n| vec.get(n) == n as u64 + 1));
                    if len == 5000 {
                        break;
                    }
                }
            });
        });
    }
}
