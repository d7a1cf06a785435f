//! What changes on the disk behind the node's back: it finds out by itself, says where and what to do, refuses
//! what is damaged, and serves all the rest.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palisade_protocol::ErrorCode;
use palisade_protocol::batch::BatchIter;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::messages::find_coordinator::FindCoordinatorRequest;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use palisade_protocol::uuid::Uuid;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::wire::Connection;

const TOPIC: &str = "damaged";
const RECORDS: i64 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

fn value(offset: i64) -> Vec<u8> {
    format!("{offset} {}", "x".repeat(1000)).into_bytes()
}

fn produce(connection: &mut Connection, id: Uuid, offset: i64) {
    let batch = requests::batch(Codec::None, &[value(offset)], 1_700_000_000_000);
    let answer = requests::produce(connection, TOPIC, id, -1, batch).expect("an answer");
    assert_eq!(
        (answer.error_code, answer.base_offset),
        (ErrorCode::NONE, offset)
    );
}

fn login(node: &Node) -> Connection {
    Connection::open(&node.certificate()).expect("a login")
}

/// The segments that are sealed, in the order of their offsets.
fn sealed(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the log");
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("a file").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "seal")
        })
        .map(|path| path.with_extension("log"))
        .collect();
    found.sort();
    found
}

/// Flips a bit in the middle of a segment, and says which offset the batch begins with that it belongs to.
fn flip(segment: &Path) -> i64 {
    let bytes = fs::read(segment).expect("a segment");
    let mut at = 0;
    for batch in BatchIter::new(&bytes) {
        let (header, batch) = batch.expect("a whole batch");
        if at + batch.len() > bytes.len() / 2 {
            let place = at + batch.len() / 2;
            let file = File::options()
                .write(true)
                .open(segment)
                .expect("a segment");
            file.write_all_at(&[bytes[place] ^ 0x04], place as u64)
                .expect("a byte can be written");
            return header.base_offset.value();
        }
        at += batch.len();
    }
    unreachable!("some batch is in the middle");
}

/// Reads all records one fetch after another; the offsets that are refused.
fn refused(connection: &mut Connection, id: Uuid) -> Vec<i64> {
    let end = requests::latest_offset(connection, TOPIC).expect("an offset");
    let (mut next, mut refused) = (0, Vec::new());
    while next < end {
        let data = requests::fetch(connection, TOPIC, id, next, 1000).expect("an answer");
        if data.error_code == ErrorCode::CORRUPT_MESSAGE {
            refused.push(next);
            next += 1;
            continue;
        }
        requests::check(data.error_code).expect("records");
        let found = requests::values(&data, next).expect("whole records");
        assert!(!found.is_empty(), "nothing at {next}");
        for (offset, read) in found {
            assert_eq!((offset, read), (next, value(next)));
            next += 1;
        }
    }
    refused
}

fn wait_for_error(node: &Node, segment: &Path, offset: i64) {
    let path = segment.to_str().expect("a plain path").to_owned();
    let from = format!("from={offset} ");
    node.process().wait_for_line(PATIENCE, |line| {
        line.contains(" ERROR ")
            && line.contains("records are damaged on disk and refused to readers")
            && line.contains(&path)
            && line.contains(&from)
    });
}

#[test]
fn flipped_bits_are_found_told_and_refused() {
    let mut node = Node::prepare();
    node.set("palisade.log.scrub.interval.ms", "50");
    node.run();
    let mut connection = login(&node);
    let configs = [("segment.bytes", "16384"), ("retention.ms", "-1")];
    let id = requests::create_topic(&mut connection, TOPIC, 1, &configs).expect("a topic");
    (0..RECORDS).for_each(|offset| produce(&mut connection, id, offset));
    let dir = node.dir().join(format!("data/{TOPIC}-0"));
    let segments = eventually("sealed segments", PATIENCE, || match sealed(&dir) {
        found if found.len() >= 4 => Ok(found),
        found => Err(format!("{found:?}")),
    });
    let process = node.process();
    process.wait_for_line(PATIENCE, |line| line.contains("read again, all verify"));
    node.terminate();

    let whole = fs::read(&segments[1]).expect("a segment");
    let first = flip(&segments[1]);
    node.allow("records are damaged on disk and refused to readers")
        .allow("sealed segments read again, some are damaged")
        .run();
    wait_for_error(&node, &segments[1], first);
    let mut connection = login(&node);
    assert_eq!(refused(&mut connection, id), [first]);

    // And under the eyes of a running node.
    let whole_too = fs::read(&segments[2]).expect("a segment");
    let second = flip(&segments[2]);
    wait_for_error(&node, &segments[2], second);
    assert_eq!(refused(&mut connection, id), [first, second]);
    produce(&mut connection, id, RECORDS);
    node.terminate();

    // The next start knows it before it serves, whether it would scrub or not.
    node.set("palisade.log.scrub.interval.ms", "0");
    node.allow("log recovered with losses").run();
    let mut connection = login(&node);
    assert_eq!(refused(&mut connection, id), [first, second]);
    produce(&mut connection, id, RECORDS + 1);
    node.kill();

    // The operator puts copies in their place.
    fs::write(&segments[1], whole).expect("a segment");
    fs::write(&segments[2], whole_too).expect("a segment");
    node.run();
    let mut connection = login(&node);
    assert_eq!(refused(&mut connection, id), Vec::<i64>::new());
}

