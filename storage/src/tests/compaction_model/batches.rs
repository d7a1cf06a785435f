//! The model's batches as bytes, and back.

use palisade_protocol::batch::compression::decompress;
use palisade_protocol::batch::{BATCH_HEADER_LEN, BatchBuilder, Codec, RecordIter};

use super::{Content, Sent, Stored};
use crate::testing::time;
use crate::types::{ProducerEpoch, ProducerId};

pub(super) fn encode(sent: &Sent, size: usize, codec: Codec, now: i64) -> Vec<u8> {
    let id = ProducerId::new(sent.producer);
    let epoch = ProducerEpoch::new(0);
    let builder = match &sent.content {
        Content::Marker { commit } => {
            let mut builder = BatchBuilder::new(Codec::None)
                .producer(id, epoch, -1)
                .transactional(true)
                .control(true);
            let key = [0, 0, 0, u8::from(*commit)];
            builder
                .add(time(now), Some(&key), Some(&[0, 0, 0, 0, 0, 1]), &[])
                .unwrap();
            builder
        }
        Content::Data {
            sequence,
            transactional,
            records,
        } => {
            let mut builder = BatchBuilder::new(codec).transactional(*transactional);
            if sent.producer >= 0 {
                builder = builder.producer(id, epoch, *sequence);
            }
            for record in records {
                let value = record.value.map(|tag| {
                    let mut value = tag.to_be_bytes().to_vec();
                    value.resize(8 + size, tag as u8);
                    value
                });
                builder
                    .add(
                        time(record.time),
                        Some(&[record.key]),
                        value.as_deref(),
                        &[],
                    )
                    .unwrap();
            }
            builder
        }
    };
    builder.build().unwrap().to_vec()
}

pub(super) fn decode(header: &crate::batch::BatchHeader, batch: &[u8]) -> Vec<(i64, Stored)> {
    if header.records_count == 0 {
        assert_eq!(batch.len(), BATCH_HEADER_LEN);
        return Vec::new();
    }
    let section = decompress(header.codec().unwrap(), &batch[BATCH_HEADER_LEN..], 1 << 20).unwrap();
    let records: Vec<(i64, Stored)> = RecordIter::new(&section, header.records_count)
        .map(|record| {
            let record = record.unwrap();
            let stored = Stored {
                key: record.key.unwrap()[0],
                value: record
                    .value
                    .map(|value| u64::from_be_bytes(value[..8].try_into().unwrap())),
                time: header.base_timestamp.value() + record.timestamp_delta,
            };
            (
                header.base_offset.value() + i64::from(record.offset_delta),
                stored,
            )
        })
        .collect();
    let newest = records.iter().map(|(_, stored)| stored.time).max();
    assert_eq!(newest, Some(header.max_timestamp.value()));
    records
}
