//! What is remembered of each idempotent or transactional producer (KIP-98, KIP-360, KIP-890).
//!
//! The last five batches of a producer are kept, as clients keep at most five requests in flight;
//! all five survive a restart ([`snapshot`]).

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::batch::BatchHeader;
use crate::error::StorageError;
use crate::txn_index::AbortedTxn;
use crate::types::{Offset, ProducerEpoch, ProducerId, TimestampMs};

pub(crate) mod snapshot;
#[cfg(test)]
mod tests;

/// Batches remembered per producer.
pub(crate) const WINDOW: usize = 5;

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchMeta {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) first_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) timestamp: TimestampMs,
}

/// What is known of one producer; batches oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerEntry {
    pub(crate) epoch: ProducerEpoch,
    pub(crate) coordinator_epoch: i32,
    pub(crate) txn_first_offset: Option<Offset>,
    pub(crate) last_timestamp: TimestampMs,
    batches: [Option<BatchMeta>; WINDOW],
}

/// Verdict on a batch before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Duplicate(BatchMeta),
}

/// A transaction marker, as its control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) commit: bool,
    pub(crate) coordinator_epoch: i32,
}

/// A transaction that has ended, until its marker lies below the high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EndedTxn {
    first_offset: Offset,
    marker_offset: Offset,
}

/// All producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerStates {
    producers: HashMap<ProducerId, ProducerEntry>,
    /// First offsets of the open transactions.
    open: BTreeMap<Offset, ProducerId>,
    ended: VecDeque<EndedTxn>,
}

impl ProducerEntry {
    fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            txn_first_offset: None,
            last_timestamp: TimestampMs::new(-1),
            batches: [None; WINDOW],
        }
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &BatchMeta> {
        self.batches.iter().flatten()
    }

    fn last_sequence(&self) -> Option<i32> {
        self.batches().last().map(|batch| batch.last_sequence)
    }

    fn remember(&mut self, batch: BatchMeta) {
        if self.batches.iter().all(Option::is_some) {
            self.batches.rotate_left(1);
            self.batches[WINDOW - 1] = Some(batch);
        } else if let Some(free) = self.batches.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(batch);
        }
    }
}

