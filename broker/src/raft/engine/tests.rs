//! The engine on disks that lose, refuse and forget.

use palisade_storage::fs::{Crash, FaultyFs};

use super::super::memory_log::MemoryLog;
use super::super::testing::{DIR, open_on_disk, open_on_memory, say, words};
use super::*;

const NEVER: u64 = u64::MAX;

#[test]
fn a_sole_voter_leads_at_once_and_applies() {
    let (fs, log) = (FaultyFs::new(), MemoryLog::new());
    let mut engine = open_on_memory(&fs, &log, NEVER).unwrap();
    let role = engine.machine().role.unwrap();
    assert!(role.is_leader);
    assert_eq!((role.leader, role.term), (Some(BrokerId::new(0)), 1));
    for word in ["a", "b", "c"] {
        say(&mut engine, word).unwrap();
    }
    assert_eq!(words(&engine), ["a", "b", "c"]);
    assert_eq!(engine.machine().acknowledged.len(), 3);
    engine.tick();
    engine.drive(TimestampMs::new(0)).unwrap();
    assert!(
        engine.machine().role.unwrap().is_leader,
        "check_quorum counts the node itself"
    );
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    let (fs, log) = (FaultyFs::new(), MemoryLog::new());
    let mut engine = open_on_memory(&fs, &log, NEVER).unwrap();
    say(&mut engine, "a").unwrap();
    say(&mut engine, "b").unwrap();
    drop(engine);
    log.crash();
    fs.restart(Crash::PowerLoss);
    let engine = open_on_memory(&fs, &log, NEVER).unwrap();
    assert_eq!(words(&engine), ["a", "b"]);
    assert_eq!(
        engine.machine().role.unwrap().term,
        2,
        "each life has a term of its own"
    );
}

#[test]
fn a_snapshot_shortens_the_log_and_restores() {
    let (fs, log) = (FaultyFs::new(), MemoryLog::new());
    let mut engine = open_on_memory(&fs, &log, 10).unwrap();
    for word in ["aaaa", "bbbb", "cccc", "dddd"] {
        say(&mut engine, word).unwrap();
    }
    assert_eq!(
        log.first_index(),
        5,
        "three words and the leader's entry are in the snapshot"
    );
    drop(engine);
    fs.restart(Crash::PowerLoss);
    let mut engine = open_on_memory(&fs, &log, NEVER).unwrap();
    assert_eq!(words(&engine), ["aaaa", "bbbb", "cccc", "dddd"]);
    say(&mut engine, "e").unwrap();
    engine.take_snapshot().unwrap();
    assert!(log.last_index() < log.first_index());
    drop(engine);
    fs.restart(Crash::Kill);
    let engine = open_on_memory(&fs, &log, NEVER).unwrap();
    assert_eq!(words(&engine).len(), 5);
}

#[test]
fn a_clean_stop_remembers_the_commit() {
    let (fs, log) = (FaultyFs::new(), MemoryLog::new());
    let mut engine = open_on_memory(&fs, &log, NEVER).unwrap();
    say(&mut engine, "a").unwrap();
    engine.close().unwrap();
    drop(engine);
    let files = EngineFiles::new(&fs.as_fs(), Path::new(DIR));
    assert_eq!(files.recover().unwrap().hard_state.unwrap().commit, 2);
}

#[test]
fn lost_and_missing_parts_are_told() {
    let (fs, log) = (FaultyFs::new(), MemoryLog::new());
    let mut engine = open_on_memory(&fs, &log, NEVER).unwrap();
    say(&mut engine, "a").unwrap();
    engine.close().unwrap();
    drop(engine);
    let error = open_on_memory(&fs, &MemoryLog::new(), NEVER).err().unwrap();
    assert!(
        matches!(error, RaftError::LostEntries { last: 0, commit: 2 }),
        "{error}"
    );

    let fs = fs.as_fs();
    fs.remove_file(&Path::new(DIR).join("raft-snapshot"))
        .unwrap();
    let files = EngineFiles::new(&fs, Path::new(DIR));
    let recovered = files.recover().unwrap();
    let options = EngineOptions {
        node_id: BrokerId::new(0),
        initial_voters: vec![BrokerId::new(0)],
        snapshot_bytes: NEVER,
    };
    let log = Box::new(MemoryLog::new());
    let outbox = Box::new(super::super::transport::NoPeers);
    let machine = super::super::testing::Words::default();
    let error = Engine::open(&options, files, recovered, log, outbox, machine)
        .err()
        .unwrap();
    assert!(matches!(error, RaftError::Incomplete(_)), "{error}");
}

