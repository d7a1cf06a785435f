//! Records of several steps in few batches.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use palisade_protocol::ErrorCode;
use palisade_protocol::batch::{BatchBuilder, Codec};
use palisade_protocol::types::TimestampMs;
use tracing::warn;

use super::error::GroupError;
use super::record::GroupRecord;
use super::step::Step;
use crate::logging::Throttle;
use crate::partition::PartitionError;

/// What a record costs in a batch beside key and value, at most.
pub(crate) const RECORD_OVERHEAD: usize = 32;

/// A batch and the records it carries.
pub(crate) struct Packed {
    pub(crate) batch: BytesMut,
    pub(crate) parts: Vec<Part>,
}

/// Records of one step, by index.
pub(crate) struct Part {
    step: usize,
    records: Range<usize>,
}

/// Packs the records of `steps`; a step whose records fit no batch gets an error in `results`.
pub(crate) fn pack(
    steps: &[Step],
    results: &mut [Result<(), GroupError>],
    codec: Codec,
    max_bytes: usize,
    now: TimestampMs,
) -> Vec<Packed> {
    let mut packer = Packer {
        codec,
        max_bytes,
        now,
        builder: BatchBuilder::new(codec),
        parts: Vec::new(),
        packed: Vec::new(),
    };
    for (index, (step, result)) in steps.iter().zip(results).enumerate() {
        *result = packer.add(index, step);
    }
    packer.seal();
    packer.packed
}

/// Whether a batch has records of a step that has failed already. The log must not take it: of such
/// a step it keeps the first records only.
pub(crate) fn goes_on_refused(parts: &[Part], results: &[Result<(), GroupError>]) -> bool {
    let result_of = |part: &Part| results.get(part.step);
    parts
        .iter()
        .any(|part| result_of(part).is_some_and(Result::is_err))
}

/// Replays the records of a batch that the log took, or gives an error to the steps of one that it
/// refused. `records`: those of each step.
///
/// What of a divisible step is in the log counts, whatever becomes of the rest: whoever reads the
/// log finds it there.
pub(crate) fn settle(
    parts: Vec<Part>,
    appended: Result<(), PartitionError>,
    records: &[Vec<GroupRecord>],
    results: &mut [Result<(), GroupError>],
    replay: impl FnMut(&GroupRecord),
) {
    let Err(error) = appended else {
        let taken = parts
            .into_iter()
            .filter_map(|part| records.get(part.step)?.get(part.records));
        return taken.flatten().for_each(replay);
    };
    static SAID: Throttle = Throttle::new();
    if SAID.may_speak() {
        warn!(%error, "records of groups not appended");
    }
    let refused = refusal(&error);
    for Part { step, .. } in parts {
        if let Some(result) = results.get_mut(step) {
            *result = Err(refused.clone());
        }
    }
}

/// Whether a batch of at most `max_bytes` can hold a record.
pub(crate) fn fits(record: &GroupRecord, max_bytes: usize) -> bool {
    let encoded = record.encode();
    encoded.is_ok_and(|pair| fits_bytes(size(&pair), max_bytes))
}

/// The same of records of so many bytes, [`RECORD_OVERHEAD`] of each included.
pub(crate) fn fits_bytes(bytes: usize, max_bytes: usize) -> bool {
    holds(Codec::None, bytes, max_bytes)
}

/// Whether a batch of at most `max_bytes` can hold records of `size` bytes.
fn holds(codec: Codec, size: usize, max_bytes: usize) -> bool {
    BatchBuilder::new(codec).uncompressed_len() + size <= max_bytes
}

struct Packer {
    codec: Codec,
    max_bytes: usize,
    now: TimestampMs,
    builder: BatchBuilder,
    parts: Vec<Part>,
    packed: Vec<Packed>,
}

