//! What the metadata log says, one fact per record, and its bytes.
//!
//! ```text
//! batch   u16 format (1) | u32 count | record*          one raft entry, applied as a whole
//! record  u16 kind | u16 version | u32 length | body    body: codec.rs, fields in order
//! ```
//!
//! A batch or record of a newer format is refused with both numbers: applying what is not
//! understood would let this node's image drift from the group's.

use palisade_auth::Secret;
use palisade_auth::acl::AclBinding;
use palisade_auth::scram::{ScramCredential, ScramMechanism};
use palisade_protocol::types::{
    BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicId, Uuid,
};

use crate::raft::codec::{CodecError, Decoder, Encoder};

mod body;

/// Format of a batch of records.
const BATCH_FORMAT: u16 = 1;

/// One fact of the cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataRecord {
    /// The cluster has this id; written once.
    ClusterId(String),
    /// A key for the fake salts that unknown users are shown (security.md §3.3); written once.
    FakeSaltSecret(Secret),
    /// A feature is finalised at a level.
    FeatureLevel {
        /// Feature name, as `metadata.version`.
        name: String,
        /// Level; 0 takes the feature away.
        level: i16,
    },
    /// A broker registered, with everything known of it; replaces its older registration.
    RegisterBroker(BrokerRegistration),
    /// A broker is fenced or unfenced.
    FenceBroker {
        /// The broker.
        id: BrokerId,
        /// Registration this is about.
        epoch: i64,
        /// Whether it may neither lead nor be in sync.
        fenced: bool,
    },
    /// A broker's registration is gone.
    UnregisterBroker {
        /// The broker.
        id: BrokerId,
    },
    /// A topic exists; its partitions follow in the same batch.
    Topic {
        /// Random id, never nil.
        id: TopicId,
        /// Name, already checked.
        name: String,
    },
    /// The full state of one partition, new or changed.
    Partition(PartitionRecord),
    /// A topic is gone, with its partitions and settings.
    RemoveTopic {
        /// Its id.
        id: TopicId,
    },
    /// A setting of a resource; `None` removes it.
    Config {
        /// Kind of resource.
        resource_type: ConfigResourceType,
        /// Its name.
        resource_name: String,
        /// Key.
        key: String,
        /// Text as it was set.
        value: Option<String>,
    },
    /// An ACL exists.
    Acl(AclBinding),
    /// An ACL is gone.
    RemoveAcl(AclBinding),
    /// A user has this SCRAM credential for its mechanism.
    Scram {
        /// User name.
        user: String,
        /// What verifies a login.
        credential: ScramCredential,
    },
    /// A user's SCRAM credential of one mechanism is gone.
    RemoveScram {
        /// User name.
        user: String,
        /// Mechanism.
        mechanism: ScramMechanism,
    },
    /// A block of producer ids was handed out; the next one starts at `next`.
    ProducerIds {
        /// Broker that has it.
        broker_id: BrokerId,
        /// Its registration.
        broker_epoch: i64,
        /// First id never handed out.
        next: ProducerId,
    },
}

/// A broker as it registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// Node id.
    pub id: BrokerId,
    /// New at each start of the process.
    pub incarnation: Uuid,
    /// Offset of the registration in the metadata log: grows with each registration.
    pub epoch: i64,
    /// Where clients reach it.
    pub endpoints: Vec<BrokerEndpoint>,
    /// Rack, where one is set.
    pub rack: Option<String>,
    /// Whether it may neither lead nor be in sync.
    pub fenced: bool,
}

impl BrokerRegistration {
    /// The endpoint of a listener.
    #[must_use]
    pub fn endpoint(&self, listener: &str) -> Option<&BrokerEndpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.listener == listener)
    }
}

/// One advertised address of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerEndpoint {
    /// Listener name.
    pub listener: String,
    /// Host as advertised.
    pub host: String,
    /// Port as advertised.
    pub port: u16,
    /// Kafka's code: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// The full state of a partition as the log has it (replication.md §1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRecord {
    /// Topic.
    pub topic_id: TopicId,
    /// Index within the topic.
    pub partition: PartitionIndex,
    /// Ordered assignment; the first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// Committed in-sync set.
    pub isr: Vec<BrokerId>,
    /// Leader, where there is one.
    pub leader: Option<BrokerId>,
    /// Grows whenever the leader is set or re-set.
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change.
    pub partition_epoch: i32,
}

/// Kind of a configurable resource, with Kafka's codes (configs.md §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResourceType {
    /// A topic, 2.
    Topic,
    /// A broker, or every broker where the name is empty, 4.
    Broker,
    /// A logger of one broker, 8.
    BrokerLogger,
    /// A client-metrics subscription, 16.
    ClientMetrics,
    /// A group, 32.
    Group,
}

impl ConfigResourceType {
    /// Kafka's code.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            ConfigResourceType::Topic => 2,
            ConfigResourceType::Broker => 4,
            ConfigResourceType::BrokerLogger => 8,
            ConfigResourceType::ClientMetrics => 16,
            ConfigResourceType::Group => 32,
        }
    }

    /// The kind with a code; `None` for codes that name nothing configurable.
    #[must_use]
    pub const fn from_code(code: i8) -> Option<ConfigResourceType> {
        match code {
            2 => Some(ConfigResourceType::Topic),
            4 => Some(ConfigResourceType::Broker),
            8 => Some(ConfigResourceType::BrokerLogger),
            16 => Some(ConfigResourceType::ClientMetrics),
            32 => Some(ConfigResourceType::Group),
            _ => None,
        }
    }
}

/// Writes records as one raft entry.
#[must_use]
pub fn encode_batch(records: &[MetadataRecord]) -> Vec<u8> {
    let mut out = Encoder::new();
    out.u16(BATCH_FORMAT);
    out.list(records.iter(), |out, record| record.encode(out));
    out.finish()
}

/// Reads the records of one raft entry.
///
/// # Errors
/// Any `CodecError`; `TooNew` where a newer release wrote it.
pub fn decode_batch(bytes: &[u8]) -> Result<Vec<MetadataRecord>, CodecError> {
    let mut input = Decoder::new(bytes);
    let format = input.u16("batch format")?;
    if format != BATCH_FORMAT {
        return Err(CodecError::TooNew {
            what: "metadata batch",
            found: u32::from(format),
            supported: u32::from(BATCH_FORMAT),
        });
    }
    let records = input.list("batch", MetadataRecord::decode)?;
    input.finish("batch")?;
    Ok(records)
}

/// The offset that an entry of this raft index has in the metadata log.
#[must_use]
pub fn offset_of_index(index: u64) -> Offset {
    let index = i64::try_from(index).expect("raft indexes stay below 2^63");
    Offset::new(index - 1)
}
