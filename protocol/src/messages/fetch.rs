//! Reads record batches; consumers and followers use it alike.
//!
//! Versions: 4 record batch v2 and isolation levels (KIP-98); 5 log start offset; 7 sessions
//! (KIP-227); 9 leader epochs (KIP-320); 10 zstd (KIP-110); 11 nearest replica (KIP-392); 12
//! flexible; 13 topic ids (KIP-516); 15 replica epoch (KIP-903); 16 leader addresses (KIP-951); 17
//! directory ids (KIP-853); 18 the follower's high watermark (KIP-1166).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::records::Records;
use crate::text::Str;
use crate::uuid::Uuid;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "4-18", flexible = "12+", key = Fetch, response = FetchResponse)]
pub struct FetchRequest {
    /// The cluster a replica believes it belongs to; null from consumers. Since version 12.
    #[field(versions = "12+", nullable = "12+", tag = 0, default = null, ignorable)]
    pub cluster_id: Option<Str>,
    /// The follower's node id; -1 from a consumer. Up to version 14.
    #[field(versions = "0-14", default = -1)]
    pub replica_id: i32,
    /// Who fetches, when it is a follower. Since version 15.
    #[field(versions = "15+", tag = 1)]
    pub replica_state: ReplicaState,
    /// The longest wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// The fewest bytes to answer with before the wait ends.
    pub min_bytes: i32,
    /// The most bytes in the response; one batch may exceed it (KIP-74).
    #[field(versions = "3+", default = 0x7fff_ffff, ignorable)]
    pub max_bytes: i32,
    /// What is visible: 0 read_uncommitted, 1 read_committed.
    #[field(versions = "4+", ignorable)]
    pub isolation_level: i8,
    /// The fetch session (KIP-227); 0 none. Since version 7.
    #[field(versions = "7+", ignorable)]
    pub session_id: i32,
    /// The position in the fetch session; 0 opens one, -1 goes without. Since version 7.
    #[field(versions = "7+", default = -1, ignorable)]
    pub session_epoch: i32,
    /// The topics.
    pub topics: Vec<FetchTopic>,
    /// Partitions to drop from the fetch session (KIP-227). Since version 7.
    #[field(versions = "7+")]
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    /// The client's rack. Since version 11.
    #[field(versions = "11+", ignorable)]
    pub rack_id: Str,
}

/// A follower and its epoch.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct ReplicaState {
    /// The follower's node id; -1 from a consumer. Since version 15.
    #[field(versions = "15+", default = -1)]
    pub replica_id: i32,
    /// The follower's broker epoch; -1 unknown. Since version 15.
    #[field(versions = "15+", default = -1)]
    pub replica_epoch: i64,
}

/// A topic to read.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct FetchTopic {
    /// The topic's name. Up to version 12.
    #[field(versions = "0-12", ignorable)]
    pub topic: Str,
    /// The topic's id. Since version 13.
    #[field(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<FetchPartition>,
}

/// A partition to read.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct FetchPartition {
    /// The partition's index.
    pub partition: i32,
    /// The leader epoch the client knows, to detect a stale view (KIP-320); -1 unknown. Since
    /// version 9.
    #[field(versions = "9+", default = -1, ignorable)]
    pub current_leader_epoch: i32,
    /// The offset to read from.
    pub fetch_offset: i64,
    /// The leader epoch of the last record the replica has; -1 none. Since version 12.
    #[field(versions = "12+", default = -1)]
    pub last_fetched_epoch: i32,
    /// The first offset of the log; -1 unknown. Since version 5.
    #[field(versions = "5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    /// The most bytes of this partition.
    pub partition_max_bytes: i32,
    /// The log directory of the replica that fetches. Since version 17.
    #[field(versions = "17+", tag = 0, ignorable)]
    pub replica_directory_id: Uuid,
    /// The high watermark a replica knows; -1 unknown, the highest value when it does not track it.
    /// Since version 18.
    #[field(versions = "18+", tag = 1, default = i64::MAX, ignorable)]
    pub high_watermark: i64,
}

