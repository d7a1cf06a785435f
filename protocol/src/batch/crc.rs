//! The checksum, and the changes a leader makes to a batch in place.

use super::header::{BATCH_HEADER_LEN, BatchHeader};
use crate::types::{LeaderEpoch, Offset};

/// Where the bytes start that the CRC covers.
const CRC_START: usize = 21;

/// Says whether the CRC of a whole batch is right. `batch` may be longer than the batch; if it is
/// shorter, or no batch, the answer is no.
pub fn verify_crc(batch: &[u8]) -> bool {
    BatchHeader::parse(batch).is_ok_and(|header| {
        batch
            .get(CRC_START..header.total_len())
            .is_some_and(|covered| crc32c::crc32c(covered) == header.crc)
    })
}

/// Writes what the leader decides: the first offset and its epoch. Both lie outside the CRC.
///
/// # Panics
/// When `batch` is shorter than a header, which the caller has parsed.
pub fn stamp(batch: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    let header = header_of(batch);
    header[..8].copy_from_slice(&base_offset.value().to_be_bytes());
    header[12..16].copy_from_slice(&epoch.value().to_be_bytes());
}

/// Encodes a header whose fields were changed, with the CRC over them and the records section.
///
/// The length is the header's own and must fit `section`.
pub fn seal(header: &BatchHeader, section: &[u8]) -> [u8; BATCH_HEADER_LEN] {
    let mut bytes = header.to_bytes();
    let covered = bytes.get(CRC_START..).unwrap_or_default();
    let crc = crc32c::crc32c_append(crc32c::crc32c(covered), section);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Computes the CRC anew over the whole of `batch`, which is exactly one batch.
pub(crate) fn refresh_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(batch.get(CRC_START..).unwrap_or_default());
    header_of(batch)[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn header_of(batch: &mut [u8]) -> &mut [u8; BATCH_HEADER_LEN] {
    batch
        .first_chunk_mut()
        .expect("the caller has parsed this batch's header")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::header::LOG_APPEND_TIME_BIT;
    use crate::batch::{BatchBuilder, Codec, TimestampType};
    use crate::types::TimestampMs;

    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        builder
            .add(TimestampMs::new(5), Some(b"k"), Some(b"v"), &[])
            .unwrap();
        builder.build().unwrap().to_vec()
    }

    #[test]
    fn every_flipped_bit_behind_the_crc_is_noticed() {
        let batch = batch();
        assert!(verify_crc(&batch));
        for at in 17..batch.len() {
            for bit in 0..8 {
                let mut damaged = batch.clone();
                damaged[at] ^= 1 << bit;
                assert!(!verify_crc(&damaged), "byte {at}, bit {bit}");
            }
        }
        assert!(!verify_crc(&batch[..batch.len() - 1]));
        assert!(!verify_crc(&[]));
    }

    #[test]
    fn stamping_keeps_the_crc() {
        let mut batch = batch();
        stamp(&mut batch, Offset::new(1 << 40), LeaderEpoch::new(7));
        assert!(verify_crc(&batch));
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!(header.base_offset, Offset::new(1 << 40));
        assert_eq!(header.partition_leader_epoch, LeaderEpoch::new(7));
        assert_eq!(header.total_len(), batch.len());
    }

    #[test]
    fn sealing_renews_the_crc() {
        let mut batch = batch();
        let mut header = BatchHeader::parse(&batch).unwrap();
        header.attributes |= LOG_APPEND_TIME_BIT;
        header.max_timestamp = TimestampMs::new(99);
        let sealed = seal(&header, &batch[BATCH_HEADER_LEN..]);
        batch[..BATCH_HEADER_LEN].copy_from_slice(&sealed);
        assert!(verify_crc(&batch));
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(header.max_timestamp, TimestampMs::new(99));
    }
}
