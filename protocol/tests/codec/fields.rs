//! The rules of versions, tags and nulls, on frames written by hand.

use bytes::{Bytes, BytesMut};
use palisade_protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use palisade_protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use palisade_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use palisade_protocol::messages::sasl_handshake::SaslHandshakeRequest;
use palisade_protocol::{DecodeError, EncodeError, ErrorCode, Message, Reader, Str, Writer};

fn decode<M: Message>(version: i16, bytes: &[u8]) -> Result<M, DecodeError> {
    M::decode(&mut Reader::new(Bytes::copy_from_slice(bytes)), version)
}

fn encode<M: Message>(version: i16, message: &M) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::new(BytesMut::new());
    message.encode(&mut writer, version)?;
    Ok(writer
        .finish()
        .iter()
        .flat_map(|chunk| chunk.as_bytes())
        .copied()
        .collect())
}

/// An empty flexible fetch request up to its tagged fields.
fn fetch_v12(tags: &[u8]) -> Vec<u8> {
    let mut bytes = [0xff; 4].to_vec(); // replica id -1
    bytes.extend([0; 8]); // waiting, fewest bytes
    bytes.extend([0x7f, 0xff, 0xff, 0xff, 0]); // most bytes, isolation
    bytes.extend([0; 4]); // session id
    bytes.extend([0xff; 4]); // session epoch -1
    bytes.extend([1, 1, 1]); // no topics, none forgotten, empty rack
    bytes.extend(tags);
    bytes
}

