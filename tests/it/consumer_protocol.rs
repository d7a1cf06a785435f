//! Consumer groups of the protocol of KIP-848: members of several makes, expressions, and groups that change their
//! protocol while members come and go.

mod breath;
mod clients;
mod conversion;
mod migration;
mod patterns;
mod restart;
mod rights;
mod settings;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_protocol::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, DescribedGroup,
};
use palisade_tests::access::Access;
use palisade_tests::requests;
use palisade_tests::wire::Connection;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::rdkafka::config;

const PATIENCE: Duration = Duration::from_secs(90);
const PARTITIONS: i32 = 6;

/// Opens a connection, and has the topic of groups made.
pub(crate) fn coordinator(access: &Access, group: &str) -> Connection {
    let mut connection = Connection::open(access).expect("a login");
    requests::await_coordinators(&mut connection, group, PATIENCE);
    connection
}

fn describe(connection: &mut Connection, group: &str) -> DescribedGroup {
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![group.to_owned().into()],
        ..ConsumerGroupDescribeRequest::default()
    };
    let mut answer = connection.call(1, &request).expect("an answer");
    answer.groups.remove(0)
}

/// What is wrong with a group that should be stable, with so many members of each kind and all partitions assigned.
fn unrest(group: &DescribedGroup, natives: usize, classics: usize) -> Option<String> {
    let count = |kind| {
        group
            .members
            .iter()
            .filter(|member| member.member_type == kind)
            .count()
    };
    let mut owners = BTreeMap::new();
    for member in &group.members {
        for topic in &member.assignment.topic_partitions {
            for partition in &topic.partitions {
                let other = owners.insert((topic.topic_id, *partition), member.member_id.clone());
                assert_eq!(other, None, "two owners: {group:?}");
            }
        }
    }
    let expected = (1, natives, classics);
    let rests = usize::from(group.group_state == "Stable" && owners.len() == 6);
    ((rests, count(1), count(0)) != expected).then(|| format!("{group:?}"))
}

fn produce(access: &Access, topic: &str, values: std::ops::Range<usize>) {
    let producer: BaseProducer = config(access).create().expect("a producer");
    for value in values {
        let payload = value.to_string();
        let partition = i32::try_from(value).expect("few") % PARTITIONS;
        let record = BaseRecord::<(), _>::to(topic)
            .partition(partition)
            .payload(&payload);
        let sent = producer.send(record).map_err(|(error, _)| error);
        sent.expect("queued");
    }
    producer.flush(PATIENCE).expect("delivered");
}
