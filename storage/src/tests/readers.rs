//! Readers keep what they hold, whatever becomes of the log.

use crate::LogConfig;
use crate::testing::*;

/// All mappings are given back where one more cannot be made; a file is not cut under who reads it.
#[test]
fn a_reader_keeps_what_is_given_back() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    bench.dir.run_pending();
    let read = bench.log.read(offset(0), offset(60), 100_000, true);
    let held = read.unwrap().slice.unwrap();
    let before = held.as_ref().to_vec();
    let first = bench.log.segments.load().first().cloned().unwrap();
    assert!(first.is_sealed());
    first.evict();
    drop(first);
    bench.log.truncate_to(offset(2)).unwrap();
    assert_eq!(held.as_ref(), before);
}

/// Its files wait for their readers, and the topic goes meanwhile.
#[test]
fn a_reader_keeps_what_has_retired_when_the_log_is_deleted() {
    let bench = Bench::new(LogConfig {
        retention_ms: Some(1000),
        file_delete_delay_ms: 60_000,
        ..small()
    });
    bench.fill(0, 60);
    bench.dir.run_pending();
    let read = bench.log.read(offset(0), offset(60), 100_000, true);
    let held = read.unwrap().slice.unwrap();
    let before = held.as_ref().to_vec();
    bench.log.note_high_watermark(offset(60));
    let removed = bench
        .log
        .apply_retention(offset(60), time(1_000_000))
        .unwrap();
    assert!(removed > 0);
    bench.dir.delete_log(&bench.log).unwrap();
    bench.dir.run_pending();
    assert_eq!(held.as_ref(), before);
    assert!(bench.dir.list().unwrap().is_empty());
}
