//! Replaces the configuration of a resource as a whole (KIP-133).
//!
//! Versions: 2 flexible.

use std::fmt;

use palisade_protocol_derive::Message;

use super::Redacted;
use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-2", flexible = "2+", key = AlterConfigs, response = AlterConfigsResponse)]
pub struct AlterConfigsRequest {
    /// The resources.
    pub resources: Vec<AlterConfigsResource>,
    /// Whether to check without changing anything.
    pub validate_only: bool,
}

/// The new configuration of one resource.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct AlterConfigsResource {
    /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// The resource's name.
    pub resource_name: Str,
    /// Configuration keys with their values.
    pub configs: Vec<AlterableConfig>,
}

/// A key to change. Its value may be a password and does not print.
#[derive(Clone, PartialEq, Message)]
pub struct AlterableConfig {
    /// The configuration key.
    pub name: Str,
    /// The value; null where it is withheld or unset.
    #[field(nullable = "0+")]
    pub value: Option<Str>,
}

impl fmt::Debug for AlterableConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlterableConfig")
            .field("name", &self.name)
            .field(
                "value",
                &self
                    .value
                    .as_ref()
                    .map(|value| Redacted(value.as_bytes().len())),
            )
            .finish()
    }
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-2", flexible = "2+")]
pub struct AlterConfigsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The outcomes.
    pub responses: Vec<AlterConfigsResourceResponse>,
}

/// The outcome for one resource.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct AlterConfigsResourceResponse {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// The resource's name.
    pub resource_name: Str,
}
