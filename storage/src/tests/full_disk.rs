//! A disk without room: refused, readable, healed.

use crate::fs::{Crash, FaultyFs};
use crate::testing::*;
use crate::{LogConfig, LogDir, LogDirOptions, LogSpec, NoObserver, StorageError};
use std::path::Path;
use std::sync::Arc;

#[test]
fn the_old_end_is_kept_and_the_log_heals() {
    let fs = FaultyFs::new();
    let bench = Bench::on(
        fs.clone(),
        LogConfig {
            segment_bytes: 1 << 20,
            ..small()
        },
    );
    bench.fill(0, 10);
    let size = batch(0, 1, 100, 0).len() as u64;
    for room in [0, 1, size / 2, size - 1] {
        fs.set_capacity(fs.used() + room);
        let error = bench.try_put(batch(77, 1, 100, 0)).unwrap_err();
        assert!(
            matches!(error, StorageError::DiskFull { .. }),
            "room {room}: {error}"
        );
        assert_eq!(bench.log.log_end_offset(), offset(10));
        assert_eq!(read_all(&bench.log).len(), 10, "reads go on");
        assert!(bench.dir.usage().below_reserve);
        fs.set_capacity(1 << 30);
        bench.dir.tick(time(10_000 + room as i64 * 1000));
        bench.dir.run_pending();
        assert!(!bench.dir.usage().below_reserve);
    }
    bench.fill(10, 5);
    let bench = bench.crash(Crash::PowerLoss, small());
    assert_eq!(read_all(&bench.log).len(), 15);
}

#[test]
fn an_append_alone_notices_that_there_is_room_again() {
    let fs = FaultyFs::new();
    let bench = Bench::on(fs.clone(), small());
    fs.set_capacity(fs.used());
    let put = |now: i64| {
        bench
            .log
            .append(&mut batch(1, 1, 100, 0), leader(0), time(now))
    };
    assert!(put(0).is_err());
    bench.dir.run_pending();
    fs.set_capacity(1 << 30);
    assert!(
        put(1000).is_err(),
        "refused, but it has the space looked at"
    );
    bench.dir.run_pending();
    put(1001).unwrap();
}

#[test]
fn a_failed_allocation_gives_back_what_it_got() {
    let fs = FaultyFs::new();
    let config = LogConfig {
        allocate_ahead: true,
        segment_bytes: 1 << 20,
        ..small()
    };
    let bench = Bench::on(fs.clone(), config);
    fs.set_capacity(fs.used() + 50_000);
    bench.put(batch(0, 1, 100, 0));
    let used = fs.used();
    bench.dir.run_pending();
    assert_eq!(fs.used(), used, "nothing stays allocated");
    bench.fill(1, 3);
    assert_eq!(read_all(&bench.log).len(), 4);
    fs.set_capacity(1 << 30);
    let bench = bench.reopen(LogConfig {
        allocate_ahead: true,
        ..large()
    });
    bench.put(batch(4, 1, 100, 0));
    bench.dir.run_pending();
    assert!(fs.used() > used + 100_000, "blocks are allocated ahead");
    let bench = bench.reopen(large());
    assert!(fs.used() < used + 10_000, "a seal frees the surplus");
    assert_eq!(read_all(&bench.log).len(), 5);
}

fn large() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        ..small()
    }
}

#[test]
fn the_reserve_is_for_essential_logs_and_the_ballast_for_the_last_writes() {
    let fs = FaultyFs::new();
    fs.set_capacity(320_000);
    let options = LogDirOptions {
        ballast_bytes: 20_000,
        reserve_bytes: Some(10_000),
        ..manual()
    };
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), options).unwrap();
    assert!(fs.used() >= 20_000);
    let open = |name: &str, essential: bool| {
        let spec = LogSpec {
            dir_name: name.into(),
            topic_id: crate::types::TopicId::NIL,
            leader_epoch: None,
        };
        let config = LogConfig {
            essential,
            ..large()
        };
        dir.open_log(spec, config, Arc::new(NoObserver), time(0))
            .unwrap()
            .0
    };
    let (client, raft) = (open("client-0", false), open("raft-0", true));
    let put =
        |log: &crate::Log, now: i64| log.append(&mut batch(1, 1, 1000, 0), leader(0), time(now));
    let mut filled = 0;
    while put(&client, filled).is_ok() {
        filled += 1;
        dir.tick(time(filled * 1000));
        dir.run_pending();
    }
    assert!(
        filled > 250 && fs.used() > 305_000 && fs.used() < 312_000,
        "{}",
        fs.used()
    );
    // The raft log takes the reserve, and then the ballast.
    let mut more = 0;
    for now in 0..40 {
        if put(&raft, now).is_ok() {
            more += 1;
        }
        dir.run_pending();
    }
    assert!(more > 20, "{more}");
    assert!(put(&client, 10_000_000).is_err());
    dir.run_pending();
    // Deleting makes room, and all is as before.
    dir.delete_log(&client).unwrap();
    dir.run_pending();
    dir.tick(time(20_000_000));
    dir.run_pending();
    assert!(!dir.usage().below_reserve);
    assert!(fs.content(&Path::new(DIR).join("ballast")).is_some());
    put(&open("client-0", false), 0).unwrap();
}

#[test]
fn a_roll_that_a_timer_asked_for_fails_for_nobody() {
    let fs = FaultyFs::new();
    let config = LogConfig {
        segment_bytes: 1 << 20,
        segment_ms: 1000,
        ..small()
    };
    let bench = Bench::on(fs.clone(), config);
    bench.put(batch(0, 1, 100, 0));
    fs.refuse_growth_at(fs.growths());
    bench.dir.tick(time(5000));
    bench.dir.run_pending();
    assert_eq!(bench.log.segment_count(), 1, "no room for the next one");
    bench.dir.tick(time(0));
    bench.dir.run_pending();
    assert!(!bench.dir.usage().below_reserve);
    bench.put(batch(1, 1, 100, 0));
    assert_eq!(bench.log.segment_count(), 1, "which this one did not need");
    bench.dir.tick(time(5000));
    bench.dir.run_pending();
    assert_eq!(bench.log.segment_count(), 2, "it is tried again");
}

