//! Batches of one partition: what waits, what is tried, and for how long already.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use palisade_protocol::{
    batch::{BatchBuilder, BatchError},
    types::{ProducerEpoch, ProducerId, TimestampMs},
};
use tokio::time::Instant;

use super::{super::client::ClientError, input::Record, options::Options};

/// A batch of this many bytes is not added to; far below what brokers take.
const BATCH_BYTES: usize = 256 << 10;
/// Records of a batch at most: their deltas and answers stay small.
const BATCH_RECORDS: usize = 10_000;
/// How long a batch waits for more records.
const LINGER: Duration = Duration::from_millis(5);
/// Between two attempts at the same batch.
const RETRY: Duration = Duration::from_millis(100);

/// Records that go together.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    pub(super) bytes: usize,
    pub(super) begun: Instant,
    /// Sent once at least. Its sequence numbers stand for just these records from then on.
    pub(super) is_tried: bool,
}

/// One partition's batches; the first is the one that is sent, the last the one that grows.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) batches: VecDeque<Batch>,
    pub(super) sequence: i32,
    pub(super) is_sending: bool,
    pub(super) retry_at: Option<Instant>,
    /// When the first batch was tried first.
    begun: Option<Instant>,
    /// Why the first batch has not arrived yet.
    pub(super) trouble: Option<ClientError>,
}

impl Queue {
    /// Counts an attempt that begins at `now`.
    pub(super) fn attempt(&mut self, now: Instant) {
        self.is_sending = true;
        self.begun.get_or_insert(now);
    }

    /// Counts an attempt that failed in passing.
    pub(super) fn try_again(&mut self, error: ClientError, now: Instant) {
        self.begun.get_or_insert(now);
        self.trouble = Some(error);
        self.retry_at = Some(now + RETRY);
    }

    /// Takes the first batch, whatever became of it; the next has the whole time before it.
    pub(super) fn take_first(&mut self) -> Option<Batch> {
        self.begun = None;
        self.trouble = None;
        self.retry_at = None;
        self.batches.pop_front()
    }

    /// Since when its first batch is tried in vain, and the last reason.
    pub(super) fn in_trouble(&self) -> Option<(Instant, &ClientError)> {
        Some((self.begun?, self.trouble.as_ref()?))
    }

    /// Moves the sequence on; after the largest number comes 0.
    pub(super) fn advance(&mut self, count: usize) {
        let count = i32::try_from(count).unwrap_or_default();
        self.sequence = self.sequence.wrapping_add(count) & i32::MAX;
    }
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.records.len() >= BATCH_RECORDS
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.is_full() || self.is_tried || self.begun + LINGER <= now
    }

    pub(super) fn encode(
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

/// When something becomes ready by itself that is not at `now`.
pub(super) fn wake_at(
    queues: &BTreeMap<i32, Queue>,
    is_last: bool,
    now: Instant,
) -> Option<Instant> {
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

/// The partition that has been tried in vain for longest: since when, and the last reason.
pub(super) fn longest_trouble(queues: &BTreeMap<i32, Queue>) -> Option<(Instant, &ClientError)> {
    let all = queues.values().filter_map(Queue::in_trouble);
    all.min_by_key(|(since, _)| *since)
}

/// The error of a batch that was tried for all the time there was.
pub(super) fn given_up(error: &ClientError, after: Duration) -> ClientError {
    match error.once_more() {
        ClientError::Refused {
            what,
            code,
            message,
        } => ClientError::Refused {
            what: format!("{what}: given up after {} s", after.as_secs()),
            code,
            message,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use palisade_protocol::ErrorCode;

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
    fn the_pause_before_a_retry_goes_with_its_batch() {
        let now = Instant::now();
        let batch = Batch {
            records: Vec::new(),
            bytes: 0,
            begun: now,
            is_tried: false,
        };
        let mut queue = Queue {
            batches: VecDeque::from([batch.clone(), batch]),
            ..Queue::default()
        };
        queue.try_again(
            ClientError::refused("t-0", ErrorCode::KAFKA_STORAGE_ERROR, None),
            now,
        );
        assert!(queue.take_first().is_some());
        let queues = BTreeMap::from([(0, queue)]);
        assert_eq!(wake_at(&queues, false, now), Some(now + LINGER));
    }

    #[test]
    fn trouble_lasts_from_the_first_attempt_to_the_end_of_the_batch() {
        let start = Instant::now();
        let later = start + Duration::from_secs(4);
        let full = || ClientError::refused("t-0", ErrorCode::KAFKA_STORAGE_ERROR, None);
        let mut queues = BTreeMap::from([(0, Queue::default()), (1, Queue::default())]);
        assert!(longest_trouble(&queues).is_none());
        for (index, now) in [(1, start), (1, later), (0, later)] {
            let queue = queues.get_mut(&index).unwrap();
            queue.attempt(now);
            queue.try_again(full(), now);
        }
        let (since, error) = longest_trouble(&queues).unwrap();
        assert_eq!(since, start);
        let text = given_up(error, Duration::from_secs(5)).to_string();
        assert!(text.starts_with("t-0: given up after 5 s: "), "{text}");
        assert!(text.contains("KAFKA_STORAGE_ERROR"), "{text}");

        queues.get_mut(&1).unwrap().take_first();
        assert_eq!(longest_trouble(&queues).unwrap().0, later);
    }
}
