//! The one thing the coordinator reads in a consumer's metadata: the topics it subscribes to.

use bytes::Bytes;
use palisade_protocol::{DecodeError, Reader};

/// The topics of a ConsumerProtocolSubscription, of any version; none when it does not parse.
///
/// `version:i16, topics[] string`, both classic; what newer versions add lies behind.
pub(crate) fn topics_of_subscription(metadata: &Bytes) -> Option<Vec<String>> {
    read_topics(&mut Reader::new(metadata.clone())).ok()
}

fn read_topics(reader: &mut Reader) -> Result<Vec<String>, DecodeError> {
    let version = reader.read_i16()?;
    if version < 0 {
        return Err(DecodeError::UnsupportedVersion { version });
    }
    let count = reader.read_length(false)?.unwrap_or(0);
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = reader.read_string_length(false)?;
        let length = length.ok_or(DecodeError::UnexpectedNull)?;
        topics.push(reader.read_text(length)?.to_string());
    }
    Ok(topics)
}
