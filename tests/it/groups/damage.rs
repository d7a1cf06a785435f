//! A bit that flips in the log of groups: no wrong offset is served, other groups are, and the way out that the
//! node names is one.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::wire::Connection;

use super::{PATIENCE, committed, coordinator};

const TOPIC: &str = "group-damage";
/// Two groups of different partitions.
const GROUP: &str = "group-damage-a";
const OTHER: &str = "group-damage-b";
/// Not to be found in the log by chance.
const COMMITTED: i64 = 0x0123_4567_89AB;

fn commit(connection: &mut Connection, group: &str, offset: i64) {
    let request = OffsetCommitRequest {
        group_id: group.to_owned().into(),
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
    assert_eq!(code, ErrorCode::NONE);
}

/// The segment that holds the commit, and where the offset is in it.
fn find(data: &Path) -> (PathBuf, u64) {
    let value = COMMITTED.to_be_bytes();
    let logs = fs::read_dir(data).expect("the data directory");
    let logs = logs.map(|entry| entry.expect("an entry").path());
    let mut found = logs
        .map(|log| log.join("00000000000000000000.log"))
        .filter(|log| log.display().to_string().contains("__consumer_offsets-"))
        .filter_map(|log| {
            let bytes = fs::read(&log).ok()?;
            let place = bytes.windows(8).position(|window| *window == value)?;
            Some((log, place as u64))
        });
    found.next().expect("the commit is in one of them")
}

/// Waits until an answer says where a group is.
fn until_at(connection: &mut Connection, group: &str, offset: i64) {
    eventually(
        &format!("{group} at {offset}"),
        PATIENCE,
        || match committed(connection, group, TOPIC, 1)? {
            found if found == [offset] => Ok(()),
            found => panic!("{group} is at {found:?}, not at {offset}"),
        },
    );
}

#[test]
fn a_flipped_bit_is_told_and_can_be_given_up() {
    let mut node = Node::prepare();
    node.run();
    let access = node.certificate();
    let mut connection = coordinator(&access, GROUP);
    requests::create_topic(&mut connection, TOPIC, 1, &[]).expect("a topic");
    commit(&mut connection, GROUP, COMMITTED);
    commit(&mut connection, OTHER, 5);
    node.terminate();

    let (segment, place) = find(&node.dir().join("data"));
    let file = File::options().write(true).open(&segment);
    let first = COMMITTED.to_be_bytes()[0];
    file.and_then(|file| file.write_all_at(&[first ^ 0x40], place))
        .expect("a byte can be written");
    node.allow("groups not loaded").run();
    node.process().wait_for_line(PATIENCE, |line| {
        line.contains(" ERROR ")
            && line.contains("groups not loaded")
            && line.contains("the batch at offset 0 is damaged (wrong checksum)")
            && line.contains("restore the partition's directory from a copy, or give up")
            && line.contains("accept-loss")
    });
    let mut connection = Connection::open(&access).expect("a login");
    eventually("no offset", PATIENCE, || {
        match committed(&mut connection, GROUP, TOPIC, 1) {
            // What OffsetFetch says for COORDINATOR_NOT_AVAILABLE, as the original does.
            Err(code) if code == "NOT_COORDINATOR" => Ok(()),
            Err(code) => Err(code),
            Ok(found) => panic!("{found:?} was never committed"),
        }
    });
    until_at(&mut connection, OTHER, 5);
    node.terminate();

    // As the line says.
    let log = segment.parent().expect("a directory");
    fs::rename(log, node.dir().join("damaged")).expect("a directory can be moved");
    fs::create_dir(log).expect("a directory can be made");
    fs::write(log.join("accept-loss"), "").expect("a file can be written");
    node.allow("loss accepted, the log goes on empty").run();
    let mut connection = Connection::open(&access).expect("a login");
    until_at(&mut connection, GROUP, -1);
    commit(&mut connection, GROUP, 9);
    until_at(&mut connection, GROUP, 9);
    until_at(&mut connection, OTHER, 5);
}
