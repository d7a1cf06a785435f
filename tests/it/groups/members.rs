//! Three members of three makes: arrival, departure, death, commit, restart, resume.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use palisade_tests::access::Access;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::process::{Process, Stream};
use palisade_tests::tools::{self, Java, Need};
use palisade_tests::wire::Connection;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{PATIENCE, committed, coordinator, describe, until_stable};
use crate::rdkafka::{config, create_topic};

const GROUP: &str = "three-makes";
const TOPIC: &str = "three-makes";
const PARTITIONS: i32 = 6;
/// How long kcat may be silent before it counts as dead.
const SESSION_MS: &str = "6000";

/// Who has seen which values, over all that ever were members.
struct Readers {
    own: BaseConsumer,
    seen: BTreeSet<String>,
    processes: Vec<Process>,
}

impl Readers {
    /// Lets everyone read until all values below `count` were seen.
    fn read_until(&mut self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.seen.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} values", self.seen.len());
            self.look();
        }
    }

    fn look(&mut self) {
        if let Some(Ok(message)) = self.own.poll(Duration::from_millis(50)) {
            let value = message.payload().expect("a value");
            let value = String::from_utf8(value.to_vec()).expect("text");
            self.seen.insert(value);
        }
        for process in &self.processes {
            self.seen.extend(process.stream(Stream::Out));
        }
    }

    /// Waits for the group while the own member goes on.
    fn until_stable(&mut self, access: &Access, members: usize) {
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut connection = Connection::open(access).expect("a login");
                until_stable(&mut connection, GROUP, members);
                done.store(true, std::sync::atomic::Ordering::Release);
            });
            while !waiting.is_finished() {
                self.look();
            }
        });
        assert!(done.load(std::sync::atomic::Ordering::Acquire));
    }
}

fn produce(access: &Access, values: std::ops::Range<usize>) {
    let producer: BaseProducer = config(access).create().expect("a producer");
    for value in values {
        let payload = value.to_string();
        let partition = i32::try_from(value).expect("few") % PARTITIONS;
        let record = BaseRecord::<(), _>::to(TOPIC)
            .partition(partition)
            .payload(&payload);
        let sent = producer.send(record).map_err(|(error, _)| error);
        sent.expect("queued");
    }
    producer.flush(PATIENCE).expect("delivered");
}

#[test]
fn members_of_three_makes() {
    let needs = [Need::Kcat, Need::Java(Java::V4)];
    if !tools::have("members_of_three_makes", &needs) {
        return;
    }
    let mut node = Node::start();
    let access = node.scram("SCRAM-SHA-512");
    create_topic(&access, TOPIC, PARTITIONS);
    let mut connection = coordinator(&access, GROUP);

    let own: BaseConsumer = config(&access)
        .set("group.id", GROUP)
        .set("auto.offset.reset", "earliest")
        .set("auto.commit.interval.ms", "200")
        .set("partition.assignment.strategy", "range")
        .set("reconnect.backoff.max.ms", "200")
        .create()
        .expect("a consumer");
    own.subscribe(&[TOPIC]).expect("subscribed");
    let mut readers = Readers {
        own,
        seen: BTreeSet::new(),
        processes: Vec::new(),
    };
    produce(&access, 0..300);
    readers.until_stable(&access, 1);
    readers.read_until(300);

    // Two more arrive.
    let mut kcat = tools::kcat(&access, &["-G", GROUP, "-q", "-u"]);
    kcat.args(["-X", "auto.offset.reset=earliest"])
        .args(["-X", "partition.assignment.strategy=range"])
        .args(["-X", "auto.commit.interval.ms=200"])
        .args(["-X", &format!("session.timeout.ms={SESSION_MS}"), TOPIC]);
    readers.processes.push(Process::spawn("kcat -G", &mut kcat));
    readers.until_stable(&access, 2);
    let dir = paths::scratch();
    let properties = access.write_java(Java::V4.store(), dir.path(), "consumer.properties");
    let mut java = Java::V4.command();
    java.arg(Java::V4.console_consumer())
        .args(["--bootstrap-server", &access.bootstrap])
        .args(["--command-config", &tools::text(&properties)])
        .args(["--group", GROUP, "--topic", TOPIC, "--from-beginning"])
        .args(["--command-property", "auto.commit.interval.ms=200"]);
    readers
        .processes
        .push(Process::spawn("console consumer", &mut java));
    readers.until_stable(&access, 3);
    produce(&access, 300..900);
    readers.read_until(900);
    assert_eq!(describe(&mut connection, GROUP).members.len(), 3);

    // One dies without a word, one leaves.
    readers.processes[0].kill();
    readers.until_stable(&access, 2);
    readers.processes[1].terminate();
    readers.until_stable(&access, 1);
    produce(&access, 900..1200);
    readers.read_until(1200);

    // The node goes and comes back; the member goes on where it was.
    drop(connection);
    node.terminate();
    node.run();
    let mut connection = Connection::open(&access).expect("a login");
    produce(&access, 1200..1500);
    readers.read_until(1500);
    readers.until_stable(&access, 1);
    let ends = vec![1500 / i64::from(PARTITIONS); 6];
    eventually("everything to be committed", PATIENCE, || {
        readers.look();
        let found = committed(&mut connection, GROUP, TOPIC, PARTITIONS)?;
        match found == ends {
            true => Ok(()),
            false => Err(format!("{found:?}")),
        }
    });
}
