//! What the rows of an answer share: errors with their texts, and the words for denials.

use palisade_auth::Denied;
use palisade_auth::acl::ResourceType;
use palisade_protocol::{ErrorCode, Str};

use super::ControllerError;
use crate::foreign;

/// Why one item of a request fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowError {
    pub(super) code: ErrorCode,
    pub(super) message: Option<String>,
}

impl RowError {
    /// An error with a text for people.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> RowError {
        RowError {
            code,
            message: Some(message.into()),
        }
    }

    /// An error whose code says all.
    pub(super) fn bare(code: ErrorCode) -> RowError {
        RowError {
            code,
            message: None,
        }
    }

    /// INVALID_REQUEST with a text.
    pub(super) fn invalid_request(message: impl Into<String>) -> RowError {
        RowError::new(ErrorCode::INVALID_REQUEST, message)
    }

    /// The text for the wire, as long as an answer takes it.
    pub(super) fn text(&self) -> Option<Str> {
        self.message.as_deref().map(foreign::sentence)
    }
}

impl From<Denied> for RowError {
    fn from(denied: Denied) -> RowError {
        // Fixed texts: what the reference puts here is a dump of the request.
        let (code, message) = match denied.resource_type {
            _ if denied.not_ready => (
                ErrorCode::UNKNOWN_SERVER_ERROR,
                "The ACLs are not loaded yet.",
            ),
            ResourceType::Topic => (
                ErrorCode::TOPIC_AUTHORIZATION_FAILED,
                "Topic authorization failed.",
            ),
            ResourceType::Group => (
                ErrorCode::GROUP_AUTHORIZATION_FAILED,
                "Group authorization failed.",
            ),
            _ => (
                ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
                "Cluster authorization failed.",
            ),
        };
        RowError::new(code, message)
    }
}

impl From<&ControllerError> for RowError {
    fn from(error: &ControllerError) -> RowError {
        match error {
            ControllerError::TimedOut => RowError::bare(error.code()),
            _ => RowError::new(error.code(), error.to_string()),
        }
    }
}
