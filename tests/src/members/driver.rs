//! How a member of each client is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::access::{Access, Login};
use crate::paths;
use crate::tools::{self, Java, Need};

/// A place in a group.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The group.
    pub group: String,
    /// The topic it reads.
    pub topic: String,
    /// `range`, `cooperative-sticky`, or `consumer` for KIP-848.
    pub protocol: &'static str,
}

impl Seat {
    /// A group and a topic named after `name` and the protocol.
    pub fn new(name: &str, protocol: &'static str) -> Seat {
        Seat {
            group: format!("{name}-{protocol}-group"),
            topic: format!("{name}-{protocol}"),
            protocol,
        }
    }
}

/// A client with a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The Java client of that version.
    Java(Java),
    /// librdkafka of today, through the rdkafka crate.
    Rdkafka,
    /// Debian's kcat.
    Kcat,
    /// kafka-python in the virtual environment of that name.
    Python(&'static str),
    /// kafkajs on Node.
    Kafkajs,
    /// franz-go.
    Franz,
    /// sarama.
    Sarama,
}

impl Driver {
    /// What must be installed.
    pub fn need(self) -> Option<Need> {
        match self {
            Driver::Java(java) => Some(Need::Java(java)),
            Driver::Rdkafka => None,
            Driver::Kcat => Some(Need::Kcat),
            Driver::Python(environment) => Some(Need::Python(environment)),
            Driver::Kafkajs => Some(Need::Kafkajs),
            Driver::Franz => Some(Need::Go("franz")),
            Driver::Sarama => Some(Need::Go("sarama")),
        }
    }

    /// Whether one process is a member of many groups: worth it where a process is slow to start.
    pub(super) fn sits_in_many(self) -> bool {
        matches!(self, Driver::Java(_) | Driver::Rdkafka)
    }

    pub(super) fn command(
        self,
        access: &Access,
        dir: &Path,
        name: &str,
        seats: &[Seat],
        log: Option<PathBuf>,
    ) -> Command {
        let mut command = match self {
            Driver::Java(java) => {
                let properties =
                    access.write_java(java.store(), dir, &format!("{name}.properties"));
                let mut command = java.command();
                command.arg("Members").arg(properties);
                command
            }
            Driver::Rdkafka => {
                let settings: serde_json::Map<_, _> = access
                    .librdkafka()
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value.into()))
                    .collect();
                let mut command = Command::new(paths::beside("rdkafka_member"));
                command.arg(serde_json::Value::from(settings).to_string());
                command
            }
            Driver::Kcat => return kcat(access, name, seats, &log.expect("kcats share a file")),
            Driver::Python(environment) => {
                let mut command = Command::new(tools::python(environment));
                command
                    .arg(paths::root().join("tests/clients/python/member.py"))
                    .arg(access.kafka_python());
                command
            }
            Driver::Kafkajs => {
                let mut command = Command::new("node");
                command
                    .env("NODE_PATH", paths::clients().join("kafkajs/node_modules"))
                    .arg(paths::root().join("tests/clients/node-kafkajs/member.js"))
                    .arg(settings(access));
                command
            }
            Driver::Franz | Driver::Sarama => {
                let program = if self == Driver::Franz {
                    "franz"
                } else {
                    "sarama"
                };
                let mut command = Command::new(paths::clients().join("go").join(program));
                command.arg(settings(access));
                command
            }
        };
        command.arg(name);
        for seat in seats {
            command.args([&seat.group, &seat.topic]).arg(seat.protocol);
        }
        command
    }
}

/// Settings of the clients that have no names of their own for them.
fn settings(access: &Access) -> String {
    let Login::Scram {
        mechanism,
        user,
        password,
    } = &access.login
    else {
        panic!("these drivers log in by SCRAM");
    };
    serde_json::json!({
        "bootstrap": access.bootstrap,
        "trust": access.trust,
        "mechanism": mechanism,
        "user": user,
        "password": password,
    })
    .to_string()
}

/// kcat, line-buffered into the file that the group's kcats share.
///
/// Not by its own `-u`, which writes a line in pieces: those of two members would mix.
fn kcat(access: &Access, name: &str, seats: &[Seat], log: &Path) -> Command {
    let [seat] = seats else {
        panic!("kcat is a member of one group");
    };
    let mut tool = tools::kcat(access, &[]);
    tool.args(["-f", &format!("record {name} %p %o %s\n")]);
    for setting in [
        &format!("client.id={name}"),
        "auto.offset.reset=earliest",
        "auto.commit.interval.ms=200",
        "session.timeout.ms=6000",
        "heartbeat.interval.ms=500",
        "max.poll.interval.ms=15000",
        &format!("partition.assignment.strategy={}", seat.protocol),
    ] {
        tool.args(["-X", setting]);
    }
    // Whatever follows the group is a topic.
    tool.args(["-G", &seat.group, &seat.topic]);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec stdbuf -oL -eL \"$@\" >>\"$0\" 2>&1"])
        .arg(log)
        .arg(tool.get_program())
        .args(tool.get_args());
    shell
}
