//! The log on a `storage::Log`: terms, cuts, and what a start finds.

use std::path::Path;

use bytes::Bytes;
use palisade_storage::fs::FaultyFs;
use palisade_storage::{LogDir, LogDirOptions, LogSpec, NoObserver};

use super::super::testing::{DIR, now};
use super::*;

fn open(fs: &FaultyFs, snapshot: (u64, u64)) -> (DiskLog, LogDir) {
    let options = LogDirOptions {
        ballast_bytes: 0,
        ..LogDirOptions::default()
    };
    let directory = LogDir::open(Path::new(DIR), fs.as_fs(), options).unwrap();
    let spec = LogSpec {
        dir_name: DIRECTORY.to_owned(),
        topic_id: crate::raft::METADATA_TOPIC_ID,
    };
    let (log, _) = directory
        .open_log(spec, log_config(), Arc::new(NoObserver), now())
        .unwrap();
    (DiskLog::open(log, snapshot).unwrap(), directory)
}

fn entry(index: u64, term: u64) -> LogEntry {
    LogEntry {
        index,
        term,
        data: Bytes::from(format!("{index}/{term}")),
    }
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<LogEntry> {
    range.map(|index| entry(index, term)).collect()
}

#[test]
fn entries_and_terms_come_back() {
    let fs = FaultyFs::new();
    let (mut log, directory) = open(&fs, (0, 0));
    assert_eq!(
        (log.first_index(), log.last_index(), log.term(0)),
        (1, 0, Some(0))
    );
    log.append(&entries(1..=3, 1), now()).unwrap();
    log.append(&entries(4..=9, 4), now()).unwrap();
    log.sync().unwrap();
    drop((log, directory));
    let (log, _directory) = open(&fs, (0, 0));
    assert_eq!((log.first_index(), log.last_index()), (1, 9));
    assert_eq!(
        [1, 3, 4, 9].map(|at| log.term(at)),
        [Some(1), Some(1), Some(4), Some(4)]
    );
    assert_eq!(log.term(10), None);
    let read = log.entries(2, 6, u64::MAX).unwrap();
    assert_eq!(read, [entry(2, 1), entry(3, 1), entry(4, 4), entry(5, 4)]);
    assert_eq!(log.entries(2, 6, 0).unwrap().len(), 1, "at least one");
}

#[test]
fn a_conflicting_tail_is_replaced() {
    let fs = FaultyFs::new();
    let (mut log, _directory) = open(&fs, (0, 0));
    log.append(&entries(1..=5, 1), now()).unwrap();
    // The same again changes nothing, as after a full disk.
    log.append(&entries(4..=5, 1), now()).unwrap();
    assert_eq!(log.last_index(), 5);
    log.append(&entries(3..=4, 2), now()).unwrap();
    assert_eq!(log.last_index(), 4);
    assert_eq!(
        [2, 3, 4, 5].map(|at| log.term(at)),
        [Some(1), Some(2), Some(2), None]
    );
    assert_eq!(log.entries(1, 5, u64::MAX).unwrap()[2], entry(3, 2));
}

#[test]
fn a_prefix_is_forgotten() {
    let fs = FaultyFs::new();
    let (mut log, directory) = open(&fs, (0, 0));
    log.append(&entries(1..=4, 1), now()).unwrap();
    log.append(&entries(5..=8, 3), now()).unwrap();
    log.sync().unwrap();
    log.discard_through(4, 1).unwrap();
    assert_eq!((log.first_index(), log.last_index()), (5, 8));
    assert_eq!([3, 4, 5].map(|at| log.term(at)), [None, Some(1), Some(3)]);
    log.discard_through(6, 3).unwrap();
    assert_eq!([6, 7].map(|at| log.term(at)), [Some(3), Some(3)]);
    log.append(&entries(9..=9, 3), now()).unwrap();
    log.sync().unwrap();
    drop((log, directory));
    let (mut log, directory) = open(&fs, (6, 3));
    assert_eq!((log.first_index(), log.last_index()), (7, 9));
    log.discard_through(9, 3).unwrap();
    assert_eq!(
        (log.first_index(), log.last_index(), log.term(9)),
        (10, 9, Some(3))
    );
    drop((log, directory));
    // A snapshot beyond the log, as after a crash before the cut: the log begins behind it.
    let (mut log, _directory) = open(&fs, (20, 5));
    assert_eq!((log.first_index(), log.last_index()), (21, 20));
    log.append(&entries(21..=22, 5), now()).unwrap();
    assert_eq!(log.entries(21, 23, u64::MAX).unwrap().len(), 2);
}

#[test]
fn a_hole_behind_the_snapshot_is_told() {
    let fs = FaultyFs::new();
    let (mut log, directory) = open(&fs, (0, 0));
    log.append(&entries(1..=4, 1), now()).unwrap();
    log.sync().unwrap();
    log.discard_through(3, 1).unwrap();
    drop((log, directory));
    let options = LogDirOptions {
        ballast_bytes: 0,
        ..LogDirOptions::default()
    };
    let directory = LogDir::open(Path::new(DIR), fs.as_fs(), options).unwrap();
    let spec = LogSpec {
        dir_name: DIRECTORY.to_owned(),
        topic_id: crate::raft::METADATA_TOPIC_ID,
    };
    let (log, _) = directory
        .open_log(spec, log_config(), Arc::new(NoObserver), now())
        .unwrap();
    // Only if the log start was on disk already does the hole show.
    if log.log_start_offset() > Offset::ZERO {
        let error = DiskLog::open(log, (0, 0)).unwrap_err();
        assert!(
            matches!(error, RaftError::Misplaced { expected: 1, .. }),
            "{error}"
        );
    }
}
