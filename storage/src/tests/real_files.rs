//! The same log on real files, with its threads.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, UNIX_EPOCH};

use palisade_protocol::batch::{BatchBuilder, Codec};
use parking_lot::Mutex;

use crate::config::Background;
use crate::fs::FsFile;
use crate::meta::CLEAN_FILE;
use crate::testing::*;
use crate::types::{Offset, TimestampMs, TopicId};
use crate::{
    CleanOptions, FlushPolicy, Log, LogConfig, LogDir, LogDirOptions, LogObserver, LogSpec,
    NoObserver, PublishedEnd, Region, StorageError, TryRead,
};

struct Told(Mutex<mpsc::Sender<Offset>>);

impl LogObserver for Told {
    fn durable(&self, end: Offset) {
        let _ = self.0.lock().send(end);
    }
    fn failed(&self) {}
    fn log_start_advanced(&self, _start: Offset) {}
}

fn options() -> LogDirOptions {
    LogDirOptions {
        ballast_bytes: 1 << 20,
        reserve_bytes: Some(0),
        ..LogDirOptions::default()
    }
}

fn open(path: &Path) -> LogDir {
    LogDir::open(path, crate::fs::real(), options()).unwrap()
}

fn log(dir: &LogDir, config: LogConfig, observer: Arc<dyn LogObserver>) -> Arc<Log> {
    let spec = LogSpec {
        dir_name: LOG.into(),
        topic_id: TopicId::from_bytes([1; 16]),
        leader_epoch: None,
    };
    dir.open_log(spec, config, observer, time(0)).unwrap().0
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        index_interval_bytes: 4096,
        flush_policy: FlushPolicy::Ack,
        retention_ms: None,
        ..LogConfig::default()
    }
}

#[test]
fn group_commit_tells_when_bytes_are_durable() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let (sender, told) = mpsc::channel();
    let log = log(&dir, config(), Arc::new(Told(Mutex::new(sender))));
    for tag in 0..500 {
        log.append(&mut batch(tag, 1, 1000, 0), leader(0), time(0))
            .unwrap();
    }
    let mut durable = offset(0);
    while durable < offset(500) {
        let next = told.recv().unwrap();
        assert!(next >= durable && next <= offset(500));
        durable = next;
    }
    assert_eq!(log.durable_end_offset(), offset(500));
    assert!(log.segment_count() > 5);
    assert_eq!(read_all(&log).len(), 500);
    assert_eq!(dir.usage().log_bytes, log.size_bytes());
    dir.close(3).unwrap();
    drop((log, dir));
    let marker = home.path().join(CLEAN_FILE);
    assert!(marker.exists());
    let dir = open(home.path());
    assert!(!marker.exists(), "it holds for one start");
    let log = self::log(&dir, config(), Arc::new(NoObserver));
    assert_eq!(read_all(&log).len(), 500);
    let read = log.read(offset(0), offset(500), 1 << 20, true).unwrap();
    let slice = read.slice.unwrap();
    slice.make_resident(0..slice.len()).unwrap();
    assert!(slice.is_resident(0..slice.len()));
    assert!(matches!(
        log.try_read(offset(0), offset(500), 1 << 20, true).unwrap(),
        TryRead::Done(_)
    ));
}

/// Has every segment on disk say that it was last written at `millis`.
fn age_files(home: &Path, millis: u64) {
    let mut count = 0;
    for entry in std::fs::read_dir(home.join(LOG)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "log") {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            file.set_modified(time).unwrap();
            count += 1;
        }
    }
    assert!(count > 1);
}

