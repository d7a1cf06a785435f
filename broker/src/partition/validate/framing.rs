//! Steps 0 and 1 of the append pipeline: how many batches there are, before any is trusted.

use bytes::Bytes;
use palisade_protocol::ErrorCode;
use palisade_protocol::batch::Codec;

use super::refusal::Refusal;

/// Base offset and length: what has to be there before a batch can be walked over.
const OVERHEAD: usize = 12;
/// The smallest length a record of any format can have.
const MIN_LENGTH: i32 = 14;

const LENGTH_AT: usize = 8;
const MAGIC_AT: usize = 16;
const ATTRIBUTES_AT: usize = 21;

const CODEC_BITS: i16 = 0x07;
const TRANSACTIONAL_BIT: i16 = 0x10;

/// What the first bytes of a partition's records show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstLook {
    /// Not one whole batch.
    Nothing,
    /// A whole batch of this many bytes.
    Batch {
        /// Total size in bytes.
        len: usize,
        /// Format version.
        magic: i8,
        /// The batch belongs to a transaction.
        transactional: bool,
    },
}

/// Step 0: looks at the first batch of one partition.
///
/// # Errors
/// A refusal of the whole request, with the text that every partition gets.
pub(crate) fn first_look(records: &[u8]) -> Result<FirstLook, Refusal> {
    let Some(length) = read_i32(records, LENGTH_AT) else {
        return Ok(FirstLook::Nothing);
    };
    if length < MIN_LENGTH {
        return Err(Refusal::with_text(
            ErrorCode::CORRUPT_MESSAGE,
            format!("Record size {length} is less than the minimum record overhead ({MIN_LENGTH})"),
        ));
    }
    let Some(magic) = records.get(MAGIC_AT) else {
        return Ok(FirstLook::Nothing);
    };
    let magic = i8::from_be_bytes([*magic]);
    if !(0..=2).contains(&magic) {
        return Err(Refusal::with_text(
            ErrorCode::CORRUPT_MESSAGE,
            format!("Invalid magic found in record: {magic}"),
        ));
    }
    // Kafka's sum overflows here and fails the request.
    let len = length
        .checked_add(OVERHEAD as i32)
        .and_then(|len| usize::try_from(len).ok())
        .ok_or_else(|| Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR))?;
    if len > records.len() {
        return Ok(FirstLook::Nothing);
    }
    let attributes = read_i16(records, ATTRIBUTES_AT).unwrap_or_default();
    Ok(FirstLook::Batch {
        len,
        magic,
        transactional: magic == 2 && attributes & TRANSACTIONAL_BIT != 0,
    })
}

/// Step 1: cuts out the one batch there may be; `zstd` tells whether the client's version of the
/// request knows that codec (KIP-110, Produce v7).
///
/// # Errors
/// `INVALID_RECORD` for none, several, or an old format; `CORRUPT_MESSAGE` for what follows it;
/// `UNSUPPORTED_COMPRESSION_TYPE`.
pub(crate) fn single_batch(mut records: Bytes, zstd: bool) -> Result<Bytes, Refusal> {
    let FirstLook::Batch { len, magic, .. } = first_look(&records)? else {
        return Err(Refusal::new(ErrorCode::INVALID_RECORD));
    };
    let rest = records.get(len..).unwrap_or_default();
    match first_look(rest) {
        Ok(FirstLook::Nothing) => {}
        Ok(FirstLook::Batch { .. }) => return Err(Refusal::new(ErrorCode::INVALID_RECORD)),
        Err(_) => return Err(Refusal::new(ErrorCode::CORRUPT_MESSAGE)),
    }
    if magic != 2 {
        return Err(Refusal::new(ErrorCode::INVALID_RECORD));
    }
    let attributes = read_i16(&records, ATTRIBUTES_AT).unwrap_or_default();
    if !zstd && attributes & CODEC_BITS == Codec::Zstd.id() {
        return Err(Refusal::new(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE));
    }
    records.truncate(len);
    Ok(records)
}

/// Whether the producer left the base offset to the broker, as it must.
pub(super) fn has_zero_base_offset(batch: &[u8]) -> bool {
    batch
        .get(..LENGTH_AT)
        .is_some_and(|base| base == [0; LENGTH_AT])
}

fn read_i16(bytes: &[u8], at: usize) -> Option<i16> {
    let field = bytes.get(at..)?.first_chunk::<2>()?;
    Some(i16::from_be_bytes(*field))
}

fn read_i32(bytes: &[u8], at: usize) -> Option<i32> {
    let field = bytes.get(at..)?.first_chunk::<4>()?;
    Some(i32::from_be_bytes(*field))
}
