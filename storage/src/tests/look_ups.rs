//! Look-ups by time beside batches that do not verify, or were deleted: they answer with what
//! readers are given.

use palisade_protocol::batch::{BatchBuilder, BatchIter, Codec, verify_crc};

use crate::fs::Crash;
use crate::lookup::{LOOKED_AT, OPENINGS};
use crate::testing::*;
use crate::{LogConfig, ScrubStep, StorageError};

/// Batches of a log, and records of each.
const BATCHES: i64 = 30;
const RECORDS: i64 = 3;
const END: i64 = BATCHES * RECORDS;

const HEADER: std::ops::Range<usize> = 0..61;

/// Neighbours do not ascend, so that the largest below an offset may stand before others.
fn time_of(tag: i64) -> i64 {
    1000 + tag * 10 + tag % 3 * 25
}

#[derive(Clone, Copy, Debug)]
struct Case {
    /// Offsets may leave gaps.
    compact: bool,
    /// Checkpoints were written before the log was killed, and its sealed segments read again.
    synced: bool,
}

#[derive(Clone, Copy, Debug)]
struct Flip {
    /// From the end of the log: 0 is the segment that was appended to.
    segment: usize,
    batch: usize,
    byte: usize,
    mask: u8,
}

/// A log of several segments that was killed, with a byte of a header flipped, opened again.
fn flipped(case: Case, flip: Flip) -> Bench {
    let config = || LogConfig {
        compact: case.compact,
        ..small()
    };
    let bench = Bench::new(config());
    for tag in 0..BATCHES {
        bench.put(batch(tag as u64, RECORDS as usize, 30, time_of(tag)));
        bench.dir.run_pending();
    }
    if case.synced {
        bench.dir.checkpoint().unwrap();
    }
    let list = bench.log.segments.load_full();
    let segment = list[list.len() - 1 - flip.segment].clone();
    let tail = segment.tail();
    let count = (tail.next.distance(segment.base) / RECORDS) as usize;
    assert!(count > 4, "there is a middle");
    let size = tail.position as usize / count;
    let which = [0, 1, count / 2, count - 2, count - 1][flip.batch];
    let (fs, path) = (bench.fs.clone(), segment.path.clone());
    drop((bench, list, segment));
    fs.restart(Crash::Kill);
    fs.flip(&path, which * size + flip.byte, flip.mask);
    let bench = Bench::on(fs, config());
    if case.synced {
        let mut scrubber = bench.dir.scrubber().unwrap();
        while !matches!(scrubber.step(time(1000), &mut ()), ScrubStep::Finished(_)) {}
    }
    bench
}

/// Offsets and timestamps of what readers get; none where they are given what does not verify, or
/// is not where it was.
fn readable(bench: &Bench) -> Option<Vec<(i64, i64)>> {
    let end = bench.log.log_end_offset();
    let mut from = offset(0);
    let mut records = Vec::new();
    while from < end {
        match bench.log.read(from, end, 1 << 20, true) {
            Ok(read) => {
                let Some(slice) = read.slice else { break };
                for found in BatchIter::new(slice.as_ref()) {
                    let (header, batch) = found.unwrap();
                    let base = header.base_offset.value();
                    if !verify_crc(batch) || tags(batch)[0].2 as i64 * RECORDS != base {
                        return None;
                    }
                    let time = header.max_timestamp.value();
                    records.extend((base..base + RECORDS).map(|at| (at, time)));
                }
                from = read.next_offset;
            }
            Err(StorageError::Corrupt { to, .. }) => from = to,
            Err(error) => panic!("{error}"),
        }
    }
    Some(records)
}

/// Looks up every time below the end and below other offsets.
fn compare(bench: &Bench, records: &[(i64, i64)], what: &dyn std::fmt::Debug) {
    for limit in [END, END / 2, END - 2 * RECORDS] {
        let below: Vec<_> = records.iter().copied().filter(|r| r.0 < limit).collect();
        for asked in (995..1060 + BATCHES * 10).step_by(5) {
            let found = bench.log.find_by_timestamp(time(asked), offset(limit));
            let found = found.unwrap_or_else(|e| panic!("{what:?}: {asked} below {limit}: {e}"));
            let found = found.map(|f| (f.offset.value(), f.timestamp.value()));
            let wanted = below.iter().copied().find(|r| r.1 >= asked);
            assert_eq!(found, wanted, "{what:?}: {asked} below {limit}");
        }
        let found = bench.log.max_timestamp(offset(limit));
        let found = found.unwrap_or_else(|e| panic!("{what:?}: below {limit}: {e}"));
        let found = found.map(|f| (f.offset.value(), f.timestamp.value()));
        let largest = below.iter().map(|r| r.1).max();
        let wanted = below.iter().copied().find(|r| Some(r.1) == largest);
        assert_eq!(found, wanted, "{what:?}: largest below {limit}");
    }
}

fn check(case: Case) {
    let mut compared = 0;
    for segment in [0, 2] {
        for byte in HEADER {
            for batch in 0..5 {
                for mask in [0x01, 0x10] {
                    let flip = Flip {
                        segment,
                        batch,
                        byte,
                        mask,
                    };
                    let bench = flipped(case, flip);
                    if let Some(records) = readable(&bench) {
                        compare(&bench, &records, &(case, flip));
                        compared += 1;
                    }
                }
            }
        }
    }
    // What nobody has looked at yet is served as it stands.
    assert!(compared > 700, "{case:?}: {compared}");
}

