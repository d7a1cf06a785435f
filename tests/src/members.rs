//! Members of consumer groups by other people's clients: started, closed and killed, and what they told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;

use crate::access::Access;
use crate::check::eventually;
use crate::history::{self, Event, History, What};
use crate::paths;
use crate::process::Process;

pub mod driver;
mod kcat;

use driver::{Driver, Seat};

/// For anything that members do together: longer than any of their timeouts.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who speaks for the harness in a history.
const HARNESS: &str = "harness";

/// Members of one or more groups, each group with a topic and a history of its own.
pub struct Party {
    access: Access,
    partitions: i32,
    seats: Vec<Seat>,
    histories: BTreeMap<String, History>,
    members: Vec<Member>,
    produced: u64,
    kcat: kcat::Logs,
    dir: TempDir,
}

/// One process of a driver: a member of one group, or of all.
struct Member {
    name: String,
    groups: Vec<String>,
    process: Process,
    seen: usize,
}

impl Party {
    /// Nobody yet, in the groups of `seats`, whose topics have `partitions` partitions each.
    pub fn new(access: Access, partitions: i32, seats: Vec<Seat>) -> Party {
        let histories = seats
            .iter()
            .map(|seat| (seat.group.clone(), History::default()))
            .collect();
        let dir = paths::scratch();
        Party {
            access,
            partitions,
            seats,
            histories,
            members: Vec::new(),
            produced: 0,
            kcat: kcat::Logs::default(),
            dir,
        }
    }

    /// Starts a member of that name in every group.
    pub fn join(&mut self, name: &str, driver: Driver) {
        let seats = self.seats.clone();
        if driver.sits_in_many() {
            self.spawn(name, driver, &seats);
        } else {
            for seat in &seats {
                self.spawn(name, driver, std::slice::from_ref(seat));
            }
        }
    }

    /// Starts a member of that name in every group, by another protocol than the group's seat says.
    pub fn join_by(&mut self, name: &str, driver: Driver, protocol: &'static str) {
        let by_protocol = |seat: &Seat| Seat {
            protocol,
            ..seat.clone()
        };
        let seats: Vec<_> = self.seats.iter().map(by_protocol).collect();
        self.spawn(name, driver, &seats);
    }

    fn spawn(&mut self, name: &str, driver: Driver, seats: &[Seat]) {
        let log = match (driver, seats) {
            (Driver::Kcat, [seat]) => Some(self.kcat.of(&seat.group, self.dir.path())),
            _ => None,
        };
        let mut command = driver.command(&self.access, self.dir.path(), name, seats, log);
        self.members.push(Member {
            name: name.to_owned(),
            groups: seats.iter().map(|seat| seat.group.clone()).collect(),
            process: Process::spawn(name, &mut command),
            seen: 0,
        });
    }

    /// Asks the member to leave, and waits until it has left every group.
    ///
    /// # Panics
    /// When it did not say so.
    pub fn close(&mut self, name: &str) {
        let gone = self.take(name);
        for member in &gone {
            member.process.signal(rustix::process::Signal::TERM);
        }
        for mut member in gone {
            member.process.wait(PATIENCE);
            self.read(&mut member);
            self.read_kcat();
            for group in &member.groups {
                assert!(
                    self.histories[group].has_closed(name)
                        || self.histories[group].owned_by(name).is_empty(),
                    "{name} ended without leaving {group}:\n{}",
                    member.process.output()
                );
            }
        }
    }

    /// Kills the member at once.
    pub fn kill(&mut self, name: &str) {
        let gone = self.take(name);
        for member in &gone {
            member.process.signal(rustix::process::Signal::KILL);
        }
        for mut member in gone {
            member.process.wait(PATIENCE);
            // All that it said was said before its death is noted.
            self.read(&mut member);
            self.read_kcat();
            for group in &member.groups {
                note(&mut self.histories, group, name, What::Killed);
            }
        }
    }

    fn take(&mut self, name: &str) -> Vec<Member> {
        let (gone, left) = std::mem::take(&mut self.members)
            .into_iter()
            .partition(|member| member.name == name);
        self.members = left;
        gone
    }

    /// Writes `count` records to every topic, over all partitions in turn, and waits for their acknowledgements.
    pub fn produce(&mut self, count: u64) {
        let producer: BaseProducer<Delivered> = librdkafka(&self.access)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .create_with_context(Delivered::default())
            .expect("a producer");
        for seat in &self.seats {
            for number in self.produced..self.produced + count {
                let partition = i32::try_from(number % u64::from(self.partitions.unsigned_abs()));
                let value = number.to_string();
                let record = BaseRecord::<(), str>::to(&seat.topic)
                    .partition(partition.expect("less than the number of partitions"))
                    .payload(&value);
                let queued = producer.send(record);
                queued.map_err(|(error, _)| error).expect("queued");
            }
        }
        producer.flush(PATIENCE).expect("delivered");
        self.produced += count;
        let delivered = std::mem::take(&mut *producer.context().0.lock().expect("no panic"));
        assert_eq!(
            delivered.len(),
            usize::try_from(count).expect("few") * self.seats.len(),
            "every record was acknowledged"
        );
        for (topic, what) in delivered {
            for seat in self.seats.iter().filter(|seat| seat.topic == topic) {
                note(&mut self.histories, &seat.group, HARNESS, what.clone());
            }
        }
    }

