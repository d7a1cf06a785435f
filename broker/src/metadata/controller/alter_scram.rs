//! AlterUserScramCredentials (51, KIP-554): the salted passwords become keys here and are
//! forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;

use palisade_auth::Secret;
use palisade_auth::audit::{Action, Change};
use palisade_auth::grant::Alter;
use palisade_auth::scram::{self, AlterError, Deletion, ScramChange, Upsertion, UserResult};
use palisade_protocol::messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResult,
};
use palisade_protocol::{ErrorCode, Str};

use super::row::RowError;
use super::{Context, ControllerError, ControllerRequest, Decision};
use crate::metadata::record::MetadataRecord;

impl ControllerRequest for AlterUserScramCredentialsRequest {
    type Response = AlterUserScramCredentialsResponse;

    fn rows(&self) -> usize {
        self.deletions.len() + self.upsertions.len()
    }

    fn decide(
        &self,
        _version: i16,
        context: &mut Context<'_>,
    ) -> Decision<AlterUserScramCredentialsResponse> {
        if let Err(denied) = context.rights.ask(|access| access.cluster::<Alter>()) {
            return Decision::only(refuse_all(self, &RowError::from(denied)));
        }
        let mut records = Vec::new();
        let mut changes = Vec::new();
        let mut results = Vec::new();
        for UserResult { name, result } in planned(self, context) {
            match result {
                Err(error) => {
                    let error = RowError::new(code_of(&error), error.to_string());
                    results.push(row(Str::from(name), Some(&error)));
                }
                Ok(change) => {
                    results.push(row(Str::copy(&name), None));
                    let key = context.image.scram.fake_salt_secret();
                    changes.push(audited(&name, &change, key.map(Arc::as_ref)));
                    records.push(match change {
                        ScramChange::Delete(mechanism) => MetadataRecord::RemoveScram {
                            user: name,
                            mechanism,
                        },
                        ScramChange::Upsert(credential) => MetadataRecord::Scram {
                            user: name,
                            credential,
                        },
                    });
                }
            }
        }
        let response = AlterUserScramCredentialsResponse {
            results,
            ..AlterUserScramCredentialsResponse::default()
        };
        Decision {
            records,
            response,
            changes,
        }
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> AlterUserScramCredentialsResponse {
        refuse_all(self, &RowError::from(error))
    }
}

fn planned(request: &AlterUserScramCredentialsRequest, context: &Context<'_>) -> Vec<UserResult> {
    let deletions = request
        .deletions
        .iter()
        .map(|deletion| Deletion {
            name: deletion.name.to_string(),
            mechanism: deletion.mechanism,
        })
        .collect();
    let upsertions = request
        .upsertions
        .iter()
        .map(|upsertion| Upsertion {
            name: upsertion.name.to_string(),
            mechanism: upsertion.mechanism,
            iterations: upsertion.iterations,
            salt: upsertion.salt.to_vec(),
            salted_password: Secret::new(upsertion.salted_password.to_vec()),
        })
        .collect();
    scram::plan_alterations(deletions, upsertions, |user, mechanism| {
        context.image.scram.get(user, mechanism).is_some()
    })
}

const fn code_of(error: &AlterError) -> ErrorCode {
    match error {
        AlterError::Twice => ErrorCode::DUPLICATE_RESOURCE,
        AlterError::UnknownMechanism => ErrorCode::UNSUPPORTED_SASL_MECHANISM,
        AlterError::NotFound => ErrorCode::RESOURCE_NOT_FOUND,
        AlterError::EmptyName
        | AlterError::TooFewIterations
        | AlterError::TooManyIterations
        | AlterError::SaltedPasswordLength
        | AlterError::SaltLength
        | AlterError::UnusableName => ErrorCode::UNACCEPTABLE_CREDENTIAL,
        AlterError::Internal => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// `key`: the cluster's secret, so that one credential reads the same on every node.
fn audited(user: &str, change: &ScramChange, key: Option<&Secret>) -> (Action, Change) {
    let target = |mechanism| format!("user {user} {mechanism}");
    match change {
        ScramChange::Delete(mechanism) => (
            Action::ScramDelete,
            Change {
                target: target(mechanism),
                ..Change::default()
            },
        ),
        ScramChange::Upsert(credential) => {
            let after = Some(format!("iterations={}", credential.iterations));
            let target = target(&credential.mechanism);
            (
                Action::ScramUpsert,
                Change {
                    target,
                    after,
                    secret: key.and_then(|key| credential.digest(key)),
                    ..Change::default()
                },
            )
        }
    }
}

fn refuse_all(
    request: &AlterUserScramCredentialsRequest,
    error: &RowError,
) -> AlterUserScramCredentialsResponse {
    let deleted = request.deletions.iter().map(|deletion| &deletion.name);
    let upserted = request.upsertions.iter().map(|upsertion| &upsertion.name);
    let users: BTreeSet<&Str> = deleted.chain(upserted).collect();
    AlterUserScramCredentialsResponse {
        results: users
            .into_iter()
            .map(|user| row(user.clone(), Some(error)))
            .collect(),
        ..AlterUserScramCredentialsResponse::default()
    }
}

fn row(user: Str, error: Option<&RowError>) -> AlterUserScramCredentialsResult {
    AlterUserScramCredentialsResult {
        user,
        error_code: error.map_or(ErrorCode::NONE, |error| error.code),
        error_message: error.and_then(RowError::text),
    }
}

#[cfg(test)]
mod tests;
