//! A process without file descriptors.

use std::path::Path;
use std::sync::Arc;

use crate::fs::Crash;
use crate::fs::FaultyFs;
use crate::testing::*;
use crate::types::TopicId;
use crate::{LogDir, LogDirOptions, LogSpec, NoObserver, ScrubStep, StorageError};

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
