//! `palisade produce`: lines of standard input become records.

mod backlog;
mod input;
mod options;
mod partitioner;
mod queue;
mod sender;

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::PathBuf,
};

use clap::Args;
use palisade_protocol::{ErrorCode, batch::Codec};
use serde_json::json;

use self::{
    backlog::{Backlog, Refused},
    input::{Parser, Shape},
    options::Options,
    sender::Sender,
};
use super::{
    client::{ClientError, Right, printable},
    escape,
    interrupt::Interrupt,
    output::{self, Output},
    progress::counted,
    remote::Remote,
    topic::key_value,
};

/// Arguments of `palisade produce`.
#[derive(Debug, Args)]
#[command(mut_arg("timeout", |arg| arg.help(
    "Longest wait for one answer; a record that cannot be delivered is tried for as long"
)))]
pub(crate) struct ProduceArgs {
    /// Topic to write to; it must exist, and 'palisade topic create TOPIC' makes it
    topic: String,
    /// Partition to write to; by the key's hash, as Java clients do it, if not given
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// What stands between key and value in a line, with \t and \xHH as 'palisade consume --format'
    /// has them; without it lines are values
    #[arg(long, value_name = "TEXT", value_parser = separator)]
    key_separator: Option<Separator>,
    /// Lines are JSON objects as 'palisade consume --json' prints them; each has value
    /// (null: a tombstone) or value_base64; key, partition (rather than --partition), timestamp and
    /// headers count where they stand, topic and offset do not
    #[arg(long, conflicts_with_all = ["key_separator", "null_marker"])]
    json_input: bool,
    /// Header of every record, repeatable
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = key_value)]
    headers: Vec<(String, String)>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none", value_name = "CODEC", value_parser = codec)]
    compression: Codec,
    /// Who must have a record before it counts: all replicas in sync, the leader (1) or nobody (0)
    #[arg(long, default_value = "all", value_name = "all|1|0", value_parser = acks)]
    acks: i16,
    /// A key or value of this text is none at all
    #[arg(long, value_name = "TEXT")]
    null_marker: Option<String>,
    /// Read this file instead of standard input
    #[arg(long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

/// Bytes of a separator, one at least.
#[derive(Clone, Debug)]
struct Separator(Vec<u8>);

fn separator(text: &str) -> Result<Separator, String> {
    match text {
        "" => Err("expected at least one character".to_owned()),
        text => escape::bytes(text).map(Separator),
    }
}

fn codec(text: &str) -> Result<Codec, String> {
    let named = Codec::ALL.into_iter().find(|codec| codec.name() == text);
    named.ok_or_else(|| "expected none, gzip, snappy, lz4 or zstd".to_owned())
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        "0" => Ok(0),
        _ => Err("expected all, 1 or 0".to_owned()),
    }
}

impl ProduceArgs {
    pub(crate) fn output(&self) -> Output {
        self.remote.output()
    }

    pub(crate) async fn run(&self) -> Result<(), ClientError> {
        let source = self.source()?;
        let parser = Parser {
            shape: match (&self.key_separator, self.json_input) {
                (_, true) => Shape::Json,
                (Some(Separator(bytes)), false) => Shape::Keyed(bytes.clone()),
                (None, false) => Shape::Values,
            },
            null_marker: self.null_marker.clone().map(String::into_bytes),
        };
        let mut sender = self.remote.begin(self.begin()).await?;
        // Until here nothing was read, and a signal ends the command at once.
        let interrupt = Interrupt::listen()?;
        let outcome = sender.run(input::read(source, parser), interrupt).await;
        let backlog = sender.backlog();
        backlog.progress.clear();
        self.end(backlog, outcome)
    }

    /// Finds the topic, and gets what the first record needs.
    async fn begin(&self) -> Result<Sender, ClientError> {
        let mut cluster = self.remote.cluster().await?;
        cluster.refresh(std::slice::from_ref(&self.topic)).await?;
        cluster
            .partitions(&self.topic)
            .map_err(|error| self.with_remedy(error))?;
        let mut sender = Sender::new(
            cluster,
            Options {
                topic: self.topic.clone(),
                partition: self.partition,
                headers: self.headers.clone(),
                codec: self.compression,
                acks: self.acks,
                timeout_ms: self.remote.timeout_ms(),
            },
        );
        sender.become_idempotent().await?;
        Ok(sender)
    }

    /// Says what makes a topic that is missing: none is made by the way.
    fn with_remedy(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Refused { what, code, .. }
                if code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION =>
            {
                let text = format!(
                    "there is no such topic, or no right to see it; `palisade topic create {}` \
                     makes one",
                    printable(&self.topic)
                );
                ClientError::refused(what, code, Some(&text))
            }
            other => other.needing(Right::on("WRITE", "WRITE")),
        }
    }

    fn source(&self) -> Result<input::Source, ClientError> {
        let bytes: Box<dyn Read + Send> = match &self.file {
            None => Box::new(io::stdin()),
            Some(path) => {
                let file = File::open(path).map_err(|source| ClientError::File {
                    path: path.clone(),
                    source,
                })?;
                Box::new(file)
            }
        };
        Ok(BufReader::with_capacity(1 << 16, bytes))
    }

    /// Says what became of the records.
    fn end(&self, backlog: &Backlog, outcome: Result<(), ClientError>) -> Result<(), ClientError> {
        let (output, progress, refused) = (self.output(), &backlog.progress, &backlog.refused);
        let unanswered = backlog.unanswered();
        let first = refused
            .first
            .as_ref()
            .map(|(line, reason)| json!({ "line": line, "reason": reason }));
        let mut object = json!({
            "topic": self.topic,
            "records": progress.records,
            "bytes": progress.bytes,
            "seconds": progress.seconds(),
            "refused": refused.count,
            "first_refused": first,
            "unanswered": unanswered.map_or(0, |(count, _)| count),
            "first_unanswered": unanswered.map(|(_, line)| line),
        });
        if let Err(error) = &outcome {
            object["error"] = output::described(error);
        }
        let topic = printable(&self.topic);
        let shown = output.show(&object, &format!("{topic}: {}", progress.words()));
        if !output.json {
            say(refused, unanswered, outcome.as_ref().err());
        }
        match (outcome, refused.count) {
            (Err(error), _) => Err(ClientError::Reported(Box::new(error))),
            (Ok(()), 0) => shown,
            (Ok(()), count) => Err(ClientError::SomeRefused(
                usize::try_from(count).unwrap_or(usize::MAX),
            )),
        }
    }
}

/// Says which records did not arrive, and why.
fn say(refused: &Refused, unanswered: Option<(u64, u64)>, error: Option<&ClientError>) {
    let mut error = error.map(ToString::to_string);
    if let Some((line, reason)) = &refused.first {
        let count = counted(refused.count);
        output::warn(&format!(
            "{count} refused, the first in line {line}: {reason}"
        ));
        // Once is enough.
        error = error.filter(|error| error != reason);
    }
    match (unanswered, error) {
        (Some((count, line)), error) => {
            let why = error.map_or_else(String::new, |error| format!(": {error}"));
            let count = counted(count);
            output::warn(&format!(
                "{count} not acknowledged, the first in line {line}{why}"
            ));
        }
        (None, Some(error)) => output::warn(&error),
        (None, None) => {}
    }
}
