//! A node with real logs in a temporary directory, for the tests of this crate.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use palisade_auth::acl::{AclBinding, Operation, PatternType, Permission, ResourceType};
use palisade_auth::audit::AuditContext;
use palisade_auth::authorizer::{AuthorizerConfig, SuperUsers};
use palisade_auth::grant::Write;
use palisade_auth::principal::{Caller, Principal};
use palisade_auth::{Access, Authorizer};
use palisade_protocol::batch::{BatchBuilder, Codec};
use palisade_protocol::types::{
    BrokerId, LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicId,
};
use palisade_storage::fs::Fs;
use palisade_storage::{LogDir, LogDirOptions};
use tempfile::TempDir;

use super::ReplicaManager;
use super::topic_settings::settings_with;
use crate::config::FlushPolicyName;
use crate::metadata::delta::ImageBuilder;
use crate::metadata::record::{ConfigResourceType, MetadataRecord, PartitionRecord};
use crate::metadata::{ClusterDelta, ClusterImage};

/// The time of all tests.
pub(crate) const NOW: TimestampMs = TimestampMs::new(1_700_000_000_000);
/// The node that is tested.
pub(crate) const NODE: BrokerId = BrokerId::new(1);
/// A user who may do everything.
pub(crate) const ROOT: &str = "root";

/// One node: its logs and what it knows of the cluster.
pub(crate) struct TestNode {
    pub(crate) replicas: Arc<ReplicaManager>,
    pub(crate) image: Arc<ClusterImage>,
    flush: FlushPolicyName,
    authorizer: Authorizer,
    directory: TempDir,
}

impl TestNode {
    /// A node without topics, whose logs are flushed by the kernel.
    pub(crate) fn new() -> TestNode {
        TestNode::with_flush(FlushPolicyName::Os)
    }

    /// A node without topics.
    pub(crate) fn with_flush(flush: FlushPolicyName) -> TestNode {
        let directory = TempDir::new().unwrap();
        let config = AuthorizerConfig {
            super_users: SuperUsers::parse(&format!("User:{ROOT}")).unwrap(),
            ..AuthorizerConfig::default()
        };
        let mut node = TestNode {
            replicas: open(&directory, flush),
            image: Arc::new(ClusterImage::empty()),
            flush,
            authorizer: Authorizer::new(config),
            directory,
        };
        node.apply(&[MetadataRecord::ClusterId("cluster".to_owned())]);
        node
    }

    /// Adds a topic with its settings; partitions are led here in epoch 0.
    pub(crate) fn topic(mut self, name: &str, partitions: i32, config: &[(&str, &str)]) -> Self {
        let id = topic_id(name);
        let mut records = vec![MetadataRecord::Topic {
            id,
            name: name.to_owned(),
        }];
        for index in 0..partitions {
            records.push(partition_record(id, index, &[1], &[1], Some(1), 0));
        }
        for (key, value) in config {
            records.push(set(name, key, value));
        }
        self.apply(&records);
        self
    }

    /// Lets the node learn of records.
    pub(crate) fn apply(&mut self, records: &[MetadataRecord]) {
        let mut builder = ImageBuilder::new(&self.image);
        for record in records {
            builder.apply(record).unwrap();
        }
        let (delta, image) = builder.finish();
        self.replicas.apply(&delta, &image, NOW);
        self.image = Arc::new(image);
    }

    /// Gives a partition other replicas, all of them in sync; the first one leads.
    pub(crate) fn assign(&mut self, topic: &str, index: i32, replicas: &[i32], epoch: i32) {
        let leader = replicas.first().copied();
        let id = topic_id(topic);
        self.apply(&[partition_record(
            id, index, replicas, replicas, leader, epoch,
        )]);
    }

    /// Appends a batch to a partition that this node leads; returns its base offset.
    pub(crate) async fn append(&self, topic: &str, index: i32, batch: BytesMut) -> i64 {
        let grant = self.access(ROOT).topic::<Write>(topic).unwrap();
        let index = PartitionIndex::new(index);
        let partition = self.replicas.partition(&grant, index).unwrap();
        let user = Principal::user(ROOT);
        let valid = partition.check(batch.freeze(), NOW, &user).await.unwrap();
        let epoch = partition.leader_epoch();
        let appended = partition.append(valid, epoch, NOW).await.unwrap();
        appended.base_offset.value()
    }

    /// Adds an ACL.
    pub(crate) fn allow(&mut self, acl: AclBinding) {
        self.apply(&[MetadataRecord::Acl(acl)]);
    }

    /// Stops and starts the node over the same directory.
    pub(crate) fn restart(&mut self) {
        self.restart_after(&[]);
    }

