//! Where logins find credentials: the cluster's SCRAM users, and the users written in a listener's
//! configuration.

use std::io;
use std::sync::Arc;

use palisade_auth::Secret;
use palisade_auth::sasl::{CredentialLookup, PlainUsers};
use palisade_auth::scram::{ScramCredential, ScramMechanism};

use crate::metadata::MetadataHandle;

/// Looks credentials up in the latest image: a change binds the next login.
pub(super) struct ImageCredentials {
    metadata: MetadataHandle,
    plain: PlainUsers,
}

impl ImageCredentials {
    pub(super) fn new(metadata: MetadataHandle) -> Arc<Self> {
        Arc::new(ImageCredentials {
            metadata,
            plain: PlainUsers::default(),
        })
    }

    /// The same, with the PLAIN users of one listener, whose passwords are derived and let go.
    ///
    /// # Errors
    /// No randomness, or a password that cannot be used.
    pub(super) fn with_plain_users(&self, users: &[(String, Secret)]) -> io::Result<Arc<Self>> {
        let users = users
            .iter()
            .map(|(user, password)| (user.as_str(), password));
        Ok(Arc::new(ImageCredentials {
            metadata: self.metadata.clone(),
            plain: PlainUsers::new(users).map_err(io::Error::other)?,
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

    fn plain_iteration_counts(&self) -> Vec<u32> {
        let mut counts = self.iteration_counts(self.plain_mechanism());
        if !self.plain.is_empty()
            && let Err(place) = counts.binary_search(&PlainUsers::ITERATIONS)
        {
            counts.insert(place, PlainUsers::ITERATIONS);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::ClusterImage;

    /// Else the time of a refused login tells who is there.
    #[test]
    fn strangers_cost_what_users_of_the_configuration_cost() {
        let metadata = MetadataHandle::new(Arc::new(ClusterImage::empty()));
        let cluster = ImageCredentials::new(metadata);
        assert!(cluster.plain_iteration_counts().is_empty());
        let users = [("alice".to_owned(), Secret::from("open-sesame"))];
        let listener = cluster.with_plain_users(&users).unwrap();
        let alice = listener.plain("alice").unwrap();
        assert_eq!(listener.plain_iteration_counts(), [alice.iterations]);
        // Nobody logs in with SCRAM by these.
        assert!(listener.iteration_counts(alice.mechanism).is_empty());
    }
}
