//! A node whose audit log lies on a small disk of its own.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use palisade_protocol::api::ApiKey;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use palisade_protocol::text::Str;
use palisade_tests::certs::Identity;
use palisade_tests::check::{self, eventually};
use palisade_tests::node::Node;
use palisade_tests::requests::newest;
use palisade_tests::wire::Connection;

/// A small file system in memory, gone when dropped.
pub(super) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of that many bytes; `None` for users who may not.
    pub(super) fn mount(path: &Path, bytes: u64) -> Option<Tmpfs> {
        fs::create_dir(path).expect("a scratch directory");
        let options = format!("size={bytes},mode=0700");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(path)
            .status();
        status
            .is_ok_and(|status| status.success())
            .then(|| Tmpfs(path.to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes all of its space.
    pub(super) fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file");
        loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
                return;
            }
        }
    }

    /// Gives the space back.
    pub(super) fn free(&self) {
        fs::remove_file(self.filler()).expect("the filler");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process of the test may still have files open when a test fails.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The node, its disk, and somebody without rights.
pub(super) struct Stage {
    pub(super) node: Node,
    pub(super) tmpfs: Tmpfs,
    mallory: Identity,
}

impl Stage {
    /// Runs a node with a queue of 64 KiB; `None` where no file system can be mounted.
    pub(super) fn set(test: &str, disk_bytes: u64, settings: &[(&str, &str)]) -> Option<Stage> {
        let mut node = Node::prepare();
        let Some(tmpfs) = Tmpfs::mount(&node.dir().join("audit-disk"), disk_bytes) else {
            check::skip(test, "a tmpfs can only be mounted by root");
            return None;
        };
        node.set(
            "palisade.audit.dir",
            tmpfs.0.join("log").display().to_string(),
        );
        node.set("palisade.audit.queue.max.bytes", "65536");
        for (key, value) in settings {
            node.set(key, *value);
        }
        let mallory = node.authority().issue(node.dir(), "mallory");
        node.allow("the audit log cannot be written");
        node.run();
        node.create_admin();
        Some(Stage {
            node,
            tmpfs,
            mallory,
        })
    }

    pub(super) fn admin(&self) -> Connection {
        Connection::open(&self.node.certificate()).expect("the administrator")
    }

    pub(super) fn mallory(&self) -> Connection {
        Connection::open(&self.node.certificate_of(&self.mallory)).expect("anybody")
    }

    /// The file of the log.
    pub(super) fn log(&self) -> PathBuf {
        self.tmpfs.0.join("log/audit.log")
    }

    /// Waits until the node said something in its own log.
    pub(super) fn said(&self, words: &str) {
        eventually(words, Duration::from_secs(60), || {
            let lines = self.node.process().lines();
            match lines.iter().any(|line| line.contains(words)) {
                true => Ok(()),
                false => Err("not yet".to_owned()),
            }
        });
    }
}

/// Asks for offsets of sixty topics that nobody may see, under names never asked for before.
pub(super) fn be_denied(connection: &mut Connection, round: usize) {
    deny(connection, &forbidden(round, 60));
}

/// Asks what is refused.
pub(super) fn deny(connection: &mut Connection, question: &ListOffsetsRequest) {
    let answer = connection.call(newest(ApiKey::ListOffsets), question);
    judge_denial(&answer.expect("denials go on"));
}

/// A question that asks for so many of such topics.
pub(super) fn forbidden(round: usize, topics: usize) -> ListOffsetsRequest {
    let topics = (0..topics).map(|number| ListOffsetsTopic {
        name: Str::from(format!("forbidden-{round}-{number}")),
        partitions: vec![ListOffsetsPartition {
            timestamp: -1,
            ..ListOffsetsPartition::default()
        }],
    });
    ListOffsetsRequest {
        replica_id: -1,
        topics: topics.collect(),
        ..ListOffsetsRequest::default()
    }
}

/// Every topic is refused.
pub(super) fn judge_denial(answer: &ListOffsetsResponse) {
    assert!(!answer.topics.is_empty());
    for topic in &answer.topics {
        let code = topic.partitions[0].error_code;
        assert_eq!(code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
}
