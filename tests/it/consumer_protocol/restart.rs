//! The node dies or stops under its members; they go on where they were.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use palisade_tests::check::tell;
use palisade_tests::node::Node;
use palisade_tests::wire::Connection;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{PARTITIONS, PATIENCE, coordinator, describe, produce, unrest};
use crate::rdkafka::{config, create_topic};

const GROUP: &str = "restarted";

#[test]
fn members_survive_the_node() {
    let mut node = Node::start();
    let access = node.scram("SCRAM-SHA-512");
    create_topic(&access, GROUP, PARTITIONS);
    drop(coordinator(&access, GROUP));
    let members: Vec<BaseConsumer> = (0..3)
        .map(|number| {
            let mut config = config(&access);
            config
                .set("group.id", GROUP)
                .set("group.protocol", "consumer")
                .set("auto.offset.reset", "earliest")
                .set("auto.commit.interval.ms", "200")
                .set("reconnect.backoff.max.ms", "200");
            if number == 0 {
                config.set("group.instance.id", "first");
            }
            let member: BaseConsumer = config.create().expect("a consumer");
            member.subscribe(&[GROUP]).expect("subscribed");
            member
        })
        .collect();
    let mut seen = BTreeSet::new();
    let mut epochs = Vec::new();
    for round in 0..3 {
        produce(&access, GROUP, round * 60..(round + 1) * 60);
        let mut connection = Connection::open(&access).expect("a login");
        let deadline = Instant::now() + PATIENCE;
        loop {
            for member in &members {
                if let Some(Ok(message)) = member.poll(Duration::from_millis(20)) {
                    let value = message.payload().expect("a value").to_vec();
                    let value = String::from_utf8(value).expect("text");
                    seen.insert(value.parse::<usize>().expect("a number"));
                }
            }
            let group = describe(&mut connection, GROUP);
            let unrest = unrest(&group, 3, 0);
            if unrest.is_none() && seen.len() == (round + 1) * 60 {
                epochs.push(group.group_epoch);
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "round {round}: {} seen: {unrest:?}",
                seen.len()
            );
        }
        drop(connection);
        match round {
            0 => node.kill(),
            _ => drop(node.terminate()),
        }
        node.run();
    }
    let read = seen.len();
    tell(
        "members_survive_the_node",
        &format!("1 kill, 2 stops, {read} records read by 3 members, at group epochs {epochs:?}"),
    );
    // Nobody was lost, so nothing had to be assigned anew.
    assert!(
        epochs.windows(2).all(|pair| pair[0] == pair[1]),
        "{epochs:?}"
    );
}
