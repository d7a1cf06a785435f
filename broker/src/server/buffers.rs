//! A pool of equal buffers, so that only connections with bytes under way hold one.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;

/// Hands out buffers of one size and takes them back.
#[derive(Clone, Debug)]
pub(crate) struct BufferPool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    size: usize,
    keep: usize,
    free: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer on loan; it returns to its pool on drop.
///
/// Its old content belongs to whoever had it before: readers look only at what they wrote.
pub(crate) struct Pooled {
    bytes: Box<[u8]>,
    home: Option<Arc<Pool>>,
}

impl BufferPool {
    /// A pool of buffers of `size` bytes that keeps at most `keep` idle ones.
    pub(crate) fn new(size: usize, keep: usize) -> Self {
        BufferPool(Arc::new(Pool {
            size,
            keep,
            free: Mutex::new(Vec::new()),
        }))
    }

    /// A buffer, reused when one is idle.
    pub(crate) fn take(&self) -> Pooled {
        let reused = self.0.free.lock().pop();
        Pooled {
            bytes: reused.unwrap_or_else(|| vec![0; self.0.size].into_boxed_slice()),
            home: Some(Arc::clone(&self.0)),
        }
    }
}

impl Pooled {
    /// A buffer of `size` bytes that belongs to no pool and is freed on drop.
    pub(crate) fn lone(size: usize) -> Self {
        Pooled {
            bytes: vec![0; size].into_boxed_slice(),
            home: None,
        }
    }
}

impl Deref for Pooled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let mut free = home.free.lock();
            if free.len() < home.keep {
                free.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

impl std::fmt::Debug for Pooled {
    // Never the content: it may hold what a client sent before it logged in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pooled({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_reused_and_the_pool_is_bounded() {
        let pool = BufferPool::new(16, 1);
        let (a, b) = (pool.take(), pool.take());
        drop((a, b));
        assert_eq!(pool.0.free.lock().len(), 1);
        let again = pool.take();
        assert_eq!(again.len(), 16);
        assert!(pool.0.free.lock().is_empty());
    }
}
