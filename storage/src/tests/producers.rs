//! The idempotence window through restarts, truncation and deletion; transactions.

use palisade_protocol::batch::{BatchBuilder, BatchIter, Codec};

use crate::fs::{Crash, Fs};
use crate::testing::*;
use crate::types::{LeaderEpoch, ProducerEpoch, ProducerId};
use crate::{AppendAs, ScrubStep, StorageError};

#[test]
fn a_repeat_answers_its_first_offsets_through_every_kind_of_stop() {
    let mut bench = Bench::new(small());
    for n in 0..40 {
        bench.put(produced(n, 2, 9, 0, n as i32 * 2));
        bench.dir.run_pending();
    }
    let repeats = |bench: &Bench| {
        for n in 35..40 {
            let again = bench.put(produced(n, 2, 9, 0, n as i32 * 2));
            assert!(again.duplicate);
            assert_eq!(
                (again.base_offset, again.last_offset),
                (offset(n as i64 * 2), offset(n as i64 * 2 + 1))
            );
            assert_eq!(again.log_append_time, Some(time(1000)));
        }
        let error = bench.try_put(produced(34, 2, 9, 0, 68)).unwrap_err();
        assert!(matches!(error, StorageError::OutOfOrderSequence { .. }));
        assert_eq!(bench.log.log_end_offset(), offset(80));
    };
    repeats(&bench);
    bench = bench.crash(Crash::Kill, small());
    repeats(&bench);
    bench = bench.reopen(small());
    assert_eq!(bench.report.scanned_bytes, 0);
    repeats(&bench);
    bench.log.delete_records_before(offset(78)).unwrap();
    repeats(&bench);
    bench.dir.checkpoint().unwrap();
    bench = bench.crash(Crash::PowerLoss, small());
    assert_eq!(bench.put(produced(39, 2, 9, 0, 78)).base_offset, offset(78));
    bench.put(produced(40, 2, 9, 0, 80));
}

/// A clean stop leaves a snapshot inside the last segment, but behind a crash that segment is
/// looked through from its base.
#[test]
fn a_producer_is_known_after_its_records_were_deleted_and_a_crash() {
    let bench = Bench::new(small());
    bench.put(produced(0, 1, 9, 0, 0));
    bench.fill(1, 15);
    let bench = bench.reopen(small());
    bench.fill(16, 3);
    bench.log.delete_records_before(offset(17)).unwrap();
    assert!(
        !bench
            .fs
            .exists(&bench.file("00000000000000000000.log"))
            .unwrap()
    );
    let bench = bench.crash(Crash::PowerLoss, small());
    assert!(bench.put(produced(0, 1, 9, 0, 0)).duplicate);
    assert_eq!(bench.put(produced(1, 1, 9, 0, 1)).base_offset, offset(19));
}

/// A segment that no seal was written for when it was left gets its seal from the clean stop, and
/// the snapshot with it: the next start looks for it there.
#[test]
fn a_clean_stop_makes_up_for_a_snapshot_that_found_no_room() {
    for growth in 0..24 {
        let bench = Bench::new(small());
        bench.put(produced(0, 1, 9, 0, 0));
        bench.fs.refuse_growth_at(bench.fs.growths() + growth);
        for tag in 1..20 {
            if bench.try_put(batch(tag, 1, 100, 0)).is_err() {
                bench.dir.tick(time(2000));
            }
            bench.dir.run_pending();
        }
        bench.dir.close(1).unwrap();
        let dir = bench.file("");
        let entries = bench.fs.list(&dir).unwrap();
        let bases = entries
            .iter()
            .filter_map(|entry| entry.name.strip_suffix(".log"));
        let bases: Vec<_> = bases.filter(|base| base.parse() != Ok(0)).collect();
        assert!(!bases.is_empty());
        for base in bases {
            let snapshot = bench.file(&format!("{base}.snapshot"));
            assert!(bench.fs.exists(&snapshot).unwrap(), "growth {growth}");
        }
    }
}

