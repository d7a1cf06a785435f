//! A process without file descriptors.

use std::path::Path;
use std::sync::Arc;

use palisade_protocol::batch::{BATCH_HEADER_LEN, BatchBuilder, BatchIter, Codec, RecordIter};

use crate::fs::Crash;
use crate::fs::FaultyFs;
use crate::testing::*;
use crate::types::TopicId;
use crate::{
    CleanOptions, LogConfig, LogDir, LogDirOptions, LogSpec, NoObserver, ScrubStep, StorageError,
};

#[test]
fn a_deletion_that_found_no_descriptor_is_finished_later() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let read = bench.log.read(offset(0), offset(60), 100_000, true);
    let held = read.unwrap().slice.unwrap();
    let names = || {
        let entries = bench.fs.as_fs().list(Path::new(DIR)).unwrap();
        let logs = entries.into_iter().filter(|entry| entry.is_dir);
        logs.map(|entry| entry.name).collect::<Vec<_>>()
    };
    bench.fs.set_no_descriptors(true);
    let error = bench.dir.delete_log(&bench.log).unwrap_err();
    assert!(matches!(error, StorageError::Io { .. }), "{error}");
    bench.dir.tick(time(1000));
    bench.dir.run_pending();
    bench.fs.set_no_descriptors(false);
    let left = names();
    assert!(left.len() == 1 && left[0].ends_with("-delete"), "{left:?}");
    bench.dir.tick(time(2000));
    bench.dir.run_pending();
    assert_eq!(names(), [""; 0]);
    assert!(
        !tags(held.as_ref()).is_empty(),
        "a reader keeps what it holds"
    );
}

/// A log that was never written before a clean stop: its first sync syncs the names as well.
fn unwritten() -> Bench {
    Bench::new(small()).reopen(small())
}

#[test]
fn a_first_sync_that_found_no_descriptor_is_made_up_for() {
    let bench = unwritten();
    let told = || *bench.ear.durable.lock();
    bench.fs.set_no_descriptors(true);
    for n in 0..2 {
        bench.put(batch(n, 1, 100, 0));
        // It returns: nothing is tried again at once.
        bench.dir.run_pending();
        bench.dir.tick(time(1000));
        bench.dir.run_pending();
    }
    let error = bench.log.flush_blocking().unwrap_err();
    assert!(matches!(error, StorageError::Io { .. }), "{error}");
    assert!(!bench.dir.is_offline() && !*bench.ear.failed.lock());
    assert_eq!((told(), bench.log.durable_end_offset()), (None, offset(0)));

    bench.fs.set_no_descriptors(false);
    bench.dir.tick(time(2000));
    bench.dir.run_pending();
    assert_eq!(told(), Some(offset(2)));
    let bench = bench.crash(Crash::PowerLoss, small());
    assert_eq!(read_all(&bench.log).len(), 2);
}

#[test]
fn a_first_sync_of_names_that_the_disk_fails_is_final() {
    let bench = unwritten();
    bench.put(batch(0, 1, 100, 0));
    // The bytes first, then the names.
    bench.fs.crash_at(bench.fs.operations() + 1);
    bench.dir.run_pending();
    assert!(bench.dir.is_offline() && *bench.ear.failed.lock());
    assert_eq!(*bench.ear.durable.lock(), None);
}

#[test]
fn a_directory_that_somebody_else_removed_is_not_waited_for() {
    let bench = Bench::new(small());
    bench.fs.set_no_descriptors(true);
    bench.dir.delete_log(&bench.log).unwrap_err();
    bench.fs.set_no_descriptors(false);
    let fs = bench.fs.as_fs();
    for dir in fs.list(Path::new(DIR)).unwrap() {
        let dir = Path::new(DIR).join(dir.name);
        if dir.extension().is_some() {
            for file in fs.list(&dir).unwrap() {
                fs.remove_file(&dir.join(file.name)).unwrap();
            }
            fs.remove_dir(&dir).unwrap();
        }
    }
    bench.dir.tick(time(1000));
    bench.dir.run_pending();
    assert!(!bench.dir.shared().graveyard.has_left());
}

/// The cleaner asks indexes how long they are, and reads nothing else of most segments.
#[test]
fn indexes_that_are_looked_at_alone_are_given_back() {
    const MOST: usize = 3;
    let fs = FaultyFs::new();
    let options = LogDirOptions {
        mapped_segments: Some(MOST),
        ..manual()
    };
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), options).unwrap();
    let spec = LogSpec {
        dir_name: "t-0".to_owned(),
        topic_id: TopicId::from_bytes([5; 16]),
        leader_epoch: None,
    };
    let (log, _) = dir
        .open_log(spec, small(), Arc::new(NoObserver), time(0))
        .unwrap();
    for n in 0..400 {
        log.append(&mut batch(n, 1, 100, 1000), leader(0), time(1000))
            .unwrap();
    }
    dir.run_pending();
    let segments = log.segments.load_full();
    let sealed: Vec<_> = segments
        .iter()
        .filter(|segment| segment.is_sealed())
        .collect();
    assert!(sealed.len() > 3 * MOST);
    let kept = || {
        let keeping = sealed.iter().filter(|segment| segment.keeps_files());
        keeping.count()
    };
    for _ in 0..2 {
        for segment in &sealed {
            segment.index().unwrap();
        }
        assert_eq!(kept(), MOST);
        for segment in &sealed {
            segment.region().unwrap();
            segment.index().unwrap();
        }
        assert_eq!(kept(), MOST);
    }
}

