//! What compaction makes of a batch: fewer records, none, or another base timestamp (KIP-534).

use super::crc;
use super::error::BatchError;
use super::header::{BATCH_HEADER_LEN, BatchHeader, LENGTH_OVERHEAD};
use super::record::Record;
use crate::types::TimestampMs;
use crate::varint;

/// Puts a batch together anew: `header` with the length and the CRC of `records`, which are
/// compressed already where the header names a codec.
///
/// # Errors
/// `BatchFull` when the batch is longer than its length field can say.
pub fn assemble(mut header: BatchHeader, records: &[u8]) -> Result<Vec<u8>, BatchError> {
    let total = records.len().saturating_add(BATCH_HEADER_LEN);
    let length = total.saturating_sub(LENGTH_OVERHEAD);
    header.batch_length = i32::try_from(length).map_err(|_| BatchError::BatchFull)?;
    let mut batch = Vec::with_capacity(total);
    batch.extend_from_slice(&header.to_bytes());
    batch.extend_from_slice(records);
    crc::refresh_crc(&mut batch);
    Ok(batch)
}

/// The batch without records that keeps the offsets, the sequence numbers and the largest timestamp
/// of `header`.
///
/// # Errors
/// None in fact: a bare header always fits.
pub fn emptied(header: &BatchHeader) -> Result<Vec<u8>, BatchError> {
    let mut bare = *header;
    bare.clear_codec_and_horizon();
    bare.base_timestamp = TimestampMs::NONE;
    bare.records_count = 0;
    assemble(bare, &[])
}

/// Appends `record`, whose bytes with their length are `raw`, with another timestamp delta in ms.
///
/// # Errors
/// `BatchFull` when the record is longer than its length can say; `Truncated` when `raw` is not the
/// record.
pub fn push_rebased(
    out: &mut Vec<u8>,
    raw: &[u8],
    record: &Record<'_>,
    timestamp_delta: i64,
) -> Result<(), BatchError> {
    let truncated = || BatchError::Truncated {
        needed: raw.len().saturating_add(1),
        available: raw.len(),
    };
    let skip = |bytes: &[u8]| varint::decode(bytes, 64).map_err(|_| truncated());
    let (_, length_len) = skip(raw)?;
    let after_attributes = raw
        .get(length_len.saturating_add(1)..)
        .ok_or_else(truncated)?;
    let (_, delta_len) = skip(after_attributes)?;
    let rest = after_attributes.get(delta_len..).ok_or_else(truncated)?;

    let mut delta = [0; varint::MAX_U64];
    let delta_len = varint::encode(varint::zigzag(timestamp_delta), &mut delta);
    let length = rest.len().saturating_add(delta_len).saturating_add(1);
    let length = i32::try_from(length).map_err(|_| BatchError::BatchFull)?;
    let mut prefix = [0; varint::MAX_U64];
    let prefix_len = varint::encode(varint::zigzag(i64::from(length)), &mut prefix);
    out.extend_from_slice(prefix.get(..prefix_len).unwrap_or_default());
    out.push(record.attributes.cast_unsigned());
    out.extend_from_slice(delta.get(..delta_len).unwrap_or_default());
    out.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Codec, RecordIter, verify_crc};
    use crate::types::{Offset, ProducerEpoch, ProducerId};

    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::Zstd)
            .base_offset(Offset::new(7))
            .producer(ProducerId::new(3), ProducerEpoch::new(1), 40)
            .transactional(true);
        for n in 0..3 {
            builder
                .add(
                    TimestampMs::new(500 + n),
                    Some(b"k"),
                    Some(b"v"),
                    &[("h", None)],
                )
                .unwrap();
        }
        builder.build().unwrap().to_vec()
    }

    #[test]
    fn an_emptied_batch_keeps_offsets_and_sequences() {
        let mut before = BatchHeader::parse(&batch()).unwrap();
        before.set_delete_horizon(TimestampMs::new(9));
        assert!(before.has_delete_horizon());
        let bytes = emptied(&before).unwrap();
        assert!(verify_crc(&bytes));
        let after = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(bytes.len(), BATCH_HEADER_LEN);
        assert_eq!(after.last_offset(), before.last_offset());
        assert_eq!(after.last_sequence(), before.last_sequence());
        assert_eq!(after.max_timestamp, before.max_timestamp);
        assert_eq!(after.records_count, 0);
        assert!(after.is_transactional() && !after.has_delete_horizon());
        assert_eq!(after.codec().unwrap(), Codec::None);
        assert_eq!(RecordIter::new(&[], 0).count(), 0);
    }

    #[test]
    fn records_are_rebased_and_nothing_else_changes() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder
            .add(TimestampMs::new(10), Some(b"a"), None, &[("h", Some(b"x"))])
            .unwrap();
        builder
            .add(TimestampMs::new(25), None, Some(&[7; 300]), &[])
            .unwrap();
        let bytes = builder.build().unwrap();
        let section = &bytes[BATCH_HEADER_LEN..];
        let mut out = Vec::new();
        let mut records = RecordIter::new(section, 2);
        let mut at = 0;
        let mut before = Vec::new();
        while let Some(record) = records.next() {
            let record = record.unwrap();
            let end = section.len() - records.unread();
            push_rebased(
                &mut out,
                &section[at..end],
                &record,
                record.timestamp_delta - 1_000_000,
            )
            .unwrap();
            at = end;
            before.push(record);
        }
        let after: Vec<_> = RecordIter::new(&out, 2).map(Result::unwrap).collect();
        for (after, before) in after.iter().zip(&before) {
            assert_eq!(after.timestamp_delta, before.timestamp_delta - 1_000_000);
            assert_eq!((after.key, after.value), (before.key, before.value));
            assert_eq!(after.offset_delta, before.offset_delta);
            assert!(after.headers.clone().eq(before.headers.clone()));
        }
        assert!(push_rebased(&mut out, &[], &before[0], 0).is_err());
    }
}
