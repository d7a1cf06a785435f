//! Tells a client which APIs and versions it may use; the first request of a connection.
//!
//! Versions: 1 throttle time; 3 flexible, client software (KIP-511), features (KIP-584); 4 features
//! of minimum 0 (KIP-1022); 5 the node the client means (KIP-1242).

use palisade_protocol_derive::Message;

use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-5", flexible = "3+", key = ApiVersions, response = ApiVersionsResponse)]
pub struct ApiVersionsRequest {
    /// The client library. Since version 3.
    #[field(versions = "3+", ignorable)]
    pub client_software_name: Str,
    /// The client library's version. Since version 3.
    #[field(versions = "3+", ignorable)]
    pub client_software_version: Str,
    /// The cluster the client believes it talks to (KIP-1242); null when it does not say. Since
    /// version 5.
    #[field(versions = "5+", nullable = "5+", default = null, ignorable)]
    pub cluster_id: Option<Str>,
    /// The node the client believes it talks to (KIP-1242); -1 when it does not say. Since version
    /// 5.
    #[field(versions = "5+", default = -1, ignorable)]
    pub node_id: i32,
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-5", flexible = "3+")]
pub struct ApiVersionsResponse {
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// The APIs served.
    pub api_keys: Vec<ApiVersion>,
    /// Milliseconds the client should wait because of a quota; 0 none. Since version 1.
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// Features this broker can support. Since version 3.
    #[field(versions = "3+", tag = 0, ignorable)]
    pub supported_features: Vec<SupportedFeatureKey>,
    /// Grows with each change of the finalized features; -1 when there are none. Since version 3.
    #[field(versions = "3+", tag = 1, default = -1, ignorable)]
    pub finalized_features_epoch: i64,
    /// Features in force across the cluster. Since version 3.
    #[field(versions = "3+", tag = 2, ignorable)]
    pub finalized_features: Vec<FinalizedFeatureKey>,
    /// Always false here: it speaks of the ZooKeeper migration. Since version 3.
    #[field(versions = "3+", tag = 3, ignorable)]
    pub zk_migration_ready: bool,
}

/// The versions served of one API.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct ApiVersion {
    /// The API's number.
    pub api_key: i16,
    /// The lowest version.
    pub min_version: i16,
    /// The highest version.
    pub max_version: i16,
}

/// The levels of a feature this broker can support.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct SupportedFeatureKey {
    /// The feature's name. Since version 3.
    #[field(versions = "3+")]
    pub name: Str,
    /// The lowest version. Since version 3.
    #[field(versions = "3+")]
    pub min_version: i16,
    /// The highest version. Since version 3.
    #[field(versions = "3+")]
    pub max_version: i16,
}

/// The levels of a feature in force.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct FinalizedFeatureKey {
    /// The feature's name. Since version 3.
    #[field(versions = "3+")]
    pub name: Str,
    /// The highest level in force. Since version 3.
    #[field(versions = "3+")]
    pub max_version_level: i16,
    /// The lowest level in force. Since version 3.
    #[field(versions = "3+")]
    pub min_version_level: i16,
}
