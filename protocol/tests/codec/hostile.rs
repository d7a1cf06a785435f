//! Frames that are cut, altered or made up: an error or a message, never a panic, and little memory.

use bytes::Bytes;
use palisade_protocol::messages::create_topics::CreateTopicsRequest;
use palisade_protocol::messages::fetch::{FetchRequest, FetchResponse};
use palisade_protocol::messages::metadata::MetadataRequest;
use palisade_protocol::{DecodeError, Message, Reader};

use crate::allocations;
use crate::cases::{self, Case};
use crate::values::{Random, put_uvarint, random_message};

/// What one byte of a frame may make the decoder allocate. An empty string is the worst: one byte on
/// the wire, four words in memory.
const BYTES_PER_BYTE: usize = 48;
/// What an empty frame may make it allocate.
const BYTES_ALWAYS: usize = 512;

fn decode_within_bounds(case: &Case, version: i16, bytes: &[u8]) -> bool {
    let frame = Bytes::copy_from_slice(bytes);
    let (result, allocated) = allocations::during(|| (case.decode)(frame, version));
    let bound = bytes.len() * BYTES_PER_BYTE + BYTES_ALWAYS;
    assert!(
        allocated <= bound,
        "{} v{version}: {allocated} bytes for {} of input",
        case.name,
        bytes.len()
    );
    result.is_ok()
}

/// Decodes random messages under allowances around what they need.
fn decode_under_allowances<M: Message>(version: i16) {
    for seed in 0..20 {
        let bytes = random_message(M::SCHEMA, version, &mut Random::new(seed));
        let decode = |allowance| {
            let mut reader = Reader::new(Bytes::copy_from_slice(&bytes)).allowing(allowance);
            let (result, allocated) = allocations::during(|| M::decode(&mut reader, version));
            (result.map(drop), allocated)
        };
        let (whole, needed) = decode(usize::MAX);
        assert_eq!(whole, Ok(()));
        for allowance in [0, needed / 4, needed / 2, needed] {
            let (result, allocated) = decode(allowance);
            assert!(allocated <= allowance + BYTES_ALWAYS, "{allocated} bytes");
            match result {
                Ok(()) => {}
                Err(DecodeError::TooMuchMemory { .. }) => assert!(allowance < needed),
                Err(error) => panic!("v{version} seed {seed}: {error}"),
            }
        }
    }
}

#[test]
fn an_allowance_bounds_what_arrays_take() {
    decode_under_allowances::<CreateTopicsRequest>(7);
    decode_under_allowances::<FetchRequest>(12);
    // Arrays in tagged fields count too.
    decode_under_allowances::<FetchResponse>(16);
    decode_under_allowances::<MetadataRequest>(0);
}

#[test]
fn every_truncation_is_an_error() {
    for case in cases::all() {
        for version in case.versions() {
            for seed in 0..4 {
                let bytes = random_message(case.schema, version, &mut Random::new(seed));
                for end in 0..bytes.len() {
                    let accepted = decode_within_bounds(&case, version, &bytes[..end]);
                    assert!(
                        !accepted,
                        "{} v{version} seed {seed}: {end} of {} bytes",
                        case.name,
                        bytes.len()
                    );
                }
            }
        }
    }
}

#[test]
fn altered_frames_stay_within_bounds() {
    for case in cases::all() {
        for version in case.versions() {
            let mut random = Random::new(u64::from(version.cast_unsigned()));
            for _ in 0..200 {
                let mut bytes = random_message(case.schema, version, &mut random);
                for _ in 0..=random.below(4) {
                    if bytes.is_empty() {
                        break;
                    }
                    let at = random.below(bytes.len());
                    bytes[at] =
                        [0, 1, 0x7f, 0x80, 0xfe, 0xff, random.next() as u8][random.below(7)];
                }
                decode_within_bounds(&case, version, &bytes);
            }
        }
    }
}

#[test]
fn made_up_frames_stay_within_bounds() {
    let mut random = Random::new(1);
    for case in cases::all() {
        for version in case.versions() {
            for _ in 0..100 {
                let length = random.below(300);
                // Mostly small bytes: they pass for counts and lengths and lead deeper than noise does.
                let bytes: Vec<u8> = (0..length)
                    .map(|_| {
                        if random.one_in(8) {
                            random.next() as u8
                        } else {
                            random.below(4) as u8
                        }
                    })
                    .collect();
                decode_within_bounds(&case, version, &bytes);
            }
        }
    }
}

#[test]
fn the_largest_count_that_fits_stays_within_bounds() {
    for case in cases::all() {
        for version in case.versions() {
            // Zeros behind a count are the cheapest elements there are, wherever the array starts.
            for start in 0..24 {
                let mut bytes = vec![0; start];
                put_uvarint(4000, &mut bytes);
                bytes.resize(4096, 0);
                decode_within_bounds(&case, version, &bytes);
                let mut bytes = vec![0; start];
                bytes.extend(1000_i32.to_be_bytes());
                bytes.resize(4096, 0);
                decode_within_bounds(&case, version, &bytes);
            }
        }
    }
}
