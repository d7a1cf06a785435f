//! The cluster's metadata at one offset: immutable, cheap to clone, shared by every request.
//!
//! Maps are persistent: two images share all that did not change between them. Only
//! [`builder`] makes a new image out of records; everyone else reads.
//!
//! [`builder`]: super::builder

use std::sync::Arc;

use imbl::OrdMap;
use palisade_auth::Secret;
use palisade_auth::scram::{ScramCredential, ScramMechanism};
use palisade_protocol::types::{BrokerId, LeaderEpoch, Offset, ProducerId};

use super::record::{BrokerRegistration, ConfigResourceType};

mod acls;
mod configs;
mod topics;

pub use acls::AclsImage;
pub use configs::{ConfigMap, ConfigsImage};
pub use topics::{PartitionImage, TopicImage, TopicsImage};

/// Everything the cluster agrees on, at one offset of the metadata log.
#[derive(Debug, Clone)]
pub struct ClusterImage {
    /// The cluster's id; empty until the first batch of a new cluster is applied.
    pub cluster_id: Arc<str>,
    /// Registered brokers.
    pub brokers: BrokersImage,
    /// Topics and their partitions.
    pub topics: TopicsImage,
    /// ACLs, with the index that decisions read.
    pub acls: AclsImage,
    /// SCRAM credentials.
    pub scram: ScramImage,
    /// Settings of resources other than topics.
    pub configs: ConfigsImage,
    /// Finalised feature levels.
    pub features: OrdMap<Arc<str>, i16>,
    /// First producer id that was never handed out.
    pub next_producer_id: ProducerId,
    /// First offset of the metadata log that is not in this image (exclusive end).
    pub offset: Offset,
    /// Leader epoch (raft term) of the last entry in this image.
    pub epoch: LeaderEpoch,
}

impl ClusterImage {
    /// The image before the first record.
    #[must_use]
    pub fn empty() -> ClusterImage {
        ClusterImage {
            cluster_id: Arc::from(""),
            brokers: BrokersImage::default(),
            topics: TopicsImage::default(),
            acls: AclsImage::default(),
            scram: ScramImage::default(),
            configs: ConfigsImage::default(),
            features: OrdMap::new(),
            next_producer_id: ProducerId::new(0),
            offset: Offset::ZERO,
            epoch: LeaderEpoch::new(0),
        }
    }

    /// Whether the cluster has its first records.
    #[must_use]
    pub fn is_bootstrapped(&self) -> bool {
        !self.cluster_id.is_empty()
    }
}

/// Registered brokers, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokersImage {
    pub(super) by_id: OrdMap<BrokerId, Arc<BrokerRegistration>>,
}

impl BrokersImage {
    /// A registered broker, fenced or not.
    #[must_use]
    pub fn get(&self, id: BrokerId) -> Option<&Arc<BrokerRegistration>> {
        self.by_id.get(&id)
    }

    /// Whether a broker is registered and not fenced.
    #[must_use]
    pub fn is_live(&self, id: BrokerId) -> bool {
        self.get(id).is_some_and(|broker| !broker.fenced)
    }

    /// Every registered broker, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<BrokerRegistration>> {
        self.by_id.values()
    }

    /// Registered brokers that are not fenced, by ascending id.
    pub fn live(&self) -> impl Iterator<Item = &Arc<BrokerRegistration>> {
        self.iter().filter(|broker| !broker.fenced)
    }

    /// How many brokers are registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no broker is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// SCRAM credentials by user and mechanism.
#[derive(Debug, Clone, Default)]
pub struct ScramImage {
    by_user: OrdMap<Arc<str>, UserCredentials>,
    /// How many credentials of a mechanism have a number of iterations.
    iterations: Kinds,
    /// The same of the credentials by which PLAIN judges.
    plain: Kinds,
    pub(super) fake_salt_secret: Option<Arc<Secret>>,
}

/// How many credentials there are of each mechanism with each number of iterations.
type Kinds = OrdMap<(ScramMechanism, u32), usize>;

/// The credentials of one user, one per mechanism.
#[derive(Debug, Clone, Default)]
pub struct UserCredentials {
    pub(super) sha256: Option<Arc<ScramCredential>>,
    pub(super) sha512: Option<Arc<ScramCredential>>,
}

