//! Segments with more faults than have a pass of their own.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::LogConfig;
use crate::damage::MOST_BLAMED;
use crate::fs::{FaultyFs, OpenHow};
use crate::mmap::Region;
use crate::testing::*;

/// Counts how often it is mapped, which is once a pass.
#[derive(Debug)]
struct Counted {
    file: Arc<dyn FsFile>,
    maps: AtomicUsize,
}

impl FsFile for Counted {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(into, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.start_writeback(offset, len)
    }

    fn map(&self, capacity: usize, end: Arc<PublishedEnd>) -> io::Result<Region> {
        self.maps.fetch_add(1, Ordering::Relaxed);
        self.file.map(capacity, end)
    }
}

fn large() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        ..small()
    }
}

/// A hundred batches in one segment, the first ten of leader epoch 0, the others of `epoch`; and
/// the length of each.
fn hundred(epoch: i32) -> (Bench, PathBuf, usize) {
    let bench = Bench::on(FaultyFs::new(), large());
    bench.fill(0, 10);
    for tag in 10..100 {
        bench.put_as(batch(tag, 1, 100, 1000 + tag as i64), leader(epoch));
    }
    bench.dir.run_pending();
    let path = bench.file("00000000000000000000.log");
    let size = bench.fs.content(&path).unwrap().len() / 100;
    (bench, path, size)
}

/// Scans them, synced up to the ninetieth; answers how many passes that took as well.
fn scan(bench: &Bench, path: &Path, exact: bool, epoch: i32) -> (Scanned, usize) {
    let counted = Counted {
        file: bench.fs.as_fs().open(path, OpenHow::Read).unwrap(),
        maps: AtomicUsize::new(0),
    };
    let scan = Scan {
        path: &path.into(),
        base: offset(0),
        interval: 200,
        exact,
        recovery_point: offset(90),
        next_base: None,
        sealed_end: None,
        may_be_torn: true,
        epoch: LeaderEpoch::new(epoch),
        epoch_behind: None,
        partition_epoch: None,
    };
    let scanned = scan.run(&counted).unwrap();
    (scanned, counted.maps.into_inner())
}

/// The same with a bit flipped in `byte` of every second batch below the eightieth.
fn scan_flipped(byte: usize) -> (Scanned, usize) {
    let (bench, path, size) = hundred(0);
    for at in (1..80).step_by(2) {
        bench.fs.flip(&path, at * size + byte, 1);
    }
    scan(&bench, &path, true, -1)
}

fn lost(scanned: &Scanned) -> Vec<(i64, i64)> {
    let ranges = scanned.damage.iter();
    ranges.map(|r| (r.from.value(), r.to.value())).collect()
}

/// What was flipped is lost, and nothing else.
fn check(scanned: &Scanned) {
    let wanted: Vec<_> = (1..80).step_by(2).map(|at| (at, at + 1)).collect();
    assert_eq!(lost(scanned), wanted);
    assert_eq!(scanned.tail.next, offset(100));
    assert!(scanned.torn.is_none());
}

#[test]
fn many_wrong_lengths_take_few_passes() {
    let (scanned, passes) = scan_flipped(11);
    check(&scanned);
    assert_eq!(passes, MOST_BLAMED + 1);
}

#[test]
fn many_wrong_epochs_are_told_from_those_behind_them() {
    let (scanned, passes) = scan_flipped(15);
    check(&scanned);
    assert_eq!(passes, 2, "one to find them all");
}

#[test]
fn batches_of_an_older_epoch_than_the_segment_before_are_one_range() {
    let (bench, path, _) = hundred(0);
    let (scanned, passes) = scan(&bench, &path, false, 7);
    assert_eq!(lost(&scanned), [(0, 100)]);
    assert_eq!(passes, 1);
}

#[test]
fn a_wrong_epoch_in_front_of_damage_does_not_take_along_what_is_behind() {
    for exact in [true, false] {
        let (bench, path, size) = hundred(0);
        bench.fs.flip(&path, 40 * size + 15, 1);
        bench.fs.flip(&path, 41 * size + 16, 1);
        let (scanned, passes) = scan(&bench, &path, exact, -1);
        assert_eq!(lost(&scanned), [(40, 42)], "exact: {exact}");
        assert_eq!(scanned.tail.next, offset(100));
        assert_eq!(passes, 2);
    }
}

#[test]
fn one_older_epoch_among_many_is_wrong_itself() {
    for exact in [true, false] {
        let (bench, path, size) = hundred(5);
        bench.fs.flip(&path, 50 * size + 15, 1);
        let (scanned, passes) = scan(&bench, &path, exact, -1);
        assert_eq!(lost(&scanned), [(50, 51)], "exact: {exact}");
        assert_eq!(scanned.tail.next, offset(100));
        assert_eq!(passes, 1);
    }
}
