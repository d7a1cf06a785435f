//! Offsets that a flipped bit has made wrong in a log that may have gaps: no checksum covers the
//! base of a batch, and only the batches beside it tell.

use std::path::{Path, PathBuf};

use palisade_protocol::batch::{BatchIter, verify_crc};

use crate::fs::{Crash, FaultyFs, OpenHow};
use crate::testing::*;
use crate::{LogConfig, StorageError};

/// Batches of a log, and records of each.
const BATCHES: u64 = 40;
const RECORDS: i64 = 3;
const END: i64 = BATCHES as i64 * RECORDS;

/// Header bytes of the base offset, and of the last offset delta.
const BASE: std::ops::Range<usize> = 0..8;
const DELTA: std::ops::Range<usize> = 23..27;

/// How the log came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Killed; nothing of the log was known to be synced.
    Killed,
    /// Killed, with a checkpoint behind the twentieth batch and one at the end.
    KilledSynced,
    /// As a node should.
    Clean,
}

const STOPS: [Stop; 3] = [Stop::Killed, Stop::KilledSynced, Stop::Clean];

fn compacted() -> LogConfig {
    LogConfig {
        compact: true,
        delete: false,
        ..small()
    }
}

/// A compacted log of several segments, stopped; its segment files, and the length of a batch.
fn stopped(stop: Stop) -> (FaultyFs, Vec<PathBuf>, usize) {
    let bench = Bench::new(compacted());
    for tag in 0..BATCHES {
        bench.put(batch(tag, RECORDS as usize, 30, 1000));
        bench.dir.run_pending();
        if stop == Stop::KilledSynced && [BATCHES / 2, BATCHES - 1].contains(&tag) {
            bench.dir.checkpoint().unwrap();
        }
    }
    if stop == Stop::Clean {
        bench.dir.close(1).unwrap();
    }
    let fs = bench.fs.clone();
    let list = bench.log.segments.load_full();
    let logs: Vec<PathBuf> = list.iter().map(|s| s.path.to_path_buf()).collect();
    assert!(logs.len() > 3, "several are sealed");
    let first = list[0].tail();
    let size = first.position as i64 / (first.next.value() / RECORDS);
    drop(bench);
    fs.restart(Crash::Kill);
    (fs, logs, size as usize)
}

fn content(fs: &FaultyFs, path: &Path) -> Vec<u8> {
    fs.content(path).unwrap()
}

fn base_of(path: &Path) -> i64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// What became of each offset below `END`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Read,
    Refused,
    /// Not there, without an error.
    Missing,
    /// Another record's bytes were served for it.
    Wrong,
}

/// Reads a log as a consumer does, who believes the offsets in the batches and steps over gaps.
fn fates(bench: &Bench, most: usize) -> Vec<Fate> {
    let log = &bench.log;
    let end = log.log_end_offset();
    let mut fates = vec![Fate::Missing; END as usize];
    let mut from = offset(0);
    let mark = |fates: &mut Vec<Fate>, at: i64, fate| {
        if let Some(of) = usize::try_from(at).ok().and_then(|at| fates.get_mut(at)) {
            *of = fate;
        }
    };
    while from < end {
        match log.read(from, end, most, true) {
            Ok(read) => {
                let Some(slice) = read.slice else { break };
                for found in BatchIter::new(slice.as_ref()) {
                    let (header, batch) = found.unwrap();
                    let base = header.base_offset.value();
                    let fate = match verify_crc(batch) {
                        true if tags(batch)[0].2 as i64 * RECORDS == base => Fate::Read,
                        true => Fate::Wrong,
                        // The consumer's own check, which covers all but the offset.
                        false => Fate::Refused,
                    };
                    for n in 0..i64::from(header.records_count) {
                        mark(&mut fates, base + n, fate);
                    }
                }
                assert!(read.next_offset > from);
                from = read.next_offset;
            }
            Err(StorageError::Corrupt {
                from: first, to, ..
            }) => {
                assert!(first < to, "an empty range from {first} to {to}");
                assert!(to > from);
                for at in from.value()..to.value().min(END) {
                    mark(&mut fates, at, Fate::Refused);
                }
                from = to;
            }
            Err(error) => panic!("{error}"),
        }
    }
    fates
}

