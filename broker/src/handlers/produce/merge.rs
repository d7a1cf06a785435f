//! What a request lists twice: appended once, answered once, as Kafka does. The last one counts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use palisade_protocol::messages::produce::{PartitionProduceData, TopicProduceData};

/// Joins the entries of one topic, and of each partition keeps the last.
pub(super) fn merged(topics: Vec<TopicProduceData>) -> Vec<TopicProduceData> {
    let mut merged = match topics.len() {
        0 | 1 => topics,
        _ => by_topic(topics),
    };
    for topic in &mut merged {
        // Clients list partitions in order, if not one alone.
        if !topic
            .partition_data
            .is_sorted_by(|one, next| one.index < next.index)
        {
            let listed = std::mem::take(&mut topic.partition_data);
            topic.partition_data = last_of_each(listed);
        }
    }
    merged
}

fn by_topic(topics: Vec<TopicProduceData>) -> Vec<TopicProduceData> {
    let mut places = HashMap::with_capacity(topics.len());
    let mut merged: Vec<TopicProduceData> = Vec::with_capacity(topics.len());
    for topic in topics {
        // Names are empty where ids count, and the other way round.
        match places.entry((topic.topic_id, topic.name.clone())) {
            Entry::Vacant(free) => {
                free.insert(merged.len());
                merged.push(topic);
            }
            Entry::Occupied(place) => {
                if let Some(first) = merged.get_mut(*place.get()) {
                    first.partition_data.extend(topic.partition_data);
                }
            }
        }
    }
    merged
}

fn last_of_each(listed: Vec<PartitionProduceData>) -> Vec<PartitionProduceData> {
    let mut places = HashMap::with_capacity(listed.len());
    let mut kept: Vec<PartitionProduceData> = Vec::with_capacity(listed.len());
    for partition in listed {
        match places.entry(partition.index) {
            Entry::Vacant(free) => {
                free.insert(kept.len());
                kept.push(partition);
            }
            Entry::Occupied(place) => {
                if let Some(kept) = kept.get_mut(*place.get()) {
                    *kept = partition;
                }
            }
        }
    }
    kept
}
