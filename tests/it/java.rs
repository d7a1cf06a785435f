//! The Java clients, old and new: administration, every codec, every record attribute, the console tools.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use palisade_tests::access::{Access, Store};
use palisade_tests::check::{judge, same_lines};
use palisade_tests::paths;
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Java, Need};

const PATIENCE: Duration = Duration::from_secs(240);
/// How many checks `Suite.java` has.
const CHECKS: usize = 31;

#[test]
fn clients_4() {
    suite("clients_4", Java::V4);
}

#[test]
fn clients_2_8() {
    suite("clients_2_8", Java::V28);
}

/// Every check of `Suite.java`, by each way in. One broker and one JVM each.
fn suite(test: &str, java: Java) {
    if !tools::have(test, &[Need::Java(java)]) {
        return;
    }
    let target = Target::start();
    let dir = paths::scratch();
    for (number, access) in target.accesses().iter().enumerate() {
        let properties =
            access.write_java(java.store(), dir.path(), &format!("{number}.properties"));
        let mut command = java.command();
        command
            .arg("Suite")
            .arg(properties)
            .arg(format!("java{number}-"));
        let (_, output, all) = tools::attempt("Suite", &mut command, PATIENCE);
        judge(
            &format!("{java:?} over {}", access.kind()),
            &output,
            CHECKS,
            &[],
        );
        assert!(!output.is_empty(), "{all}");
    }
}

#[test]
fn console_4() {
    console("console_4", Java::V4);
}

#[test]
fn console_2_8() {
    console("console_2_8", Java::V28);
}

/// Lines through the console producer and back through the console consumer.
///
/// A JVM per codec: all of them by the first way in, one by each of the others.
fn console(test: &str, java: Java) {
    if !tools::have(test, &[Need::Java(java), Need::Java(Java::V4)]) {
        return;
    }
    let target = Target::start();
    let dir = paths::scratch();
    for (number, access) in target.accesses().iter().enumerate() {
        let topic = format!("console-{number}");
        create_topic(dir.path(), access, &topic);
        let properties =
            access.write_java(java.store(), dir.path(), &format!("{number}.properties"));
        let codecs: &[_] = match number {
            0 => &["none", "gzip", "snappy", "lz4", "zstd"],
            _ => &["zstd"],
        };
        let mut sent = String::new();
        for codec in codecs {
            let lines: String = (0..50)
                .map(|line| format!("{codec} line {line} {}\n", "x".repeat(line * 7)))
                .collect();
            let input = dir.path().join("input");
            fs::write(&input, &lines).expect("a scratch file can be written");
            sent += &lines;
            produce(java, access, &properties, &topic, codec, &input);
        }
        let got = consume(java, access, &properties, &topic, 50 * codecs.len());
        same_lines(&format!("{java:?} over {}", access.kind()), &sent, &got);
    }
}

fn create_topic(dir: &Path, access: &Access, topic: &str) {
    let properties = access.write_java(Store::Pem, dir, "create.properties");
    let mut command = Java::V4.command();
    command
        .arg("org.apache.kafka.tools.TopicCommand")
        .args(["--bootstrap-server", &access.bootstrap])
        .arg("--command-config")
        .arg(properties)
        .args(["--create", "--topic", topic, "--partitions", "1"])
        .args(["--replication-factor", "1"]);
    tools::run("TopicCommand", &mut command, PATIENCE);
}

fn produce(java: Java, access: &Access, properties: &Path, topic: &str, codec: &str, input: &Path) {
    // The tool reads its standard input, which a shell connects as a user would.
    let mut tool = java.command();
    tool.arg(java.console_producer())
        .args(["--bootstrap-server", &access.bootstrap])
        .args(["--topic", topic])
        .arg(match java {
            Java::V4 => "--command-config",
            Java::V28 => "--producer.config",
        })
        .arg(properties);
    if codec == "none" {
        tool.arg("--sync");
    } else {
        tool.arg(format!("--compression-codec={codec}"));
    }
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec \"$@\" < \"$0\""])
        .arg(input)
        .arg(tool.get_program())
        .args(tool.get_args());
    tools::run("console producer", &mut shell, PATIENCE);
}

fn consume(java: Java, access: &Access, properties: &Path, topic: &str, count: usize) -> String {
    let mut command = java.command();
    command
        .arg(java.console_consumer())
        .args(["--bootstrap-server", &access.bootstrap])
        .args(["--topic", topic, "--partition", "0", "--offset", "earliest"])
        .arg("--max-messages")
        .arg(count.to_string())
        .args(["--timeout-ms", "60000"])
        .arg(match java {
            Java::V4 => "--command-config",
            Java::V28 => "--consumer.config",
        })
        .arg(properties);
    tools::run("console consumer", &mut command, PATIENCE)
}
