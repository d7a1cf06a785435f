//! Random sequences of appends, transactions, passes of the cleaner, faults and crashes against a
//! model of what compaction may take away.
//!
//! The model keeps everything that was ever stored. After each operation the log is read as a
//! consumer of either isolation level reads it, and every record that is not there must be missing
//! for a reason.

use std::collections::{BTreeMap, HashSet};

use palisade_protocol::batch::{BatchIter, Codec};
use proptest::prelude::*;

use crate::cleaner::CleanedBy;
use crate::fs::{Crash, FaultyFs};
use crate::testing::*;
use crate::types::ProducerId;
use crate::{CleanOptions, FlushPolicy, LogConfig, Pace, StorageError};

mod batches;
mod found;

use batches::{decode, encode};

const DELETE_RETENTION_MS: i64 = 5000;
/// Producers below this write transactions, those from it on are only idempotent.
const TRANSACTIONAL: i64 = 2;

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Keys with or without a value, by one of four producers, or by none.
    Append {
        keys: Vec<(u8, bool)>,
        size: usize,
        producer: i64,
        codec: Codec,
    },
    EndTransaction {
        producer: i64,
        commit: bool,
    },
    Clean {
        map_bytes: usize,
        /// The pace ends the pass after so many bytes.
        patience: u64,
    },
    Advance {
        ms: i64,
    },
    Pending,
    DeleteRecords {
        percent: i64,
    },
    Retention {
        segments: u64,
    },
    Truncate {
        percent: i64,
    },
    Checkpoint,
    Policy {
        compact: bool,
    },
    Restart,
    Crash(Crash),
    CrashAfter {
        operations: u64,
        crash: Crash,
    },
    FailSyncAfter {
        syncs: u64,
    },
    RefuseGrowthAfter {
        growths: u64,
    },
}

/// A record as it was stored.
#[derive(Clone, Debug, PartialEq)]
struct Stored {
    key: u8,
    value: Option<u64>,
    time: i64,
}

#[derive(Clone, Debug)]
enum Content {
    Data {
        sequence: i32,
        transactional: bool,
        records: Vec<Stored>,
    },
    Marker {
        commit: bool,
    },
}

/// A batch as it was appended.
#[derive(Clone, Debug)]
struct Sent {
    base: i64,
    producer: i64,
    content: Content,
    /// Five of its producer's were behind it when a pass ran. A client has at most five under way,
    /// so this one had its answer, and is not repeated even where one of the five is lost since.
    answered: bool,
}

impl Sent {
    fn count(&self) -> i64 {
        match &self.content {
            Content::Data { records, .. } => records.len() as i64,
            Content::Marker { .. } => 1,
        }
    }
}

/// What became of the records at one offset.
#[derive(Clone, Debug)]
struct Known {
    stored: Stored,
    aborted: bool,
}

pub(super) struct Sim {
    bench: Option<Bench>,
    fs: FaultyFs,
    config: LogConfig,
    history: Vec<Sent>,
    start: i64,
    end: i64,
    must: i64,
    now: i64,
    tag: u64,
    crash: Crash,
    /// Nothing at or above it has ever been cleaned.
    touched: i64,
    /// The high watermark of the last pass: markers below it have decided what went.
    settled: i64,
    /// A batch that may have been stored when the file system stopped.
    doubtful: Option<Sent>,
    pub(super) passes: usize,
    pub(super) dropped: u64,
}

struct Patience(u64);

impl Pace for Patience {
    fn spend(&mut self, bytes: u64) -> bool {
        self.0 = self.0.saturating_sub(bytes);
        self.0 > 0
    }
}

impl Sim {
    pub(super) fn new(policy: FlushPolicy) -> Self {
        let config = LogConfig {
            flush_policy: policy,
            segment_bytes: 900,
            index_interval_bytes: 150,
            compact: true,
            delete: false,
            delete_retention_ms: DELETE_RETENTION_MS,
            ..small()
        };
        let fs = FaultyFs::new();
        let bench = Some(Bench::on(fs.clone(), config.clone()));
        Self {
            bench,
            fs,
            config,
            history: Vec::new(),
            start: 0,
            end: 0,
            must: 0,
            now: 1000,
            tag: 0,
            crash: Crash::PowerLoss,
            touched: 0,
            settled: 0,
            doubtful: None,
            passes: 0,
            dropped: 0,
        }
    }

