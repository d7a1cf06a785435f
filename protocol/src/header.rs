//! Request and response headers (records.md §1).

use crate::api::{self, ApiKey};
use crate::error::{DecodeError, EncodeError};
use crate::reader::Reader;
use crate::text::Str;
use crate::wire;
use crate::writer::Writer;

/// What precedes the body of a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestHeader {
    /// The API asked for; may be a number we do not know.
    pub api_key: i16,
    /// The version of the body; may be one we do not serve.
    pub api_version: i16,
    /// Returned in the response.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// Reads a header of version 1 or 2, as the key and version in it demand.
    ///
    /// The key and version are not judged here: ApiVersions is answered in versions that do not
    /// exist.
    ///
    /// # Errors
    /// The frame is too short or the client id is not text.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let api_key = reader.read_i16()?;
        let api_version = reader.read_i16()?;
        let correlation_id = reader.read_i32()?;
        // The length stays 16 bits wide in header version 2 too.
        let client_id = match reader.read_string_length(false)? {
            Some(length) => Some(reader.read_text(length)?),
            None => None,
        };
        let header_version =
            ApiKey::from_i16(api_key).map(|key| api::request_header_version(key, api_version));
        if header_version == Some(2) {
            skip_tags(reader)?;
        }
        Ok(Self {
            api_key,
            api_version,
            correlation_id,
            client_id,
        })
    }

    /// Writes the header; an unknown key gets version 1.
    ///
    /// # Errors
    /// The client id is longer than 32767 bytes.
    pub fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put_i16(self.api_key);
        writer.put_i16(self.api_version);
        writer.put_i32(self.correlation_id);
        let client_id = self.client_id.as_ref().map(Str::as_bytes);
        writer.put_string_length(client_id.map(<[u8]>::len), false)?;
        writer.put_slice(client_id.unwrap_or_default());
        if ApiKey::from_i16(self.api_key)
            .is_some_and(|key| api::request_header_version(key, self.api_version) == 2)
        {
            writer.put_uvarint(0);
        }
        Ok(())
    }
}

/// Reads a response header and gives its correlation id.
///
/// # Errors
/// The frame is too short.
pub fn decode_response_header(
    reader: &mut Reader,
    key: ApiKey,
    version: i16,
) -> Result<i32, DecodeError> {
    let correlation_id = reader.read_i32()?;
    if api::response_header_version(key, version) == 1 {
        skip_tags(reader)?;
    }
    Ok(correlation_id)
}

/// Writes a response header.
pub(crate) fn encode_response_header(
    writer: &mut Writer,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
) {
    writer.put_i32(correlation_id);
    if api::response_header_version(key, version) == 1 {
        writer.put_uvarint(0);
    }
}

fn skip_tags(reader: &mut Reader) -> Result<(), DecodeError> {
    wire::read_tags(reader, |_, _| Ok(wire::Tag::Unknown))
}
