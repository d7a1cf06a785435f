//! Comparing sealed segments with their seals (storage page, §10).
//!
//! Reads do not recompute checksums; this pass does, slowly and out of the way.

use std::sync::Arc;

use crate::batch::Walk;
use crate::error::StorageError;
use crate::log::{DamagedRange, Log};
use crate::roll::checksum;
use crate::segment::Segment;
use crate::types::Offset;

impl Log {
    /// Re-reads all sealed segments; blocks for as long as that takes. Answers the number of
    /// damaged ranges found, which reads then refuse with `Corrupt`.
    ///
    /// # Errors
    /// `Io` when a segment cannot be read at all.
    pub fn scrub(&self) -> Result<usize, StorageError> {
        let before = self.damage.load().len();
        for segment in self.segments.load_full().iter() {
            let Some(seal) = segment.seal_info().filter(|_| segment.is_sealed()) else {
                continue;
            };
            if checksum(segment, seal.size)? != seal.log_crc {
                self.find_damage(segment)?;
            }
        }
        Ok(self.damage.load().len().saturating_sub(before))
    }

    /// Notes the batches of a segment that do not verify.
    pub(crate) fn find_damage(&self, segment: &Arc<Segment>) -> Result<(), StorageError> {
        let (region, index) = (segment.region()?, segment.index()?);
        let tail = segment.tail();
        let mut walk = Walk::new(&region, 0, tail.position, segment.base).crc_from(Offset::new(-1));
        let mut entries = (0..index.len()).map(|n| index.entry(n)).peekable();
        while let Some(step) = walk.next() {
            let Err(bad) = step else { continue };
            // A header that still fits its neighbours tells where the next batch starts.
            let mut alone = Walk::new(&region, bad.position, tail.position, bad.offset);
            let (end, to) = match alone.next() {
                Some(Ok(found)) if found.header.base_offset == bad.offset => {
                    (found.end(), found.next)
                }
                _ => {
                    while entries
                        .next_if(|e| u64::from(e.position) <= bad.position)
                        .is_some()
                    {}
                    entries.peek().map_or((tail.position, tail.next), |entry| {
                        let offset = segment.base.value() + i64::from(entry.relative);
                        (u64::from(entry.position), Offset::new(offset))
                    })
                }
            };
            let path = segment.path.clone();
            let (start, reason) = (bad.position, bad.reason);
            self.note_damage(DamagedRange {
                from: bad.offset,
                to,
                path,
                start,
                end,
                reason,
            });
            if end >= tail.position {
                break;
            }
            walk.resume(end, to);
        }
        Ok(())
    }
}
