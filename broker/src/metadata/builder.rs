//! From records to the next image: the only place where an image changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use palisade_auth::Secret;
use palisade_auth::acl::AclBinding;
use palisade_auth::scram::{ScramCredential, ScramMechanism};
use palisade_protocol::types::{BrokerId, LeaderEpoch, Offset, ProducerId, TopicId};
use thiserror::Error;

use super::delta::{ClusterDelta, ScramChange};
use super::image::{ClusterImage, ConfigMap, ConfigResource, PartitionImage, TopicImage};
use super::record::{BrokerRegistration, ConfigResourceType, MetadataRecord, PartitionRecord};

/// A record that does not fit the image before it: the log or this release is broken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// The record is about a topic that does not exist.
    #[error("record about topic {0}, which does not exist")]
    NoSuchTopic(TopicId),
    /// The record sets a key of a topic that does not exist.
    #[error("config record for topic {0:?}, which does not exist")]
    NoSuchTopicName(String),
    /// The topic exists already.
    #[error("topic {0:?} exists already")]
    TopicExists(String),
    /// The partition is not the next one, nor one that exists.
    #[error("partition {partition} of topic {topic}, which has {count}")]
    PartitionGap {
        /// Topic.
        topic: TopicId,
        /// Partition of the record.
        partition: i32,
        /// Partitions the topic has.
        count: usize,
    },
    /// An epoch of the partition went backwards.
    #[error("epochs of partition {partition} of topic {topic} went backwards")]
    EpochWentBack {
        /// Topic.
        topic: TopicId,
        /// Partition.
        partition: i32,
    },
    /// The broker is not registered with this epoch.
    #[error("record about broker {broker} at epoch {epoch}, which is not registered")]
    NoSuchBroker {
        /// Broker.
        broker: i32,
        /// Epoch of the record.
        epoch: i64,
    },
    /// The value was written before and may be written once only.
    #[error("{0} is set already")]
    SetTwice(&'static str),
    /// Producer ids went backwards, so that some would be handed out twice.
    #[error("producer ids went back from {from} to {to}")]
    ProducerIdsWentBack {
        /// First id not handed out before the record.
        from: i64,
        /// What the record says.
        to: i64,
    },
}

/// Applies records to a copy of an image and notes what changes.
#[derive(Debug)]
pub struct ImageBuilder {
    image: ClusterImage,
    delta: ClusterDelta,
    /// Topics that are new since the base; their images go into the delta at the end.
    created: BTreeSet<TopicId>,
    acls_changed: bool,
}

impl ImageBuilder {
    /// Starts from an image.
    #[must_use]
    pub fn new(base: &ClusterImage) -> ImageBuilder {
        ImageBuilder {
            image: base.clone(),
            delta: ClusterDelta::default(),
            created: BTreeSet::new(),
            acls_changed: false,
        }
    }

    /// The image with the records so far; its ACL index may be behind.
    #[must_use]
    pub fn image(&self) -> &ClusterImage {
        &self.image
    }

    /// Notes that everything below `offset` (exclusive) is applied, the last of it in `epoch`.
    pub fn advance(&mut self, offset: Offset, epoch: LeaderEpoch) {
        self.image.offset = offset;
        self.image.epoch = epoch;
    }

    /// Ends the building; the ACL index is built if ACLs changed.
    #[must_use]
    pub fn finish(mut self) -> (ClusterDelta, ClusterImage) {
        // The first batch makes even an empty index one that is loaded: until then, all is refused.
        let unloaded = self.image.is_bootstrapped() && !self.image.acls.cache().is_loaded();
        if self.acls_changed || unloaded {
            self.image.acls.reindex();
        }
        let topics = &self.image.topics;
        self.delta.topics_created = self
            .created
            .iter()
            .filter_map(|id| topics.by_id(*id).map(|topic| (*id, Arc::clone(topic))))
            .collect();
        (self.delta, self.image)
    }

    /// Ends the building of an image that is only decided by, and never answers for ACLs.
    #[must_use]
    pub fn into_proposed(self) -> ClusterImage {
        self.image
    }