/// One flipped bit.
#[derive(Clone, Copy, Debug)]
struct Flip {
    /// From the end of the log: 0 is the segment that was appended to.
    segment: usize,
    batch: usize,
    byte: usize,
    bit: u8,
}

/// Flips a bit of a stopped log and opens it; answers the log, the bases of the batches of that
/// segment, and which of them it was.
fn flipped(stop: Stop, flip: Flip) -> (Bench, Vec<i64>, usize) {
    let (fs, logs, size) = stopped(stop);
    let path = &logs[logs.len() - 1 - flip.segment];
    let count = content(&fs, path).len() / size;
    assert!(count > 4, "there is a middle");
    let which = [0, 1, count / 2, count - 2, count - 1][flip.batch];
    fs.flip(path, which * size + flip.byte, 1 << flip.bit);
    let bases = (0..count as i64).map(|n| base_of(path) + n * RECORDS);
    let bench = Bench::on(fs, compacted());
    (bench, bases.collect(), which)
}

fn each_flip(segment: usize, bytes: impl Iterator<Item = usize>, mut check: impl FnMut(Flip)) {
    for byte in bytes {
        for batch in 0..5 {
            for bit in 0..8 {
                check(Flip {
                    segment,
                    batch,
                    byte,
                    bit,
                });
            }
        }
    }
}

/// Every record is read or refused, and more than the flipped batch is not refused.
fn only_the_batch_is_lost(fates: &[Fate], base: i64, what: &dyn std::fmt::Debug) {
    for (at, fate) in (0..).zip(fates) {
        let flipped = (base..base + RECORDS).contains(&at);
        match fate {
            Fate::Read => assert!(!flipped, "{what:?}: {at} is read"),
            Fate::Refused => assert!(flipped, "{what:?}: {at} is refused"),
            Fate::Missing | Fate::Wrong => panic!("{what:?}: {at} is {fate:?}"),
        }
    }
}

#[test]
fn a_wrong_base_costs_its_batch_alone_in_the_segment_appended_to() {
    for stop in [Stop::Killed, Stop::KilledSynced] {
        each_flip(0, BASE, |flip| {
            let (bench, bases, which) = flipped(stop, flip);
            let what = (stop, flip);
            let end = bench.log.log_end_offset();
            if which + 1 == bases.len() && end > offset(END) {
                // Nothing behind it tells; what is before it is all there.
                let fates = fates(&bench, 1 << 20);
                let (before, rest) = fates.split_at((END - RECORDS) as usize);
                assert!(before.iter().all(|fate| *fate == Fate::Read), "{what:?}");
                assert!(rest.iter().all(|fate| *fate != Fate::Read), "{what:?}");
                return;
            }
            assert_eq!(end, offset(END), "{what:?}");
            assert_eq!(bench.report.cut_bytes, 0, "{what:?}");
            assert_eq!(bench.log.damage().len(), 1, "{what:?}");
            only_the_batch_is_lost(&fates(&bench, 1 << 20), bases[which], &what);
            only_the_batch_is_lost(&fates(&bench, 1), bases[which], &what);
        });
    }
}

#[test]
fn a_wrong_base_costs_its_batch_alone_in_a_sealed_segment() {
    for stop in [Stop::Killed, Stop::KilledSynced] {
        each_flip(2, BASE, |flip| {
            let (bench, bases, which) = flipped(stop, flip);
            let what = (stop, flip);
            if stop == Stop::KilledSynced && bench.log.damage().is_empty() {
                pass(&bench);
            }
            assert_eq!(bench.log.log_end_offset(), offset(END), "{what:?}");
            only_the_batch_is_lost(&fates(&bench, 1 << 20), bases[which], &what);
        });
    }
}

/// Reads the sealed segments again.
fn pass(bench: &Bench) {
    let mut scrubber = bench.dir.scrubber().unwrap();
    while !matches!(
        scrubber.step(time(1000), &mut ()),
        crate::ScrubStep::Finished(_)
    ) {}
}