impl Packer {
    fn add(&mut self, index: usize, step: &Step) -> Result<(), GroupError> {
        let encoded = step.records.iter().map(GroupRecord::encode);
        let encoded: Result<Vec<_>, _> = encoded.collect();
        let encoded = encoded.map_err(|error| GroupError::Unknown(error.to_string()))?;
        let sizes = || encoded.iter().map(size);
        let sum = sizes().sum();
        // What a batch can hold is in the log as a whole, or not at all.
        let is_spread = step.divisible && !holds(self.codec, sum, self.max_bytes);
        let (largest, whole) = match is_spread {
            true => (sizes().max().unwrap_or(0), 0),
            false => (sum, sum),
        };
        if !holds(self.codec, largest, self.max_bytes) {
            let text = "the records are larger than the log takes";
            return Err(GroupError::Unknown(text.to_owned()));
        }
        self.make_room(whole);
        for (at, (key, value)) in encoded.iter().enumerate() {
            if is_spread {
                self.make_room(size_of_pair(key, value.as_ref()));
            }
            self.builder
                .add(self.now, Some(key), value.as_deref(), &[])
                .map_err(|error| GroupError::Unknown(error.to_string()))?;
            match self.parts.last_mut() {
                Some(part) if part.step == index => part.records.end = at + 1,
                _ => self.parts.push(Part {
                    step: index,
                    records: at..at + 1,
                }),
            }
        }
        Ok(())
    }

