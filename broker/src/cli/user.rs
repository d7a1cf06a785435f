//! `palisade user`: SCRAM users of a cluster.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use palisade_auth::{
    Secret,
    sasl::Mechanism,
    scram::{DEFAULT_ITERATIONS, ScramMechanism},
};
use palisade_protocol::{
    ErrorCode, Str,
    messages::{
        alter_user_scram_credentials::{AlterUserScramCredentialsRequest, ScramCredentialDeletion},
        describe_user_scram_credentials::{DescribeUserScramCredentialsRequest, UserName},
    },
};
use serde_json::json;

use super::{
    acl,
    client::{Admin, ClientError, Right, printable},
    outcome::{accept, first_code, line, no_answer, once},
    output::Output,
    password,
    remote::Remote,
    upsertion::upsertion,
};

/// Arguments of `palisade user`.
#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Create a user, or give a user a new password
    #[command(alias = "set")]
    Create {
        /// Name of the user
        name: String,
        /// SCRAM-SHA-256 or SCRAM-SHA-512, repeatable; both if not given
        #[arg(long = "mechanism", value_name = "MECHANISM", value_parser = mechanism)]
        mechanisms: Vec<ScramMechanism>,
        /// File with the password; without it standard input is read, or a prompt asks
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Rounds of hashing
        #[arg(long, default_value_t = DEFAULT_ITERATIONS,
              value_parser = clap::value_parser!(u32).range(4096..=16384))]
        iterations: u32,
    },
    /// List users with their mechanisms
    List,
    /// Delete a user's credentials
    Delete {
        /// Name of the user
        name: String,
        /// Only this mechanism's, repeatable; all if not given
        #[arg(long = "mechanism", value_name = "MECHANISM", value_parser = mechanism)]
        mechanisms: Vec<ScramMechanism>,
        /// Also the credential that this command logs in with
        #[arg(long)]
        force: bool,
    },
}

fn mechanism(text: &str) -> Result<ScramMechanism, String> {
    ScramMechanism::from_name(&text.to_ascii_uppercase())
        .ok_or_else(|| "expected SCRAM-SHA-256 or SCRAM-SHA-512".to_owned())
}

fn shown(mechanism: i8) -> String {
    match ScramMechanism::from_code(mechanism) {
        Some(mechanism) => mechanism.name().to_owned(),
        None => format!("mechanism {mechanism}"),
    }
}

impl UserArgs {
    pub(crate) fn output(&self) -> Output {
        self.remote.output()
    }

    pub(crate) async fn run(&self) -> Result<(), ClientError> {
        let output = self.remote.output();
        match &self.command {
            UserCommand::Create {
                name,
                mechanisms,
                password_file,
                iterations,
            } => {
                let password = password::take(password_file.as_deref(), name).await?;
                let mut admin = self.remote.connect().await?;
                let mechanisms = match mechanisms.as_slice() {
                    [] => ScramMechanism::VALUES.to_vec(),
                    some => once(some),
                };
                create(&mut admin, name, &password, &mechanisms, *iterations).await?;
                let names: Vec<&str> = mechanisms.iter().map(|one| one.name()).collect();
                output.show(
                    &json!({ "user": name, "mechanisms": names }),
                    &format!("{name} can log in with {}", names.join(", ")),
                )
            }
            UserCommand::List => list(&mut self.remote.connect().await?, output).await,
            UserCommand::Delete {
                name,
                mechanisms,
                force,
            } => {
                let mut admin = self.remote.connect().await?;
                let codes = match mechanisms.as_slice() {
                    [] => mechanisms_of(&mut admin, name).await?,
                    some => once(some).iter().map(|one| one.code()).collect(),
                };
                if !force {
                    must_not_lock_out(&mut admin, name, &codes).await?;
                }
                for code in &codes {
                    let request = AlterUserScramCredentialsRequest {
                        deletions: vec![ScramCredentialDeletion {
                            name: Str::copy(name),
                            mechanism: *code,
                        }],
                        upsertions: Vec::new(),
                    };
                    alter(&mut admin, name, &request).await?;
                }
                let names: Vec<String> = codes.into_iter().map(shown).collect();
                let rules = rules_that_stay(&mut admin, name).await;
                let mut text = format!("deleted {} of {}\n", names.join(", "), printable(name));
                for rule in &rules {
                    let rule = printable(rule);
                    line(&mut text, format_args!("an ACL of it stays: {rule}"));
                }
                output.show(
                    &json!({ "user": name, "deleted": names, "acls": rules }),
                    &text,
                )
            }
        }
    }
}

