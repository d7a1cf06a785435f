//! The log on a `storage::Log`: terms, cuts, and what a start finds.

use std::path::Path;

use bytes::Bytes;
use palisade_storage::fs::{Crash, FaultyFs};
use palisade_storage::{LogDir, LogDirOptions, LogSpec, NoObserver};

use super::super::testing::{DIR, now};
use super::*;

fn try_open(
    fs: &FaultyFs,
    snapshot: (u64, u64),
) -> Result<(DiskLog, LogDir, RecoveryReport), RaftError> {
    let options = LogDirOptions {
        ballast_bytes: 0,
        ..LogDirOptions::default()
    };
    let directory = LogDir::open(Path::new(DIR), fs.as_fs(), options).unwrap();
    let path = Path::new(DIR).join(MARK);
    let mark = match SyncedMark::open(fs, &path)? {
        Some(mark) => mark,
        None => SyncedMark::create(fs, &path)?,
    };
    let spec = LogSpec {
        dir_name: DIRECTORY.to_owned(),
        topic_id: METADATA_TOPIC_ID,
        leader_epoch: None,
    };
    let synced = offset_of(mark.value() + 1);
    let (log, report) =
        directory.open_log_synced_to(synced, spec, log_config(), Arc::new(NoObserver), now())?;
    Ok((DiskLog::read(log, mark, snapshot)?, directory, report))
}

fn open(fs: &FaultyFs, snapshot: (u64, u64)) -> (DiskLog, LogDir) {
    let (log, directory, _) = try_open(fs, snapshot).unwrap();
    (log, directory)
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
    let started = log.log.log_start_offset();
    drop((log, directory));
    // Only if the log start was on disk already does the hole show.
    if started > Offset::ZERO {
        let error = try_open(&fs, (0, 0)).unwrap_err();
        assert!(
            matches!(error, RaftError::Misplaced { expected: 1, .. }),
            "{error}"
        );
    }
}

/// Six entries of which the last two were never synced, after a crash of the process; and the bytes
/// of one of them.
fn two_of_six_unsynced() -> (FaultyFs, std::path::PathBuf, usize) {
    let fs = FaultyFs::new();
    let (mut log, directory) = open(&fs, (0, 0));
    log.append(&entries(1..=4, 1), now()).unwrap();
    log.sync().unwrap();
    log.append(&entries(5..=6, 1), now()).unwrap();
    let path = Path::new(DIR)
        .join(DIRECTORY)
        .join("00000000000000000000.log");
    let size = fs.content(&path).unwrap().len() / 6;
    drop((log, directory));
    fs.restart(Crash::Kill);
    (fs, path, size)
}

#[test]
fn no_flip_cuts_an_entry_that_was_synced() {
    let (probe, _, size) = two_of_six_unsynced();
    drop(probe);
    for entry in 0..4 {
        for byte in 0..size {
            let (fs, path, _) = two_of_six_unsynced();
            let before = fs.content(&path).unwrap();
            fs.flip(&path, entry * size + byte, 0x40);
            for start in ["first", "second"] {
                let refused = try_open(&fs, (0, 0)).err();
                let refused =
                    refused.unwrap_or_else(|| panic!("entry {entry}, byte {byte}: {start} start"));
                assert!(
                    matches!(refused, RaftError::Damaged { .. }),
                    "entry {entry}, byte {byte}: {refused}"
                );
                fs.restart(Crash::Kill);
            }
            let after = fs.content(&path).unwrap();
            assert_eq!(after.len(), before.len(), "nothing was cut");
            fs.flip(&path, entry * size + byte, 0x40);
            let (log, _directory) = open(&fs, (0, 0));
            assert!(log.last_index() >= 4, "mended, all are there again");
        }
    }
}

#[test]
fn a_flip_behind_the_mark_is_a_torn_tail() {
    for (entry, left) in [(4, 4), (5, 5)] {
        let (fs, path, size) = two_of_six_unsynced();
        fs.flip(&path, entry * size + 70, 0x40);
        let (log, _directory, report) = try_open(&fs, (0, 0)).unwrap();
        assert_eq!(log.last_index(), left);
        assert_eq!(report.cut_bytes, (6 - left) * size as u64);
    }
}

#[test]
fn synced_entries_that_are_gone_stop_the_start() {
    let (fs, path, size) = two_of_six_unsynced();
    let content = fs.content(&path).unwrap();
    for left in [0, size / 2, 3 * size] {
        fs.replace(&path, &content[..left]);
        for _ in 0..2 {
            let error = try_open(&fs, (0, 0)).unwrap_err();
            assert!(
                matches!(error, RaftError::Damaged { to: 4, .. }),
                "{left} bytes left: {error}"
            );
            fs.restart(Crash::Kill);
        }
    }
    // What a snapshot covers is not missed.
    let (log, _directory) = open(&fs, (4, 1));
    assert_eq!((log.first_index(), log.last_index()), (5, 4));
}

#[test]
fn the_mark_goes_down_before_a_conflicting_tail_is_cut() {
    let fs = FaultyFs::new();
    let (mut log, directory) = open(&fs, (0, 0));
    log.append(&entries(1..=6, 1), now()).unwrap();
    log.sync().unwrap();
    log.append(&entries(3..=3, 2), now()).unwrap();
    drop((log, directory));
    fs.restart(Crash::PowerLoss);
    let (mut log, directory) = open(&fs, (0, 0));
    assert!((2..=3).contains(&log.last_index()), "{}", log.last_index());
    log.append(&entries(3..=4, 2), now()).unwrap();
    log.sync().unwrap();
    drop((log, directory));
    fs.restart(Crash::PowerLoss);
    let (log, _directory) = open(&fs, (0, 0));
    assert_eq!((log.last_index(), log.term(4)), (4, Some(2)));
}
