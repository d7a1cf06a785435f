//! Nothing on the way of a produced batch allocates per record or copies the batch.
//!
//! A binary of its own, because an allocator that counts is one for the whole process. The count is
//! per thread: the helper threads of the log do not disturb it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use palisade::metadata::ClusterImage;
use palisade::metadata::delta::ImageBuilder;
use palisade::metadata::record::{MetadataRecord, PartitionRecord};
use palisade::partition::{Partition, PartitionSettings, ReplicaManager};
use palisade_auth::Authorizer;
use palisade_auth::audit::AuditContext;
use palisade_auth::authorizer::{AuthorizerConfig, SuperUsers};
use palisade_auth::grant::Write;
use palisade_auth::principal::{Caller, Principal};
use palisade_protocol::batch::{BatchBuilder, Codec};
use palisade_protocol::types::{BrokerId, LeaderEpoch, PartitionIndex, TimestampMs, TopicId};
use palisade_storage::{LogDir, LogDirOptions};

/// What was asked of the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    count: u64,
    bytes: u64,
}

const NOW: TimestampMs = TimestampMs::new(1_700_000_000_000);

fn batch(records: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for at in 0..records {
        let timestamp = TimestampMs::new(NOW.value() + at);
        builder
            .add(timestamp, Some(b"key"), Some(b"some value"), &[])
            .unwrap();
    }
    builder.build().unwrap().freeze()
}

/// An image with one topic of one partition, led by node 1.
fn image() -> (palisade::metadata::ClusterDelta, ClusterImage) {
    let topic_id = TopicId::from_bytes([5; 16]);
    let node = BrokerId::new(1);
    let mut builder = ImageBuilder::new(&ClusterImage::empty());
    let records = [
        MetadataRecord::Topic {
            id: topic_id,
            name: "t".to_owned(),
        },
        MetadataRecord::Partition(PartitionRecord {
            topic_id,
            partition: PartitionIndex::new(0),
            replicas: vec![node],
            isr: vec![node],
            leader: Some(node),
            leader_epoch: LeaderEpoch::new(0),
            partition_epoch: 0,
        }),
    ];
    for record in &records {
        builder.apply(record).unwrap();
    }
    builder.finish()
}

fn open(replicas: &ReplicaManager, image: &ClusterImage) -> Partition<Write> {
    let config = AuthorizerConfig {
        super_users: SuperUsers::parse("User:root").unwrap(),
        ..AuthorizerConfig::default()
    };
    let caller = Caller::new(Principal::user("root"), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let acls = Arc::clone(image.acls.cache());
    let authorizer = Authorizer::new(config);
    let access = authorizer.access(acls, caller, None, AuditContext::default());
    let grant = access.topic::<Write>("t").unwrap();
    replicas.partition(&grant, PartitionIndex::new(0)).unwrap()
}

/// Checks and appends one batch on this thread; the allocations it took, and their bytes.
///
/// Somebody else holds the bytes too, as a connection holds the frame that they are a slice of.
fn cost_of_one_produce(partition: &Partition<Write>, batch: Bytes) -> Cost {
    let epoch = partition.leader_epoch();
    let frame = batch.clone();
    let user = Principal::user("root");
    let mut appended = None;
    let spent = measure(|| {
        let produce = async {
            let valid = partition.check(batch, NOW, &user).await.unwrap();
            partition.append(valid, epoch, NOW).await
        };
        let produce = pin!(produce);
        if let Poll::Ready(done) = produce.poll(&mut Context::from_waker(Waker::noop())) {
            appended = Some(done);
        }
    });
    appended.expect("the way without waiting waited").unwrap();
    drop(frame);
    Cost {
        count: spent.count_total,
        bytes: spent.bytes_total,
    }
}

#[test]
fn a_thousand_records_cost_as_much_as_one() {
    let counted = measure(|| drop(black_box(Box::new(1_u64))));
    assert_eq!((counted.count_total, counted.bytes_total), (1, 8));

    let directory = tempfile::TempDir::new().unwrap();
    let (delta, image) = image();
    for log_append_time in [false, true] {
        let settings = move |_: &palisade::metadata::TopicImage| {
            let mut settings = PartitionSettings::default();
            settings.records.log_append_time = log_append_time;
            settings
        };
        let path = directory.path().join(log_append_time.to_string());
        let options = LogDirOptions {
            ballast_bytes: 0,
            reserve_bytes: Some(0),
            ..LogDirOptions::default()
        };
        let dir = LogDir::open(&path, palisade_storage::fs::real(), options).unwrap();
        let dirs = vec![Arc::new(dir)];
        let replicas = ReplicaManager::new(BrokerId::new(1), dirs, Box::new(settings));
        let replicas = replicas.unwrap();
        replicas.apply(&delta, &image, NOW);
        let partition = open(&replicas, &image);

        // The first appends fill queues and open the segment.
        for _ in 0..8 {
            cost_of_one_produce(&partition, batch(1));
        }
        // An index entry now and then makes a vector grow: the median of several is what counts.
        let median = |records: i64| {
            let mut costs: Vec<Cost> = (0..9)
                .map(|_| cost_of_one_produce(&partition, batch(records)))
                .collect();
            costs.sort_unstable();
            costs[costs.len() / 2]
        };
        let (one, thousand) = (median(1), median(1000));
        assert_eq!(one, thousand);
        assert!(one.count <= 2 && one.bytes < 512, "{one:?} for one batch");
    }
}