/// Changes the leader epoch of the batch at `offset`, which no checksum covers.
fn change_epoch(segment: &Path, offset: i64, mask: u8) {
    let bytes = fs::read(segment).expect("a segment");
    let mut at = 0;
    for batch in BatchIter::new(&bytes) {
        let (header, batch) = batch.expect("a whole batch");
        if header.base_offset.value() == offset {
            // The last byte of the epoch.
            let place = at + 15;
            let file = File::options().write(true).open(segment);
            let written =
                file.and_then(|file| file.write_all_at(&[bytes[place] ^ mask], place as u64));
            return written.expect("a byte can be written");
        }
        at += batch.len();
    }
    unreachable!("some batch begins at {offset}");
}

/// In the segment that is appended to, which has no seal, and in what was written since it was last known to be
/// synced: neighbours and the metadata tell which batch it is.
#[test]
fn a_changed_leader_epoch_after_a_kill_costs_its_batch() {
    let mut node = Node::prepare();
    node.set("log.flush.offset.checkpoint.interval.ms", "3600000");
    node.run();
    let mut connection = login(&node);
    let id = requests::create_topic(&mut connection, TOPIC, 1, &[]).expect("a topic");
    (0..10).for_each(|offset| produce(&mut connection, id, offset));
    node.kill();
    node.run();
    let mut connection = login(&node);
    (10..20).for_each(|offset| produce(&mut connection, id, offset));
    node.kill();

    let segment = node
        .dir()
        .join(format!("data/{TOPIC}-0/00000000000000000000.log"));
    let changed = [11, 14, 19];
    for (offset, mask) in changed.into_iter().zip([0x02, 0x10, 0x40]) {
        change_epoch(&segment, offset, mask);
    }
    node.allow("records are damaged on disk and refused to readers")
        .allow("log recovered with losses");
    for round in 0..3 {
        node.run();
        let mut connection = login(&node);
        assert_eq!(refused(&mut connection, id), changed, "start {round}");
        produce(&mut connection, id, 20 + round);
        match round {
            0 => node.kill(),
            _ => drop(node.terminate()),
        }
    }
}

/// Files beside the logs: what is needed stops the start, what is not is told of; each time with what to do.
#[test]
fn damaged_files_are_named_with_what_to_do() {
    let mut node = Node::prepare();
    node.run();
    let mut connection = login(&node);
    let id = requests::create_topic(&mut connection, TOPIC, 1, &[]).expect("a topic");
    produce(&mut connection, id, 0);
    node.terminate();
    let data = node.dir().join("data");
    let flipped = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[0] ^= 1;
        Some(bytes)
    };
    let copy = "restore the data directory from a copy";
    type Change<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<u8>>;
    let changes: [(&str, Change<'_>, &str, &str); 6] = [
        (
            "raft-hard-state",
            &flipped,
            "is damaged (wrong checksum)",
            copy,
        ),
        (
            "raft-snapshot",
            &|bytes| Some(bytes[..3].to_vec()),
            "is damaged (no checksum line)",
            copy,
        ),
        (
            "raft-synced",
            &|bytes| Some(vec![0; bytes.len()]),
            "is damaged (no slot verifies)",
            copy,
        ),
        ("raft-synced", &|_| None, "the metadata is incomplete", copy),
        (
            "raft-snapshot",
            &|_| None,
            "the metadata is incomplete",
            copy,
        ),
        (
            "meta.properties",
            &flipped,
            "wrong checksum",
            "put a copy of it in its place",
        ),
    ];
    for (name, change, wrong, advice) in changes {
        let file = data.join(name);
        let whole = fs::read(&file).expect("a file of the node's");
        match change(&whole) {
            Some(bytes) => fs::write(&file, bytes).expect("written"),
            None => fs::remove_file(&file).expect("removed"),
        }
        let said = node.refuses_to_start();
        for part in [name, wrong, advice] {
            assert!(said.contains(part), "{part:?} is not in:\n{said}");
        }
        fs::write(&file, whole).expect("written");
    }

    for name in ["log-start-offset-checkpoint", "recovery-point-checkpoint"] {
        fs::remove_file(data.join(name)).expect("removed");
        node.allow("checkpoint not read").run();
        let process = node.process();
        process.wait_for_line(PATIENCE, |line| {
            line.contains("checkpoint not read") && line.contains(name) && line.contains("a copy")
        });
        let mut connection = login(&node);
        assert_eq!(refused(&mut connection, id), Vec::<i64>::new());
        node.terminate();
    }

    let file = data.join(format!("{TOPIC}-0/partition.metadata"));
    let whole = fs::read(&file).expect("a file of the node's");
    fs::write(&file, flipped(&whole).expect("bytes")).expect("written");
    node.allow("partition.metadata does not read").run();
    let mut connection = login(&node);
    requests::create_topic(&mut connection, "other", 1, &[]).expect("a topic");
    let said = node.terminate();
    let told = said.iter().filter(|line| line.contains("does not read"));
    assert_eq!(told.count(), 1, "{said:#?}");
    fs::write(&file, whole).expect("written");
    node.run();
    assert_eq!(refused(&mut login(&node), id), Vec::<i64>::new());
}