#[test]
fn look_ups_in_a_compacted_log_pass_over_its_damage() {
    check(Case {
        compact: true,
        synced: false,
    });
}

#[test]
fn look_ups_in_a_compacted_log_that_was_synced_pass_over_its_damage() {
    check(Case {
        compact: true,
        synced: true,
    });
}

#[test]
fn look_ups_in_a_log_without_gaps_pass_over_its_damage() {
    check(Case {
        compact: false,
        synced: true,
    });
}

/// Times ascend neither within batches nor from one to the next, and some come again.
#[test]
fn the_largest_time_is_that_of_a_record_that_can_be_read() {
    for codec in [Codec::None, Codec::Lz4] {
        let bench = Bench::new(small());
        let mut records = Vec::new();
        for tag in 0..BATCHES {
            let mut builder = BatchBuilder::new(codec);
            for at in tag * RECORDS..(tag + 1) * RECORDS {
                let timestamp = 1000 + at * 37 % 53;
                let value = [tag as u8; 60];
                builder
                    .add(time(timestamp), None, Some(&value), &[])
                    .unwrap();
                records.push((at, timestamp));
            }
            bench.put(builder.build().unwrap().to_vec());
            bench.dir.run_pending();
        }
        assert!(bench.log.segment_count() > 1);
        for start in 0..=END {
            bench.log.delete_records_before(offset(start)).unwrap();
            for limit in (0..=END).step_by(RECORDS as usize) {
                let found = bench.log.max_timestamp(offset(limit)).unwrap();
                let found = found.map(|f| (f.offset.value(), f.timestamp.value()));
                let there = records.iter().filter(|r| (start..limit).contains(&r.0));
                let wanted = there.copied().rev().max_by_key(|r| r.1);
                assert_eq!(found, wanted, "{codec:?}: {start} to {limit}");
            }
        }
    }
}

/// A compressed batch of one record at 1000, which says in its header that it has one at 5000.
fn lying(tag: u8) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::Lz4);
    let value = [tag; 60];
    builder.add(time(1000), None, Some(&value), &[]).unwrap();
    let mut batch = builder.build().unwrap().to_vec();
    batch[35..43].copy_from_slice(&5000_i64.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// Whoever writes such batches may write many, each of which takes long to open.
#[test]
fn of_headers_that_lie_one_is_found_out() {
    let bench = Bench::new(small());
    bench.put(batch(0, 1, 20, 900));
    for tag in 1..60 {
        bench.put(lying(tag));
    }
    bench.dir.run_pending();
    assert!(bench.log.segment_count() > 2);
    let end = bench.log.log_end_offset();
    let opened = |work: &dyn Fn() -> Result<Option<crate::TimestampOffset>, StorageError>| {
        let before = OPENINGS.get();
        let found = work().unwrap().unwrap();
        let opened = OPENINGS.get() - before;
        (found.offset, found.timestamp, opened)
    };
    let by_time = opened(&|| bench.log.find_by_timestamp(time(2000), end));
    assert_eq!(by_time, (offset(1), time(5000), 1));
    let largest = opened(&|| bench.log.max_timestamp(end));
    assert_eq!(largest, (offset(1), time(5000), 1));
    bench.log.delete_records_before(offset(7)).unwrap();
    let largest = opened(&|| bench.log.max_timestamp(end));
    assert_eq!(largest, (offset(7), time(5000), 1));
}

#[test]
fn the_largest_time_is_looked_for_in_as_few_batches_as_can_have_it() {
    for timestamp in [-1, 1000] {
        let bench = Bench::new(small());
        for tag in 0..60 {
            bench.put(batch(tag, 1, 60, timestamp));
        }
        bench.dir.run_pending();
        let bench = bench.reopen(small());
        assert!(bench.log.segment_count() > 2);
        let before = LOOKED_AT.get();
        let found = bench.log.max_timestamp(offset(60)).unwrap().unwrap();
        assert_eq!(
            (found.offset, found.timestamp),
            (offset(0), time(timestamp))
        );
        let looked = LOOKED_AT.get() - before;
        assert!(looked <= 1, "{looked} batches");
    }
}

/// A writer tells the segment the time of its batch a moment before it shows the batch.
#[test]
fn the_largest_time_is_found_while_a_batch_is_on_its_way() {
    let bench = Bench::new(small());
    for tag in 0..BATCHES {
        bench.put(batch(tag as u64, 1, 30, time_of(tag)));
        bench.dir.run_pending();
    }
    let largest = || bench.log.max_timestamp(offset(BATCHES)).unwrap().unwrap();
    let before = largest();
    let list = bench.log.segments.load_full();
    let last = list.last().unwrap();
    last.publish(last.tail(), time(1_000_000));
    assert_eq!(largest(), before);
    bench.put(batch(BATCHES as u64, 1, 30, 1_000_000));
    assert_eq!(largest(), before, "above the limit");
    let found = bench.log.max_timestamp(offset(BATCHES + 1)).unwrap();
    assert_eq!(found.unwrap().offset, offset(BATCHES));
}
