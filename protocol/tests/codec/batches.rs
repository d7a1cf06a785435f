//! Record batches: random ones, damaged ones, and those of another implementation.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use palisade_protocol::batch::compression::{compress, decompress};
use palisade_protocol::batch::{
    BATCH_HEADER_LEN, BatchBuilder, BatchHeader, BatchIter, Codec, RecordIter, verify_crc,
};
use palisade_protocol::{Offset, ProducerEpoch, ProducerId, TimestampMs};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::allocations;

type Bits = Option<Vec<u8>>;

/// A record by value: timestamp, key, value, headers.
type Plain = (i64, Bits, Bits, Vec<(String, Bits)>);

/// Far from the ends, so that differences of timestamps fit.
const TIMESTAMPS: Range<i64> = -1..1 << 60;

fn bits() -> impl Strategy<Value = Bits> {
    proptest::option::of(vec(any::<u8>(), 0..40))
}

fn records() -> impl Strategy<Value = Vec<Plain>> {
    vec(
        (
            TIMESTAMPS,
            bits(),
            bits(),
            vec(("[a-zé]{0,5}", bits()), 0..4),
        ),
        1..12,
    )
}

fn codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(Codec::ALL.to_vec())
}

fn build(codec: Codec, records: &[Plain]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec)
        .base_offset(Offset::new(70))
        .producer(ProducerId::new(5), ProducerEpoch::new(2), 30);
    for (timestamp, key, value, headers) in records {
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()))
            .collect();
        builder
            .add(
                TimestampMs::new(*timestamp),
                key.as_deref(),
                value.as_deref(),
                &headers,
            )
            .expect("a record fits");
    }
    builder.build().expect("a batch fits").to_vec()
}

/// Reads a batch back into records.
fn read(batch: &[u8]) -> Result<Vec<Plain>, palisade_protocol::batch::BatchError> {
    let header = BatchHeader::parse(batch)?;
    let section = decompress(
        header.codec()?,
        batch.get(BATCH_HEADER_LEN..).unwrap_or_default(),
        1 << 20,
    )?;
    let base = header.base_timestamp.value();
    RecordIter::new(&section, header.records_count)
        .map(|record| {
            let record = record?;
            let headers = record.headers.map(|header| {
                (
                    String::from_utf8_lossy(header.key).into_owned(),
                    header.value.map(<[u8]>::to_vec),
                )
            });
            let timestamp = base.wrapping_add(record.timestamp_delta);
            Ok((
                timestamp,
                record.key.map(<[u8]>::to_vec),
                record.value.map(<[u8]>::to_vec),
                headers.collect(),
            ))
        })
        .collect()
}

