//! Random sequences of operations, faults and crashes against a simple model.
//!
//! All records come from one producer whose sequence numbers equal the offsets, so that the
//! idempotence window is checked by the way: after every start the last five batches are offered
//! again, and must be answered as repeats.

use proptest::prelude::*;

use crate::fs::{Crash, FaultyFs};
use crate::testing::*;
use crate::types::Offset;
use crate::{FlushPolicy, LogConfig, StorageError};

/// One stored batch: base offset, number of records, tag.
type Stored = (i64, i32, u64);

#[derive(Clone, Debug)]
pub(super) enum Op {
    Append { count: usize, size: usize },
    Pending,
    Flush,
    Truncate { percent: i64 },
    DeleteRecords { percent: i64 },
    Retention { segments: u64 },
    Tick,
    Checkpoint,
    Reset { ahead: i64 },
    Restart,
    Crash(Crash),
    CrashAfter { operations: u64, crash: Crash },
    FailSyncAfter { syncs: u64 },
    RefuseGrowthAfter { growths: u64 },
    ShortWrites(bool),
    CheckReads { max: usize },
}

/// The log under test, and what it must hold.
pub(super) struct Sim {
    bench: Option<Bench>,
    fs: FaultyFs,
    config: LogConfig,
    /// What the log holds if nothing is lost.
    full: Vec<Stored>,
    start: i64,
    end: i64,
    /// Nothing below this may be lost.
    must: i64,
    tag: u64,
    now: i64,
    /// What a crash leaves once the file system stops.
    crash: Crash,
    /// The log start that is surely on disk.
    stored_start: i64,
}

impl Sim {
    pub(super) fn new(policy: FlushPolicy) -> Self {
        let config = LogConfig {
            flush_policy: policy,
            segment_bytes: 1500,
            index_interval_bytes: 150,
            allocate_ahead: true,
            ..small()
        };
        let fs = FaultyFs::new();
        let bench = Some(Bench::on(fs.clone(), config.clone()));
        Self {
            bench,
            fs,
            config,
            full: Vec::new(),
            start: 0,
            end: 0,
            must: 0,
            tag: 0,
            now: 1000,
            crash: Crash::PowerLoss,
            stored_start: 0,
        }
    }

    pub(super) fn fs(&self) -> &FaultyFs {
        &self.fs
    }

    fn bench(&self) -> &Bench {
        self.bench.as_ref().expect("open between operations")
    }

    /// Does one operation and checks the log after it, or recovers if it stopped.
    pub(super) fn run(&mut self, op: &Op) {
        self.now += 700;
        self.act(op);
        if self.fs.is_crashed() {
            self.recover(self.crash);
        } else if self.bench().dir.is_offline() || self.bench().log.is_failed() {
            // A kill too: the page cache then holds what is on no disk.
            self.recover(self.crash);
        } else {
            self.note_durable();
            let log = &self.bench().log;
            assert_eq!(log.log_end_offset().value(), self.end, "end after {op:?}");
            assert_eq!(
                log.log_start_offset().value(),
                self.start,
                "start after {op:?}"
            );
        }
    }

    fn note_durable(&mut self) {
        // Told by the observer, as the broker would be.
        let durable = *self.bench().ear.durable.lock();
        let end = self.bench().log.durable_end_offset().value();
        if let Some(durable) = durable.map(Offset::value) {
            self.must = self.must.max(durable.min(end));
        }
    }