const GROUP: &str = "damaged-group";
const GROUPS: &str = "__consumer_offsets";

fn commit(connection: &mut Connection, offset: i64) {
    let request = OffsetCommitRequest {
        group_id: GROUP.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: offset,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let answer = connection.call(8, &request).expect("an answer");
    let code = answer.topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::NONE, "offset {offset}");
}

/// Waits until the coordinator says what is committed.
fn committed(connection: &mut Connection) -> i64 {
    let request = OffsetFetchRequest {
        group_id: GROUP.into(),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: TOPIC.into(),
            partition_indexes: vec![0],
        }]),
        ..OffsetFetchRequest::default()
    };
    eventually("a committed offset", PATIENCE, || {
        let answer = connection.call(7, &request).expect("an answer");
        match answer.error_code {
            ErrorCode::NONE => Ok(answer.topics[0].partitions[0].committed_offset),
            code => Err(code.name().to_owned()),
        }
    })
}

/// No checksum covers it, and no offset of a group depends on it.
#[test]
fn a_flipped_leader_epoch_takes_no_groups_away() {
    let mut node = Node::prepare();
    node.set("offsets.topic.num.partitions", "1").run();
    let mut connection = login(&node);
    requests::create_topic(&mut connection, TOPIC, 1, &[]).expect("a topic");
    let find = FindCoordinatorRequest {
        key: GROUP.into(),
        ..FindCoordinatorRequest::default()
    };
    let found = connection.call(3, &find).expect("an answer");
    assert_eq!(found.error_code, ErrorCode::NONE);
    assert_eq!(committed(&mut connection), -1, "the coordinator serves");
    (1..=3).for_each(|offset| commit(&mut connection, offset));
    node.kill();

    let log = node.dir().join(format!("data/{GROUPS}-0"));
    let log = log.join("00000000000000000000.log");
    let bytes = fs::read(&log).expect("a segment");
    let last = BatchIter::new(&bytes).last().expect("a batch");
    let (header, batch) = last.expect("a whole batch");
    let (damaged, place) = (header.base_offset.value(), bytes.len() - batch.len() + 15);
    let file = File::options().write(true).open(&log);
    file.and_then(|file| file.write_all_at(&[bytes[place] ^ 0x40], place as u64))
        .expect("a byte can be written");
    node.allow("records are damaged on disk and refused to readers")
        .allow("log recovered with losses")
        .allow("leader epochs of batches are damaged");
    // What is committed since lies behind the damage.
    for offset in 3..6 {
        node.run();
        let mut connection = login(&node);
        assert_eq!(committed(&mut connection), offset);
        node.process().wait_for_line(PATIENCE, |line| {
            line.contains(" WARN ")
                && line.contains("leader epochs of batches are damaged")
                && line.contains("partition=0 ranges=1")
        });
        let request = requests::fetch_request(GROUPS, Uuid::default(), damaged, 0);
        let answer = connection.call(12, &request).expect("an answer");
        let code = answer.responses[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::CORRUPT_MESSAGE);
        commit(&mut connection, offset + 1);
        node.kill();
    }
}
