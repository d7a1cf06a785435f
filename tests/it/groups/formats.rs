//! What lies in `__consumer_offsets`, read by Kafka's own formatters.

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::requests;
use palisade_tests::tools::{self, Java, Need};
use serde_json::Value;

use super::{PATIENCE, coordinator, joining};

const GROUP: &str = "formats";
const TOPIC: &str = "formats";

#[test]
fn kafkas_formatters_read_the_topic_of_groups() {
    if !tools::have("kafkas_formatters", &[Need::Java(Java::V4)]) {
        return;
    }
    let mut node = Node::prepare();
    node.set("group.initial.rebalance.delay.ms", "0");
    node.run();
    let access = node.certificate();
    let mut connection = coordinator(&access, GROUP);
    requests::create_topic(&mut connection, TOPIC, 1, &[]).expect("a topic");
    let joined = connection.call(3, &joining(GROUP)).expect("an answer");
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let request = SyncGroupRequest {
        group_id: GROUP.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: vec![0, 0, 0, 0, 0, 0, 255, 255, 255, 255].into(),
        }],
        ..SyncGroupRequest::default()
    };
    let answer = connection.call(3, &request).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::NONE);
    for (version, retention_time_ms) in [(8, -1), (4, 86_400_000)] {
        let request = OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: joined.generation_id,
            member_id: joined.member_id.clone(),
            retention_time_ms,
            topics: vec![OffsetCommitRequestTopic {
                name: TOPIC.into(),
                partitions: vec![OffsetCommitRequestPartition {
                    committed_offset: 41 + i64::from(version),
                    committed_metadata: Some("beside it".into()),
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let answer = connection.call(version, &request).expect("an answer");
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    }

    let dir = paths::scratch();
    let properties = access.write_java(Java::V4.store(), dir.path(), "consumer.properties");
    let read = |formatter: &str| -> Vec<Value> {
        let mut command = Java::V4.command();
        command
            .arg(Java::V4.console_consumer())
            .args(["--bootstrap-server", &access.bootstrap])
            .args(["--command-config", &tools::text(&properties)])
            .args(["--topic", "__consumer_offsets", "--from-beginning"])
            .args(["--timeout-ms", "10000", "--formatter", formatter]);
        let (_, output, all) = tools::attempt(formatter, &mut command, PATIENCE);
        // The records follow each other without a line's end between them.
        let records = serde_json::Deserializer::from_str(&output).into_iter();
        let records: Vec<Value> = records.map_while(Result::ok).collect();
        assert!(!records.is_empty(), "{all}");
        let own = records.into_iter().filter(|record| {
            let group = &record["key"]["data"]["group"];
            group.as_str() == Some(GROUP)
        });
        own.collect()
    };
    let offsets = read("org.apache.kafka.tools.consumer.OffsetsMessageFormatter");
    let value = &offsets[0]["value"];
    assert_eq!(value["version"], 4, "{offsets:#?}");
    assert_eq!(value["data"]["offset"], 49);
    assert_eq!(value["data"]["metadata"], "beside it");
    let value = &offsets[1]["value"];
    assert_eq!(value["version"], 1, "{offsets:#?}");
    assert_eq!(value["data"]["offset"], 45);
    let groups = read("org.apache.kafka.tools.consumer.GroupMetadataMessageFormatter");
    let value = &groups[0]["value"];
    assert_eq!(value["version"], 3, "{groups:#?}");
    assert_eq!(value["data"]["protocolType"], "consumer");
    assert_eq!(value["data"]["members"][0]["memberId"], *joined.member_id);
}