    fn act(&mut self, op: &Op) {
        let span = self.end - self.start;
        match op {
            Op::Append { count, size } => self.append(*count, *size),
            Op::Pending => self.bench().dir.run_pending(),
            Op::Flush => {
                let _ = self.bench().log.flush_blocking();
            }
            Op::Truncate { percent } => {
                let to = self.start + span * percent / 100;
                self.truncate(to);
            }
            Op::DeleteRecords { percent } => {
                let to = self.start + span * percent / 100;
                let done = self.bench().log.delete_records_before(offset(to));
                self.start_moved(done.is_ok());
            }
            Op::Retention { segments } => {
                let config = LogConfig {
                    retention_bytes: Some(segments * self.config.segment_bytes),
                    ..self.config.clone()
                };
                self.bench().log.set_config(config);
                let done = self
                    .bench()
                    .log
                    .apply_retention(offset(self.must), time(self.now));
                self.start_moved(done.is_ok());
                assert!(
                    self.start <= self.must || self.fs.is_crashed(),
                    "retention below HW"
                );
            }
            Op::Tick => self.bench().dir.tick(time(self.now)),
            Op::Checkpoint => {
                let _ = self.bench().dir.checkpoint();
            }
            Op::Reset { ahead } => {
                let to = self.end + ahead;
                self.must = 0;
                if self.bench().log.reset_to(offset(to)).is_ok() {
                    (self.start, self.end, self.must) = (to, to, to);
                    self.stored_start = to;
                    self.full.clear();
                } else {
                    self.must = i64::MIN;
                }
                *self.bench().ear.durable.lock() = None;
            }
            Op::Restart => {
                self.bench().dir.run_pending();
                if self.bench().dir.close(1).is_ok() {
                    self.must = self.end;
                }
                self.recover(Crash::Kill);
            }
            Op::Crash(crash) => self.recover(*crash),
            Op::CrashAfter { operations, crash } => {
                self.crash = *crash;
                self.fs.crash_at(self.fs.operations() + operations);
            }
            Op::FailSyncAfter { syncs } => self.fs.fail_sync_at(self.fs.syncs() + syncs),
            Op::RefuseGrowthAfter { growths } => {
                self.fs.refuse_growth_at(self.fs.growths() + growths);
            }
            Op::ShortWrites(on) => self.fs.set_short_writes(*on),
            Op::CheckReads { max } => self.check_reads(*max),
        }
    }

    fn append(&mut self, count: usize, size: usize) {
        self.tag += 1;
        let builder =
            palisade_protocol::batch::BatchBuilder::new(palisade_protocol::batch::Codec::None);
        let builder = builder.producer(
            crate::types::ProducerId::new(9),
            crate::types::ProducerEpoch::new(0),
            self.end as i32,
        );
        let mut bytes = build(builder, self.tag, count, size, self.now);
        let done = self
            .bench()
            .log
            .append(&mut bytes, leader(0), time(self.now));
        let stored = (self.end, count as i32, self.tag);
        match done {
            Ok(appended) => {
                assert!(!appended.duplicate);
                assert_eq!(appended.base_offset.value(), self.end, "offsets are dense");
                self.full.push(stored);
                self.end += count as i64;
            }
            // Refused for good reason, or the file system has stopped: it may be there or not.
            Err(StorageError::DiskFull { .. }) => {}
            Err(_) if self.fs.is_crashed() => self.full.push(stored),
            Err(error) => assert!(self.bench().dir.is_offline(), "append failed: {error}"),
        }
    }

    fn truncate(&mut self, to: i64) {
        // The observer may have told of bytes that are about to go.
        *self.bench().ear.durable.lock() = None;
        self.must = self.must.min(to);
        if self.bench().log.truncate_to(offset(to)).is_err() {
            // A batch across the cut goes as a whole.
            let cut = self.full.iter().rfind(|(base, _, _)| *base <= to);
            self.must = self.must.min(cut.map_or(to, |(base, _, _)| *base));
            return;
        }
        self.full
            .retain(|(base, count, _)| base + i64::from(*count) <= to);
        let end = self.bench().log.log_end_offset().value();
        let expected = self
            .full
            .last()
            .map(|(base, count, _)| base + i64::from(*count));
        assert_eq!(end, expected.unwrap_or(end.clamp(self.start.min(to), to)));
        self.end = end;
        self.must = self.must.min(end);
    }

    fn start_moved(&mut self, done: bool) {
        let start = self.bench().log.log_start_offset().value();
        assert!(start >= self.start, "the log start never goes back");
        // On a full disk it is raised in memory only.
        self.start = start;
        if done {
            self.stored_start = start;
            self.full
                .retain(|(base, count, _)| base + i64::from(*count) > start);
            self.must = self.must.max(start);
        }
    }

    fn recover(&mut self, crash: Crash) {
        self.fs.restart(crash);
        self.fs.set_short_writes(false);
        self.bench = None;
        let bench = Bench::on(self.fs.clone(), self.config.clone());
        assert_eq!(bench.log.damage(), [], "a crash is no damage");
        let (start, end) = (
            bench.log.log_start_offset().value(),
            bench.log.log_end_offset().value(),
        );
        assert!(
            start >= self.stored_start || self.must == i64::MIN,
            "{start} below {}",
            self.stored_start
        );
        assert!(start <= end);
        assert!(end >= self.must, "lost: {end} of {}", self.must);
        let found = read_all(&bench.log);
        let mut expected = end.min(found.first().map_or(end, |(base, _, _)| *base));
        for (base, count, _) in &found {
            assert_eq!(*base, expected, "offsets are dense");
            expected += i64::from(*count);
        }
        assert_eq!(expected, end);
        for stored in &found {
            assert!(self.full.contains(stored), "{stored:?} was never appended");
        }
        self.full = found;
        self.full
            .retain(|(base, count, _)| base + i64::from(*count) > start);
        (self.start, self.end, self.must) = (start, end, end);
        self.stored_start = start;
        self.bench = Some(bench);
        self.offer_again();
    }