proptest! {
    #[test]
    fn records_survive_in_every_codec(codec in codec(), records in records()) {
        let batch = build(codec, &records);
        prop_assert!(verify_crc(&batch));
        prop_assert_eq!(BatchIter::new(&batch).count(), 1);
        prop_assert_eq!(read(&batch).expect("our own batch"), records);
    }

    #[test]
    fn damaged_batches_do_not_panic(
        codec in codec(),
        records in records(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(),
    ) {
        let mut batch = build(codec, &records);
        for (at, byte) in changes {
            let at = at.index(batch.len());
            batch[at] = byte;
        }
        batch.truncate(end.index(batch.len() + 1));
        let _ = read(&batch);
        let _ = verify_crc(&batch);
        let _ = BatchIter::new(&batch).count();
    }

    #[test]
    fn walking_over_records_allocates_nothing(section in vec(any::<u8>(), 0..200), count in -2..300_i32) {
        let (_, allocated) = allocations::during(|| {
            RecordIter::new(&section, count).filter_map(Result::ok).map(|record| record.headers.count()).sum::<usize>()
        });
        prop_assert_eq!(allocated, 0);
    }

    #[test]
    fn made_up_compressed_data_is_an_error_or_small(codec in codec(), data in vec(any::<u8>(), 0..300)) {
        if let Ok(output) = decompress(codec, &data, 1000) {
            prop_assert!(output.len() <= 1000);
        }
    }

    #[test]
    fn the_other_crate_reads_our_batches(records in records()) {
        let mut batch = Bytes::from(build(Codec::None, &records));
        let theirs = RecordBatchDecoder::decode(&mut batch).expect("the other crate decodes").records;
        prop_assert_eq!(theirs.len(), records.len());
        for (index, (theirs, (timestamp, key, value, _))) in theirs.iter().zip(&records).enumerate() {
            prop_assert_eq!(theirs.offset, 70 + index as i64);
            prop_assert_eq!(theirs.sequence, 30 + index as i32);
            prop_assert_eq!((theirs.producer_id, theirs.producer_epoch), (5, 2));
            prop_assert_eq!(theirs.timestamp, *timestamp);
            prop_assert_eq!(theirs.key.as_deref(), key.as_deref());
            prop_assert_eq!(theirs.value.as_deref(), value.as_deref());
        }
    }

    #[test]
    fn we_read_the_other_crates_batches(records in records()) {
        let theirs: Vec<TheirRecord> = records.iter().enumerate().map(|(index, record)| their_record(index, record)).collect();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        let mut batch = BytesMut::new();
        RecordBatchEncoder::encode(&mut batch, &theirs, &options).expect("the other crate encodes");
        prop_assert!(verify_crc(&batch));
        let ours = read(&batch).expect("we read it");
        for (ours, theirs) in ours.iter().zip(&records) {
            prop_assert_eq!((&ours.0, &ours.1, &ours.2), (&theirs.0, &theirs.1, &theirs.2));
        }
        prop_assert_eq!(ours.len(), records.len());
    }
}

fn their_record(index: usize, (timestamp, key, value, _): &Plain) -> TheirRecord {
    TheirRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: 5,
        producer_epoch: 2,
        timestamp_type: TimestampType::Creation,
        offset: index as i64,
        sequence: index as i32,
        timestamp: *timestamp,
        key: key.clone().map(Bytes::from),
        value: value.clone().map(Bytes::from),
        headers: IndexMap::<StrBytes, Option<Bytes>>::new(),
    }
}

#[test]
fn a_bomb_costs_no_more_than_its_limit() {
    let zeros = vec![0; 64 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bomb = compress(codec, &zeros).expect("zeros compress");
        let (result, allocated) = allocations::during(|| decompress(codec, &bomb, 1 << 20));
        assert!(result.is_err(), "{codec}");
        // Growth by doubling, and the codec's own blocks of at most 4 MiB.
        assert!(allocated < 16 << 20, "{codec} allocated {allocated} bytes");
    }
}

/// Batches written by Kafka 4.4's Java client: 50 records of producer 77 from sequence 12 on, in leader
/// epoch 5; every fifth has no key, every seventh no value, every odd one two headers.
#[test]
fn javas_batches_are_read() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    for codec in Codec::ALL {
        let batch = std::fs::read(format!("{fixtures}/java-{codec}.batch")).expect("the fixture");
        assert!(verify_crc(&batch), "{codec}");
        let header = BatchHeader::parse(&batch).expect("a header");
        assert_eq!(header.total_len(), batch.len());
        assert_eq!(header.codec().ok(), Some(codec));
        assert_eq!(
            (
                header.producer_id.value(),
                header.producer_epoch.value(),
                header.base_sequence
            ),
            (77, 3, 12)
        );
        let records = read(&batch).expect("records");
        assert_eq!(records.len(), 50);
        for (i, (timestamp, key, value, headers)) in records.iter().enumerate() {
            assert_eq!(*timestamp, 1000 + i as i64);
            assert_eq!(*key, (i % 5 != 0).then(|| format!("key{i}").into_bytes()));
            assert_eq!(
                *value,
                (i % 7 != 0).then(|| format!("value value value {i}").into_bytes())
            );
            let expected = [
                ("h".to_owned(), Some(format!("x{i}").into_bytes())),
                ("n".to_owned(), None),
            ];
            assert_eq!(headers[..], expected[..if i % 2 == 0 { 0 } else { 2 }]);
        }
    }
}
