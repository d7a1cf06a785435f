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
        own.or_else(|| {
            let image = self.metadata.image();
            let credentials = image.scram.user(user)?;
            credentials.for_plain().map(|one| (**one).clone())
        })
    }

    fn iteration_counts(&self, mechanism: ScramMechanism) -> Vec<u32> {
        self.metadata.image().scram.iteration_counts(mechanism)
    }

    fn plain_kinds(&self) -> Vec<(ScramMechanism, u32)> {
        let mut kinds = self.metadata.image().scram.plain_kinds();
        if !self.plain.is_empty()
            && let Err(place) = kinds.binary_search(&PlainUsers::KIND)
        {
            kinds.insert(place, PlainUsers::KIND);
        }
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::ClusterImage;
    use crate::metadata::builder::ImageBuilder;
    use crate::metadata::record::MetadataRecord;

    const SHA256: ScramMechanism = ScramMechanism::Sha256;
    const SHA512: ScramMechanism = ScramMechanism::Sha512;

    fn set(user: &str, mechanism: ScramMechanism, iterations: u32) -> MetadataRecord {
        let salt = palisade_auth::scram::random_salt().unwrap();
        let credential = ScramCredential::from_password(mechanism, b"x", &salt, iterations);
        MetadataRecord::Scram {
            user: user.to_owned(),
            credential: credential.unwrap(),
        }
    }

    fn remove(user: &str, mechanism: ScramMechanism) -> MetadataRecord {
        MetadataRecord::RemoveScram {
            user: user.to_owned(),
            mechanism,
        }
    }

    /// Else the time of a refused login tells who is there.
    #[test]
    fn strangers_cost_what_users_of_the_configuration_cost() {
        let metadata = MetadataHandle::new(Arc::new(ClusterImage::empty()));
        let cluster = ImageCredentials::new(metadata);
        assert!(cluster.plain_kinds().is_empty());
        let users = [("alice".to_owned(), Secret::from("open-sesame"))];
        let listener = cluster.with_plain_users(&users).unwrap();
        let alice = listener.plain("alice").unwrap();
        assert_eq!(
            listener.plain_kinds(),
            [(alice.mechanism, alice.iterations)]
        );
        // Nobody logs in with SCRAM by these.
        assert!(listener.iteration_counts(alice.mechanism).is_empty());
    }

    /// Every kind by which a user is judged, and none that would name a stranger.
    #[test]
    fn strangers_cost_what_users_of_the_cluster_cost() {
        let mut image = ClusterImage::empty();
        let mut kinds_after = |records: &[MetadataRecord]| {
            let mut builder = ImageBuilder::new(&image);
            for record in records {
                builder.apply(record).unwrap();
            }
            image = builder.finish().1;
            let metadata = MetadataHandle::new(Arc::new(image.clone()));
            let lookup = ImageCredentials::new(metadata);
            for (user, _) in image.scram.iter() {
                let judged = lookup.plain(user).unwrap();
                let kind = (judged.mechanism, judged.iterations);
                assert!(lookup.plain_kinds().contains(&kind), "{user}");
            }
            lookup.plain_kinds()
        };
        assert_eq!(kinds_after(&[set("old", SHA256, 4096)]), [(SHA256, 4096)]);
        // Of two credentials PLAIN takes the stronger: nobody is judged by the other.
        let both = [set("new", SHA256, 8192), set("new", SHA512, 8192)];
        assert_eq!(kinds_after(&both), [(SHA256, 4096), (SHA512, 8192)]);
        assert_eq!(
            kinds_after(&[set("old", SHA512, 4096)]),
            [(SHA512, 4096), (SHA512, 8192)]
        );
        assert_eq!(
            kinds_after(&[remove("new", SHA512), remove("old", SHA512)]),
            [(SHA256, 4096), (SHA256, 8192)]
        );
        let none = [remove("new", SHA256), remove("old", SHA256)];
        assert_eq!(kinds_after(&none), []);
    }
}
