//! Where logins find credentials: the cluster's SCRAM users, and the users written in a listener's
//! configuration.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use openssl::rand::rand_bytes;
use palisade_auth::Secret;
use palisade_auth::sasl::CredentialLookup;
use palisade_auth::scram::{ScramCredential, ScramMechanism};

use crate::metadata::MetadataHandle;

/// Rounds of key derivation for passwords from the configuration.
const ITERATIONS: u32 = 8192;

/// Looks credentials up in the latest image: a change binds the next login.
pub(super) struct ImageCredentials {
    metadata: MetadataHandle,
    plain: HashMap<String, ScramCredential>,
}

impl ImageCredentials {
    pub(super) fn new(metadata: MetadataHandle) -> Arc<Self> {
        Arc::new(ImageCredentials {
            metadata,
            plain: HashMap::new(),
        })
    }

    /// The same, with the PLAIN users of one listener, whose passwords are derived and let go.
    ///
    /// # Errors
    /// No randomness, or a password that cannot be used.
    pub(super) fn with_plain_users(&self, users: &[(String, Secret)]) -> io::Result<Arc<Self>> {
        let mut plain = HashMap::with_capacity(users.len());
        for (user, password) in users {
            let mut salt = [0; 16];
            rand_bytes(&mut salt)?;
            let credential = ScramCredential::from_password(
                ScramMechanism::Sha512,
                password.expose(),
                &salt,
                ITERATIONS,
            );
            plain.insert(user.clone(), credential.map_err(io::Error::other)?);
        }
        Ok(Arc::new(ImageCredentials {
            metadata: self.metadata.clone(),
            plain,
        }))
    }
}

impl CredentialLookup for ImageCredentials {
    fn scram(&self, user: &str, mechanism: ScramMechanism) -> Option<ScramCredential> {
        let image = self.metadata.image();
        image
            .scram
            .get(user, mechanism)
            .map(|credential| (**credential).clone())
    }

    fn plain(&self, user: &str) -> Option<ScramCredential> {
        let own = self.plain.get(user).cloned();
        own.or_else(|| self.scram(user, ScramMechanism::Sha512))
            .or_else(|| self.scram(user, ScramMechanism::Sha256))
    }

    fn iteration_counts(&self, mechanism: ScramMechanism) -> Vec<u32> {
        self.metadata.image().scram.iteration_counts(mechanism)
    }
}
