//! Batches to leaders, one at a time per partition and as often as it takes, within the time that
//! the command is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use palisade_protocol::{
    ErrorCode, Str,
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
        client::{Backoff, ClientError, Cluster, Line, Right, printable},
        interrupt::Interrupt,
        output, progress,
    },
    backlog::Backlog,
    input::Parsed,
    options::Options,
    queue::given_up,
};
use crate::task;

/// The last version of Produce that names topics.
const BY_NAME: i16 = 12;
/// How long a batch is tried in vain before that is said.
const SILENCE: Duration = Duration::from_secs(3);

/// Either right gets an id (KIP-679).
const NO_RIGHT_TO_AN_ID: &str = "Cluster authorization failed; WRITE on a topic, or \
                                 IDEMPOTENT_WRITE on the cluster, is needed";

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
    backlog: Backlog,
    busy: BTreeSet<i32>,
    is_stale: bool,
    /// It was said already that batches are tried in vain.
    is_told: bool,
    replies: (mpsc::Sender<Reply>, mpsc::Receiver<Reply>),
}

impl Sender {
    pub(super) fn new(cluster: Cluster, options: Options) -> Self {
        Self {
            cluster,
            options,
            producer: (ProducerId::NONE, ProducerEpoch::NONE),
            backlog: Backlog::new(),
            busy: BTreeSet::new(),
            is_stale: false,
            is_told: false,
            replies: mpsc::channel(64),
        }
    }

    /// Sends all that is read, and returns when the last record has its answer. The first signal
    /// ends the reading, the second all.
    ///
    /// # Errors
    /// The source cannot be read, no leader can be had, the broker refuses this user or lost
    /// records.
    pub(super) async fn run(
        &mut self,
        mut lines: mpsc::Receiver<io::Result<Vec<Parsed>>>,
        mut interrupt: Interrupt,
    ) -> Result<(), ClientError> {
        let mut ticks = interval(progress::EVERY);
        let mut is_open = true;
        while is_open || !self.backlog.is_empty() {
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
            let wake = self.backlog.wake_at(!is_open, now);
            let wake = wake.into_iter().chain(patience).min();
            let can_read = is_open && !self.backlog.is_full();
            tokio::select! {
                Some(reply) = self.replies.1.recv() => self.take(reply)?,
                handful = lines.recv(), if can_read => match handful {
                    None => is_open = false,
                    Some(handful) => {
                        let partitions = self.cluster.partitions(&self.options.topic)?;
                        for parsed in handful.map_err(unreadable)? {
                            self.backlog.add(parsed, self.options.partition, partitions);
                        }
                    }
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                _ = ticks.tick(), if self.backlog.progress.is_shown() => self.backlog.progress.paint(),
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
        let Some((since, error)) = self.backlog.trouble() else {
            return Ok(None);
        };
        let end = since + delivery;
        if end <= now {
            return Err(given_up(error, delivery));
        }
        if !self.is_told && since + SILENCE <= now {
            self.is_told = true;
            let text = format!("{error}; trying for {} s", delivery.as_secs());
            self.backlog.progress.clear();
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
        if let Some((_, error)) = self.backlog.trouble() {
            text = format!("{text}; {error}");
        }
        Err(ClientError::Unfinished(text))
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
                        let text = (response.error_code == ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
                            .then_some(NO_RIGHT_TO_AN_ID);
                        last = ClientError::refused(what, response.error_code, text);
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
        let trouble = self.backlog.trouble();
        let since = trouble.map_or_else(Instant::now, |(since, _)| since);
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

    /// Sends to every leader that is idle what is ready for it at `now`.
    fn dispatch(&mut self, is_last: bool, now: Instant) -> Result<(), ClientError> {
        let mut ready: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for index in self.backlog.ready(is_last, now) {
            match self.cluster.leader(&self.options.topic, index) {
                Some(node) if !self.busy.contains(&node) => {
                    ready.entry(node).or_default().push(index);
                }
                Some(_) => {}
                None => {
                    let code = ErrorCode::LEADER_NOT_AVAILABLE;
                    let error = ClientError::refused(format!("partition {index}"), code, None);
                    self.retry(&[index], &error);
                }
            }
        }
        for (node, partitions) in ready {
            match self.cluster.take(node) {
                Ok(line) => self.send(node, line, partitions)?,
                Err(error) => self.retry(&partitions, &error),
            }
        }
        Ok(())
    }

    fn send(&mut self, node: i32, mut line: Line, partitions: Vec<i32>) -> Result<(), ClientError> {
        let now = Instant::now();
        let mut data = Vec::new();
        for index in &partitions {
            let Some((batch, sequence)) = self.backlog.attempt(*index, now) else {
                continue;
            };
            let bytes = batch
                .encode(&self.options, self.producer, sequence)
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
        self.backlog.attempted(&reply.partitions);
        let response = match reply.outcome {
            Ok(Some(response)) => response,
            Ok(None) => {
                reply
                    .partitions
                    .iter()
                    .for_each(|index| self.backlog.accept(*index));
                return Ok(());
            }
            Err(error) if error.is_transient() => {
                self.retry(&reply.partitions, &error);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for index in reply.partitions {
            let topics = response.responses.iter();
            let topics = topics.filter(|topic| *topic.name == *self.options.topic);
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
        let error = error.needing(Right::on("WRITE", "WRITE"));
        match answer.error_code {
            // A repeated batch that is there already needs no third attempt.
            ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => self.backlog.accept(index),
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE
                if self.backlog.split(index) => {}
            code if code.is_retriable() => self.retry(&[index], &error),
            ErrorCode::MESSAGE_TOO_LARGE
            | ErrorCode::RECORD_LIST_TOO_LARGE
            | ErrorCode::INVALID_RECORD
            | ErrorCode::INVALID_TIMESTAMP => self.backlog.refuse(index, answer, &error),
            // Rights, a full disk for good, lost records: the next batch would fare no better.
            _ => {
                self.backlog.refuse(index, answer, &error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Has these partitions tried again, wherever their leaders are then.
    fn retry(&mut self, partitions: &[i32], error: &ClientError) {
        self.is_stale = true;
        self.backlog.retry(partitions, error, Instant::now());
    }

    /// What there was to send, and what became of it.
    pub(super) fn backlog(&mut self) -> &mut Backlog {
        &mut self.backlog
    }
}

fn unreadable(error: io::Error) -> ClientError {
    ClientError::Unfinished(format!("the input cannot be read: {error}"))
}
