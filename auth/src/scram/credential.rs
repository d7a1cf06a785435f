//! What the cluster keeps of a SCRAM password: never the password, nor a replayable form.

use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use thiserror::Error;
use zeroize::Zeroize;

use super::crypto::{h, hmac, salted_password};
use super::mechanism::ScramMechanism;
use crate::audit::SecretDigest;
use crate::secret::{Secret, constant_time_eq};

/// The least iterations a stored credential may have.
pub const MIN_ITERATIONS: u32 = 4096;

/// The most iterations the admin API accepts.
pub const MAX_ITERATIONS: u32 = 16384;

/// The iterations the reference's tools use unless told otherwise.
pub const DEFAULT_ITERATIONS: u32 = 4096;

/// Why a credential cannot be made.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// Fewer than [`MIN_ITERATIONS`].
    #[error("{0} iterations are too few; at least {MIN_ITERATIONS} are needed")]
    TooFewIterations(u32),
    /// A key or salted password of the wrong length.
    #[error("{mechanism} needs {} bytes, not {length}", mechanism.key_len())]
    KeyLength {
        /// The mechanism.
        mechanism: ScramMechanism,
        /// The length found.
        length: usize,
    },
    /// The salt is empty.
    #[error("the salt is empty")]
    EmptySalt,
    /// OpenSSL failed.
    #[error("hashing failed: {0}")]
    Crypto(#[from] ErrorStack),
}

/// A stored SCRAM credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// The mechanism it is for.
    pub mechanism: ScramMechanism,
    /// The salt, chosen by whoever set the password.
    pub salt: Vec<u8>,
    /// `H(ClientKey)`: verifies the client.
    pub stored_key: Secret,
    /// Proves the server to the client.
    pub server_key: Secret,
    /// The PBKDF2 iterations.
    pub iterations: u32,
}