#[test]
fn records_without_timestamps_are_as_old_as_their_file() {
    let home = tempfile::tempdir().unwrap();
    let config = || LogConfig {
        retention_ms: Some(60_000),
        delete: true,
        ..config()
    };
    let dir = open(home.path());
    let log = log(&dir, config(), Arc::new(NoObserver));
    for tag in 0..200 {
        log.append(&mut batch(tag, 1, 1000, -1), leader(0), time(0))
            .unwrap();
    }
    // What was rolled is sealed, and nothing is written any more.
    let (sender, done) = mpsc::channel();
    dir.spawn(move || sender.send(()).unwrap());
    done.recv().unwrap();
    age_files(home.path(), 1_000_000);
    dir.close(0).unwrap();
    drop((log, dir));
    // A restart makes nothing younger, and nothing older.
    let dir = open(home.path());
    let log = self::log(&dir, config(), Arc::new(NoObserver));
    let end = log.log_end_offset();
    log.apply_retention(end, time(1_060_000)).unwrap();
    assert_eq!(log.log_start_offset(), offset(0));
    log.apply_retention(end, time(1_060_001)).unwrap();
    assert_eq!(log.log_start_offset(), end);
}

/// When the first segment says that it was last written, in milliseconds.
fn first_written(home: &Path) -> u128 {
    let first = home.join(LOG).join(format!("{:020}.log", 0));
    let written = std::fs::metadata(first).unwrap().modified().unwrap();
    written.duration_since(UNIX_EPOCH).unwrap().as_millis()
}

#[test]
fn truncation_makes_records_without_timestamps_no_younger() {
    for held in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let dir = open(home.path());
        let log = log(&dir, config(), Arc::new(NoObserver));
        for tag in 0..200 {
            log.append(&mut batch(tag, 1, 1000, -1), leader(0), time(0))
                .unwrap();
        }
        let (sender, done) = mpsc::channel();
        dir.spawn(move || sender.send(()).unwrap());
        done.recv().unwrap();
        age_files(home.path(), 1_000_000);
        // With a reader the front is copied, without one the file is cut in place.
        let reader = held.then(|| log.read(offset(0), offset(200), 1 << 20, true).unwrap());
        log.truncate_to(offset(5)).unwrap();
        assert_eq!(first_written(home.path()), 1_000_000, "held: {held}");
        drop(reader);
        dir.close(0).unwrap();
    }
}

#[test]
fn a_recovery_makes_records_without_timestamps_no_younger() {
    for torn in [0, 10] {
        let home = tempfile::tempdir().unwrap();
        let dir = open(home.path());
        let log = log(&dir, config(), Arc::new(NoObserver));
        for tag in 0..5 {
            log.append(&mut batch(tag, 1, 1000, -1), leader(0), time(0))
                .unwrap();
        }
        // Not closed.
        drop((log, dir));
        let first = home.path().join(LOG).join(format!("{:020}.log", 0));
        let file = std::fs::File::options().append(true).open(first).unwrap();
        io::Write::write_all(&mut &file, &vec![7; torn]).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_millis(1_000_000))
            .unwrap();
        let dir = open(home.path());
        let log = self::log(&dir, config(), Arc::new(NoObserver));
        assert_eq!(log.log_end_offset(), offset(5));
        assert_eq!(first_written(home.path()), 1_000_000, "{torn} torn bytes");
    }
}

/// A file on a disk that fills up in the middle of a batch.
#[derive(Debug)]
struct Full(Arc<dyn FsFile>);

impl FsFile for Full {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(&bytes[..bytes.len() / 2], offset)?;
        Err(io::ErrorKind::StorageFull.into())
    }
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.allocate(offset, len)
    }
    fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.start_writeback(offset, len)
    }
    fn modified(&self) -> io::Result<TimestampMs> {
        self.0.modified()
    }
    fn set_modified(&self, time: TimestampMs) -> io::Result<()> {
        self.0.set_modified(time)
    }
    fn map(&self, capacity: usize, end: Arc<PublishedEnd>) -> io::Result<Region> {
        self.0.map(capacity, end)
    }
}

#[test]
fn an_append_that_fails_makes_records_without_timestamps_no_younger() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let log = log(&dir, config(), Arc::new(NoObserver));
    let put = || log.append(&mut batch(1, 1, 1000, -1), leader(0), time(0));
    put().unwrap();
    log.flush_blocking().unwrap();
    let file = log.lock_writer().file.clone();
    file.set_modified(time(1_000_000)).unwrap();
    log.lock_writer().file = Arc::new(Full(file.clone()));
    assert!(put().is_err());
    assert_eq!(first_written(home.path()), 1_000_000);
    log.lock_writer().file = file;
    dir.close(0).unwrap();
}

