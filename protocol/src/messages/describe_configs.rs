//! Describes the configuration of topics, brokers and groups (KIP-133).
//!
//! Versions: 1 sources and synonyms (KIP-226); 3 types and documentation (KIP-569); 4 flexible.

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "1-4",
    flexible = "4+",
    key = DescribeConfigs,
    response = DescribeConfigsResponse
)]
pub struct DescribeConfigsRequest {
    /// The resources.
    pub resources: Vec<DescribeConfigsResource>,
    /// Whether to list every source of a value.
    #[field(versions = "1+")]
    pub include_synonyms: bool,
    /// Whether to describe the keys. Since version 3.
    #[field(versions = "3+")]
    pub include_documentation: bool,
}

/// A resource to describe.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribeConfigsResource {
    /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// The resource's name.
    pub resource_name: Str,
    /// The keys wanted; null or empty for all.
    #[field(nullable = "0+")]
    pub configuration_keys: Option<Vec<Str>>,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "1-4", flexible = "4+")]
pub struct DescribeConfigsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The outcomes.
    pub results: Vec<DescribeConfigsResult>,
}

/// The configuration of one resource.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribeConfigsResult {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// The resource's name.
    pub resource_name: Str,
    /// Configuration keys with their values.
    pub configs: Vec<DescribeConfigsResourceResult>,
}

/// One configuration key.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribeConfigsResourceResult {
    /// The configuration key.
    pub name: Str,
    /// The value; null where it is withheld or unset.
    #[field(nullable = "0+")]
    pub value: Option<Str>,
    /// Whether the key cannot be changed.
    pub read_only: bool,
    /// Where the value comes from: 1 topic, 2 broker, 3 cluster-wide, 4 file, 5 default, 6 logger,
    /// 7 client metrics, 8 group.
    #[field(versions = "1+", default = -1, ignorable)]
    pub config_source: i8,
    /// Whether the value is a secret, and so withheld.
    pub is_sensitive: bool,
    /// Every source of the value, the one in force first.
    #[field(versions = "1+", ignorable)]
    pub synonyms: Vec<DescribeConfigsSynonym>,
    /// The value's type: 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9
    /// password. Since version 3.
    #[field(versions = "3+", ignorable)]
    pub config_type: i8,
    /// The key's description, when asked for. Since version 3.
    #[field(versions = "3+", nullable = "0+", ignorable)]
    pub documentation: Option<Str>,
}

/// One source of a value.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct DescribeConfigsSynonym {
    /// The configuration key.
    #[field(versions = "1+")]
    pub name: Str,
    /// The value; null where it is withheld or unset.
    #[field(versions = "1+", nullable = "0+")]
    pub value: Option<Str>,
    /// Where the value comes from; see `config_source`.
    #[field(versions = "1+")]
    pub source: i8,
}
