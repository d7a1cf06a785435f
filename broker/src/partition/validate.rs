//! Judging a produced batch where it lies, and rewriting it only where the topic asks for it.
//!
//! The order of the checks is that of records.md §4: [`framing`] has steps 0 and 1, this file
//! steps 4 to 6 and the size part of step 8. Uncompressed batches are walked without allocation.
//! Compressed batches stay closed unless the topic is compacted, forces another codec or bounds
//! old timestamps, or the node validates everything (design.md, "What of a batch is opened"); the
//! bound on future timestamps is judged by the header.

use std::fmt;

use bytes::{Bytes, BytesMut};
use palisade_protocol::ErrorCode;
use palisade_protocol::batch::compression::{compress_at, decompress};
use palisade_protocol::batch::{
    BATCH_HEADER_LEN, BatchHeader, Codec, TimestampType, crc::set_max_timestamp,
    set_log_append_time, verify_crc,
};
use palisade_protocol::types::TimestampMs;

use super::settings::RecordRules;
use records::{TimeBounds, survey};
use refusal::Refusal;

pub(crate) mod framing;
mod records;
pub(crate) mod refusal;

/// Most bytes the records of one compressed batch may take once opened. Without a bound a
/// few KiB could ask for gigabytes; real batches stay far below.
const MAX_OPENED_BYTES: usize = 64 * 1024 * 1024;

/// Bytes that the batch length does not count.
const BATCH_LENGTH_END: usize = 12;
const CODEC_BITS: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;

/// One batch that passed every check of its topic and may be stamped and written.
#[derive(Debug)]
pub struct ValidBatch {
    bytes: BytesMut,
    records: usize,
}

impl ValidBatch {
    /// Size in bytes, as it will be stored.
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Records in the batch.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The bytes, for the log to stamp.
    pub(super) fn into_bytes(self) -> BytesMut {
        self.bytes
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

/// What has to be done to a batch before it is written.
///
/// Attributes never change alone: a time is always written with them, and with it the CRC.
#[derive(Debug, Default)]
struct Changes {
    /// Replace the records section.
    section: Option<Bytes>,
    /// Write these attributes, and the length anew.
    attributes: Option<i16>,
    /// Write this largest timestamp.
    max_timestamp: Option<TimestampMs>,
    /// Stamp the broker's clock.
    log_append_time: Option<TimestampMs>,
}

/// Judges exactly one batch, as [`framing::single_batch`] cut it out of a request.
///
/// # Errors
/// [`Refusal`] with Kafka's code and texts; nothing has been changed then.
pub(crate) fn validate(
    batch: Bytes,
    rules: &RecordRules,
    now: TimestampMs,
    place: Place<'_>,
) -> Result<ValidBatch, Refusal> {
    let header = check_header(&batch, rules)?;
    let codec = header
        .codec()
        .map_err(|_| Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR))?;
    check_sanity(&header)?;
    let changes = check_records(&batch, &header, codec, rules, now, place)?;
    let records = usize::try_from(header.records_count).unwrap_or_default();
    let bytes = rewrite(batch, header, changes);
    // The size counts once more as stored, if it was rewritten.
    if bytes.len() > rules.max_message_bytes {
        return Err(Refusal::new(ErrorCode::MESSAGE_TOO_LARGE));
    }
    if bytes.len() > rules.segment_bytes {
        return Err(Refusal::new(ErrorCode::RECORD_LIST_TOO_LARGE));
    }
    Ok(ValidBatch { bytes, records })
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

/// Step 6: the records, as far as the topic asks for them.
fn check_records(
    batch: &Bytes,
    header: &BatchHeader,
    codec: Codec,
    rules: &RecordRules,
    now: TimestampMs,
    place: Place<'_>,
) -> Result<Changes, Refusal> {
    let claims_append_time = header.timestamp_type() == TimestampType::LogAppendTime;
    if claims_append_time && (rules.log_append_time || header.max_timestamp.value() == -1) {
        return Err(Refusal::append_time_claimed(header));
    }
    let bounds = (!rules.log_append_time).then(|| TimeBounds::around(now, rules));
    let target = rules.codec.unwrap_or(codec);
    let section = batch.slice(BATCH_HEADER_LEN..);
    let opened = if codec == Codec::None {
        Some(section)
    } else if must_open(header, codec, target, bounds.as_ref(), rules) {
        Some(open(codec, &section)?)
    } else {
        None
    };

    let mut changes = Changes::default();
    let mut max_timestamp = header.max_timestamp;
    let mut attributes = header.attributes;
    if let Some(plain) = opened {
        let found = survey(&plain, header, bounds.as_ref(), rules.compacted, place)?;
        if !claims_append_time {
            // Under that bit every record has the header's time, which is kept.
            max_timestamp = found.max_timestamp;
        }
        if target != codec {
            let packed = compress_at(target, rules.compression_level, &plain)
                .map_err(|_| Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR))?;
            changes.section = Some(packed);
            attributes = (attributes & !CODEC_BITS) | target.id();
        }
    }
    if claims_append_time {
        attributes &= !LOG_APPEND_TIME_BIT;
    }
    let rewritten = attributes != header.attributes;
    changes.attributes = rewritten.then_some(attributes);
    changes.max_timestamp =
        (rewritten || max_timestamp != header.max_timestamp).then_some(max_timestamp);
    changes.log_append_time = rules.log_append_time.then_some(now);
    Ok(changes)
}

/// Whether a compressed batch has to be opened.
fn must_open(
    header: &BatchHeader,
    codec: Codec,
    target: Codec,
    bounds: Option<&TimeBounds>,
    rules: &RecordRules,
) -> bool {
    let bounds_past = !rules.log_append_time && rules.timestamp_before_max_ms != i64::MAX;
    // A header out of bounds is opened too: the answer names every record at fault, and a header
    // that exaggerates is corrected.
    let suspicious = bounds.is_some_and(|bounds| !bounds.allow(header.max_timestamp.value()));
    rules.open_all || rules.compacted || target != codec || bounds_past || suspicious
}

fn open(codec: Codec, section: &[u8]) -> Result<Bytes, Refusal> {
    // Final for the client: a code it retries on would send the same bytes again.
    decompress(codec, section, MAX_OPENED_BYTES)
        .map_err(|_| Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR))
}

/// Applies the changes; copies only where the bytes are shared or the records section is new.
fn rewrite(batch: Bytes, mut header: BatchHeader, changes: Changes) -> BytesMut {
    let mut bytes = match &changes.section {
        Some(section) => {
            let mut bytes = BytesMut::with_capacity(BATCH_HEADER_LEN + section.len());
            bytes.extend_from_slice(&header.to_bytes());
            bytes.extend_from_slice(section);
            bytes
        }
        None => batch
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(shared.as_ref())),
    };
    if let Some(attributes) = changes.attributes {
        header.attributes = attributes;
        header.batch_length = i32::try_from(bytes.len() - BATCH_LENGTH_END)
            .expect("the codecs refuse what does not fit");
        if let Some(place) = bytes.first_chunk_mut::<BATCH_HEADER_LEN>() {
            *place = header.to_bytes();
        }
    }
    // Both renew the CRC over everything from the attributes on.
    if let Some(now) = changes.log_append_time {
        set_log_append_time(&mut bytes, now);
    } else if let Some(max) = changes.max_timestamp {
        set_max_timestamp(&mut bytes, max);
    }
    bytes
}

#[cfg(test)]
mod tests;
