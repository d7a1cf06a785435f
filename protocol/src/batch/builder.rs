//! Builds a batch from records.

use bytes::BytesMut;

use super::compression::{self, Codec};
use super::crc;
use super::error::BatchError;
use super::header::{BATCH_HEADER_LEN, BatchHeader, LENGTH_OVERHEAD, MAGIC, TimestampType};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};
use crate::varint;

/// A header to add to a record: key and value.
pub type HeaderRef<'a> = (&'a str, Option<&'a [u8]>);

/// Collects records with offsets 0, 1, 2… and makes a batch of them.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    timestamp_type: TimestampType,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    producer: (ProducerId, ProducerEpoch, i32),
    transactional: bool,
    control: bool,
    base_timestamp: Option<TimestampMs>,
    max_timestamp: TimestampMs,
    count: i32,
    records: Vec<u8>,
    record: Vec<u8>,
}

impl BatchBuilder {
    /// Starts an empty batch at offset 0, without leader epoch or producer.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            timestamp_type: TimestampType::CreateTime,
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::NONE,
            producer: (ProducerId::NONE, ProducerEpoch::NONE, -1),
            transactional: false,
            control: false,
            base_timestamp: None,
            max_timestamp: TimestampMs::NONE,
            count: 0,
            records: Vec::new(),
            record: Vec::new(),
        }
    }

    /// Sets the first offset.
    #[must_use]
    pub fn base_offset(mut self, offset: Offset) -> Self {
        self.base_offset = offset;
        self
    }

    /// Sets the leader epoch.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.leader_epoch = epoch;
        self
    }

    /// Makes the batch idempotent; `base_sequence` is the first record's.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// Makes the batch part of a transaction, or not.
    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.transactional = transactional;
        self
    }

    /// Makes the batch a control batch, or not. Such a batch holds one record and is not
    /// compressed.
    #[must_use]
    pub fn control(mut self, control: bool) -> Self {
        self.control = control;
        self
    }

    /// Says whose clock the timestamps are from.
    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = timestamp_type;
        self
    }

    /// Records added so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Bytes of the batch so far, before compression.
    pub fn uncompressed_len(&self) -> usize {
        self.records.len().saturating_add(BATCH_HEADER_LEN)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// `BatchFull` when a length or the number of records does not fit its field. Nothing is added
    /// then.
    pub fn add(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) -> Result<(), BatchError> {
        let base = self.base_timestamp.unwrap_or(timestamp);
        let delta = timestamp
            .value()
            .checked_sub(base.value())
            .ok_or(BatchError::BatchFull)?;
        let count = self.count.checked_add(1).ok_or(BatchError::BatchFull)?;
        self.record.clear();
        self.record.push(0);
        put_varint(&mut self.record, delta);
        put_varint(&mut self.record, i64::from(self.count));
        put_nullable(&mut self.record, key)?;
        put_nullable(&mut self.record, value)?;
        put_length(&mut self.record, headers.len())?;
        for (key, value) in headers {
            put_nullable(&mut self.record, Some(key.as_bytes()))?;
            put_nullable(&mut self.record, *value)?;
        }
        put_length(&mut self.records, self.record.len())?;
        self.records.extend_from_slice(&self.record);
        self.count = count;
        self.base_timestamp = Some(base);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// Makes the batch, with its CRC.
    ///
    /// # Errors
    /// `BatchFull` when it is longer than its length field can say; `Compress` when the codec
    /// fails.
    pub fn build(self) -> Result<BytesMut, BatchError> {
        let codec = if self.control {
            Codec::None
        } else {
            self.codec
        };
        let records = compression::compress(codec, &self.records)?;
        let total = records
            .len()
            .checked_add(BATCH_HEADER_LEN)
            .ok_or(BatchError::BatchFull)?;
        let length = total.saturating_sub(LENGTH_OVERHEAD);
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let header = BatchHeader {
            base_offset: self.base_offset,
            batch_length: i32::try_from(length).map_err(|_| BatchError::BatchFull)?,
            partition_leader_epoch: self.leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes: BatchHeader::attributes(
                codec,
                self.timestamp_type,
                self.transactional,
                self.control,
            ),
            last_offset_delta: self.count.saturating_sub(1),
            base_timestamp: self.base_timestamp.unwrap_or(TimestampMs::NONE),
            max_timestamp: self.max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            records_count: self.count,
        };
        let mut batch = BytesMut::with_capacity(total);
        batch.extend_from_slice(&header.to_bytes());
        batch.extend_from_slice(&records);
        crc::refresh_crc(&mut batch);
        Ok(batch)
    }
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut bytes = [0; varint::MAX_U64];
    let length = varint::encode(varint::zigzag(value), &mut bytes);
    out.extend_from_slice(bytes.get(..length).unwrap_or_default());
}

fn put_length(out: &mut Vec<u8>, length: usize) -> Result<(), BatchError> {
    put_varint(
        out,
        i64::from(i32::try_from(length).map_err(|_| BatchError::BatchFull)?),
    );
    Ok(())
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) -> Result<(), BatchError> {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_length(out, bytes.len())?;
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchIter, RecordIter, verify_crc};

    #[test]
    fn what_was_added_is_read_back() {
        for codec in Codec::ALL {
            let mut builder = BatchBuilder::new(codec)
                .base_offset(Offset::new(40))
                .leader_epoch(LeaderEpoch::new(3))
                .producer(ProducerId::new(9), ProducerEpoch::new(1), 100)
                .transactional(true);
            builder
                .add(
                    TimestampMs::new(1000),
                    Some(b"a"),
                    Some(b"1"),
                    &[("h", Some(b"x")), ("i", None)],
                )
                .unwrap();
            builder.add(TimestampMs::new(990), None, None, &[]).unwrap();
            let batch = builder.build().unwrap();

            assert!(verify_crc(&batch));
            let header = BatchHeader::parse(&batch).unwrap();
            assert_eq!(header.total_len(), batch.len());
            assert_eq!(
                (header.records_count, header.last_offset()),
                (2, Offset::new(41))
            );
            assert_eq!(header.base_timestamp, TimestampMs::new(1000));
            assert_eq!(header.max_timestamp, TimestampMs::new(1000));
            assert_eq!(header.codec().unwrap(), codec);
            assert!(header.is_transactional() && !header.is_control());
            assert_eq!(header.last_sequence(), 101);

            let section = compression::decompress(codec, &batch[BATCH_HEADER_LEN..], 1000).unwrap();
            let records: Vec<_> = RecordIter::new(&section, 2).map(Result::unwrap).collect();
            assert_eq!(records[0].key, Some(&b"a"[..]));
            assert_eq!(records[0].headers.clone().count(), 2);
            assert_eq!(
                (records[1].timestamp_delta, records[1].offset_delta),
                (-10, 1)
            );
            assert_eq!((records[1].key, records[1].value), (None, None));
        }
    }

    #[test]
    fn batches_follow_each_other() {
        let mut both = Vec::new();
        for base in [0, 1] {
            let mut builder = BatchBuilder::new(Codec::None).base_offset(Offset::new(base));
            builder
                .add(TimestampMs::new(1), None, Some(b"v"), &[])
                .unwrap();
            both.extend_from_slice(&builder.build().unwrap());
        }
        let offsets: Vec<_> = BatchIter::new(&both)
            .map(|item| item.unwrap().0.base_offset.value())
            .collect();
        assert_eq!(offsets, [0, 1]);
        assert!(
            BatchIter::new(&both[..both.len() - 1])
                .last()
                .is_some_and(|item| item.is_err())
        );
    }

    #[test]
    fn a_control_batch_is_never_compressed() {
        let mut builder = BatchBuilder::new(Codec::Zstd)
            .control(true)
            .transactional(true);
        builder
            .add(
                TimestampMs::new(1),
                Some(&[0, 0, 0, 1]),
                Some(&[0, 0, 0, 0, 0, 7]),
                &[],
            )
            .unwrap();
        let header = BatchHeader::parse(&builder.build().unwrap()).unwrap();
        assert_eq!(header.codec().unwrap(), Codec::None);
        assert!(header.is_control());
    }
}
