//! What the tests of several modules share.

use std::path::Path;
use std::sync::Arc;

use palisade_protocol::batch::{BatchBuilder, Codec};
use parking_lot::Mutex;

use crate::config::{Background, LogConfig, LogDirOptions};
use crate::fs::FaultyFs;
use crate::log::Log;
use crate::log_dir::{LogDir, LogSpec};
use crate::meta::CLEAN_FILE;
use crate::observer::LogObserver;
use crate::recovery::RecoveryReport;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs, TopicId};
use crate::{AppendAs, Appended, FlushPolicy, StorageError};

pub(crate) const DIR: &str = "/logs";
pub(crate) const LOG: &str = "t-0";

pub(crate) fn offset(value: i64) -> Offset {
    Offset::new(value)
}

pub(crate) fn time(value: i64) -> TimestampMs {
    TimestampMs::new(value)
}

pub(crate) fn leader(epoch: i32) -> AppendAs {
    AppendAs::Leader {
        epoch: LeaderEpoch::new(epoch),
    }
}

/// A batch of `count` records of `size` bytes that name `tag`, at `timestamp`.
pub(crate) fn batch(tag: u64, count: usize, size: usize, timestamp: i64) -> Vec<u8> {
    build(BatchBuilder::new(Codec::None), tag, count, size, timestamp)
}

/// The same with a producer.
pub(crate) fn produced(tag: u64, count: usize, id: i64, epoch: i16, sequence: i32) -> Vec<u8> {
    let builder = BatchBuilder::new(Codec::None).producer(
        ProducerId::new(id),
        ProducerEpoch::new(epoch),
        sequence,
    );
    build(builder, tag, count, 20, 1000)
}

pub(crate) fn build(
    mut builder: BatchBuilder,
    tag: u64,
    count: usize,
    size: usize,
    timestamp: i64,
) -> Vec<u8> {
    for n in 0..count {
        let mut value = vec![(tag % 251) as u8; size.max(16)];
        value[..8].copy_from_slice(&tag.to_be_bytes());
        value[8..16].copy_from_slice(&(n as u64).to_be_bytes());
        builder
            .add(time(timestamp), None, Some(&value), &[])
            .unwrap();
    }
    builder.build().unwrap().to_vec()
}

/// The tags of the batches in `bytes`, each with its base offset and record count.
pub(crate) fn tags(bytes: &[u8]) -> Vec<(i64, i32, u64)> {
    palisade_protocol::batch::BatchIter::new(bytes)
        .map(|found| {
            let (header, batch) = found.unwrap();
            assert!(
                palisade_protocol::batch::verify_crc(batch),
                "a served batch verifies"
            );
            let records = &batch[palisade_protocol::batch::BATCH_HEADER_LEN..];
            let mut records =
                palisade_protocol::batch::RecordIter::new(records, header.records_count);
            let value = records.next().unwrap().unwrap().value.unwrap();
            let tag = u64::from_be_bytes(value[..8].try_into().unwrap());
            (header.base_offset.value(), header.records_count, tag)
        })
        .collect()
}

/// Everything between the log start and its end.
pub(crate) fn read_all(log: &Log) -> Vec<(i64, i32, u64)> {
    let mut found = Vec::new();
    let mut from = log.log_start_offset();
    while from < log.log_end_offset() {
        let read = log.read(from, log.log_end_offset(), 1 << 20, true).unwrap();
        let slice = read.slice.expect("a read below the end returns something");
        found.extend(tags(slice.as_ref()));
        assert!(read.next_offset > from);
        from = read.next_offset;
    }
    found
}

pub(crate) fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 2048,
        index_interval_bytes: 200,
        retention_ms: None,
        file_delete_delay_ms: 0,
        flush_policy: FlushPolicy::Ack,
        allocate_ahead: false,
        ..LogConfig::default()
    }
}

pub(crate) fn manual() -> LogDirOptions {
    LogDirOptions {
        ballast_bytes: 0,
        reserve_bytes: Some(0),
        background: Background::Manual,
        ..LogDirOptions::default()
    }
}

