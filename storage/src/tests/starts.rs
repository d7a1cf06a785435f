//! What a start writes: nothing for a log that was stopped cleanly, all it needs for another.

use std::path::Path;

use crate::fs::{Crash, FaultyFs, OpenHow};
use crate::testing::*;
use crate::types::{LeaderEpoch, TopicId};
use crate::{LogDir, LogSpec, NoObserver, StorageError};

const FIRST: &str = "00000000000000000000.log";

fn spec() -> LogSpec {
    LogSpec {
        dir_name: LOG.into(),
        topic_id: TopicId::from_bytes([5; 16]),
        leader_epoch: None,
    }
}

fn open_log(dir: &LogDir) -> Result<(), StorageError> {
    let opened = dir.open_log(spec(), small(), std::sync::Arc::new(NoObserver), time(0));
    opened.map(|_| ())
}

#[test]
fn a_clean_log_is_opened_without_a_write_or_a_sync() {
    for batches in [0, 1, 60] {
        let bench = Bench::new(small());
        bench.fill(0, batches);
        bench.dir.close(1).unwrap();
        let fs = bench.fs.clone();
        drop(bench);
        let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
        let before = (fs.operations(), fs.syncs());
        open_log(&dir).unwrap();
        assert_eq!((fs.operations(), fs.syncs()), before, "{batches} batches");
    }
}

/// Whoever opens no log leaves the directory as it was: stopped cleanly or not.
#[test]
fn a_directory_that_is_given_back_is_as_it_was() {
    let bench = Bench::new(small());
    bench.fill(0, 3);
    bench.dir.close(7).unwrap();
    let fs = bench.fs.clone();
    drop(bench);
    let open = || LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
    for _ in 0..2 {
        let dir = open();
        assert_eq!(dir.was_clean(), Some(7));
        dir.give_back().unwrap();
        assert!(matches!(open_log(&dir), Err(StorageError::Offline)));
    }
    let dir = open();
    open_log(&dir).unwrap();
    dir.give_back().unwrap();
    drop(dir);
    for _ in 0..2 {
        let dir = open();
        assert_eq!(dir.was_clean(), None);
        dir.give_back().unwrap();
    }
}

#[test]
fn an_idle_life_between_two_clean_stops_keeps_all() {
    let mut bench = Bench::new(small());
    bench.fill(0, 60);
    for crash in [Crash::Kill, Crash::PowerLoss, Crash::Torn { seed: 3 }] {
        bench = bench.reopen(small());
        bench = bench.crash(crash, small());
        assert_eq!(bench.report.scanned_bytes, 0, "nothing was written since");
        assert_eq!(read_all(&bench.log).len(), 60);
        bench = bench.reopen(small());
        assert_eq!(read_all(&bench.log).len(), 60);
    }
}

/// Every start is a new epoch of each log that it leads, and most get no record in it.
#[test]
fn an_epoch_is_stored_with_its_first_batch() {
    let bench = Bench::new(small());
    bench.fill(0, 3);
    let bench = bench.reopen(small());
    let file = bench.file("leader-epoch-checkpoint");
    let before = bench.fs.content(&file).unwrap();
    let epoch = LeaderEpoch::new(4);
    assert_eq!(bench.log.enter_epoch(epoch).unwrap(), offset(3));
    let syncs = bench.fs.syncs();
    bench.dir.checkpoint().unwrap();
    assert_eq!(
        (bench.fs.content(&file), bench.fs.syncs()),
        (Some(before), syncs)
    );

    bench.put_as(batch(3, 1, 20, 1000), leader(4));
    bench.dir.run_pending();
    bench.dir.checkpoint().unwrap();
    let bench = bench.crash(Crash::PowerLoss, small());
    assert_eq!(bench.log.epoch_at(offset(2)), Some(LeaderEpoch::new(0)));
    assert_eq!(bench.log.epoch_at(offset(3)), Some(epoch));
}

/// Which of them were stored, and when, makes no difference.
#[test]
fn epochs_outlive_a_kill() {
    for stored_at in [None, Some(5), Some(30), Some(45), Some(59)] {
        let bench = Bench::new(small());
        for tag in 0..60 {
            let epoch = tag / 20;
            bench.log.enter_epoch(LeaderEpoch::new(epoch)).unwrap();
            bench.put_as(batch(tag as u64, 1, 100, 1000), leader(epoch));
            bench.dir.run_pending();
            if stored_at == Some(tag) {
                bench.dir.checkpoint().unwrap();
            }
        }
        assert!(bench.log.segment_count() > 3);
        let known = |bench: &Bench| {
            let epochs: Vec<_> = (0..60).map(|at| bench.log.epoch_at(offset(at))).collect();
            let ends = [0, 1, 2].map(|epoch| bench.log.epoch_end(LeaderEpoch::new(epoch)));
            (epochs, ends)
        };
        let before = known(&bench);
        assert_eq!(before.0[19..21], [0, 1].map(|e| Some(LeaderEpoch::new(e))));
        let bench = bench.crash(Crash::Kill, small());
        assert_eq!(known(&bench), before, "stored at {stored_at:?}");
        let bench = bench.crash(Crash::PowerLoss, small());
        assert_eq!(known(&bench), before, "stored at {stored_at:?}");
    }
}

/// An unwritten log is not synced when it is opened, so its first records bring the name of their
/// file with them.
#[test]
fn the_first_records_sync_the_name_of_their_file() {
    let bench = Bench::new(small());
    let file = bench.file(FIRST);
    bench.dir.close(1).unwrap();
    let fs = bench.fs.clone();
    drop(bench);
    // As a creation leaves it that could not sync its directory.
    fs.as_fs().remove_file(&file).unwrap();
    fs.as_fs().open(&file, OpenHow::Create).unwrap();
    let bench = Bench::on(fs, small());
    assert!(bench.was_clean);
    bench.fill(0, 1);
    assert_eq!(bench.log.durable_end_offset(), offset(1));
    let bench = bench.crash(Crash::PowerLoss, small());
    assert_eq!(read_all(&bench.log).len(), 1);
}

#[test]
fn a_creation_that_fails_leaves_nothing_behind() {
    let fs = FaultyFs::new();
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
    let mut failed = 0;
    loop {
        fs.refuse_growth_at(fs.growths() + failed);
        let opened = open_log(&dir);
        dir.run_pending();
        if opened.is_ok() {
            break;
        }
        assert!(matches!(opened, Err(StorageError::DiskFull { .. })));
        failed += 1;
        assert!(!fs.as_fs().exists(&Path::new(DIR).join(LOG)).unwrap());
    }
    assert!(
        failed > 3,
        "directory, topic id, its bytes and the first segment"
    );
}
