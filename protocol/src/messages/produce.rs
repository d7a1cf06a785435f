//! Appends record batches to partitions.
//!
//! Versions: 3 record batch v2 (KIP-98); 5 log start offset; 7 zstd (KIP-110); 8 errors per record
//! (KIP-467); 9 flexible; 10 leader hints (KIP-951); 11 TRANSACTION_ABORTABLE and 12 implicit
//! transaction partitions (KIP-890); 13 topic ids (KIP-516).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::records::Records;
use crate::text::Str;
use crate::uuid::Uuid;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "3-13", flexible = "9+", key = Produce, response = ProduceResponse)]
pub struct ProduceRequest {
    /// The transactional id; null for a producer without transactions.
    #[field(versions = "3+", nullable = "3+", default = null)]
    pub transactional_id: Option<Str>,
    /// Acknowledgements awaited: 0 none, 1 the leader's, -1 those of the whole ISR.
    pub acks: i16,
    /// Milliseconds the broker may take.
    pub timeout_ms: i32,
    /// The batches, per topic.
    pub topic_data: Vec<TopicProduceData>,
}

/// The batches for one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct TopicProduceData {
    /// The topic's name. Up to version 12.
    #[field(versions = "0-12", ignorable)]
    pub name: Str,
    /// The topic's id. Since version 13.
    #[field(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    /// The batches, per partition.
    pub partition_data: Vec<PartitionProduceData>,
}

/// The batches for one partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct PartitionProduceData {
    /// The partition's index.
    pub index: i32,
    /// Record batches, end to end; null counts as none.
    #[field(nullable = "0+", default = null)]
    pub records: Option<Records>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "3-13", flexible = "9+")]
pub struct ProduceResponse {
    /// The outcomes.
    pub responses: Vec<TopicProduceResponse>,
    /// Milliseconds the client should wait because of a quota; 0 none.
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// The addresses of the leaders named in this response (KIP-951). Since version 10.
    #[field(versions = "10+", tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The outcome for one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct TopicProduceResponse {
    /// The topic's name. Up to version 12.
    #[field(versions = "0-12", ignorable)]
    pub name: Str,
    /// The topic's id. Since version 13.
    #[field(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    /// The outcome per partition.
    pub partition_responses: Vec<PartitionProduceResponse>,
}

/// The outcome for one partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct PartitionProduceResponse {
    /// The partition's index.
    pub index: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The offset of the first record; -1 on error.
    pub base_offset: i64,
    /// The broker's time of the append in milliseconds; -1 where the producer's timestamps count.
    #[field(versions = "2+", default = -1, ignorable)]
    pub log_append_time_ms: i64,
    /// The first offset of the log; -1 unknown. Since version 5.
    #[field(versions = "5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    /// The records that caused the refusal (KIP-467). Since version 8.
    #[field(versions = "8+", ignorable)]
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// What went wrong, for people; null when nothing did. Since version 8.
    #[field(versions = "8+", nullable = "8+", default = null, ignorable)]
    pub error_message: Option<Str>,
    /// The leader, when the request went to another broker (KIP-951). Since version 10.
    #[field(versions = "10+", tag = 0)]
    pub current_leader: LeaderIdAndEpoch,
}

/// A record that was refused.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct BatchIndexAndErrorMessage {
    /// The record's index within its batch. Since version 8.
    #[field(versions = "8+")]
    pub batch_index: i32,
    /// Why the record was refused. Since version 8.
    #[field(versions = "8+", nullable = "8+", default = null)]
    pub batch_index_error_message: Option<Str>,
}

/// A leader with its epoch.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct LeaderIdAndEpoch {
    /// The leader's node id; -1 none. Since version 10.
    #[field(versions = "10+", default = -1)]
    pub leader_id: i32,
    /// The leader epoch; -1 unknown. Since version 10.
    #[field(versions = "10+", default = -1)]
    pub leader_epoch: i32,
}

/// The address of a node.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct NodeEndpoint {
    /// The node id. Since version 10.
    #[field(versions = "10+")]
    pub node_id: i32,
    /// The host name or address. Since version 10.
    #[field(versions = "10+")]
    pub host: Str,
    /// The port. Since version 10.
    #[field(versions = "10+")]
    pub port: i32,
    /// The rack; null when none is set. Since version 10.
    #[field(versions = "10+", nullable = "10+", default = null)]
    pub rack: Option<Str>,
}
