//! Appending, reading, rolling, retention, directories.

use std::path::Path;
use std::sync::Arc;

use crate::fs::{Crash, FaultyFs};
use crate::testing::*;
use crate::types::{BrokerId, LeaderEpoch, TopicId, Uuid};
use crate::{
    AppendAs, Asker, EpochEnd, FlushPolicy, LogConfig, LogDir, LogSpec, MetaProperties, NoObserver,
    StorageError, TryAppend,
};

#[test]
fn what_is_appended_is_read() {
    let bench = Bench::new(small());
    for tag in 0..50 {
        let appended = bench.put(batch(tag, 2, 100, 1000));
        assert_eq!(appended.base_offset, offset(tag as i64 * 2));
        assert_eq!(appended.last_offset, offset(tag as i64 * 2 + 1));
        assert_eq!(appended.log_end_offset, offset(tag as i64 * 2 + 2));
        assert_eq!(appended.log_append_time, None);
    }
    bench.dir.run_pending();
    assert!(bench.log.segment_count() > 3);
    let all = read_all(&bench.log);
    assert_eq!(
        all,
        (0..50).map(|n| (n * 2, 2, n as u64)).collect::<Vec<_>>()
    );
    assert_eq!(bench.log.durable_end_offset(), offset(100));
    assert_eq!(*bench.ear.durable.lock(), Some(offset(100)));
}

#[test]
fn reads_stop_at_batches_and_bounds() {
    let bench = Bench::new(LogConfig {
        segment_bytes: 1 << 20,
        ..small()
    });
    for tag in 0..100 {
        bench.put(batch(tag, 3, 50, 1000));
    }
    let size = batch(0, 3, 50, 1000).len();
    let read = |from: i64, up_to: i64, max: usize, one: bool| {
        let read = bench
            .log
            .read(offset(from), offset(up_to), max, one)
            .unwrap();
        let found = read
            .slice
            .as_ref()
            .map_or(vec![], |slice| tags(slice.as_ref()));
        (
            found.iter().map(|t| t.0).collect::<Vec<_>>(),
            read.next_offset.value(),
            read.at_end,
        )
    };
    for at in [0, 1, 2, 150, 151, 297] {
        let base = at / 3 * 3;
        assert_eq!(
            read(at, 300, size, false),
            (vec![base], base + 3, base == 297),
            "at {at}"
        );
    }
    assert_eq!(read(3, 300, 10, true), (vec![3], 6, false), "at least one");
    assert_eq!(read(3, 300, 10, false), (vec![], 3, false), "not even one");
    assert_eq!(
        read(3, 12, 1 << 20, true),
        (vec![3, 6, 9], 12, true),
        "up to the bound"
    );
    assert_eq!(
        read(3, 11, 1 << 20, true),
        (vec![3, 6], 9, false),
        "no batch past the bound"
    );
    assert_eq!(read(12, 12, 1 << 20, true), (vec![], 12, true));
    assert_eq!(
        read(300, 300, 1 << 20, true),
        (vec![], 300, true),
        "the end can be asked for"
    );
    let (found, next, at_end) = read(0, 300, size * 50 + size / 2, true);
    assert_eq!((found.len(), next, at_end), (50, 150, false));
    let (found, next, at_end) = read(0, 300, usize::MAX, true);
    assert_eq!((found.len(), next, at_end), (100, 300, true));
    for bad in [301, -1] {
        let error = bench
            .log
            .read(offset(bad), offset(300), 10, true)
            .unwrap_err();
        assert!(matches!(error, StorageError::OutOfRange { .. }));
    }
}

#[test]
fn a_clean_stop_scans_nothing_and_loses_nothing() {
    let mut bench = Bench::new(small());
    bench.fill(0, 40);
    for round in 1..4 {
        bench = bench.reopen(small());
        assert!(bench.was_clean);
        assert_eq!(bench.report.scanned_bytes, 0);
        assert_eq!(bench.report.rebuilt_indexes, 0);
        assert_eq!(read_all(&bench.log).len(), 40 * round);
        bench.fill(0, 40);
    }
}

