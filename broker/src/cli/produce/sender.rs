//! Records into batches, batches to leaders, one at a time per partition and as often as it takes,
//! within the time that the command is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use palisade_protocol::{
    ErrorCode, Str,
    batch::Codec,
    messages::{
        init_producer_id::InitProducerIdRequest,
        produce::{
            PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
            TopicProduceData,
        },
    },
    types::{ProducerEpoch, ProducerId},
};
use tokio::{
    sync::mpsc,
    time::{Instant, interval, sleep_until, timeout_at},
};

use super::{
    super::{
        client::{Backoff, ClientError, Cluster, Line, printable},
        interrupt::Interrupt,
        output,
        progress::{self, Progress},
    },
    input::{Parsed, Record},
    partitioner,
    queue::{Batch, Queue, copy, given_up, longest_trouble, wake_at},
};
use crate::{clock, task};

/// The last version of Produce that names topics.
const BY_NAME: i16 = 12;
/// How long a batch is tried in vain before that is said.
const SILENCE: Duration = Duration::from_secs(3);
/// Bytes in memory from which on nothing is read.
const BUFFERED: usize = 32 << 20;

/// What is sent, and how.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) topic: String,
    pub(super) partition: Option<i32>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) codec: Codec,
    pub(super) acks: i16,
    /// How long a batch is tried, and how long the broker may take for one attempt.
    pub(super) timeout_ms: i32,
}

impl Options {
    fn delivery(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.timeout_ms).unwrap_or_default())
    }
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
    /// It was said already that batches are tried in vain.
    is_told: bool,
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
            is_told: false,
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
        let mut ticks = interval(progress::EVERY);
        let mut is_open = true;
        while is_open || !self.is_done() {
            if self.is_stale {
                tokio::select! {
                    outcome = self.refresh() => outcome?,
                    () = interrupt.heard() => self.interrupted(&mut is_open)?,
                }
            }
            // One time for both: what is not due to the first must be waited for by the second.
            let now = Instant::now();
            let patience = self.endure(now)?;
            self.dispatch(!is_open, now)?;
            let wake = wake_at(&self.queues, !is_open, now);
            let wake = wake.into_iter().chain(patience).min();
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
                () = interrupt.heard() => self.interrupted(&mut is_open)?,
            }
        }
        Ok(())
    }

    /// Looks at what is tried in vain: says so once, and ends it when its time is over. Gives the
    /// moment of the next look.
    ///
    /// # Errors
    /// The last error of a batch that was tried for too long.
    fn endure(&mut self, now: Instant) -> Result<Option<Instant>, ClientError> {
        let delivery = self.options.delivery();
        let Some((since, error)) = longest_trouble(&self.queues) else {
            return Ok(None);
        };
        let end = since + delivery;
        if end <= now {
            return Err(given_up(error, delivery));
        }
        if !self.is_told && since + SILENCE <= now {
            self.is_told = true;
            let text = format!("{error}; trying for {} s", delivery.as_secs());
            self.progress.clear();
            output::warn(&text);
        }
        Ok(Some(if self.is_told {
            end
        } else {
            end.min(since + SILENCE)
        }))
    }

    /// The first signal closes the input, the second ends the command.
    ///
    /// # Errors
    /// It is the second; with why there was something left to do.
    fn interrupted(&self, is_open: &mut bool) -> Result<(), ClientError> {
        if std::mem::take(is_open) {
            return Ok(());
        }
        let mut text = "interrupted".to_owned();
        if let Some((_, error)) = longest_trouble(&self.queues) {
            text = format!("{text}; {error}");
        }
        Err(ClientError::Unfinished(text))
    }

    /// Records that were read and have no answer: how many, and the first line.
    pub(super) fn unanswered(&self) -> Option<(u64, u64)> {
        let batches = self.queues.values().flat_map(|queue| &queue.batches);
        let lines = batches.flat_map(|batch| batch.records.iter().map(|record| record.line));
        lines.fold(None, |all, line| match all {
            None => Some((1, line)),
            Some((count, first)) => Some((count + 1, line.min(first))),
        })
    }

    fn is_done(&self) -> bool {
        self.queues.values().all(|queue| queue.batches.is_empty())
    }

    /// An id of the producer, so that the broker knows a batch that comes a second time (KIP-98).
    ///
    /// # Errors
    /// No broker gives one in time, or one refuses.
    pub(super) async fn become_idempotent(&mut self) -> Result<(), ClientError> {
        if self.options.acks != -1 {
            return Ok(());
        }
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        let mut backoff = Backoff::new(self.options.delivery());
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
        let since = longest_trouble(&self.queues).map_or_else(Instant::now, |(since, _)| since);
        // No longer than the batches are tried for whose sake it is asked.
        let end = since + self.options.delivery();
        match timeout_at(end, self.cluster.refresh(&topics)).await {
            Err(_) => {}
            // The batches that wait are tried again, and end the command if it lasts.
            Ok(Err(error)) if error.is_transient() => {}
            Ok(outcome) => outcome?,
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
                    queue.try_again(error, now);
                    self.is_stale = true;
                }
            }
        }
        for (node, partitions) in ready {
            match self.cluster.take(node) {
                Ok(line) => self.send(node, line, partitions)?,
                Err(error) => {
                    self.is_stale = true;
                    self.retry(&partitions, &error);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, node: i32, mut line: Line, partitions: Vec<i32>) -> Result<(), ClientError> {
        let now = Instant::now();
        let mut data = Vec::new();
        for index in &partitions {
            let Some(queue) = self.queues.get_mut(index) else {
                continue;
            };
            queue.attempt(now);
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
                self.retry(&reply.partitions, &error);
                return Ok(());
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
                self.retry(&[index], &error);
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
        if let Some(batch) = queue.take_first() {
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
        let Some(batch) = self.queues.get_mut(&index).and_then(Queue::take_first) else {
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

    fn retry(&mut self, partitions: &[i32], error: &ClientError) {
        let now = Instant::now();
        for index in partitions {
            if let Some(queue) = self.queues.get_mut(index) {
                queue.try_again(copy(error), now);
            }
        }
    }
}

fn unreadable(error: io::Error) -> ClientError {
    ClientError::Unfinished(format!("the input cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
