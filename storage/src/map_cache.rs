//! Keeps the number of mapped sealed segments below the process's limits.
//!
//! A second-chance queue: a segment touched since its last turn stays for another round.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::segment::Segment;

/// Mapped sealed segments of one log directory.
#[derive(Debug)]
pub(crate) struct MapCache {
    limit: usize,
    queue: Mutex<VecDeque<Weak<Segment>>>,
}

impl MapCache {
    /// A cache of at most `limit` segments; `None` asks the process's limits.
    pub(crate) fn new(limit: Option<usize>) -> Self {
        let limit = limit.unwrap_or_else(default_limit).max(1);
        Self {
            limit,
            queue: Mutex::default(),
        }
    }

    /// How many segments may be mapped.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes in a segment of which something has just been mapped, or that was sealed.
    pub(crate) fn add(&self, segment: &Arc<Segment>) {
        let mut evicted = None;
        {
            let mut queue = self.queue.lock();
            queue.push_back(Arc::downgrade(segment));
            let mut turns = queue.len();
            while queue.len() > self.limit && turns > 0 {
                turns -= 1;
                let Some(oldest) = queue.pop_front().and_then(|weak| weak.upgrade()) else {
                    continue;
                };
                let keep = oldest.touched.swap(false, Ordering::Relaxed) && turns > 0;
                if keep {
                    queue.push_back(Arc::downgrade(&oldest));
                } else {
                    evicted = Some(oldest);
                    break;
                }
            }
        }
        // Unmapping takes long enough to do it outside the lock.
        if let Some(segment) = evicted {
            segment.evict();
        }
    }

    /// Gives back every mapping.
    pub(crate) fn evict_all(&self) {
        let all = std::mem::take(&mut *self.queue.lock());
        all.iter()
            .filter_map(Weak::upgrade)
            .for_each(|segment| segment.evict());
    }
}

/// A quarter of the mappings that the process may have, and an eighth of the descriptors, which
/// partitions and connections need as well; three of each per segment.
fn default_limit() -> usize {
    let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok())
        .unwrap_or(65_530);
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX);
    (maps / 4 / 3).min(files / 8 / 3)
}