#[test]
fn truncation_takes_the_state_back() {
    let bench = Bench::new(small());
    for n in 0..40 {
        bench.put(produced(n, 1, 9, 0, n as i32));
    }
    bench.dir.run_pending();
    bench.log.truncate_to(offset(20)).unwrap();
    assert!(bench.put(produced(19, 1, 9, 0, 19)).duplicate);
    assert!(bench.try_put(produced(40, 1, 9, 0, 40)).is_err());
    assert!(!bench.put(produced(50, 1, 9, 0, 20)).duplicate);
}

#[test]
fn a_refused_batch_leaves_no_trace() {
    let bench = Bench::new(small());
    bench.put(produced(0, 1, 9, 3, 0));
    assert!(bench.try_put(produced(1, 1, 9, 4, 5)).is_err());
    let error = bench.try_put(produced(1, 1, 9, 2, 0)).unwrap_err();
    assert!(matches!(error, StorageError::InvalidProducerEpoch { .. }));
    assert!(
        !bench.put(produced(1, 1, 9, 3, 1)).duplicate,
        "epoch 4 was never seen"
    );
    assert_eq!(bench.log.log_end_offset(), offset(2));
}

/// What a checksum covers is not looked at below the recovery point; nothing is believed of a
/// producer for it.
#[test]
fn a_flipped_bit_tells_nothing_new_of_a_producer() {
    for at in 21..61 {
        for bit in 0..8 {
            let bench = Bench::new(small());
            for n in 0..6 {
                bench.put(produced(n, 1, 9, 1, n as i32));
            }
            bench.log.flush_blocking().unwrap();
            bench.log.note_high_watermark(offset(6));
            bench.dir.checkpoint().unwrap();
            let path = bench.file("00000000000000000000.log");
            let size = bench.fs.content(&path).unwrap().len() / 6;
            let fs = bench.fs.clone();
            drop(bench);
            fs.restart(Crash::Kill);
            fs.flip(&path, 2 * size + at, 1 << bit);

            let bench = Bench::on(fs, small());
            let what = format!("bit {bit} of byte {at}");
            assert_eq!(bench.log.last_stable_bound(offset(6)), None, "{what}");
            let last = bench.try_put(produced(5, 1, 9, 1, 5));
            assert!(last.is_ok_and(|last| last.duplicate), "{what}");
            let next = bench.try_put(produced(6, 1, 9, 1, 6));
            assert!(next.is_ok_and(|next| !next.duplicate), "{what}");
            let is_the_producers = match at {
                // Transactional, or a marker.
                22 => [4, 5].contains(&bit),
                // The sign of the id: below 0 there is no producer.
                43 => bit < 7,
                // Id, epoch, sequence.
                _ => (44..57).contains(&at),
            };
            let told = bench.report.damaged_ranges == 1;
            assert!(told || !is_the_producers, "{what}");
        }
    }
}

fn marker(commit: bool, epoch: i16, coordinator: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None)
        .producer(ProducerId::new(9), ProducerEpoch::new(epoch), -1)
        .transactional(true)
        .control(true);
    let key = [0, 0, 0, u8::from(commit)];
    let mut value = vec![0, 0];
    value.extend(coordinator.to_be_bytes());
    builder
        .add(time(1000), Some(&key), Some(&value), &[])
        .unwrap();
    builder.build().unwrap().to_vec()
}

fn transactional(tag: u64, sequence: i32) -> Vec<u8> {
    let builder = BatchBuilder::new(Codec::None)
        .producer(ProducerId::new(9), ProducerEpoch::new(1), sequence)
        .transactional(true);
    build(builder, tag, 1, 100, 1000)
}