impl UserCredentials {
    /// The credential of a mechanism.
    #[must_use]
    pub fn get(&self, mechanism: ScramMechanism) -> Option<&Arc<ScramCredential>> {
        match mechanism {
            ScramMechanism::Sha256 => self.sha256.as_ref(),
            ScramMechanism::Sha512 => self.sha512.as_ref(),
        }
    }

    /// The credential against which PLAIN checks the user's password: the stronger one.
    #[must_use]
    pub fn for_plain(&self) -> Option<&Arc<ScramCredential>> {
        self.sha512.as_ref().or(self.sha256.as_ref())
    }

    /// Every credential of the user.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ScramCredential>> {
        self.sha256.iter().chain(self.sha512.iter())
    }

    fn slot(&mut self, mechanism: ScramMechanism) -> &mut Option<Arc<ScramCredential>> {
        match mechanism {
            ScramMechanism::Sha256 => &mut self.sha256,
            ScramMechanism::Sha512 => &mut self.sha512,
        }
    }
}

impl ScramImage {
    /// A user's credential for a mechanism.
    #[must_use]
    pub fn get(&self, user: &str, mechanism: ScramMechanism) -> Option<&Arc<ScramCredential>> {
        self.by_user.get(user)?.get(mechanism)
    }

    /// Every credential of a user.
    #[must_use]
    pub fn user(&self, user: &str) -> Option<&UserCredentials> {
        self.by_user.get(user)
    }

    /// Users with at least one credential, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &UserCredentials)> {
        self.by_user.iter()
    }

    /// The numbers of iterations that credentials of a mechanism have, ascending. Asked at every
    /// login: it costs what differs, not the users.
    #[must_use]
    pub fn iteration_counts(&self, mechanism: ScramMechanism) -> Vec<u32> {
        let all = (mechanism, 0)..=(mechanism, u32::MAX);
        let counts = self.iterations.range(all);
        counts.map(|((_, iterations), _)| *iterations).collect()
    }

    /// Mechanism and iterations of the credentials by which PLAIN judges, ascending. Asked at every
    /// login, as [`iteration_counts`](Self::iteration_counts).
    #[must_use]
    pub fn plain_kinds(&self) -> Vec<(ScramMechanism, u32)> {
        self.plain.keys().copied().collect()
    }

    pub(super) fn set(&mut self, user: &str, credential: Arc<ScramCredential>) {
        let before = self.by_user.get(user).cloned().unwrap_or_default();
        let mut after = before.clone();
        after.slot(credential.mechanism).replace(credential);
        self.recount(&before, &after);
        self.by_user.insert(Arc::from(user), after);
    }

    /// False when there is no such credential.
    pub(super) fn remove(&mut self, user: &str, mechanism: ScramMechanism) -> bool {
        let Some(before) = self.by_user.get(user).cloned() else {
            return false;
        };
        let mut after = before.clone();
        let found = after.slot(mechanism).take().is_some();
        self.recount(&before, &after);
        if after.iter().next().is_none() {
            self.by_user.remove(user);
        } else {
            self.by_user.insert(Arc::from(user), after);
        }
        found
    }

    fn recount(&mut self, before: &UserCredentials, after: &UserCredentials) {
        recount(&mut self.iterations, before.iter(), after.iter());
        let (before, after) = (before.for_plain(), after.for_plain());
        recount(&mut self.plain, before.into_iter(), after.into_iter());
    }

    /// How many users have a credential.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_user.len()
    }

    /// Whether no user has a credential.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }

    /// The key of the salts that unknown users are shown; the same on every node and restart.
    #[must_use]
    pub fn fake_salt_secret(&self) -> Option<&Arc<Secret>> {
        self.fake_salt_secret.as_ref()
    }
}

fn recount<'a>(
    kinds: &mut Kinds,
    gone: impl Iterator<Item = &'a Arc<ScramCredential>>,
    come: impl Iterator<Item = &'a Arc<ScramCredential>>,
) {
    for credential in come {
        *kinds.entry(kind(credential)).or_default() += 1;
    }
    for credential in gone {
        let key = kind(credential);
        let left = kinds.get(&key).map_or(0, |count| count - 1);
        if left == 0 {
            kinds.remove(&key);
        } else {
            kinds.insert(key, left);
        }
    }
}

fn kind(credential: &ScramCredential) -> (ScramMechanism, u32) {
    (credential.mechanism, credential.iterations)
}

/// A resource that has settings of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigResource {
    /// Kind.
    pub resource_type: ConfigResourceType,
    /// Name; empty for the default of all brokers.
    pub name: Arc<str>,
}
