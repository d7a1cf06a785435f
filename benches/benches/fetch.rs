//! A 1 MiB fetch from its frame to chunks for the socket, and what ciphering them adds.
//!
//! The log is in the page cache. Planning and encoding copy no record; under TLS the cipher is the
//! one pass over them, in plain text the kernel's copy is.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use palisade::partition::{Isolation, ReadLimits};
use palisade_auth::grant::{Read, Write};
use palisade_benches::payload::{self, FETCH_VERSION};
use palisade_benches::rig::{NOW, Rig, TOPIC};
use palisade_protocol::frame::{self, SIZE_PREFIX_LEN};
use palisade_protocol::header::RequestHeader;
use palisade_protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use palisade_protocol::types::{Offset, PartitionIndex};
use palisade_protocol::writer::Chunk;
use palisade_protocol::{ApiKey, Message, Reader, Records};
use palisade_storage::FlushPolicy;
use tokio::runtime::{Builder, Runtime};

const FETCH_BYTES: usize = 1 << 20;
const BATCH_BYTES: usize = 64 << 10;

/// Batches in the log: more than any cache of the processor holds.
const BATCHES: usize = 2048;

/// Largest plaintext of a TLS record.
const TLS_RECORD: usize = 16 << 10;
const TAG_LEN: usize = 16;

fn fetch(c: &mut Criterion) {
    let mut group = c.benchmark_group("fetch, 1 MiB");
    group.throughput(Throughput::Bytes(FETCH_BYTES as u64));
    let runtime = Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers");
    let rig = Rig::new(Path::new(env!("CARGO_TARGET_TMPDIR")), FlushPolicy::Os);
    let starts = fill(&runtime, &rig);
    let mut requests = starts.iter().cycle().map(|start| request(&rig, *start));

    let mut buffer = BytesMut::new();
    group.bench_function("decode + plan + encode", |b| {
        b.iter_batched(
            || requests.next().expect("an endless cycle"),
            |request| black_box(answer(&runtime, &rig, request, &mut buffer)),
            criterion::BatchSize::SmallInput,
        );
    });
    let mut sealer = Sealer::new();
    group.bench_function("decode + plan + encode + AES-128-GCM", |b| {
        b.iter_batched(
            || requests.next().expect("an endless cycle"),
            |request| {
                let chunks = answer(&runtime, &rig, request, &mut buffer);
                sealer.seal(&chunks);
                black_box(chunks)
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Fills the log; returns the offsets at which fetches of the full size start.
fn fill(runtime: &Runtime, rig: &Rig) -> Vec<Offset> {
    let access = rig.access();
    let grant = access.topic::<Write>(TOPIC).expect("an ACL allows");
    let partition = rig.replicas.partition(&grant, PartitionIndex::new(0));
    let partition = partition.expect("it is led");
    let batch = payload::batch(BATCH_BYTES, NOW).freeze();
    let mut starts = Vec::new();
    for at in 0..BATCHES {
        let user = &access.caller().principal;
        let valid = runtime.block_on(partition.check(batch.clone(), NOW, user));
        let valid = valid.expect("a valid batch");
        let append = partition.append(valid, partition.leader_epoch(), NOW);
        let appended = runtime.block_on(append).expect("the disk has room");
        let per_fetch = FETCH_BYTES / BATCH_BYTES;
        if at % per_fetch == 0 && at + per_fetch <= BATCHES {
            starts.push(appended.base_offset);
        }
    }
    starts
}

fn request(rig: &Rig, offset: Offset) -> Bytes {
    let max = i32::try_from(FETCH_BYTES).expect("1 MiB");
    let request = payload::fetch_request(rig.topic_id(), offset.value(), max);
    let frame = frame::encode_request(FETCH_VERSION, 1, Some("bench"), &request);
    Bytes::from(frame.expect("our own request")).slice(SIZE_PREFIX_LEN..)
}

/// What a connection's task does with a fetch outside of sessions, for one partition.
fn answer(runtime: &Runtime, rig: &Rig, frame: Bytes, buffer: &mut BytesMut) -> Vec<Chunk> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader).expect("our own frame");
    let request = FetchRequest::decode(&mut reader, header.api_version).expect("our own frame");
    let topic = request.topics.first().expect("one topic");
    let wanted = topic.partitions.first().expect("one partition");
    let image = rig.image.topics.by_id(topic.topic_id).expect("the topic");
    let access = rig.access();
    let grant = access.topic::<Read>(&image.name).expect("an ACL allows");
    let index = PartitionIndex::new(wanted.partition);
    let partition = rig.replicas.partition(&grant, index).expect("it is led");
    let limits = ReadLimits {
        isolation: Isolation::ReadUncommitted,
        max_bytes: usize::try_from(wanted.partition_max_bytes).expect("1 MiB"),
        at_least_one: true,
    };
    let read = runtime.block_on(partition.read(Offset::new(wanted.fetch_offset), limits));
    let read = read.expect("the offset exists");
    // Another process may have wanted the memory: that fetch is a slow one.
    if !read.is_resident()
        && let Some(slice) = &read.slice
    {
        let brought_in = slice.make_resident(0..slice.len());
        brought_in.expect("the disk gives what it took");
    }
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic_id: topic.topic_id,
            partitions: vec![PartitionData {
                high_watermark: read.high_watermark.value(),
                last_stable_offset: read.last_stable_offset.value(),
                log_start_offset: read.log_start_offset.value(),
                records: read.slice.map(|slice| Records::Shared(Arc::new(slice))),
                ..PartitionData::default()
            }],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    };
    buffer.reserve(512);
    let buffer = buffer.split();
    let id = header.correlation_id;
    let chunks = frame::encode_response(buffer, ApiKey::Fetch, FETCH_VERSION, id, &response);
    let chunks = chunks.expect("our own answer");
    let bytes: usize = chunks.iter().map(Chunk::len).sum();
    assert!(
        bytes > FETCH_BYTES - BATCH_BYTES,
        "a fetch of {bytes} bytes"
    );
    chunks
}

/// Ciphers chunks record by record into one buffer, as TLS does.
struct Sealer {
    context: CipherCtx,
    record: Vec<u8>,
}

impl Sealer {
    fn new() -> Self {
        let mut context = CipherCtx::new().expect("memory");
        context
            .encrypt_init(Some(Cipher::aes_128_gcm()), Some(&[7; 16]), None)
            .expect("AES is compiled in");
        Self {
            context,
            record: vec![0; TLS_RECORD + 2 * TAG_LEN],
        }
    }

    fn seal(&mut self, chunks: &[Chunk]) {
        let mut tag = [0; TAG_LEN];
        for record in chunks
            .iter()
            .flat_map(|chunk| chunk.as_bytes().chunks(TLS_RECORD))
        {
            let nonce = [1; 12];
            self.context
                .encrypt_init(None, None, Some(&nonce))
                .and_then(|()| self.context.cipher_update(record, Some(&mut self.record)))
                .and_then(|_| self.context.cipher_final(&mut self.record[TLS_RECORD..]))
                .and_then(|_| self.context.tag(&mut tag))
                .expect("a cipher of whole buffers");
            black_box((&self.record, tag));
        }
    }
}

criterion_group!(benches, fetch);
criterion_main!(benches);
