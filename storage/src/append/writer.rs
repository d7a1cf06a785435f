//! What the append lock guards.

use std::sync::Arc;

use crate::fs::FsFile;
use crate::producer_state::ProducerStates;
use crate::segment::Segment;
use crate::segment_index::SegmentIndex;

/// What the append lock guards.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) active: Arc<Segment>,
    pub(crate) file: Arc<dyn FsFile>,
    pub(crate) index: Arc<SegmentIndex>,
    /// End of the active segment, in bytes.
    pub(crate) position: u64,
    pub(crate) since_index: u32,
    pub(crate) producers: ProducerStates,
    /// A roll, truncation or close owns the end of the log: appends wait.
    pub(crate) exclusive: bool,
    /// A roll that a timer asked for stands in the disk thread's queue.
    pub(crate) roll_queued: bool,
    /// Such a roll of this segment has failed, which was told.
    pub(crate) roll_failed: bool,
    pub(crate) allocation: Allocation,
    pub(super) written_back: u64,
}

/// Blocks allocated ahead of the end of the active segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allocation {
    /// Blocks exist up to here.
    pub(crate) end: u64,
    pub(crate) step: u64,
    pub(crate) under_way: bool,
    /// The disk refused: no more for this segment.
    pub(crate) refused: bool,
}

impl Writer {
    pub(crate) fn new(
        active: Arc<Segment>,
        file: Arc<dyn FsFile>,
        index: Arc<SegmentIndex>,
        since_index: u32,
        producers: ProducerStates,
    ) -> Self {
        let position = active.tail().position;
        Self {
            active,
            file,
            index,
            position,
            since_index,
            producers,
            exclusive: false,
            roll_queued: false,
            roll_failed: false,
            allocation: Allocation {
                end: position,
                ..Allocation::default()
            },
            written_back: position,
        }
    }

    /// Turns to a new active segment.
    pub(crate) fn switch(
        &mut self,
        active: Arc<Segment>,
        file: Arc<dyn FsFile>,
        index: Arc<SegmentIndex>,
        since_index: u32,
    ) {
        let producers = std::mem::take(&mut self.producers);
        *self = Self::new(active, file, index, since_index, producers);
    }
}
