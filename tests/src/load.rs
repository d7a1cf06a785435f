//! A load whose every record is known: what was sent, what was acknowledged and where, what a consumer saw.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::messages::produce::ProduceRequest;
use palisade_protocol::uuid::Uuid;

use crate::access::Access;
use crate::node::Node;
use crate::requests::{self, newest};
use crate::wire::{self, Connection};

/// Requests that a producer has under way at once.
const IN_FLIGHT: usize = 4;
/// Records of one request.
const RECORDS: u64 = 3;

/// What one producer did until its connection ended.
#[derive(Debug, Default)]
pub struct Produced {
    /// Sequence numbers below this one were sent.
    pub sent: u64,
    /// Offset and value of each record whose request was acknowledged.
    pub acknowledged: Vec<(i64, Vec<u8>)>,
}

/// Producers and a consumer at work on partition 0 of a topic.
///
/// Whatever the node answers but success is a failure, and so is a connection that ends before the kill.
pub struct Load {
    round: u64,
    producers: Vec<JoinHandle<Produced>>,
    consumer: JoinHandle<Vec<(i64, Vec<u8>)>>,
    killed: Arc<AtomicBool>,
    progress: Receiver<u64>,
}

/// Everything that happened under a load.
#[derive(Debug)]
pub struct History {
    round: u64,
    produced: Vec<Produced>,
    consumed: Vec<(i64, Vec<u8>)>,
}

/// The value of a record: who wrote it and when, padded to a few hundred bytes.
fn value(round: u64, producer: usize, sequence: u64) -> Vec<u8> {
    let padding = (sequence % 700) as usize;
    format!("{round}.{producer}.{sequence}.{:padding$}", "").into_bytes()
}

impl Load {
    /// Starts `producers` producers with acks=all and one consumer that reads from `from` on.
    pub fn start(
        access: &Access,
        topic: &str,
        id: Uuid,
        round: u64,
        producers: usize,
        from: i64,
    ) -> Load {
        let killed = Arc::new(AtomicBool::new(false));
        let (report, progress) = channel();
        let producers = (0..producers)
            .map(|number| {
                let producer = Producer {
                    topic: topic.to_owned(),
                    id,
                    round,
                    number,
                    report: report.clone(),
                    killed: Arc::clone(&killed),
                };
                let access = access.clone();
                thread::spawn(move || producer.run(&access))
            })
            .collect();
        let consumer = {
            let (access, topic) = (access.clone(), topic.to_owned());
            let killed = Arc::clone(&killed);
            thread::spawn(move || {
                let mut consumed = Vec::new();
                let ended = consume(&access, &topic, id, from, &mut consumed);
                judge("the consumer", ended, &killed);
                consumed
            })
        };
        Load {
            round,
            producers,
            consumer,
            killed,
            progress,
        }
    }

    /// Waits until `count` more records have been acknowledged.
    ///
    /// # Panics
    /// When all producers ended before.
    pub fn wait_for_acknowledged(&self, count: u64) {
        let mut left = count;
        while left > 0 {
            let more = self.progress.recv();
            let more = more.expect("a producer goes on while the node runs");
            left = left.saturating_sub(more);
        }
    }

    /// Kills the node, waits until all have noticed, and tells what happened.
    ///
    /// # Panics
    /// When one of them was answered an error, or ended before.
    pub fn kill(self, node: &mut Node) -> History {
        self.killed.store(true, Ordering::SeqCst);
        node.kill();
        let join = "all was well until the kill";
        History {
            round: self.round,
            produced: self
                .producers
                .into_iter()
                .map(|producer| producer.join().expect(join))
                .collect(),
            consumed: self.consumer.join().expect(join),
        }
    }
}

impl History {
    /// Records that were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.produced.iter().map(|p| p.acknowledged.len()).sum()
    }

    /// Records that the consumer saw.
    pub fn consumed(&self) -> usize {
        self.consumed.len()
    }

    /// Compares the history with the records found in the log afterwards, by offset.
    ///
    /// # Errors
    /// Names the first record that was lost, moved, doubled, or never sent.
    pub fn check(&self, log: &[(i64, Vec<u8>)]) -> Result<(), String> {
        let found: BTreeMap<i64, &[u8]> = log
            .iter()
            .map(|(offset, value)| (*offset, value.as_slice()))
            .collect();
        let show = |value: &[u8]| {
            let text = String::from_utf8_lossy(value);
            text.trim_end().to_owned()
        };
        let must_be = |what: &str, offset: i64, value: &[u8]| match found.get(&offset) {
            Some(there) if *there == value => Ok(()),
            Some(there) => Err(format!(
                "{what} {} at {offset}, found {} there",
                show(value),
                show(there)
            )),
            None => Err(format!("{what} {} at {offset}, found nothing", show(value))),
        };
        for (offset, value) in self.produced.iter().flat_map(|p| &p.acknowledged) {
            must_be("acknowledged", *offset, value)?;
        }
        for (offset, value) in &self.consumed {
            must_be("consumed", *offset, value)?;
        }
        let mut seen = HashSet::new();
        for (offset, value) in log {
            if !self.was_sent(value) {
                return Err(format!("never sent: {} at {offset}", show(value)));
            }
            if !seen.insert(value) {
                return Err(format!("doubled: {} at {offset}", show(value)));
            }
        }
        Ok(())
    }

    fn was_sent(&self, found: &[u8]) -> bool {
        let text = String::from_utf8_lossy(found);
        let mut parts = text.split('.');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
        let (Some(round), Some(producer), Some(sequence)) = (number(), number(), number()) else {
            return false;
        };
        let producer = producer as usize;
        round == self.round
            && self
                .produced
                .get(producer)
                .is_some_and(|p| sequence < p.sent)
            && found == value(round, producer, sequence)
    }
}

