//! A full disk: writers get a storage error, readers go on, and space heals it without a restart.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use palisade_protocol::batch::builder::BatchBuilder;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use palisade_protocol::types::TimestampMs;
use palisade_tests::check::{self, eventually};
use palisade_tests::node::Node;
use palisade_tests::process::is_complaint;
use palisade_tests::requests;
use palisade_tests::wire::Connection;

use crate::cli_data::Cli;

const TOPIC: &str = "full";

/// A file system of a few megabytes in memory, gone when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one at `path`; none where the user may not.
    fn mount(path: &Path, megabytes: u32) -> Option<Tmpfs> {
        std::fs::create_dir(path).expect("a scratch directory");
        let mounted = mount(&format!("size={megabytes}m,mode=0700"), path);
        mounted.then(|| Tmpfs(path.to_owned()))
    }

    fn resize(&self, megabytes: u32) {
        assert!(mount(&format!("remount,size={megabytes}m"), &self.0));
    }
}

fn mount(options: &str, path: &Path) -> bool {
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(path)
        .status();
    status.is_ok_and(|status| status.success())
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process of the test may still have files open when a test fails.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_heals() {
    let mut node = Node::prepare();
    let disk = node.dir().join("disk");
    let Some(tmpfs) = Tmpfs::mount(&disk, 192) else {
        check::skip("a_full_disk_heals", "a tmpfs can only be mounted by root");
        return;
    };
    node.set("log.dirs", disk.join("data").display().to_string());
    node.set("log.segment.bytes", "4194304");
    node.allow("disk is below its reserve")
        .allow("ballast given back");
    node.run();

    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let id = requests::create_topic(&mut connection, TOPIC, 1, &[]).expect("a topic");
    let value = vec![7; 200_000];
    let write = |connection: &mut Connection| {
        let records = requests::batch(Codec::None, &[&value], 1_700_000_000_000);
        requests::produce(connection, TOPIC, id, -1, records).expect("an answer")
    };
    let mut written = 0;
    let refusal = loop {
        let answer = write(&mut connection);
        if answer.error_code.is_error() {
            break answer.error_code;
        }
        written += 1;
        assert!(written < 1_000, "192 MiB took {written} records of 200 kB");
    };
    assert_eq!(refusal, ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(written > 300, "full after {written} records of 200 kB");

    let log = requests::read_all(&mut connection, TOPIC, id, 0).expect("reads go on");
    assert_eq!(log.len(), written);
    assert!(log.iter().all(|(_, found)| *found == value));

    tmpfs.resize(384);
    eventually(
        "writes after space returned",
        Duration::from_secs(30),
        || match write(&mut connection).error_code {
            ErrorCode::NONE => Ok(()),
            code => Err(code.name().to_owned()),
        },
    );
    let log = requests::read_all(&mut connection, TOPIC, id, 0).expect("the log");
    assert!(log.len() > written);
    node.terminate();
    drop(tmpfs);
}

/// A node on a file system of 24 MiB of its own, with small segments.
fn small_node(test: &str) -> Option<(Node, Tmpfs)> {
    let (mut node, tmpfs) = prepared(test)?;
    node.run();
    Some((node, tmpfs))
}

/// The same, that does not run yet.
fn prepared(test: &str) -> Option<(Node, Tmpfs)> {
    let mut node = Node::prepare();
    let disk = node.dir().join("disk");
    let Some(tmpfs) = Tmpfs::mount(&disk, 24) else {
        check::skip(test, "a tmpfs can only be mounted by root");
        return None;
    };
    node.set("log.dirs", disk.join("data").display().to_string());
    node.set("log.segment.bytes", "1048576");
    node.allow("disk is below its reserve")
        .allow("disk is full")
        .allow("ballast given back");
    Some((node, tmpfs))
}

/// Whoever types lines at a full disk is told in time which of them did not arrive, and why.
#[test]
fn a_producer_of_lines_gives_up() {
    let Some((mut node, tmpfs)) = small_node("a_producer_of_lines_gives_up") else {
        return;
    };
    let access = node.certificate();
    let mut connection = Connection::open(&access).expect("a login");
    let id = requests::create_topic(&mut connection, TOPIC, 1, &[]).expect("a topic");
    std::fs::write(
        tmpfs.0.join("filler"),
        vec![1; free_bytes(&tmpfs.0) - (256 << 10)],
    )
    .expect("a filler");
    eventually("a refusal", Duration::from_secs(30), || {
        let records = requests::batch(Codec::None, &[&[7; 1000]], 1_700_000_000_000);
        let answer = requests::produce(&mut connection, TOPIC, id, -1, records);
        match answer.expect("an answer").error_code {
            ErrorCode::KAFKA_STORAGE_ERROR => Ok(()),
            code => Err(code.name().to_owned()),
        }
    });

    let cli = Cli::new(&access);
    let file = cli.file("lines", "one\ntwo\n");
    let produce = ["produce", TOPIC, "--file", &file, "--timeout", "1"];
    for acks in ["all", "1"] {
        let (code, out, err) = cli.run(&[&produce[..], &["--acks", acks]].concat());
        assert_eq!(code, 1, "{out}\n{err}");
        let words = "2 records not acknowledged, the first in line 1: full-0: given up after 1 s: \
                     the broker's disk failed or is full (KAFKA_STORAGE_ERROR)";
        assert!(err.contains(words), "{err}");
    }
    let (code, out, err) = cli.run(&[&produce[..], &["--json"]].concat());
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let said: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(said["error"]["name"], "KAFKA_STORAGE_ERROR", "{said}");
    assert_eq!(said["records"], 0, "{said}");
    assert_eq!(said["unanswered"], 2, "{said}");
    assert_eq!(said["first_unanswered"], 1, "{said}");
    node.terminate();
    drop(tmpfs);
}

#[test]
fn a_small_file_system_heals_when_a_foreign_file_goes() {
    let Some((mut node, tmpfs)) = small_node("a_small_file_system_heals_when_a_foreign_file_goes")
    else {
        return;
    };
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let id = requests::create_topic(&mut connection, TOPIC, 1, &[]).expect("a topic");
    let write = |connection: &mut Connection| {
        let records = requests::batch(Codec::None, &[&[7; 1000]], 1_700_000_000_000);
        requests::produce(connection, TOPIC, id, -1, records).expect("an answer")
    };
    assert_eq!(write(&mut connection).error_code, ErrorCode::NONE);

    // All but a part of the reserve, so that the node's own files can still be written.
    let filler = tmpfs.0.join("filler");
    let left = 256 << 10;
    std::fs::write(&filler, vec![1; free_bytes(&tmpfs.0) - left]).expect("a filler");
    eventually("a refusal", Duration::from_secs(30), || {
        match write(&mut connection).error_code {
            ErrorCode::KAFKA_STORAGE_ERROR => Ok(()),
            code => Err(code.name().to_owned()),
        }
    });
    std::fs::remove_file(&filler).expect("the filler goes");
    eventually(
        "writes after space returned",
        Duration::from_secs(30),
        || match write(&mut connection).error_code {
            ErrorCode::NONE => Ok(()),
            code => Err(code.name().to_owned()),
        },
    );
    node.terminate();
    drop(tmpfs);
}

/// A log that cannot be compacted for want of room is told of once, however often it is tried.
#[test]
fn a_cleaner_without_room_says_so_once() {
    let Some((mut node, tmpfs)) = prepared("a_cleaner_without_room_says_so_once") else {
        return;
    };
    node.set("log.cleaner.backoff.ms", "20")
        .env("PALISADE_LOG", "info,palisade::partition::cleaner=debug")
        .allow("no room to clean the log");
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let configs = [
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.bytes", "65536"),
    ];
    let id = requests::create_topic(&mut connection, TOPIC, 1, &configs).expect("a topic");
    for _ in 0..200 {
        let mut builder = BatchBuilder::new(Codec::None);
        let at = TimestampMs::new(1_700_000_000_000);
        let record = builder.add(at, Some(b"key"), Some(&[7; 1000]), &[]);
        record.expect("a small record");
        let batch = builder.build().expect("a small batch").freeze();
        let answer = requests::produce(&mut connection, TOPIC, id, -1, batch);
        requests::check(answer.expect("an answer").error_code).expect("a record");
    }
    let filler = tmpfs.0.join("filler");
    let left = 256 << 10;
    std::fs::write(&filler, vec![1; free_bytes(&tmpfs.0) - left]).expect("a filler");
    let policy = AlterableConfig {
        name: "cleanup.policy".into(),
        config_operation: 0,
        value: Some("compact".into()),
    };
    let compact = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: TOPIC.into(),
            configs: vec![policy],
        }],
        validate_only: false,
    };
    let answer = connection.call(1, &compact).expect("an answer");
    requests::check(answer.responses[0].error_code).expect("another policy");

    let said = |part: &str| {
        let mut lines = node.process().lines();
        lines.retain(|line| line.contains(part));
        lines
    };
    let refused = "no room to clean the log";
    let patience = Duration::from_secs(30);
    eventually("five passes", patience, || match said(refused).len() {
        ..5 => Err(node.process().output()),
        _ => Ok(()),
    });
    let mut warned = said(refused);
    warned.retain(|line| is_complaint(line));
    assert_eq!(warned.len(), 1, "{warned:#?}");
    std::fs::remove_file(&filler).expect("the filler goes");
    eventually("a pass", patience, || match &said("log cleaned")[..] {
        [] => Err(node.process().output()),
        _ => Ok(()),
    });
    node.terminate();
    drop(tmpfs);
}

/// Free bytes of the file system at `path`, as `df` tells them.
fn free_bytes(path: &Path) -> usize {
    let output = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(path)
        .output()
        .expect("df runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let figure = text.lines().nth(1).expect("a line below the heading");
    figure.trim().parse().expect("a number")
}