#[test]
fn cleaning_makes_records_without_timestamps_no_younger() {
    let home = tempfile::tempdir().unwrap();
    // The segments are sealed when `run_pending` is through, not when some thread is.
    let options = LogDirOptions {
        background: Background::Manual,
        ..options()
    };
    let dir = LogDir::open(home.path(), crate::fs::real(), options).unwrap();
    let config = LogConfig {
        compact: true,
        delete: false,
        min_cleanable_millionths: 0,
        ..config()
    };
    let log = log(&dir, config, Arc::new(NoObserver));
    for tag in 0..200_u64 {
        let mut builder = BatchBuilder::new(Codec::None);
        let key = (tag % 3).to_be_bytes();
        builder
            .add(time(-1), Some(&key), Some(&[0; 1000]), &[])
            .unwrap();
        let mut bytes = builder.build().unwrap().to_vec();
        log.append(&mut bytes, leader(0), time(0)).unwrap();
    }
    dir.run_pending();
    age_files(home.path(), 1_000_000);
    let end = log.log_end_offset();
    let cleaned = log
        .clean(end, time(2_000_000), &CleanOptions::default(), &mut ())
        .unwrap();
    assert!(cleaned.bytes_after < cleaned.bytes_before, "{cleaned:?}");
    assert_eq!(first_written(home.path()), 1_000_000);
}

#[test]
fn segments_that_cannot_go_leave_no_hole() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let config = || LogConfig {
        segment_bytes: 8 << 10,
        ..config()
    };
    let log_of = |dir: &LogDir| log(dir, config(), Arc::new(NoObserver));
    let log = log_of(&dir);
    for n in 0..60 {
        let mut bytes = produced(n, 1, 9, 0, n as i32);
        log.append(&mut bytes, leader(0), time(0)).unwrap();
        let mut bytes = batch(n, 1, 1000, 0);
        log.append(&mut bytes, leader(0), time(0)).unwrap();
    }
    let bases: Vec<_> = log.segments.load().iter().map(|one| one.base).collect();
    assert!(bases.len() > 4);
    let second = log.segments.load()[1].path.with_extension("log.deleted");
    std::fs::create_dir_all(second.join("full")).unwrap();
    log.delete_records_before(offset(120)).unwrap();
    log.apply_retention(offset(120), time(0)).unwrap_err();
    let stay: Vec<_> = log.segments.load().iter().map(|one| one.base).collect();
    assert_eq!(stay, bases[1..]);
    drop((log, dir));
    // Nothing was stopped cleanly.
    std::fs::remove_dir_all(&second).unwrap();
    let dir = open(home.path());
    let log = log_of(&dir);
    assert_eq!(log.log_start_offset(), offset(120));
    assert_eq!(log.log_end_offset(), offset(120));
    let mut bytes = produced(59, 1, 9, 0, 59);
    assert!(
        log.append(&mut bytes, leader(0), time(0))
            .unwrap()
            .duplicate
    );
    log.apply_retention(offset(120), time(0)).unwrap();
    assert_eq!(log.segments.load().len(), 1);
    dir.close(1).unwrap();
}

