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

fn member(access: &Access, group: &str, protocol: &str, instance: Option<&str>) -> BaseConsumer {
    let mut config = config(access);
    config
        .set("group.id", group)
        .set("group.protocol", protocol)
        .set("auto.offset.reset", "earliest")
        .set("auto.commit.interval.ms", "200");
    if protocol == "classic" {
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("heartbeat.interval.ms", "500");
    }
    if let Some(instance) = instance {
        config.set("group.instance.id", instance);
    }
    if let (Some(_), "classic") = (instance, protocol) {
        // Who waits for the end of a session waits in vain.
        config.set("session.timeout.ms", "280000");
    }
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&[group]).expect("subscribed");
    consumer
}

/// A classic group's state and members, `Dead` for any other.
fn classic(connection: &mut Connection, group: &'static str) -> (String, usize) {
    let request = DescribeGroupsRequest {
        groups: vec![group.into()],
        ..DescribeGroupsRequest::default()
    };
    let version = newest(ApiKey::DescribeGroups).min(5);
    let answer = connection.call(version, &request).expect("an answer");
    let group = &answer.groups[0];
    (group.group_state.to_string(), group.members.len())
}

struct Story<'a> {
    access: &'a Access,
    group: &'static str,
    connection: Connection,
    members: Vec<BaseConsumer>,
    seen: BTreeSet<usize>,
    produced: usize,
}

impl<'a> Story<'a> {
    fn begin(access: &'a Access, group: &'static str) -> Self {
        create_topic(access, group, PARTITIONS);
        Self {
            access,
            group,
            connection: coordinator(access, group),
            members: Vec::new(),
            seen: BTreeSet::new(),
            produced: 0,
        }
    }

    fn join(&mut self, protocol: &str, instance: Option<&str>) {
        let member = member(self.access, self.group, protocol, instance);
        self.members.push(member);
    }

    /// Ends the oldest member.
    fn leave(&mut self) {
        self.members.remove(0);
    }

    /// Goes on until the group is as wanted and everything that was produced has been seen.
    fn until(&mut self, what: &str, mut wanted: impl FnMut(&mut Connection) -> Option<String>) {
        produce(self.access, self.group, self.produced..self.produced + 60);
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
        let group = self.group;
        self.until(&what, |connection| {
            unrest(&describe(connection, group), natives, classics)
        });
    }

    fn classic(&mut self, members: usize) {
        let group = self.group;
        self.until(&format!("{members} classic"), |connection| {
            let found = classic(connection, group);
            (found != ("Stable".to_owned(), members)).then(|| format!("{found:?}"))
        });
    }
}

#[test]
fn a_group_migrates_and_comes_back() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let mut story = Story::begin(&access, "migrating");
    for _ in 0..2 {
        story.join("classic", None);
    }
    story.classic(2);
    // Rolling upgrade: natives come, classic ones go.
    story.join("consumer", None);
    story.mixed(1, 2);
    story.leave();
    story.mixed(1, 1);
    story.join("consumer", None);
    story.mixed(2, 1);
    story.leave();
    story.mixed(2, 0);
    // And back.
    story.join("classic", None);
    story.mixed(2, 1);
    story.leave();
    story.mixed(1, 1);
    story.leave();
    story.classic(1);
}

/// Each takes the place of the one before it under its instance id, though a classic one does not say that it goes.
#[test]
fn static_members_migrate_one_by_one() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let mut story = Story::begin(&access, "migrating-statics");
    let instances = ["first", "second"].map(Some);
    for instance in instances {
        story.join("classic", instance);
    }
    story.classic(2);
    for (natives, instance) in instances.into_iter().enumerate() {
        story.leave();
        story.join("consumer", instance);
        story.mixed(natives + 1, 1 - natives);
    }
    story.leave();
    story.join("classic", instances[0]);
    story.mixed(1, 1);
}
