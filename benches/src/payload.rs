//! Batches and frames of known sizes, filled with noise that no codec can shrink.

use bytes::{Bytes, BytesMut};
use palisade_protocol::batch::{BATCH_HEADER_LEN, BatchBuilder, Codec};
use palisade_protocol::frame;
use palisade_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use palisade_protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use palisade_protocol::types::{TimestampMs, TopicId};

/// Version of every produce here: the newest, which names topics by id.
pub const PRODUCE_VERSION: i16 = 13;

/// Version of every fetch here: the newest that plain consumers use.
pub const FETCH_VERSION: i16 = 17;

/// Where the correlation id lies in a request frame, behind size, key and version.
pub const CORRELATION_ID: std::ops::Range<usize> = 8..12;

/// Bytes of a record beside its value: lengths, attributes, deltas, no key, no headers.
const RECORD_OVERHEAD: usize = 10;

/// Size of a record's value where the batch allows it, in bytes.
const VALUE_LEN: usize = 1024;

/// Name of the client in request headers.
const CLIENT_ID: &str = "palisade-bench";

/// An uncompressed batch of records of about 1 KiB, at most `total` bytes and hardly less.
///
/// # Panics
/// When `total` holds no record.
pub fn batch(total: usize, now: TimestampMs) -> BytesMut {
    let mut builder = BatchBuilder::new(Codec::None);
    let mut noise = Noise::default();
    let mut room = total - BATCH_HEADER_LEN;
    while room > RECORD_OVERHEAD {
        let left_over = room - RECORD_OVERHEAD;
        // A tail too short for a record of its own goes with the last one.
        let length = if left_over < VALUE_LEN + 2 * RECORD_OVERHEAD {
            left_over
        } else {
            VALUE_LEN
        };
        let value = noise.bytes(length);
        builder
            .add(now, None, Some(&value), &[])
            .expect("a batch of some KiB has room");
        room -= length + RECORD_OVERHEAD;
    }
    builder.build().expect("nothing is compressed")
}

/// A produce of one batch to partition 0, as a whole frame with its size prefix.
///
/// # Panics
/// Never, for a batch that fits a frame.
pub fn produce_frame(topic: TopicId, acks: i16, batch: Bytes) -> Vec<u8> {
    let request = ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            topic_id: topic,
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(batch.into()),
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    };
    frame::encode_request(PRODUCE_VERSION, 0, Some(CLIENT_ID), &request)
        .expect("a produce encodes in its newest version")
}

/// A fetch of partition 0 from `offset`, outside of sessions.
pub fn fetch_request(topic: TopicId, offset: i64, max_bytes: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes,
        topics: vec![FetchTopic {
            topic_id: topic,
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

/// Bytes without pattern, the same in every run (xorshift64*).
#[derive(Debug)]
pub struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Noise {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use palisade_protocol::batch::{BatchHeader, verify_crc};

    use super::*;

    #[test]
    fn batches_have_the_size_asked_for() {
        for total in [200, 4096, 65_536, 1 << 20] {
            let batch = batch(total, TimestampMs::new(1));
            assert!(verify_crc(&batch));
            let header = BatchHeader::parse(&batch).unwrap();
            assert_eq!(header.total_len(), batch.len());
            assert!(batch.len() <= total && batch.len() + 80 > total, "{total}");
        }
    }

    #[test]
    fn the_correlation_id_lies_where_we_patch_it() {
        let mut frame = produce_frame(TopicId::NIL, 1, Bytes::from_static(b"x"));
        frame[CORRELATION_ID].copy_from_slice(&7_i32.to_be_bytes());
        let mut reader =
            palisade_protocol::Reader::new(Bytes::from(frame).slice(frame::SIZE_PREFIX_LEN..));
        let header = palisade_protocol::header::RequestHeader::decode(&mut reader).unwrap();
        assert_eq!(header.correlation_id, 7);
    }
}
