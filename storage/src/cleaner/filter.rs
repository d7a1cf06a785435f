//! Which records of a batch stay, and the batch they make (coordination page, §8).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use palisade_protocol::batch::compaction::{assemble, emptied, push_rebased};
use palisade_protocol::batch::compression::{compress, decompress};
use palisade_protocol::batch::{BatchError, Codec, Record, RecordIter, TimestampType};

use super::key_map::KeyMap;
use super::transactions::Transactions;
use crate::batch::{BatchHeader, HEADER_LEN};
use crate::types::{Offset, TimestampMs};

/// Largest size a batch is opened to, in bytes; one that is larger is kept as it is.
pub(super) const OPENED: usize = 32 << 20;

/// The records of a batch.
pub(super) enum Opened<'a> {
    Records(Cow<'a, [u8]>),
    /// Too large to be looked into.
    Opaque,
}

/// Opens the records section of a whole batch.
pub(super) fn open<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<Opened<'a>, &'static str> {
    let stored = batch.get(HEADER_LEN..).unwrap_or_default();
    match header.codec().map_err(|_| "unknown codec")? {
        Codec::None => Ok(Opened::Records(Cow::Borrowed(stored))),
        // Nothing was compressed, so there is nothing to open either.
        _ if stored.is_empty() => Ok(Opened::Records(Cow::Borrowed(stored))),
        codec => match decompress(codec, stored, OPENED) {
            Ok(opened) => Ok(Opened::Records(Cow::Owned(opened.to_vec()))),
            Err(BatchError::TooLarge { .. }) => Ok(Opened::Opaque),
            Err(_) => Err("does not decompress"),
        },
    }
}

/// What becomes of a batch.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It stays as it is.
    Keep,
    /// It goes.
    Drop,
    /// It is replaced by these bytes.
    Replace(Vec<u8>),
}

/// Judges the batches of a log in the order of their offsets.
pub(super) struct Filter {
    pub(super) map: Arc<KeyMap>,
    /// Nothing at or above it is in the map.
    pub(super) covered: Offset,
    pub(super) transactions: Transactions,
    pub(super) now: TimestampMs,
    /// What a tombstone or marker met for the first time gets as its horizon.
    pub(super) horizon: TimestampMs,
    /// A batch has been passed whose keys nobody knows.
    pub(super) opaque: bool,
    /// Records passed, and records that stay.
    pub(super) records: (u64, u64),
    /// Places of the records that stay, kept for its memory.
    kept: Vec<(Range<usize>, i64)>,
}

impl Filter {
    pub(super) fn new(
        map: KeyMap,
        covered: Offset,
        transactions: Transactions,
        now: TimestampMs,
        delete_retention_ms: i64,
    ) -> Self {
        let horizon = TimestampMs::new(now.value().saturating_add(delete_retention_ms));
        Self {
            map: Arc::new(map),
            covered,
            transactions,
            now,
            horizon,
            opaque: false,
            records: (0, 0),
            kept: Vec::new(),
        }
    }

    /// Judges the next batch.
    ///
    /// # Errors
    /// What is wrong with its records.
    pub(super) fn judge(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<Verdict, &'static str> {
        let count = u64::from(header.records_count.unsigned_abs());
        self.records.0 += count;
        let verdict = if header.is_control() {
            self.judge_marker(header, batch)?
        } else {
            self.judge_data(header, batch)?
        };
        match &verdict {
            Verdict::Keep => self.records.1 += count,
            Verdict::Drop => {}
            Verdict::Replace(bytes) => {
                let kept = BatchHeader::parse(bytes).map_or(0, |h| h.records_count);
                self.records.1 += u64::from(kept.unsigned_abs());
            }
        }
        Ok(verdict)
    }

    fn judge_marker(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<Verdict, &'static str> {
        if !header.is_transactional() {
            return Ok(Verdict::Keep);
        }
        let alone = self.transactions.pass_marker(header);
        // A marker that a producer is known by keeps its record: an empty one says nothing.
        if !alone || header.base_offset >= self.covered || self.transactions.is_remembered(header) {
            return Ok(Verdict::Keep);
        }
        match header.has_delete_horizon() {
            true if header.base_timestamp <= self.now => Ok(Verdict::Drop),
            true => Ok(Verdict::Keep),
            false => {
                let section = batch.get(HEADER_LEN..).unwrap_or_default();
                self.survey(header, section, |_, _| true)?;
                self.rebuild(header, section, true)
            }
        }
    }

