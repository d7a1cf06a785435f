//! Flipped bits, missing files, broken chains: found, never cut, never served.

use std::path::PathBuf;

use crate::fs::{Crash, Fs};
use crate::testing::*;
use crate::{LogConfig, StorageError};

/// One segment of `count` batches, stopped by a crash; the recovery point at `synced`.
fn crashed(count: u64, synced: u64) -> (crate::fs::FaultyFs, PathBuf, usize) {
    let config = LogConfig {
        segment_bytes: 1 << 20,
        ..small()
    };
    let bench = Bench::new(config);
    bench.fill(0, synced);
    bench.dir.checkpoint().unwrap();
    bench.fill(synced, count - synced);
    let path = bench.file("00000000000000000000.log");
    let fs = bench.fs.clone();
    let size = fs.content(&path).unwrap().len() / count as usize;
    fs.restart(Crash::Kill);
    (fs, path, size)
}

fn large() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        ..small()
    }
}

/// Header bytes whose change no check can tell: the producer's epoch on the wire is all there is.
const HEADER: std::ops::Range<usize> = 0..61;

/// No write that is cut short changes it alone: raised_epochs.rs.
const EPOCH: std::ops::Range<usize> = 12..16;

#[test]
fn a_flip_above_the_recovery_point_is_a_torn_tail() {
    for at in HEADER.chain([70]).filter(|at| !EPOCH.contains(at)) {
        let (fs, path, size) = crashed(10, 4);
        fs.flip(&path, size * 7 + at, 0x41);
        let bench = Bench::on(fs.clone(), large());
        assert_eq!(read_all(&bench.log).len(), 7, "byte {at}");
        assert_eq!(bench.report.cut_bytes, size as u64 * 3);
        assert_eq!(bench.report.damaged_ranges, 0);
        let kept = fs.list(std::path::Path::new("/logs/quarantine")).unwrap();
        assert_eq!(kept.len(), 1, "the cut bytes are kept");
        bench.fill(7, 3);
        let bench = bench.crash(Crash::PowerLoss, large());
        assert_eq!(read_all(&bench.log).len(), 10);
    }
}