#[test]
fn a_kill_and_a_power_loss_lose_nothing_synced() {
    for crash in [Crash::Kill, Crash::PowerLoss, Crash::Torn { seed: 3 }] {
        let bench = Bench::new(small());
        bench.fill(0, 40);
        let bench = bench.crash(crash, small());
        assert!(!bench.was_clean);
        assert_eq!(read_all(&bench.log).len(), 40);
        assert_eq!(bench.report.cut_bytes, 0);
        bench.fill(40, 10);
        assert_eq!(read_all(&bench.log).len(), 50);
    }
}

#[test]
fn an_append_that_may_not_wait_leaves_the_roll_to_one_that_may() {
    let bench = Bench::new(small());
    let mut rolls = 0;
    for tag in 0..60 {
        let bytes = batch(tag, 1, 100, 1000);
        let mut copy = bytes.clone();
        let (head, section) = copy.split_first_chunk_mut().unwrap();
        let tried = bench
            .log
            .try_append_split(head, section, leader(0), Asker::NODE, time(1000));
        let appended = match tried.unwrap() {
            TryAppend::Done(appended) => appended,
            TryAppend::Busy => {
                assert_eq!(copy, bytes, "a busy answer leaves the batch as it was");
                rolls += 1;
                bench.dir.run_pending();
                assert_eq!(bench.log.segment_count(), rolls, "nobody rolls in between");
                bench.put(copy)
            }
        };
        assert_eq!(appended.base_offset, offset(tag as i64));
    }
    assert_eq!(rolls + 1, bench.log.segment_count());
    assert_eq!(read_all(&bench.log).len(), 60);
}

#[test]
fn batches_that_do_not_fit_are_refused_without_a_trace() {
    let bench = Bench::new(small());
    bench.fill(0, 3);
    let large = bench.try_put(batch(9, 1, 4000, 0)).unwrap_err();
    assert!(matches!(
        large,
        StorageError::RecordBatchTooLarge { limit: 2048, .. }
    ));
    let mut two = batch(1, 1, 20, 0);
    two.extend(batch(2, 1, 20, 0));
    assert!(matches!(
        bench.try_put(two),
        Err(StorageError::InvalidBatch { .. })
    ));
    assert!(matches!(
        bench.try_put(vec![0; 70]),
        Err(StorageError::InvalidBatch { .. })
    ));
    assert!(matches!(
        bench.try_put(vec![]),
        Err(StorageError::InvalidBatch { .. })
    ));
    let mut old = batch(3, 1, 20, 0);
    bench
        .log
        .assign_epoch(LeaderEpoch::new(5), offset(3))
        .unwrap();
    let error = bench.log.append(&mut old, leader(4), time(0)).unwrap_err();
    assert!(matches!(error, StorageError::FencedEpoch { .. }));
    assert_eq!(read_all(&bench.log).len(), 3);
    // A larger segment size takes effect though the active segment is small, even when empty.
    for config in [4096, 16_384] {
        bench.log.set_config(LogConfig {
            segment_bytes: config,
            ..small()
        });
        bench.put_as(batch(9, 1, config as usize - 200, 0), leader(5));
    }
    let fresh = Bench::new(small());
    fresh.log.set_config(LogConfig {
        segment_bytes: 8192,
        ..small()
    });
    fresh.put(batch(9, 1, 6000, 0));
    assert_eq!(read_all(&fresh.log).len(), 1);
}

/// A larger segment in the place of an empty one has the same file: where it cannot be made, that
/// stays.
#[test]
fn an_empty_segment_that_cannot_grow_goes_on() {
    let mut refused = 0;
    loop {
        let bench = Bench::new(small());
        bench.log.set_config(LogConfig {
            segment_bytes: 8192,
            ..small()
        });
        bench.fs.refuse_growth_at(bench.fs.growths() + refused);
        if bench.try_put(batch(0, 1, 6000, 0)).is_ok() {
            break;
        }
        bench.dir.tick(time(10_000));
        bench.dir.run_pending();
        bench.put(batch(1, 1, 100, 0));
        bench.log.flush_blocking().unwrap();
        let again = bench.crash(Crash::Kill, small());
        assert_eq!(read_all(&again.log).len(), 1, "{refused}");
        refused += 1;
    }
    assert!(refused > 0);
}

