//! The fixed fields of a batch.

use super::compression::Codec;
use super::error::BatchError;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

/// Bytes of a batch before its records.
pub const BATCH_HEADER_LEN: usize = 61;

/// Bytes before what the length field counts: base offset and the field itself.
pub(crate) const LENGTH_OVERHEAD: usize = 12;
/// The smallest length field of format v2.
const MIN_LENGTH: i32 = 49;
/// The only format served.
pub(crate) const MAGIC: i8 = 2;

const CODEC_MASK: i16 = 0x07;
pub(crate) const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// Whose clock the timestamps are from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TimestampType {
    /// The producer's; each record has its own.
    #[default]
    CreateTime,
    /// The broker's; every record has the batch's max timestamp.
    LogAppendTime,
}

/// The fixed fields, as they stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchHeader {
    /// The first record's offset, or what it was before compaction; 0 from a producer.
    pub base_offset: Offset,
    /// Bytes after this field.
    pub batch_length: i32,
    /// The epoch of the leader that appended it; -1 from a producer.
    pub partition_leader_epoch: LeaderEpoch,
    /// The format, 2.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: i16,
    /// The last record's offset less the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas add to, or the delete horizon.
    pub base_timestamp: TimestampMs,
    /// The largest timestamp; -1 none.
    pub max_timestamp: TimestampMs,
    /// The idempotent producer; -1 none.
    pub producer_id: ProducerId,
    /// The producer's epoch; -1 none.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence number; -1 none.
    pub base_sequence: i32,
    /// Records in the batch; 0 is left by compaction.
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`; what follows is not looked at.
    ///
    /// # Errors
    /// Fewer than 61 bytes, another magic than 2, or a length field below 49.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // Byte 16 is the magic in every format, and an old format may be shorter than our header.
        if let Some(magic) = bytes
            .get(16)
            .map(|byte| byte.cast_signed())
            .filter(|&magic| magic != MAGIC)
        {
            return Err(BatchError::UnsupportedMagic { magic });
        }
        let header: &[u8; BATCH_HEADER_LEN] = bytes.first_chunk().ok_or(BatchError::Truncated {
            needed: BATCH_HEADER_LEN,
            available: bytes.len(),
        })?;
        let header = Self {
            base_offset: Offset::new(i64::from_be_bytes(field::<0, 8>(header))),
            batch_length: i32::from_be_bytes(field::<8, 4>(header)),
            partition_leader_epoch: LeaderEpoch::new(i32::from_be_bytes(field::<12, 4>(header))),
            magic: i8::from_be_bytes(field::<16, 1>(header)),
            crc: u32::from_be_bytes(field::<17, 4>(header)),
            attributes: i16::from_be_bytes(field::<21, 2>(header)),
            last_offset_delta: i32::from_be_bytes(field::<23, 4>(header)),
            base_timestamp: TimestampMs::new(i64::from_be_bytes(field::<27, 8>(header))),
            max_timestamp: TimestampMs::new(i64::from_be_bytes(field::<35, 8>(header))),
            producer_id: ProducerId::new(i64::from_be_bytes(field::<43, 8>(header))),
            producer_epoch: ProducerEpoch::new(i16::from_be_bytes(field::<51, 2>(header))),
            base_sequence: i32::from_be_bytes(field::<53, 4>(header)),
            records_count: i32::from_be_bytes(field::<57, 4>(header)),
        };
        if header.batch_length < MIN_LENGTH {
            return Err(BatchError::InvalidLength {
                length: header.batch_length,
            });
        }
        Ok(header)
    }

    /// The header as bytes.
    pub fn to_bytes(&self) -> [u8; BATCH_HEADER_LEN] {
        let mut bytes = [0; BATCH_HEADER_LEN];
        let fields: [&[u8]; 13] = [
            &self.base_offset.value().to_be_bytes(),
            &self.batch_length.to_be_bytes(),
            &self.partition_leader_epoch.value().to_be_bytes(),
            &self.magic.to_be_bytes(),
            &self.crc.to_be_bytes(),
            &self.attributes.to_be_bytes(),
            &self.last_offset_delta.to_be_bytes(),
            &self.base_timestamp.value().to_be_bytes(),
            &self.max_timestamp.value().to_be_bytes(),
            &self.producer_id.value().to_be_bytes(),
            &self.producer_epoch.value().to_be_bytes(),
            &self.base_sequence.to_be_bytes(),
            &self.records_count.to_be_bytes(),
        ];
        for (slot, byte) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *slot = *byte;
        }
        bytes
    }

    /// Bytes of the whole batch.
    pub fn total_len(&self) -> usize {
        usize::try_from(self.batch_length)
            .unwrap_or(0)
            .saturating_add(LENGTH_OVERHEAD)
    }

    /// The last record's offset (inclusive), saturating on a damaged header.
    pub fn last_offset(&self) -> Offset {
        Offset::new(
            self.base_offset
                .value()
                .saturating_add(i64::from(self.last_offset_delta)),
        )
    }

    /// The offset after the last record (exclusive), saturating on a damaged header.
    pub fn next_offset(&self) -> Offset {
        Offset::new(self.last_offset().value().saturating_add(1))
    }

    /// The sequence number of the last record; it wraps to 0 after 2147483647.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        let sum = i64::from(self.base_sequence).saturating_add(i64::from(self.last_offset_delta));
        i32::try_from(sum & i64::from(i32::MAX)).unwrap_or(0)
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// The codec does not exist.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        Codec::from_id(self.attributes & CODEC_MASK)
    }

    /// Says whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Says whether the batch holds a control record, such as the end of a transaction.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Says whether `base_timestamp` is the time from which compaction may drop tombstones.
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON_BIT != 0
    }

    /// Makes `horizon` the time from which compaction may drop the batch's tombstones (KIP-534).
    ///
    /// It takes the place of the base timestamp: the records' deltas must be rebased on it.
    pub fn set_delete_horizon(&mut self, horizon: TimestampMs) {
        self.attributes |= DELETE_HORIZON_BIT;
        self.base_timestamp = horizon;
    }

    /// Makes the attributes those of a batch without records.
    pub(crate) fn clear_codec_and_horizon(&mut self) {
        self.attributes &= !(CODEC_MASK | DELETE_HORIZON_BIT);
    }

    /// Whose clock the timestamps are from.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Packs the attribute bits.
    pub(crate) fn attributes(
        codec: Codec,
        kind: TimestampType,
        transactional: bool,
        control: bool,
    ) -> i16 {
        let flag = |set: bool, bit: i16| if set { bit } else { 0 };
        codec.id()
            | flag(kind == TimestampType::LogAppendTime, LOG_APPEND_TIME_BIT)
            | flag(transactional, TRANSACTIONAL_BIT)
            | flag(control, CONTROL_BIT)
    }
}

/// `LEN` bytes at `AT`, checked when compiled.
fn field<const AT: usize, const LEN: usize>(header: &[u8; BATCH_HEADER_LEN]) -> [u8; LEN] {
    const { assert!(AT.saturating_add(LEN) <= BATCH_HEADER_LEN) };
    std::array::from_fn(|i| header.get(AT.saturating_add(i)).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            base_offset: Offset::new(0x0102_0304_0506_0708),
            batch_length: 49,
            partition_leader_epoch: LeaderEpoch::new(9),
            magic: 2,
            crc: 0xdead_beef,
            attributes: 0x3c,
            last_offset_delta: 6,
            base_timestamp: TimestampMs::new(-1),
            max_timestamp: TimestampMs::new(77),
            producer_id: ProducerId::new(i64::MAX),
            producer_epoch: ProducerEpoch::new(5),
            base_sequence: i32::MAX - 2,
            records_count: 7,
        }
    }

    #[test]
    fn survives_a_round_trip() {
        let header = header();
        let bytes = header.to_bytes();
        assert_eq!(&bytes[..8], &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[16], 2);
        assert_eq!(&bytes[57..], &[0, 0, 0, 7]);
        assert_eq!(BatchHeader::parse(&bytes).unwrap(), header);
    }

    #[test]
    fn derived_values() {
        let header = header();
        assert_eq!(header.total_len(), 61);
        assert_eq!(header.next_offset().distance(header.base_offset), 7);
        assert_eq!(header.last_sequence(), 3);
        assert_eq!(header.codec().unwrap(), Codec::Zstd);
        assert!(header.is_transactional() && header.is_control());
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        assert!(
            BatchHeader {
                attributes: 5,
                ..header
            }
            .codec()
            .is_err()
        );
    }

    #[test]
    fn refuses_what_is_no_header() {
        let bytes = header().to_bytes();
        for end in 0..bytes.len() {
            assert!(matches!(
                BatchHeader::parse(&bytes[..end]),
                Err(BatchError::Truncated { .. })
            ));
        }
        let mut old = bytes;
        old[16] = 1;
        assert!(matches!(
            BatchHeader::parse(&old[..30]),
            Err(BatchError::UnsupportedMagic { magic: 1 })
        ));
        for length in [48, 0, -1, i32::MIN] {
            let bytes = BatchHeader {
                batch_length: length,
                ..header()
            }
            .to_bytes();
            assert!(matches!(
                BatchHeader::parse(&bytes),
                Err(BatchError::InvalidLength { .. })
            ));
        }
    }
}
