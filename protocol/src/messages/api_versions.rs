//! Tells a client which APIs and versions it may use; the first request of a connection.
//!
//! Versions: 1 throttle time; 3 flexible, client software (KIP-511), features (KIP-584); 4 features
//! of minimum 0 (KIP-1022); 5 the node the client means (KIP-1242).

use palisade_protocol_derive::Message;

use crate::api::{self, ApiKey, ApiSpec};
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

/// The answer to a request of a version that is not served.
///
/// Send it in version 0 with the response header of version 0, whatever was asked: it names the one
/// range the client needs to ask again (KIP-511).
pub fn unsupported_version_response() -> ApiVersionsResponse {
    let own = api::spec(ApiKey::ApiVersions).map(ApiVersion::from);
    ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: own.into_iter().collect(),
        ..Default::default()
    }
}

/// Everything that is advertised, by key.
pub fn advertised() -> Vec<ApiVersion> {
    api::SERVED.iter().map(ApiVersion::from).collect()
}

impl From<&ApiSpec> for ApiVersion {
    fn from(spec: &ApiSpec) -> Self {
        Self {
            api_key: spec.key.value(),
            min_version: spec.min,
            max_version: spec.max,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::frame;

    #[test]
    fn an_unserved_version_is_answered_in_version_0() {
        let chunks = frame::encode_response(
            BytesMut::new(),
            ApiKey::ApiVersions,
            0,
            7,
            &unsupported_version_response(),
        )
        .unwrap();
        // Size, correlation id, error 35, one entry: key 18, versions 0 to 5.
        let expected = [
            0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5,
        ];
        assert_eq!(
            chunks
                .iter()
                .flat_map(|chunk| chunk.as_bytes())
                .copied()
                .collect::<Vec<u8>>(),
            expected
        );
    }

    #[test]
    fn produce_is_advertised_from_version_0() {
        let produce = &advertised()[0];
        assert_eq!(
            (produce.api_key, produce.min_version, produce.max_version),
            (0, 0, 13)
        );
    }
}