#[test]
fn a_wrong_base_in_a_sealed_segment_is_found_by_the_scrub_and_at_the_starts_after_it() {
    each_flip(2, BASE, |flip| {
        let (bench, bases, which) = flipped(Stop::Clean, flip);
        pass(&bench);
        only_the_batch_is_lost(&fates(&bench, 1 << 20), bases[which], &flip);
        let bench = bench.reopen(compacted());
        only_the_batch_is_lost(&fates(&bench, 1 << 20), bases[which], &flip);
    });
}

#[test]
fn a_wrong_delta_is_refused_or_cut_and_never_passed_over() {
    for stop in [Stop::Killed, Stop::KilledSynced] {
        for segment in [0, 2] {
            each_flip(segment, DELTA, |flip| {
                let (bench, bases, which) = flipped(stop, flip);
                let what = (stop, flip);
                if bench.report.cut_bytes > 0 {
                    // What does not verify by its own checksum may have been written half.
                    assert_eq!((stop, segment), (Stop::Killed, 0), "{what:?}");
                    assert_eq!(bench.log.log_end_offset(), offset(bases[which]));
                    return;
                }
                if stop == Stop::KilledSynced && bench.log.damage().is_empty() {
                    pass(&bench);
                }
                let fates = fates(&bench, 1 << 20);
                if (stop, segment) != (Stop::KilledSynced, 2) {
                    return only_the_batch_is_lost(&fates, bases[which], &what);
                }
                // Found by the scrub, up to the next batch that the index knows.
                let base = bases[which] as usize;
                let flipped = &fates[base..base + RECORDS as usize];
                assert!(flipped.iter().all(|f| *f == Fate::Refused), "{what:?}");
                let told = |f: &Fate| [Fate::Read, Fate::Refused].contains(f);
                assert!(fates.iter().all(told), "{what:?}");
            });
        }
    }
}

#[test]
fn no_flip_after_a_clean_stop_ends_in_a_panic() {
    for segment in [0, 2] {
        each_flip(segment, BASE.chain(DELTA), |flip| {
            let (bench, ..) = flipped(Stop::Clean, flip);
            let end = bench.log.log_end_offset();
            assert_eq!(end, offset(END), "{flip:?}");
            for from in 0..END {
                let read = bench.log.read(offset(from), end, 1 << 20, true);
                let refused = matches!(read, Err(StorageError::Corrupt { .. }));
                assert!(refused || read.is_ok(), "{flip:?}: {read:?}");
            }
        });
    }
}

#[test]
fn what_was_found_is_found_at_each_start_and_the_log_goes_on() {
    for batch in 0..5 {
        for (byte, bit) in [(0, 7), (2, 3), (6, 5), (7, 0), (7, 6)] {
            let flip = Flip {
                segment: 0,
                batch,
                byte,
                bit,
            };
            let (bench, bases, which) = flipped(Stop::Killed, flip);
            let end = bench.log.log_end_offset();
            if end > offset(END) {
                continue;
            }
            bench.put(crate::testing::batch(BATCHES, RECORDS as usize, 30, 1000));
            bench.dir.run_pending();
            let bench = bench.reopen(compacted());
            let count = |bench: &Bench| {
                only_the_batch_is_lost(&fates(bench, 1 << 20), bases[which], &flip);
                let read = bench.log.read(end, bench.log.log_end_offset(), 1, true);
                let slice = read.unwrap().slice.unwrap();
                assert_eq!(tags(slice.as_ref()), [(END, RECORDS as i32, BATCHES)]);
            };
            count(&bench);
            let bench = bench.crash(Crash::Kill, compacted());
            count(&bench);
            let bench = bench.crash(Crash::PowerLoss, compacted());
            count(&bench);
        }
    }
}

