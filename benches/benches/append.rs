//! A 64 KiB produce from its frame to the page cache: decode, authorize, validate, append.
//!
//! Nothing here waits for a sync. With policy `ack` the append also tells the flusher, which syncs
//! beside it; what waiting for that costs is a question for the disk, and `node` asks it.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use palisade_auth::grant::Write;
use palisade_benches::payload;
use palisade_benches::rig::{NOW, Rig};
use palisade_protocol::frame::SIZE_PREFIX_LEN;
use palisade_protocol::header::RequestHeader;
use palisade_protocol::messages::produce::ProduceRequest;
use palisade_protocol::types::PartitionIndex;
use palisade_protocol::{Message, Reader, Records};
use palisade_storage::{Appended, FlushPolicy};
use tokio::runtime::{Builder, Runtime};

const BATCH_BYTES: usize = 64 << 10;

/// A log of this size is replaced by an empty one, so that the disk does not fill.
const LOG_BYTES: u64 = 256 << 20;

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("produce, 64 KiB");
    let batch = payload::batch(BATCH_BYTES, NOW).freeze();
    group.throughput(Throughput::Bytes(batch.len() as u64));
    let runtime = Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers");
    for (name, policy) in [("os", FlushPolicy::Os), ("ack", FlushPolicy::Ack)] {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let mut rig = Rig::new(scratch, policy);
        let mut written = 0;
        let name = format!("decode + validate + append, flush policy {name}");
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    written += batch.len() as u64;
                    if written > LOG_BYTES {
                        rig.renew();
                        written = 0;
                    }
                    // Just written, so as warm in the caches as what was just decrypted.
                    let frame = frame(&rig, &batch);
                    let began = Instant::now();
                    black_box(produce(&runtime, &rig, frame));
                    spent += began.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

/// A frame nobody else refers to, as a connection receives it.
fn frame(rig: &Rig, batch: &Bytes) -> Bytes {
    let frame = payload::produce_frame(rig.topic_id(), 1, batch.clone());
    BytesMut::from(&frame[SIZE_PREFIX_LEN..]).freeze()
}

/// What a connection's task does with a produce of one batch.
fn produce(runtime: &Runtime, rig: &Rig, frame: Bytes) -> Appended {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader).expect("our own frame");
    let mut request = ProduceRequest::decode(&mut reader, header.api_version).expect("our frame");
    let mut topic = request.topic_data.pop().expect("one topic");
    let image = rig.image.topics.by_id(topic.topic_id).expect("the topic");
    let access = rig.access();
    let grant = access.topic::<Write>(&image.name).expect("an ACL allows");
    let data = topic.partition_data.pop().expect("one partition");
    drop(topic);
    let index = PartitionIndex::new(data.index);
    let partition = rig.replicas.partition(&grant, index).expect("it is led");
    let Some(Records::Inline(batch)) = data.records else {
        panic!("a decoded produce has its records in memory");
    };
    let append = async {
        let user = &access.caller().principal;
        let valid = partition.check(batch, NOW, user).await;
        let valid = valid.expect("a valid batch");
        let epoch = partition.leader_epoch();
        partition.append(valid, epoch, NOW).await
    };
    runtime.block_on(append).expect("the disk has room")
}

criterion_group!(benches, append);
criterion_main!(benches);
