//! What the independent encoder wrote is read and written back unchanged, at every version.

use bytes::Bytes;
use palisade_protocol::{DecodeError, EncodeError};

use crate::cases;
use crate::values::{Random, random_message};

/// Random messages per message and version.
const ROUNDS: u64 = 40;

#[test]
fn random_messages_survive_at_every_version() {
    for case in cases::all() {
        for version in case.versions() {
            for seed in 0..ROUNDS {
                let bytes =
                    Bytes::from(random_message(case.schema, version, &mut Random::new(seed)));
                let context = format!("{} v{version} seed {seed}", case.name);
                assert_eq!((case.decode)(bytes.clone(), version), Ok(0), "{context}");
                assert_eq!(
                    (case.reencode)(bytes.clone(), version).as_deref(),
                    Ok(&bytes[..]),
                    "{context}"
                );
            }
        }
    }
}

#[test]
fn defaults_survive_at_every_version() {
    for case in cases::all() {
        for version in case.versions() {
            let bytes = match (case.encode_default)(version) {
                Ok(bytes) => Bytes::from(bytes),
                // A field whose default is null where this version does not allow it.
                Err(EncodeError::UnexpectedNull { .. }) => continue,
                Err(error) => panic!("{} v{version}: {error}", case.name),
            };
            assert_eq!(
                (case.decode)(bytes.clone(), version),
                Ok(0),
                "{} v{version}",
                case.name
            );
            assert_eq!(
                (case.reencode)(bytes.clone(), version).as_deref(),
                Ok(&bytes[..])
            );
        }
    }
}

#[test]
fn versions_outside_the_range_are_refused() {
    for case in cases::all() {
        for version in [
            case.schema.versions.first - 1,
            case.schema.versions.last + 1,
            i16::MIN,
            i16::MAX,
        ] {
            assert_eq!(
                (case.decode)(Bytes::new(), version),
                Err(DecodeError::UnsupportedVersion { version })
            );
            assert_eq!(
                (case.encode_default)(version),
                Err(EncodeError::UnsupportedVersion { version })
            );
        }
    }
}
