//! ApiVersions (18), versions 0-5. Answered on every listener, before login too, and the same to
//! everybody.
//!
//! v1 throttle time; v3 client software (KIP-511), features (KIP-584), flexible body under a
//! non-flexible response header; v4 may show features whose minimum is 0 (KIP-1022); v5 names the
//! node that the client believes to talk to (KIP-1242). A version outside the range gets a v0 body
//! with the range of this API alone, so that the client can come again.

use std::sync::Arc;

use palisade_protocol::messages::api_versions::{
    ApiVersionsRequest, ApiVersionsResponse, advertised, unsupported_version_response,
};
use palisade_protocol::types::BrokerId;
use palisade_protocol::{ApiKey, ErrorCode};

use crate::context::RequestContext;
use crate::dispatch::{Handled, Outcome, Wire};
use crate::server::{ClientSoftware, Service};

/// Longest client software name or version that is kept, in bytes.
const SOFTWARE_MAX: usize = 256;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ApiVersionsRequest,
) -> Handled<ApiVersionsResponse> {
    match check(&request, ctx.api_version, ctx.broker.identity()) {
        Ok(software) => {
            if let Some(software) = software {
                ctx.session.set_software(&software);
            }
            Handled::Now(everything())
        }
        Err(code) => Handled::Now(error(code)),
    }
}

/// Judges a request: the software it names (from v3), or the error it gets.
pub(crate) fn check(
    request: &ApiVersionsRequest,
    version: i16,
    (cluster_id, node_id): (Arc<str>, BrokerId),
) -> Result<Option<ClientSoftware>, ErrorCode> {
    if version < 3 {
        return Ok(None);
    }
    let software = ClientSoftware {
        name: request.client_software_name.clone(),
        version: request.client_software_version.clone(),
    };
    if !is_software_text(&software.name) || !is_software_text(&software.version) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    // Exactly one of the two is a mistake; both must name this very node.
    match (&request.cluster_id, request.node_id) {
        (None, -1) => Ok(Some(software)),
        (None, _) | (Some(_), -1) => Err(ErrorCode::INVALID_REQUEST),
        (Some(cluster), node) if *cluster.as_str() == *cluster_id && node == node_id.value() => {
            Ok(Some(software))
        }
        (Some(_), _) => Err(ErrorCode::REBOOTSTRAP_REQUIRED),
    }
}

/// The answer to a version outside the range: a v0 body that holds the range of this API alone.
pub(crate) fn unsupported_version(correlation_id: i32) -> Outcome {
    let wire = Wire {
        key: ApiKey::ApiVersions,
        version: 0,
        correlation_id,
    };
    wire.encode(&unsupported_version_response())
}

/// An answer that holds nothing but an error.
pub(crate) fn error(error_code: ErrorCode) -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code,
        ..Default::default()
    }
}

/// The answer to a correct request.
pub(crate) fn everything() -> ApiVersionsResponse {
    ApiVersionsResponse {
        api_keys: advertised(),
        ..Default::default()
    }
}

/// `[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?`, and not of any length.
fn is_software_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edges = [bytes.first(), bytes.last()];
    bytes.len() <= SOFTWARE_MAX
        && edges
            .iter()
            .all(|edge| edge.is_some_and(u8::is_ascii_alphanumeric))
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_letters_digits_dots_and_dashes() {
        for good in ["a", "apache-kafka-java", "4.3.1", "1", "a-.b"] {
            assert!(is_software_text(good), "{good}");
        }
        for bad in ["", "-a", "a.", "bad name!", "ä", "a\nb", &"a".repeat(257)] {
            assert!(!is_software_text(bad), "{bad}");
        }
    }

    #[test]
    fn the_range_of_this_api_is_told_in_the_oldest_form() {
        let Outcome::Response(chunks) = unsupported_version(7) else {
            panic!("no answer");
        };
        let bytes: Vec<u8> = chunks
            .iter()
            .flat_map(|chunk| chunk.as_bytes().to_vec())
            .collect();
        let max = palisade_protocol::api::spec(ApiKey::ApiVersions)
            .unwrap()
            .max as u8;
        let expected = [
            0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, max,
        ];
        assert_eq!(bytes, expected);
    }
}
