//! Step 6 of the append pipeline: walking the records of an open batch.

use palisade_protocol::ErrorCode;
use palisade_protocol::Str;
use palisade_protocol::batch::BatchHeader;
use palisade_protocol::batch::RecordIter;
use palisade_protocol::types::TimestampMs;

use super::super::settings::RecordRules;
use super::Place;
use super::refusal::{RecordFault, Refusal};

/// Timestamps a topic accepts, in ms; -1 (none) is always accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeBounds {
    lowest: i64,
    highest: i64,
}

impl TimeBounds {
    /// The bounds of a CreateTime topic at `now`.
    pub(super) fn around(now: TimestampMs, rules: &RecordRules) -> TimeBounds {
        TimeBounds {
            lowest: now.value().saturating_sub(rules.timestamp_before_max_ms),
            highest: now.value().saturating_add(rules.timestamp_after_max_ms),
        }
    }

    /// Whether a record may carry `timestamp`.
    pub(super) fn allow(&self, timestamp: i64) -> bool {
        timestamp == -1 || (self.lowest..=self.highest).contains(&timestamp)
    }
}

/// What a walk over the records found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Survey {
    /// Largest timestamp of a record.
    pub(super) max_timestamp: TimestampMs,
}

/// Walks all records; allocates only for those at fault.
///
/// `bounds`: none where the broker's clock replaces the timestamps. `needs_key`: the topic is
/// compacted.
///
/// # Errors
/// `INVALID_RECORD` for records that do not add up, are out of order or lack a key;
/// `INVALID_TIMESTAMP` when any is out of bounds.
pub(super) fn survey(
    plain: &[u8],
    header: &BatchHeader,
    bounds: Option<&TimeBounds>,
    needs_key: bool,
    place: Place<'_>,
) -> Result<Survey, Refusal> {
    let mut max_timestamp = -1_i64;
    let mut found = 0_i32;
    let mut faults = Faults::default();
    for record in RecordIter::new(plain, header.records_count) {
        let record = record.map_err(|_| Refusal::new(ErrorCode::INVALID_RECORD))?;
        // Gaps would give two records one offset, or none (records.md §4 step 6).
        if record.offset_delta != found {
            return Err(Refusal::new(ErrorCode::INVALID_RECORD));
        }
        let timestamp = header
            .base_timestamp
            .value()
            .checked_add(record.timestamp_delta)
            .ok_or_else(|| Refusal::new(ErrorCode::INVALID_RECORD))?;
        if needs_key && record.key.is_none() {
            faults.without_key(found, place);
        } else if let Some(bounds) = bounds
            && !bounds.allow(timestamp)
        {
            faults.out_of_bounds(found, timestamp, bounds);
        }
        max_timestamp = max_timestamp.max(timestamp);
        found = found.saturating_add(1);
    }
    if found != header.records_count {
        return Err(Refusal::new(ErrorCode::INVALID_RECORD));
    }
    faults.into_result()?;
    Ok(Survey {
        max_timestamp: TimestampMs::new(max_timestamp),
    })
}

/// Most faults that an answer lists: each has a text, and a batch may have millions of records.
const MAX_FAULTS: usize = 100;

#[derive(Debug, Default)]
struct Faults {
    list: Vec<RecordFault>,
    untimely: bool,
}

impl Faults {
    fn without_key(&mut self, index: i32, place: Place<'_>) {
        if self.list.len() >= MAX_FAULTS {
            return;
        }
        // One text shared by all: the list may be as long as the batch.
        let text = match self.list.last() {
            Some(previous) if !self.untimely => previous.text.clone(),
            _ => Str::from(format!(
                "Compacted topic cannot accept message without key in topic partition {place}"
            )),
        };
        self.list.push(RecordFault { index, text });
    }

    fn out_of_bounds(&mut self, index: i32, timestamp: i64, bounds: &TimeBounds) {
        self.untimely = true;
        if self.list.len() >= MAX_FAULTS {
            return;
        }
        let text = Str::from(format!(
            "Timestamp {timestamp} of message with offset {index} is out of range. The \
             timestamp should be within [{}, {}]",
            bounds.lowest, bounds.highest
        ));
        self.list.push(RecordFault { index, text });
    }

    fn into_result(self) -> Result<(), Refusal> {
        if self.list.is_empty() {
            Ok(())
        } else {
            Err(Refusal::of_records(self.list, self.untimely))
        }
    }
}
