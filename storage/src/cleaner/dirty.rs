//! Which part of a log may be cleaned, and whether it is worth it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::log::Log;
use crate::segment::Segment;
use crate::types::{Offset, TimestampMs};

/// One million, the unit of ratios.
const MILLION: u128 = 1_000_000;

/// How much of a log waits to be cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirtiness {
    /// Bytes that a pass has been over.
    pub clean_bytes: u64,
    /// Bytes that one may go over now.
    pub dirty_bytes: u64,
    /// Dirty share of both, in millionths.
    pub millionths: u32,
    /// The share is above `min.cleanable.dirty.ratio`, or a record above `max.compaction.lag.ms`.
    pub is_due: bool,
}

/// The part of a log that a pass is about.
pub(super) struct Dirty {
    /// Segments to be written anew, from the front of the log.
    pub(super) segments: Vec<Arc<Segment>>,
    /// Where the dirty part starts, and its end, exclusive.
    pub(super) first: Offset,
    pub(super) end: Offset,
    clean_bytes: u64,
    pub(super) bytes: u64,
}

impl Log {
    /// How much waits to be cleaned below `stable`; `None` where nothing may be: the policy is
    /// another, nothing is dirty, or the log is damaged.
    pub fn dirtiness(&self, stable: Offset, now: TimestampMs) -> Option<Dirtiness> {
        let dirty = self.dirty(stable, now).filter(|dirty| dirty.bytes > 0)?;
        let config = self.config.load();
        let total = u128::from(dirty.clean_bytes) + u128::from(dirty.bytes);
        let millionths = (u128::from(dirty.bytes) * MILLION / total.max(1)) as u32;
        let oldest = dirty
            .segments
            .iter()
            .filter(|segment| segment.tail().next > dirty.first)
            .filter_map(|segment| segment.first_timestamp())
            .filter(|time| time.value() >= 0)
            .min();
        let overdue = oldest.is_some_and(|oldest| {
            now.value().saturating_sub(oldest.value()) > config.max_compaction_lag_ms
        });
        Some(Dirtiness {
            clean_bytes: dirty.clean_bytes,
            dirty_bytes: dirty.bytes,
            millionths,
            is_due: overdue || millionths > config.min_cleanable_millionths,
        })
    }

    /// Up to where the log was cleaned before, exclusive.
    pub fn cleaned_up_to(&self) -> Offset {
        let start = self.start.load();
        self.shared
            .cleaner_points
            .get(&self.name, self.topic_id)
            .filter(|point| *point <= self.end.load())
            .map_or(start, |point| point.max(start))
    }

    pub(super) fn dirty(&self, stable: Offset, now: TimestampMs) -> Option<Dirty> {
        let config = self.config.load();
        let unfit = !config.compact
            || self.is_failed()
            || self.uncleanable.load(Ordering::Acquire)
            || !self.damage.load().is_empty();
        if unfit {
            return None;
        }
        let first = self.cleaned_up_to();
        let start = self.start.load();
        let list = self.segments.load_full();
        let youngest = now.value().saturating_sub(config.min_compaction_lag_ms);
        let mut dirty = Dirty {
            segments: Vec::new(),
            first,
            end: first,
            clean_bytes: 0,
            bytes: 0,
        };
        let sealed = list.iter().take(list.len().saturating_sub(1));
        // What is deleted and still listed could not be renamed, which a swap would have to do.
        for segment in sealed.skip_while(|segment| segment.tail().next <= start) {
            let tail = segment.tail();
            if !segment.is_sealed() || tail.next > stable {
                break;
            }
            if tail.next <= first {
                dirty.clean_bytes += tail.position;
            } else {
                if config.min_compaction_lag_ms > 0 && segment.newest().value() > youngest {
                    break;
                }
                dirty.bytes += tail.position;
                dirty.end = tail.next;
            }
            dirty.segments.push(segment.clone());
        }
        Some(dirty)
    }
}