#[test]
fn replicas_store_what_comes_and_only_what_continues() {
    let bench = Bench::new(small());
    let put = |tag: u64, base: i64, epoch: i32| {
        let mut bytes = batch(tag, 2, 50, 1000);
        crate::batch::stamp(&mut bytes, offset(base), LeaderEpoch::new(epoch));
        let before = bytes.clone();
        let done = bench.log.append(&mut bytes, AppendAs::Replica, time(1000));
        assert_eq!(bytes, before);
        done
    };
    put(1, 0, 3).unwrap();
    put(2, 2, 3).unwrap();
    assert!(matches!(
        put(3, 5, 3),
        Err(StorageError::OffsetMismatch { .. })
    ));
    assert!(matches!(
        put(3, 2, 3),
        Err(StorageError::OffsetMismatch { .. })
    ));
    assert!(matches!(
        put(3, 4, 2),
        Err(StorageError::FencedEpoch { .. })
    ));
    put(3, 4, 6).unwrap();
    assert_eq!(bench.log.epoch_at(offset(3)), Some(LeaderEpoch::new(3)));
    assert_eq!(bench.log.epoch_at(offset(4)), Some(LeaderEpoch::new(6)));
    let known = EpochEnd::Known {
        epoch: LeaderEpoch::new(3),
        end: offset(4),
    };
    assert_eq!(bench.log.epoch_end(LeaderEpoch::new(5)), known);
    // A compacted log may have gaps.
    bench.log.set_config(LogConfig {
        compact: true,
        ..small()
    });
    put(4, 10, 6).unwrap();
    assert_eq!(bench.log.log_end_offset(), offset(12));
    let read = bench.log.read(offset(6), offset(12), 1000, true).unwrap();
    assert_eq!(
        (read.start_offset, read.next_offset),
        (offset(10), offset(12))
    );
    let config = LogConfig {
        compact: true,
        ..small()
    };
    let bench = bench.crash(Crash::Kill, config);
    assert_eq!(bench.log.log_end_offset(), offset(12));
    assert_eq!(bench.report.damaged_ranges, 0);
}

#[test]
fn a_raft_log_takes_terms_and_has_no_producers() {
    let bench = Bench::new(small());
    for (tag, term) in [(0, 1), (1, 1), (2, 4)] {
        let how = AppendAs::Raft {
            term: LeaderEpoch::new(term),
        };
        bench.put_as(produced(tag, 1, 9, 0, 77), how);
    }
    assert_eq!(bench.log.lock_writer().producers.len(), 0);
    assert_eq!(bench.log.epoch_at(offset(2)), Some(LeaderEpoch::new(4)));
    bench.log.truncate_to(offset(1)).unwrap();
    bench.put_as(
        batch(7, 1, 20, 0),
        AppendAs::Raft {
            term: LeaderEpoch::new(5),
        },
    );
    assert_eq!(bench.log.epoch_at(offset(1)), Some(LeaderEpoch::new(5)));
}

#[test]
fn segments_roll_by_time_and_by_index_size() {
    let config = LogConfig {
        segment_bytes: 1 << 20,
        segment_ms: 1000,
        ..small()
    };
    let bench = Bench::new(config.clone());
    for (tag, at) in [(0, 100), (1, 1100), (2, 1101), (3, 2101), (4, 2102)] {
        bench.put(batch(tag, 1, 50, at));
    }
    // 100 and 1100; 1101 and 2101; 2102.
    assert_eq!(bench.log.segment_count(), 3);
    bench.dir.tick(time(999));
    bench.dir.run_pending();
    assert_eq!(bench.log.segment_count(), 3);
    bench.dir.tick(time(5000));
    bench.dir.run_pending();
    assert_eq!(bench.log.segment_count(), 4, "a quiet log rolls by its age");

    let config = LogConfig {
        segment_bytes: 1 << 20,
        segment_index_bytes: 40,
        ..small()
    };
    let bench = Bench::new(config);
    bench.fill(0, 60);
    assert!(bench.log.segment_count() > 3);
    assert_eq!(read_all(&bench.log).len(), 60);
}