#[test]
fn tags_are_read_skipped_and_judged() {
    let cluster = decode::<FetchRequest>(12, &fetch_v12(&[1, 0, 2, 2, b'c'])).unwrap();
    assert_eq!(cluster.cluster_id, Some(Str::from("c")));
    let unknown =
        decode::<FetchRequest>(12, &fetch_v12(&[2, 0, 2, 2, b'c', 99, 3, 1, 2, 3])).unwrap();
    assert_eq!(unknown, cluster);
    // Tag 1 came with version 15.
    let replica_state = [1, 1, 13, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    assert_eq!(
        decode::<FetchRequest>(12, &fetch_v12(&replica_state)),
        Err(DecodeError::TagNotInVersion { tag: 1 })
    );
    let repeated = [2, 0, 2, 2, b'c', 0, 2, 2, b'd'];
    assert_eq!(
        decode::<FetchRequest>(12, &fetch_v12(&repeated)),
        Err(DecodeError::TagOrder { tag: 0 })
    );
    let surplus = [1, 0, 3, 2, b'c', 0];
    assert_eq!(
        decode::<FetchRequest>(12, &fetch_v12(&surplus)),
        Err(DecodeError::TagSize { tag: 0, surplus: 1 })
    );
    let beyond_its_size = [1, 0, 1, 2, b'c'];
    assert!(matches!(
        decode::<FetchRequest>(12, &fetch_v12(&beyond_its_size)),
        Err(DecodeError::Truncated {
            needed: 1,
            remaining: 0
        })
    ));
    assert!(matches!(
        decode::<FetchRequest>(12, &fetch_v12(&[1, 7, 100])),
        Err(DecodeError::Truncated { .. })
    ));
}

#[test]
fn bytes_after_the_body_are_left() {
    let mut reader = Reader::new(Bytes::from_static(&[0, 1, b'x', 7, 7]));
    let request = SaslHandshakeRequest::decode(&mut reader, 1).unwrap();
    assert_eq!((request.mechanism.as_str(), reader.remaining()), ("x", 2));
}

#[test]
fn names_share_the_frames_bytes() {
    let frame = Bytes::from_static(&[0, 5, b'P', b'L', b'A', b'I', b'N']);
    let request = SaslHandshakeRequest::decode(&mut Reader::new(frame.clone()), 1).unwrap();
    assert_eq!(request.mechanism.as_bytes().as_ptr(), frame[2..].as_ptr());
}

#[test]
fn null_is_judged_by_version() {
    // Metadata asks for all topics by null since version 1.
    assert_eq!(
        decode::<MetadataRequest>(1, &[0xff; 4]).unwrap().topics,
        None
    );
    assert_eq!(
        decode::<MetadataRequest>(0, &[0xff; 4]),
        Err(DecodeError::UnexpectedNull)
    );
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert_eq!(
        encode(0, &all),
        Err(EncodeError::UnexpectedNull { field: "topics" })
    );
    assert_eq!(encode(1, &all).unwrap(), [0xff; 4]);
    assert_eq!(
        decode::<SaslHandshakeRequest>(0, &[0xff, 0xff]),
        Err(DecodeError::UnexpectedNull)
    );
    assert_eq!(
        decode::<SaslHandshakeRequest>(0, &[0xff, 0xfe]),
        Err(DecodeError::NegativeLength { length: -2 })
    );
}

#[test]
fn values_that_matter_are_not_dropped() {
    let request = MetadataRequest {
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let refused = EncodeError::FieldNotInVersion {
        field: "allow_auto_topic_creation",
        version: 3,
    };
    assert_eq!(encode(3, &request), Err(refused));
    assert!(encode(4, &request).is_ok());
    // Ignorable ones are.
    let response = MetadataResponse {
        throttle_time_ms: 5,
        cluster_id: Some("c".into()),
        ..Default::default()
    };
    assert_eq!(
        decode::<MetadataResponse>(1, &encode(1, &response).unwrap()).unwrap(),
        MetadataResponse::default()
    );
}

#[test]
fn a_leader_hint_needs_its_version() {
    let mut partition = PartitionProduceResponse {
        error_code: ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ..Default::default()
    };
    partition.current_leader.leader_id = 3;
    let topic = TopicProduceResponse {
        partition_responses: vec![partition],
        ..Default::default()
    };
    let response = ProduceResponse {
        responses: vec![topic],
        ..Default::default()
    };
    for version in [8, 9] {
        let refused = EncodeError::FieldNotInVersion {
            field: "current_leader",
            version,
        };
        assert_eq!(encode(version, &response), Err(refused));
    }
    assert_eq!(
        decode::<ProduceResponse>(10, &encode(10, &response).unwrap()).unwrap(),
        response
    );
}

#[test]
fn false_counts_and_texts_are_refused() {
    let count = decode::<MetadataRequest>(1, &[0x7f, 0xff, 0xff, 0xff, 0, 0]);
    assert_eq!(
        count,
        Err(DecodeError::CountTooLarge {
            count: 0x7fff_ffff,
            remaining: 2
        })
    );
    assert_eq!(
        decode::<SaslHandshakeRequest>(0, &[0, 1, 0xff]),
        Err(DecodeError::NotUtf8)
    );
    // A compact length may say more than a string may have.
    let mut long = vec![0x81, 0x80, 0x02];
    long.resize(40_000, b'x');
    let refused = decode::<ProduceRequest>(9, &long);
    assert_eq!(refused, Err(DecodeError::StringTooLong { length: 32_768 }));
    let request = SaslHandshakeRequest {
        mechanism: "x".repeat(32_768).into(),
    };
    assert_eq!(
        encode(1, &request),
        Err(EncodeError::TooLong { length: 32_768 })
    );
}

#[test]
fn absent_fields_read_as_their_defaults() {
    let partition = PartitionData {
        preferred_read_replica: -1,
        ..Default::default()
    };
    let topic = FetchableTopicResponse {
        partitions: vec![partition],
        ..Default::default()
    };
    let response = FetchResponse {
        responses: vec![topic],
        ..Default::default()
    };
    let read = decode::<FetchResponse>(4, &encode(4, &response).unwrap()).unwrap();
    let partition = &read.responses[0].partitions[0];
    assert_eq!(
        (partition.log_start_offset, partition.preferred_read_replica),
        (-1, -1)
    );
    assert_eq!(partition.diverging_epoch.end_offset, -1);
}
