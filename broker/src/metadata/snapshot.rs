//! An image as the records that would build it, for the raft snapshot.
//!
//! ```text
//! u16 format (1) | i64 offset | i32 epoch | batch of records (record.rs)
//! ```

use palisade_protocol::types::{BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId};
use thiserror::Error;

use super::builder::{ApplyError, ImageBuilder};
use super::image::ClusterImage;
use super::record::{
    ConfigResourceType, MetadataRecord, PartitionRecord, decode_batch, encode_batch,
};
use crate::raft::codec::{CodecError, Decoder, Encoder};

const FORMAT: u16 = 1;

/// Why a snapshot does not become an image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Its bytes do not read.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Its records do not fit together.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The records that build this image out of nothing.
#[must_use]
pub fn records_of(image: &ClusterImage) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    if image.is_bootstrapped() {
        records.push(MetadataRecord::ClusterId(image.cluster_id.to_string()));
    }
    if let Some(secret) = image.scram.fake_salt_secret() {
        records.push(MetadataRecord::FakeSaltSecret(secret.as_ref().clone()));
    }
    for (name, level) in &image.features {
        records.push(MetadataRecord::FeatureLevel {
            name: name.to_string(),
            level: *level,
        });
    }
    for broker in image.brokers.iter() {
        records.push(MetadataRecord::RegisterBroker(broker.as_ref().clone()));
    }
    topic_records(image, &mut records);
    for acl in image.acls.set().iter() {
        records.push(MetadataRecord::Acl(acl.as_ref().clone()));
    }
    for (user, credentials) in image.scram.iter() {
        for credential in credentials.iter() {
            records.push(MetadataRecord::Scram {
                user: user.to_string(),
                credential: credential.as_ref().clone(),
            });
        }
    }
    for (resource, settings) in image.configs.iter() {
        for (key, value) in settings.iter() {
            records.push(MetadataRecord::Config {
                resource_type: resource.resource_type,
                resource_name: resource.name.to_string(),
                key: key.to_owned(),
                value: Some(value.to_owned()),
            });
        }
    }
    if image.next_producer_id > ProducerId::new(0) {
        records.push(MetadataRecord::ProducerIds {
            broker_id: BrokerId::NONE,
            broker_epoch: -1,
            next: image.next_producer_id,
        });
    }
    records
}

fn topic_records(image: &ClusterImage, records: &mut Vec<MetadataRecord>) {
    for topic in image.topics.iter() {
        records.push(MetadataRecord::Topic {
            id: topic.id,
            name: topic.name.to_string(),
        });
        for (index, partition) in topic.partitions.iter().enumerate() {
            let index = i32::try_from(index).expect("partition counts are 32-bit");
            records.push(MetadataRecord::Partition(PartitionRecord {
                topic_id: topic.id,
                partition: PartitionIndex::new(index),
                replicas: partition.replicas.clone(),
                isr: partition.isr.clone(),
                leader: partition.leader,
                leader_epoch: partition.leader_epoch,
                partition_epoch: partition.partition_epoch,
            }));
        }
        for (key, value) in topic.config.iter() {
            records.push(MetadataRecord::Config {
                resource_type: ConfigResourceType::Topic,
                resource_name: topic.name.to_string(),
                key: key.to_owned(),
                value: Some(value.to_owned()),
            });
        }
    }
}

/// Writes an image.
#[must_use]
pub fn encode(image: &ClusterImage) -> Vec<u8> {
    let mut out = Encoder::new();
    out.u16(FORMAT);
    out.i64(image.offset.value());
    out.i32(image.epoch.value());
    out.bytes(&encode_batch(&records_of(image)));
    out.finish()
}

/// Reads an image.
///
/// # Errors
/// `Codec`, `Apply`.
pub fn decode(bytes: &[u8]) -> Result<ClusterImage, SnapshotError> {
    let mut input = Decoder::new(bytes);
    let format = input.u16("format")?;
    if format != FORMAT {
        return Err(SnapshotError::Codec(CodecError::TooNew {
            what: "metadata snapshot",
            found: u32::from(format),
            supported: u32::from(FORMAT),
        }));
    }
    let offset = Offset::new(input.i64("offset")?);
    let epoch = LeaderEpoch::new(input.i32("epoch")?);
    let records = decode_batch(input.bytes("records")?)?;
    input.finish("metadata snapshot")?;
    let mut builder = ImageBuilder::new(&ClusterImage::empty());
    for record in &records {
        builder.apply(record)?;
    }
    builder.advance(offset, epoch);
    Ok(builder.finish().1)
}

#[cfg(test)]
mod tests;
