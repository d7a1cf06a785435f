//! Epochs and timestamps that no library asks for, as Apache Kafka answers them.

use std::time::Duration;

use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use palisade_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use palisade_tests::check::eventually;
use palisade_tests::requests::{self, newest};
use palisade_tests::target::Target;
use palisade_tests::wire::Connection;

const TOPIC: &str = "odd";
const PATIENCE: Duration = Duration::from_secs(20);

/// A topic of one partition that holds a batch of three records at each of these times.
fn with_records(connection: &mut Connection, times: &[i64]) {
    let id = requests::create_topic(connection, TOPIC, 1, &[]).expect("a topic");
    for time in times {
        eventually("a leader", PATIENCE, || {
            let batch = requests::batch(Codec::None, &["value"; 3], *time);
            let answer = requests::produce(connection, TOPIC, id, -1, batch);
            let answer = answer.expect("an answer");
            requests::check(answer.error_code).map_err(|error| error.to_string())
        });
    }
}

/// Code, timestamp and offset.
fn list_offsets(connection: &mut Connection, timestamp: i64, epoch: i32) -> (ErrorCode, i64, i64) {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: TOPIC.into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: 0,
                current_leader_epoch: epoch,
                timestamp,
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let answer = connection.call(newest(ApiKey::ListOffsets), &request);
    let row = &answer.expect("an answer").topics[0].partitions[0];
    (row.error_code, row.timestamp, row.offset)
}

/// Code, epoch and end offset.
fn epoch_end(connection: &mut Connection, current: i32, epoch: i32) -> (ErrorCode, i32, i64) {
    let request = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: TOPIC.into(),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch: current,
                leader_epoch: epoch,
            }],
        }],
        ..OffsetForLeaderEpochRequest::default()
    };
    let answer = connection.call(newest(ApiKey::OffsetForLeaderEpoch), &request);
    let row = &answer.expect("an answer").topics[0].partitions[0];
    (row.error_code, row.leader_epoch, row.end_offset)
}

/// Only -1 says that the asker knows no epoch.
#[test]
fn negative_epochs_are_old_ones() {
    let target = Target::start();
    let mut connection = Connection::open(&target.certificate()).expect("a login");
    with_records(&mut connection, &[1000]);
    let fenced = ErrorCode::FENCED_LEADER_EPOCH;
    for epoch in [-2, i32::MIN] {
        assert_eq!(epoch_end(&mut connection, epoch, 0), (fenced, -1, -1));
        assert_eq!(list_offsets(&mut connection, -1, epoch), (fenced, -1, -1));
    }
    assert_eq!(epoch_end(&mut connection, -1, 0), (ErrorCode::NONE, 0, 3));
    assert_eq!(
        epoch_end(&mut connection, -1, -1),
        (ErrorCode::NONE, -1, -1)
    );
    assert_eq!(
        list_offsets(&mut connection, -1, -1),
        (ErrorCode::NONE, -1, 3)
    );
    // It ended where the first one that is known begins.
    for epoch in [-2, i32::MIN] {
        assert_eq!(
            epoch_end(&mut connection, -1, epoch),
            (ErrorCode::NONE, epoch, 0)
        );
    }
}

#[test]
fn the_largest_timestamp_of_records_without_any() {
    let target = Target::start();
    let mut connection = Connection::open(&target.certificate()).expect("a login");
    with_records(&mut connection, &[-1, -1]);
    let found = list_offsets(&mut connection, -3, -1);
    assert_eq!(found, (ErrorCode::NONE, -1, 0));
}