#[test]
fn two_wrong_bases_cost_two_batches() {
    for (first, second) in [(1, 2), (1, 3), (2, 3), (2, 4)] {
        for (one, other) in [((6, 4), (6, 5)), ((7, 1), (6, 5)), ((6, 5), (2, 3))] {
            let (fs, logs, size) = stopped(Stop::Killed);
            let path = logs.last().unwrap();
            fs.flip(path, first * size + one.0, 1 << one.1);
            fs.flip(path, second * size + other.0, 1 << other.1);
            let bench = Bench::on(fs, compacted());
            let what = (first, second, one, other);
            let lost = [first, second].map(|n| base_of(path) + n as i64 * RECORDS);
            let fates = fates(&bench, 1 << 20);
            assert_eq!(bench.log.log_end_offset(), offset(END), "{what:?}");
            for (at, fate) in (0..).zip(&fates) {
                let flipped = lost
                    .iter()
                    .any(|base| (*base..base + RECORDS).contains(&at));
                let wanted = if flipped { Fate::Refused } else { Fate::Read };
                assert_eq!(*fate, wanted, "{what:?}: {at}");
            }
        }
    }
}

#[test]
fn segments_that_have_changed_places_are_refused() {
    for stop in [Stop::Killed, Stop::KilledSynced] {
        let (_, logs, _) = stopped(stop);
        for a in 0..logs.len() {
            for b in 0..a {
                let (fs, logs, _) = stopped(stop);
                let (one, other) = (content(&fs, &logs[a]), content(&fs, &logs[b]));
                fs.replace(&logs[a], &other);
                fs.replace(&logs[b], &one);
                let bench = Bench::on(fs, compacted());
                let fates = fates(&bench, 1 << 20);
                let end = |n: usize| logs.get(n + 1).map_or(END, |next| base_of(next));
                for (at, fate) in (0..).zip(&fates) {
                    let swapped = |n: usize| (base_of(&logs[n])..end(n)).contains(&at);
                    let wanted = match swapped(a) || swapped(b) {
                        true => Fate::Refused,
                        false => Fate::Read,
                    };
                    assert_eq!(*fate, wanted, "{stop:?}, {a} and {b}: {at}");
                }
            }
        }
    }
}

#[test]
fn gaps_that_compaction_left_are_no_damage() {
    for stop in STOPS {
        let (fs, logs, size) = stopped(stop);
        let bytes = content(&fs, &logs[1]);
        // As a cleaner leaves it: without its second and third batch.
        let cleaned = [&bytes[..size], &bytes[3 * size..]].concat();
        fs.replace(&logs[1], &cleaned);
        for extension in ["seal", "index", "timeindex"] {
            let path = logs[1].with_extension(extension);
            if fs.as_fs().open(&path, OpenHow::Read).is_ok() {
                fs.as_fs().remove_file(&path).unwrap();
            }
        }
        let bench = Bench::on(fs, compacted());
        assert_eq!(bench.log.damage(), [], "{stop:?}");
        let lost = fates(&bench, 1 << 20);
        let lost = lost.iter().filter(|fate| **fate != Fate::Read).count();
        assert_eq!(lost as i64, 2 * RECORDS, "{stop:?}");
    }
}

/// What is served behind a batch that is refused counts for its producer too.
#[test]
fn a_producer_goes_on_behind_a_misplaced_batch() {
    for at_byte in [4, 5, 6, 60] {
        let config = LogConfig {
            compact: true,
            ..small()
        };
        let bench = Bench::new(config.clone());
        let length = produced(0, 1, 7, 0, 0).len();
        for sequence in 0..6 {
            bench.put(produced(sequence, 1, 7, 0, sequence as i32));
        }
        bench.log.flush_blocking().unwrap();
        bench.dir.checkpoint().unwrap();
        let path = bench.log.home.path(offset(0));
        let fs = bench.fs.clone();
        drop(bench);
        fs.restart(Crash::Kill);
        fs.flip(&path, 2 * length + at_byte, 1);
        let bench = Bench::on(fs, config);
        let end = bench.log.log_end_offset();
        let next = bench.try_put(produced(6, 1, 7, 0, 6));
        assert!(next.is_ok(), "byte {at_byte}, end {end}: {next:?}");
    }
}