impl ScramCredential {
    /// Derives a credential from a password, which is used as its bytes, without SASLprep.
    ///
    /// # Errors
    /// Too few iterations, or no salt.
    pub fn from_password(
        mechanism: ScramMechanism,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self, CredentialError> {
        check(salt, iterations)?;
        let salted = salted_password(mechanism, password, salt, iterations)?;
        Self::from_salted_password(mechanism, &salted, salt, iterations)
    }

    /// Derives a credential from the salted password that the admin API carries (KIP-554).
    ///
    /// # Errors
    /// Too few iterations, no salt, or a salted password of the wrong length.
    pub fn from_salted_password(
        mechanism: ScramMechanism,
        salted_password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self, CredentialError> {
        check(salt, iterations)?;
        check_key(mechanism, salted_password)?;
        let client_key = hmac(mechanism, salted_password, &[b"Client Key"])?;
        let server_key = hmac(mechanism, salted_password, &[b"Server Key"])?;
        Ok(Self {
            mechanism,
            salt: salt.to_vec(),
            stored_key: Secret::new(h(mechanism, &client_key)?),
            server_key: Secret::new(server_key.to_vec()),
            iterations,
        })
    }

    /// Takes the parts as they were stored.
    ///
    /// # Errors
    /// Parts that no exchange could use: a forged record must not make logins weaker.
    pub fn from_stored(
        mechanism: ScramMechanism,
        salt: Vec<u8>,
        stored_key: Vec<u8>,
        server_key: Vec<u8>,
        iterations: u32,
    ) -> Result<Self, CredentialError> {
        let credential = Self {
            mechanism,
            salt,
            stored_key: Secret::new(stored_key),
            server_key: Secret::new(server_key),
            iterations,
        };
        credential.check()?;
        Ok(credential)
    }

    /// Checks what an exchange needs of a credential.
    pub(crate) fn check(&self) -> Result<(), CredentialError> {
        check(&self.salt, self.iterations)?;
        check_key(self.mechanism, self.stored_key.expose())?;
        check_key(self.mechanism, self.server_key.expose())
    }

    /// Tells whether this password belongs to the credential, in constant time for equal
    /// iterations.
    ///
    /// # Errors
    /// OpenSSL failed.
    pub fn verify_password(&self, password: &[u8]) -> Result<bool, CredentialError> {
        let derived = Self::from_password(self.mechanism, password, &self.salt, self.iterations)?;
        Ok(constant_time_eq(
            derived.stored_key.expose(),
            self.stored_key.expose(),
        ))
    }

    /// A public name for this very credential: sessions carry it, so that replacing the
    /// credential ends them and setting the same one again does not.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = openssl::sha::Sha256::new();
        hasher.update(b"palisade-credential");
        hasher.update(&[self.mechanism as u8]);
        hasher.update(self.stored_key.expose());
        hasher.finish()
    }

    /// What the audit log says of this credential: equal for equal ones, and nothing to try
    /// passwords against without the key (security.md §5.2). `None` when OpenSSL fails.
    pub fn digest(&self, key: &Secret) -> Option<SecretDigest> {
        let parts: [&[u8]; 2] = [b"palisade-audit-credential\0", &self.fingerprint()];
        let hash = hmac(ScramMechanism::Sha256, key.expose(), &parts).ok()?;
        hash.first_chunk().copied().map(SecretDigest)
    }
}

fn check(salt: &[u8], iterations: u32) -> Result<(), CredentialError> {
    if iterations < MIN_ITERATIONS {
        return Err(CredentialError::TooFewIterations(iterations));
    }
    if salt.is_empty() {
        return Err(CredentialError::EmptySalt);
    }
    Ok(())
}

fn check_key(mechanism: ScramMechanism, key: &[u8]) -> Result<(), CredentialError> {
    if key.len() == mechanism.key_len() {
        Ok(())
    } else {
        Err(CredentialError::KeyLength {
            mechanism,
            length: key.len(),
        })
    }
}

/// Makes a salt as the Java tools do: a random number of 130 bits printed in base 36.
///
/// One shape for all salts keeps the invented salts of unknown users from standing out.
///
/// # Errors
/// The random number generator failed.
pub fn random_salt() -> Result<Vec<u8>, CredentialError> {
    Ok(random_text()?.into_bytes())
}

/// A random number of 130 bits, printed in base 36: about 26 characters.
pub(super) fn random_text() -> Result<String, ErrorStack> {
    let mut bytes = [0; 17];
    rand_bytes(&mut bytes)?;
    let text = base36_of_130_bits(bytes);
    bytes.zeroize();
    Ok(text)
}

/// Prints the low 130 bits of a big-endian number in base 36, without leading zeros.
pub(super) fn base36_of_130_bits(mut number: [u8; 17]) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    number[0] &= 0b11;
    let mut digits = Vec::with_capacity(26);
    while number.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest << 8 | u32::from(*byte);
            // The quotient fits a byte because the rest was below 36.
            *byte = (value / 36) as u8;
            rest = value % 36;
        }
        digits.push(DIGITS[rest as usize % 36]);
    }
    if digits.is_empty() {
        digits.push(b'0');
    }
    digits
        .iter()
        .rev()
        .map(|digit| char::from(*digit))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base36_agrees_with_java() {
        // new BigInteger(...).toString(36)
        let mut number = [0; 17];
        assert_eq!(base36_of_130_bits(number), "0");
        number[16] = 35;
        assert_eq!(base36_of_130_bits(number), "z");
        number[16] = 36;
        assert_eq!(base36_of_130_bits(number), "10");
        number = [0; 17];
        number[8..].copy_from_slice(&[0, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(base36_of_130_bits(number), "1ekg");
        assert_eq!(base36_of_130_bits([0xff; 17]).len(), 26);
    }

    #[test]
    fn salts_have_the_shape_of_the_java_tool() {
        let salts: Vec<_> = (0..100).map(|_| random_salt().unwrap()).collect();
        for salt in &salts {
            assert!((20..=26).contains(&salt.len()), "{}", salt.len());
            assert!(salt.iter().all(u8::is_ascii_alphanumeric));
        }
        let distinct: std::collections::HashSet<_> = salts.iter().collect();
        assert_eq!(distinct.len(), salts.len());
    }

    #[test]
    fn a_password_verifies_byte_for_byte() {
        let nfc = "p\u{e4}ss".as_bytes();
        let nfd = "pa\u{308}ss".as_bytes();
        let credential =
            ScramCredential::from_password(ScramMechanism::Sha512, nfc, b"salt", 4096).unwrap();
        assert!(credential.verify_password(nfc).unwrap());
        assert!(!credential.verify_password(nfd).unwrap());
        assert!(!credential.verify_password(b"").unwrap());
    }

    #[test]
    fn unusable_parts_are_refused() {
        let m = ScramMechanism::Sha256;
        assert!(ScramCredential::from_password(m, b"x", b"salt", 4095).is_err());
        assert!(ScramCredential::from_password(m, b"x", b"", 4096).is_err());
        assert!(ScramCredential::from_salted_password(m, &[0; 31], b"s", 4096).is_err());
        let short = ScramCredential::from_stored(m, vec![1], vec![0; 31], vec![0; 32], 4096);
        assert!(matches!(
            short,
            Err(CredentialError::KeyLength { length: 31, .. })
        ));
    }

    #[test]
    fn debug_hides_the_keys() {
        let credential =
            ScramCredential::from_password(ScramMechanism::Sha256, b"x", b"salt", 4096).unwrap();
        let printed = format!("{credential:?}");
        assert!(printed.contains("stored_key: [hidden], server_key: [hidden]"));
    }
}
