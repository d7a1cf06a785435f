//! Leader epoch -> first offset of that epoch (KIP-101, KIP-279).
//!
//! Stored in `leader-epoch-checkpoint`, a small text file: `version=1`, then one line per epoch,
//! `<epoch> <start offset>`, both ascending. An epoch that begins at the log end, of which there is
//! no batch yet, is not in it: every start of a node begins one in each of its logs.

use std::fmt::Write as _;
use std::path::Path;

use crate::durable::{self, check_version, read_small_text};
use crate::error::StorageError;
use crate::fs::Fs;
use crate::log::EpochEnd;
use crate::types::{LeaderEpoch, Offset};

/// Format version written and read.
const VERSION: u32 = 1;

/// The epochs of one log, oldest first; epochs and starts both ascend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EpochCache {
    entries: Vec<Entry>,
    /// What the file holds.
    stored: Vec<Entry>,
}

/// An epoch and its first offset.
type Entry = (LeaderEpoch, Offset);

impl EpochCache {
    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// Enters an epoch that starts at `start`; entries it contradicts go.
    ///
    /// An epoch at or below the latest one changes nothing, unless it starts below the latest
    /// start, which only a replica that has truncated and re-reads can see.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if epoch.value() < 0 {
            return;
        }
        if let Some((latest, latest_start)) = self.entries.last().copied() {
            if epoch == latest || (epoch < latest && start >= latest_start) {
                return;
            }
            self.entries.retain(|(e, s)| *e < epoch && *s < start);
        }
        self.entries.push((epoch, start));
    }

    /// Answers OffsetForLeaderEpoch (records page, §8.6).
    pub(crate) fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> EpochEnd {
        if epoch == LeaderEpoch::NONE {
            return EpochEnd::Unknown;
        }
        if self.latest() == Some(epoch) {
            return EpochEnd::Known {
                epoch,
                end: log_end,
            };
        }
        let higher = self.entries.partition_point(|(e, _)| *e <= epoch);
        let Some((_, end)) = self.entries.get(higher) else {
            return EpochEnd::Unknown;
        };
        let found = higher.checked_sub(1).and_then(|n| self.entries.get(n));
        EpochEnd::Known {
            epoch: found.map_or(epoch, |(e, _)| *e),
            end: *end,
        }
    }

    /// Epoch of the record at `offset`.
    pub(crate) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let above = self.entries.partition_point(|(_, start)| *start <= offset);
        above
            .checked_sub(1)
            .and_then(|n| self.entries.get(n))
            .map(|(epoch, _)| *epoch)
    }

    /// Drops the epochs that start at or above `end`.
    pub(crate) fn truncate_from_end(&mut self, end: Offset) {
        self.entries.retain(|(_, start)| *start < end);
    }

    /// Drops the epochs that ended at or below `start`; the one in force there then starts at it.
    pub(crate) fn truncate_from_start(&mut self, start: Offset) {
        let above = self.entries.partition_point(|(_, s)| *s <= start);
        if let Some(last) = above.checked_sub(1) {
            self.entries.drain(..last);
            if let Some(first) = self.entries.first_mut() {
                first.1 = start;
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// What the file should hold of a log that ends at `end`; `None` where it does.
    pub(crate) fn unstored(&self, end: Offset) -> Option<Vec<Entry>> {
        let entries = self.entries.iter().filter(|(_, start)| *start < end);
        let entries: Vec<Entry> = entries.copied().collect();
        (entries != self.stored).then_some(entries)
    }

    /// The file holds these now.
    pub(crate) fn set_stored(&mut self, entries: Vec<Entry>) {
        self.stored = entries;
    }

    /// Reads the stored epochs; `None` where there is no file.
    ///
    /// # Errors
    /// `BadFile` when it does not verify, or its bytes cannot be read; `FormatTooNew`, `Io`.
    pub(crate) fn load(fs: &dyn Fs, path: &Path) -> Result<Option<Self>, StorageError> {
        let mut cache = Self::default();
        let text = match read_small_text(fs, path) {
            // The batches say the same, as where the file is damaged.
            Err(error) if error.is_failed_read() => {
                return Err(StorageError::BadFile {
                    path: path.to_owned(),
                    reason: "cannot be read",
                });
            }
            text => text?,
        };
        let Some(text) = text else {
            return Ok(None);
        };
        for line in check_version(&text, VERSION, path)? {
            let parsed = line
                .split_once(' ')
                .and_then(|(epoch, start)| Some((epoch.parse().ok()?, start.parse().ok()?)));
            let Some((epoch, start)) = parsed else {
                let reason = "epoch line does not parse";
                return Err(StorageError::BadFile {
                    path: path.to_owned(),
                    reason,
                });
            };
            cache.assign(LeaderEpoch::new(epoch), Offset::new(start));
        }
        cache.stored.clone_from(&cache.entries);
        Ok(Some(cache))
    }
}

/// Replaces the stored epochs.
pub(crate) fn store(fs: &dyn Fs, path: &Path, entries: &[Entry]) -> Result<(), StorageError> {
    let mut text = format!("version={VERSION}\n");
    for (epoch, start) in entries {
        let _ = writeln!(text, "{epoch} {start}");
    }
    durable::write_small_file(fs, path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::FaultyFs;

    fn cache(entries: &[(i32, i64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, start) in entries {
            cache.assign(LeaderEpoch::new(*epoch), Offset::new(*start));
        }
        cache
    }

    fn known(epoch: i32, end: i64) -> EpochEnd {
        EpochEnd::Known {
            epoch: LeaderEpoch::new(epoch),
            end: Offset::new(end),
        }
    }

    #[test]
    fn ends_follow_the_rules_of_offset_for_leader_epoch() {
        let cache = cache(&[(2, 0), (5, 10), (7, 30)]);
        let end = |epoch| cache.end_of(LeaderEpoch::new(epoch), Offset::new(42));
        assert_eq!(end(7), known(7, 42), "the latest epoch ends at the log end");
        assert_eq!(end(5), known(5, 30));
        assert_eq!(end(6), known(5, 30), "an unknown epoch: the one below");
        assert_eq!(end(1), known(1, 0), "before the whole cache: itself");
        assert_eq!(end(8), EpochEnd::Unknown);
        assert_eq!(end(-1), EpochEnd::Unknown);
        assert_eq!(end(-2), known(-2, 0), "as in Kafka");
        assert_eq!(
            EpochCache::default().end_of(LeaderEpoch::new(0), Offset::ZERO),
            EpochEnd::Unknown
        );
    }

    #[test]
    fn offsets_belong_to_the_epoch_that_covers_them() {
        let cache = cache(&[(2, 5), (5, 10)]);
        assert_eq!(cache.at(Offset::new(4)), None);
        assert_eq!(cache.at(Offset::new(9)), Some(LeaderEpoch::new(2)));
        assert_eq!(cache.at(Offset::new(99)), Some(LeaderEpoch::new(5)));
    }

    #[test]
    fn both_ends_truncate() {
        let mut a = cache(&[(2, 0), (5, 10), (7, 30)]);
        a.truncate_from_end(Offset::new(30));
        assert_eq!(a.entries, cache(&[(2, 0), (5, 10)]).entries);
        a.truncate_from_start(Offset::new(12));
        assert_eq!(a.entries, cache(&[(5, 12)]).entries);
        a.truncate_from_start(Offset::new(3));
        assert_eq!(a.entries, cache(&[(5, 12)]).entries);
    }

    #[test]
    fn an_epoch_without_records_is_replaced_by_the_next_at_its_start() {
        let mut cache = cache(&[(2, 0), (3, 10)]);
        cache.assign(LeaderEpoch::new(4), Offset::new(10));
        assert_eq!(cache.at(Offset::new(10)), Some(LeaderEpoch::new(4)));
        assert_eq!(cache.entries.len(), 2);
        cache.assign(LeaderEpoch::new(3), Offset::new(12));
        assert_eq!(
            cache.latest(),
            Some(LeaderEpoch::new(4)),
            "an older epoch changes nothing"
        );
    }

    #[test]
    fn entries_are_stored() {
        let fs = FaultyFs::new();
        let path = Path::new("/leader-epoch-checkpoint");
        assert_eq!(EpochCache::load(&fs, path).unwrap(), None);
        let mut cache = cache(&[(2, 0), (5, 10)]);
        let with_batches = cache.unstored(Offset::new(10)).unwrap();
        assert_eq!(with_batches.len(), 1, "no batch of epoch 5");
        let both = cache.unstored(Offset::new(11)).unwrap();
        store(&fs, path, &both).unwrap();
        cache.set_stored(both);
        assert_eq!(cache.unstored(Offset::new(11)), None);
        assert_eq!(EpochCache::load(&fs, path).unwrap(), Some(cache));
    }
}
