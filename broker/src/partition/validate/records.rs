//! Step 6 of the append pipeline: walking the records of an open batch.

use palisade_protocol::ErrorCode;
use palisade_protocol::Str;
use palisade_protocol::batch::{BatchHeader, RecordOutline};
use palisade_protocol::types::TimestampMs;

use super::super::settings::RecordRules;
use super::Place;
use super::refusal::{MAX_FAULTS, RecordFault, Refusal};

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

/// What is found record by record, and the judgement on all of them.
///
/// Allocates only for records at fault.
#[derive(Debug)]
pub(super) struct Survey {
    base_timestamp: i64,
    count: i32,
    /// None where the broker's clock replaces the timestamps.
    bounds: Option<TimeBounds>,
    /// The topic is compacted.
    needs_key: bool,
    found: i32,
    max_timestamp: i64,
    /// Offsets or timestamps do not add up.
    broken: bool,
    faults: Faults,
}

impl Survey {
    /// Nothing found yet. `bounds`: none where the broker's clock replaces the timestamps.
    pub(super) fn new(header: &BatchHeader, bounds: Option<TimeBounds>, needs_key: bool) -> Survey {
        Survey {
            base_timestamp: header.base_timestamp.value(),
            count: header.records_count,
            bounds,
            needs_key,
            found: 0,
            max_timestamp: -1,
            broken: false,
            faults: Faults::default(),
        }
    }

    /// Takes the next record.
    pub(super) fn note(&mut self, record: RecordOutline, place: Place<'_>) {
        // Gaps would give two records one offset, or none (records.md §4 step 6).
        self.broken |= record.offset_delta != self.found;
        let Some(timestamp) = self.base_timestamp.checked_add(record.timestamp_delta) else {
            self.broken = true;
            return;
        };
        let bounds = self.bounds.filter(|bounds| !bounds.allow(timestamp));
        if self.needs_key && !record.has_key {
            self.faults.without_key(self.found, place);
        } else if let Some(bounds) = bounds {
            self.faults.out_of_bounds(self.found, timestamp, &bounds);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.found = self.found.saturating_add(1);
    }

    /// The largest timestamp of all records.
    ///
    /// # Errors
    /// `INVALID_RECORD` for records that do not add up, are out of order or lack a key;
    /// `INVALID_TIMESTAMP` when any is out of bounds.
    pub(super) fn conclude(&mut self) -> Result<TimestampMs, Refusal> {
        if self.broken || self.found != self.count {
            return Err(Refusal::new(ErrorCode::INVALID_RECORD));
        }
        std::mem::take(&mut self.faults).into_result()?;
        Ok(TimestampMs::new(self.max_timestamp))
    }
}

#[derive(Debug, Default)]
struct Faults {
    list: Vec<RecordFault>,
    total: usize,
    untimely: bool,
    /// What every record without a key is told.
    keyless: Option<Str>,
}

impl Faults {
    fn without_key(&mut self, index: i32, place: Place<'_>) {
        self.total += 1;
        if self.list.len() >= MAX_FAULTS {
            return;
        }
        // One text shared by all: the list may be as long as the batch.
        let text = self.keyless.get_or_insert_with(|| {
            Str::from(format!(
                "Compacted topic cannot accept message without key in topic partition {place}"
            ))
        });
        let text = text.clone();
        self.list.push(RecordFault { index, text });
    }

    fn out_of_bounds(&mut self, index: i32, timestamp: i64, bounds: &TimeBounds) {
        self.total += 1;
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
            Err(Refusal::of_records(self.list, self.total, self.untimely))
        }
    }
}