#[test]
fn aborted_transactions_are_listed_through_every_kind_of_stop() {
    let mut bench = Bench::new(small());
    for round in 0..12 {
        for n in 0..3 {
            bench.put(transactional(round, round as i32 * 3 + n));
        }
        bench.put(marker(round % 2 == 1, 1, 0));
        bench.dir.run_pending();
    }
    assert!(bench.log.segment_count() > 3);
    let check = |bench: &Bench| {
        let aborted = bench
            .log
            .aborted_transactions(offset(0), offset(48))
            .unwrap();
        let ends: Vec<_> = aborted
            .iter()
            .map(|t| (t.first_offset.value(), t.last_offset.value()))
            .collect();
        assert_eq!(ends, (0..6).map(|n| (n * 8, n * 8 + 3)).collect::<Vec<_>>());
        let some = bench
            .log
            .aborted_transactions(offset(10), offset(30))
            .unwrap();
        assert_eq!(some.len(), 3);
        assert_eq!(bench.log.last_stable_bound(offset(48)), None);
    };
    check(&bench);
    bench = bench.crash(Crash::Kill, small());
    check(&bench);
    bench = bench.reopen(small());
    check(&bench);
    bench.put(transactional(99, 36));
    assert_eq!(bench.log.last_stable_bound(offset(49)), Some(offset(48)));
    bench = bench.crash(Crash::Kill, small());
    assert_eq!(bench.log.last_stable_bound(offset(49)), Some(offset(48)));
    let is_open = |id| bench.log.lock_writer().producers.has_open_txn(id);
    assert!(is_open(ProducerId::new(9)));
    bench.log.truncate_to(offset(48)).unwrap();
    check(&bench);
    // Indexes are caches, what they say of transactions included.
    for lost in [&["txnindex"][..], &["index"], &["index", "txnindex"]] {
        bench.dir.run_pending();
        bench.dir.close(1).unwrap();
        let fs = bench.fs.clone();
        let dir = bench.file("");
        drop(bench);
        for entry in fs.list(&dir).unwrap() {
            if lost
                .iter()
                .any(|kind| entry.name.ends_with(&format!(".{kind}")))
            {
                fs.remove_file(&dir.join(&entry.name)).unwrap();
            }
        }
        bench = Bench::on(fs, small());
        check(&bench);
    }
}

#[test]
fn markers_are_judged_for_leaders_and_taken_from_leaders() {
    let bench = Bench::new(small());
    bench.put(transactional(0, 0));
    let error = bench.try_put(marker(true, 0, 0)).unwrap_err();
    assert!(matches!(error, StorageError::InvalidProducerEpoch { .. }));
    bench.put(marker(true, 1, 7));
    let error = bench.try_put(marker(true, 1, 6)).unwrap_err();
    assert!(matches!(
        error,
        StorageError::TransactionCoordinatorFenced { .. }
    ));
    let mut replicated = marker(true, 1, 6);
    crate::batch::stamp(&mut replicated, offset(2), LeaderEpoch::new(0));
    bench
        .log
        .append(&mut replicated, AppendAs::Replica, time(0))
        .unwrap();
    let mut broken = marker(true, 1, 9);
    let last = broken.len() - 12;
    broken.truncate(last);
    assert!(bench.try_put(broken).is_err());
}

/// Transactions up to the third segment, each with a record of nobody's behind it, and segments
/// without producers behind them.
fn transactions_and_more() -> Bench {
    let bench = Bench::new(small());
    let mut round = 0;
    while bench.log.segment_count() < 3 {
        for n in 0..3 {
            bench.put(transactional(round, round as i32 * 3 + n));
        }
        bench.put(marker(round % 2 == 1, 1, 0));
        bench.put(batch(round, 1, 20, 1000));
        bench.dir.run_pending();
        round += 1;
    }
    bench.fill(round, 50);
    assert!(bench.log.segment_count() > 5);
    bench
}

/// What is remembered of the producer, and his aborted transactions.
fn remembered(bench: &Bench) -> impl PartialEq + std::fmt::Debug + use<> {
    let writer = bench.log.lock_writer();
    let producers = writer.producers.iter();
    let producers: Vec<_> = producers.map(|(id, entry)| (id, entry.clone())).collect();
    drop(writer);
    let end = bench.log.log_end_offset();
    let aborted = bench.log.aborted_transactions(offset(0), end).unwrap();
    assert!(!producers.is_empty() && !aborted.is_empty());
    (producers, aborted, bench.log.last_stable_bound(end))
}