    /// The same, and records are applied while the node is down.
    pub(crate) fn restart_after(&mut self, records: &[MetadataRecord]) {
        self.restart_with(records, |_| ());
    }

    /// The same, and something happens to the log directory while the node is down.
    pub(crate) fn restart_with(&mut self, records: &[MetadataRecord], event: impl FnOnce(&Path)) {
        self.replicas.close(1).unwrap();
        // The directory's lock goes with the last handle.
        self.replicas = Arc::new(nothing());
        self.apply(records);
        event(&self.directory.path().join("logs"));
        self.replicas = open(&self.directory, self.flush);
        let everything = ClusterDelta::everything(&self.image);
        self.replicas.apply(&everything, &self.image, NOW);
    }

    /// Names of what lies in the log directory.
    pub(crate) fn log_directories(&self) -> Vec<String> {
        std::fs::read_dir(self.directory.path().join("logs"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// First segment of a log.
    pub(crate) fn log_file(&self, dir_name: &str) -> PathBuf {
        let logs = self.directory.path().join("logs");
        logs.join(dir_name).join("00000000000000000000.log")
    }

    /// What a user may do.
    pub(crate) fn access(&self, user: &str) -> Access {
        let caller = Caller::new(Principal::user(user), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let acls = Arc::clone(self.image.acls.cache());
        self.authorizer
            .access(acls, caller, None, AuditContext::default())
    }
}

fn open(directory: &TempDir, flush: FlushPolicyName) -> Arc<ReplicaManager> {
    let path = directory.path().join("logs");
    open_on(&path, palisade_storage::fs::real(), flush)
}

/// The logs below `path` of any file system.
pub(crate) fn open_on(path: &Path, fs: Arc<dyn Fs>, flush: FlushPolicyName) -> Arc<ReplicaManager> {
    let dir = LogDir::open(path, fs, options()).unwrap();
    let replicas = ReplicaManager::new(NODE, vec![Arc::new(dir)], settings_with(flush));
    Arc::new(replicas.unwrap().with_recovery_threads(3))
}

fn nothing() -> ReplicaManager {
    ReplicaManager::new(NODE, Vec::new(), settings_with(FlushPolicyName::Os)).unwrap()
}

fn options() -> LogDirOptions {
    LogDirOptions {
        ballast_bytes: 0,
        reserve_bytes: Some(0),
        ..LogDirOptions::default()
    }
}

/// The id of a test's topic: its name, padded.
pub(crate) fn topic_id(name: &str) -> TopicId {
    let mut id = [0xaa; 16];
    for (place, byte) in id.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    TopicId::from_bytes(id)
}

/// The state of one partition.
pub(crate) fn partition_record(
    topic_id: TopicId,
    index: i32,
    replicas: &[i32],
    isr: &[i32],
    leader: Option<i32>,
    epoch: i32,
) -> MetadataRecord {
    let nodes = |ids: &[i32]| ids.iter().copied().map(BrokerId::new).collect();
    MetadataRecord::Partition(PartitionRecord {
        topic_id,
        partition: PartitionIndex::new(index),
        replicas: nodes(replicas),
        isr: nodes(isr),
        leader: leader.map(BrokerId::new),
        leader_epoch: LeaderEpoch::new(epoch),
        partition_epoch: epoch,
    })
}

/// Allows a user an operation on the topic of that name.
pub(crate) fn topic_rule(user: &str, operation: Operation, topic: &str) -> AclBinding {
    AclBinding {
        resource_type: ResourceType::Topic,
        resource_name: topic.to_owned(),
        pattern_type: PatternType::Literal,
        principal: format!("User:{user}"),
        host: "*".to_owned(),
        operation,
        permission: Permission::Allow,
    }
}

/// A setting of a topic.
pub(crate) fn set(topic: &str, key: &str, value: &str) -> MetadataRecord {
    MetadataRecord::Config {
        resource_type: ConfigResourceType::Topic,
        resource_name: topic.to_owned(),
        key: key.to_owned(),
        value: Some(value.to_owned()),
    }
}

/// A batch of `count` records of one key and value, a millisecond apart from `NOW` on.
pub(crate) fn batch(count: i64) -> BytesMut {
    batch_with(BatchBuilder::new(Codec::None), count)
}

/// The same with what the builder was told before.
pub(crate) fn batch_with(mut builder: BatchBuilder, count: i64) -> BytesMut {
    for at in 0..count {
        let timestamp = TimestampMs::new(NOW.value() + at);
        builder
            .add(timestamp, Some(b"key"), Some(b"some value"), &[])
            .unwrap();
    }
    builder.build().unwrap()
}

/// An offset.
pub(crate) fn offset(value: i64) -> Offset {
    Offset::new(value)
}