    fn make_room(&mut self, bytes: usize) {
        if self.builder.uncompressed_len() + bytes > self.max_bytes {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let builder = std::mem::replace(&mut self.builder, BatchBuilder::new(self.codec));
        let parts = std::mem::take(&mut self.parts);
        if parts.is_empty() {
            return;
        }
        match builder.build() {
            Ok(batch) => self.packed.push(Packed { batch, parts }),
            // A batch below the log's limit always fits its own length field.
            Err(error) => unreachable!("a bounded batch does not build: {error}"),
        }
    }
}

/// Bytes of a record in a batch, at most.
pub(super) fn size((key, value): &(Bytes, Option<Bytes>)) -> usize {
    size_of_pair(key, value.as_ref())
}

fn size_of_pair(key: &Bytes, value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(0, Bytes::len) + RECORD_OVERHEAD
}

/// What a failed append means to who asked (coordination.md, head).
pub(crate) fn refusal(error: &PartitionError) -> GroupError {
    match error.code() {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::REQUEST_TIMED_OUT => GroupError::NotAvailable,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => {
            GroupError::NotCoordinator
        }
        _ => GroupError::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use palisade_protocol::types::Offset;
    use palisade_protocol::{Str, Uuid};
    use tokio::sync::oneshot;

    use super::*;
    use crate::group::budget::Budget;
    use crate::group::load::decode;
    use crate::group::record::OffsetCommitValue;
    use crate::group::shard::{Shard, Source};
    use crate::group::step::Verdict;

    const NOW: TimestampMs = TimestampMs::new(1_700_000_000_000);
    /// Room for a few tombstones.
    const MAX_BYTES: usize = 300;

    fn offset(partition: i32) -> GroupRecord {
        GroupRecord::Offset {
            group: "g".into(),
            topic: "t".into(),
            partition,
            value: Some(OffsetCommitValue {
                offset: 7,
                leader_epoch: -1,
                metadata: Str::EMPTY,
                commit_timestamp: NOW.value(),
                expire_timestamp: -1,
                topic_id: Uuid::NIL,
            }),
        }
    }

    fn shard_of(records: &[GroupRecord]) -> Shard {
        let mut shard = Shard::new(Budget::new(usize::MAX));
        for record in records {
            shard.replay(record, Source::Log);
        }
        shard
    }

    /// Deletes a group whose tombstones fill several batches, of which the log takes those that
    /// `takes` says.
    fn delete(takes: impl Fn(usize) -> bool) {
        let mut log: Vec<_> = (0..60).map(offset).collect();
        let mut shard = shard_of(&log);
        let (asker, mut answer) = oneshot::channel();
        let mut step = shard.delete_group(&"g".into(), asker);
        let mut results = [Ok(())];
        let packed = pack(
            std::slice::from_ref(&step),
            &mut results,
            Codec::None,
            MAX_BYTES,
            NOW,
        );
        let batches = packed.len();
        assert!(batches > 3, "{batches} batches");
        let records = [std::mem::take(&mut step.records)];
        for (batch, packed) in (1..).zip(packed) {
            let appended = match takes(batch) {
                true => {
                    log.extend(
                        decode(&packed.batch, Offset::ZERO, Offset::new(1000))
                            .unwrap()
                            .records,
                    );
                    Ok(())
                }
                false => Err(PartitionError::TooFewInSync),
            };
            settle(packed.parts, appended, &records, &mut results, |record| {
                shard.replay(record, Source::Decision);
            });
        }

        let all = (1..=batches).all(&takes);
        let expected = if all {
            Ok(())
        } else {
            Err(GroupError::NotAvailable)
        };
        assert_eq!(results[0], expected);
        let read = shard_of(&log);
        assert_eq!(shard.offset_count(), read.offset_count());
        assert_eq!(shard.list(), read.list());
        assert_eq!(shard.group_count() == 0, all);

        let [result] = results;
        let config = crate::group::config::GroupConfig::defaults();
        let moment = crate::group::step::Moment {
            now: NOW,
            image: &std::sync::Arc::new(crate::metadata::ClusterImage::empty()),
            config: &config,
            max_batch_bytes: MAX_BYTES,
        };
        let after = step.after.expect("who asked is answered");
        let next = after(&mut shard, &moment, result);
        for delivery in next.deliveries {
            delivery(Offset::ZERO);
        }
        match answer.try_recv().expect("an answer") {
            Verdict::Answer(answer, _) => assert_eq!(answer, expected),
            Verdict::Forgotten => panic!("forgotten"),
        }
    }

    /// Less of it can go wrong in between.
    #[test]
    fn what_a_batch_holds_is_not_spread_over_two() {
        let steps: Vec<Step> = [0..3, 3..6, 6..12]
            .map(|offsets| Step {
                records: offsets.map(offset).collect(),
                divisible: true,
                ..Step::default()
            })
            .into();
        let four = 4 * size(&offset(0).encode().unwrap());
        let max_bytes = BatchBuilder::new(Codec::None).uncompressed_len() + four;
        let mut results = [Ok(()), Ok(()), Ok(())];
        let packed = pack(&steps, &mut results, Codec::None, max_bytes, NOW);
        let batches = packed.iter().map(|packed| {
            let parts = packed.parts.iter();
            parts.map(|part| (part.step, part.records.len())).collect()
        });
        let batches: Vec<Vec<_>> = batches.collect();
        assert_eq!(results, [Ok(()), Ok(()), Ok(())]);
        assert_eq!(batches[0], [(0, 3)]);
        assert_eq!(batches[1][0], (1, 3));
        // What no batch holds takes the room that is left.
        assert_eq!(batches[1][1].0, 2);
        assert_eq!(batches.concat().len(), 4);
    }

    #[test]
    fn behind_a_batch_that_was_refused_no_more_of_its_step_is_taken() {
        let part = |step| Part {
            step,
            records: 0..1,
        };
        let refused = Err(GroupError::Unknown(String::new()));
        let results = [Ok(()), refused, Ok(())];
        assert!(!goes_on_refused(&[part(0), part(2)], &results));
        assert!(goes_on_refused(&[part(0), part(1)], &results));
    }

    #[test]
    fn what_the_log_took_of_a_refused_step_counts() {
        delete(|_| true);
        delete(|batch| batch < 3);
        delete(|batch| batch > 1);
        delete(|batch| batch != 2);
        delete(|_| false);
    }
}
