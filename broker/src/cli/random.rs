//! Random texts: passwords and identifiers.

use openssl::{error::ErrorStack, rand::rand_bytes};
use palisade_auth::Secret;
use zeroize::Zeroizing;

/// Letters and digits without those that look alike, 32 in all, so that a byte's low bits choose.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A password of 26 characters, 130 bits, that needs no quoting anywhere.
///
/// # Errors
/// The generator has no randomness.
pub(crate) fn password() -> Result<Secret, ErrorStack> {
    let mut bytes = Zeroizing::new([0u8; 26]);
    rand_bytes(bytes.as_mut())?;
    let text: Zeroizing<Vec<u8>> = Zeroizing::new(
        bytes
            .iter()
            .map(|byte| ALPHABET[usize::from(byte & 31)])
            .collect(),
    );
    Ok(Secret::new(text.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_plain_and_different() {
        let one = password().unwrap();
        let other = password().unwrap();
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 26);
        assert!(one.expose().iter().all(u8::is_ascii_alphanumeric));
    }
}