struct Producer {
    topic: String,
    id: Uuid,
    round: u64,
    number: usize,
    report: Sender<u64>,
    killed: Arc<AtomicBool>,
}

/// Judges how the work of one client ended, which it does with its connection only.
///
/// # Panics
/// When it ended before the kill, or with anything else.
fn judge(who: &str, ended: io::Result<Infallible>, killed: &AtomicBool) {
    let Err(error) = ended;
    assert!(wire::is_end(&error), "{who} was answered: {error}");
    let was_killed = killed.load(Ordering::SeqCst);
    assert!(was_killed, "{who} lost its connection: {error}");
}

impl Producer {
    fn run(&self, access: &Access) -> Produced {
        let mut produced = Produced::default();
        let ended = self.produce(access, &mut produced);
        judge(&format!("producer {}", self.number), ended, &self.killed);
        produced
    }

    fn produce(&self, access: &Access, produced: &mut Produced) -> io::Result<Infallible> {
        let mut connection = Connection::open(access)?;
        let version = newest(ApiKey::Produce);
        let mut under_way = VecDeque::new();
        loop {
            while under_way.len() < IN_FLIGHT {
                let values: Vec<_> = (produced.sent..produced.sent + RECORDS)
                    .map(|sequence| value(self.round, self.number, sequence))
                    .collect();
                // Counted before it leaves: a request cut in the middle may still have arrived whole.
                produced.sent += RECORDS;
                let records = requests::batch(Codec::None, &values, 1_700_000_000_000);
                let request = requests::produce_request(&self.topic, self.id, 0, -1, records);
                under_way.push_back((connection.ask(version, &request)?, values));
            }
            let oldest = under_way.pop_front();
            let (correlation_id, values) = oldest.expect("some are under way");
            let answer = connection.answer::<ProduceRequest>(version, correlation_id)?;
            let partition = answer
                .responses
                .iter()
                .flat_map(|t| &t.partition_responses)
                .next();
            let partition = partition.ok_or_else(|| io::Error::other("an empty answer"))?;
            requests::check(partition.error_code)?;
            produced
                .acknowledged
                .extend((partition.base_offset..).zip(values));
            let _ = self.report.send(RECORDS);
        }
    }
}

fn consume(
    access: &Access,
    topic: &str,
    id: Uuid,
    from: i64,
    consumed: &mut Vec<(i64, Vec<u8>)>,
) -> io::Result<Infallible> {
    let mut connection = Connection::open(access)?;
    let mut next = from;
    loop {
        let data = requests::fetch(&mut connection, topic, id, next, 100)?;
        requests::check(data.error_code)?;
        let more = requests::values(&data, next)?;
        if let Some((offset, _)) = more.last() {
            next = offset + 1;
        }
        consumed.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};
    use std::sync::atomic::AtomicBool;

    use super::{History, Produced, judge, value};
    use crate::requests;
    use palisade_protocol::error_code::ErrorCode;

    static KILLED: AtomicBool = AtomicBool::new(true);

    #[test]
    fn a_client_ends_with_its_connection() {
        judge("one", Err(ErrorKind::ConnectionReset.into()), &KILLED);
        judge("one", Err(ErrorKind::UnexpectedEof.into()), &KILLED);
    }

    #[test]
    #[should_panic(expected = "one lost its connection")]
    fn no_client_ends_before_the_kill() {
        let ended = Err(ErrorKind::UnexpectedEof.into());
        judge("one", ended, &AtomicBool::new(false));
    }

    #[test]
    #[should_panic(expected = "one was answered: NOT_ENOUGH_REPLICAS")]
    fn an_error_that_was_answered_is_no_end() {
        let answered = requests::check(ErrorCode::NOT_ENOUGH_REPLICAS);
        judge("one", Err(answered.expect_err("a code")), &KILLED);
    }

    #[test]
    #[should_panic(expected = "one was answered")]
    fn silence_is_no_end() {
        judge("one", Err(Error::from(ErrorKind::WouldBlock)), &KILLED);
    }

    fn history() -> History {
        let records = |sequences: [u64; 2]| {
            sequences
                .into_iter()
                .map(|sequence| (sequence as i64, value(7, 0, sequence)))
                .collect()
        };
        History {
            round: 7,
            produced: vec![Produced {
                sent: 3,
                acknowledged: records([0, 1]),
            }],
            consumed: records([0, 1]),
        }
    }

    fn log(sequences: &[u64]) -> Vec<(i64, Vec<u8>)> {
        (0..)
            .zip(sequences.iter().map(|s| value(7, 0, *s)))
            .collect()
    }

    #[test]
    fn a_whole_log_passes() {
        history().check(&log(&[0, 1])).expect("acknowledged only");
        history()
            .check(&log(&[0, 1, 2]))
            .expect("one more was sent");
    }

    #[test]
    fn loss_moves_doubles_and_inventions_are_found() {
        for (sequences, word) in [
            (&[0][..], "acknowledged"),
            (&[1, 0], "acknowledged"),
            (&[0, 1, 2, 2], "doubled"),
            (&[0, 1, 3], "never sent"),
        ] {
            let error = history().check(&log(sequences)).expect_err(word);
            assert!(error.contains(word), "{error}");
        }
    }
}
