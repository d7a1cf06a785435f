//! Records into batches, batches to leaders, one at a time per partition and as often as it takes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    time::Duration,
};

use palisade_protocol::{
    ErrorCode, Str,
    batch::{BatchBuilder, BatchError, Codec},
    messages::{
        init_producer_id::InitProducerIdRequest,
        produce::{
            PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
            TopicProduceData,
        },
    },
    types::{ProducerEpoch, ProducerId, TimestampMs},
};
use tokio::{
    sync::mpsc,
    time::{Instant, interval, sleep_until},
};

use super::{
    super::{
        client::{Backoff, ClientError, Cluster, Line, printable},
        interrupt::Interrupt,
        progress::{self, Progress},
    },
    input::{Parsed, Record},
    partitioner,
};
use crate::{clock, task};

/// The last version of Produce that names topics.
const BY_NAME: i16 = 12;
/// A batch of this many bytes is not added to; far below what brokers take.
const BATCH_BYTES: usize = 256 << 10;
/// Records of a batch at most: their deltas and answers stay small.
const BATCH_RECORDS: usize = 10_000;
/// How long a batch waits for more records.
const LINGER: Duration = Duration::from_millis(5);
/// Bytes in memory from which on nothing is read.
const BUFFERED: usize = 32 << 20;
/// How long a batch is tried, as Java's delivery.timeout.ms.
const DELIVERY: Duration = Duration::from_secs(120);
/// Between two attempts at the same batch.
const RETRY: Duration = Duration::from_millis(100);

/// What is sent, and how.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) topic: String,
    pub(super) partition: Option<i32>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) codec: Codec,
    pub(super) acks: i16,
    pub(super) timeout_ms: i32,
}

/// Records that will not arrive.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    pub(super) count: u64,
    /// The lowest line, and why.
    pub(super) first: Option<(u64, String)>,
}

impl Refused {
    fn add(&mut self, line: u64, reason: &str) {
        self.count += 1;
        if self.first.as_ref().is_none_or(|(first, _)| line < *first) {
            self.first = Some((line, reason.to_owned()));
        }
    }
}

/// Records that go together.
#[derive(Clone, Debug)]
struct Batch {
    records: Vec<Record>,
    bytes: usize,
    begun: Instant,
    /// Sent once at least. Its sequence numbers stand for just these records from then on.
    is_tried: bool,
}

/// One partition's batches; the first is the one that is sent, the last the one that grows.
#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Batch>,
    sequence: i32,
    is_sending: bool,
    retry_at: Option<Instant>,
}

/// What a leader said to the batches of some partitions; `None` to acks=0.
struct Reply {
    node: i32,
    line: Line,
    partitions: Vec<i32>,
    outcome: Result<Option<ProduceResponse>, ClientError>,
}

/// Sends the records of one command.
pub(super) struct Sender {
    cluster: Cluster,
    options: Options,
    producer: (ProducerId, ProducerEpoch),
    queues: BTreeMap<i32, Queue>,
    /// Records without key go to this partition until its batch is full.
    sticky: Option<i32>,
    buffered: usize,
    busy: BTreeSet<i32>,
    is_stale: bool,
    replies: (mpsc::Sender<Reply>, mpsc::Receiver<Reply>),
    pub(super) progress: Progress,
    pub(super) refused: Refused,
}

impl Sender {
    pub(super) fn new(cluster: Cluster, options: Options) -> Self {
        Self {
            cluster,
            options,
            producer: (ProducerId::NONE, ProducerEpoch::NONE),
            queues: BTreeMap::new(),
            sticky: None,
            buffered: 0,
            busy: BTreeSet::new(),
            is_stale: false,
            replies: mpsc::channel(64),
            progress: Progress::start(true),
            refused: Refused::default(),
        }
    }

