//! Who leads what when a broker comes or goes (replication.md §7 and §9).

use palisade_protocol::types::{BrokerId, LeaderEpoch, PartitionIndex};

use crate::metadata::image::{ClusterImage, PartitionImage, TopicImage};
use crate::metadata::record::{MetadataRecord, PartitionRecord};

/// What changes when a broker may no longer lead: it leaves every in-sync set but those it would
/// leave empty, and each of its partitions gets another leader, or none.
pub(super) fn broker_fenced(image: &ClusterImage, broker: BrokerId) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for topic in image.topics.iter() {
        for (index, partition) in topic.partitions.iter().enumerate() {
            if !partition.isr.contains(&broker) && partition.leader != Some(broker) {
                continue;
            }
            let mut isr = partition.isr.clone();
            isr.retain(|id| *id != broker);
            if isr.is_empty() {
                // The last one stays: it alone has every acknowledged record.
                isr.clone_from(&partition.isr);
            }
            let live = |id: &BrokerId| *id != broker && image.brokers.is_live(*id);
            let leader = if partition.leader == Some(broker) {
                partition
                    .replicas
                    .iter()
                    .copied()
                    .find(|id| isr.contains(id) && live(id))
            } else {
                partition.leader
            };
            push_changed(topic, index, partition, leader, isr, &mut records);
        }
    }
    records
}

/// What changes when a broker may lead: partitions without a leader whose in-sync set has it.
pub(super) fn broker_unfenced(image: &ClusterImage, broker: BrokerId) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for topic in image.topics.iter() {
        for (index, partition) in topic.partitions.iter().enumerate() {
            if partition.leader.is_none() && partition.isr.contains(&broker) {
                let isr = partition.isr.clone();
                push_changed(topic, index, partition, Some(broker), isr, &mut records);
            }
        }
    }
    records
}

fn push_changed(
    topic: &TopicImage,
    index: usize,
    partition: &PartitionImage,
    leader: Option<BrokerId>,
    isr: Vec<BrokerId>,
    records: &mut Vec<MetadataRecord>,
) {
    if leader == partition.leader && isr == partition.isr {
        return;
    }
    let bump = i32::from(leader != partition.leader);
    let next = |epoch: i32, by: i32| epoch.checked_add(by).expect("epochs stay below 2^31");
    records.push(MetadataRecord::Partition(PartitionRecord {
        topic_id: topic.id,
        partition: PartitionIndex::new(i32::try_from(index).expect("partition counts are 32-bit")),
        replicas: partition.replicas.clone(),
        isr,
        leader,
        leader_epoch: LeaderEpoch::new(next(partition.leader_epoch.value(), bump)),
        partition_epoch: next(partition.partition_epoch, 1),
    }));
}
