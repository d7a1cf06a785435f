//! Cutting the end off, with and without readers.

use crate::fs::Crash;
use crate::testing::*;
use crate::types::LeaderEpoch;
use crate::{EpochEnd, LogConfig, StorageError};

#[test]
fn truncation_keeps_the_front_and_new_batches_take_the_offsets() {
    for to in [0, 1, 13, 14, 29, 45, 59] {
        let bench = Bench::new(small());
        bench.fill(0, 60);
        bench.dir.checkpoint().unwrap();
        bench.log.truncate_to(offset(to)).unwrap();
        assert_eq!(bench.log.log_end_offset(), offset(to));
        assert!(bench.log.durable_end_offset() <= offset(to));
        bench.fill(100, 20);
        let expected: Vec<u64> = (0..to as u64).chain(100..120).collect();
        let check = |bench: &Bench| {
            let found: Vec<u64> = read_all(&bench.log).iter().map(|stored| stored.2).collect();
            assert_eq!(found, expected, "cut at {to}");
            for (n, tag) in expected.iter().enumerate() {
                let read = bench
                    .log
                    .read(offset(n as i64), offset(999), 10, true)
                    .unwrap();
                assert_eq!(tags(read.slice.unwrap().as_ref())[0].2, *tag);
            }
        };
        check(&bench);
        let bench = bench.crash(Crash::PowerLoss, small());
        check(&bench);
        let bench = bench.reopen(small());
        check(&bench);
    }
}

#[test]
fn readers_keep_what_they_hold() {
    let bench = Bench::new(LogConfig {
        segment_bytes: 1 << 20,
        ..small()
    });
    bench.fill(0, 20);
    let held = bench
        .log
        .read(offset(5), offset(20), 1 << 20, true)
        .unwrap()
        .slice
        .unwrap();
    let before = tags(held.as_ref());
    bench.log.truncate_to(offset(10)).unwrap();
    bench.fill(100, 10);
    assert_eq!(
        tags(held.as_ref()),
        before,
        "old bytes, though the offsets have new ones"
    );
    let read = bench.log.read(offset(10), offset(20), 10, true).unwrap();
    assert_eq!(tags(read.slice.unwrap().as_ref())[0].2, 100);
    drop(held);
    bench.log.truncate_to(offset(3)).unwrap();
    let held = bench
        .log
        .read(offset(0), offset(3), 1 << 20, true)
        .unwrap()
        .slice
        .unwrap();
    bench.log.reset_to(offset(50)).unwrap();
    assert_eq!(tags(held.as_ref()).len(), 3);
    assert_eq!(
        (bench.log.log_start_offset(), bench.log.log_end_offset()),
        (offset(50), offset(50))
    );
    bench.fill(7, 2);
    let bench = bench.crash(Crash::PowerLoss, small());
    assert_eq!(read_all(&bench.log), [(50, 1, 7), (51, 1, 8)]);
}

#[test]
fn a_sealed_segment_is_opened_again() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let count = bench.log.segment_count();
    assert!(count > 4);
    // Mapped and held, so that the file cannot be cut in place.
    let held = bench
        .log
        .read(offset(0), offset(60), 1 << 20, true)
        .unwrap();
    let inside = held.next_offset.value() - 3;
    bench.log.truncate_to(offset(inside)).unwrap();
    assert_eq!(bench.log.segment_count(), 1);
    bench.fill(100, 30);
    assert_eq!(tags(held.slice.unwrap().as_ref()).len() as i64, inside + 3);
    let found = read_all(&bench.log);
    assert_eq!(found.len() as i64, inside + 30);
    assert_eq!(found[inside as usize].2, 100);
}

#[test]
fn epochs_and_bounds_follow() {
    let bench = Bench::new(small());
    bench.fill(0, 10);
    for epoch in [2, 5] {
        for tag in 0..10 {
            bench.put_as(batch(tag, 1, 100, 0), leader(epoch));
        }
    }
    let end = |epoch| bench.log.epoch_end(LeaderEpoch::new(epoch));
    let known = |epoch, at| EpochEnd::Known {
        epoch: LeaderEpoch::new(epoch),
        end: offset(at),
    };
    assert_eq!(
        (end(0), end(2), end(5)),
        (known(0, 10), known(2, 20), known(5, 30))
    );
    bench.log.truncate_to(offset(15)).unwrap();
    assert_eq!((end(2), end(5)), (known(2, 15), EpochEnd::Unknown));
    bench.log.truncate_to(offset(99)).unwrap();
    assert_eq!(bench.log.log_end_offset(), offset(15));
    bench.log.delete_records_before(offset(12)).unwrap();
    let error = bench.log.truncate_to(offset(11)).unwrap_err();
    assert!(matches!(error, StorageError::OutOfRange { .. }));
    assert!(!bench.log.is_failed());
    bench
        .log
        .assign_epoch(LeaderEpoch::new(9), offset(15))
        .unwrap();
    assert_eq!(end(9), known(9, 15));
    assert!(
        bench
            .log
            .assign_epoch(LeaderEpoch::new(8), offset(15))
            .is_err()
    );
    assert_eq!(bench.log.epoch_at(offset(11)), None);
}

#[test]
fn a_batch_across_the_cut_goes_as_a_whole() {
    let bench = Bench::new(small());
    for tag in 0..5 {
        bench.put(batch(tag, 4, 20, 0));
    }
    bench.log.truncate_to(offset(10)).unwrap();
    assert_eq!(bench.log.log_end_offset(), offset(8));
    bench.log.delete_records_before(offset(6)).unwrap();
    bench.log.truncate_to(offset(7)).unwrap();
    assert_eq!(
        (bench.log.log_start_offset(), bench.log.log_end_offset()),
        (offset(6), offset(6))
    );
    bench.fill(9, 1);
    assert_eq!(read_all(&bench.log), [(6, 1, 9)]);
}

/// While one thread appends as the leader that it knows of, another enters the next epochs: every
/// batch is on the right side of their starts.
#[test]
fn an_epoch_starts_behind_the_last_batch_of_the_one_before() {
    const EPOCHS: i32 = 100;
    let bench = Bench::new(LogConfig {
        segment_bytes: 256 << 20,
        flush_policy: crate::FlushPolicy::Os,
        ..small()
    });
    let log = &bench.log;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut epoch = 0;
            let sent = batch(0, 1, 16_000, 0);
            while epoch < EPOCHS {
                match log.append(&mut sent.clone(), leader(epoch), time(0)) {
                    Ok(_) => {}
                    Err(StorageError::FencedEpoch { current, .. }) => epoch = current.value(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for epoch in 1..=EPOCHS {
            let before = log.log_end_offset();
            while log.log_end_offset() == before {
                std::thread::yield_now();
            }
            // Somewhere within the next append.
            (0..epoch * 97 % 1009).for_each(|_| std::hint::spin_loop());
            log.enter_epoch(LeaderEpoch::new(epoch)).unwrap();
        }
    });
    let mut from = offset(0);
    while from < log.log_end_offset() {
        let read = log.read(from, log.log_end_offset(), 1 << 20, true).unwrap();
        for found in palisade_protocol::batch::BatchIter::new(read.slice.unwrap().as_ref()) {
            let (header, _) = found.unwrap();
            assert_eq!(
                log.epoch_at(header.base_offset),
                Some(header.partition_leader_epoch),
                "at {}",
                header.base_offset
            );
        }
        from = read.next_offset;
    }
}