    /// Waits until exactly these members own the partitions of every group, each as many as the others.
    ///
    /// # Panics
    /// When that does not come.
    pub fn await_owners(&mut self, names: &[&str]) {
        let each = usize::try_from(self.partitions).expect("positive") / names.len();
        let what = format!("{names:?} own {each} partitions each");
        eventually(&what, PATIENCE, || {
            self.look();
            for (group, history) in &self.histories {
                let owned: Vec<_> = names.iter().map(|name| history.owned_by(name)).collect();
                let all: BTreeSet<_> = owned.iter().flatten().collect();
                let even = owned.iter().all(|one| one.len() == each);
                if !even || all.len() != each * names.len() {
                    return Err(format!("{group}: {owned:?}{}", self.complaints()));
                }
            }
            Ok(())
        });
    }

    /// Waits until every acknowledged record has been read by somebody.
    ///
    /// # Panics
    /// When that does not come.
    pub fn await_consumed(&mut self) {
        eventually("every record is read", PATIENCE, || {
            self.look();
            for (group, history) in &self.histories {
                if let Some(first) = history.missing().first() {
                    let count = history.missing().len();
                    return Err(format!(
                        "{group}: {count} missing, the first is {first:?}{}",
                        self.complaints()
                    ));
                }
            }
            Ok(())
        });
    }

    /// Waits until the coordinator holds the end of what was produced, for every partition of every group.
    ///
    /// # Panics
    /// When that does not come.
    pub fn await_committed(&mut self) {
        let each = i64::try_from(self.produced).expect("few") / i64::from(self.partitions);
        eventually("all that was read is committed", PATIENCE, || {
            self.look();
            for (group, committed) in self.committed() {
                let all = (0..self.partitions).map(|partition| (partition, each));
                if committed != all.collect() {
                    return Err(format!("{group}: {committed:?}, not {each} everywhere"));
                }
            }
            Ok(())
        });
    }

    /// Asks the coordinator for the committed offsets of every group, and notes them in its history.
    pub fn committed(&mut self) -> BTreeMap<String, BTreeMap<i32, i64>> {
        let mut all = BTreeMap::new();
        for seat in &self.seats {
            let consumer: BaseConsumer = librdkafka(&self.access)
                .set("group.id", &seat.group)
                .create()
                .expect("a consumer");
            let mut asked = TopicPartitionList::new();
            asked.add_partition_range(&seat.topic, 0, self.partitions - 1);
            let answer = consumer
                .committed_offsets(asked, PATIENCE)
                .expect("the coordinator answers");
            let offsets: BTreeMap<_, _> = answer
                .elements()
                .iter()
                .filter_map(|one| match one.offset() {
                    Offset::Offset(offset) => Some((one.partition(), offset)),
                    _ => None,
                })
                .collect();
            let what = What::Committed(offsets.clone());
            note(&mut self.histories, &seat.group, HARNESS, what);
            all.insert(seat.group.clone(), offsets);
        }
        all
    }

    /// The history of a group so far.
    pub fn history(&self, group: &str) -> &History {
        &self.histories[group]
    }

    /// Ends with the verdict on every group.
    ///
    /// # Panics
    /// When something happened that must not.
    pub fn judge(mut self) {
        self.look();
        for (group, history) in &self.histories {
            let found = history.violations();
            assert!(found.is_empty(), "{group}: {found:#?}");
        }
    }

    /// Takes in what members said since the last look.
    fn look(&mut self) {
        let mut members = std::mem::take(&mut self.members);
        for member in &mut members {
            let ended = member.process.exit();
            self.read(member);
            assert!(
                ended.is_none(),
                "{} ended by itself ({ended:?}):\n{}{}",
                member.name,
                member.process.output(),
                self.kcat.tail()
            );
        }
        self.members = members;
        self.read_kcat();
    }

    fn read(&mut self, member: &mut Member) {
        for line in member.process.lines_from(member.seen) {
            member.seen += 1;
            if let Some((group, event)) = History::parse(&line) {
                let history = self.histories.get_mut(&group);
                history.expect("a group of this party").add(event);
            }
        }
    }

    fn read_kcat(&mut self) {
        for (group, event) in self.kcat.read() {
            let history = self.histories.get_mut(&group);
            history.expect("a group of this party").add(event);
        }
    }

    /// The last lines of each member that are no events, for a message of failure.
    fn complaints(&self) -> String {
        let mut text = String::new();
        for member in &self.members {
            let lines = member.process.lines();
            let other = lines.iter().filter(|line| !line.starts_with('{'));
            for line in other.rev().take(5) {
                text += &format!("\n{}: {line:.300}", member.name);
            }
        }
        text + &self.kcat.tail()
    }
}

fn note(histories: &mut BTreeMap<String, History>, group: &str, member: &str, what: What) {
    let event = Event {
        stamp: history::now(),
        member: member.to_owned(),
        what,
    };
    histories
        .get_mut(group)
        .expect("a group of this party")
        .add(event);
}

fn librdkafka(access: &Access) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in access.librdkafka() {
        config.set(key, value);
    }
    config
}

/// Collects topic and place of what was acknowledged.
#[derive(Default)]
struct Delivered(Mutex<Vec<(String, What)>>);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // A refusal shows in the count.
        if let Ok(message) = result {
            let what = What::Produced {
                partition: message.partition(),
                offset: message.offset(),
                value: String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned(),
            };
            let mut all = self.0.lock().expect("no panic");
            all.push((message.topic().to_owned(), what));
        }
    }
}

fn new_file(path: &PathBuf) -> File {
    fs::write(path, "").expect("a scratch file can be written");
    File::open(path).expect("a file just written can be read")
}
