//! The codec alone: a 64 KiB produce in, its CRC, a 1 MiB fetch answer out.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use palisade_benches::payload::{self, FETCH_VERSION, PRODUCE_VERSION};
use palisade_benches::rig::NOW;
use palisade_protocol::batch::verify_crc;
use palisade_protocol::frame::{self, SIZE_PREFIX_LEN};
use palisade_protocol::header::RequestHeader;
use palisade_protocol::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use palisade_protocol::messages::produce::ProduceRequest;
use palisade_protocol::types::TopicId;
use palisade_protocol::{ApiKey, Message, Reader, Uuid};

const PRODUCE_BYTES: usize = 64 << 10;
const FETCH_BYTES: usize = 1 << 20;

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    let batch = payload::batch(PRODUCE_BYTES, NOW).freeze();
    let frame = payload::produce_frame(TopicId::NIL, 1, batch.clone());
    let frame = Bytes::from(frame).slice(SIZE_PREFIX_LEN..);

    group.throughput(Throughput::Bytes(batch.len() as u64));
    group.bench_function("decode produce, 64 KiB", |b| {
        b.iter(|| {
            let mut reader = Reader::new(frame.clone());
            let header = RequestHeader::decode(&mut reader).expect("our own frame");
            let request = ProduceRequest::decode(&mut reader, PRODUCE_VERSION);
            black_box((header, request.expect("our own frame")))
        });
    });
    group.bench_function("verify CRC, 64 KiB", |b| {
        b.iter(|| assert!(verify_crc(black_box(&batch))));
    });

    let response = fetch_response(payload::batch(FETCH_BYTES, NOW).freeze());
    group.throughput(Throughput::Bytes(FETCH_BYTES as u64));
    group.bench_function("encode fetch answer, 1 MiB by reference", |b| {
        let mut buffer = BytesMut::new();
        b.iter(|| {
            buffer.reserve(512);
            let buffer = buffer.split();
            frame::encode_response(buffer, ApiKey::Fetch, FETCH_VERSION, 1, &response)
                .expect("our own answer")
        });
    });
    group.finish();
}

fn fetch_response(records: Bytes) -> FetchResponse {
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic_id: Uuid::NIL,
            partitions: vec![PartitionData {
                records: Some(records.into()),
                ..PartitionData::default()
            }],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
