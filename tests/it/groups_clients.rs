//! Consumer groups of every client that people use: three members come, go and die, and nothing is lost.
//!
//! A checker reads the whole history of each group: see `palisade_tests::history`.

use palisade_tests::members::Party;
use palisade_tests::members::driver::{Driver, Seat};
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Java};

use crate::rdkafka::create_topic;

const PARTITIONS: i32 = 6;
/// Records of each part of the story, per group.
const RECORDS: u64 = 300;

/// Quick to notice a member's arrival and death. The defaults wait for 45 s.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.consumer.min.session.timeout.ms", "6000"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
];

fn party(test: &str, drivers: &[Driver], protocols: &[&'static str]) -> Option<(Target, Party)> {
    let needs: Vec<_> = drivers.iter().filter_map(|driver| driver.need()).collect();
    if !tools::have(test, &needs) {
        return None;
    }
    let target = Target::start_with(SETTINGS);
    let access = match target {
        // Debian's librdkafka sends half a nonce in SCRAM, which Apache Kafka refuses since 4.0.
        Target::Apache(_) if drivers.contains(&Driver::Kcat) => target.certificate(),
        _ => target.scram("SCRAM-SHA-512"),
    };
    let seats: Vec<_> = protocols
        .iter()
        .filter(|protocol| **protocol != "consumer" || target.serves_consumer_protocol())
        .map(|protocol| Seat::new(test, protocol))
        .collect();
    for seat in &seats {
        create_topic(&access, &seat.topic, PARTITIONS);
    }
    Some((target, Party::new(access, PARTITIONS, seats)))
}

/// Join, rebalance on arrival, departure and death, commit, restart, resume. `drivers` of the first three members.
fn story(test: &str, [a, b, c]: [Driver; 3], protocols: &[&'static str]) {
    let Some((_target, mut party)) = party(test, &[a, b, c], protocols) else {
        return;
    };
    party.join("a", a);
    party.produce(RECORDS);
    party.await_owners(&["a"]);
    party.await_consumed();

    party.join("b", b);
    party.join("c", c);
    party.produce(RECORDS);
    party.await_owners(&["a", "b", "c"]);
    party.produce(RECORDS);
    party.await_consumed();
    party.committed();

    party.close("b");
    party.await_owners(&["a", "c"]);
    // Some of these lie with the member that dies, read or not.
    party.produce(RECORDS);
    party.kill("c");
    party.await_owners(&["a"]);
    party.await_consumed();
    // What the dead had read but not committed is read again.
    party.await_committed();
    party.close("a");

    party.produce(RECORDS);
    let committed = party.committed();
    party.join("d", b);
    party.await_owners(&["d"]);
    party.await_consumed();
    for (group, committed) in committed {
        assert_eq!(
            party.history(&group).first_read_by("d"),
            committed,
            "{group}: a restart resumes where the group had committed"
        );
    }
    party.close("d");
    party.await_committed();
    party.judge();
}

#[test]
fn java_4() {
    let protocols = ["range", "cooperative-sticky", "consumer"];
    story("java-4", [Driver::Java(Java::V4); 3], &protocols);
}

#[test]
fn java_2_8() {
    let protocols = ["range", "cooperative-sticky"];
    story("java-2.8", [Driver::Java(Java::V28); 3], &protocols);
}

#[test]
fn rdkafka() {
    let protocols = ["range", "cooperative-sticky", "consumer"];
    story("rdkafka", [Driver::Rdkafka; 3], &protocols);
}

#[test]
fn kcat() {
    story("kcat", [Driver::Kcat; 3], &["range"]);
}

#[test]
fn kafka_python_2_0_2() {
    story(
        "python-2.0.2",
        [Driver::Python("python-2.0.2"); 3],
        &["range"],
    );
}

#[test]
fn kafka_python_newest() {
    story("python-new", [Driver::Python("python-new"); 3], &["range"]);
}

#[test]
fn kafkajs() {
    story("kafkajs", [Driver::Kafkajs; 3], &["range"]);
}

#[test]
fn franz_go() {
    let protocols = ["range", "cooperative-sticky", "consumer"];
    story("franz-go", [Driver::Franz; 3], &protocols);
}

#[test]
fn sarama() {
    story("sarama", [Driver::Sarama; 3], &["range"]);
}

/// One group whose members are of three makes: each makes the assignments in turn.
#[test]
fn java_librdkafka_and_franz_go_together() {
    let makes = [Driver::Java(Java::V4), Driver::Rdkafka, Driver::Franz];
    story("mixed", makes, &["range"]);
}

/// A group moves from the classic protocol to the consumer protocol and back, member by member, while it reads.
#[test]
fn classic_and_consumer_protocol_in_one_group() {
    let java = Driver::Java(Java::V4);
    let Some((target, mut party)) = party("migration", &[java], &["range"]) else {
        return;
    };
    if !target.serves_consumer_protocol() {
        return;
    }
    party.join("a", java);
    party.join("b", Driver::Rdkafka);
    party.produce(RECORDS);
    party.await_owners(&["a", "b"]);
    party.await_consumed();

    party.join_by("c", java, "consumer");
    party.produce(RECORDS);
    party.await_owners(&["a", "b", "c"]);
    party.produce(RECORDS);
    party.await_consumed();

    party.close("a");
    party.close("b");
    party.join_by("d", Driver::Rdkafka, "consumer");
    party.produce(RECORDS);
    party.await_owners(&["c", "d"]);
    party.await_consumed();

    party.join("e", java);
    party.await_owners(&["c", "d", "e"]);
    party.close("c");
    party.kill("d");
    party.produce(RECORDS);
    party.await_owners(&["e"]);
    party.await_consumed();
    party.await_committed();
    party.close("e");
    party.judge();
}
