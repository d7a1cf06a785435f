//! What a cleaner must know of transactions and producers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Halt;
use crate::batch::BatchHeader;
use crate::error::StorageError;
use crate::log::Log;
use crate::recovery::replay_aborted;
use crate::seal::Seal;
use crate::segment::Segment;
use crate::segment_index::{self, MemoryIndex, SegmentIndex};
use crate::txn_index::AbortedTxn;
use crate::types::{Offset, ProducerEpoch, ProducerId};

/// The aborted transactions of a log, and the batches its producers are known by.
pub(super) struct Transactions {
    /// First offset and marker's offset of each aborted transaction, ascending.
    aborted: HashMap<ProducerId, Vec<(Offset, Offset)>>,
    remembered: HashMap<ProducerId, Remembered>,
    /// Producers with data of a transaction whose marker has not been passed yet.
    open: HashSet<ProducerId>,
}

/// The batches that the state of a producer names.
struct Remembered {
    epoch: ProducerEpoch,
    last_offsets: Vec<Offset>,
}

impl Transactions {
    /// Collects what bears on offsets below `end`, all of which is stable.
    pub(super) fn of(log: &Log, end: Offset) -> Result<Self, Halt> {
        let mut aborted: HashMap<ProducerId, Vec<(Offset, Offset)>> = HashMap::new();
        // A transaction is listed where its marker stands: any segment from its data on.
        for segment in log.segments.load_full().iter() {
            let listed = match segment.seal_info().filter(|_| segment.is_sealed()) {
                Some(seal) => aborted_in(log, segment, &seal)?,
                None => segment.index()?.aborted(),
            };
            for txn in listed.into_iter().filter(|txn| txn.first_offset < end) {
                let ranges = aborted.entry(txn.producer_id).or_default();
                ranges.push((txn.first_offset, txn.last_offset));
            }
        }
        aborted
            .values_mut()
            .for_each(|ranges| ranges.sort_unstable());
        let remembered = log
            .lock_writer()
            .producers
            .iter()
            .map(|(id, entry)| {
                let last_offsets = entry.batches().map(|batch| batch.last_offset).collect();
                let epoch = entry.epoch;
                (
                    id,
                    Remembered {
                        epoch,
                        last_offsets,
                    },
                )
            })
            .collect();
        Ok(Self {
            aborted,
            remembered,
            open: HashSet::new(),
        })
    }

    /// True for data of a transaction that was aborted.
    pub(super) fn is_aborted(&self, header: &BatchHeader) -> bool {
        if !header.is_transactional() || header.is_control() {
            return false;
        }
        let Some(ranges) = self.aborted.get(&header.producer_id) else {
            return false;
        };
        let after = ranges.partition_point(|(first, _)| *first <= header.base_offset);
        after
            .checked_sub(1)
            .and_then(|n| ranges.get(n))
            .is_some_and(|(_, marker)| header.base_offset <= *marker)
    }

    /// True for a batch that the state of its producer is made of: it may lose its records, but
    /// not its place.
    pub(super) fn is_remembered(&self, header: &BatchHeader) -> bool {
        let Some(producer) = self.remembered.get(&header.producer_id) else {
            return false;
        };
        if producer.last_offsets.is_empty() {
            header.is_control() && header.producer_epoch == producer.epoch
        } else {
            producer.last_offsets.contains(&header.last_offset())
        }
    }

    /// Passes data of a transaction.
    pub(super) fn pass_data(&mut self, header: &BatchHeader) {
        if header.is_transactional() {
            self.open.insert(header.producer_id);
        }
    }

    /// Passes a marker; true when nothing of its transaction is left before it.
    pub(super) fn pass_marker(&mut self, header: &BatchHeader) -> bool {
        !self.open.remove(&header.producer_id)
    }
}

/// The transactions aborted in a sealed segment.
///
/// One that is missed makes aborted records look committed, which would then replace what was
/// committed before them. So where the file is lost, what the records tell counts only if it is
/// what the seal names; the file is then written again.
fn aborted_in(
    log: &Log,
    segment: &Arc<Segment>,
    seal: &Seal,
) -> Result<Vec<AbortedTxn>, StorageError> {
    let fs = &*log.shared.fs;
    if let Some(stored) = segment_index::stored_aborted(fs, &segment.path, seal) {
        return Ok(stored);
    }
    let replayed = MemoryIndex::default();
    replay_aborted(fs, segment, &*segment.region()?, &replayed)?;
    let aborted = SegmentIndex::Memory(replayed).aborted();
    if !segment_index::are_sealed(&aborted, seal) {
        return Err(unknown_aborts(segment, seal));
    }
    let path = segment.path.display();
    // Another log may have the name once this segment has left the list.
    let _maintenance = log.maintenance.lock();
    if log.listed_seal(segment).is_some() {
        match segment_index::restore_aborted(fs, &segment.path, &aborted) {
            Ok(()) => tracing::warn!(%path, "transaction index made again from the records"),
            // This pass ends where it would replace the segment; the next does the same work.
            Err(error) => tracing::warn!(%path, %error, "transaction index not written again"),
        }
    }
    Ok(aborted)
}

/// Nobody knows any more which transactions were aborted in a sealed segment.
fn unknown_aborts(segment: &Segment, seal: &Seal) -> StorageError {
    StorageError::Corrupt {
        from: segment.base,
        to: seal.next_offset,
        path: segment.path.with_extension("txnindex").into(),
        reason: "the transaction index does not verify and cannot be made from the records",
    }
}

/// The entries of the inputs' transaction indexes whose markers stay.
///
/// An entry must not outlive its marker: a consumer would wait for it, and drop what the producer
/// has committed since.
pub(super) fn kept_entries(listed: Vec<AbortedTxn>, dropped: &HashSet<Offset>) -> Vec<AbortedTxn> {
    listed
        .into_iter()
        .filter(|txn| !dropped.contains(&txn.last_offset))
        .collect()
}