/// Remembers what it is told.
#[derive(Debug, Default)]
pub(crate) struct Ear {
    pub(crate) durable: Mutex<Option<Offset>>,
    pub(crate) failed: Mutex<bool>,
    pub(crate) started: Mutex<Option<Offset>>,
}

impl LogObserver for Ear {
    fn durable(&self, end: Offset) {
        *self.durable.lock() = Some(end);
    }
    fn failed(&self) {
        *self.failed.lock() = true;
    }
    fn log_start_advanced(&self, start: Offset) {
        *self.started.lock() = Some(start);
    }
}

/// A directory with one log on the double, without threads.
pub(crate) struct Bench {
    pub(crate) fs: FaultyFs,
    pub(crate) dir: LogDir,
    pub(crate) log: Arc<Log>,
    pub(crate) ear: Arc<Ear>,
    pub(crate) report: RecoveryReport,
    /// A clean stop came before it.
    pub(crate) was_clean: bool,
    /// What its opener knew of the leader epoch.
    leader_epoch: Option<LeaderEpoch>,
}

impl Bench {
    pub(crate) fn new(config: LogConfig) -> Self {
        Self::on(FaultyFs::new(), config)
    }

    pub(crate) fn on(fs: FaultyFs, config: LogConfig) -> Self {
        Self::try_on(fs, config).unwrap()
    }

    /// Opened by one who knows that the partition is in leader epoch `epoch`.
    pub(crate) fn led(fs: FaultyFs, config: LogConfig, epoch: i32) -> Self {
        Self::open(fs, config, Some(LeaderEpoch::new(epoch))).unwrap()
    }

    pub(crate) fn try_on(fs: FaultyFs, config: LogConfig) -> Result<Self, StorageError> {
        Self::open(fs, config, None)
    }

    fn open(
        fs: FaultyFs,
        config: LogConfig,
        leader_epoch: Option<LeaderEpoch>,
    ) -> Result<Self, StorageError> {
        let marker = Path::new(DIR).join(CLEAN_FILE);
        let was_clean = fs.content(&marker).is_some();
        let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual())?;
        let ear = Arc::new(Ear::default());
        let spec = LogSpec {
            dir_name: LOG.into(),
            topic_id: TopicId::from_bytes([5; 16]),
            leader_epoch,
        };
        let (log, report) = dir.open_log(spec, config, ear.clone(), time(0))?;
        Ok(Self {
            fs,
            dir,
            log,
            ear,
            report,
            was_clean,
            leader_epoch,
        })
    }

    /// Appends as leader of epoch 0.
    pub(crate) fn put(&self, batch: Vec<u8>) -> Appended {
        self.try_put(batch).unwrap()
    }

    pub(crate) fn put_as(&self, mut batch: Vec<u8>, how: AppendAs) -> Appended {
        self.log.append(&mut batch, how, time(1000)).unwrap()
    }

    pub(crate) fn try_put(&self, mut batch: Vec<u8>) -> Result<Appended, StorageError> {
        self.log.append(&mut batch, leader(0), time(1000))
    }

    /// Appends `count` one-record batches tagged from `first` on.
    pub(crate) fn fill(&self, first: u64, count: u64) {
        (first..first + count).for_each(|tag| {
            self.put(batch(tag, 1, 100, 1000 + tag as i64));
        });
        self.dir.run_pending();
    }

    /// Stops cleanly and opens again.
    pub(crate) fn reopen(self, config: LogConfig) -> Self {
        self.dir.run_pending();
        self.dir.close(7).unwrap();
        let (fs, leader_epoch) = (self.fs.clone(), self.leader_epoch);
        drop(self);
        Self::open(fs, config, leader_epoch).unwrap()
    }

    /// Crashes and opens again.
    pub(crate) fn crash(self, crash: crate::fs::Crash, config: LogConfig) -> Self {
        let (fs, leader_epoch) = (self.fs.clone(), self.leader_epoch);
        fs.restart(crash);
        drop(self);
        Self::open(fs, config, leader_epoch).unwrap()
    }

    /// Path of a file of the log.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        Path::new(DIR).join(LOG).join(name)
    }
}