/// Whoever deletes another user may make it anew; whoever deletes the credential that it came with
/// may find nobody left who can.
async fn must_not_lock_out(admin: &mut Admin, name: &str, codes: &[i8]) -> Result<(), ClientError> {
    let is_own = match admin.login() {
        Some((user, _)) if user != name => false,
        None => false,
        Some((_, Mechanism::Scram(mechanism))) => codes.contains(&mechanism.code()),
        // Its password is checked against any of the credentials.
        Some((_, Mechanism::Plain)) => {
            let there = mechanisms_of(admin, name).await?;
            there.iter().all(|code| codes.contains(code))
        }
    };
    if !is_own {
        return Ok(());
    }
    Err(ClientError::Usage(format!(
        "user {}: this command logs in with that credential itself, and nobody may be left who can \
         make it anew; --force deletes it all the same",
        printable(name)
    )))
}

/// Rules that would hold for whoever gets the name next, when nobody has it any more; none where
/// this user may not see them.
async fn rules_that_stay(admin: &mut Admin, name: &str) -> Vec<String> {
    // The credentials are gone, and the command has done its work, whatever comes of this.
    match mechanisms_of(admin, name).await {
        Err(ClientError::Refused { code, .. }) if code == ErrorCode::RESOURCE_NOT_FOUND => {
            let rules = acl::rules_of(admin, &format!("User:{name}")).await;
            rules.unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// Turns the answer about one user into an error; the broker speaks of credentials, not of users.
fn accept_user(name: &str, code: ErrorCode, message: Option<&str>) -> Result<(), ClientError> {
    let message = match code {
        ErrorCode::RESOURCE_NOT_FOUND => {
            Some("has no such credential; palisade user list shows all")
        }
        _ => message,
    };
    accept(&format!("user {}", printable(name)), code, message)
}

/// One request per mechanism: a request may name a user only once (KIP-554).
async fn create(
    admin: &mut Admin,
    name: &str,
    password: &Secret,
    mechanisms: &[ScramMechanism],
    iterations: u32,
) -> Result<(), ClientError> {
    for mechanism in mechanisms {
        let upsertion = upsertion(name, password, *mechanism, iterations)
            .map_err(|error| ClientError::Usage(error.to_string()))?;
        let request = AlterUserScramCredentialsRequest {
            deletions: Vec::new(),
            upsertions: vec![upsertion],
        };
        alter(admin, name, &request).await?;
    }
    Ok(())
}

async fn alter(
    admin: &mut Admin,
    name: &str,
    request: &AlterUserScramCredentialsRequest,
) -> Result<(), ClientError> {
    let response = admin
        .decide(request, |response| {
            first_code(response.results.iter().map(|one| one.error_code))
        })
        .await?;
    let result = response
        .results
        .first()
        .ok_or_else(|| no_answer("AlterUserScramCredentials"))?;
    accept_user(name, result.error_code, result.error_message.as_deref())
        .map_err(|error| error.needing(Right::on_it("ALTER")))
}

/// A denial of DescribeUserScramCredentials, with which a deletion begins too.
fn needing_describe(error: ClientError) -> ClientError {
    error.needing(Right::on_it("DESCRIBE"))
}

async fn mechanisms_of(admin: &mut Admin, name: &str) -> Result<Vec<i8>, ClientError> {
    let request = DescribeUserScramCredentialsRequest {
        users: Some(vec![UserName {
            name: Str::copy(name),
        }]),
    };
    let response = admin.send(&request).await?;
    let message = response.error_message.as_deref();
    accept("users", response.error_code, message).map_err(needing_describe)?;
    let result = response
        .results
        .first()
        .ok_or_else(|| no_answer("DescribeUserScramCredentials"))?;
    accept_user(name, result.error_code, result.error_message.as_deref())?;
    Ok(result
        .credential_infos
        .iter()
        .map(|info| info.mechanism)
        .collect())
}

async fn list(admin: &mut Admin, output: Output) -> Result<(), ClientError> {
    // Null means all, too, but a Kafka that denies it fails over it and never answers.
    let request = DescribeUserScramCredentialsRequest {
        users: Some(Vec::new()),
    };
    let response = admin.send(&request).await?;
    let message = response.error_message.as_deref();
    accept("users", response.error_code, message).map_err(needing_describe)?;
    let mut results = response.results;
    results.sort_by(|a, b| a.user.cmp(&b.user));
    let mut text = String::new();
    let mut rows = Vec::new();
    for result in results
        .iter()
        .filter(|one| one.error_code == ErrorCode::NONE)
    {
        let infos = result.credential_infos.iter();
        let mechanisms: Vec<String> = infos
            .clone()
            .map(|info| format!("{} ({} iterations)", shown(info.mechanism), info.iterations))
            .collect();
        let user = printable(&result.user);
        line(&mut text, format_args!("{user}\t{}", mechanisms.join(", ")));
        let credentials: Vec<_> = infos
            .map(
                |info| json!({ "mechanism": shown(info.mechanism), "iterations": info.iterations }),
            )
            .collect();
        rows.push(json!({ "user": &*result.user, "credentials": credentials }));
    }
    output.show(&json!({ "users": rows }), &text)
}
