//! Records that were read and have no answer yet: batches by partition, and what becomes of them.

use std::collections::BTreeMap;

use palisade_protocol::messages::produce::PartitionProduceResponse;
use tokio::time::Instant;

use super::{
    super::{
        client::{ClientError, printable},
        progress::Progress,
    },
    input::{Parsed, Record},
    partitioner,
    queue::{Batch, Queue, longest_trouble, wake_at},
};
use crate::clock;

/// Bytes in memory from which on nothing is read.
const BUFFERED: usize = 32 << 20;

/// Bytes of records without key that go to one partition before the next has its turn: Java's
/// `batch.size`.
const TURN: usize = 16 << 10;
/// What a record takes in a batch beside key, value and headers; Java counts it too.
const OVERHEAD: usize = 8;

/// Where records without key go (KIP-480, KIP-794).
#[derive(Clone, Copy, Debug)]
struct Sticky {
    partition: i32,
    /// Bytes that it has had, until its turn is over.
    bytes: usize,
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

/// What is to be sent.
pub(super) struct Backlog {
    queues: BTreeMap<i32, Queue>,
    /// None before the first record without key.
    sticky: Option<Sticky>,
    buffered: usize,
    pub(super) progress: Progress,
    pub(super) refused: Refused,
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self {
            queues: BTreeMap::new(),
            sticky: None,
            buffered: 0,
            progress: Progress::start(true),
            refused: Refused::default(),
        }
    }

    /// Nothing more is to be read for now.
    pub(super) fn is_full(&self) -> bool {
        self.buffered >= BUFFERED
    }

    /// Everything has its answer.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.values().all(|queue| queue.batches.is_empty())
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

    /// Since when something is tried in vain, and the last reason.
    pub(super) fn trouble(&self) -> Option<(Instant, &ClientError)> {
        longest_trouble(&self.queues)
    }

    /// When something becomes ready by itself that is not at `now`.
    pub(super) fn wake_at(&self, is_last: bool, now: Instant) -> Option<Instant> {
        wake_at(&self.queues, is_last, now)
    }

    /// The partitions whose first batch is to be sent at `now`.
    pub(super) fn ready(&self, is_last: bool, now: Instant) -> Vec<i32> {
        let is_ready = |queue: &Queue| {
            let is_due = queue.retry_at.is_none_or(|at| at <= now);
            let first = queue.batches.front();
            !queue.is_sending && is_due && first.is_some_and(|one| is_last || one.is_ready(now))
        };
        let ready = self.queues.iter().filter(|(_, queue)| is_ready(queue));
        ready.map(|(index, _)| *index).collect()
    }

    /// Begins an attempt at the first batch of a partition: gives it, and its first sequence
    /// number.
    pub(super) fn attempt(&mut self, index: i32, now: Instant) -> Option<(&Batch, i32)> {
        let queue = self.queues.get_mut(&index)?;
        queue.attempt(now);
        let is_last = queue.batches.len() == 1;
        let batch = queue.batches.front_mut()?;
        batch.is_tried = true;
        // What it waited for has not come: a batch of its own is begun elsewhere.
        if let Some(sticky) = self.sticky.as_mut()
            && (sticky.partition, is_last) == (index, true)
        {
            sticky.bytes = TURN;
        }
        Some((batch, queue.sequence))
    }

    /// The attempts at these partitions are over, whatever came of them.
    pub(super) fn attempted(&mut self, partitions: &[i32]) {
        for index in partitions {
            if let Some(queue) = self.queues.get_mut(index) {
                queue.is_sending = false;
            }
        }
    }

    /// Takes a record that was read, for a partition of the topic, of which each has its leader.
    pub(super) fn add(
        &mut self,
        parsed: Parsed,
        asked: Option<i32>,
        partitions: &BTreeMap<i32, Option<i32>>,
    ) {
        let record = match parsed {
            Ok(record) => record,
            Err((line, reason)) => {
                self.refused.add(line, &reason);
                return;
            }
        };
        let indexes: Vec<i32> = partitions.keys().copied().collect();
        let asked = record.partition.or(asked);
        let partition = match (asked, &record.key) {
            (Some(index), _) if !indexes.contains(&index) => {
                let reason = format!("the topic has no partition {index}");
                self.refused.add(record.line, &reason);
                return;
            }
            (Some(index), _) => Some(index),
            (None, Some(key)) => indexes
                .get(partitioner::of_key(key, indexes.len()))
                .copied(),
            (None, None) => self.sticky_of(partitions, record.len() + OVERHEAD),
        };
        let Some(partition) = partition else {
            self.refused.add(record.line, "the topic has no partitions");
            return;
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
        }
    }

