use std::path::Path;

use super::snapshot;
use super::*;
use crate::batch::parse;
use crate::fs::FaultyFs;
use crate::testing::{offset, produced};

fn header(count: usize, epoch: i16, sequence: i32) -> BatchHeader {
    parse(&produced(0, count, 9, epoch, sequence)).unwrap()
}

/// States after the given (count, epoch, first sequence) batches, stored end to end.
fn states(batches: &[(usize, i16, i32)]) -> ProducerStates {
    let mut states = ProducerStates::default();
    let mut at = 0;
    for (count, epoch, sequence) in batches {
        states.apply(&header(*count, *epoch, *sequence), offset(at));
        at += *count as i64;
    }
    states
}

#[test]
fn the_table_of_verdicts() {
    let known = states(&[(3, 1, 0), (2, 1, 3)]);
    let judge = |count, epoch, sequence| known.judge(&header(count, epoch, sequence));
    assert_eq!(judge(1, 1, 5).unwrap(), Verdict::Accept);
    let Verdict::Duplicate(first) = judge(3, 1, 0).unwrap() else {
        panic!("a repeat")
    };
    assert_eq!(
        (first.first_offset, first.last_offset),
        (offset(0), offset(2))
    );
    assert!(matches!(judge(2, 1, 3).unwrap(), Verdict::Duplicate(_)));
    assert!(matches!(
        judge(1, 1, 6),
        Err(StorageError::OutOfOrderSequence {
            expected: Some(5),
            found: 6,
            ..
        })
    ));
    assert!(
        matches!(judge(2, 1, 0), Err(StorageError::OutOfOrderSequence { .. })),
        "overlap"
    );
    assert!(matches!(
        judge(3, 0, 0),
        Err(StorageError::InvalidProducerEpoch { .. })
    ));
    assert_eq!(judge(1, 2, 0).unwrap(), Verdict::Accept);
    assert!(matches!(
        judge(1, 2, 5),
        Err(StorageError::OutOfOrderSequence { .. })
    ));
    let nobody = ProducerStates::default();
    assert_eq!(nobody.judge(&header(1, 1, 77)).unwrap(), Verdict::Accept);
}

#[test]
fn five_batches_are_remembered() {
    let known = states(&[
        (1, 0, 0),
        (1, 0, 1),
        (1, 0, 2),
        (1, 0, 3),
        (1, 0, 4),
        (1, 0, 5),
    ]);
    assert!(
        known.judge(&header(1, 0, 0)).is_err(),
        "the sixth back is forgotten"
    );
    for sequence in 1..=5 {
        assert!(matches!(
            known.judge(&header(1, 0, sequence)).unwrap(),
            Verdict::Duplicate(_)
        ));
    }
}

#[test]
fn sequences_wrap() {
    let known = states(&[(4, 0, i32::MAX - 1)]);
    assert_eq!(header(4, 0, i32::MAX - 1).last_sequence(), 1);
    assert_eq!(known.judge(&header(1, 0, 2)).unwrap(), Verdict::Accept);
    assert_eq!(next_sequence(i32::MAX), 0);
}

fn marker(commit: bool, coordinator_epoch: i32) -> Marker {
    Marker {
        commit,
        coordinator_epoch,
    }
}

#[test]
fn transactions_bound_the_stable_offset_until_the_marker_is_replicated() {
    let mut states = ProducerStates::default();
    let mut data = header(2, 1, 0);
    data.attributes |= 16;
    states.apply(&data, offset(10));
    assert!(states.has_open_txn(ProducerId::new(9)));
    assert_eq!(states.last_stable_bound(offset(99)), Some(offset(10)));
    assert!(matches!(
        states.judge(&header(1, 1, 2)),
        Err(StorageError::InvalidTxnState { .. })
    ));
    let end = header(1, 1, -1);
    assert!(matches!(
        states.judge_marker(&header(1, 0, -1), marker(true, 0)),
        Err(StorageError::InvalidProducerEpoch { .. })
    ));
    states.judge_marker(&end, marker(false, 3)).unwrap();
    let aborted = states
        .apply_marker(&end, offset(12), marker(false, 3))
        .unwrap();
    assert_eq!(
        (aborted.first_offset, aborted.last_offset),
        (offset(10), offset(12))
    );
    assert_eq!(aborted.last_stable_offset, offset(13));
    assert!(matches!(
        states.judge_marker(&end, marker(true, 2)),
        Err(StorageError::TransactionCoordinatorFenced { .. })
    ));
    assert_eq!(
        states.last_stable_bound(offset(12)),
        Some(offset(10)),
        "marker not replicated"
    );
    assert_eq!(states.last_stable_bound(offset(13)), None);
    let mut next = header(1, 1, 2);
    next.attributes |= 16;
    assert_eq!(
        states.judge(&next).unwrap(),
        Verdict::Accept,
        "same epoch keeps the sequence"
    );
}

#[test]
fn a_marker_of_a_new_epoch_starts_sequences_again() {
    let mut states = states(&[(2, 1, 0)]);
    states.apply_marker(&header(1, 2, -1), offset(2), marker(true, 0));
    assert!(states.judge(&header(1, 2, 2)).is_err());
    assert_eq!(states.judge(&header(1, 2, 0)).unwrap(), Verdict::Accept);
}

#[test]
fn idle_producers_are_forgotten_unless_in_a_transaction() {
    let mut states = states(&[(1, 0, 0)]);
    let mut open = parse(&produced(0, 1, 10, 0, 0)).unwrap();
    open.attributes |= 16;
    states.apply(&open, offset(5));
    states.expire(TimestampMs::new(1500), 1000);
    assert_eq!(states.len(), 2);
    states.expire(TimestampMs::new(2000), 1000);
    assert_eq!(states.len(), 1);
    assert!(states.has_open_txn(ProducerId::new(10)));
}

#[test]
fn a_snapshot_keeps_all_five() {
    let fs = FaultyFs::new();
    let dir = Path::new("/");
    let mut stored = states(&[(1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 0, 3), (1, 0, 4)]);
    let mut open = parse(&produced(0, 1, 10, 0, 0)).unwrap();
    open.attributes |= 16;
    stored.apply(&open, offset(5));
    snapshot::store(&fs, dir, offset(6), &stored).unwrap();
    let loaded = snapshot::load(&fs, dir, offset(6)).unwrap().unwrap();
    assert_eq!(loaded, stored);
    assert!(snapshot::load(&fs, dir, offset(7)).unwrap().is_none());
    let path = snapshot::path(dir, offset(6));
    assert_eq!(
        snapshot::offset_of(path.file_name().unwrap().to_str().unwrap()),
        Some(offset(6))
    );
    for at in [0, 5, 9, 30, 60] {
        fs.flip(&path, at, 1);
        assert!(snapshot::load(&fs, dir, offset(6)).is_err(), "flip at {at}");
        fs.flip(&path, at, 1);
    }
}
