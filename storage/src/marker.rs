//! Transaction markers: the control record of a batch (records page, §3).

use palisade_protocol::batch::record::RecordIter;

use crate::batch::{BatchHeader, HEADER_LEN};
use crate::producer_state::Marker;

/// Reads the marker of a control batch; `None` when it is none.
///
/// Key: version i16, type i16 (0 abort, 1 commit). Value: version i16, coordinator epoch i32.
pub(crate) fn parse(header: &BatchHeader, batch: &[u8]) -> Option<Marker> {
    parse_section(header, batch.get(HEADER_LEN..)?)
}

/// The same from the records section alone.
pub(crate) fn parse_section(header: &BatchHeader, section: &[u8]) -> Option<Marker> {
    let record = RecordIter::new(section, header.records_count)
        .next()?
        .ok()?;
    let kind = i16::from_be_bytes(*record.key?.get(2..)?.first_chunk()?);
    let coordinator_epoch = i32::from_be_bytes(*record.value?.get(2..)?.first_chunk()?);
    let commit = match kind {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Marker {
        commit,
        coordinator_epoch,
    })
}