    fn judge_data(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<Verdict, &'static str> {
        self.transactions.pass_data(header);
        if header.records_count == 0 {
            let keep = self.transactions.is_remembered(header);
            return Ok(if keep { Verdict::Keep } else { Verdict::Drop });
        }
        if self.transactions.is_aborted(header) {
            return self.empty(header);
        }
        if header.base_offset >= self.covered {
            return Ok(Verdict::Keep);
        }
        let section = match open(header, batch)? {
            Opened::Records(section) => section,
            Opened::Opaque => {
                self.opaque = true;
                return Ok(Verdict::Keep);
            }
        };
        let expired = header.has_delete_horizon() && header.base_timestamp <= self.now;
        // Behind a batch nobody looked into a tombstone may still have something to hide.
        let drop_tombstones = expired && !self.opaque;
        let (covered, base) = (self.covered, header.base_offset.value());
        let map = Arc::clone(&self.map);
        let mut tombstones = false;
        self.survey(header, &section, |record, delta| {
            let offset = Offset::new(base.saturating_add(delta));
            if offset >= covered {
                return true;
            }
            let Some(key) = record.key else { return false };
            let latest = map.get(key).is_none_or(|latest| offset >= latest);
            let keep = latest && (record.value.is_some() || !drop_tombstones);
            tombstones |= keep && record.value.is_none();
            keep
        })?;
        if self.kept.is_empty() {
            return self.empty(header);
        }
        // What lies above the map has not hidden anything yet: its time starts with a later pass.
        let whole = header.last_offset() < covered;
        let set_horizon = tombstones && whole && !header.has_delete_horizon();
        let all = self.kept.len() as u64 == u64::from(header.records_count.unsigned_abs());
        if all && !set_horizon {
            return Ok(Verdict::Keep);
        }
        self.rebuild(header, &section, set_horizon)
    }

    /// A batch without records stays where its producer is known by it.
    fn empty(&self, header: &BatchHeader) -> Result<Verdict, &'static str> {
        if !self.transactions.is_remembered(header) {
            return Ok(Verdict::Drop);
        }
        emptied(header)
            .map(Verdict::Replace)
            .map_err(|_| "cannot be emptied")
    }

    /// Notes place and timestamp delta of the records for which `keep` holds, which gets each with
    /// its offset delta.
    fn survey(
        &mut self,
        header: &BatchHeader,
        section: &[u8],
        mut keep: impl FnMut(&Record<'_>, i64) -> bool,
    ) -> Result<(), &'static str> {
        self.kept.clear();
        let mut records = RecordIter::new(section, header.records_count);
        let mut start = 0;
        while let Some(record) = records.next() {
            let record = record.map_err(|_| "record does not parse")?;
            let end = section.len() - records.unread();
            if keep(&record, i64::from(record.offset_delta)) {
                self.kept.push((start..end, record.timestamp_delta));
            }
            start = end;
        }
        Ok(())
    }

    /// The batch of the records noted, with the offsets, sequences and epoch of before.
    fn rebuild(
        &self,
        header: &BatchHeader,
        section: &[u8],
        set_horizon: bool,
    ) -> Result<Verdict, &'static str> {
        let mut after = *header;
        after.records_count = i32::try_from(self.kept.len()).map_err(|_| "too many records")?;
        let time_of = |delta: i64| header.base_timestamp.value().saturating_add(delta);
        if header.timestamp_type() == TimestampType::CreateTime {
            let newest = self.kept.iter().map(|(_, delta)| time_of(*delta)).max();
            after.max_timestamp = TimestampMs::new(newest.unwrap_or(-1));
        }
        let rebased = set_horizon.then(|| self.rebased(header, section)).flatten();
        let records = match rebased {
            Some(records) => {
                after.set_delete_horizon(self.horizon);
                records
            }
            None => {
                let length = self.kept.iter().map(|(range, _)| range.len()).sum();
                let mut records = Vec::with_capacity(length);
                for (range, _) in &self.kept {
                    records.extend_from_slice(section.get(range.clone()).unwrap_or_default());
                }
                records
            }
        };
        let codec = header.codec().map_err(|_| "unknown codec")?;
        let records = match codec {
            Codec::None => records,
            codec => compress(codec, &records)
                .map_err(|_| "does not compress")?
                .to_vec(),
        };
        assemble(after, &records)
            .map(Verdict::Replace)
            .map_err(|_| "cannot be put together")
    }

    /// The records noted, with timestamps relative to the horizon; `None` where one cannot be told
    /// that way: the tombstone then stays for good.
    fn rebased(&self, header: &BatchHeader, section: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(section.len());
        for (range, delta) in &self.kept {
            let raw = section.get(range.clone())?;
            let record = RecordIter::new(raw, 1).next()?.ok()?;
            let time = header.base_timestamp.value().checked_add(*delta)?;
            let delta = time.checked_sub(self.horizon.value())?;
            push_rebased(&mut out, raw, &record, delta).ok()?;
        }
        Some(out)
    }
}