#[test]
fn what_is_deleted_and_cannot_go_is_not_cleaned() {
    let home = tempfile::tempdir().unwrap();
    let log_of = |dir: &LogDir| {
        let config = LogConfig {
            segment_bytes: 8 << 10,
            compact: true,
            delete: true,
            ..config()
        };
        log(dir, config, Arc::new(NoObserver))
    };
    let dir = open(home.path());
    let log = log_of(&dir);
    for n in 0..60 {
        let mut builder = BatchBuilder::new(Codec::None);
        let key = [n % 3];
        builder
            .add(time(0), Some(&key), Some(&[n; 1000]), &[])
            .unwrap();
        let mut bytes = builder.build().unwrap().to_vec();
        log.append(&mut bytes, leader(0), time(0)).unwrap();
    }
    // Sealed, all of them.
    dir.close(1).unwrap();
    drop((log, dir));
    let dir = open(home.path());
    let log = log_of(&dir);
    let list = log.segments.load_full();
    let bases: Vec<_> = list.iter().map(|one| one.base).collect();
    let obstacle = list[0].path.with_extension("log.deleted");
    drop(list);
    std::fs::create_dir_all(obstacle.join("full")).unwrap();
    log.delete_records_before(bases[2]).unwrap();
    assert_eq!(log.segments.load()[0].base, bases[0], "it cannot go");
    let cleaned = log.clean(offset(60), time(0), &CleanOptions::default(), &mut ());
    let cleaned = cleaned.unwrap();
    assert!(cleaned.segments_after > 0 && !log.is_failed());
    let left: Vec<_> = log.segments.load().iter().map(|one| one.base).collect();
    assert_eq!(
        left[..3],
        bases[..3],
        "only what is behind was written anew"
    );
    std::fs::remove_dir_all(&obstacle).unwrap();
    log.apply_retention(offset(60), time(0)).unwrap();
    assert_eq!(log.segments.load()[0].base, bases[2]);
    dir.close(1).unwrap();
}

/// What has expired in the active segment is gone for readers though a file before it stays.
#[test]
fn a_segment_that_cannot_go_keeps_no_expired_records_behind_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let config = LogConfig {
        segment_bytes: 8 << 10,
        retention_ms: Some(1000),
        ..config()
    };
    let log = log(&dir, config, Arc::new(NoObserver));
    for n in 0..20 {
        let mut bytes = batch(n, 1, 1000, 0);
        log.append(&mut bytes, leader(0), time(0)).unwrap();
    }
    let first = log.segments.load()[0].path.with_extension("log.deleted");
    std::fs::create_dir_all(first.join("full")).unwrap();
    log.apply_retention(offset(20), time(5000)).unwrap_err();
    assert_eq!(log.log_start_offset(), offset(20));
    assert!(log.segments.load().len() > 1, "and they are listed still");
    std::fs::remove_dir_all(&first).unwrap();
    log.apply_retention(offset(20), time(5000)).unwrap();
    assert_eq!(log.segments.load().len(), 1);
    dir.close(1).unwrap();
}

#[test]
fn a_log_that_cannot_store_its_epochs_holds_up_no_checkpoint() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let logs: Vec<_> = ["a-0", "b-0", "c-0"]
        .into_iter()
        .map(|name| {
            let spec = LogSpec {
                dir_name: name.into(),
                topic_id: TopicId::from_bytes([1; 16]),
                leader_epoch: None,
            };
            let opened = dir.open_log(spec, config(), Arc::new(NoObserver), time(0));
            let (log, _) = opened.unwrap();
            let mut bytes = batch(1, 1, 1000, 0);
            log.append(&mut bytes, leader(0), time(0)).unwrap();
            log
        })
        .collect();
    let gone = home.path().join("b-0");
    std::fs::rename(&gone, home.path().join("elsewhere")).unwrap();
    assert!(dir.checkpoint().is_err());
    let points = home.path().join("log-start-offset-checkpoint");
    let known = std::fs::read(points).unwrap();
    let names = |name: &[u8]| known.windows(name.len()).any(|part| part == name);
    assert!(names(b"a-0") && names(b"c-0"));
    drop(logs);
}

#[test]
fn readers_and_writers_run_side_by_side() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let log = log(
        &dir,
        LogConfig {
            flush_policy: FlushPolicy::Os,
            ..config()
        },
        Arc::new(NoObserver),
    );
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut from = offset(0);
                while from < offset(3000) {
                    let read = log.read(from, offset(i64::MAX), 20_000, true).unwrap();
                    if let Some(slice) = &read.slice {
                        let found = tags(slice.as_ref());
                        assert_eq!(found[0].0, from.value());
                        for pair in found.windows(2) {
                            assert_eq!(pair[0].0 + i64::from(pair[0].1), pair[1].0);
                        }
                    }
                    from = read.next_offset;
                }
            });
        }
        for writer in 0..2 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..1500 {
                    let bytes = &mut batch(writer * 1500 + n, 1, 300, 0);
                    log.append(bytes, leader(0), time(0)).unwrap();
                }
            });
        }
    });
    let mut seen: Vec<u64> = read_all(&log).iter().map(|stored| stored.2).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..3000).collect::<Vec<_>>());
}