    /// Applies one record.
    ///
    /// # Errors
    /// `ApplyError` where the record does not fit; the image is then not to be used.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<(), ApplyError> {
        match record {
            MetadataRecord::ClusterId(id) => self.set_cluster_id(id)?,
            MetadataRecord::FakeSaltSecret(secret) => self.set_fake_salt_secret(secret)?,
            MetadataRecord::FeatureLevel { name, level } => self.set_feature(name, *level),
            MetadataRecord::RegisterBroker(broker) => self.register_broker(broker),
            MetadataRecord::FenceBroker { id, epoch, fenced } => {
                self.fence_broker(*id, *epoch, *fenced)?;
            }
            MetadataRecord::UnregisterBroker { id } => self.unregister_broker(*id),
            MetadataRecord::Topic { id, name } => self.create_topic(*id, name)?,
            MetadataRecord::Partition(partition) => self.set_partition(partition)?,
            MetadataRecord::RemoveTopic { id } => self.remove_topic(*id)?,
            MetadataRecord::Config {
                resource_type,
                resource_name,
                key,
                value,
            } => {
                self.set_config(*resource_type, resource_name, key, value.as_deref())?;
            }
            MetadataRecord::Acl(acl) => self.add_acl(acl),
            MetadataRecord::RemoveAcl(acl) => self.remove_acl(acl),
            MetadataRecord::Scram { user, credential } => self.set_scram(user, credential),
            MetadataRecord::RemoveScram { user, mechanism } => self.remove_scram(user, *mechanism),
            MetadataRecord::ProducerIds { next, .. } => self.set_next_producer_id(*next)?,
        }
        Ok(())
    }

    fn set_cluster_id(&mut self, id: &str) -> Result<(), ApplyError> {
        if self.image.is_bootstrapped() {
            return Err(ApplyError::SetTwice("cluster id"));
        }
        self.image.cluster_id = Arc::from(id);
        Ok(())
    }

    fn set_fake_salt_secret(&mut self, secret: &Secret) -> Result<(), ApplyError> {
        if self.image.scram.fake_salt_secret.is_some() {
            return Err(ApplyError::SetTwice("fake salt secret"));
        }
        self.image.scram.fake_salt_secret = Some(Arc::new(secret.clone()));
        Ok(())
    }

    fn set_feature(&mut self, name: &str, level: i16) {
        if level == 0 {
            self.image.features.remove(name);
        } else {
            self.image.features.insert(Arc::from(name), level);
        }
        self.delta.features = true;
    }

    fn register_broker(&mut self, broker: &BrokerRegistration) {
        let brokers = &mut self.image.brokers.by_id;
        brokers.insert(broker.id, Arc::new(broker.clone()));
        self.delta.brokers.insert(broker.id);
    }

    fn unregister_broker(&mut self, id: BrokerId) {
        self.image.brokers.by_id.remove(&id);
        self.delta.brokers.insert(id);
    }

    fn fence_broker(&mut self, id: BrokerId, epoch: i64, fenced: bool) -> Result<(), ApplyError> {
        let broker = self
            .image
            .brokers
            .get(id)
            .filter(|broker| broker.epoch == epoch)
            .ok_or(ApplyError::NoSuchBroker {
                broker: id.value(),
                epoch,
            })?;
        let mut broker = broker.as_ref().clone();
        broker.fenced = fenced;
        self.image.brokers.by_id.insert(id, Arc::new(broker));
        self.delta.brokers.insert(id);
        Ok(())
    }

    fn create_topic(&mut self, id: TopicId, name: &str) -> Result<(), ApplyError> {
        if self.image.topics.get(name).is_some() || self.image.topics.by_id(id).is_some() {
            return Err(ApplyError::TopicExists(name.to_owned()));
        }
        self.image.topics.insert(Arc::new(TopicImage {
            id,
            name: Arc::from(name),
            partitions: imbl::Vector::new(),
            config: ConfigMap::default(),
        }));
        self.created.insert(id);
        Ok(())
    }

    fn set_partition(&mut self, record: &PartitionRecord) -> Result<(), ApplyError> {
        let (id, at) = (record.topic_id, record.partition);
        let topic = self
            .image
            .topics
            .by_id_mut(id)
            .ok_or(ApplyError::NoSuchTopic(id))?;
        let index = usize::try_from(at.value()).unwrap_or(usize::MAX);
        let partition = PartitionImage {
            leader: record.leader,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            replicas: record.replicas.clone(),
            isr: record.isr.clone(),
        };
        let count = topic.partitions.len();
        match topic.partitions.get_mut(index) {
            Some(before) => {
                // Clients and followers compare these: an epoch that goes back unfences the dead.
                if partition.leader_epoch < before.leader_epoch
                    || partition.partition_epoch < before.partition_epoch
                {
                    return Err(ApplyError::EpochWentBack {
                        topic: id,
                        partition: at.value(),
                    });
                }
                *before = partition;
            }
            None if index == count => topic.partitions.push_back(partition),
            None => {
                return Err(ApplyError::PartitionGap {
                    topic: id,
                    partition: at.value(),
                    count,
                });
            }
        }
        if !self.created.contains(&id) {
            self.delta
                .topics_changed
                .entry(id)
                .or_default()
                .partitions
                .insert(at);
        }
        Ok(())
    }

    fn remove_topic(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self
            .image
            .topics
            .remove(id)
            .ok_or(ApplyError::NoSuchTopic(id))?;
        self.delta.topics_changed.remove(&id);
        // A topic that came and went within one delta never existed for anyone who listens.
        if !self.created.remove(&id) {
            self.delta.topics_deleted.insert(id, topic);
        }
        Ok(())
    }

    fn set_config(
        &mut self,
        resource_type: ConfigResourceType,
        name: &str,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), ApplyError> {
        if resource_type == ConfigResourceType::Topic {
            let topic = self
                .image
                .topics
                .by_name_mut(name)
                .ok_or_else(|| ApplyError::NoSuchTopicName(name.to_owned()))?;
            topic.config.set(key, value);
            let id = topic.id;
            if !self.created.contains(&id) {
                self.delta.topics_changed.entry(id).or_default().config = true;
            }
            return Ok(());
        }
        let resource = ConfigResource {
            resource_type,
            name: Arc::from(name),
        };
        let configs = &mut self.image.configs.by_resource;
        let mut settings = configs.get(&resource).cloned().unwrap_or_default();
        settings.set(key, value);
        if settings.is_empty() {
            configs.remove(&resource);
        } else {
            configs.insert(resource.clone(), settings);
        }
        self.delta.configs.insert(resource);
        Ok(())
    }

    fn add_acl(&mut self, acl: &AclBinding) {
        if self.image.acls.insert(acl.clone()) {
            self.delta.acls_added.push(acl.clone());
            self.acls_changed = true;
        }
    }

    fn remove_acl(&mut self, acl: &AclBinding) {
        if self.image.acls.remove(acl) {
            self.delta.acls_removed.push(acl.clone());
            self.acls_changed = true;
        }
    }

    fn set_scram(&mut self, user: &str, credential: &ScramCredential) {
        self.image.scram.set(user, Arc::new(credential.clone()));
        let change = ScramChange::Set(credential.mechanism.code());
        self.delta.scram.insert((user.to_owned(), change));
    }

    fn remove_scram(&mut self, user: &str, mechanism: ScramMechanism) {
        if !self.image.scram.remove(user, mechanism) {
            return;
        }
        let code = mechanism.code();
        self.delta
            .scram
            .remove(&(user.to_owned(), ScramChange::Set(code)));
        self.delta
            .scram
            .insert((user.to_owned(), ScramChange::Removed(code)));
    }

    fn set_next_producer_id(&mut self, next: ProducerId) -> Result<(), ApplyError> {
        let from = self.image.next_producer_id;
        if next < from {
            return Err(ApplyError::ProducerIdsWentBack {
                from: from.value(),
                to: next.value(),
            });
        }
        self.image.next_producer_id = next;
        Ok(())
    }
}