#[test]
fn a_full_disk_blocks_and_heals() {
    let fs = FaultyFs::new();
    let (mut engine, _directory) = open_on_disk(&fs, NEVER).unwrap();
    say(&mut engine, "a").unwrap();
    fs.set_capacity(fs.used());
    let big = "x".repeat(4 << 20);
    let mut refused = None;
    for _ in 0..64 {
        if let Err(error) = say(&mut engine, &big) {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("a full file system refuses sooner or later");
    assert!(refused.is_passing(), "{refused}");
    assert!(engine.is_blocked());
    assert!(engine.drive(TimestampMs::new(0)).is_err());
    let applied = engine.machine().applied.len();
    fs.set_capacity(1 << 40);
    engine.drive(TimestampMs::new(0)).unwrap();
    assert!(!engine.is_blocked());
    assert_eq!(engine.machine().applied.len(), applied + 1);
    say(&mut engine, "b").unwrap();
    assert_eq!(words(&engine).last().unwrap(), "b");
}

#[test]
fn descriptors_that_run_out_block_and_heal() {
    let fs = FaultyFs::new();
    let (mut engine, _directory) = open_on_disk(&fs, NEVER).unwrap();
    say(&mut engine, "a").unwrap();
    fs.set_no_descriptors(true);
    let big = "x".repeat(4 << 20);
    let refused = (0..64).find_map(|_| say(&mut engine, &big).err());
    let refused = refused.expect("a segment ends sooner or later");
    assert!(refused.is_passing(), "{refused}");
    assert!(engine.is_blocked());
    fs.set_no_descriptors(false);
    engine.drive(TimestampMs::new(0)).unwrap();
    say(&mut engine, "b").unwrap();
    assert_eq!(words(&engine).last().unwrap(), "b");
}

#[test]
fn a_snapshot_that_finds_no_descriptor_is_done_without() {
    let fs = FaultyFs::new();
    let (mut engine, _directory) = open_on_disk(&fs, 1).unwrap();
    fs.set_no_descriptors(true);
    say(&mut engine, "a").unwrap();
    fs.set_no_descriptors(false);
    say(&mut engine, "b").unwrap();
    assert_eq!(words(&engine), ["a", "b"]);
}

/// One life: opens, says words until the disk dies or all are said; answers those acknowledged.
fn live(fs: &FaultyFs, from: usize, to: usize) -> Vec<String> {
    let Ok((mut engine, _directory)) = open_on_disk(fs, 40) else {
        return Vec::new();
    };
    for number in from..to {
        if say(&mut engine, &format!("word-{number:04}")).is_err() {
            break;
        }
    }
    let text = |word: &Vec<u8>| String::from_utf8(word.clone()).unwrap();
    engine.machine().acknowledged.iter().map(text).collect()
}

/// Kills at every operation on the disk: nothing acknowledged is lost, and nothing is invented.
#[test]
fn nothing_acknowledged_is_lost_wherever_the_disk_stops() {
    let probe = FaultyFs::new();
    live(&probe, 0, 12);
    let operations = probe.operations();
    assert!(operations > 20, "{operations}");
    for crash_at in 1..operations {
        for crash in [
            Crash::Kill,
            Crash::PowerLoss,
            Crash::Torn { seed: crash_at },
        ] {
            let fs = FaultyFs::new();
            fs.crash_at(crash_at);
            let acknowledged = live(&fs, 0, 12);
            fs.restart(crash);
            let (engine, _directory) = open_on_disk(&fs, 40)
                .unwrap_or_else(|error| panic!("crash {crash:?} at {crash_at}: {error}"));
            let found = words(&engine);
            assert!(
                found.starts_with(&acknowledged),
                "crash {crash:?} at {crash_at}: {acknowledged:?} became {found:?}"
            );
            assert!(found.len() <= acknowledged.len() + 1, "{found:?}");
        }
    }
}

#[test]
fn a_failed_sync_is_never_followed_by_an_acknowledgement() {
    let probe = FaultyFs::new();
    live(&probe, 0, 6);
    for sync in 1..probe.syncs() {
        let fs = FaultyFs::new();
        fs.fail_sync_at(sync);
        let acknowledged = live(&fs, 0, 6);
        fs.restart(Crash::PowerLoss);
        let (engine, _directory) =
            open_on_disk(&fs, 40).unwrap_or_else(|error| panic!("sync {sync} failed: {error}"));
        let found = words(&engine);
        assert!(
            found.starts_with(&acknowledged),
            "sync {sync}: {acknowledged:?}, {found:?}"
        );
    }
}

#[test]
fn a_missing_mark_and_a_term_never_entered_are_told() {
    let lived = || {
        let fs = FaultyFs::new();
        let (mut engine, directory) = open_on_disk(&fs, NEVER).unwrap();
        say(&mut engine, "a").unwrap();
        drop((engine, directory));
        fs
    };
    let fs = lived();
    fs.as_fs()
        .remove_file(&Path::new(DIR).join("raft-synced"))
        .unwrap();
    let error = open_on_disk(&fs, NEVER).err().unwrap();
    assert!(matches!(error, RaftError::Incomplete(_)), "{error}");

    // The term stands in the batch header where no checksum covers it.
    let fs = lived();
    let log = Path::new(DIR).join("__cluster_metadata-0/00000000000000000000.log");
    let last = fs.content(&log).unwrap().len() / 2;
    assert!(last > 61, "two entries");
    let header = fs.content(&log).unwrap();
    let first_length = 12 + usize::from(header[11]);
    fs.flip(&log, first_length + 13, 1);
    let error = open_on_disk(&fs, NEVER).err().unwrap();
    assert!(matches!(error, RaftError::Damaged { .. }), "{error}");
}