#[test]
fn retention_runs_at_once_on_a_full_disk() {
    let fs = FaultyFs::new();
    // The ballast makes room for the log start, which must be stored before files go.
    let options = LogDirOptions {
        ballast_bytes: 2000,
        ..manual()
    };
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), options).unwrap();
    let config = LogConfig {
        retention_bytes: Some(3000),
        file_delete_delay_ms: 60_000,
        ..small()
    };
    let spec = LogSpec {
        dir_name: LOG.into(),
        topic_id: crate::types::TopicId::NIL,
        leader_epoch: None,
    };
    let (log, _) = dir
        .open_log(spec, config, Arc::new(NoObserver), time(0))
        .unwrap();
    let put = |now: i64| log.append(&mut batch(1, 1, 100, now), leader(0), time(now));
    for now in 0..100 {
        put(now).unwrap();
        dir.run_pending();
    }
    log.note_high_watermark(offset(100));
    fs.set_capacity(fs.used() + 50);
    let error = put(1000).unwrap_err();
    assert!(matches!(error, StorageError::DiskFull { .. }));
    dir.run_pending();
    assert!(log.log_start_offset() > offset(0));
    for now in 1001..1011 {
        put(now).unwrap();
    }
    assert!(fs.content(&Path::new(DIR).join("ballast")).is_some());
}

#[test]
fn deleted_records_make_room_at_once_on_a_full_disk() {
    let fs = FaultyFs::new();
    let options = LogDirOptions {
        reserve_bytes: Some(1000),
        ..manual()
    };
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), options).unwrap();
    let config = LogConfig {
        file_delete_delay_ms: 60_000,
        ..small()
    };
    let spec = LogSpec {
        dir_name: LOG.into(),
        topic_id: crate::types::TopicId::NIL,
        leader_epoch: None,
    };
    let (log, _) = dir
        .open_log(spec, config, Arc::new(NoObserver), time(0))
        .unwrap();
    let put = |now: i64| log.append(&mut batch(1, 1, 100, now), leader(0), time(now));
    for now in 0..100 {
        put(now).unwrap();
        dir.run_pending();
    }
    fs.set_capacity(fs.used() + 500);
    dir.tick(time(1000));
    dir.run_pending();
    let error = put(1001).unwrap_err();
    assert!(matches!(error, StorageError::DiskFull { .. }));

    let before = fs.used();
    log.delete_records_before(offset(90)).unwrap();
    dir.run_pending();
    let freed = before.saturating_sub(fs.used());
    assert!(freed > 5000, "{freed} bytes came free");
    dir.tick(time(2000));
    dir.run_pending();
    put(2001).unwrap();
}

/// Enough for the log start to be stored, and not for the indexes or the snapshot of a segment.
const LITTLE: u64 = 150;

fn short_lived() -> LogConfig {
    LogConfig {
        retention_ms: Some(1000),
        ..small()
    }
}

#[test]
fn what_has_expired_goes_though_the_active_segment_cannot_be_replaced() {
    let fs = FaultyFs::new();
    let bench = Bench::on(fs.clone(), short_lived());
    bench.fill(0, 60);
    let active = bench.log.segments.load().last().unwrap().base;
    assert!(bench.log.segment_count() > 3);
    fs.set_capacity(fs.used() + LITTLE);
    let late = time(1_000_000);
    let error = bench.log.apply_retention(offset(60), late).unwrap_err();
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
    assert_eq!(bench.log.log_start_offset(), active);
    assert_eq!(bench.log.segments.load()[0].base, active);
    // Which is the room that the next pass takes.
    bench.dir.run_pending();
    bench.log.apply_retention(offset(60), late).unwrap();
    assert_eq!(bench.log.log_start_offset(), offset(60));
    assert_eq!(bench.log.segment_count(), 1);
}

#[test]
fn a_segment_whose_snapshot_finds_no_room_holds_up_none_before_it() {
    let fs = FaultyFs::new();
    let bench = Bench::on(fs.clone(), short_lived());
    bench.fill(0, 40);
    let mut producer = 0;
    let mut roll = || {
        let count = bench.log.segment_count();
        while bench.log.segment_count() == count {
            producer += 1;
            bench.put(produced(1, 1, producer, 0, 0));
        }
    };
    roll();
    bench.dir.run_pending();
    let unsealed = bench.log.segments.load().last().unwrap().clone();
    roll();
    fs.set_capacity(fs.used());
    bench.dir.run_pending();
    assert!(!unsealed.is_sealed() && producer > 15);
    fs.set_capacity(fs.used() + LITTLE);
    let (end, late) = (bench.log.log_end_offset(), time(1_000_000));
    let error = bench.log.apply_retention(end, late).unwrap_err();
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
    assert_eq!(bench.log.segments.load()[0].base, unsealed.base);
    drop(unsealed);
    bench.dir.run_pending();
    bench.log.apply_retention(end, late).unwrap();
    assert_eq!(bench.log.segment_count(), 1);
    fs.set_capacity(1 << 30);
    // Of the last producer no batch is left: it is known by a snapshot alone.
    let bench = bench.crash(Crash::Kill, short_lived());
    assert_eq!(bench.log.log_start_offset(), end);
    assert!(bench.put(produced(1, 1, producer, 0, 0)).duplicate);
}
