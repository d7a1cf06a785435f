//! A gigabyte of keyed records compacted while another log of the directory is written and read:
//! time, memory, and what that does to appends and reads.
//!
//! `PALISADE_BENCH_COMPACTION_MIB` sets another size. The 99th percentiles with and without the
//! cleaner are of one run on one disk; compare them with nothing else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use palisade_benches::payload::{self, Noise};
use palisade_benches::{figures, machine};
use palisade_protocol::batch::{BatchBuilder, Codec};
use palisade_protocol::types::{LeaderEpoch, Offset, TimestampMs, TopicId};
use palisade_storage::{
    AppendAs, CleanOptions, FlushPolicy, Log, LogConfig, LogDir, LogDirOptions, LogSpec, NoObserver,
};
use tempfile::TempDir;

const NOW: TimestampMs = TimestampMs::new(1_700_000_000_000);
const LEADER: AppendAs = AppendAs::Leader {
    epoch: LeaderEpoch::new(0),
};
/// Bytes of a value, and different keys in each MiB of records.
const VALUE_BYTES: usize = 1000;
const KEYS_PER_MIB: u64 = 200;
/// How long appends and reads are measured without the cleaner.
const ALONE: Duration = Duration::from_secs(10);

fn main() {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    machine::print(scratch);
    let mib = std::env::var("PALISADE_BENCH_COMPACTION_MIB")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1024_u64);
    let folder = TempDir::with_prefix_in("compaction-", scratch).expect("a directory");
    let options = LogDirOptions {
        ballast_bytes: 0,
        ..LogDirOptions::default()
    };
    let dir = LogDir::open(folder.path(), palisade_storage::fs::real(), options)
        .expect("an empty log directory opens");
    let keyed = open(&dir, "keyed-0", true);
    let beside = open(&dir, "beside-0", false);
    fill(&keyed, mib);
    dir.checkpoint().expect("a checkpoint");

    let alone = Traffic::run(&beside, |_| std::thread::park_timeout(ALONE));
    let before = anonymous_bytes();
    let peak = AtomicU64::new(before);
    let mut cleaned = None;
    let mut took = Duration::ZERO;
    let during = Traffic::run(&beside, |done| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    peak.fetch_max(anonymous_bytes(), Ordering::Relaxed);
                    std::thread::park_timeout(Duration::from_millis(2));
                }
            });
            let began = Instant::now();
            let end = keyed.log_end_offset();
            let pass = keyed.clean(end, NOW, &CleanOptions::default(), &mut ());
            took = began.elapsed();
            cleaned = Some(pass.expect("a pass"));
            done.store(true, Ordering::Release);
        });
    });

    let cleaned = cleaned.expect("a pass was made");
    figures::heads();
    figures::once("compaction, records", &format!("{mib} MiB"), "");
    figures::once("compaction, keys", &cleaned.keys.to_string(), "");
    figures::once(
        "compaction, pass",
        &format!("{:.1} s", took.as_secs_f64()),
        "",
    );
    let left = cleaned.bytes_after >> 20;
    figures::once("compaction, left", &format!("{left} MiB"), "");
    let more = (peak.load(Ordering::Relaxed) - before) >> 20;
    figures::once(
        "compaction, memory on top",
        &format!("{more} MiB"),
        "64 MiB",
    );
    for (name, traffic) in [("without", alone), ("beside", during)] {
        let [append, read] = traffic.p99();
        figures::once(&format!("append p99, {name}"), &format!("{append:?}"), "");
        figures::once(&format!("read p99, {name}"), &format!("{read:?}"), "");
    }
    drop((keyed, beside));
    dir.close(0).expect("a clean end");
}

fn open(dir: &LogDir, name: &str, compact: bool) -> Arc<Log> {
    let spec = LogSpec {
        dir_name: name.to_owned(),
        topic_id: TopicId::from_bytes([1; 16]),
        leader_epoch: None,
    };
    let config = LogConfig {
        compact,
        delete: !compact,
        retention_ms: None,
        segment_bytes: 64 << 20,
        file_delete_delay_ms: 0,
        flush_policy: FlushPolicy::Os,
        ..LogConfig::default()
    };
    dir.open_log(spec, config, Arc::new(NoObserver), NOW)
        .expect("a new log opens")
        .0
}

/// Appends records of random keys, and one more so that the last full segment is rolled.
fn fill(log: &Log, mib: u64) {
    let mut noise = Noise::default();
    let value = noise.bytes(VALUE_BYTES);
    while log.size_bytes() < mib << 20 {
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..64 {
            let key = (noise.next_u64() % (mib * KEYS_PER_MIB)).to_be_bytes();
            builder
                .add(NOW, Some(&key), Some(&value), &[])
                .expect("a small record");
        }
        let mut batch = builder.build().expect("a small batch");
        log.append(&mut batch, LEADER, NOW).expect("an append");
    }
}

/// How long appends and reads took.
struct Traffic {
    appends: Vec<Duration>,
    reads: Vec<Duration>,
}

impl Traffic {
    /// Appends 16 KiB and reads it back, again and again, while `work` goes on.
    fn run(log: &Log, work: impl FnOnce(&AtomicBool)) -> Self {
        let done = AtomicBool::new(false);
        let mut traffic = Self {
            appends: Vec::new(),
            reads: Vec::new(),
        };
        std::thread::scope(|scope| {
            let (done, traffic) = (&done, &mut traffic);
            scope.spawn(move || {
                let batch = payload::batch(16 << 10, NOW);
                while !done.load(Ordering::Acquire) {
                    let mut batch = batch.clone();
                    let began = Instant::now();
                    let appended = log.append(&mut batch, LEADER, NOW).expect("an append");
                    traffic.appends.push(began.elapsed());
                    let began = Instant::now();
                    read(log, appended.base_offset);
                    traffic.reads.push(began.elapsed());
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            });
            work(done);
            done.store(true, Ordering::Release);
        });
        traffic
    }

    fn p99(mut self) -> [Duration; 2] {
        [&mut self.appends, &mut self.reads].map(|times| {
            times.sort_unstable();
            times
                .get(times.len() * 99 / 100)
                .copied()
                .unwrap_or_default()
        })
    }
}

fn read(log: &Log, from: Offset) {
    let read = log
        .read(from, log.log_end_offset(), 1 << 20, true)
        .expect("a read");
    let slice = read.slice.expect("what was appended");
    std::hint::black_box(
        slice
            .as_ref()
            .iter()
            .step_by(64)
            .map(|b| u64::from(*b))
            .sum::<u64>(),
    );
}

/// Anonymous memory of this process, in bytes.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}