    /// The last five batches are repeats; they answer their first offsets.
    fn offer_again(&self) {
        for (base, count, tag) in self.full.iter().rev().take(5) {
            let builder =
                palisade_protocol::batch::BatchBuilder::new(palisade_protocol::batch::Codec::None);
            let builder = builder.producer(
                crate::types::ProducerId::new(9),
                crate::types::ProducerEpoch::new(0),
                *base as i32,
            );
            let mut bytes = build(builder, *tag, *count as usize, 20, 0);
            let log = &self.bench().log;
            let answer = log.append(&mut bytes, leader(0), time(self.now)).unwrap();
            assert!(answer.duplicate, "batch {tag} was appended twice");
            assert_eq!(answer.base_offset.value(), *base);
        }
    }

    fn check_reads(&self, max: usize) {
        let log = &self.bench().log;
        let mut found = Vec::new();
        let mut from = self.start;
        while from < self.end {
            let read = log.read(offset(from), offset(self.end), max, true).unwrap();
            let slice = read.slice.expect("something is below the end");
            found.extend(tags(slice.as_ref()));
            from = read.next_offset.value();
        }
        let mut expected = self.full.clone();
        expected.retain(|(base, count, _)| base + i64::from(*count) > self.start);
        assert_eq!(found, expected);
    }
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![
        Just(Crash::Kill),
        Just(Crash::PowerLoss),
        any::<u64>().prop_map(|seed| Crash::Torn { seed }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => (1..4usize, 10..300usize).prop_map(|(count, size)| Op::Append { count, size }),
        12 => Just(Op::Pending),
        3 => Just(Op::Flush),
        3 => (0..110i64).prop_map(|percent| Op::Truncate { percent: percent.min(100) }),
        2 => (0..100i64).prop_map(|percent| Op::DeleteRecords { percent }),
        2 => (0..4u64).prop_map(|segments| Op::Retention { segments }),
        2 => Just(Op::Tick),
        3 => Just(Op::Checkpoint),
        1 => (0..50i64).prop_map(|ahead| Op::Reset { ahead }),
        1 => Just(Op::Restart),
        2 => crash().prop_map(Op::Crash),
        3 => (0..40u64, crash())
            .prop_map(|(operations, crash)| Op::CrashAfter { operations, crash }),
        1 => (0..4u64).prop_map(|syncs| Op::FailSyncAfter { syncs }),
        2 => (0..6u64).prop_map(|growths| Op::RefuseGrowthAfter { growths }),
        1 => any::<bool>().prop_map(Op::ShortWrites),
        4 => (1..3000usize).prop_map(|max| Op::CheckReads { max }),
    ]
}

/// A seal that survived a truncation, and was believed once the append after it was lost.
#[test]
fn a_seal_does_not_outlive_a_truncation() {
    let put = |count, size| Op::Append { count, size };
    let ops = [
        put(3, 197),
        put(2, 125),
        put(2, 207),
        Op::Truncate { percent: 71 },
        put(3, 261),
        Op::Pending,
        Op::Truncate { percent: 63 },
        Op::Crash(Crash::Kill),
        put(1, 10),
        put(3, 146),
        put(3, 261),
        Op::Crash(Crash::PowerLoss),
    ];
    play(FlushPolicy::Ack, &ops);
}

fn play(policy: FlushPolicy, ops: &[Op]) {
    let mut sim = Sim::new(policy);
    ops.iter().for_each(|op| sim.run(op));
    sim.run(&Op::Crash(Crash::PowerLoss));
    sim.run(&Op::CheckReads { max: 700 });
}

proptest! {
    // PROPTEST_CASES=10000 for a long look.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn nothing_acknowledged_is_lost(ops in prop::collection::vec(op(), 1..80)) {
        play(FlushPolicy::Ack, &ops);
    }

    #[test]
    fn without_syncs_a_prefix_remains(ops in prop::collection::vec(op(), 1..80)) {
        play(FlushPolicy::Os, &ops);
    }
}
