//! One partition with its real log in this process, reached through the broker's own doors.
//!
//! What a connection does around it (TLS, framing, the queue of answers) is not here; `node`
//! measures the whole.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use palisade::metadata::delta::ImageBuilder;
use palisade::metadata::record::{MetadataRecord, PartitionRecord};
use palisade::metadata::{ClusterImage, TopicImage};
use palisade::partition::{PartitionSettings, ReplicaManager};
use palisade_auth::acl::{AclBinding, Operation, PatternType, Permission, ResourceType};
use palisade_auth::audit::AuditContext;
use palisade_auth::{Access, Authorizer, AuthorizerConfig, Caller, Principal};
use palisade_protocol::types::{BrokerId, LeaderEpoch, PartitionIndex, TimestampMs, TopicId};
use palisade_storage::{FlushPolicy, LogConfig, LogDir, LogDirOptions};
use tempfile::TempDir;

/// Time of every record and request.
pub const NOW: TimestampMs = TimestampMs::new(1_700_000_000_000);

/// Name of the one topic.
pub const TOPIC: &str = "bench";

const NODE: BrokerId = BrokerId::new(1);
const USER: &str = "bench";

/// A topic of one partition, led here, and a user who may read and write it by ACLs.
pub struct Rig {
    /// The partitions.
    pub replicas: ReplicaManager,
    /// What the node knows of the cluster.
    pub image: ClusterImage,
    authorizer: Authorizer,
    generation: u64,
    // Dropped last: the logs lie in it.
    _directory: TempDir,
}

impl Rig {
    /// Opens a log directory below `scratch`, whose file system is part of the result.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn new(scratch: &Path, flush_policy: FlushPolicy) -> Self {
        let directory = TempDir::with_prefix_in("rig-", scratch).expect("a directory");
        let options = LogDirOptions {
            ballast_bytes: 0,
            ..LogDirOptions::default()
        };
        let path = directory.path().join("logs");
        let dir = LogDir::open(&path, palisade_storage::fs::real(), options)
            .expect("an empty log directory opens");
        let settings = move |_: &TopicImage| PartitionSettings {
            log: LogConfig {
                flush_policy,
                ..LogConfig::default()
            },
            ..PartitionSettings::default()
        };
        let replicas = ReplicaManager::new(NODE, vec![Arc::new(dir)], Box::new(settings))
            .expect("an empty log directory can be listed");
        let mut rig = Self {
            replicas,
            image: ClusterImage::empty(),
            authorizer: Authorizer::new(AuthorizerConfig::default()),
            generation: 0,
            _directory: directory,
        };
        rig.apply(&[
            MetadataRecord::ClusterId("bench".to_owned()),
            MetadataRecord::Acl(allow(Operation::Read)),
            MetadataRecord::Acl(allow(Operation::Write)),
        ]);
        rig.renew();
        rig
    }

    /// Puts an empty topic in the place of the present one.
    pub fn renew(&mut self) {
        let mut records = Vec::new();
        if self.generation > 0 {
            records.push(MetadataRecord::RemoveTopic {
                id: self.topic_id(),
            });
        }
        self.generation += 1;
        records.push(MetadataRecord::Topic {
            id: self.topic_id(),
            name: TOPIC.to_owned(),
        });
        records.push(MetadataRecord::Partition(PartitionRecord {
            topic_id: self.topic_id(),
            partition: PartitionIndex::new(0),
            replicas: vec![NODE],
            isr: vec![NODE],
            leader: Some(NODE),
            leader_epoch: LeaderEpoch::new(0),
            partition_epoch: 0,
        }));
        self.apply(&records);
    }

    /// The id of the present topic.
    pub fn topic_id(&self) -> TopicId {
        let mut id = [0xbe; 16];
        id[..8].copy_from_slice(&self.generation.to_be_bytes());
        TopicId::from_bytes(id)
    }

    /// What the user may do, for one request.
    pub fn access(&self) -> Access {
        let caller = Caller::new(Principal::user(USER), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let acls = Arc::clone(self.image.acls.cache());
        self.authorizer
            .access(acls, caller, None, AuditContext::default())
    }

    fn apply(&mut self, records: &[MetadataRecord]) {
        let mut builder = ImageBuilder::new(&self.image);
        for record in records {
            builder.apply(record).expect("records in order");
        }
        let (delta, image) = builder.finish();
        self.replicas.apply(&delta, &image, NOW);
        self.image = image;
    }
}

fn allow(operation: Operation) -> AclBinding {
    AclBinding {
        resource_type: ResourceType::Topic,
        resource_name: TOPIC.to_owned(),
        pattern_type: PatternType::Literal,
        principal: format!("User:{USER}"),
        host: "*".to_owned(),
        operation,
        permission: Permission::Allow,
    }
}
