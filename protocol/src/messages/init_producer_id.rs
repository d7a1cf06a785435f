//! Gives a producer its id and epoch (KIP-98).
//!
//! Versions: 2 flexible; 3 keeps an id (KIP-360); 4 PRODUCER_FENCED (KIP-588); 5
//! TRANSACTION_ABORTABLE (KIP-890); 6 two-phase commit (KIP-939), unstable and not advertised.

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "0-6",
    flexible = "2+",
    key = InitProducerId,
    response = InitProducerIdResponse
)]
pub struct InitProducerIdRequest {
    /// The transactional id; null for a producer without transactions.
    #[field(nullable = "0+")]
    pub transactional_id: Option<Str>,
    /// Milliseconds after which the coordinator aborts an idle transaction.
    pub transaction_timeout_ms: i32,
    /// The producer id to keep (KIP-360); -1 none. Since version 3.
    #[field(versions = "3+", default = -1)]
    pub producer_id: i64,
    /// The epoch to bump (KIP-360); -1 none. Since version 3.
    #[field(versions = "3+", default = -1)]
    pub producer_epoch: i16,
    /// Whether the client takes part in two-phase commit (KIP-939). Since version 6.
    #[field(versions = "6+")]
    pub enable2_pc: bool,
    /// Whether a prepared transaction survives (KIP-939). Since version 6.
    #[field(versions = "6+")]
    pub keep_prepared_txn: bool,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-6", flexible = "2+")]
pub struct InitProducerIdResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    #[field(ignorable)]
    pub throttle_time_ms: i32,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The producer id.
    #[field(default = -1)]
    pub producer_id: i64,
    /// The producer epoch.
    pub producer_epoch: i16,
    /// The producer id of the transaction under way; -1 none. Since version 6.
    #[field(versions = "6+", default = -1)]
    pub ongoing_txn_producer_id: i64,
    /// The producer epoch of the transaction under way; -1 none. Since version 6.
    #[field(versions = "6+", default = -1)]
    pub ongoing_txn_producer_epoch: i16,
}
