//! What changed between one image and the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use palisade_auth::acl::AclBinding;
use palisade_protocol::types::{BrokerId, PartitionIndex, TopicId};

pub use super::builder::{ApplyError, ImageBuilder};
use super::image::{ClusterImage, ConfigResource, TopicImage};

/// What differs between one published image and the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterDelta {
    /// The image came from a snapshot: anything may differ, and the lists below name all there is.
    pub reset: bool,
    /// Topics that appeared, as they are now.
    pub topics_created: BTreeMap<TopicId, Arc<TopicImage>>,
    /// Topics that are gone, as they were.
    pub topics_deleted: BTreeMap<TopicId, Arc<TopicImage>>,
    /// Topics that were there and still are, with what changed in them.
    pub topics_changed: BTreeMap<TopicId, TopicDelta>,
    /// Brokers that registered, were fenced, unfenced or unregistered.
    pub brokers: BTreeSet<BrokerId>,
    /// ACLs that appeared, in the order of their records.
    pub acls_added: Vec<AclBinding>,
    /// ACLs that are gone, in the order of their records.
    pub acls_removed: Vec<AclBinding>,
    /// SCRAM credentials that were set, replaced or removed: sessions that used them must end.
    pub scram: BTreeSet<(String, ScramChange)>,
    /// Resources other than topics whose settings changed.
    pub configs: BTreeSet<ConfigResource>,
    /// Whether a feature level changed.
    pub features: bool,
}

/// What happened to a credential of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScramChange {
    /// Set or replaced; the code of the mechanism.
    Set(i8),
    /// Removed; the code of the mechanism.
    Removed(i8),
}

/// What changed in a topic that stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicDelta {
    /// Partitions that are new or changed.
    pub partitions: BTreeSet<PartitionIndex>,
    /// Whether a setting changed.
    pub config: bool,
}

impl ClusterDelta {
    /// Whether nothing changed that anyone could react to.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == ClusterDelta::default()
    }

    /// The delta from nothing to this image, for whoever begins to listen.
    #[must_use]
    pub fn everything(image: &ClusterImage) -> ClusterDelta {
        ClusterDelta {
            reset: true,
            topics_created: image
                .topics
                .iter()
                .map(|topic| (topic.id, Arc::clone(topic)))
                .collect(),
            brokers: image.brokers.iter().map(|broker| broker.id).collect(),
            acls_added: image
                .acls
                .set()
                .iter()
                .map(|acl| acl.as_ref().clone())
                .collect(),
            scram: image
                .scram
                .iter()
                .flat_map(|(user, credentials)| {
                    credentials.iter().map(|credential| {
                        (
                            user.to_string(),
                            ScramChange::Set(credential.mechanism.code()),
                        )
                    })
                })
                .collect(),
            configs: image
                .configs
                .iter()
                .map(|(resource, _)| resource.clone())
                .collect(),
            features: !image.features.is_empty(),
            ..ClusterDelta::default()
        }
    }
}
