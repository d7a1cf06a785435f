//! What the runtime does for one event of a shard.

use std::sync::Arc;

use palisade_protocol::types::{Offset, TimestampMs};
use tokio::sync::oneshot;

use super::budget::Reserved;
use super::config::GroupConfig;
use super::decision::{Decision, TimerChange};
use super::error::GroupError;
use super::record::GroupRecord;
use super::shard::Shard;
use crate::metadata::ClusterImage;

/// The surroundings of an event.
pub(crate) struct Moment<'a> {
    /// The wall clock.
    pub(crate) now: TimestampMs,
    /// The cluster.
    pub(crate) image: &'a Arc<ClusterImage>,
    /// The node's settings.
    pub(crate) config: &'a GroupConfig,
    /// Bytes of the largest batch that the shard's log takes.
    pub(crate) max_batch_bytes: usize,
}

/// An answer, or the news that there will be none.
#[derive(Debug)]
pub(crate) enum Verdict<T> {
    /// The answer, to be sent once everything below the offset is replicated.
    Answer(T, Offset),
    /// The request is never answered: a newer one of the same member took its place.
    Forgotten,
}

/// Where an answer is waited for.
pub(crate) type Asker<T> = oneshot::Sender<Verdict<T>>;

/// Hands an answer over; the offset is the log's end when it was decided.
pub(crate) type Delivery = Box<dyn FnOnce(Offset) + Send>;

/// What follows once a step's records are appended and replayed, or refused.
pub(crate) type After =
    Box<dyn FnOnce(&mut Shard, &Moment<'_>, Result<(), GroupError>) -> Step + Send>;

/// What one event leads to.
#[derive(Default)]
pub(crate) struct Step {
    /// To append, then to replay.
    pub(crate) records: Vec<GroupRecord>,
    /// The records may be spread over several batches where none holds them all.
    pub(crate) divisible: bool,
    /// Timers to change at once.
    pub(crate) timers: Vec<TimerChange>,
    /// Answers to hand over behind the records, whatever becomes of those.
    pub(crate) deliveries: Vec<Delivery>,
    /// What follows.
    pub(crate) after: Option<After>,
    /// Memory that the records will be counted in, set aside until they are replayed.
    pub(crate) reserved: Vec<Reserved>,
}

impl Step {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// A decision and who asked for it: timers and answer follow the records.
    pub(crate) fn decided<T: Send + 'static>(
        decision: Decision<T>,
        asker: Asker<Result<T, GroupError>>,
    ) -> Self {
        let Decision {
            records,
            answer,
            timers,
        } = decision;
        let finish = move |result: Result<(), GroupError>| Step {
            timers: if result.is_ok() { timers } else { Vec::new() },
            deliveries: vec![deliver(asker, result.and(answer))],
            ..Step::default()
        };
        if records.is_empty() {
            return finish(Ok(()));
        }
        Step {
            records,
            after: Some(Box::new(move |_, _, result| finish(result))),
            ..Step::default()
        }
    }
}

/// A delivery of one answer.
pub(crate) fn deliver<T: Send + 'static>(asker: Asker<T>, answer: T) -> Delivery {
    Box::new(move |end| {
        // Whoever asked may have gone.
        let _ = asker.send(Verdict::Answer(answer, end));
    })
}