#[test]
fn a_scrub_without_descriptors_takes_nothing_for_damaged() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    bench.dir.run_pending();
    let sealed = bench
        .log
        .segments
        .load()
        .iter()
        .filter(|segment| segment.is_sealed())
        .count();
    let mut scrubber = bench.dir.scrubber().unwrap();
    let mut pass = || loop {
        if let ScrubStep::Finished(totals) = scrubber.step(time(1000), &mut ()) {
            return totals;
        }
    };
    bench.fs.set_no_descriptors(true);
    let totals = pass();
    assert_eq!(
        (totals.segments, totals.skipped_segments),
        (0, sealed as u64)
    );
    assert_eq!((totals.doubtful_segments, totals.damaged_ranges), (0, 0));
    bench.fs.set_no_descriptors(false);
    assert_eq!(pass().segments, sealed as u64);
}

/// What a log holds, cleaned or not: the newest value of each key that `put_keys` has put.
fn newest(bench: &Bench) -> Vec<(Vec<u8>, Vec<u8>)> {
    let log = &bench.log;
    let mut newest = std::collections::BTreeMap::new();
    let mut at = log.log_start_offset();
    while at < log.log_end_offset() {
        let read = log.read(at, log.log_end_offset(), 1 << 20, true).unwrap();
        let Some(slice) = read.slice else { break };
        for batch in BatchIter::new(slice.as_ref()) {
            let (header, bytes) = batch.unwrap();
            let records = &bytes[BATCH_HEADER_LEN..];
            for record in RecordIter::new(records, header.records_count) {
                let record = record.unwrap();
                newest.insert(record.key.unwrap().to_vec(), record.value.unwrap().to_vec());
            }
        }
        at = read.next_offset;
    }
    newest.into_iter().collect()
}

fn put_keys(bench: &Bench) {
    for n in 0..60 {
        let mut builder = BatchBuilder::new(Codec::None);
        let (key, value) = (format!("key {}", n % 3), format!("{n:>50}"));
        builder
            .add(
                time(1000),
                Some(key.as_bytes()),
                Some(value.as_bytes()),
                &[],
            )
            .unwrap();
        bench.put(builder.build().unwrap().to_vec());
    }
    bench.dir.run_pending();
}

/// Each sync of a directory in a pass of the cleaner in turn finds no descriptor.
#[test]
fn a_cleaner_without_a_descriptor_harms_its_log_alone() {
    let config = LogConfig {
        compact: true,
        delete: false,
        segment_bytes: 1000,
        ..small()
    };
    let (mut put_off, mut closed) = (0, 0);
    for nth in 0.. {
        let bench = Bench::new(config.clone());
        put_keys(&bench);
        let before = newest(&bench);
        assert_eq!(before.len(), 3);
        let segments = bench.log.segments.load().len();
        let clean = |bench: &Bench| {
            let end = bench.log.log_end_offset();
            let options = CleanOptions::default();
            bench.log.clean(end, time(1000), &options, &mut ())
        };
        bench.fs.unopened_dir_at(bench.fs.dir_syncs() + nth);
        let cleaned = clean(&bench);
        assert!(!bench.dir.is_offline(), "{nth}: {cleaned:?}");
        let bench = match cleaned {
            Ok(_) => {
                assert!(nth > 4, "{nth} syncs of directories in a pass");
                break;
            }
            Err(_) if *bench.ear.failed.lock() => {
                closed += 1;
                bench.crash(Crash::PowerLoss, config.clone())
            }
            Err(_) => {
                put_off += 1;
                assert_eq!(newest(&bench), before, "{nth}");
                clean(&bench).unwrap();
                let left = bench.log.segments.load().len();
                assert!(left < segments, "{nth}: {left} of {segments}");
                bench
            }
        };
        assert_eq!(newest(&bench), before, "{nth}");
        let bench = bench.crash(Crash::PowerLoss, config.clone());
        assert_eq!(newest(&bench), before, "{nth}");
    }
    // Once inputs have lost their names only a start can tell.
    assert!(put_off > 0 && closed > 0, "{put_off} {closed}");
}

#[test]
fn a_retention_without_a_descriptor_cuts_nothing_that_may_come_back() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    bench.dir.run_pending();
    let retired = || {
        let entries = bench.fs.as_fs().list(&bench.file("")).unwrap();
        let mut names = entries.into_iter().map(|entry| entry.name);
        names.any(|name| name.ends_with(".deleted"))
    };
    // One to store the new start, one for the names.
    bench.fs.unopened_dir_at(bench.fs.dir_syncs() + 1);
    bench.log.delete_records_before(offset(40)).unwrap();
    bench.dir.run_pending();
    assert!(!bench.dir.is_offline() && !*bench.ear.failed.lock());
    assert!(retired(), "files stay until their names are synced");
    bench.log.apply_retention(offset(60), time(1000)).unwrap();
    bench.dir.run_pending();
    assert!(!retired());
    let before = read_all(&bench.log);
    assert!(!before.is_empty());
    let bench = bench.crash(Crash::PowerLoss, small());
    assert_eq!(read_all(&bench.log), before);
}
