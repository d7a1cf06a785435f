//! Deletes topics.
//!
//! Versions: 4 flexible; 5 error messages (KIP-599); 6 by topic id (KIP-516).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;
use crate::uuid::Uuid;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "1-6", flexible = "4+", key = DeleteTopics, response = DeleteTopicsResponse)]
pub struct DeleteTopicsRequest {
    /// The topics. Since version 6.
    #[field(versions = "6+")]
    pub topics: Vec<DeleteTopicState>,
    /// The names of the topics to delete. Up to version 5.
    #[field(versions = "0-5", ignorable)]
    pub topic_names: Vec<Str>,
    /// Milliseconds the broker may take.
    pub timeout_ms: i32,
}

/// A topic to delete, by name or by id.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DeleteTopicState {
    /// The topic's name. Since version 6.
    #[field(versions = "6+", nullable = "6+", default = null)]
    pub name: Option<Str>,
    /// The topic's id. Since version 6.
    #[field(versions = "6+")]
    pub topic_id: Uuid,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "1-6", flexible = "4+")]
pub struct DeleteTopicsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// The outcomes.
    pub responses: Vec<DeletableTopicResult>,
}

/// The outcome for one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DeletableTopicResult {
    /// The topic's name.
    #[field(nullable = "6+")]
    pub name: Option<Str>,
    /// The topic's id. Since version 6.
    #[field(versions = "6+", ignorable)]
    pub topic_id: Uuid,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did. Since version 5.
    #[field(versions = "5+", nullable = "5+", default = null, ignorable)]
    pub error_message: Option<Str>,
}
