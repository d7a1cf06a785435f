//! Judging a produced batch where it lies, and rewriting it only where the topic asks for it.
//!
//! The order of the checks is that of records.md §4: [`framing`] has steps 0 and 1, this file
//! steps 4 to 6 and the size part of step 8. Uncompressed batches are walked without allocation.
//! Whatever opens or compresses records is an [`Opening`], which runs elsewhere.
//! Compressed batches stay closed unless the topic is compacted, forces another codec or bounds
//! old timestamps, the node validates everything (design.md, "What of a batch is opened"), or the
//! header claims more records than there are bytes; the bound on future timestamps is judged by
//! the header.

use std::fmt;

use bytes::Bytes;
use palisade_auth::principal::Principal;
use palisade_protocol::ErrorCode;
use palisade_protocol::batch::{
    BATCH_HEADER_LEN, BatchHeader, Codec, RecordIter, RecordOutline, TimestampType, seal,
    verify_crc,
};
use palisade_protocol::types::TimestampMs;
use palisade_storage::Asker;

use super::settings::RecordRules;
pub(crate) use opening::{GRAIN, Held, Opening, Progress};
use records::{Survey, TimeBounds};
use refusal::Refusal;

pub(crate) mod framing;
mod opening;
mod records;
pub(crate) mod refusal;

/// Bytes that the batch length does not count.
const BATCH_LENGTH_END: usize = 12;
const CODEC_BITS: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const DELETE_HORIZON_BIT: i16 = 0x40;

/// One batch that passed every check of its topic and may be stamped and written.
#[derive(Debug)]
pub struct ValidBatch {
    head: [u8; BATCH_HEADER_LEN],
    section: Bytes,
    records: usize,
    /// In whose line its log waits for a sync.
    asker: Asker,
    /// Memory that was reserved for a new records section.
    held: Option<Held>,
}

impl ValidBatch {
    /// A batch that the broker itself has built.
    ///
    /// # Panics
    /// When `batch` has no whole header, which its builder always writes.
    pub(super) fn built(batch: Bytes) -> ValidBatch {
        let header = match BatchHeader::parse(&batch) {
            Ok(header) => header,
            Err(error) => panic!("a batch of our own does not parse: {error}"),
        };
        ValidBatch {
            head: header.to_bytes(),
            records: usize::try_from(header.records_count).unwrap_or(0),
            section: batch.slice(BATCH_HEADER_LEN..),
            asker: Asker::NODE,
            held: None,
        }
    }

    /// Size in bytes, as it will be stored.
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        BATCH_HEADER_LEN + self.section.len()
    }

    /// Records in the batch.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The same batch, sent by `user`.
    pub(super) fn sent_by(mut self, user: &Principal) -> ValidBatch {
        self.asker = Asker::user(user);
        self
    }

    /// In whose line its log waits for a sync.
    pub(super) fn asker(&self) -> Asker {
        self.asker
    }

    /// The header, for the log to stamp, and the records section.
    pub(super) fn pieces(&mut self) -> (&mut [u8; BATCH_HEADER_LEN], &[u8]) {
        (&mut self.head, &self.section)
    }
}

/// Names the partition in a refusal's text, as Kafka prints it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Topic.
    pub(crate) topic: &'a str,
    /// Partition.
    pub(crate) index: i32,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// What the first look at a batch came to.
#[derive(Debug)]
pub(crate) enum Judged {
    /// It may be written.
    Valid(ValidBatch),
    /// Its records must be opened or compressed first, which takes time.
    Unopened(Box<Opening>),
}

/// Judges exactly one batch, as [`framing::single_batch`] cut it out of a request, as far as that
/// is cheap.
///
/// # Errors
/// [`Refusal`] with Kafka's code and texts; nothing has been changed then.
pub(crate) fn validate(
    batch: Bytes,
    rules: &RecordRules,
    now: TimestampMs,
    place: Place<'_>,
) -> Result<Judged, Refusal> {
    let header = check_header(&batch, rules)?;
    let codec = header
        .codec()
        .map_err(|_| Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR))?;
    check_sanity(&header)?;
    let claims_append_time = header.timestamp_type() == TimestampType::LogAppendTime;
    if claims_append_time && (rules.log_append_time || header.max_timestamp.value() == -1) {
        return Err(Refusal::append_time_claimed(&header));
    }
    let bounds = (!rules.log_append_time).then(|| TimeBounds::around(now, rules));
    let target = rules.codec.unwrap_or(codec);
    let section = batch.slice(BATCH_HEADER_LEN..);
    let mut survey = Survey::new(&header, bounds, rules.compacted);
    let must_open =
        || must_open(&header, bounds.as_ref(), rules) || claims_too_much(&header, section.len());
    if target != codec || (codec != Codec::None && must_open()) {
        let opening = Opening::new(header, section, (codec, target), survey, rules, now, place)?;
        return Ok(Judged::Unopened(Box::new(opening)));
    }
    let max_timestamp = if codec == Codec::None {
        for record in RecordIter::new(&section, header.records_count) {
            let record = record.map_err(|_| Refusal::new(ErrorCode::INVALID_RECORD))?;
            let outline = RecordOutline {
                timestamp_delta: record.timestamp_delta,
                offset_delta: record.offset_delta,
                has_key: record.key.is_some(),
            };
            survey.note(outline, place);
        }
        survey.conclude()?
    } else {
        header.max_timestamp
    };
    conclude(header, section, codec, max_timestamp, rules, now).map(Judged::Valid)
}

