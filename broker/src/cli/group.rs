//! `palisade group`: list, describe, reset-offsets and delete consumer groups.

mod describe;
mod reset;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::{Args, Subcommand};
use palisade_protocol::{
    ErrorCode, Str,
    messages::{delete_groups::DeleteGroupsRequest, list_groups::ListGroupsRequest},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    client::{Backoff, ClientError, Cluster, Right, printable},
    interrupt::Interrupt,
    outcome::{accept, failure, first_code, line, no_answer, once, some_refused},
    output::{self, Output},
    remote::Remote,
    table::table,
};

/// Arguments of `palisade group`.
#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    command: GroupCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List groups with their types and states
    List {
        /// Only groups in this state, repeatable
        #[arg(long = "state", value_name = "STATE", value_parser = state)]
        states: Vec<String>,
        /// Only groups of this type, repeatable: classic, consumer, share, streams
        #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
        types: Vec<String>,
    },
    /// Describe groups: state, members, and how far each partition is read
    Describe {
        /// Names of the groups
        #[arg(required = true)]
        groups: Vec<String>,
        /// Do it again and again, until interrupted; on a terminal in the same place, with --json
        /// one object each time. A group that is not there is waited for
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
              default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..))]
        watch: Option<u64>,
    },
    /// Move the committed offsets of a group without members; shows what it would do
    ResetOffsets(reset::ResetArgs),
    /// Delete groups without members, and their committed offsets
    Delete {
        /// Names of the groups
        #[arg(required = true)]
        groups: Vec<String>,
    },
}

/// States of all types of groups (KIP-848, KIP-932, KIP-1071), as brokers write them.
const STATES: &[&str] = &[
    "PreparingRebalance",
    "CompletingRebalance",
    "Stable",
    "Dead",
    "Empty",
    "Assigning",
    "Reconciling",
    "NotReady",
];
const TYPES: &[&str] = &["classic", "consumer", "share", "streams"];

/// A broker lists nothing, and no error, for a word that it does not know.
fn one_of(words: &[&str], text: &str) -> Result<String, String> {
    let known = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    let expected = || format!("expected one of {}", words.join(", "));
    known.map(|word| (*word).to_owned()).ok_or_else(expected)
}

fn state(text: &str) -> Result<String, String> {
    one_of(STATES, text)
}

fn kind(text: &str) -> Result<String, String> {
    one_of(TYPES, text)
}

impl GroupArgs {
    pub(crate) fn output(&self) -> Output {
        self.remote.output()
    }

    pub(crate) async fn run(&self) -> Result<(), ClientError> {
        let output = self.output();
        let mut cluster = self.remote.cluster().await?;
        match &self.command {
            GroupCommand::List { states, types } => list(&mut cluster, output, states, types).await,
            GroupCommand::Describe {
                groups,
                watch: None,
            } => {
                let picture = picture(&mut cluster, &once(groups)).await?;
                let shown = output.show(&picture.object, &picture.text);
                some_refused(output, &picture.refused)?;
                shown
            }
            GroupCommand::Describe {
                groups,
                watch: Some(seconds),
            } => watch(&mut cluster, output, &once(groups), *seconds).await,
            GroupCommand::ResetOffsets(args) => {
                // Nothing but the commit itself needs more than to see.
                let right = if args.execute { "READ" } else { "DESCRIBE" };
                let outcome = args.run(&mut cluster, output).await;
                outcome.map_err(|error| error.needing(Right::on(right, right)))
            }
            GroupCommand::Delete { groups } => {
                let outcome = delete(&mut cluster, output, groups).await;
                outcome.map_err(|error| error.needing(Right::on("DESCRIBE", "DELETE")))
            }
        }
    }
}

/// A group in words, for errors.
fn name(group: &str) -> String {
    format!("group {}", printable(group))
}

async fn list(
    cluster: &mut Cluster,
    output: Output,
    states: &[String],
    types: &[String],
) -> Result<(), ClientError> {
    let request = ListGroupsRequest {
        states_filter: states.iter().map(|state| Str::copy(state)).collect(),
        types_filter: types.iter().map(|name| Str::copy(name)).collect(),
    };
    let mut groups = Vec::new();
    // Every broker knows the groups that it coordinates.
    for node in cluster.broker_ids() {
        let mut backoff = Backoff::new(cluster.patience());
        loop {
            let response = cluster.ask(node, &request, i16::MAX).await?;
            let code = response.error_code;
            if code.is_retriable() && backoff.pause().await {
                continue;
            }
            accept("groups", code, None)?;
            groups.extend(response.groups);
            break;
        }
    }
    groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    let unless_empty = |text: &str| match text {
        "" => "-".to_owned(),
        text => printable(text),
    };
    let rows: Vec<[String; 4]> = groups
        .iter()
        .map(|group| {
            [
                printable(&group.group_id),
                unless_empty(&group.group_type),
                unless_empty(&group.group_state),
                unless_empty(&group.protocol_type),
            ]
        })
        .collect();
    let objects: Vec<Value> = groups
        .iter()
        .map(|group| {
            json!({
                "group": &*group.group_id,
                "type": &*group.group_type,
                "state": &*group.group_state,
                "protocol_type": &*group.protocol_type,
            })
        })
        .collect();
    let text = match rows.is_empty() {
        true => String::new(),
        false => table(["GROUP", "TYPE", "STATE", "PROTOCOL"], &rows),
    };
    output.show(&json!({ "groups": objects }), &text)
}

