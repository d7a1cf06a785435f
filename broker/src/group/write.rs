//! Records of several steps in few batches.

use bytes::{Bytes, BytesMut};
use palisade_protocol::ErrorCode;
use palisade_protocol::batch::{BatchBuilder, Codec};
use palisade_protocol::types::TimestampMs;

use super::error::GroupError;
use super::record::GroupRecord;
use super::step::Step;
use crate::partition::PartitionError;

/// What a record costs in a batch beside key and value, at most.
const RECORD_OVERHEAD: usize = 32;

/// A batch and the steps it carries records of, by index.
pub(crate) struct Packed {
    pub(crate) batch: BytesMut,
    pub(crate) steps: Vec<usize>,
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
        steps: Vec::new(),
        packed: Vec::new(),
    };
    for (index, (step, result)) in steps.iter().zip(results).enumerate() {
        *result = packer.add(index, step);
    }
    packer.seal();
    packer.packed
}

struct Packer {
    codec: Codec,
    max_bytes: usize,
    now: TimestampMs,
    builder: BatchBuilder,
    steps: Vec<usize>,
    packed: Vec<Packed>,
}

impl Packer {
    fn add(&mut self, index: usize, step: &Step) -> Result<(), GroupError> {
        let encoded = step.records.iter().map(GroupRecord::encode);
        let encoded: Result<Vec<_>, _> = encoded.collect();
        let encoded = encoded.map_err(|error| GroupError::Unknown(error.to_string()))?;
        let sizes = encoded.iter().map(size);
        let (largest, whole) = match step.divisible {
            true => (sizes.max().unwrap_or(0), 0),
            false => {
                let sum = sizes.sum();
                (sum, sum)
            }
        };
        let empty = BatchBuilder::new(self.codec).uncompressed_len();
        if empty + largest > self.max_bytes {
            let text = "the records are larger than the log takes";
            return Err(GroupError::Unknown(text.to_owned()));
        }
        self.make_room(whole);
        for (key, value) in &encoded {
            if step.divisible {
                self.make_room(size_of_pair(key, value.as_ref()));
            }
            if self.steps.last() != Some(&index) {
                self.steps.push(index);
            }
            self.builder
                .add(self.now, Some(key), value.as_deref(), &[])
                .map_err(|error| GroupError::Unknown(error.to_string()))?;
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
        let steps = std::mem::take(&mut self.steps);
        if steps.is_empty() {
            return;
        }
        match builder.build() {
            Ok(batch) => self.packed.push(Packed { batch, steps }),
            // A batch below the log's limit always fits its own length field.
            Err(error) => unreachable!("a bounded batch does not build: {error}"),
        }
    }
}

fn size((key, value): &(Bytes, Option<Bytes>)) -> usize {
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
