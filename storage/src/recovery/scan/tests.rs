//! Segments with more faults than have a pass of their own.

use std::io;
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

/// Scans a hundred batches, synced up to the ninetieth, of which every second one below the
/// eightieth has a bit flipped in `byte`; answers how many passes that took as well.
fn scan_flipped(byte: usize) -> (Scanned, usize) {
    let config = LogConfig {
        segment_bytes: 1 << 20,
        ..small()
    };
    let bench = Bench::on(FaultyFs::new(), config);
    bench.fill(0, 100);
    let path = bench.file("00000000000000000000.log");
    let size = bench.fs.content(&path).unwrap().len() / 100;
    for at in (1..80).step_by(2) {
        bench.fs.flip(&path, at * size + byte, 1);
    }
    let counted = Counted {
        file: bench.fs.as_fs().open(&path, OpenHow::Read).unwrap(),
        maps: AtomicUsize::new(0),
    };
    let scan = Scan {
        path: &path.into(),
        base: offset(0),
        interval: 200,
        exact: true,
        recovery_point: offset(90),
        next_base: None,
        sealed_end: None,
        may_be_torn: true,
        epoch: LeaderEpoch::new(-1),
    };
    let scanned = scan.run(&counted).unwrap();
    (scanned, counted.maps.into_inner())
}

/// What was flipped is lost, and nothing else.
fn check(scanned: &Scanned) {
    let lost: Vec<_> = scanned.damage.iter().map(|r| (r.from, r.to)).collect();
    let flipped = (1..80).step_by(2);
    let wanted: Vec<_> = flipped.map(|at| (offset(at), offset(at + 1))).collect();
    assert_eq!(lost, wanted);
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