/// Step 4: base offset, size as received, length and CRC.
fn check_header(batch: &[u8], rules: &RecordRules) -> Result<BatchHeader, Refusal> {
    if !framing::has_zero_base_offset(batch) {
        return Err(Refusal::new(ErrorCode::INVALID_RECORD));
    }
    if batch.len() > rules.max_message_bytes {
        return Err(Refusal::new(ErrorCode::MESSAGE_TOO_LARGE));
    }
    let corrupt = || Refusal::new(ErrorCode::CORRUPT_MESSAGE);
    let header = BatchHeader::parse(batch).map_err(|_| corrupt())?;
    if header.total_len() != batch.len() || !verify_crc(batch) {
        return Err(corrupt());
    }
    Ok(header)
}

/// Step 5: header sanity.
fn check_sanity(header: &BatchHeader) -> Result<(), Refusal> {
    let dense = header.records_count > 0
        && header.last_offset_delta.checked_add(1) == Some(header.records_count);
    let sequenced = header.producer_id.value() < 0 || header.base_sequence >= 0;
    if dense && sequenced && !header.is_control() {
        Ok(())
    } else {
        Err(Refusal::new(ErrorCode::INVALID_RECORD))
    }
}

/// Whether a compressed batch that keeps its codec has to be opened.
fn must_open(header: &BatchHeader, bounds: Option<&TimeBounds>, rules: &RecordRules) -> bool {
    let bounds_past = !rules.log_append_time && rules.timestamp_before_max_ms != i64::MAX;
    // A header out of bounds is opened too: the answer names every record at fault, and a header
    // that exaggerates is corrected.
    let suspicious = bounds.is_some_and(|bounds| !bounds.allow(header.max_timestamp.value()));
    rules.open_all || rules.compacted || bounds_past || suspicious
}

/// Whether a closed batch has more records than bytes, which few honest ones have.
///
/// A count is what its batch takes of the log's offsets: unproven, 70 bytes could take two billion,
/// and a segment of their own, since offsets within one have 32 bits.
fn claims_too_much(header: &BatchHeader, section_len: usize) -> bool {
    usize::try_from(header.records_count).is_ok_and(|count| count > section_len)
}

/// Writes what was found and decided into the header, and judges the size as stored.
///
/// `section`: the records as they will be stored, compressed with `codec`. `max_timestamp`: the
/// largest of the records.
fn conclude(
    mut header: BatchHeader,
    section: Bytes,
    codec: Codec,
    max_timestamp: TimestampMs,
    rules: &RecordRules,
    now: TimestampMs,
) -> Result<ValidBatch, Refusal> {
    let received = header;
    header.attributes = (header.attributes & !CODEC_BITS) | codec.id();
    if header.timestamp_type() == TimestampType::CreateTime {
        header.max_timestamp = max_timestamp;
    }
    // A producer may not claim the broker's clock; where it did, every record has the time of the
    // header, which is kept.
    header.attributes &= !LOG_APPEND_TIME_BIT;
    // Only a cleaner knows when it has met a tombstone: claimed, it would be dropped at once.
    header.attributes &= !DELETE_HORIZON_BIT;
    if rules.log_append_time {
        header.attributes |= LOG_APPEND_TIME_BIT;
        header.max_timestamp = now;
    }
    let total = BATCH_HEADER_LEN + section.len();
    // The size counts once more as stored, if it was rewritten.
    if total > rules.max_message_bytes {
        return Err(Refusal::new(ErrorCode::MESSAGE_TOO_LARGE));
    }
    if total > rules.segment_bytes {
        return Err(Refusal::new(ErrorCode::RECORD_LIST_TOO_LARGE));
    }
    header.batch_length = i32::try_from(total - BATCH_LENGTH_END)
        .map_err(|_| Refusal::new(ErrorCode::MESSAGE_TOO_LARGE))?;
    // The CRC is renewed only where something changed: it has just been checked.
    let head = if header == received {
        header.to_bytes()
    } else {
        seal(&header, &section)
    };
    Ok(ValidBatch {
        head,
        section,
        records: usize::try_from(header.records_count).unwrap_or_default(),
        asker: Asker::NODE,
        held: None,
    })
}

#[cfg(test)]
mod tests;
