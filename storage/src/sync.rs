//! The atomics that readers and the writer of a log meet on.
//!
//! The publish protocol: the writer puts bytes into the file, then stores the new end with
//! Release; a reader loads the end with Acquire and touches nothing at or past it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::types::Offset;

/// End of the bytes of one file that readers may touch; only ever grows.
#[derive(Debug, Default)]
pub struct PublishedEnd(AtomicU64);

impl PublishedEnd {
    /// Starts with `end` bytes already in the file.
    pub fn new(end: u64) -> Self {
        Self(AtomicU64::new(end))
    }

    /// Bytes that may be read; they are visible to whoever calls this.
    pub fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Shows the bytes below `end` to readers.
    pub fn publish(&self, end: u64) {
        let before = self.0.swap(end, Ordering::Release);
        assert!(
            before <= end,
            "published end went back from {before} to {end}"
        );
    }
}

/// An offset that several threads read and one writes.
#[derive(Debug)]
pub(crate) struct AtomicOffset(AtomicI64);

impl AtomicOffset {
    pub(crate) fn new(offset: Offset) -> Self {
        Self(AtomicI64::new(offset.value()))
    }

    pub(crate) fn load(&self) -> Offset {
        Offset::new(self.0.load(Ordering::Acquire))
    }

    pub(crate) fn store(&self, offset: Offset) {
        self.0.store(offset.value(), Ordering::Release);
    }

    /// Raises the offset; answers the value before.
    pub(crate) fn raise(&self, offset: Offset) -> Offset {
        Offset::new(self.0.fetch_max(offset.value(), Ordering::AcqRel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_end_shows_what_was_written_before_it() {
        let end = std::sync::Arc::new(PublishedEnd::default());
        let data = std::sync::Arc::new(AtomicU64::new(0));
        let writer = {
            let (end, data) = (end.clone(), data.clone());
            std::thread::spawn(move || {
                for n in 1..=1000 {
                    data.store(n, Ordering::Relaxed);
                    end.publish(n);
                }
            })
        };
        loop {
            let seen = end.load();
            assert!(data.load(Ordering::Relaxed) >= seen);
            if seen == 1000 {
                break;
            }
        }
        writer.join().unwrap();
    }

    #[test]
    #[should_panic(expected = "went back")]
    fn published_end_never_goes_back() {
        let end = PublishedEnd::new(10);
        end.publish(9);
    }
}
