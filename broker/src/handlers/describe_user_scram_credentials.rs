//! DescribeUserScramCredentials (key 50), version 0 (KIP-554): who has which SCRAM credentials.
//!
//! Only mechanism and iterations are told; salts and keys never leave the metadata.

use palisade_auth::grant::Describe;
use palisade_auth::scram::{DescribeError, Described, describe};
use palisade_protocol::messages::describe_user_scram_credentials::{
    CredentialInfo, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
};
use palisade_protocol::{ErrorCode, Str};

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::foreign;

/// Answers a DescribeUserScramCredentials request; needs DESCRIBE on CLUSTER.
pub(crate) async fn handle(
    ctx: &RequestContext,
    req: DescribeUserScramCredentialsRequest,
) -> Handled<DescribeUserScramCredentialsResponse> {
    let mut response = DescribeUserScramCredentialsResponse::default();
    let asked = req.users.unwrap_or_default();
    let mut users: Vec<String> = asked.iter().map(|user| user.name.to_string()).collect();
    if ctx.access().cluster::<Describe>().is_err() {
        response.error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        response.error_message = Some(Str::from(REFUSED));
        response.results = describe(&users, |_| Vec::new())
            .into_iter()
            .map(|(user, _)| {
                let code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
                error_row(user, code, REFUSED.into())
            })
            .collect();
        return Handled::Now(response);
    }
    let scram = &ctx.image.scram;
    if users.is_empty() {
        users = scram.iter().map(|(name, _)| name.to_string()).collect();
    }
    let rows = describe(&users, |user| {
        let known = scram.user(user).into_iter().flat_map(|known| known.iter());
        known
            .map(|credential| (credential.mechanism, credential.iterations))
            .collect()
    });
    response.results = rows.into_iter().map(row).collect();
    Handled::Now(response)
}

const REFUSED: &str = "DESCRIBE on the cluster is needed to describe SCRAM credentials";

fn row((user, described): Described) -> DescribeUserScramCredentialsResult {
    let infos = match described {
        Ok(infos) => infos,
        Err(error) => {
            let name = foreign::name(&user);
            let (code, error) = match error {
                DescribeError::NotFound(_) => {
                    (ErrorCode::RESOURCE_NOT_FOUND, DescribeError::NotFound(name))
                }
                DescribeError::Twice(_) => {
                    (ErrorCode::DUPLICATE_RESOURCE, DescribeError::Twice(name))
                }
            };
            return error_row(user, code, error.to_string());
        }
    };
    DescribeUserScramCredentialsResult {
        user: Str::from(user),
        credential_infos: infos
            .into_iter()
            .map(|(mechanism, iterations)| CredentialInfo {
                mechanism: mechanism.code(),
                iterations: i32::try_from(iterations).unwrap_or(i32::MAX),
            })
            .collect(),
        ..DescribeUserScramCredentialsResult::default()
    }
}

fn error_row(
    user: String,
    error_code: ErrorCode,
    message: String,
) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult {
        user: Str::from(user),
        error_code,
        error_message: Some(Str::from(message)),
        ..DescribeUserScramCredentialsResult::default()
    }
}
