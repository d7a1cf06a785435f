//! What a denied caller is told.

use palisade_auth::Denied;
use palisade_protocol::ErrorCode;

/// The API's own code for a denial; before the ACLs are loaded nobody can be told yes or no, which
/// clients see as an unexpected error (KIP-801, security.md §4.3).
pub(crate) fn code(denied: &Denied, code: ErrorCode) -> ErrorCode {
    if denied.not_ready {
        ErrorCode::UNKNOWN_SERVER_ERROR
    } else {
        code
    }
}
