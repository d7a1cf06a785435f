//! Classic and native librdkafka members in one group, while it turns from one protocol to the other and back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use palisade_protocol::api::ApiKey;
use palisade_protocol::messages::describe_groups::DescribeGroupsRequest;
use palisade_tests::access::Access;
use palisade_tests::requests::newest;
use palisade_tests::target::Target;
use palisade_tests::wire::Connection;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{PARTITIONS, PATIENCE, coordinator, describe, produce, unrest};
use crate::rdkafka::{config, create_topic};

const GROUP: &str = "migrating";

fn member(access: &Access, protocol: &str) -> BaseConsumer {
    let mut config = config(access);
    config
        .set("group.id", GROUP)
        .set("group.protocol", protocol)
        .set("auto.offset.reset", "earliest")
        .set("auto.commit.interval.ms", "200");
    if protocol == "classic" {
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("heartbeat.interval.ms", "500");
    }
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&[GROUP]).expect("subscribed");
    consumer
}

/// A classic group's state and members, `Dead` for any other.
fn classic(connection: &mut Connection) -> (String, usize) {
    let request = DescribeGroupsRequest {
        groups: vec![GROUP.into()],
        ..DescribeGroupsRequest::default()
    };
    let version = newest(ApiKey::DescribeGroups).min(5);
    let answer = connection.call(version, &request).expect("an answer");
    let group = &answer.groups[0];
    (group.group_state.to_string(), group.members.len())
}

struct Story<'a> {
    access: &'a Access,
    connection: Connection,
    members: Vec<BaseConsumer>,
    seen: BTreeSet<usize>,
    produced: usize,
}

impl Story<'_> {
    /// Goes on until the group is as wanted and everything that was produced has been seen.
    fn until(&mut self, what: &str, mut wanted: impl FnMut(&mut Connection) -> Option<String>) {
        produce(self.access, GROUP, self.produced..self.produced + 60);
        self.produced += 60;
        let deadline = Instant::now() + PATIENCE;
        loop {
            for member in &self.members {
                if let Some(Ok(message)) = member.poll(Duration::from_millis(20)) {
                    let value = message.payload().expect("a value");
                    let value = std::str::from_utf8(value).expect("text");
                    self.seen.insert(value.parse().expect("a number"));
                }
            }
            let fault = wanted(&mut self.connection);
            if fault.is_none() && self.seen.len() == self.produced {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let seen = self.seen.len();
            assert!(
                !left.is_zero(),
                "{what}: {seen} of {}: {fault:?}",
                self.produced
            );
        }
    }

    fn mixed(&mut self, natives: usize, classics: usize) {
        let what = format!("{natives} native and {classics} classic");
        self.until(&what, |connection| {
            unrest(&describe(connection, GROUP), natives, classics)
        });
    }

    fn classic(&mut self, members: usize) {
        self.until(&format!("{members} classic"), |connection| {
            let found = classic(connection);
            (found != ("Stable".to_owned(), members)).then(|| format!("{found:?}"))
        });
    }
}

#[test]
fn a_group_migrates_and_comes_back() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    create_topic(&access, GROUP, PARTITIONS);
    let mut story = Story {
        access: &access,
        connection: coordinator(&access, GROUP),
        members: Vec::new(),
        seen: BTreeSet::new(),
        produced: 0,
    };
    for _ in 0..2 {
        story.members.push(member(&access, "classic"));
    }
    story.classic(2);
    // Rolling upgrade: natives come, classic ones go.
    story.members.push(member(&access, "consumer"));
    story.mixed(1, 2);
    story.members.remove(0);
    story.mixed(1, 1);
    story.members.push(member(&access, "consumer"));
    story.mixed(2, 1);
    story.members.remove(0);
    story.mixed(2, 0);
    // And back.
    story.members.push(member(&access, "classic"));
    story.mixed(2, 1);
    story.members.remove(0);
    story.mixed(1, 1);
    story.members.remove(0);
    story.classic(1);
}
