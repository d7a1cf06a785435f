//! Java and librdkafka in the new protocol.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use palisade_tests::access::Access;
use palisade_tests::check::eventually;
use palisade_tests::paths;
use palisade_tests::process::{Process, Stream};
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Java, Need};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use super::{PARTITIONS, PATIENCE, coordinator, describe, produce, unrest};
use crate::rdkafka::{config, create_topic};

/// A target with one topic, and how Kafka's own tools reach it.
struct Scene {
    access: Access,
    topic: &'static str,
    properties: String,
    _directory: TempDir,
    _target: Target,
}

impl Scene {
    fn start(topic: &'static str) -> Scene {
        let target = Target::start();
        let access = target.scram("SCRAM-SHA-512");
        create_topic(&access, topic, PARTITIONS);
        let directory = paths::scratch();
        let properties =
            access.write_java(Java::V4.store(), directory.path(), "consumer.properties");
        Scene {
            access,
            topic,
            properties: tools::text(&properties),
            _directory: directory,
            _target: target,
        }
    }

    /// One of Kafka's tools.
    fn java(&self, class: &str) -> Command {
        let mut command = Java::V4.command();
        command
            .arg(class)
            .args(["--bootstrap-server", &self.access.bootstrap])
            .args(["--command-config", &self.properties]);
        command
    }

    /// A member of the group that is named as the topic is; it begins at the beginning.
    fn console_consumer(&self) -> Command {
        let mut command = self.java(Java::V4.console_consumer());
        command
            .args(["--command-property", "group.protocol=consumer"])
            .args(["--group", self.topic, "--topic", self.topic])
            .arg("--from-beginning");
        command
    }
}

#[test]
fn java_console_consumer_resumes() {
    if !tools::have("java_console_consumer_resumes", &[Need::Java(Java::V4)]) {
        return;
    }
    let scene = Scene::start("console");
    let access = &scene.access;
    let read = |count: usize| {
        let mut command = scene.console_consumer();
        command
            .args(["--max-messages", &count.to_string()])
            .args(["--timeout-ms", "60000"]);
        let output = tools::run("console consumer", &mut command, PATIENCE);
        let values: BTreeSet<usize> = output
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect();
        values
    };
    produce(access, "console", 0..60);
    assert_eq!(read(60), (0..60).collect());
    produce(access, "console", 60..90);
    assert_eq!(read(30), (60..90).collect(), "it goes on where it was");
    let mut connection = coordinator(access, "console");
    let group = describe(&mut connection, "console");
    assert_eq!((&*group.group_state, group.members.len()), ("Empty", 0));
}

#[test]
fn java_verifiable_consumer() {
    if !tools::have("java_verifiable_consumer", &[Need::Java(Java::V4)]) {
        return;
    }
    let scene = Scene::start("verified");
    produce(&scene.access, "verified", 0..120);
    let mut command = scene.java("org.apache.kafka.tools.VerifiableConsumer");
    command
        .args(["--group-protocol", "consumer"])
        .args(["--group-id", "verified", "--topic", "verified"])
        .args(["--reset-policy", "earliest", "--max-messages", "120"]);
    let output = tools::run("VerifiableConsumer", &mut command, PATIENCE);
    let committed = output.lines().any(|line| {
        line.contains("\"name\":\"offsets_committed\"") && line.contains("\"success\":true")
    });
    assert!(committed, "{output}");
    let assigned = output
        .lines()
        .any(|line| line.contains("\"name\":\"partitions_assigned\""));
    assert!(assigned, "{output}");
}