#[test]
fn retention_by_size_and_time() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let count = bench.log.segment_count();
    let size = bench.log.size_bytes();
    bench.log.set_config(LogConfig {
        retention_bytes: Some(size / 2),
        ..small()
    });
    assert_eq!(
        bench.log.apply_retention(offset(0), time(2000)).unwrap(),
        0,
        "nothing replicated"
    );
    let removed = bench.log.apply_retention(offset(60), time(2000)).unwrap();
    assert!(removed > 0 && bench.log.segment_count() == count - removed);
    assert!(bench.log.size_bytes() >= size / 2);
    let start = bench.log.log_start_offset();
    assert!(start > offset(0));
    assert_eq!(*bench.ear.started.lock(), Some(start));
    bench.dir.run_pending();
    let files = crate::fs::Fs::list(&bench.fs, &Path::new(DIR).join(LOG)).unwrap();
    assert!(!files.iter().any(|entry| entry.name.ends_with(".deleted")));
    assert_eq!(read_all(&bench.log).first().unwrap().0, start.value());

    bench.log.set_config(LogConfig {
        retention_ms: Some(500),
        ..small()
    });
    assert_eq!(
        bench.log.apply_retention(offset(60), time(1400)).unwrap(),
        0
    );
    bench
        .log
        .apply_retention(offset(60), time(1_000_000))
        .unwrap();
    assert_eq!(
        bench.log.log_start_offset(),
        offset(60),
        "the active segment rolls and goes"
    );
    assert_eq!(bench.log.size_bytes(), 0);
    bench.fill(60, 3);
    assert_eq!(read_all(&bench.log).len(), 3);
    let bench = bench.crash(Crash::PowerLoss, small());
    assert_eq!(bench.log.log_start_offset(), offset(60));
    assert_eq!(read_all(&bench.log).len(), 3);
}

#[test]
fn deleting_records_is_refused_only_where_nothing_is_stored() {
    let (mut refused, mut done) = (0, 0);
    for step in 0.. {
        let bench = Bench::new(small());
        bench.fill(0, 60);
        bench.fs.crash_at(bench.fs.operations() + step);
        let told = bench.log.delete_records_before(offset(33));
        let through = !bench.fs.is_crashed();
        let bench = bench.crash(Crash::PowerLoss, small());
        let start = match told {
            Ok(start) => start,
            Err(_) => offset(0),
        };
        assert_eq!(bench.log.log_start_offset(), start, "step {step}");
        match start == offset(0) {
            true => refused += 1,
            false => done += 1,
        }
        if through {
            break;
        }
    }
    assert!(refused > 2 && done > 2, "{refused} refused, {done} done");
}

#[test]
fn deleted_records_do_not_come_back() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let error = bench.log.delete_records_before(offset(61)).unwrap_err();
    assert!(matches!(error, StorageError::OutOfRange { .. }));
    assert_eq!(
        bench.log.delete_records_before(offset(33)).unwrap(),
        offset(33)
    );
    assert_eq!(
        bench.log.delete_records_before(offset(10)).unwrap(),
        offset(33)
    );
    assert!(bench.log.read(offset(32), offset(60), 10, true).is_err());
    let bench = bench.crash(Crash::PowerLoss, small());
    assert_eq!(bench.log.log_start_offset(), offset(33));
    assert_eq!(bench.log.log_end_offset(), offset(60));
    let error = bench
        .log
        .read(offset(32), offset(60), 10, true)
        .unwrap_err();
    assert!(matches!(error, StorageError::OutOfRange { .. }));
    // All of them.
    bench.log.delete_records_before(offset(60)).unwrap();
    let bench = bench.crash(Crash::PowerLoss, small());
    assert_eq!(bench.log.log_start_offset(), offset(60));
    assert_eq!(bench.log.log_end_offset(), offset(60));
}