#[test]
fn truncation_and_deletion_beside_readers_raise_no_signal() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let config = LogConfig {
        file_delete_delay_ms: 0,
        flush_policy: FlushPolicy::Os,
        ..config()
    };
    let log = log(&dir, config, Arc::new(NoObserver));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0u64;
                    while !log.is_failed() {
                        let start = log.log_start_offset();
                        match log.read(start, offset(i64::MAX), 30_000, true) {
                            Ok(read) => {
                                count += read.slice.map_or(0, |s| tags(s.as_ref()).len() as u64);
                            }
                            // The log has moved on between the two lines.
                            Err(StorageError::OutOfRange { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    count
                })
            })
            .collect();
        for round in 0..30 {
            for tag in 0..150 {
                log.append(&mut batch(tag, 1, 900, 0), leader(0), time(0))
                    .unwrap();
            }
            let end = log.log_end_offset().value();
            log.truncate_to(offset(end - 90)).unwrap();
            if round % 3 == 0 {
                log.delete_records_before(offset(end - 100)).unwrap();
            }
        }
        dir.delete_log(&log).unwrap();
        let total: u64 = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum();
        assert!(total > 0);
    });
    dir.close(0).unwrap();
    assert!(dir.list().unwrap().is_empty());
}

#[test]
fn a_closed_directory_opens_no_log() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    dir.close(0).unwrap();
    let spec = LogSpec {
        dir_name: LOG.into(),
        topic_id: TopicId::from_bytes([1; 16]),
        leader_epoch: None,
    };
    let opened = dir.open_log(spec, config(), Arc::new(NoObserver), time(0));
    assert!(matches!(opened, Err(StorageError::Offline)));
    assert!(!home.path().join(LOG).exists());
}

#[test]
fn a_second_process_is_kept_out() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let again = LogDir::open(home.path(), crate::fs::real(), options());
    let own = Some(std::process::id());
    assert!(matches!(again, Err(StorageError::Locked { pid, .. }) if pid == own));
    dir.close(0).unwrap();
    open(home.path());
}

/// Needs a size-limited tmpfs, which only root can mount; the double covers the rest.
#[test]
fn a_full_tmpfs_answers_an_error_and_heals() {
    let home = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(home.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no tmpfs could be mounted, a real full disk was not tried");
        return;
    }
    let filled = std::panic::catch_unwind(|| fill_up(home.path()));
    let unmounted = std::process::Command::new("umount")
        .arg(home.path())
        .status();
    filled.unwrap();
    assert!(unmounted.unwrap().success());
}

fn fill_up(path: &Path) {
    let dir = open(path);
    let config = LogConfig {
        segment_bytes: 1 << 20,
        file_delete_delay_ms: 0,
        ..config()
    };
    let log = log(&dir, config, Arc::new(NoObserver));
    let mut now = 0;
    let mut put = |tag| {
        now += 1000;
        log.append(&mut batch(tag, 1, 10_000, 0), leader(0), time(now))
    };
    let mut stored = 0;
    let error = loop {
        match put(stored) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
    assert!(stored > 200, "{stored}");
    assert_eq!(read_all(&log).len() as u64, stored);
    log.delete_records_before(offset(stored as i64 - 10))
        .unwrap();
    // The removals run on the disk thread; a job behind them says when they are done.
    let healed = (0..100).any(|_| {
        let (sender, done) = mpsc::channel();
        dir.spawn(move || sender.send(()).unwrap());
        done.recv().unwrap();
        put(stored).is_ok()
    });
    assert!(healed);
    log.flush_blocking().unwrap();
    dir.close(0).unwrap();
}