    /// Sends all that is read, and returns when the last record has its answer. The first signal
    /// ends the reading, the second all.
    ///
    /// # Errors
    /// The source cannot be read, no leader can be had, the broker refuses this user or lost records.
    pub(super) async fn run(
        &mut self,
        mut lines: mpsc::Receiver<io::Result<Vec<Parsed>>>,
        mut interrupt: Interrupt,
    ) -> Result<(), ClientError> {
        if self.options.acks == -1 {
            self.become_idempotent().await?;
        }
        let mut ticks = interval(progress::EVERY);
        let mut is_open = true;
        while is_open || !self.is_done() {
            if self.is_stale {
                self.refresh().await?;
            }
            // One time for both: what is not due to the first must be waited for by the second.
            let now = Instant::now();
            self.dispatch(!is_open, now)?;
            let wake = wake_at(&self.queues, !is_open, now);
            let can_read = is_open && self.buffered < BUFFERED;
            tokio::select! {
                Some(reply) = self.replies.1.recv() => self.take(reply)?,
                handful = lines.recv(), if can_read => match handful {
                    None => is_open = false,
                    Some(handful) => {
                        for parsed in handful.map_err(unreadable)? {
                            self.add(parsed)?;
                        }
                    }
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                _ = ticks.tick(), if self.progress.is_shown() => self.progress.paint(),
                () = interrupt.heard() => {
                    if !is_open {
                        let text = "interrupted; some records were not acknowledged";
                        return Err(ClientError::Unfinished(text.to_owned()));
                    }
                    is_open = false;
                }
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.queues.values().all(|queue| queue.batches.is_empty())
    }

    /// An id of the producer, so that the broker knows a batch that comes a second time (KIP-98).
    async fn become_idempotent(&mut self) -> Result<(), ClientError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        let mut backoff = Backoff::new(self.cluster.patience());
        loop {
            let nodes = self.cluster.broker_ids();
            let mut last = ClientError::refused("brokers", ErrorCode::BROKER_NOT_AVAILABLE, None);
            for node in nodes {
                match self.cluster.ask(node, &request, i16::MAX).await {
                    Ok(response) if response.error_code == ErrorCode::NONE => {
                        self.producer = (
                            ProducerId::new(response.producer_id),
                            ProducerEpoch::new(response.producer_epoch),
                        );
                        return Ok(());
                    }
                    Ok(response) => {
                        let what = "id for an idempotent producer (acks=all)";
                        last = ClientError::refused(what, response.error_code, None);
                    }
                    Err(error) => last = error,
                }
                if !last.is_transient() {
                    return Err(last);
                }
            }
            if !backoff.pause().await {
                return Err(last);
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), ClientError> {
        let topics = [self.options.topic.clone()];
        match self.cluster.refresh(&topics).await {
            // The batches that wait are tried again, and end the command if it lasts.
            Err(error) if error.is_transient() => {}
            outcome => outcome?,
        }
        self.is_stale = false;
        Ok(())
    }

    fn add(&mut self, parsed: Parsed) -> Result<(), ClientError> {
        let record = match parsed {
            Ok(record) => record,
            Err((line, reason)) => {
                self.refused.add(line, &reason);
                return Ok(());
            }
        };
        let partitions = self.cluster.partitions(&self.options.topic)?;
        let indexes: Vec<i32> = partitions.keys().copied().collect();
        let asked = record.partition.or(self.options.partition);
        let partition = match (asked, &record.key) {
            (Some(index), _) if !indexes.contains(&index) => {
                let reason = format!("the topic has no partition {index}");
                self.refused.add(record.line, &reason);
                return Ok(());
            }
            (Some(index), _) => Some(index),
            (None, Some(key)) => indexes
                .get(partitioner::of_key(key, indexes.len()))
                .copied(),
            (None, None) => self.sticky_of(&indexes),
        };
        let Some(partition) = partition else {
            self.refused.add(record.line, "the topic has no partitions");
            return Ok(());
        };
        let timestamp = record.timestamp.unwrap_or_else(|| clock::now().value());
        let record = Record {
            timestamp: Some(timestamp),
            ..record
        };
        self.buffered += record.len();
        let queue = self.queues.entry(partition).or_default();
        let last = queue.batches.back();
        if last.is_none_or(|batch| batch.is_full() || batch.is_tried) {
            queue.batches.push_back(Batch {
                records: Vec::new(),
                bytes: 0,
                begun: Instant::now(),
                is_tried: false,
            });
        }
        if let Some(batch) = queue.batches.back_mut() {
            batch.bytes += record.len();
            batch.records.push(record);
            if batch.is_full() && self.sticky == Some(partition) {
                self.sticky = None;
            }
        }
        Ok(())
    }

    /// Where records without key go now: one of the partitions that have a leader, by chance.
    fn sticky_of(&mut self, indexes: &[i32]) -> Option<i32> {
        if let Some(partition) = self.sticky {
            return Some(partition);
        }
        let topic = &self.options.topic;
        let led = indexes
            .iter()
            .filter(|index| self.cluster.leader(topic, **index).is_some());
        let led: Vec<i32> = led.copied().collect();
        let among = if led.is_empty() { indexes } else { &led };
        let chance = usize::try_from(clock::now_micros().value()).unwrap_or_default();
        self.sticky = among.get(chance % among.len().max(1)).copied();
        self.sticky
    }

    /// Sends to every leader that is idle what is ready for it at `now`.
    fn dispatch(&mut self, is_last: bool, now: Instant) -> Result<(), ClientError> {
        let mut ready: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for (index, queue) in &mut self.queues {
            let Some(batch) = queue.batches.front() else {
                continue;
            };
            let is_due = queue.retry_at.is_none_or(|at| at <= now);
            if queue.is_sending || !is_due || !(is_last || batch.is_ready(now)) {
                continue;
            }
            match self.cluster.leader(&self.options.topic, *index) {
                Some(node) if !self.busy.contains(&node) => {
                    ready.entry(node).or_default().push(*index);
                }
                Some(_) => {}
                None => {
                    let code = ErrorCode::LEADER_NOT_AVAILABLE;
                    let error = ClientError::refused(format!("partition {index}"), code, None);
                    queue.try_again(error)?;
                    self.is_stale = true;
                }
            }
        }
        for (node, partitions) in ready {
            match self.cluster.take(node) {
                Ok(line) => self.send(node, line, partitions)?,
                Err(error) => {
                    self.is_stale = true;
                    self.retry(&partitions, || copy(&error))?;
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, node: i32, mut line: Line, partitions: Vec<i32>) -> Result<(), ClientError> {
        let mut data = Vec::new();
        for index in &partitions {
            let Some(queue) = self.queues.get_mut(index) else {
                continue;
            };
            queue.is_sending = true;
            let Some(batch) = queue.batches.front_mut() else {
                continue;
            };
            batch.is_tried = true;
            let bytes = batch
                .encode(&self.options, self.producer, queue.sequence)
                .map_err(|error| ClientError::Usage(format!("records cannot be sent: {error}")))?;
            data.push(PartitionProduceData {
                index: *index,
                records: Some(bytes::Bytes::from(bytes).into()),
            });
        }
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.options.acks,
            timeout_ms: self.options.timeout_ms,
            topic_data: vec![TopicProduceData {
                name: Str::copy(&self.options.topic),
                partition_data: data,
                ..TopicProduceData::default()
            }],
        };
        self.busy.insert(node);
        let replies = self.replies.0.clone();
        task::spawn("produce", async move {
            let outcome = if request.acks == 0 {
                line.post(&request, BY_NAME).await.map(|()| None)
            } else {
                line.send(&request, BY_NAME).await.map(Some)
            };
            let reply = Reply {
                node,
                line,
                partitions,
                outcome,
            };
            // A command that ends has nobody to hear of it.
            let _ = replies.send(reply).await;
        });
        Ok(())
    }

    fn take(&mut self, reply: Reply) -> Result<(), ClientError> {
        self.busy.remove(&reply.node);
        self.cluster.give_back(reply.node, reply.line);
        for index in &reply.partitions {
            if let Some(queue) = self.queues.get_mut(index) {
                queue.is_sending = false;
            }
        }
        let response = match reply.outcome {
            Ok(Some(response)) => response,
            Ok(None) => {
                reply
                    .partitions
                    .iter()
                    .for_each(|index| self.accept(*index));
                return Ok(());
            }
            Err(error) if error.is_transient() => {
                self.is_stale = true;
                return self.retry(&reply.partitions, || copy(&error));
            }
            Err(error) => return Err(error),
        };
        for index in reply.partitions {
            let topics = response.responses.iter();
            let mut all = topics.flat_map(|topic| &topic.partition_responses);
            match all.find(|one| one.index == index) {
                Some(one) => self.judge(index, one)?,
                None => {
                    let text = "the broker's answer lacks a partition";
                    return Err(ClientError::Lost(io::Error::other(text)));
                }
            }
        }
        Ok(())
    }

    fn judge(&mut self, index: i32, answer: &PartitionProduceResponse) -> Result<(), ClientError> {
        let what = format!("{}-{index}", printable(&self.options.topic));
        let message = answer.error_message.as_deref();
        let error = ClientError::refused(what, answer.error_code, message);
        match answer.error_code {
            // A repeated batch that is there already needs no third attempt.
            ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => self.accept(index),
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE
                if self.split(index) => {}
            code if code.is_retriable() => {
                self.is_stale = true;
                self.retry(&[index], || copy(&error))?;
            }
            ErrorCode::MESSAGE_TOO_LARGE
            | ErrorCode::RECORD_LIST_TOO_LARGE
            | ErrorCode::INVALID_RECORD
            | ErrorCode::INVALID_TIMESTAMP => self.refuse(index, answer, &error),
            // Rights, a full disk for good, lost records: the next batch would fare no better.
            _ => {
                self.refuse(index, answer, &error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Counts the first batch as arrived.
    fn accept(&mut self, index: i32) {
        let Some(queue) = self.queues.get_mut(&index) else {
            return;
        };
        queue.retry_at = None;
        if let Some(batch) = queue.batches.pop_front() {
            queue.advance(batch.records.len());
            self.buffered = self.buffered.saturating_sub(batch.bytes);
            batch
                .records
                .iter()
                .for_each(|record| self.progress.add(record.len()));
        }
    }

    /// Gives up those records of the first batch that the broker names, or all. Their sequence
    /// numbers were not used.
    fn refuse(&mut self, index: i32, answer: &PartitionProduceResponse, error: &ClientError) {
        let Some(batch) = self
            .queues
            .get_mut(&index)
            .and_then(|queue| queue.batches.pop_front())
        else {
            return;
        };
        let named = |at: usize| {
            let mut errors = answer.record_errors.iter();
            let found = errors.find(|one| usize::try_from(one.batch_index) == Ok(at))?;
            Some(found.batch_index_error_message.as_deref().map(printable))
        };
        let mut rest = Vec::new();
        let mut bytes = 0;
        for (at, record) in batch.records.into_iter().enumerate() {
            let reason = match named(at) {
                Some(reason) => reason.unwrap_or_else(|| error.to_string()),
                None if answer.record_errors.is_empty() => error.to_string(),
                None => {
                    bytes += record.len();
                    rest.push(record);
                    continue;
                }
            };
            self.refused.add(record.line, &reason);
            self.buffered = self.buffered.saturating_sub(record.len());
        }
        if let (false, Some(queue)) = (rest.is_empty(), self.queues.get_mut(&index)) {
            queue.batches.push_front(Batch {
                records: rest,
                bytes,
                begun: batch.begun,
                is_tried: true,
            });
        }
    }

    /// Makes two batches of the first; false when it is one record.
    fn split(&mut self, index: i32) -> bool {
        let Some(queue) = self.queues.get_mut(&index) else {
            return false;
        };
        let Some(mut first) = queue.batches.pop_front() else {
            return false;
        };
        let half = first.records.len() / 2;
        if half == 0 {
            queue.batches.push_front(first);
            return false;
        }
        let records = first.records.split_off(half);
        let bytes = records.iter().map(Record::len).sum();
        first.bytes = first.bytes.saturating_sub(bytes);
        let second = Batch {
            records,
            bytes,
            begun: first.begun,
            // Older than what may stand behind it.
            is_tried: true,
        };
        queue.batches.push_front(second);
        queue.batches.push_front(first);
        true
    }

    fn retry(
        &mut self,
        partitions: &[i32],
        error: impl Fn() -> ClientError,
    ) -> Result<(), ClientError> {
        for index in partitions {
            if let Some(queue) = self.queues.get_mut(index) {
                queue.try_again(error())?;
            }
        }
        Ok(())
    }
}

/// When something becomes ready by itself that is not at `now`.
fn wake_at(queues: &BTreeMap<i32, Queue>, is_last: bool, now: Instant) -> Option<Instant> {
    let waiting = queues.values().filter(|queue| !queue.is_sending);
    let times = waiting.filter_map(|queue| {
        let batch = queue.batches.front()?;
        match queue.retry_at {
            Some(at) => Some(at),
            None if is_last || batch.is_full() => None,
            None => Some(batch.begun + LINGER),
        }
    });
    // What is due already waits for a busy leader, whose reply wakes.
    times.filter(|at| *at > now).min()
}

fn unreadable(error: io::Error) -> ClientError {
    ClientError::Unfinished(format!("the input cannot be read: {error}"))
}

/// The same error once more; only those that pass are ever repeated.
fn copy(error: &ClientError) -> ClientError {
    match error {
        ClientError::Refused {
            what,
            code,
            message,
        } => ClientError::Refused {
            what: what.clone(),
            code: *code,
            message: message.clone(),
        },
        other => ClientError::Lost(io::Error::other(other.to_string())),
    }
}

impl Queue {
    /// Counts an attempt that failed in passing.
    ///
    /// # Errors
    /// The error, when the batch has been tried for long enough.
    fn try_again(&mut self, error: ClientError) -> Result<(), ClientError> {
        let begun = self.batches.front().map(|batch| batch.begun);
        if begun.is_some_and(|begun| begun.elapsed() > DELIVERY) {
            return Err(error);
        }
        self.retry_at = Some(Instant::now() + RETRY);
        Ok(())
    }

    /// Moves the sequence on; after the largest number comes 0.
    fn advance(&mut self, count: usize) {
        let count = i32::try_from(count).unwrap_or_default();
        self.sequence = self.sequence.wrapping_add(count) & i32::MAX;
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.records.len() >= BATCH_RECORDS
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.is_full() || self.is_tried || self.begun + LINGER <= now
    }

    fn encode(
        &self,
        options: &Options,
        producer: (ProducerId, ProducerEpoch),
        sequence: i32,
    ) -> Result<bytes::BytesMut, BatchError> {
        let mut builder = BatchBuilder::new(options.codec);
        if options.acks == -1 {
            builder = builder.producer(producer.0, producer.1, sequence);
        }
        for record in &self.records {
            let common = options.headers.iter();
            let mut headers: Vec<(&str, Option<&[u8]>)> = common
                .map(|(key, value)| (key.as_str(), Some(value.as_bytes())))
                .collect();
            let own = record.headers.iter();
            headers.extend(own.map(|(key, value)| (key.as_str(), value.as_deref())));
            builder.add(
                TimestampMs::new(record.timestamp.unwrap_or_default()),
                record.key.as_deref(),
                record.value.as_deref(),
                &headers,
            )?;
        }
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_begin_anew_behind_the_largest() {
        let mut queue = Queue {
            sequence: i32::MAX - 1,
            ..Queue::default()
        };
        queue.advance(1);
        assert_eq!(queue.sequence, i32::MAX);
        queue.advance(3);
        assert_eq!(queue.sequence, 2);
    }

    /// Time goes on between the look at what is due and the choice of when to wake.
    #[test]
    fn what_became_due_meanwhile_wakes() {
        let looked = Instant::now();
        let begun = looked - LINGER;
        let batch = Batch {
            records: Vec::new(),
            bytes: 0,
            begun,
            is_tried: true,
        };
        let queue = |retry_at| Queue {
            batches: VecDeque::from([batch.clone()]),
            retry_at,
            ..Queue::default()
        };
        let soon = looked + Duration::from_nanos(1);
        let queues = BTreeMap::from([(0, queue(Some(soon))), (1, queue(None))]);
        while Instant::now() <= soon {}
        assert_eq!(wake_at(&queues, true, looked), Some(soon));
        assert_eq!(wake_at(&queues, true, soon), None);
    }

    #[test]
    fn the_first_refused_line_is_the_lowest() {
        let mut refused = Refused::default();
        refused.add(7, "b");
        refused.add(3, "a");
        refused.add(9, "c");
        assert_eq!(refused.count, 3);
        assert_eq!(refused.first, Some((3, "a".to_owned())));
    }
}