#[test]
fn times_are_found() {
    use palisade_protocol::batch::{BatchBuilder, Codec};
    for codec in [Codec::None, Codec::Lz4] {
        let bench = Bench::new(small());
        for n in 0..40 {
            let mut builder = BatchBuilder::new(codec);
            for record in 0..3 {
                let at = time(1000 + n * 30 + record * 10);
                builder.add(at, None, Some(&[n as u8; 60]), &[]).unwrap();
            }
            bench.put(builder.build().unwrap().to_vec());
        }
        bench.dir.run_pending();
        let find = |at: i64, up_to: i64| {
            let found = bench
                .log
                .find_by_timestamp(time(at), offset(up_to))
                .unwrap();
            found.map(|found| (found.offset.value(), found.timestamp.value()))
        };
        for at in 0..120 {
            assert_eq!(find(1000 + at * 10, 120), Some((at, 1000 + at * 10)));
            assert_eq!(find(991 + at * 10, 120), Some((at, 1000 + at * 10)));
        }
        assert_eq!(find(0, 120), Some((0, 1000)));
        assert_eq!(find(2191, 120), None);
        assert_eq!(find(2000, 50), None, "above the bound");
        bench.log.delete_records_before(offset(50)).unwrap();
        assert_eq!(find(0, 120), Some((50, 1500)), "not below the log start");
        let newest = bench.log.max_timestamp(offset(120)).unwrap().unwrap();
        assert_eq!((newest.offset, newest.timestamp), (offset(119), time(2190)));
        assert_eq!(newest.epoch, Some(LeaderEpoch::new(0)));
        let newest = bench.log.max_timestamp(offset(60)).unwrap().unwrap();
        assert_eq!((newest.offset, newest.timestamp), (offset(59), time(1590)));
    }
    let empty = Bench::new(small());
    assert_eq!(empty.log.max_timestamp(offset(0)).unwrap(), None);
}

#[test]
fn policies_decide_what_is_synced() {
    for (policy, durable) in [
        (FlushPolicy::Ack, 10),
        (FlushPolicy::Os, 0),
        (
            FlushPolicy::Interval {
                messages: 4,
                ms: 100,
            },
            8,
        ),
    ] {
        let config = LogConfig {
            flush_policy: policy,
            segment_bytes: 1 << 20,
            ..small()
        };
        let bench = Bench::new(config);
        for tag in 0..10 {
            bench.put(batch(tag, 1, 20, 0));
            bench.dir.run_pending();
        }
        assert_eq!(
            bench.log.durable_end_offset(),
            offset(durable),
            "{policy:?}"
        );
        bench.dir.tick(time(1050));
        bench.dir.run_pending();
        assert_eq!(
            bench.log.durable_end_offset(),
            offset(durable),
            "{policy:?}"
        );
        bench.dir.tick(time(1100));
        bench.dir.run_pending();
        let expected = if policy == FlushPolicy::Os { 0 } else { 10 };
        assert_eq!(
            bench.log.durable_end_offset(),
            offset(expected),
            "{policy:?}"
        );
        bench.log.request_flush(offset(10), Asker::NODE);
        bench.dir.run_pending();
        assert_eq!(bench.log.durable_end_offset(), offset(10));
    }
}

#[test]
fn a_failed_sync_is_final_for_the_directory() {
    let bench = Bench::new(small());
    bench.fill(0, 5);
    bench.fs.fail_sync_at(bench.fs.syncs());
    bench.put(batch(5, 1, 100, 0));
    bench.dir.run_pending();
    assert!(*bench.ear.failed.lock());
    assert!(bench.dir.is_offline() && bench.log.is_failed());
    assert_eq!(
        bench.log.durable_end_offset(),
        offset(5),
        "never called durable"
    );
    assert!(matches!(
        bench.try_put(batch(6, 1, 100, 0)),
        Err(StorageError::Poisoned)
    ));
    assert!(matches!(
        bench.log.flush_blocking(),
        Err(StorageError::Poisoned)
    ));
    assert!(bench.dir.close(1).is_err());
    let bench = bench.crash(Crash::PowerLoss, small());
    assert!(!bench.was_clean);
    assert_eq!(read_all(&bench.log).len(), 5);
}

