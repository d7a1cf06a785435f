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

#[cfg(test)]
mod tests {
    use std::io;
    use std::ops::Range;
    use std::sync::Arc;

    use super::*;
    use crate::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
    use crate::messages::fetch::{
        FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
    };
    use crate::messages::metadata::MetadataRequest;
    use crate::records::{RecordSource, Records};

    #[derive(Debug)]
    struct Zeros(Vec<u8>);

    impl RecordSource for Zeros {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn slice(&self, range: Range<usize>) -> &[u8] {
            &self.0[range]
        }

        fn is_resident(&self, _range: Range<usize>) -> bool {
            true
        }

        fn make_resident(&self, _range: Range<usize>) -> io::Result<()> {
            Ok(())
        }
    }

    fn fetched(records: Vec<Records>) -> FetchResponse {
        let partitions = records
            .into_iter()
            .map(|records| PartitionData {
                records: Some(records),
                ..Default::default()
            })
            .collect();
        FetchResponse {
            responses: vec![FetchableTopicResponse {
                partitions,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn large_and_shared_records_become_chunks() {
        let large = Bytes::from(vec![1; 5000]);
        let shared: Arc<dyn RecordSource> = Arc::new(Zeros(vec![0; 10]));
        let response = fetched(vec![
            Records::Inline(Bytes::from_static(b"small")),
            Records::Inline(large.clone()),
            Records::Shared(Arc::clone(&shared)),
            Records::Shared(Arc::new(Zeros(Vec::new()))),
        ]);
        let chunks = encode_response(BytesMut::new(), ApiKey::Fetch, 12, 9, &response).unwrap();
        assert_eq!(chunks.len(), 5);
        assert!(matches!(&chunks[1], Chunk::Bytes(bytes) if bytes.as_ptr() == large.as_ptr()));
        assert!(matches!(&chunks[3], Chunk::Records(source) if Arc::ptr_eq(source, &shared)));

        let frame: Vec<u8> = chunks.iter().flat_map(Chunk::as_bytes).copied().collect();
        let (size, rest) = frame.split_first_chunk().unwrap();
        assert_eq!(usize::try_from(u32::from_be_bytes(*size)), Ok(rest.len()));
        let (id, read) = decode_response::<FetchRequest>(12, Bytes::copy_from_slice(rest)).unwrap();
        assert_eq!((id, read), (9, response));
    }

    #[test]
    fn a_request_is_read_back() {
        let request = MetadataRequest {
            topics: None,
            ..Default::default()
        };
        for version in [8, 9] {
            let frame = Bytes::from(encode_request(version, 3, Some("me"), &request).unwrap());
            let mut reader = Reader::new(frame.slice(SIZE_PREFIX_LEN..));
            let header = RequestHeader::decode(&mut reader).unwrap();
            assert_eq!(
                (header.api_key, header.api_version, header.correlation_id),
                (3, version, 3)
            );
            assert_eq!(header.client_id, Some("me".into()));
            assert_eq!(
                MetadataRequest::decode(&mut reader, version).unwrap(),
                request
            );
            assert_eq!(reader.remaining(), 0);
        }
    }

    #[test]
    fn headers_of_unknown_keys_and_versions_are_read() {
        let unknown_key = [0x7f, 0xff, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 1, 2];
        let mut reader = Reader::new(Bytes::copy_from_slice(&unknown_key));
        let header = RequestHeader::decode(&mut reader).unwrap();
        assert_eq!(
            (header.api_key, header.client_id, reader.remaining()),
            (0x7fff, None, 2)
        );
        // ApiVersions of a version to come still has the tags of header version 2.
        let future = [0, 18, 0, 99, 0, 0, 0, 1, 0, 1, b'c', 1, 5, 1, 9, 7];
        let mut reader = Reader::new(Bytes::copy_from_slice(&future));
        assert_eq!(RequestHeader::decode(&mut reader).unwrap().api_version, 99);
        assert_eq!(reader.remaining(), 1);
    }

    #[test]
    fn api_versions_answers_without_tags_in_the_header() {
        let chunks = encode_response(
            BytesMut::new(),
            ApiKey::ApiVersions,
            3,
            1,
            &ApiVersionsResponse::default(),
        )
        .unwrap();
        let frame: Vec<u8> = chunks.iter().flat_map(Chunk::as_bytes).copied().collect();
        // Size, id, error, no keys, no throttling, no tags.
        assert_eq!(frame, [0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0]);
        let read =
            decode_response::<ApiVersionsRequest>(3, Bytes::copy_from_slice(&frame[4..])).unwrap();
        assert_eq!(read, (1, ApiVersionsResponse::default()));
    }
}
