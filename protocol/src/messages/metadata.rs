//! Lists brokers, topics, partitions and their leaders.
//!
//! Versions: 1 controller and racks; 2 cluster id (KIP-78); 4 no automatic creation; 5 offline
//! replicas (KIP-112); 7 leader epochs (KIP-320); 8 authorized operations (KIP-430); 9 flexible; 10
//! and 12 topic ids (KIP-516); 11 cluster operations move to DescribeCluster (KIP-700); 13 a
//! top-level error (KIP-1102).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;
use crate::uuid::Uuid;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-13", flexible = "9+", key = Metadata, response = MetadataResponse)]
pub struct MetadataRequest {
    /// The topics wanted; null for all, which in version 0 is said by none.
    #[field(nullable = "1+")]
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// Whether a missing topic may be created. Since version 4.
    #[field(versions = "4+", default = true)]
    pub allow_auto_topic_creation: bool,
    /// Whether to say what the caller may do with the cluster. Versions 8 to 10.
    #[field(versions = "8-10")]
    pub include_cluster_authorized_operations: bool,
    /// Whether to say what the caller may do with each topic. Since version 8.
    #[field(versions = "8+")]
    pub include_topic_authorized_operations: bool,
}

/// A topic asked for, by name or by id.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct MetadataRequestTopic {
    /// The topic's id. Since version 10.
    #[field(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// The topic's name.
    #[field(nullable = "10+")]
    pub name: Option<Str>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-13", flexible = "9+")]
pub struct MetadataResponse {
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 3.
    #[field(versions = "3+", ignorable)]
    pub throttle_time_ms: i32,
    /// The brokers of the cluster.
    pub brokers: Vec<MetadataResponseBroker>,
    /// The cluster's id. Since version 2.
    #[field(versions = "2+", nullable = "2+", default = null, ignorable)]
    pub cluster_id: Option<Str>,
    /// The node clients should send changes to; -1 unknown. Since version 1.
    #[field(versions = "1+", default = -1, ignorable)]
    pub controller_id: i32,
    /// The topics.
    pub topics: Vec<MetadataResponseTopic>,
    /// Operations on the cluster the caller may do, as a bit field; -2147483648 when not asked for.
    /// Versions 8 to 10.
    #[field(versions = "8-10", default = i32::MIN)]
    pub cluster_authorized_operations: i32,
    /// The error, or NONE. Since version 13.
    #[field(versions = "13+", ignorable)]
    pub error_code: ErrorCode,
}

/// One broker.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct MetadataResponseBroker {
    /// The node id.
    pub node_id: i32,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: i32,
    /// The rack; null when none is set. Since version 1.
    #[field(versions = "1+", nullable = "1+", default = null, ignorable)]
    pub rack: Option<Str>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct MetadataResponseTopic {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The topic's name.
    #[field(nullable = "12+")]
    pub name: Option<Str>,
    /// The topic's id. Since version 10.
    #[field(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// Whether the broker keeps its own state in the topic. Since version 1.
    #[field(versions = "1+", ignorable)]
    pub is_internal: bool,
    /// The partitions.
    pub partitions: Vec<MetadataResponsePartition>,
    /// Operations on the topic the caller may do, as a bit field; -2147483648 when not asked for.
    /// Since version 8.
    #[field(versions = "8+", default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct MetadataResponsePartition {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The partition's index.
    pub partition_index: i32,
    /// The leader's node id; -1 none.
    pub leader_id: i32,
    /// The leader epoch; -1 unknown. Since version 7.
    #[field(versions = "7+", default = -1, ignorable)]
    pub leader_epoch: i32,
    /// The brokers that hold a replica, preferred leader first.
    pub replica_nodes: Vec<i32>,
    /// The brokers in sync with the leader, itself included.
    pub isr_nodes: Vec<i32>,
    /// Replicas on brokers that are down. Since version 5.
    #[field(versions = "5+", ignorable)]
    pub offline_replicas: Vec<i32>,
}
