//! Files that the disk does not give back: what of it costs one log, and never the directory.

use std::path::Path;
use std::sync::Arc;

use super::damage::{sealed, served};
use crate::fs::{Crash, Fs};
use crate::meta::CLEAN_FILE;
use crate::seal::Seal;
use crate::testing::*;
use crate::types::TopicId;
use crate::{Log, LogConfig, LogDir, LogSpec, NoObserver, StorageError};

/// Opens a log of the directory.
fn open(dir: &LogDir, name: &str) -> Result<Arc<Log>, StorageError> {
    open_with(dir, name, small())
}

fn open_with(dir: &LogDir, name: &str, config: LogConfig) -> Result<Arc<Log>, StorageError> {
    let spec = LogSpec {
        dir_name: name.into(),
        topic_id: TopicId::from_bytes([5; 16]),
        leader_epoch: None,
    };
    let opened = dir.open_log(spec, config, Arc::new(NoObserver), time(0));
    opened.map(|(log, _)| log)
}

fn goes_on(dir: &LogDir, log: &Log) {
    assert!(!dir.is_offline());
    let mut more = batch(0, 1, 100, 1000);
    log.append(&mut more, leader(0), time(1000)).unwrap();
}

#[test]
fn a_log_with_an_unreadable_topic_id_is_refused_alone() {
    let (fs, logs) = sealed();
    fs.spoil(&logs[0].with_file_name("partition.metadata"), 0..4);
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
    let error = open(&dir, LOG).unwrap_err();
    assert!(matches!(error, StorageError::Io { .. }), "{error}");
    goes_on(&dir, &open(&dir, "u-0").unwrap());
}

#[test]
fn a_seal_that_cannot_be_read_is_made_again() {
    let (fs, logs) = sealed();
    let path = logs[1].with_extension("seal");
    let before = Seal::load(&fs, &path).unwrap();
    fs.spoil(&path, 0..4);
    let bench = Bench::on(fs.clone(), small());
    assert_eq!(served(&bench.log), (60, 0));
    bench.dir.run_pending();
    assert_eq!(Seal::load(&fs, &path).unwrap(), before);
    goes_on(&bench.dir, &open(&bench.dir, "u-0").unwrap());
}

#[test]
fn leader_epochs_that_cannot_be_read_are_made_again() {
    let (fs, logs) = sealed();
    fs.spoil(&logs[0].with_file_name("leader-epoch-checkpoint"), 0..4);
    let bench = Bench::on(fs, small());
    let epoch = bench.log.epoch_at(offset(30));
    assert_eq!(epoch.map(|epoch| epoch.value()), Some(0));
    goes_on(&bench.dir, &bench.log);
}

#[test]
fn a_segment_that_cannot_be_read_costs_a_stop_its_seal_and_no_other() {
    for is_tried_before in [false, true] {
        let bench = Bench::new(small());
        for tag in 0..60 {
            bench.put(batch(tag, 1, 100, 1000));
        }
        let list = bench.log.segments.load_full();
        let paths: Vec<_> = list.iter().map(|segment| segment.path.clone()).collect();
        let second = list[1].base;
        assert!(list.len() > 3 && !list.iter().any(|segment| segment.is_sealed()));
        drop(list);
        let fs = bench.fs.clone();
        // In the record of its first batch.
        fs.spoil(&paths[0], 100..110);
        if is_tried_before {
            bench.dir.run_pending();
            goes_on(&bench.dir, &bench.log);
        }
        let end = bench.log.log_end_offset();
        let mut bench = bench;
        for round in 0..3 {
            bench.dir.close(1).unwrap();
            assert!(fs.content(&Path::new(DIR).join(CLEAN_FILE)).is_some());
            for (n, path) in paths.iter().enumerate() {
                let seal = Seal::load(&fs, &path.with_extension("seal")).unwrap();
                assert_eq!(seal.is_some(), n > 0, "segment {n}, round {round}");
            }
            drop(bench);
            bench = Bench::on(fs.clone(), small());
            assert!(bench.was_clean);
            assert_eq!(bench.log.log_end_offset(), end);
            // The start has it sealed, too.
            bench.dir.run_pending();
            assert!(!bench.dir.is_offline());
            let behind = bench.log.read(second, end, 1, true).unwrap();
            assert_eq!(behind.start_offset, second);
        }
        goes_on(&bench.dir, &bench.log);
    }
}

/// What was not known to be synced is written again at a start, as far as it can be read.
#[test]
fn a_page_that_cannot_be_written_again_costs_its_log_and_no_other() {
    let config = LogConfig {
        segment_bytes: 1 << 14,
        ..small()
    };
    for is_sealed in [true, false] {
        let bench = Bench::new(config.clone());
        bench.fill(0, 300);
        let path = bench.log.segments.load()[0].path.clone();
        let fs = bench.fs.clone();
        drop(bench);
        fs.restart(Crash::Kill);
        if !is_sealed {
            fs.remove_file(&path.with_extension("seal")).unwrap();
        }
        // A page between batches that can be read.
        fs.spoil(&path, 5000..5010);
        let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
        let error = open_with(&dir, LOG, config.clone()).unwrap_err();
        assert!(error.is_failed_read(), "{error}");
        goes_on(&dir, &open(&dir, "u-0").unwrap());
    }
}