#[test]
fn a_flip_below_the_recovery_point_is_damage_and_cuts_nothing() {
    // Base offset, length, epoch and magic stand outside the CRC; the recovery point spares the
    // rest of the batch another look.
    for at in (0..17).chain(23..27) {
        for mask in [0x01, 0x80] {
            let (fs, path, size) = crashed(10, 8);
            let length = fs.content(&path).unwrap().len();
            fs.flip(&path, size * 5 + at, mask);
            let bench = Bench::on(fs.clone(), large());
            assert_eq!(fs.content(&path).unwrap().len(), length, "never truncated");
            assert_eq!(bench.log.log_end_offset(), offset(10), "byte {at}");
            if bench.report.damaged_ranges == 0 {
                // A higher epoch in this batch makes the next one look wrong.
                panic!("flip of {mask:#x} at byte {at} was not seen");
            }
            let mut found = Vec::new();
            let mut from = offset(0);
            let mut corrupt = Vec::new();
            while from < offset(10) {
                match bench.log.read(from, offset(10), 1 << 20, true) {
                    Ok(read) => {
                        found.extend(tags(read.slice.unwrap().as_ref()));
                        from = read.next_offset;
                    }
                    Err(StorageError::Corrupt {
                        from: first, to, ..
                    }) => {
                        assert!(to > from);
                        corrupt.push((first.value(), to.value()));
                        from = to;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(
                found.len() + corrupt.len(),
                10,
                "byte {at}: {found:?} {corrupt:?}"
            );
            bench.fill(10, 5);
            assert_eq!(bench.log.log_end_offset(), offset(15));
            let read = bench
                .log
                .read(offset(10), offset(15), 1 << 20, true)
                .unwrap();
            assert_eq!(tags(read.slice.unwrap().as_ref()).len(), 5);
            let bench = bench.crash(Crash::PowerLoss, large());
            assert!(
                bench.report.damaged_ranges > 0,
                "found again at every start"
            );
            assert_eq!(bench.log.log_end_offset(), offset(15));
        }
    }
}

#[test]
fn a_shorter_file_below_the_recovery_point_is_damage() {
    let (fs, path, size) = crashed(10, 8);
    let content = fs.content(&path).unwrap();
    fs.replace(&path, &content[..size * 6 + 10]);
    let bench = Bench::on(fs.clone(), large());
    assert_eq!(
        fs.content(&path).unwrap().len(),
        size * 6 + 10,
        "never truncated"
    );
    assert!(bench.report.damaged_ranges > 0);
    assert_eq!(
        bench.log.log_end_offset(),
        offset(8),
        "no offset is given twice"
    );
    let read = bench.log.read(offset(0), offset(8), 1 << 20, true).unwrap();
    assert_eq!(read.next_offset, offset(6));
    for at in 6..8 {
        let error = bench
            .log
            .read(offset(at), offset(8), 1 << 20, true)
            .unwrap_err();
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    }
    bench.fill(8, 3);
    let read = bench
        .log
        .read(offset(8), offset(11), 1 << 20, true)
        .unwrap();
    assert_eq!(tags(read.slice.unwrap().as_ref()).len(), 3);
}

/// A log of several sealed segments, stopped cleanly; and the bases of its segments.
pub(super) fn sealed() -> (crate::fs::FaultyFs, Vec<PathBuf>) {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    bench.dir.close(1).unwrap();
    let fs = bench.fs.clone();
    let dir = bench.file("");
    let mut logs: Vec<PathBuf> = fs
        .list(&dir)
        .unwrap()
        .into_iter()
        .filter(|entry| entry.name.ends_with(".log"))
        .map(|entry| dir.join(entry.name))
        .collect();
    logs.sort();
    drop(bench);
    (fs, logs)
}

#[test]
fn a_lost_segment_is_damage() {
    let (fs, logs) = sealed();
    for extension in ["log", "seal", "index", "timeindex"] {
        fs.remove_file(&logs[1].with_extension(extension)).unwrap();
    }
    let bench = Bench::on(fs, small());
    assert_eq!(bench.log.log_end_offset(), offset(60));
    assert_eq!(bench.log.damage().len(), 1);
    let lost = &bench.log.damage()[0];
    let error = bench
        .log
        .read(lost.from, offset(60), 100, true)
        .unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { .. }));
    let read = bench.log.read(lost.to, offset(60), 100, true).unwrap();
    assert_eq!(read.start_offset, lost.to);
}

#[test]
fn indexes_and_seals_are_only_caches() {
    for extension in ["index", "timeindex", "seal"] {
        for flip in [None, Some(20)] {
            let (fs, logs) = sealed();
            for log in &logs {
                let path = log.with_extension(extension);
                match flip {
                    None => fs.remove_file(&path).unwrap(),
                    Some(at) => {
                        let length = fs.content(&path).unwrap().len();
                        fs.flip(&path, at.min(length - 1), 1);
                    }
                }
            }
            let bench = Bench::on(fs, small());
            assert_eq!(bench.report.damaged_ranges, 0, "{extension} {flip:?}");
            assert_eq!(read_all(&bench.log).len(), 60);
            for at in 0..60 {
                let read = bench.log.read(offset(at), offset(60), 10, true).unwrap();
                assert_eq!(read.start_offset, offset(at));
                let found = bench
                    .log
                    .find_by_timestamp(time(1000 + at), offset(60))
                    .unwrap();
                assert_eq!(found.unwrap().offset, offset(at));
            }
            bench.fill(60, 5);
            bench.dir.run_pending();
            let bench = bench.reopen(small());
            assert_eq!(
                (bench.report.rebuilt_indexes, read_all(&bench.log).len()),
                (0, 65)
            );
        }
    }
}

#[test]
fn damage_met_by_a_reader_is_noted_and_the_rest_is_served() {
    let (fs, logs) = sealed();
    // In the middle of a sealed segment, in a header that a walk must pass.
    let size = fs.content(&logs[1]).unwrap().len() / 12;
    assert!(size > 61);
    for (byte, expected) in [(8, true), (16, true)] {
        fs.flip(&logs[1], byte, 0x20);
        let bench = Bench::on(fs.clone(), small());
        assert_eq!(
            bench.report.damaged_ranges, 0,
            "a clean start does not scan"
        );
        let base: i64 = logs[1]
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let error = bench
            .log
            .read(offset(base), offset(60), 100, true)
            .unwrap_err();
        assert!(matches!(error, StorageError::Corrupt { .. }));
        assert_eq!(!bench.log.damage().is_empty(), expected);
        let to = bench.log.damage()[0].to;
        let read = bench.log.read(to, offset(60), 100, true).unwrap();
        assert_eq!(read.start_offset, to, "behind the damage reading goes on");
        let read = bench
            .log
            .read(offset(0), offset(60), 1 << 20, true)
            .unwrap();
        assert_eq!(read.next_offset, offset(base));
        bench.dir.close(1).unwrap();
        fs.flip(&logs[1], byte, 0x20);
    }
}

/// Batches served and offsets refused.
pub(super) fn served(log: &crate::Log) -> (usize, i64) {
    let (mut from, end) = (offset(0), log.log_end_offset());
    let (mut served, mut refused) = (0, 0);
    while from < end {
        match log.read(from, end, 1 << 20, true) {
            Ok(read) => {
                for (base, _, tag) in tags(read.slice.unwrap().as_ref()) {
                    assert_eq!(base, tag as i64, "each record at its offset");
                    served += 1;
                }
                from = read.next_offset;
            }
            Err(StorageError::Corrupt { to, .. }) => {
                refused += to.distance(from);
                from = to;
            }
            Err(error) => panic!("{error}"),
        }
    }
    (served, refused)
}

#[test]
fn a_page_that_cannot_be_read_costs_the_batches_in_it() {
    let (fs, path, size) = crashed(100, 100);
    assert!(size < 200, "one window holds many batches");
    let page = 8192..12_288;
    let first = page.start / size;
    let last = (page.end - 1) / size;
    // And a batch beside it whose length nobody can believe, so that the next one is searched for.
    fs.flip(&path, size * 3 + 9, 0x40);
    fs.spoil(&path, page);
    let bench = Bench::on(fs.clone(), large());
    let lost = 1 + last - first + 1;
    assert_eq!(served(&bench.log), (100 - lost, lost as i64));
    bench.fill(100, 5);
    assert_eq!(served(&bench.log), (105 - lost, lost as i64));
    let bench = bench.crash(Crash::Kill, large());
    assert_eq!(served(&bench.log), (105 - lost, lost as i64));
}
