//! The last steps of recovery: syncing what was found, epochs, producers, and the log itself.

use std::io::ErrorKind;
use std::ops::Range;

use super::{Recovery, RecoveryReport, replay_producers};
use crate::append::Writer;
use crate::batch::Found;
use crate::damage::{Hurdle, Known};
use crate::epoch_cache::EpochCache;
use crate::error::StorageError;
use crate::failpoint;
use crate::fs::{FsFile, keeping_age, write_all_at};
use crate::log::{EPOCH_FILE, LogParts};
use crate::producer_state::snapshot;
use crate::types::{Offset, TopicId};

/// Bytes written again at a time.
const REWRITE_STEP: u64 = 1 << 20;

impl Recovery<'_> {
    /// Brings everything that was recovered to stable storage before it is served.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        failpoint::hit("recovery.before_sync").map_err(self.io("sync"))?;
        let end = self
            .segments
            .last()
            .map_or(Offset::ZERO, |last| last.tail().next);
        for entry in self
            .shared
            .fs
            .list(&self.home.dir)
            .map_err(self.io("list"))?
        {
            let offset = snapshot::offset_of(&entry.name);
            if offset.is_some_and(|offset| offset > end || self.forget_producers) {
                let path = self.home.dir.join(&entry.name);
                self.shared
                    .fs
                    .remove_file(&path)
                    .map_err(self.io("remove"))?;
            }
        }
        for (file, unsynced) in &self.to_sync {
            // A sync may have failed in the last life: the kernel then calls the pages clean
            // though they are on no disk. Written again, they are dirty again.
            keeping_age(&**file, || self.write_again(&**file, unsynced.clone()))?;
            file.sync().map_err(self.io("sync"))?;
        }
        if !self.to_sync.is_empty() {
            self.shared
                .fs
                .sync_dir(&self.home.dir)
                .map_err(self.io("sync"))?;
        }
        let last = self.segments.len().saturating_sub(1);
        self.segments
            .iter()
            .take(last)
            .for_each(|segment| segment.set_synced());
        failpoint::hit("recovery.after_sync").map_err(self.io("sync"))
    }

    /// Writes the bytes of a range as they are.
    fn write_again(&self, file: &dyn FsFile, range: Range<u64>) -> Result<(), StorageError> {
        let mut buffer = vec![0; (range.end - range.start).min(REWRITE_STEP) as usize];
        let mut at = range.start;
        while at < range.end {
            let want = ((range.end - at) as usize).min(buffer.len());
            let chunk = buffer.get_mut(..want).unwrap_or_default();
            // One file that cannot be read says nothing of those of other logs.
            let count = match file.read_at(chunk, at).map_err(self.io("read"))? {
                0 => Err(self.io("read")(ErrorKind::UnexpectedEof.into()))?,
                count => count,
            };
            let read = chunk.get(..count).unwrap_or_default();
            write_all_at(file, read, at).map_err(self.io("write"))?;
            at += count as u64;
        }
        Ok(())
    }

    fn load_epochs(&mut self, start: Offset, end: Offset) -> Result<EpochCache, StorageError> {
        let path = self.home.dir.join(EPOCH_FILE);
        let mut epochs = match EpochCache::load(&*self.shared.fs, &path) {
            Ok(Some(epochs)) => epochs,
            // Below the recovery point no batch has been looked at.
            Ok(None) if start < self.recovery_point => self.walk_epochs()?,
            Ok(None) => EpochCache::default(),
            Err(StorageError::BadFile { reason, .. }) => {
                tracing::warn!(log = self.name, reason, "leader epochs rebuilt by scanning");
                self.walk_epochs()?
            }
            Err(error) => return Err(error),
        };
        // Above the recovery point only the batches count, below it what was stored.
        epochs.truncate_from_end(self.recovery_point.min(end));
        let stored = epochs.latest();
        for (epoch, offset) in &self.epochs {
            if *offset >= self.recovery_point || stored < Some(*epoch) {
                epochs.assign(*epoch, *offset);
            }
        }
        epochs.truncate_from_end(end);
        epochs.truncate_from_start(start);
        Ok(epochs)
    }

    fn walk_epochs(&self) -> Result<EpochCache, StorageError> {
        let mut epochs = EpochCache::default();
        for segment in &self.segments {
            let region = segment.region()?;
            let tail = segment.tail();
            let known = Known::of(&self.damage, &segment.path);
            let mut walk = known.walk(&region, 0, segment.base, tail);
            while let Some(step) = walk.next() {
                match step {
                    Ok(Found { header, .. }) => {
                        epochs.assign(header.partition_leader_epoch, header.base_offset);
                    }
                    Err(Hurdle::Known(_)) => {}
                    Err(Hurdle::Fresh(_)) => break,
                }
            }
        }
        Ok(epochs)
    }

    pub(super) fn finish(
        mut self,
        topic_id: TopicId,
        stored_start: Offset,
    ) -> Result<(LogParts, RecoveryReport), StorageError> {
        let first = self
            .segments
            .first()
            .map_or(Offset::ZERO, |segment| segment.base);
        let active = self
            .segments
            .last()
            .cloned()
            .expect("make_active saw to one");
        let (file, since_index) = self.active.take().expect("make_active saw to one");
        let end = active.tail().next;
        let missing = self
            .damage
            .iter()
            .map(|range| range.from)
            .min()
            .unwrap_or(first);
        let start = stored_start.max(first.min(missing));
        let epochs = self.load_epochs(start, end)?;
        let newest = self.replay_from.unwrap_or(end).min(end);
        // From the first file, not from the log start: deleted records leave their producers known.
        let (mut producers, met) = replay_producers(
            &self.home,
            &self.segments,
            &self.damage,
            (first, newest, end),
        )?;
        let served = met.into_iter().filter(|range| range.to > start);
        self.damage.extend(served);
        let passed = self.segments.iter().take_while(|segment| {
            segment.is_sealed() && segment.tail().next <= newest && segment.base < active.base
        });
        let passed: Vec<_> = passed.cloned().collect();
        snapshot::remove_inside(&*self.shared.fs, &self.home.dir, &passed);
        producers.expire(self.now, self.config.producer_id_expiration_ms);
        let marked = self
            .shared
            .high_watermarks
            .get(self.name, topic_id)
            .unwrap_or(start);
        self.report.high_watermark = marked.clamp(start, end);
        self.report.damaged_ranges = self.damage.len();
        self.damage.iter().for_each(|range| range.report(self.name));
        let index = active
            .memory_index()
            .expect("an opened segment has its index in memory");
        let parts = LogParts {
            name: self.name.to_owned(),
            topic_id,
            home: self.home,
            config: self.config.clone(),
            segments: self.segments,
            start,
            stored_start: start,
            end,
            durable: end,
            high_watermark: self.report.high_watermark,
            epochs,
            damage: self.damage,
            writer: Writer::new(active, file, index, since_index, producers),
        };
        Ok((parts, self.report))
    }
}