    pub(super) fn fs(&self) -> &FaultyFs {
        &self.fs
    }

    fn bench(&self) -> &Bench {
        self.bench.as_ref().expect("open between operations")
    }

    pub(super) fn run(&mut self, op: &Op) {
        self.now += 100;
        self.act(op);
        let stopped =
            self.fs.is_crashed() || self.bench().dir.is_offline() || self.bench().log.is_failed();
        if stopped {
            self.recover(self.crash);
        } else {
            let log = &self.bench().log;
            assert_eq!(log.log_end_offset().value(), self.end, "end after {op:?}");
            self.must = self.must.max(log.durable_end_offset().value());
        }
        self.check(op);
    }

    fn act(&mut self, op: &Op) {
        match op {
            Op::Append {
                keys,
                size,
                producer,
                codec,
            } => self.append(keys, *size, *producer, *codec),
            Op::EndTransaction { producer, commit } => self.end_transaction(*producer, *commit),
            Op::Clean {
                map_bytes,
                patience,
            } => self.clean(*map_bytes, *patience),
            Op::Advance { ms } => self.now += ms,
            Op::Pending => self.bench().dir.run_pending(),
            Op::DeleteRecords { percent } => {
                let to = self.start + (self.must - self.start).max(0) * percent / 100;
                let _ = self.bench().log.delete_records_before(offset(to));
                self.start = self.bench().log.log_start_offset().value();
            }
            Op::Retention { segments } => {
                let config = LogConfig {
                    delete: true,
                    retention_bytes: Some(segments * self.config.segment_bytes),
                    ..self.config.clone()
                };
                self.bench().log.set_config(config);
                let log = &self.bench().log;
                let _ = log.apply_retention(offset(self.must), time(self.now));
                self.start = log.log_start_offset().value();
                self.bench().log.set_config(self.config.clone());
            }
            Op::Truncate { percent } => self.truncate(*percent),
            Op::Checkpoint => {
                let _ = self.bench().dir.checkpoint();
            }
            Op::Policy { compact } => {
                self.config.compact = *compact;
                self.bench().log.set_config(self.config.clone());
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
        }
    }

    /// Sequence that the next batch of a producer must have.
    fn next_sequence(&self, producer: i64) -> i32 {
        self.history
            .iter()
            .rev()
            .filter(|sent| sent.producer == producer)
            .find_map(|sent| match &sent.content {
                Content::Data { sequence, .. } => Some(sequence + sent.count() as i32),
                Content::Marker { .. } => None,
            })
            .unwrap_or(0)
    }

    /// Something that a producer wrote is above the log start.
    fn is_known(&self, producer: i64) -> bool {
        let data = |sent: &&Sent| matches!(sent.content, Content::Data { .. });
        self.history
            .iter()
            .filter(data)
            .any(|sent| sent.producer == producer && sent.base + sent.count() > self.start)
    }

    fn append(&mut self, keys: &[(u8, bool)], size: usize, producer: i64, codec: Codec) {
        let sequence = self.next_sequence(producer);
        let records: Vec<Stored> = keys
            .iter()
            .map(|(key, value)| {
                self.tag += 1;
                Stored {
                    key: *key,
                    value: value.then_some(self.tag),
                    time: self.now + self.tag as i64 % 7,
                }
            })
            .collect();
        let transactional = (0..TRANSACTIONAL).contains(&producer);
        let sent = Sent {
            base: self.end,
            producer,
            content: Content::Data {
                sequence,
                transactional,
                records,
            },
            answered: false,
        };
        self.send(sent, size, codec);
    }

    fn end_transaction(&mut self, producer: i64, commit: bool) {
        let sent = Sent {
            base: self.end,
            producer,
            content: Content::Marker { commit },
            answered: false,
        };
        self.send(sent, 0, Codec::None);
    }

    fn send(&mut self, sent: Sent, size: usize, codec: Codec) {
        let mut bytes = encode(&sent, size, codec, self.now);
        let done = self
            .bench()
            .log
            .append(&mut bytes, leader(0), time(self.now));
        match done {
            // What was forgotten with deleted records may come to mind again.
            Ok(appended) if appended.duplicate => {
                assert!(
                    appended.last_offset.value() < self.start,
                    "appended: {appended:?}"
                );
            }
            Ok(appended) => {
                assert_eq!(appended.base_offset.value(), self.end, "offsets are dense");
                self.end += sent.count();
                self.history.push(sent);
            }
            Err(StorageError::DiskFull { .. }) => {}
            // All it wrote was deleted: a reset, or a crash, may have let it be forgotten.
            Err(StorageError::OutOfOrderSequence { .. }) if !self.is_known(sent.producer) => {
                let start = self.start;
                self.history
                    .retain(|old| old.producer != sent.producer || old.base + old.count() > start);
            }
            Err(_) if self.fs.is_crashed() => self.doubtful = Some(sent),
            Err(error) => assert!(self.bench().dir.is_offline(), "append failed: {error}"),
        }
    }

    fn clean(&mut self, map_bytes: usize, patience: u64) {
        let log = self.bench().log.clone();
        let durable = log.durable_end_offset();
        let stable = log
            .last_stable_bound(durable)
            .map_or(durable, |bound| bound.min(durable));
        let options = CleanOptions {
            map_bytes,
            buffer_bytes: 300,
            ..CleanOptions::default()
        };
        let cleaned = log.clean(stable, time(self.now), &options, &mut Patience(patience));
        self.touched = self.touched.max(stable.value());
        self.settled = self.settled.max(durable.value());
        if !matches!(&cleaned, Ok(cleaned) if cleaned.by == CleanedBy::Nothing) {
            self.note_answered();
        }
        match cleaned {
            Ok(cleaned) => {
                self.passes += usize::from(cleaned.by == CleanedBy::Done);
                self.dropped += cleaned.records_before - cleaned.records_after;
                if cleaned.by == CleanedBy::Done {
                    assert_eq!(
                        log.cleaned_up_to(),
                        cleaned.up_to.max(log.log_start_offset())
                    );
                }
            }
            Err(StorageError::DiskFull { .. }) => {}
            Err(error) => assert!(
                self.fs.is_crashed() || self.bench().dir.is_offline() || log.is_failed(),
                "cleaning failed: {error}"
            ),
        }
    }

    /// What has left the window of its producer is the cleaner's to take.
    fn note_answered(&mut self) {
        for producer in 0..4 {
            let data = self.history.iter_mut().rev().filter(|sent| {
                sent.producer == producer && matches!(sent.content, Content::Data { .. })
            });
            data.skip(5).for_each(|sent| sent.answered = true);
        }
    }

    fn truncate(&mut self, percent: i64) {
        // Below it a record may have gone for the sake of one that would be cut.
        let low = self.settled.max(self.start);
        let to = low + (self.end - low).max(0) * percent / 100;
        self.must = self.must.min(to);
        if self.bench().log.truncate_to(offset(to)).is_ok() {
            let end = self.bench().log.log_end_offset().value();
            assert!(end <= to.max(low));
            self.cut_history(end);
        } else {
            let cut = self.history.iter().rfind(|sent| sent.base <= to);
            self.must = self.must.min(cut.map_or(to, |sent| sent.base));
        }
    }

    fn cut_history(&mut self, end: i64) {
        self.history.retain(|sent| sent.base + sent.count() <= end);
        self.end = end;
        self.must = self.must.min(end);
    }

    fn recover(&mut self, crash: Crash) {
        self.fs.restart(crash);
        self.bench = None;
        let bench = Bench::on(self.fs.clone(), self.config.clone());
        assert_eq!(bench.log.damage(), [], "a crash is no damage");
        let end = bench.log.log_end_offset().value();
        assert!(end >= self.must, "lost: {end} of {}", self.must);
        assert!(end >= self.settled, "what was cleaned is durable");
        if let Some(doubtful) = self.doubtful.take().filter(|sent| sent.base < end) {
            self.history.push(doubtful);
        }
        self.cut_history(end);
        self.start = bench.log.log_start_offset().value();
        self.must = end;
        self.bench = Some(bench);
        self.offer_again();
    }

    /// The last batches of each producer are repeats: those that a client may still send.
    fn offer_again(&self) {
        for producer in 0..4 {
            let log = &self.bench().log;
            let sent = self
                .history
                .iter()
                .rev()
                .filter(|sent| sent.producer == producer)
                .filter(|sent| matches!(sent.content, Content::Data { .. }))
                .filter(|sent| sent.base + sent.count() > self.start);
            for sent in sent.take(5).filter(|sent| !sent.answered) {
                let mut bytes = encode(sent, 20, Codec::None, self.now);
                let answer = log.append(&mut bytes, leader(0), time(self.now)).unwrap();
                assert!(answer.duplicate, "{sent:?} was appended twice");
                assert_eq!(answer.base_offset.value(), sent.base);
            }
        }
    }

    /// Every record by its offset, and whether its transaction was aborted.
    fn known(&self) -> BTreeMap<i64, Known> {
        let mut known = BTreeMap::new();
        for (n, sent) in self.history.iter().enumerate() {
            let Content::Data {
                records,
                transactional,
                ..
            } = &sent.content
            else {
                continue;
            };
            let end = self
                .history
                .iter()
                .skip(n)
                .find_map(|later| match later.content {
                    Content::Marker { commit } if later.producer == sent.producer => Some(commit),
                    _ => None,
                });
            let aborted = *transactional && end == Some(false);
            for (offset, stored) in (sent.base..).zip(records) {
                let stored = stored.clone();
                known.insert(offset, Known { stored, aborted });
            }
        }
        known
    }

    fn check(&self, op: &Op) {
        let log = &self.bench().log;
        let known = self.known();
        let mut found: BTreeMap<i64, Stored> = BTreeMap::new();
        let mut committed: HashSet<i64> = HashSet::new();
        let mut aborts = log
            .aborted_transactions(offset(self.start), offset(self.end))
            .unwrap();
        aborts.sort_by_key(|txn| txn.first_offset);
        let mut aborts = aborts.into_iter().peekable();
        let mut aborting: HashSet<ProducerId> = HashSet::new();
        let mut from = self.start;
        let mut expected = i64::MIN;
        while from < self.end {
            let read = log.read(offset(from), offset(self.end), 400, true).unwrap();
            let slice = read.slice.expect("something is below the end");
            for item in BatchIter::new(slice.as_ref()) {
                let (header, batch) = item.unwrap();
                assert!(palisade_protocol::batch::verify_crc(batch));
                assert!(header.base_offset.value() >= expected, "offsets go back");
                expected = header.next_offset().value();
                while let Some(txn) = aborts.next_if(|t| t.first_offset <= header.last_offset()) {
                    aborting.insert(txn.producer_id);
                }
                let producer = header.producer_id;
                if header.is_control() {
                    let sent = self
                        .history
                        .iter()
                        .find(|s| s.base == header.base_offset.value());
                    let sent = sent.expect("no marker appears from nowhere");
                    assert_eq!(sent.producer, producer.value());
                    if matches!(sent.content, Content::Marker { commit: false }) {
                        aborting.remove(&producer);
                    }
                    continue;
                }
                let visible = !(header.is_transactional() && aborting.contains(&producer));
                for (at, stored) in decode(&header, batch) {
                    found.insert(at, stored);
                    if visible {
                        committed.insert(at);
                    }
                }
            }
            assert!(read.next_offset.value() > from);
            from = read.next_offset.value();
        }
        found.retain(|at, _| *at >= self.start);

        let mut last: BTreeMap<u8, (i64, bool)> = BTreeMap::new();
        for (at, known) in known.iter().rev() {
            let Known { stored, aborted } = known;
            let present = found.get(at);
            if let Some(present) = present {
                assert_eq!(present, stored, "record {at} has changed after {op:?}");
                assert_eq!(committed.contains(at), !aborted, "record {at} after {op:?}");
            }
            if *at < self.start {
                continue;
            }
            let newer = last.get(&stored.key).copied();
            if present.is_none() {
                assert!(*at < self.touched, "record {at} was never cleaned, {op:?}");
                // Kept where nothing has taken its place, but for a tombstone past its time.
                let expired =
                    stored.value.is_none() && stored.time + DELETE_RETENTION_MS <= self.now + 7;
                assert!(
                    *aborted || newer.is_some() || expired,
                    "record {at} of key {} is gone after {op:?}",
                    stored.key
                );
            } else if let Some((tombstone, false)) = newer {
                panic!("record {at} came back behind tombstone {tombstone} after {op:?}");
            }
            if !aborted {
                // What hides the older ones: a record, or a tombstone that has gone by itself.
                let hides = match (newer, present) {
                    (Some(newer), None) => newer,
                    (None, None) => (*at, false),
                    (_, Some(_)) => (*at, true),
                };
                last.insert(stored.key, hides);
            }
        }
        for at in found.keys() {
            assert!(known.contains_key(at), "record {at} was never stored");
        }
        self.check_positions();
    }

    /// A read may start anywhere.
    fn check_positions(&self) {
        let log = &self.bench().log;
        let step = ((self.end - self.start) / 9).max(1);
        let mut from = self.start;
        while from < self.end {
            let read = log.read(offset(from), offset(self.end), 1, true).unwrap();
            assert!(read.slice.is_some() && read.next_offset.value() > from);
            from += step;
        }
    }
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![
        Just(Crash::Kill),
        Just(Crash::PowerLoss),
        any::<u64>().prop_map(|seed| Crash::Torn { seed }),
    ]
}

fn codec() -> impl Strategy<Value = Codec> {
    prop_oneof![
        6 => Just(Codec::None),
        1 => Just(Codec::Gzip),
        1 => Just(Codec::Snappy),
        1 => Just(Codec::Lz4),
        1 => Just(Codec::Zstd),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let keys = prop::collection::vec((0..7u8, prop::bool::weighted(0.8)), 1..5);
    prop_oneof![
        30 => (keys, 0..120usize, -1..4i64, codec()).prop_map(|(keys, size, producer, codec)| {
            Op::Append { keys, size, producer, codec }
        }),
        8 => (0..TRANSACTIONAL, any::<bool>())
            .prop_map(|(producer, commit)| Op::EndTransaction { producer, commit }),
        12 => (prop_oneof![3 => Just(1 << 16), 1 => 0..400usize],
               prop_oneof![5 => Just(u64::MAX), 1 => 1..5000u64])
            .prop_map(|(map_bytes, patience)| Op::Clean { map_bytes, patience }),
        4 => (0..9000i64).prop_map(|ms| Op::Advance { ms }),
        14 => Just(Op::Pending),
        2 => (0..100i64).prop_map(|percent| Op::DeleteRecords { percent }),
        2 => (0..5u64).prop_map(|segments| Op::Retention { segments }),
        2 => (0..100i64).prop_map(|percent| Op::Truncate { percent }),
        2 => Just(Op::Checkpoint),
        2 => prop::bool::weighted(0.7).prop_map(|compact| Op::Policy { compact }),
        2 => Just(Op::Restart),
        2 => crash().prop_map(Op::Crash),
        3 => (0..60u64, crash())
            .prop_map(|(operations, crash)| Op::CrashAfter { operations, crash }),
        1 => (0..8u64).prop_map(|syncs| Op::FailSyncAfter { syncs }),
        1 => (0..12u64).prop_map(|growths| Op::RefuseGrowthAfter { growths }),
    ]
}

fn play(policy: FlushPolicy, ops: &[Op]) {
    let mut sim = Sim::new(policy);
    ops.iter().for_each(|op| sim.run(op));
    sim.run(&Op::Crash(Crash::PowerLoss));
}

/// Seeds of each of the two tests, unless PROPTEST_CASES says otherwise (10000 for a long look).
const CASES: u32 = 1500;

fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => usual.cases,
        None => CASES,
    };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..usual
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn only_what_was_replaced_goes(ops in prop::collection::vec(op(), 1..120)) {
        play(FlushPolicy::Ack, &ops);
    }

    #[test]
    fn without_syncs_too(ops in prop::collection::vec(op(), 1..120)) {
        play(FlushPolicy::Os, &ops);
    }
}
