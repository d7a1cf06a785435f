//! Whole frames: size prefix, header and body.
//!
//! Reading the size prefix off a socket is the connection's work, which also has the limit.

use bytes::{Bytes, BytesMut};

use crate::api::ApiKey;
use crate::error::{DecodeError, EncodeError};
use crate::header::{self, RequestHeader};
use crate::messages::{Message, Request};
use crate::reader::Reader;
use crate::text::Str;
use crate::writer::{Chunk, Writer};

/// Bytes of the size prefix, which does not count itself.
pub const SIZE_PREFIX_LEN: usize = 4;

/// Encodes a response with its size prefix.
///
/// `buffer` is cleared and written to; keep splitting it off one large buffer to save allocations.
///
/// # Errors
/// The body cannot be said in this version; see [`EncodeError`].
pub fn encode_response<M: Message>(
    buffer: BytesMut,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: &M,
) -> Result<Vec<Chunk>, EncodeError> {
    let mut writer = Writer::frame(buffer);
    header::encode_response_header(&mut writer, key, version, correlation_id);
    body.encode(&mut writer, version)?;
    writer.finish_frame()
}

/// Encodes a request with its size prefix, as a client sends it.
///
/// # Errors
/// The body cannot be said in this version; see [`EncodeError`].
pub fn encode_request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::frame(BytesMut::new());
    let header = RequestHeader {
        api_key: R::KEY.value(),
        api_version: version,
        correlation_id,
        client_id: client_id.map(Str::copy),
    };
    header.encode(&mut writer)?;
    request.encode(&mut writer, version)?;
    let chunks = writer.finish_frame()?;
    Ok(chunks.iter().flat_map(Chunk::as_bytes).copied().collect())
}

/// Decodes a response: its correlation id and its body. `frame` lies behind the size prefix.
///
/// # Errors
/// The bytes are not such a response; see [`DecodeError`].
pub fn decode_response<R: Request>(
    version: i16,
    frame: Bytes,
) -> Result<(i32, R::Response), DecodeError> {
    let mut reader = Reader::new(frame);
    let correlation_id = header::decode_response_header(&mut reader, R::KEY, version)?;
    Ok((correlation_id, R::Response::decode(&mut reader, version)?))
}