#[test]
fn a_deleted_log_is_gone_and_its_name_is_free() {
    for crash in [Crash::Kill, Crash::PowerLoss] {
        let bench = Bench::new(small());
        bench.fill(0, 60);
        bench.log.note_high_watermark(offset(60));
        bench.dir.checkpoint().unwrap();
        let read = bench.log.read(offset(0), offset(60), 100_000, true);
        let held = read.unwrap().slice.unwrap();
        bench.dir.delete_log(&bench.log).unwrap();
        let error = bench.try_put(batch(1, 1, 20, 0)).unwrap_err();
        assert!(matches!(error, StorageError::Offline));
        bench.dir.run_pending();
        assert!(bench.dir.list().unwrap().is_empty());
        assert!(
            !tags(held.as_ref()).is_empty(),
            "a reader keeps what it holds"
        );
        // The same topic id again, as after a reassignment there and back.
        let spec = LogSpec {
            dir_name: LOG.into(),
            topic_id: TopicId::from_bytes([5; 16]),
            leader_epoch: None,
        };
        let opened = bench
            .dir
            .open_log(spec, small(), Arc::new(NoObserver), time(0));
        let (log, report) = opened.unwrap();
        assert!(report.created);
        assert_eq!(log.log_end_offset(), offset(0));
        drop(log);
        let bench = bench.crash(crash, small());
        assert_eq!(bench.log.log_end_offset(), offset(0));
        assert_eq!(bench.report.damaged_ranges, 0);
    }
}

#[test]
fn a_directory_belongs_to_one_process_one_node_and_one_topic() {
    let meta = MetaProperties {
        cluster_id: "c".into(),
        node_id: BrokerId::new(1),
        directory_id: Uuid::from_bytes([1; 16]),
    };
    let fs = FaultyFs::new();
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
    assert_eq!(dir.meta(), None);
    dir.set_meta(meta.clone()).unwrap();
    drop(dir);
    let bench = Bench::on(fs, small());
    let again = LogDir::open(Path::new(DIR), bench.fs.as_fs(), manual());
    assert!(matches!(again, Err(StorageError::Locked { .. })));
    bench.dir.set_meta(meta.clone()).unwrap();
    let other = MetaProperties {
        cluster_id: "d".into(),
        ..meta
    };
    assert!(matches!(
        bench.dir.set_meta(other),
        Err(StorageError::MetaMismatch { .. })
    ));
    let found = bench.dir.list().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].topic.as_str(), found[0].partition.value()),
        ("t", 0)
    );
    assert_eq!(found[0].topic_id, Some(TopicId::from_bytes([5; 16])));
    let bench = bench.reopen(small());
    bench.dir.close(1).unwrap();
    let fs = bench.fs.clone();
    drop(bench);
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
    let spec = LogSpec {
        dir_name: LOG.into(),
        topic_id: TopicId::from_bytes([6; 16]),
        leader_epoch: None,
    };
    let error = dir
        .open_log(spec, small(), Arc::new(NoObserver), time(0))
        .unwrap_err();
    assert!(matches!(error, StorageError::TopicIdMismatch { .. }));
    dir.delete_found(LOG).unwrap();
    dir.run_pending();
    assert!(dir.list().unwrap().is_empty());
}

#[test]
fn high_watermarks_are_checkpointed_and_bounded() {
    let bench = Bench::new(LogConfig {
        flush_policy: FlushPolicy::Os,
        ..small()
    });
    bench.fill(0, 10);
    bench.log.note_high_watermark(offset(8));
    bench.dir.checkpoint().unwrap();
    let bench = bench.crash(Crash::Kill, small());
    assert_eq!(bench.log.noted_high_watermark(), offset(8));
    bench.log.note_high_watermark(offset(10));
    bench.dir.checkpoint().unwrap();
    bench.log.truncate_to(offset(4)).unwrap();
    let bench = bench.crash(Crash::PowerLoss, small());
    assert_eq!(bench.log.noted_high_watermark(), offset(4));
}

#[test]
fn a_new_log_survives_a_power_loss_at_any_step() {
    let steps = {
        let fs = FaultyFs::new();
        let bench = Bench::on(fs, small());
        bench.fs.operations()
    };
    for step in 0..steps {
        for seed in 0..6 {
            let fs = FaultyFs::new();
            fs.crash_at(step);
            let _ = Bench::try_on(fs.clone(), small());
            fs.restart(if seed == 0 {
                Crash::PowerLoss
            } else {
                Crash::Torn { seed }
            });
            let bench = Bench::on(fs, small());
            bench.fill(0, 30);
            let bench = bench.crash(Crash::PowerLoss, small());
            assert_eq!(read_all(&bench.log).len(), 30, "step {step} seed {seed}");
        }
    }
}