/// Kafka's own tool lists and describes the group with a live Java member.
#[test]
fn kafka_consumer_groups_sees_members() {
    if !tools::have(
        "kafka_consumer_groups_sees_members",
        &[Need::Java(Java::V4)],
    ) {
        return;
    }
    let scene = Scene::start("seen");
    produce(&scene.access, "seen", 0..12);
    let member = Process::spawn("console consumer", &mut scene.console_consumer());
    for _ in 0..12 {
        member.wait_for_line(PATIENCE, |line| line == "11");
    }
    let groups = |args: &[&str]| {
        let mut command = scene.java("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
        tools::run("kafka-consumer-groups", command.args(args), PATIENCE)
    };
    let listed = groups(&["--list", "--type", "consumer"]);
    let is_listed = |line: &str| line.split_whitespace().eq(["seen", "Consumer"]);
    assert!(listed.lines().any(is_listed), "{listed}");
    let state = groups(&["--describe", "--group", "seen", "--state", "--verbose"]);
    assert!(
        state.contains("uniform") && state.contains("Stable"),
        "{state}"
    );
    let members = groups(&["--describe", "--group", "seen", "--members", "--verbose"]);
    assert!(
        members.contains("seen:0,1,2,3,4,5") || members.contains("seen(0,1,2,3,4,5)"),
        "{members}"
    );
}

/// One of several librdkafka consumers in a thread's hands.
struct Reader {
    consumer: BaseConsumer,
    seen: BTreeSet<usize>,
}

impl Reader {
    fn look(&mut self) {
        if let Some(Ok(message)) = self.consumer.poll(std::time::Duration::from_millis(20)) {
            let value = std::str::from_utf8(message.payload().expect("a value")).expect("text");
            self.seen.insert(value.parse().expect("a number"));
        }
    }
}

#[test]
fn librdkafka_members_come_and_go() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    create_topic(&access, "shared", PARTITIONS);
    let mut connection = coordinator(&access, "shared");
    let join = || {
        let consumer: BaseConsumer = config(&access)
            .set("group.id", "shared")
            .set("group.protocol", "consumer")
            .set("auto.offset.reset", "earliest")
            .set("auto.commit.interval.ms", "200")
            .create()
            .expect("a consumer");
        consumer.subscribe(&["shared"]).expect("subscribed");
        Reader {
            consumer,
            seen: BTreeSet::new(),
        }
    };
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    let mut readers = Vec::new();
    let mut next = 0;
    // Up to three, then back to one.
    for size in [1, 2, 3, 2, 1] {
        while readers.len() < size {
            readers.push(join());
        }
        if readers.len() > size {
            let gone = readers.remove(0);
            seen.extend(gone.seen);
            drop(gone.consumer);
        }
        produce(&access, "shared", next..next + 60);
        next += 60;
        let deadline = Instant::now() + PATIENCE;
        loop {
            for reader in &mut readers {
                reader.look();
                seen.extend(&reader.seen);
            }
            let group = describe(&mut connection, "shared");
            let unrest = unrest(&group, size, 0);
            if unrest.is_none() && seen.len() == next {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{size} members, {} of {next}: {unrest:?}",
                seen.len()
            );
        }
    }
    drop(readers);
    eventually("everyone left", PATIENCE, || {
        match &*describe(&mut connection, "shared").group_state {
            "Empty" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
}

/// A Java member dies without a word; its partitions come back after its session.
#[test]
fn the_dead_are_replaced() {
    if !tools::have("the_dead_are_replaced", &[Need::Java(Java::V4)]) {
        return;
    }
    let scene = Scene::start("dead");
    produce(&scene.access, "dead", 0..60);
    let mut connection = coordinator(&scene.access, "dead");
    let member = |number: usize| {
        let mut command = scene.console_consumer();
        command.args(["--command-property", "auto.commit.interval.ms=200"]);
        Process::spawn(&format!("member {number}"), &mut command)
    };
    let (first, second) = (member(1), member(2));
    eventually("two members", PATIENCE, || {
        unrest(&describe(&mut connection, "dead"), 2, 0).map_or(Ok(()), Err)
    });
    first.kill();
    eventually("one member", PATIENCE, || {
        unrest(&describe(&mut connection, "dead"), 1, 0).map_or(Ok(()), Err)
    });
    produce(&scene.access, "dead", 60..120);
    eventually("the rest", PATIENCE, || {
        let lines = second.stream(Stream::Out);
        let seen: BTreeSet<usize> = lines.iter().filter_map(|line| line.parse().ok()).collect();
        match (60..120).all(|value| seen.contains(&value)) {
            true => Ok(()),
            false => Err(format!("{} lines", seen.len())),
        }
    });
}
