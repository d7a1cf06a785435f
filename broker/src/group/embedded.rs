//! What classic consumers put into the opaque bytes of their protocol: subscription and assignment
//! (ConsumerProtocolSubscription and ConsumerProtocolAssignment of Kafka).
//!
//! Both begin with a version. A version that is not known is read as the newest that is: newer
//! ones only add fields at the end.

use bytes::{Bytes, BytesMut};
use palisade_protocol::{DecodeError, EncodeError, Message, Reader, Str, Writer};

/// Newest version of both.
const NEWEST: i16 = 3;

/// What a classic consumer subscribes to and owns.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-3")]
pub(crate) struct Subscription {
    /// Topics by name.
    pub(crate) topics: Vec<Str>,
    /// The assignor's own bytes.
    #[field(nullable = "0+", default = null)]
    pub(crate) user_data: Option<Bytes>,
    /// Partitions it owns (KIP-429). Since version 1.
    #[field(versions = "1+", ignorable)]
    pub(crate) owned_partitions: Vec<TopicPartitions>,
    /// The generation in which it owned them; -1 for none. Since version 2.
    #[field(versions = "2+", default = -1, ignorable)]
    pub(crate) generation_id: i32,
    /// Its rack. Since version 3.
    #[field(versions = "3+", nullable = "3+", default = null, ignorable)]
    pub(crate) rack_id: Option<Str>,
}

/// What a classic consumer is to consume.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-3")]
pub(crate) struct Assignment {
    /// The partitions.
    pub(crate) assigned_partitions: Vec<TopicPartitions>,
    /// The assignor's own bytes.
    #[field(nullable = "0+", default = null)]
    pub(crate) user_data: Option<Bytes>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(name = "TopicPartition")]
pub(crate) struct TopicPartitions {
    /// The topic's name.
    pub(crate) topic: Str,
    /// The partitions.
    pub(crate) partitions: Vec<i32>,
}

impl Subscription {
    /// Reads a member's metadata; the version it is written in comes with it.
    ///
    /// # Errors
    /// Bytes that are not a subscription.
    pub(crate) fn parse(bytes: &Bytes) -> Result<(i16, Self), DecodeError> {
        parse(bytes)
    }

    /// The version that a member's metadata is written in, without reading the rest.
    ///
    /// # Errors
    /// Bytes that begin with no version.
    pub(crate) fn version(bytes: &Bytes) -> Result<i16, DecodeError> {
        version(&mut Reader::new(bytes.clone()))
    }

    /// Writes it as a client does.
    #[cfg(test)]
    pub(crate) fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        write(self, version)
    }
}

impl Assignment {
    /// Reads a member's assignment; a member without one has empty bytes.
    ///
    /// # Errors
    /// Bytes that are not an assignment.
    pub(crate) fn parse(bytes: &Bytes) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        parse(bytes).map(|(_, assignment)| assignment)
    }

    /// Writes it in a subscription's version.
    ///
    /// # Errors
    /// A name that is longer than its length prefix can say.
    pub(crate) fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        write(self, version)
    }
}

// How often bytes were read in this thread.
#[cfg(test)]
thread_local!(pub(crate) static PARSED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

fn parse<M: Message>(bytes: &Bytes) -> Result<(i16, M), DecodeError> {
    #[cfg(test)]
    PARSED.set(PARSED.get() + 1);
    let mut reader = Reader::new(bytes.clone());
    let version = version(&mut reader)?;
    Ok((version, M::decode(&mut reader, version)?))
}

fn version(reader: &mut Reader) -> Result<i16, DecodeError> {
    match reader.read_i16()? {
        version @ ..0 => Err(DecodeError::UnsupportedVersion { version }),
        version => Ok(version.min(NEWEST)),
    }
}

fn write<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new(BytesMut::new());
    writer.put_i16(version);
    message.encode(&mut writer, version)?;
    let mut bytes = BytesMut::new();
    for chunk in writer.finish() {
        bytes.extend_from_slice(chunk.as_bytes());
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1: topics [ab], no user data, owned {ab: [0, 2]}.
    const OWNER: &[u8] = b"\0\x01\0\0\0\x01\0\x02ab\xff\xff\xff\xff\
        \0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\0\0\0\0\x02";

    #[test]
    fn subscriptions_are_read() {
        let (version, subscription) = Subscription::parse(&Bytes::from_static(OWNER)).unwrap();
        assert_eq!(version, 1);
        assert_eq!(subscription.topics, ["ab"]);
        assert_eq!(subscription.owned_partitions[0].partitions, [0, 2]);
        assert_eq!(subscription.generation_id, -1);
        assert_eq!(subscription.rack_id, None);
    }

    #[test]
    fn newer_versions_are_read_as_the_newest() {
        let newest = Subscription::default().to_bytes(3).unwrap();
        let mut newer = newest.to_vec();
        newer[1] = 9;
        newer.extend_from_slice(b"more");
        let (version, subscription) = Subscription::parse(&Bytes::from(newer)).unwrap();
        assert_eq!((version, subscription), (3, Subscription::default()));
    }

    #[test]
    fn other_bytes_are_refused() {
        for end in 0..OWNER.len() {
            assert!(Subscription::parse(&Bytes::from_static(&OWNER[..end])).is_err());
        }
        assert!(Subscription::parse(&Bytes::from_static(b"\xff\xff")).is_err());
        assert!(Assignment::parse(&Bytes::from_static(b"\0")).is_err());
    }

    #[test]
    fn assignments_come_back() {
        let assignment = Assignment {
            assigned_partitions: vec![TopicPartitions {
                topic: Str::from("ab"),
                partitions: vec![1],
            }],
            user_data: None,
        };
        let bytes = assignment.to_bytes(1).unwrap();
        assert_eq!(
            &bytes[..],
            b"\0\x01\0\0\0\x01\0\x02ab\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff"
        );
        assert_eq!(Assignment::parse(&bytes).unwrap(), assignment);
        assert_eq!(
            Assignment::parse(&Bytes::new()).unwrap(),
            Assignment::default()
        );
    }
}
