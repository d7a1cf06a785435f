//! One member of each of several groups by the rdkafka crate, which tells its history on standard output.
//!
//! Arguments: librdkafka's settings as JSON, the member's name, and for each group its name, its topic and the
//! protocol: range, cooperative-sticky or consumer. SIGTERM closes all members in order.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use palisade_tests::history;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

/// Records between two commits while they come without a pause.
const COMMIT_EVERY: u32 = 50;

struct Teller {
    group: String,
    member: String,
    topic: String,
    /// The next offsets of what was handed out and is not committed yet.
    done: Mutex<BTreeMap<i32, i64>>,
}

impl Teller {
    fn say(&self, event: &str, fields: Value) {
        let mut line = json!({
            "at": history::now(), "group": self.group, "member": self.member, "event": event,
        });
        if let (Some(line), Some(fields)) = (line.as_object_mut(), fields.as_object()) {
            line.extend(fields.clone());
        }
        // The lock of standard output keeps lines of several members whole.
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .expect("the harness reads");
    }

    fn done(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        self.done.lock().expect("no member panicked")
    }

    /// Commits what was handed out.
    fn commit(&self, consumer: &BaseConsumer<Teller>) {
        let mut done = self.done();
        if done.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &*done {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))
                .expect("a valid offset");
        }
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => {
                let offsets: Vec<_> = done.iter().collect();
                self.say("committed", json!({ "offsets": offsets }));
                done.clear();
            }
            // A group that rebalances takes no commits; what was read is read again by the next owner.
            Err(error) => eprintln!("{}: commit: {error}", self.member),
        }
    }

    fn give_up(&self, event: &str, list: &TopicPartitionList) {
        let elements = list.elements();
        self.done()
            .retain(|partition, _| !elements.iter().any(|one| one.partition() == *partition));
        self.say(event, partitions(list));
    }
}

fn partitions(list: &TopicPartitionList) -> Value {
    let all: Vec<_> = list.elements().iter().map(|one| one.partition()).collect();
    json!({ "partitions": all })
}

impl ClientContext for Teller {}

impl ConsumerContext for Teller {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.say("assigned", partitions(list)),
            Rebalance::Revoke(list) if consumer.assignment_lost() => self.give_up("lost", list),
            Rebalance::Revoke(list) => {
                self.commit(consumer);
                self.give_up("revoked", list);
            }
            Rebalance::Error(error) => eprintln!("{}: {error}", self.member),
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, settings, member, groups @ ..] = arguments.as_slice() else {
        panic!("arguments: settings, member, then group, topic and protocol of each group");
    };
    let settings: BTreeMap<String, String> =
        serde_json::from_str(settings).expect("settings as JSON");
    let running = Arc::new(AtomicBool::new(true));
    let mut threads = Vec::new();
    for group in groups.chunks_exact(3) {
        let [group, topic, protocol] = group else {
            unreachable!("chunks of three");
        };
        let teller = Teller {
            group: group.clone(),
            member: member.clone(),
            topic: topic.clone(),
            done: Mutex::default(),
        };
        let config = config(&settings, &teller, protocol);
        let running = Arc::clone(&running);
        threads.push(thread::spawn(move || {
            consume(&config, teller, &running);
        }));
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async {
            let kind = tokio::signal::unix::SignalKind::terminate();
            let mut asked = tokio::signal::unix::signal(kind).expect("a signal handler");
            asked.recv().await;
        });
    running.store(false, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("a member that did not panic");
    }
}

fn config(settings: &BTreeMap<String, String>, teller: &Teller, protocol: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in settings {
        config.set(key, value);
    }
    config
        .set("client.id", &teller.member)
        .set("group.id", &teller.group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("max.poll.interval.ms", "15000")
        .set("fetch.wait.max.ms", "300");
    if protocol == "consumer" {
        config.set("group.protocol", "consumer");
    } else {
        config
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "500")
            .set("partition.assignment.strategy", protocol);
    }
    config
}

fn consume(config: &ClientConfig, teller: Teller, running: &AtomicBool) {
    let topic = teller.topic.clone();
    let consumer: BaseConsumer<Teller> = config
        .create_with_context(teller)
        .expect("a consumer can be made");
    let teller = Arc::clone(consumer.context());
    consumer.subscribe(&[&topic]).expect("a valid subscription");
    let mut since_commit = 0;
    while running.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default());
                let fields = json!({ "partition": partition, "offset": offset, "value": value });
                teller.say("record", fields);
                teller.done().insert(partition, offset + 1);
                since_commit += 1;
            }
            Some(Err(error)) => eprintln!("{}: {error}", teller.member),
            None => since_commit = COMMIT_EVERY,
        }
        if since_commit >= COMMIT_EVERY {
            teller.commit(&consumer);
            since_commit = 0;
        }
    }
    teller.commit(&consumer);
    teller.say("closing", json!({}));
    // Closes: leaves the group.
    drop(consumer);
    teller.say("closed", json!({}));
}