/// Partitions to drop from the fetch session.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct ForgottenTopic {
    /// The topic's name. Versions 7 to 12.
    #[field(versions = "7-12", ignorable)]
    pub topic: Str,
    /// The topic's id. Since version 13.
    #[field(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    /// The partitions. Since version 7.
    #[field(versions = "7+")]
    pub partitions: Vec<i32>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "4-18", flexible = "12+")]
pub struct FetchResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or NONE. Since version 7.
    #[field(versions = "7+", ignorable)]
    pub error_code: ErrorCode,
    /// The fetch session (KIP-227); 0 none. Since version 7.
    #[field(versions = "7+")]
    pub session_id: i32,
    /// The outcomes.
    pub responses: Vec<FetchableTopicResponse>,
    /// The addresses of the leaders named in this response (KIP-951). Since version 16.
    #[field(versions = "16+", tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What was read of one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct FetchableTopicResponse {
    /// The topic's name. Up to version 12.
    #[field(versions = "0-12", ignorable)]
    pub topic: Str,
    /// The topic's id. Since version 13.
    #[field(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionData>,
}

/// What was read of one partition.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct PartitionData {
    /// The partition's index.
    pub partition_index: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The high watermark (exclusive).
    pub high_watermark: i64,
    /// The last stable offset (exclusive): all transactions below it are decided.
    #[field(versions = "4+", default = -1, ignorable)]
    pub last_stable_offset: i64,
    /// The first offset of the log; -1 unknown. Since version 5.
    #[field(versions = "5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    /// Where the follower's log departs from the leader's. Since version 12.
    #[field(versions = "12+", tag = 0)]
    pub diverging_epoch: EpochEndOffset,
    /// The leader, when the request went to another broker (KIP-951). Since version 12.
    #[field(versions = "12+", tag = 1)]
    pub current_leader: LeaderIdAndEpoch,
    /// The snapshot to read instead, in the metadata log. Since version 12.
    #[field(versions = "12+", tag = 2)]
    pub snapshot_id: SnapshotId,
    /// Aborted transactions in the range; null for read_uncommitted.
    #[field(versions = "4+", nullable = "4+", ignorable)]
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The replica the consumer should read from instead (KIP-392); -1 none. Since version 11.
    #[field(versions = "11+", default = -1)]
    pub preferred_read_replica: i32,
    /// Record batches, end to end; null counts as none.
    #[field(nullable = "0+", default = null)]
    pub records: Option<Records>,
}

/// Where a leader epoch ended.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct EpochEndOffset {
    /// The leader epoch; -1 unknown. Since version 12.
    #[field(versions = "12+", default = -1)]
    pub epoch: i32,
    /// The end offset (exclusive); -1 unknown. Since version 12.
    #[field(versions = "12+", default = -1)]
    pub end_offset: i64,
}

/// A leader with its epoch.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct LeaderIdAndEpoch {
    /// The leader's node id; -1 none. Since version 12.
    #[field(versions = "12+", default = -1)]
    pub leader_id: i32,
    /// The leader epoch; -1 unknown. Since version 12.
    #[field(versions = "12+", default = -1)]
    pub leader_epoch: i32,
}

/// The end of a snapshot.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct SnapshotId {
    /// The end offset (exclusive); -1 unknown.
    #[field(default = -1)]
    pub end_offset: i64,
    /// The leader epoch; -1 unknown.
    #[field(default = -1)]
    pub epoch: i32,
}

/// A transaction whose records a read_committed consumer drops.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct AbortedTransaction {
    /// The producer id.
    #[field(versions = "4+")]
    pub producer_id: i64,
    /// The transaction's first offset.
    #[field(versions = "4+")]
    pub first_offset: i64,
}

/// The address of a node.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct NodeEndpoint {
    /// The node id. Since version 16.
    #[field(versions = "16+")]
    pub node_id: i32,
    /// The host name or address. Since version 16.
    #[field(versions = "16+")]
    pub host: Str,
    /// The port. Since version 16.
    #[field(versions = "16+")]
    pub port: i32,
    /// The rack; null when none is set. Since version 16.
    #[field(versions = "16+", nullable = "16+", default = null)]
    pub rack: Option<Str>,
}
