//! A real process that dies at each named failpoint, on real files.
//!
//! The test starts itself again as a child that plays a story and dies in it; the parent then
//! opens what is left.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::meta::CLEAN_FILE;
use crate::testing::*;
use crate::types::TopicId;
use crate::{LogConfig, LogDir, LogDirOptions, LogSpec, NoObserver};

const FOLDER: &str = "PALISADE_TEST_FOLDER";

const NAMES: [&str; 31] = [
    "append.before_write",
    "append.after_write",
    "checkpoint.after",
    "checkpoint.before_high_watermarks",
    "checkpoint.before_log_starts",
    "checkpoint.before_recovery_points",
    "close.before_marker",
    "create.after_dir",
    "create.before_parent_sync",
    "delete.before_dir_sync",
    "delete.before_rename",
    "durable.before_dir_sync",
    "durable.before_rename",
    "durable.before_sync",
    "flusher.after_sync",
    "flusher.before_sync",
    "recovery.after_sync",
    "recovery.before_sync",
    "retention.after_checkpoint",
    "retention.before_checkpoint",
    "roll.after_dir_sync",
    "roll.before_create",
    "roll.before_dir_sync",
    "seal.after_seal",
    "seal.before_indexes",
    "seal.before_seal",
    "seal.before_snapshot",
    "seal.before_truncate",
    "truncate.after_removal",
    "truncate.after_sync",
    "truncate.before_sync",
];

fn open(folder: &Path) -> (LogDir, Arc<crate::Log>) {
    let options = LogDirOptions {
        ballast_bytes: 0,
        reserve_bytes: Some(0),
        ..LogDirOptions::default()
    };
    let dir = LogDir::open(&folder.join("logs"), crate::fs::real(), options).unwrap();
    let log = open_log(&dir, LOG);
    (dir, log)
}

fn open_log(dir: &LogDir, name: &str) -> Arc<crate::Log> {
    let spec = LogSpec {
        dir_name: name.into(),
        topic_id: TopicId::from_bytes([1; 16]),
        leader_epoch: None,
    };
    let config = LogConfig {
        segment_bytes: 4096,
        ..small()
    };
    dir.open_log(spec, config, Arc::new(NoObserver), time(0))
        .unwrap()
        .0
}

/// The child's part: does nothing unless it is told where.
#[test]
fn story() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let (dir, log) = open(folder);
    let mut told = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("told"))
        .unwrap();
    let mut put = |tag: u64| {
        log.append(&mut batch(tag, 1, 300, 0), leader(0), time(0))
            .unwrap();
        if tag % 5 == 4 {
            let end = log.flush_blocking().unwrap();
            writeln!(told, "{end}").unwrap();
        }
    };
    (0..45).for_each(&mut put);
    dir.checkpoint().unwrap();
    // Cut what was never told of: the story's promise stays simple.
    (45..48).for_each(&mut put);
    log.truncate_to(offset(46)).unwrap();
    (46..60).for_each(&mut put);
    log.delete_records_before(offset(20)).unwrap();
    let other = open_log(&dir, "other-0");
    dir.delete_log(&other).unwrap();
    drop((other, log));
    dir.close(4).unwrap();
}

#[test]
fn a_process_that_dies_at_any_point_loses_nothing_told() {
    if std::env::var_os(FOLDER).is_some() {
        return;
    }
    for name in NAMES {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::aborts::story"])
            .env(FOLDER, folder.path())
            .env("PALISADE_FAILPOINT", format!("{name}:abort"))
            .output()
            .unwrap();
        assert_eq!(child.status.signal(), Some(6), "{name} was passed alive");
        let told = std::fs::read_to_string(folder.path().join("told")).unwrap_or_default();
        let told: i64 = told.lines().last().map_or(0, |line| line.parse().unwrap());
        let marker = folder.path().join(CLEAN_FILE);
        assert!(!marker.exists(), "{name} came after a clean stop");
        let (dir, log) = open(folder.path());
        assert!(log.log_end_offset() >= offset(told), "{name} lost some");
        assert!(log.damage().is_empty(), "{name}");
        let found = read_all(&log);
        for pair in found.windows(2) {
            assert_eq!(
                (pair[0].0 + 1, pair[0].2 + 1),
                (pair[1].0, pair[1].2),
                "{name}"
            );
        }
        log.append(&mut batch(99, 1, 300, 0), leader(0), time(0))
            .unwrap();
        dir.close(0).unwrap();
    }
}
