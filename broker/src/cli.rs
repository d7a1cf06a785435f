//! The command line: starting a broker, and using or administrating any.
//!
//! Exit status: 0 done, 1 refused by the broker, 2 the command makes no sense, 3 no connection or
//! no login.

mod acl;
pub mod client;
mod consume;
mod declare;
pub mod dev;
mod escape;
mod group;
mod interrupt;
mod moment;
mod node;
mod outcome;
mod output;
mod password;
mod place;
pub(crate) mod private_file;
mod produce;
mod progress;
pub(crate) mod random;
mod remote;
pub mod rule;
mod start;
mod table;
mod topic;
mod upsertion;
mod user;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

use self::{client::ClientError, output::Output};

/// A secure, Kafka-compatible broker
#[derive(Debug, Parser)]
#[command(name = "palisade", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a node from its configuration
    Start(start::StartArgs),
    /// Start a broker to develop against: own certificates, an administrator, nothing to configure
    Dev(dev::DevArgs),
    /// Create, list, describe, alter and delete topics of any Kafka cluster
    Topic(topic::TopicArgs),
    /// Write lines of standard input to a topic of any Kafka cluster
    Produce(Box<produce::ProduceArgs>),
    /// Print the records of topics of any Kafka cluster
    Consume(Box<consume::ConsumeArgs>),
    /// List, describe, reset and delete consumer groups of any Kafka cluster
    Group(group::GroupArgs),
    /// Create, list and delete SCRAM users of any Kafka cluster
    User(user::UserArgs),
    /// Add, list and remove ACLs of any Kafka cluster
    Acl(acl::AclArgs),
}

/// Runs the command and says how it ended.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Start(args) => node::run("info", args.run()),
        Command::Dev(args) => node::run("warn", args.run()),
        Command::Topic(args) => administrate(args.output(), args.run()),
        Command::Produce(args) => administrate(args.output(), args.run()),
        Command::Consume(args) => administrate(args.output(), args.run()),
        Command::Group(args) => administrate(args.output(), args.run()),
        Command::User(args) => administrate(args.output(), args.run()),
        Command::Acl(args) => administrate(args.output(), args.run()),
    }
}

fn administrate(
    output: Output,
    command: impl Future<Output = Result<(), ClientError>>,
) -> ExitCode {
    // A second thread, so that a group's heartbeats go on while the command waits for whoever reads
    // its output.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(ClientError::Lost(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Each refusal was shown with its own item.
        Err(error @ (ClientError::SomeRefused(_) | ClientError::Reported(_))) => error.exit_code(),
        // A reader that has seen enough, as head has, is no mistake.
        Err(ClientError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            output.fail(&error);
            error.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    fn help(verbs: &[&str]) -> String {
        let mut root = Cli::command();
        root.build();
        let mut command = &mut root;
        for verb in verbs {
            command = command.find_subcommand_mut(verb).unwrap();
        }
        let text = command.render_long_help().to_string();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn helps_name_what_is_taken() {
        for (verbs, words) in [
            (&["consume"][..], "Print one JSON object per record"),
            (&["consume"], "%v or %s value"),
            (&["consume"], "offset:N or N,"),
            (&["group", "describe"], "with --json one object each time"),
            (
                &["produce"],
                "key, partition (rather than --partition), timestamp and headers count",
            ),
            (&["produce"], "topic and offset do not"),
            (&["group", "reset-offsets"], "offset:N or N,"),
            (&["topic", "list"], "Print one JSON object instead of text"),
            (&["produce"], "(null: a tombstone) or value_base64"),
            (&["acl", "add"], r#"'allow "User:CN=a b,O=c" read topic:x'"#),
            (&["dev"], r#"'allow "User:CN=a b,O=c" read topic:x'"#),
        ] {
            let text = help(verbs);
            assert!(text.contains(words), "{verbs:?}: {text}");
        }
        // What stands behind `or` ends a list, and no option speaks of another command.
        let reset = help(&["group", "reset-offsets"]);
        let place = reset.split("Where to: ").nth(1).unwrap();
        let place = place.split("; where no record").next().unwrap();
        let list = place.replace("RFC 3339, or", "");
        assert_eq!(list.matches(", or ").count(), 1, "{place}");
        assert!(!reset.contains("describe"), "{reset}");
        let what = "<--topic <TOPIC[:P,P]>|--all-topics>";
        assert!(reset.contains(what), "{reset}");
    }

    /// A command's own options come first, then those that all commands have.
    #[test]
    fn own_options_stand_together() {
        for (verbs, last) in [
            (&["group", "reset-offsets"][..], "--dry-run"),
            (&["topic", "create"], "--if-not-exists"),
            (&["produce"], "--file"),
            (&["consume"], "--format"),
        ] {
            let text = help(verbs);
            let (own, common) = (text.find(last), text.find("--bootstrap <"));
            assert!(own.is_some() && own < common, "{verbs:?}: {text}");
        }
    }
}
