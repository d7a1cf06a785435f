//! The three primitives of SCRAM over one of two hashes.

use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use zeroize::Zeroizing;

use super::mechanism::ScramMechanism;

pub(crate) fn digest(mechanism: ScramMechanism) -> MessageDigest {
    match mechanism {
        ScramMechanism::Sha256 => MessageDigest::sha256(),
        ScramMechanism::Sha512 => MessageDigest::sha512(),
    }
}

/// `H(data)`.
pub(crate) fn h(mechanism: ScramMechanism, data: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    Ok(hash(digest(mechanism), data)?.to_vec())
}

/// `HMAC(key, data)`, the parts of the data one after the other.
pub(crate) fn hmac(
    mechanism: ScramMechanism,
    key: &[u8],
    parts: &[&[u8]],
) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(digest(mechanism), &key)?;
    for part in parts {
        signer.update(part)?;
    }
    Ok(Zeroizing::new(signer.sign_to_vec()?))
}

/// `Hi(password, salt, iterations)`: PBKDF2 with one block of the hash's length.
pub(crate) fn salted_password(
    mechanism: ScramMechanism,
    password: &[u8],
    salt: &[u8],
    iterations: u32,
) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
    let mut key = Zeroizing::new(vec![0; mechanism.key_len()]);
    let iterations = usize::try_from(iterations).unwrap_or(usize::MAX);
    pbkdf2_hmac(password, salt, iterations, digest(mechanism), &mut key)?;
    Ok(key)
}
