//! A machine that keeps words, and a member of a group of one whose disk can fail.

use std::path::Path;
use std::sync::Arc;

use palisade_protocol::types::{BrokerId, TimestampMs};
use palisade_storage::fs::{FaultyFs, Fs};
use palisade_storage::{LogDir, LogDirOptions};

use super::RaftError;
use super::codec::{Decoder, Encoder};
use super::command::{Machine, MachineError, Proposer, RoleChange};
use super::disk_log::DiskLog;
use super::engine::{Engine, EngineFiles, EngineOptions};
use super::log::EntryLog;
use super::memory_log::MemoryLog;
use super::transport::NoPeers;

/// Where the files are.
pub(crate) const DIR: &str = "/data";

/// Keeps every word applied, and which of its own were.
#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) applied: Vec<Vec<u8>>,
    pub(crate) acknowledged: Vec<Vec<u8>>,
    pub(crate) role: Option<RoleChange>,
    proposed: Vec<u64>,
    last_index: u64,
}

impl Machine for Words {
    type Request = Vec<u8>;

    fn restore(&mut self, index: u64, _term: u64, snapshot: &[u8]) -> Result<(), MachineError> {
        let mut input = Decoder::new(snapshot);
        self.applied = input.list("words", |input| Ok(input.bytes("word")?.to_vec()))?;
        self.last_index = index;
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.list(self.applied.iter(), |out, word| out.bytes(word));
        out.finish()
    }

    fn apply(&mut self, index: u64, _term: u64, data: &[u8]) -> Result<(), MachineError> {
        assert_eq!(index, self.last_index + 1);
        self.last_index = index;
        if !data.is_empty() {
            self.applied.push(data.to_vec());
            if self.proposed.contains(&index) {
                self.acknowledged.push(data.to_vec());
            }
        }
        Ok(())
    }

    fn applied(&mut self, _proposer: &mut Proposer<'_>) {}

    fn role_changed(&mut self, role: RoleChange) {
        self.role = Some(role);
    }

    fn handle(&mut self, request: Vec<u8>, proposer: &mut Proposer<'_>) {
        self.proposed.extend(proposer.propose(request));
    }
}

pub(crate) fn now() -> TimestampMs {
    TimestampMs::new(1_700_000_000_000)
}

fn options(snapshot_bytes: u64) -> EngineOptions {
    let node_id = BrokerId::new(0);
    EngineOptions {
        node_id,
        initial_voters: vec![node_id],
        snapshot_bytes,
    }
}

/// Opens a member whose small files are on `fs` and whose log is in memory.
pub(crate) fn open_on_memory(
    fs: &FaultyFs,
    log: &MemoryLog,
    snapshot_bytes: u64,
) -> Result<Engine<Words>, RaftError> {
    let fs: Arc<dyn Fs> = fs.as_fs();
    if !fs.exists(Path::new(DIR)).expect("the test's disk") {
        fs.create_dir(Path::new(DIR)).expect("the test's disk");
        fs.sync_dir(Path::new("/")).expect("the test's disk");
    }
    let files = EngineFiles::new(&fs, Path::new(DIR));
    let recovered = files.recover()?;
    elect(
        &options(snapshot_bytes),
        files,
        recovered,
        Box::new(log.clone()),
    )
}

/// Opens a member that has all on `fs`; the directory is returned to be kept open with it.
pub(crate) fn open_on_disk(
    fs: &FaultyFs,
    snapshot_bytes: u64,
) -> Result<(Engine<Words>, LogDir), RaftError> {
    let directory = LogDir::open(
        Path::new(DIR),
        fs.as_fs(),
        LogDirOptions {
            ballast_bytes: 0,
            ..LogDirOptions::default()
        },
    )?;
    let files = EngineFiles::new(&fs.as_fs(), Path::new(DIR));
    let recovered = files.recover()?;
    let (log, _, _) = DiskLog::open(&directory, &fs.as_fs(), &recovered, now())?;
    let engine = elect(&options(snapshot_bytes), files, recovered, Box::new(log))?;
    Ok((engine, directory))
}

fn elect(
    options: &EngineOptions,
    files: EngineFiles,
    recovered: super::engine::Recovered,
    log: Box<dyn EntryLog>,
) -> Result<Engine<Words>, RaftError> {
    let mut engine = Engine::open(
        options,
        files,
        recovered,
        log,
        Box::new(NoPeers),
        Words::default(),
    )?;
    engine.campaign_if_sole()?;
    engine.drive(now())?;
    Ok(engine)
}

/// Proposes a word and drives until nothing is left.
pub(crate) fn say(engine: &mut Engine<Words>, word: &str) -> Result<(), RaftError> {
    engine.handle(word.as_bytes().to_vec());
    engine.drive(now())
}

/// The words applied, as text.
pub(crate) fn words(engine: &Engine<Words>) -> Vec<String> {
    let text = |word: &Vec<u8>| String::from_utf8(word.clone()).expect("words are text");
    engine.machine().applied.iter().map(text).collect()
}
