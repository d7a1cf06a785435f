//! Creates, replaces and deletes SCRAM credentials (KIP-554).

use std::fmt;

use bytes::Bytes;
use palisade_protocol_derive::Message;

use super::Redacted;
use crate::error_code::ErrorCode;
use crate::text::Str;

/// The request.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(
    versions = "0",
    flexible = "0+",
    key = AlterUserScramCredentials,
    response = AlterUserScramCredentialsResponse
)]
pub struct AlterUserScramCredentialsRequest {
    /// The credentials to delete.
    pub deletions: Vec<ScramCredentialDeletion>,
    /// The credentials to create or replace.
    pub upsertions: Vec<ScramCredentialUpsertion>,
}

/// A credential to delete.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct ScramCredentialDeletion {
    /// The user's name.
    pub name: Str,
    /// The mechanism: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
    pub mechanism: i8,
}

/// A credential to create or replace. Its secrets do not print.
#[derive(Clone, PartialEq, Message)]
pub struct ScramCredentialUpsertion {
    /// The user's name.
    pub name: Str,
    /// The mechanism: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
    pub mechanism: i8,
    /// How often the password is hashed.
    pub iterations: i32,
    /// The salt the client hashed with.
    pub salt: Bytes,
    /// The salted password, from which the broker derives its keys.
    pub salted_password: Bytes,
}

impl fmt::Debug for ScramCredentialUpsertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramCredentialUpsertion")
            .field("name", &self.name)
            .field("mechanism", &self.mechanism)
            .field("iterations", &self.iterations)
            .field("salt", &Redacted(self.salt.len()))
            .field("salted_password", &Redacted(self.salted_password.len()))
            .finish()
    }
}

/// The response.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct AlterUserScramCredentialsResponse {
    /// Milliseconds the client should wait because of a quota; 0 none.
    pub throttle_time_ms: i32,
    /// The outcomes.
    pub results: Vec<AlterUserScramCredentialsResult>,
}

/// The outcome for one user.
#[derive(Clone, Debug, PartialEq, Message)]
pub struct AlterUserScramCredentialsResult {
    /// The user's name.
    pub user: Str,
    /// The error, or NONE.
    pub error_code: ErrorCode,
    /// What went wrong, for people; null when nothing did.
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let request = AlterUserScramCredentialsRequest {
            upsertions: vec![ScramCredentialUpsertion {
                salt: Bytes::from_static(b"salt"),
                salted_password: Bytes::from_static(b"hunter2"),
                ..Default::default()
            }],
            ..Default::default()
        };
        let text = format!("{request:?}");
        assert!(
            text.contains("<7 bytes>") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
