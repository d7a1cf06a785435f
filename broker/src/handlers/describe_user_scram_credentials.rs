//! DescribeUserScramCredentials (key 50), version 0 (KIP-554): who has which SCRAM credentials.
//!
//! Only mechanism and iterations are told; salts and keys never leave the metadata.

use std::collections::HashMap;

use palisade_auth::grant::Describe;
use palisade_protocol::messages::describe_user_scram_credentials::{
    CredentialInfo, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
};
use palisade_protocol::{ErrorCode, Str};

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::metadata::image::{ScramImage, UserCredentials};

/// Answers a DescribeUserScramCredentials request; needs DESCRIBE on CLUSTER.
pub(crate) async fn handle(
    ctx: &RequestContext,
    req: DescribeUserScramCredentialsRequest,
) -> Handled<DescribeUserScramCredentialsResponse> {
    let mut response = DescribeUserScramCredentialsResponse::default();
    let mut names = Asked::new(
        req.users
            .unwrap_or_default()
            .into_iter()
            .map(|user| user.name),
    );
    if ctx.access().cluster::<Describe>().is_err() {
        response.error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        response.error_message = Some(Str::from(REFUSED));
        response.results = names
            .in_order
            .drain(..)
            .map(|name| {
                error_row(
                    name,
                    ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
                    REFUSED.into(),
                )
            })
            .collect();
        return Handled::Now(response);
    }
    let scram = &ctx.image.scram;
    response.results = if names.in_order.is_empty() {
        scram
            .iter()
            .map(|(name, known)| row(Str::copy(name), known))
            .collect()
    } else {
        names
            .in_order
            .drain(..)
            .map(|name| answer(scram, &names.times, name))
            .collect()
    };
    Handled::Now(response)
}

const REFUSED: &str = "DESCRIBE on the cluster is needed to describe SCRAM credentials";

/// The users of a request, each once, with how often each was named.
struct Asked {
    in_order: Vec<Str>,
    times: HashMap<Str, usize>,
}

impl Asked {
    fn new(names: impl Iterator<Item = Str>) -> Asked {
        let mut asked = Asked {
            in_order: Vec::new(),
            times: HashMap::new(),
        };
        for name in names {
            let times = asked.times.entry(name.clone()).or_default();
            *times += 1;
            if *times == 1 {
                asked.in_order.push(name);
            }
        }
        asked
    }
}

fn answer(
    scram: &ScramImage,
    times: &HashMap<Str, usize>,
    name: Str,
) -> DescribeUserScramCredentialsResult {
    if times.get(&name).is_some_and(|times| *times > 1) {
        let text = format!(
            "Cannot describe SCRAM credentials for the same user twice in a single request: {name}"
        );
        return error_row(name, ErrorCode::DUPLICATE_RESOURCE, text);
    }
    match scram.user(&name) {
        Some(known) => row(name, known),
        None => {
            let text = format!("Attempt to describe a user credential that does not exist: {name}");
            error_row(name, ErrorCode::RESOURCE_NOT_FOUND, text)
        }
    }
}

fn row(user: Str, known: &UserCredentials) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult {
        user,
        credential_infos: known
            .iter()
            .map(|credential| CredentialInfo {
                mechanism: credential.mechanism.code(),
                iterations: i32::try_from(credential.iterations).unwrap_or(i32::MAX),
            })
            .collect(),
        ..DescribeUserScramCredentialsResult::default()
    }
}

fn error_row(
    user: Str,
    error_code: ErrorCode,
    message: String,
) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult {
        user,
        error_code,
        error_message: Some(Str::from(message)),
        ..DescribeUserScramCredentialsResult::default()
    }
}