/// Sequence after `sequence`, wrapping from the largest to 0.
fn next_sequence(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

impl ProducerStates {
    /// Judges a client's batch; changes nothing.
    pub(crate) fn judge(&self, header: &BatchHeader) -> Result<Verdict, StorageError> {
        let producer_id = header.producer_id;
        let found = header.base_sequence;
        let wrong = |expected| StorageError::OutOfOrderSequence {
            producer_id,
            found,
            expected,
        };
        let Some(entry) = self.producers.get(&producer_id) else {
            return Ok(Verdict::Accept);
        };
        if header.producer_epoch < entry.epoch {
            let (found, current) = (header.producer_epoch, entry.epoch);
            return Err(StorageError::InvalidProducerEpoch {
                producer_id,
                found,
                current,
            });
        }
        if header.producer_epoch > entry.epoch {
            if found != 0 {
                return Err(wrong(Some(0)));
            }
        } else {
            let last = header.last_sequence();
            if let Some(batch) = entry
                .batches()
                .find(|batch| batch.first_sequence == found && batch.last_sequence == last)
            {
                return Ok(Verdict::Duplicate(*batch));
            }
            let expected = entry.last_sequence().map_or(0, next_sequence);
            if found != expected {
                return Err(wrong(Some(expected)));
            }
        }
        if entry.txn_first_offset.is_some() && !header.is_transactional() {
            return Err(StorageError::InvalidTxnState { producer_id });
        }
        Ok(Verdict::Accept)
    }

    /// Judges a transaction marker; changes nothing.
    pub(crate) fn judge_marker(
        &self,
        header: &BatchHeader,
        marker: Marker,
    ) -> Result<(), StorageError> {
        let producer_id = header.producer_id;
        let Some(entry) = self.producers.get(&producer_id) else {
            return Ok(());
        };
        if header.producer_epoch < entry.epoch {
            let (found, current) = (header.producer_epoch, entry.epoch);
            return Err(StorageError::InvalidProducerEpoch {
                producer_id,
                found,
                current,
            });
        }
        if marker.coordinator_epoch < entry.coordinator_epoch {
            let (found, current) = (marker.coordinator_epoch, entry.coordinator_epoch);
            return Err(StorageError::TransactionCoordinatorFenced {
                producer_id,
                found,
                current,
            });
        }
        Ok(())
    }

    /// Whether a stored batch changes nothing that is remembered of its producer but the last
    /// sequence, as the next batch of a known producer does, and one of none.
    pub(crate) fn awaits(&self, header: &BatchHeader) -> bool {
        if header.producer_id.value() < 0 {
            return true;
        }
        let Some(entry) = self.producers.get(&header.producer_id) else {
            return false;
        };
        !header.is_control()
            && header.producer_epoch == entry.epoch
            && entry.last_sequence().map(next_sequence) == Some(header.base_sequence)
            && header.is_transactional() == entry.txn_first_offset.is_some()
    }

    /// Takes a stored data batch into account, unjudged.
    pub(crate) fn apply(&mut self, header: &BatchHeader, base_offset: Offset) {
        let producer_id = header.producer_id;
        let entry = self
            .producers
            .entry(producer_id)
            .or_insert_with(|| ProducerEntry::new(header.producer_epoch));
        if header.producer_epoch > entry.epoch {
            entry.epoch = header.producer_epoch;
            entry.batches = [None; WINDOW];
        }
        entry.last_timestamp = header.max_timestamp;
        entry.remember(BatchMeta {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            first_offset: base_offset,
            last_offset: Offset::new(base_offset.value() + i64::from(header.last_offset_delta)),
            timestamp: header.max_timestamp,
        });
        if header.is_transactional() && entry.txn_first_offset.is_none() {
            entry.txn_first_offset = Some(base_offset);
            self.open.insert(base_offset, producer_id);
        }
    }

    /// Takes a stored marker into account; answers the transaction it aborted.
    pub(crate) fn apply_marker(
        &mut self,
        header: &BatchHeader,
        base_offset: Offset,
        marker: Marker,
    ) -> Option<AbortedTxn> {
        let producer_id = header.producer_id;
        let entry = self
            .producers
            .entry(producer_id)
            .or_insert_with(|| ProducerEntry::new(header.producer_epoch));
        if header.producer_epoch != entry.epoch {
            entry.epoch = header.producer_epoch;
            entry.batches = [None; WINDOW];
        }
        entry.coordinator_epoch = marker.coordinator_epoch;
        entry.last_timestamp = header.max_timestamp;
        let first_offset = entry.txn_first_offset.take()?;
        self.open.remove(&first_offset);
        self.ended.push_back(EndedTxn {
            first_offset,
            marker_offset: base_offset,
        });
        (!marker.commit).then(|| AbortedTxn {
            producer_id,
            first_offset,
            last_offset: base_offset,
            last_stable_offset: self
                .open
                .keys()
                .next()
                .copied()
                .unwrap_or(Offset::new(base_offset.value() + 1)),
        })
    }

    /// First offset of the earliest transaction that is open, or ended by a marker at or above
    /// `high_watermark`.
    pub(crate) fn last_stable_bound(&mut self, high_watermark: Offset) -> Option<Offset> {
        self.ended.retain(|txn| txn.marker_offset >= high_watermark);
        let ended = self.ended.iter().map(|txn| txn.first_offset).min();
        let open = self.open.keys().next().copied();
        match (ended, open) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Whether any transaction is open, or ended but perhaps not yet below the high watermark.
    pub(crate) fn has_transactions(&self) -> bool {
        !self.open.is_empty() || !self.ended.is_empty()
    }

    /// Forgets producers that were idle for `idle_ms` at `now` and have no open transaction.
    pub(crate) fn expire(&mut self, now: TimestampMs, idle_ms: i64) {
        self.producers.retain(|_, entry| {
            entry.txn_first_offset.is_some()
                || now.value().saturating_sub(entry.last_timestamp.value()) < idle_ms
        });
    }

    /// True while `producer_id` has an open transaction in this log.
    #[cfg(test)]
    pub(crate) fn has_open_txn(&self, producer_id: ProducerId) -> bool {
        self.producers
            .get(&producer_id)
            .is_some_and(|entry| entry.txn_first_offset.is_some())
    }

    /// Number of producers remembered.
    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerEntry)> {
        self.producers.iter().map(|(id, entry)| (*id, entry))
    }

    fn restore(&mut self, producer_id: ProducerId, entry: ProducerEntry) {
        if let Some(first) = entry.txn_first_offset {
            self.open.insert(first, producer_id);
        }
        self.producers.insert(producer_id, entry);
    }
}
