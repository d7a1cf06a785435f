//! Commits that no batch can hold, judged against Kafka too.

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::text::Str;
use palisade_tests::check::eventually;
use palisade_tests::requests;
use palisade_tests::target::Target;
use palisade_tests::wire::Connection;

use super::{PATIENCE, committed};

const TOPIC: &str = "wide";
/// Texts of 4096 bytes beside the offsets of so many partitions are more than a batch may have.
const PARTITIONS: i32 = 300;

/// Commits offset 5 to the first partitions, with the longest text; the codes that came.
fn commit(connection: &mut Connection, partitions: i32) -> Vec<ErrorCode> {
    let text = Str::from("x".repeat(4096));
    let rows = (0..partitions).map(|index| OffsetCommitRequestPartition {
        partition_index: index,
        committed_offset: 5,
        committed_metadata: Some(text.clone()),
        ..OffsetCommitRequestPartition::default()
    });
    let request = OffsetCommitRequest {
        group_id: TOPIC.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: rows.collect(),
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let answer = connection.call(8, &request).expect("an answer");
    let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let mut codes: Vec<_> = rows.map(|row| row.error_code).collect();
    codes.dedup();
    codes
}

#[test]
fn a_commit_larger_than_a_batch() {
    let target = Target::start();
    let access = target.certificate();
    let mut connection = crate::consumer_protocol::coordinator(&access, TOPIC);
    requests::create_topic(&mut connection, TOPIC, PARTITIONS, &[]).expect("a topic");
    eventually("a commit", PATIENCE, || {
        match commit(&mut connection, 1).as_slice() {
            [ErrorCode::NONE] => Ok(()),
            codes => Err(format!("{codes:?}")),
        }
    });
    // Not INVALID_COMMIT_OFFSET_SIZE, which Kafka has not sent since its coordinator of 4.0.
    let codes = commit(&mut connection, PARTITIONS);
    assert_eq!(codes, [ErrorCode::UNKNOWN_SERVER_ERROR]);
    let found = committed(&mut connection, TOPIC, TOPIC, 2);
    assert_eq!(found, Ok(vec![5, -1]), "all of it or nothing");
    assert_eq!(commit(&mut connection, 200), [ErrorCode::NONE]);
    let found = committed(&mut connection, TOPIC, TOPIC, 2);
    assert_eq!(found, Ok(vec![5, 5]));
}
