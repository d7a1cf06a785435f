//! Chance.

use openssl::rand::rand_bytes;
use palisade_protocol::Uuid;

/// An id that nobody else has (RFC 9562, version 4).
///
/// # Panics
/// Where the machine has no randomness, as for keys: there is none to go on with.
pub(crate) fn uuid() -> Uuid {
    let mut bytes = [0; 16];
    rand_bytes(&mut bytes).expect("OpenSSL has a source of chance");
    from_chance(bytes)
}

/// The id that random bytes make.
pub(crate) fn from_chance(mut bytes: [u8; 16]) -> Uuid {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_variant_are_fixed() {
        for byte in [0, 0x55, 0xff] {
            let id = from_chance([byte; 16]);
            let bytes = id.as_bytes();
            assert_eq!((bytes[6] >> 4, bytes[8] >> 6), (4, 2));
            assert_eq!((bytes[0], bytes[15]), (byte, byte));
        }
        assert_ne!(uuid(), uuid());
    }
}
