//! Other people's programs: whether they are here, and how to run them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::access::{Access, Store};
use crate::check;
use crate::paths;
use crate::process::{Process, Stream};

/// A version of the Java clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Java {
    /// 4.3.1, with the tools of the same version.
    V4,
    /// 2.8.2, the oldest that applications still ship.
    V28,
}

impl Java {
    fn jars(self) -> PathBuf {
        paths::clients().join(match self {
            Java::V4 => "kafka",
            Java::V28 => "java-2.8",
        })
    }

    fn classes(self) -> PathBuf {
        paths::clients().join(match self {
            Java::V4 => "java-4-classes",
            Java::V28 => "java-2.8-classes",
        })
    }

    /// The kind of key store that this version reads without fuss.
    pub fn store(self) -> Store {
        match self {
            Java::V4 => Store::Pem,
            Java::V28 => Store::Pkcs12,
        }
    }

    /// The class of the console producer.
    pub fn console_producer(self) -> &'static str {
        match self {
            Java::V4 => "org.apache.kafka.tools.ConsoleProducer",
            Java::V28 => "kafka.tools.ConsoleProducer",
        }
    }

    /// The class of the console consumer.
    pub fn console_consumer(self) -> &'static str {
        match self {
            Java::V4 => "org.apache.kafka.tools.consumer.ConsoleConsumer",
            Java::V28 => "kafka.tools.ConsoleConsumer",
        }
    }

    /// A JVM with this version on its class path. Warnings of the clients go to standard error.
    pub fn command(self) -> Command {
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-Xshare:auto", "-XX:TieredStopAtLevel=1"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(format!(
                "{}:{}/*",
                self.classes().display(),
                self.jars().display()
            ));
        command
    }
}

/// Something of other people's that a test needs.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A JVM with the given clients and our compiled drivers.
    Java(Java),
    /// The virtual environment of that name under the clients' folder.
    Python(&'static str),
    /// Debian's kcat.
    Kcat,
    /// Node with kafkajs.
    Kafkajs,
    /// A program of ours in Go, by the name of its client.
    Go(&'static str),
    /// librdkafka's own tests.
    Librdkafka,
    /// franz-go's own tests.
    Kgo,
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Need::Java(java) if !java.classes().join("Suite.class").exists() => {
                Some(format!("the Java clients {java:?} are not installed"))
            }
            Need::Java(_) => runs("java", "-version"),
            Need::Python(name) => {
                let python = python(name);
                (!python.exists())
                    .then(|| format!("the Python environment {name} is not installed"))
            }
            Need::Kcat => runs("kcat", "-V"),
            Need::Kafkajs => absent("kafkajs/node_modules/kafkajs").or_else(|| runs("node", "-v")),
            Need::Go(program) => absent(&format!("go/{program}")),
            Need::Librdkafka => absent("librdkafka/tests/test-runner"),
            Need::Kgo => absent("go/kgo.test"),
        }
    }
}

/// Whether all of `needs` are here; where not, the test is noted as skipped and must return.
///
/// # Panics
/// In CI, where nothing may be missing.
pub fn have(test: &str, needs: &[Need]) -> bool {
    match needs.iter().find_map(|need| need.missing()) {
        None => true,
        Some(reason) => {
            check::skip(test, &format!("{reason} (tests/prepare installs it)"));
            false
        }
    }
}

fn absent(place: &str) -> Option<String> {
    let missing = !paths::clients().join(place).exists();
    missing.then(|| format!("{place} is not installed"))
}

fn runs(program: &str, argument: &str) -> Option<String> {
    match Command::new(program).arg(argument).output() {
        Ok(output) if output.status.success() => None,
        _ => Some(format!("there is no {program}")),
    }
}

/// The interpreter of a virtual environment under the clients' folder.
pub fn python(environment: &str) -> PathBuf {
    paths::clients().join(environment).join("bin/python")
}

/// Runs `command` to its end and returns its standard output.
///
/// # Panics
/// When it fails or takes longer than `patience`, with all it printed.
pub fn run(name: &str, command: &mut Command, patience: Duration) -> String {
    let (success, output, all) = attempt(name, command, patience);
    assert!(success, "{name} failed:\n{all}");
    output
}

/// Runs `command` to its end; returns whether it succeeded, its standard output, and both streams together.
///
/// # Panics
/// When it takes longer than `patience`.
pub fn attempt(name: &str, command: &mut Command, patience: Duration) -> (bool, String, String) {
    let process = Process::spawn(name, command);
    let exit = process.wait(patience);
    let output = process.stream(Stream::Out).join("\n");
    (exit.success(), output, process.output())
}

/// Runs kcat against `access` with more arguments and, if given, a file as its input.
pub fn kcat(access: &Access, arguments: &[&str]) -> Command {
    let mut command = Command::new("kcat");
    for (key, value) in access.librdkafka() {
        command.arg("-X").arg(format!("{key}={value}"));
    }
    command.args(arguments);
    command
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}
