//! The records of a fetch: checked, decompressed, and without those that must not be seen.

use std::collections::BTreeSet;

use palisade_protocol::{
    batch::{
        BATCH_HEADER_LEN, BatchError, BatchHeader, BatchIter, Record, RecordIter, TimestampType,
        compression, verify_crc,
    },
    messages::fetch::{AbortedTransaction, PartitionData},
};
use thiserror::Error;

/// Largest decompressed batch.
const BATCH_MAX: usize = 256 << 20;

/// What is wrong with bytes that a broker sent as records.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    /// The checksum does not fit.
    #[error("the batch at offset {0} has a wrong checksum")]
    Checksum(i64),
    /// The batch or a record of it cannot be read.
    #[error("the batch at offset {offset} cannot be read: {source}")]
    Batch { offset: i64, source: BatchError },
}

/// One record and where it is.
#[derive(Clone, Debug)]
pub(super) struct Seen<'a> {
    pub(super) offset: i64,
    /// Milliseconds since 1970.
    pub(super) timestamp: i64,
    pub(super) record: Record<'a>,
}

/// Where a reader is after some records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Offset of the next record.
    pub(super) offset: i64,
    /// Leader epoch of the last one, -1 unknown.
    pub(super) leader_epoch: i32,
}

/// Shows the records from `from` on to `visit` until it says no; gives the position behind them.
///
/// # Errors
/// Damage, or what `visit` reports.
pub(super) fn read<E: From<ReadError>>(
    data: &PartitionData,
    from: Position,
    mut visit: impl FnMut(Seen<'_>) -> Result<bool, E>,
) -> Result<Position, E> {
    let mut position = from;
    let mut aborted = Aborted::new(data.aborted_transactions.as_deref().unwrap_or_default());
    let bytes = data.records.as_ref().map_or(&[][..], |all| all.as_bytes());
    for item in BatchIter::new(bytes) {
        let (header, batch) = match item {
            Ok(item) => item,
            // Brokers may cut the last batch off where the answer is full.
            Err(BatchError::Truncated { .. }) if position != from => break,
            Err(source) => {
                let offset = position.offset;
                return Err(ReadError::Batch { offset, source }.into());
            }
        };
        if !verify_crc(batch) {
            return Err(ReadError::Checksum(header.base_offset.value()).into());
        }
        let next = header.next_offset().value();
        if next <= position.offset {
            continue;
        }
        if !aborted.hides(&header, batch) && !read_batch(&header, batch, &mut position, &mut visit)?
        {
            return Ok(position);
        }
        if next > position.offset {
            position = Position {
                offset: next,
                leader_epoch: header.partition_leader_epoch.value(),
            };
        }
    }
    Ok(position)
}

/// Shows those records of one batch that `position` has not passed, and moves it behind each. False
/// when `visit` said no.
///
/// # Errors
/// Damage, or what `visit` reports.
fn read_batch<E: From<ReadError>>(
    header: &BatchHeader,
    batch: &[u8],
    position: &mut Position,
    visit: &mut impl FnMut(Seen<'_>) -> Result<bool, E>,
) -> Result<bool, E> {
    let base = header.base_offset.value();
    let failed = |source| ReadError::Batch {
        offset: base,
        source,
    };
    let section = batch.get(BATCH_HEADER_LEN..).unwrap_or_default();
    let codec = header.codec().map_err(failed)?;
    let section = compression::decompress(codec, section, BATCH_MAX).map_err(failed)?;
    for record in RecordIter::new(&section, header.records_count) {
        let record = record.map_err(failed)?;
        let offset = base.saturating_add(i64::from(record.offset_delta));
        if offset < position.offset {
            continue;
        }
        let timestamp = match header.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp.value(),
            _ => header
                .base_timestamp
                .value()
                .saturating_add(record.timestamp_delta),
        };
        let goes_on = visit(Seen {
            offset,
            timestamp,
            record,
        })?;
        *position = Position {
            offset: offset.saturating_add(1),
            leader_epoch: header.partition_leader_epoch.value(),
        };
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Which batches belong to aborted transactions, walking through them in order.
struct Aborted {
    /// Those to come, the nearest last.
    coming: Vec<AbortedTransaction>,
    /// Producers within one.
    open: BTreeSet<i64>,
}

impl Aborted {
    fn new(all: &[AbortedTransaction]) -> Self {
        let mut coming = all.to_vec();
        coming.sort_by_key(|one| std::cmp::Reverse(one.first_offset));
        Self {
            coming,
            open: BTreeSet::new(),
        }
    }

    /// Whether nobody may see the batch: it was aborted, or is a marker of a transaction's end.
    fn hides(&mut self, header: &BatchHeader, batch: &[u8]) -> bool {
        let last = header.last_offset().value();
        while let Some(next) = self.coming.pop_if(|next| next.first_offset <= last) {
            self.open.insert(next.producer_id);
        }
        let producer = header.producer_id.value();
        if header.is_control() {
            if is_abort(header, batch) {
                self.open.remove(&producer);
            }
            return true;
        }
        header.is_transactional() && self.open.contains(&producer)
    }
}

/// Whether a control batch ends a transaction that was aborted: its key is version 0, type 0.
fn is_abort(header: &BatchHeader, batch: &[u8]) -> bool {
    let section = batch.get(BATCH_HEADER_LEN..).unwrap_or_default();
    let mut records = RecordIter::new(section, header.records_count);
    let key = records.next().and_then(Result::ok).and_then(|one| one.key);
    key.and_then(|key| key.get(2..4)) == Some(&[0, 0])
}

#[cfg(test)]
mod tests {
    use palisade_protocol::{
        batch::{BatchBuilder, Codec},
        types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs},
    };

    use super::*;

    fn batch(base: i64, codec: Codec, values: &[&str], transactional: Option<i64>) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec)
            .base_offset(Offset::new(base))
            .leader_epoch(LeaderEpoch::new(4));
        if let Some(producer) = transactional {
            builder = builder
                .producer(ProducerId::new(producer), ProducerEpoch::new(0), 0)
                .transactional(true);
        }
        for value in values {
            builder
                .add(TimestampMs::new(base), None, Some(value.as_bytes()), &[])
                .unwrap();
        }
        builder.build().unwrap().to_vec()
    }

    fn marker(base: i64, producer: i64, kind: u8) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None)
            .base_offset(Offset::new(base))
            .producer(ProducerId::new(producer), ProducerEpoch::new(0), -1)
            .transactional(true)
            .control(true);
        builder
            .add(
                TimestampMs::new(0),
                Some(&[0, 0, 0, kind]),
                Some(&[0; 6]),
                &[],
            )
            .unwrap();
        builder.build().unwrap().to_vec()
    }

    fn data(bytes: Vec<u8>, aborted: &[(i64, i64)]) -> PartitionData {
        let aborted = aborted
            .iter()
            .map(|(producer_id, first_offset)| AbortedTransaction {
                producer_id: *producer_id,
                first_offset: *first_offset,
            });
        PartitionData {
            records: Some(bytes::Bytes::from(bytes).into()),
            aborted_transactions: Some(aborted.collect()),
            ..PartitionData::default()
        }
    }

    fn values(data: &PartitionData, from: i64) -> Result<(Vec<String>, i64), ReadError> {
        let mut seen = Vec::new();
        let from = Position {
            offset: from,
            leader_epoch: -1,
        };
        let end = read(data, from, |one| {
            let value = String::from_utf8_lossy(one.record.value.unwrap_or_default());
            seen.push(format!("{}:{value}", one.offset));
            Ok::<_, ReadError>(true)
        })?;
        Ok((seen, end.offset))
    }

    #[test]
    fn every_codec_is_read_from_the_middle() {
        for codec in Codec::ALL {
            let bytes = [
                batch(10, codec, &["a", "b", "c"], None),
                batch(20, codec, &["d"], None),
            ];
            let (seen, end) = values(&data(bytes.concat(), &[]), 11).unwrap();
            assert_eq!(seen, ["11:b", "12:c", "20:d"]);
            assert_eq!(end, 21);
        }
    }

    #[test]
    fn aborted_transactions_and_markers_are_hidden() {
        let bytes = [
            batch(0, Codec::None, &["aborted"], Some(1)),
            batch(1, Codec::None, &["other"], Some(2)),
            marker(2, 1, 0),
            batch(3, Codec::None, &["later"], Some(1)),
            marker(4, 1, 1),
        ];
        let (seen, end) = values(&data(bytes.concat(), &[(1, 0)]), 0).unwrap();
        assert_eq!(seen, ["1:other", "3:later"]);
        assert_eq!(end, 5);
    }

    #[test]
    fn damage_is_an_error_and_a_cut_end_is_not() {
        let whole = batch(0, Codec::None, &["a"], None);
        let mut bytes = [whole.clone(), batch(1, Codec::None, &["b"], None)].concat();
        bytes.truncate(bytes.len() - 1);
        let (seen, end) = values(&data(bytes.clone(), &[]), 0).unwrap();
        assert_eq!((seen.len(), end), (1, 1));
        let cut = data(whole[..whole.len() - 1].to_vec(), &[]);
        assert!(matches!(values(&cut, 0), Err(ReadError::Batch { .. })));
        let mut damaged = whole;
        *damaged.last_mut().unwrap() ^= 1;
        let damaged = data(damaged, &[]);
        assert!(matches!(values(&damaged, 0), Err(ReadError::Checksum(0))));
    }
}