/// Path and place of each batch of the second and the third segment; whether it is a producer's.
fn batches_of_the_middle() -> Vec<(std::path::PathBuf, usize, bool)> {
    let bench = transactions_and_more();
    let mut places = Vec::new();
    for segment in &bench.log.segments.load()[1..3] {
        let content = bench.fs.content(&segment.path).unwrap();
        let mut at = 0;
        for found in BatchIter::new(&content) {
            let (header, batch) = found.unwrap();
            places.push((
                segment.path.to_path_buf(),
                at,
                header.producer_id.value() >= 0,
            ));
            at += batch.len();
        }
    }
    assert!(places.iter().any(|place| place.2) && places.iter().any(|place| !place.2));
    places
}

/// What they were was stored when the segment was sealed, and behind it.
#[test]
fn damage_in_a_sealed_segment_takes_no_producer_back() {
    for (path, place, _) in batches_of_the_middle() {
        for scrubbed in [true, false] {
            let what = format!("{} at {place}, scrubbed: {scrubbed}", path.display());
            let mut bench = transactions_and_more();
            let before = remembered(&bench);
            bench.fs.flip(&path, place + 66, 1);
            if scrubbed {
                bench = bench.reopen(small());
                let mut scrubber = bench.dir.scrubber().unwrap();
                while !matches!(scrubber.step(time(1000), &mut ()), ScrubStep::Finished(_)) {}
            } else {
                // Without a checkpoint each seal is compared.
                bench = bench.crash(Crash::Kill, small());
            }
            for round in 0..3 {
                assert_eq!(bench.log.damage().len(), 1, "{what}, {round}");
                assert_eq!(remembered(&bench), before, "{what}, {round}");
                bench = match round {
                    0 => bench.reopen(small()),
                    _ => bench.crash(Crash::Kill, small()),
                };
            }
            // A copy in its place is sealed with the same again.
            bench.fs.flip(&path, place + 66, 1);
            for _ in 0..2 {
                bench = bench.reopen(small());
                bench.dir.run_pending();
                assert!(bench.log.damage().is_empty(), "{what}");
                assert_eq!(remembered(&bench), before, "{what}, healed");
            }
            assert!(bench.log.segments.load()[..3].iter().all(|s| s.is_sealed()));
        }
    }
}

#[test]
fn what_lies_behind_a_damaged_segment_is_not_read_at_a_start() {
    let mut bench = transactions_and_more();
    let path = bench.log.segments.load()[1].path.clone();
    bench.fs.flip(&path, 100, 1);
    bench = bench.crash(Crash::Kill, small());
    assert_eq!(bench.log.damage().len(), 1);
    for _ in 0..2 {
        bench = bench.reopen(small());
        let list = bench.log.segments.load_full();
        let behind = list.get(2..list.len() - 1).unwrap();
        assert!(behind.len() > 2);
        assert_eq!(behind.iter().filter(|s| s.is_mapped()).count(), 0);
    }
}

/// Without the stored list of transactions each batch from there on is asked again.
#[test]
fn a_damaged_segment_without_its_transactions_has_them_from_its_batches() {
    for (path, place, _) in batches_of_the_middle().into_iter().filter(|place| !place.2) {
        let bench = transactions_and_more();
        let before = remembered(&bench);
        bench.fs.flip(&path, place + 66, 1);
        let mut bench = bench.crash(Crash::Kill, small());
        let index = path.with_extension("txnindex");
        for lost in [false, true] {
            match lost {
                false => bench.fs.flip(&index, 20, 1),
                true => bench.fs.remove_file(&index).unwrap(),
            }
            bench = bench.reopen(small());
            assert_eq!(bench.log.damage().len(), 1);
            assert_eq!(remembered(&bench), before, "lost: {lost}");
        }
    }
}
