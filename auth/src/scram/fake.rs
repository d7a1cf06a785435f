//! Credentials for users that do not exist, so that nobody can tell (spec/security.md §3.3).

use openssl::error::ErrorStack;

use super::credential::{DEFAULT_ITERATIONS, ScramCredential, base36_of_130_bits};
use super::crypto::hmac;
use super::mechanism::ScramMechanism;
use crate::secret::Secret;

/// Invents the credential of a user that has none.
///
/// Salt and iterations depend on nothing but the cluster's secret, the mechanism and the name:
/// repeated probes, other nodes and restarts give the same. The keys open for no password.
/// `iterations`: the counts that real users of the mechanism have; sorted and without
/// duplicates, or empty.
pub(crate) fn credential(
    cluster_secret: &Secret,
    mechanism: ScramMechanism,
    user: &str,
    iterations: &[u32],
) -> Result<ScramCredential, ErrorStack> {
    let derive = |purpose: &[u8]| {
        let parts = [
            purpose,
            &[0],
            mechanism.name().as_bytes(),
            &[0],
            user.as_bytes(),
        ];
        hmac(mechanism, cluster_secret.expose(), &parts)
    };
    let seed = derive(b"salt")?;
    let mut number = [0; 17];
    number.copy_from_slice(&seed[..17]);
    let choice = usize::from(u16::from_be_bytes([seed[17], seed[18]]));
    let iterations = match iterations.len() {
        0 => DEFAULT_ITERATIONS,
        count => iterations[choice % count],
    };
    Ok(ScramCredential {
        mechanism,
        salt: base36_of_130_bits(number).into_bytes(),
        stored_key: Secret::new(derive(b"stored key")?.to_vec()),
        server_key: Secret::new(derive(b"server key")?.to_vec()),
        iterations,
    })
}

/// Invents what PLAIN checks the password of a user against that has none.
///
/// `kinds`: mechanism and iterations of those that real users are judged by, sorted and without
/// duplicates, or empty. One of them is taken, by the cluster's secret and the name: checking a
/// stranger's password takes as long as checking somebody's.
pub(crate) fn plain_credential(
    cluster_secret: &Secret,
    user: &str,
    kinds: &[(ScramMechanism, u32)],
) -> Result<ScramCredential, ErrorStack> {
    let parts: [&[u8]; 2] = [b"plain kind\0", user.as_bytes()];
    let seed = hmac(ScramMechanism::Sha512, cluster_secret.expose(), &parts)?;
    let choice = usize::from(u16::from_be_bytes([seed[0], seed[1]]));
    let (mechanism, iterations) = match kinds.len() {
        0 => (ScramMechanism::Sha512, DEFAULT_ITERATIONS),
        count => kinds[choice % count],
    };
    credential(cluster_secret, mechanism, user, &[iterations])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_stable_and_different_for_everyone() {
        let secret = Secret::from("cluster");
        let make = |mechanism, user| credential(&secret, mechanism, user, &[]).unwrap();
        let bob = make(ScramMechanism::Sha256, "bob");
        assert_eq!(bob, make(ScramMechanism::Sha256, "bob"));
        assert_ne!(bob.salt, make(ScramMechanism::Sha256, "eve").salt);
        assert_ne!(bob.salt, make(ScramMechanism::Sha512, "bob").salt);
        let other = credential(&Secret::from("x"), ScramMechanism::Sha256, "bob", &[]).unwrap();
        assert_ne!(bob.salt, other.salt);
        assert!(bob.check().is_ok());
        assert_eq!(bob.iterations, 4096);
    }

    #[test]
    fn iterations_come_from_those_in_use() {
        let secret = Secret::from("cluster");
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..64 {
            let user = format!("user-{i}");
            let fake = credential(&secret, ScramMechanism::Sha512, &user, &[4096, 8192]).unwrap();
            seen.insert(fake.iterations);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [4096, 8192]);
    }

    #[test]
    fn plain_strangers_are_of_every_kind_in_use() {
        let secret = Secret::from("cluster");
        let make = |user: &str, kinds: &[_]| plain_credential(&secret, user, kinds).unwrap();
        let kinds = [
            (ScramMechanism::Sha256, 8192),
            (ScramMechanism::Sha512, 4096),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for user in (0..64).map(|i| format!("user-{i}")) {
            let fake = make(&user, &kinds);
            assert_eq!(fake, make(&user, &kinds));
            assert!(fake.check().is_ok());
            seen.insert((fake.mechanism, fake.iterations));
            assert_eq!(
                make(&user, &kinds[..1]).mechanism,
                ScramMechanism::Sha256,
                "the only one in use"
            );
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), kinds);
        assert_eq!(make("bob", &[]).mechanism, ScramMechanism::Sha512);
    }
}