    /// Where a record of so many bytes goes that has no key: the partitions that have a leader take
    /// turns, the first by chance.
    fn sticky_of(&mut self, partitions: &BTreeMap<i32, Option<i32>>, bytes: usize) -> Option<i32> {
        if let Some(sticky) = self.sticky.as_mut().filter(|one| one.bytes < TURN) {
            sticky.bytes += bytes;
            return Some(sticky.partition);
        }
        let led = partitions.iter().filter(|(_, leader)| leader.is_some());
        let mut among: Vec<i32> = led.map(|(index, _)| *index).collect();
        if among.is_empty() {
            among = partitions.keys().copied().collect();
        }
        let next = match self.sticky {
            Some(last) => among.iter().find(|index| **index > last.partition),
            None => {
                let chance = usize::try_from(clock::now_micros().value()).unwrap_or_default();
                among.get(chance % among.len().max(1))
            }
        };
        let partition = *next.or(among.first())?;
        self.sticky = Some(Sticky { partition, bytes });
        Some(partition)
    }

    /// Counts the first batch as arrived.
    pub(super) fn accept(&mut self, index: i32) {
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

    /// Gives up those records of the first batch that the broker names, or all where it names none
    /// of them: what is sent again is always less. Their sequence numbers were not used.
    pub(super) fn refuse(
        &mut self,
        index: i32,
        answer: &PartitionProduceResponse,
        error: &ClientError,
    ) {
        let Some(batch) = self.queues.get_mut(&index).and_then(Queue::take_first) else {
            return;
        };
        let named = |at: usize| {
            let mut errors = answer.record_errors.iter();
            let found = errors.find(|one| usize::try_from(one.batch_index) == Ok(at))?;
            Some(found.batch_index_error_message.as_deref().map(printable))
        };
        let is_any_named = (0..batch.records.len()).any(|at| named(at).is_some());
        let mut rest = Vec::new();
        let mut bytes = 0;
        for (at, record) in batch.records.into_iter().enumerate() {
            let reason = match named(at) {
                Some(reason) => reason.unwrap_or_else(|| error.to_string()),
                None if !is_any_named => error.to_string(),
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
    pub(super) fn split(&mut self, index: i32) -> bool {
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

    /// Has the first batches of these partitions tried again.
    pub(super) fn retry(&mut self, partitions: &[i32], error: &ClientError, now: Instant) {
        for index in partitions {
            if let Some(queue) = self.queues.get_mut(index) {
                queue.try_again(error.once_more(), now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> Parsed {
        Ok(Record {
            line: number,
            value: Some(format!("line {number:04}").into_bytes()),
            ..Record::default()
        })
    }

    /// How many records each partition has that arrived at once.
    fn counts(backlog: &Backlog) -> Vec<usize> {
        let queues = backlog.queues.values();
        let batches = queues.map(|queue| queue.batches.iter());
        batches
            .map(|batches| batches.map(|batch| batch.records.len()).sum())
            .collect()
    }

    #[test]
    fn a_flood_of_lines_without_keys_reaches_every_partition() {
        let partitions: BTreeMap<i32, Option<i32>> = (0..6).map(|index| (index, Some(0))).collect();
        let mut backlog = Backlog::new();
        (0..9000).for_each(|number| backlog.add(line(number), None, &partitions));
        let counts = counts(&backlog);
        assert_eq!(counts.len(), 6, "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 9000);
    }

    /// Each line is sent before the next one comes: the next goes elsewhere.
    #[test]
    fn slow_lines_without_keys_take_turns() {
        // Partition 2 has no leader.
        let partitions = (0..6).map(|index| (index, (index != 2).then_some(0)));
        let partitions: BTreeMap<i32, Option<i32>> = partitions.collect();
        let mut backlog = Backlog::new();
        let now = Instant::now();
        let mut arrived = BTreeMap::new();
        for number in 0..1000 {
            backlog.add(line(number), None, &partitions);
            let ready = backlog.ready(true, now);
            for index in &ready {
                assert!(backlog.attempt(*index, now).is_some());
                backlog.accept(*index);
                *arrived.entry(*index).or_insert(0) += 1;
            }
            backlog.attempted(&ready);
        }
        assert_eq!(
            arrived,
            [0, 1, 3, 4, 5]
                .map(|index| (index, 200))
                .into_iter()
                .collect()
        );
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
