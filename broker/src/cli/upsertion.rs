//! SCRAM credentials as a client makes them: the password itself never leaves this process.

use bytes::Bytes;
use openssl::{hash::MessageDigest, pkcs5::pbkdf2_hmac};
use palisade_auth::{
    Secret,
    scram::{CredentialError, ScramMechanism, random_salt},
};
use palisade_protocol::{Str, messages::alter_user_scram_credentials::ScramCredentialUpsertion};
use zeroize::Zeroizing;

/// Salts a password and derives what AlterUserScramCredentials carries (KIP-554).
///
/// # Errors
/// No randomness for the salt.
pub(crate) fn upsertion(
    user: &str,
    password: &Secret,
    mechanism: ScramMechanism,
    iterations: u32,
) -> Result<ScramCredentialUpsertion, CredentialError> {
    let salt = random_salt()?;
    let digest = match mechanism {
        ScramMechanism::Sha256 => MessageDigest::sha256(),
        ScramMechanism::Sha512 => MessageDigest::sha512(),
    };
    let mut salted = Zeroizing::new(vec![0; mechanism.key_len()]);
    let rounds = usize::try_from(iterations).unwrap_or(usize::MAX);
    pbkdf2_hmac(password.expose(), &salt, rounds, digest, &mut salted)?;
    Ok(ScramCredentialUpsertion {
        name: Str::copy(user),
        mechanism: mechanism.code(),
        iterations: i32::try_from(iterations).unwrap_or(i32::MAX),
        salt: Bytes::from(salt),
        salted_password: Bytes::copy_from_slice(&salted),
    })
}

#[cfg(test)]
mod tests {
    use palisade_auth::scram::ScramCredential;

    use super::*;

    #[test]
    fn the_broker_makes_the_same_credential_of_it() {
        for mechanism in ScramMechanism::VALUES {
            let password = Secret::from("open-sesame");
            let made = upsertion("u", &password, *mechanism, 4096).unwrap();
            let credential = ScramCredential::from_salted_password(
                *mechanism,
                &made.salted_password,
                &made.salt,
                4096,
            )
            .unwrap();
            assert!(credential.verify_password(b"open-sesame").unwrap());
            assert!(!credential.verify_password(b"open-sesam").unwrap());
        }
    }
}
