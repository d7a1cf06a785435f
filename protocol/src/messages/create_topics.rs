//! Creates topics.
//!
//! Versions: 4 broker defaults (KIP-464); 5 flexible, effective configuration (KIP-525); 6 quota
//! errors (KIP-599); 7 topic ids (KIP-516).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;
use crate::uuid::Uuid;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "2-7", flexible = "5+", key = CreateTopics, response = CreateTopicsResponse)]
pub struct CreateTopicsRequest {
    /// The topics.
    pub topics: Vec<CreatableTopic>,
    /// Milliseconds the broker may take.
    #[field(default = 60_000)]
    pub timeout_ms: i32,
    /// Whether to check without changing anything.
    #[field(versions = "1+")]
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct CreatableTopic {
    /// The topic's name.
    pub name: Str,
    /// The number of partitions; -1 for the default or with `assignments`.
    pub num_partitions: i32,
    /// The number of replicas; -1 for the default or with `assignments`.
    pub replication_factor: i16,
    /// The brokers of each partition, chosen by the caller.
    pub assignments: Vec<CreatableReplicaAssignment>,
    /// Configuration keys with their values.
    pub configs: Vec<CreatableTopicConfig>,
}

/// The brokers of one partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct CreatableReplicaAssignment {
    /// The partition's index.
    pub partition_index: i32,
    /// The brokers that get a replica; the first is preferred as leader.
    pub broker_ids: Vec<i32>,
}

/// A configuration key to set.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct CreatableTopicConfig {
    /// The configuration key.
    pub name: Str,
    /// The value; null where it is withheld or unset.
    #[field(nullable = "0+")]
    pub value: Option<Str>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "2-7", flexible = "5+")]
pub struct CreateTopicsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    #[field(versions = "2+", ignorable)]
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<CreatableTopicResult>,
}

/// The outcome for one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct CreatableTopicResult {
    /// The topic's name.
    pub name: Str,
    /// The topic's id. Since version 7.
    #[field(versions = "7+", ignorable)]
    pub topic_id: Uuid,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(versions = "1+", nullable = "0+", ignorable)]
    pub error_message: Option<Str>,
    /// Why the configuration is withheld, or NONE. Since version 5.
    #[field(versions = "5+", tag = 0, ignorable)]
    pub topic_config_error_code: ErrorCode,
    /// The number of partitions. Since version 5.
    #[field(versions = "5+", default = -1, ignorable)]
    pub num_partitions: i32,
    /// The number of replicas. Since version 5.
    #[field(versions = "5+", default = -1, ignorable)]
    pub replication_factor: i16,
    /// Configuration keys with their values. Since version 5.
    #[field(versions = "5+", nullable = "5+", ignorable)]
    pub configs: Option<Vec<CreatableTopicConfigs>>,
}

/// A configuration key of the new topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct CreatableTopicConfigs {
    /// The configuration key. Since version 5.
    #[field(versions = "5+")]
    pub name: Str,
    /// The value; null where it is withheld or unset. Since version 5.
    #[field(versions = "5+", nullable = "5+")]
    pub value: Option<Str>,
    /// Whether the key cannot be changed. Since version 5.
    #[field(versions = "5+")]
    pub read_only: bool,
    /// Where the value comes from: 1 topic, 2 broker, 3 cluster-wide, 4 file, 5 default, 6 logger,
    /// 7 client metrics, 8 group. Since version 5.
    #[field(versions = "5+", default = -1, ignorable)]
    pub config_source: i8,
    /// Whether the value is a secret, and so withheld. Since version 5.
    #[field(versions = "5+")]
    pub is_sensitive: bool,
}