/// Groups as they are at one moment.
struct Picture {
    object: Value,
    text: String,
    refused: Vec<ClientError>,
}

async fn picture(cluster: &mut Cluster, groups: &[String]) -> Result<Picture, ClientError> {
    let mut text = String::new();
    let mut objects = Vec::new();
    let mut refused = Vec::new();
    for group in groups {
        match describe::describe(cluster, group).await {
            Ok(described) => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&described.text());
                objects.push(described.json());
            }
            Err(error) => {
                let ClientError::Refused { code, .. } = &error else {
                    return Err(error);
                };
                let code = *code;
                let error = error.needing(Right::on("DESCRIBE", "DESCRIBE"));
                objects.push(json!({ "group": group, "error": failure(&error, code) }));
                refused.push(error);
            }
        }
    }
    Ok(Picture {
        object: json!({ "groups": objects }),
        text,
        refused,
    })
}

/// Shows groups until interrupted; fails if none of them was ever there.
async fn watch(
    cluster: &mut Cluster,
    output: Output,
    groups: &[String],
    seconds: u64,
) -> Result<(), ClientError> {
    let mut interrupt = Interrupt::listen()?;
    let repaint = !output.json && io::stdout().is_terminal();
    let mut was_there = false;
    let mut told = String::new();
    loop {
        let seen = tokio::select! {
            seen = picture(cluster, groups) => seen?,
            () = interrupt.heard() => break,
        };
        let mut text = seen.text;
        let is_there = !text.is_empty();
        if !repaint && is_there && was_there {
            text.insert(0, '\n');
        }
        was_there |= is_there;
        match repaint {
            true => Output::paint(&text)?,
            false => output.show(&seen.object, &text)?,
        }
        let refused: Vec<String> = seen.refused.iter().map(ToString::to_string).collect();
        let refused = refused.join("; ");
        // On paper, what stays the same is said once.
        if !output.json && !refused.is_empty() && (repaint || refused != told) {
            output::warn(&refused);
        }
        told = refused;
        tokio::select! {
            () = sleep(Duration::from_secs(seconds)) => {}
            () = interrupt.heard() => break,
        }
    }
    match was_there {
        true => Ok(()),
        false => Err(ClientError::SomeRefused(groups.len())),
    }
}

async fn delete(
    cluster: &mut Cluster,
    output: Output,
    groups: &[String],
) -> Result<(), ClientError> {
    let mut text = String::new();
    let mut rows = Vec::new();
    let mut refused = Vec::new();
    for group in &once(groups) {
        let request = DeleteGroupsRequest {
            groups_names: vec![Str::copy(group)],
        };
        let response = cluster
            .ask_coordinator(group, &request, i16::MAX, |response| {
                first_code(response.results.iter().map(|one| one.error_code))
            })
            .await?;
        let result = response
            .results
            .first()
            .ok_or_else(|| no_answer("DeleteGroups"))?;
        // The broker's own words say less than ours.
        match accept(&name(group), result.error_code, None) {
            Ok(()) => {
                line(&mut text, format_args!("deleted {}", printable(group)));
                rows.push(json!({ "group": group, "deleted": true }));
            }
            Err(error) => {
                let error = error.needing(Right::on("DESCRIBE", "DELETE"));
                let shown = failure(&error, result.error_code);
                rows.push(json!({ "group": group, "deleted": false, "error": shown }));
                refused.push(error);
            }
        }
    }
    let shown = output.show(&json!({ "groups": rows }), &text);
    some_refused(output, &refused)?;
    shown
}

/// The refusal of a group by a code; none for NONE.
fn accept_group(group: &str, code: ErrorCode, message: Option<&str>) -> Result<(), ClientError> {
    let message = message.filter(|_| code != ErrorCode::GROUP_ID_NOT_FOUND);
    accept(&name(group), code, message)
}
