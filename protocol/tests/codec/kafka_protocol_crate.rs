//! The same bytes as the `kafka-protocol` crate, which is generated from Kafka 4.1.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message};

use crate::cases::{self, with_apis};
use crate::values::{Random, random_message};

/// Random messages per message and version.
const ROUNDS: u64 = 20;

type Reencode = fn(Bytes, i16) -> Vec<u8>;

fn reencode<M: Decodable + Encodable>(mut bytes: Bytes, version: i16) -> Vec<u8> {
    let message = M::decode(&mut bytes, version).expect("the other crate decodes");
    assert!(
        bytes.is_empty(),
        "the other crate leaves {} bytes",
        bytes.len()
    );
    let mut out = BytesMut::new();
    message
        .encode(&mut out, version)
        .expect("the other crate encodes");
    out.to_vec()
}

fn theirs<M: Decodable + Encodable + Message>() -> (RangeInclusive<i16>, Reencode) {
    (M::VERSIONS.min..=M::VERSIONS.max, reencode::<M>)
}

macro_rules! list {
    ($($module:ident $request:ident $response:ident;)*) => {
        /// The other crate's messages, in the order of ours.
        fn all_theirs() -> Vec<(RangeInclusive<i16>, Reencode)> {
            vec![$(
                theirs::<kafka_protocol::messages::$request>(),
                theirs::<kafka_protocol::messages::$response>(),
            )*]
        }
    };
}
with_apis!(list);

#[test]
fn bytes_are_equal_where_both_know_the_version() {
    let mut compared = 0;
    for (case, (versions, reencode)) in cases::all().into_iter().zip(all_theirs()) {
        for version in case.versions().filter(|version| versions.contains(version)) {
            for seed in 0..ROUNDS {
                let bytes =
                    Bytes::from(random_message(case.schema, version, &mut Random::new(seed)));
                let ours = (case.reencode)(bytes.clone(), version).expect("we encode");
                assert_eq!(ours, bytes, "{} v{version} seed {seed}: ours", case.name);
                assert_eq!(
                    reencode(bytes, version),
                    ours,
                    "{} v{version} seed {seed}: theirs",
                    case.name
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 5000, "only {compared} messages were compared");
}
