//! Describes the cluster's nodes (KIP-700).
//!
//! Versions: 1 endpoint types (KIP-919); 2 fenced brokers (KIP-1073).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "0-2",
    flexible = "0+",
    key = DescribeCluster,
    response = DescribeClusterResponse
)]
pub struct DescribeClusterRequest {
    /// Whether to say what the caller may do with the cluster.
    pub include_cluster_authorized_operations: bool,
    /// The kind of node: 1 broker, 2 controller. Since version 1.
    #[field(versions = "1+", default = 1)]
    pub endpoint_type: i8,
    /// Whether to list fenced brokers too. Since version 2.
    #[field(versions = "2+")]
    pub include_fenced_brokers: bool,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-2", flexible = "0+")]
pub struct DescribeClusterResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+", default = null)]
    pub error_message: Option<Str>,
    /// The kind of node: 1 broker, 2 controller. Since version 1.
    #[field(versions = "1+", default = 1)]
    pub endpoint_type: i8,
    /// The cluster's id.
    pub cluster_id: Str,
    /// The node clients should send changes to; -1 unknown.
    #[field(default = -1)]
    pub controller_id: i32,
    /// The brokers of the cluster.
    pub brokers: Vec<DescribeClusterBroker>,
    /// Operations on the cluster the caller may do, as a bit field; -2147483648 when not asked for.
    #[field(default = i32::MIN)]
    pub cluster_authorized_operations: i32,
}

/// One broker.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribeClusterBroker {
    /// The broker's node id.
    pub broker_id: i32,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: i32,
    /// The rack; null when none is set.
    #[field(nullable = "0+", default = null)]
    pub rack: Option<Str>,
    /// Whether the broker is fenced. Since version 2.
    #[field(versions = "2+")]
    pub is_fenced: bool,
}
