//! CreateTopics (19): v5 answers with the settings in force (KIP-525), v7 with ids (KIP-516).
//!
//! Not here: creation policies (a plugin in the reference) and mutation quotas.

use std::collections::HashMap;

use palisade_auth::audit::{Action, Change};
use palisade_auth::grant::{Create, DescribeConfigs, Topic};
use palisade_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use palisade_protocol::{ErrorCode, Str, Uuid};

use super::config_changes::check_lengths;
use super::descriptors::Room;
use super::placement::{Placement, check_assignment, new_partition};
use super::row::RowError;
use super::{Context, ControllerError, ControllerRequest, Decision};
use crate::foreign;
use crate::metadata::actor::Permit;
use crate::metadata::image::ConfigMap;
use crate::metadata::record::{ConfigResourceType, MetadataRecord, PartitionRecord};
use crate::metadata::topic_config;
use crate::metadata::topic_name;

/// Partitions that one request may create, as in the reference.
pub(super) const MAX_PARTITIONS: usize = 10_000;

/// A topic that passed every check.
struct NewTopic {
    id: Uuid,
    config: ConfigMap,
    partitions: Vec<PartitionRecord>,
    replication_factor: usize,
}

impl ControllerRequest for CreateTopicsRequest {
    type Response = CreateTopicsResponse;

    fn rows(&self) -> usize {
        self.topics.len()
    }

    fn timeout_ms(&self) -> Option<i32> {
        Some(self.timeout_ms)
    }

    fn decide(&self, _version: i16, context: &mut Context<'_>) -> Decision<CreateTopicsResponse> {
        let mut rows: Vec<CreatableTopicResult> = Vec::with_capacity(self.topics.len());
        let mut records = Vec::new();
        let mut changes = Vec::new();
        let counts = count_names(self.topics.iter().map(|topic| &topic.name));
        let too_many = partitions_wanted(self, context) >= MAX_PARTITIONS;
        let mut room = Room::default();
        for (at, topic) in self.topics.iter().enumerate() {
            let (count, first) = counts[&topic.name];
            if first != at {
                continue;
            }
            let decided = permit(topic, count, context).and_then(|permit| {
                if too_many {
                    let text = "Excessively large number of partitions per request.";
                    return Err(RowError::new(ErrorCode::POLICY_VIOLATION, text));
                }
                let new = new_topic(&permit, topic, context)?;
                room.take(&topic.name, new.partitions.len(), context)?;
                Ok(new)
            });
            match decided {
                Err(error) => rows.push(failed(topic, &error)),
                Ok(new) => {
                    rows.push(created(topic, &new, context));
                    if !self.validate_only {
                        changes.push(change(topic, &new));
                        add_records(topic, new, &mut records);
                    }
                }
            }
        }
        let response = CreateTopicsResponse {
            topics: rows,
            ..CreateTopicsResponse::default()
        };
        Decision {
            records,
            response,
            changes,
        }
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> CreateTopicsResponse {
        let error = RowError::from(error);
        let counts = count_names(self.topics.iter().map(|topic| &topic.name));
        let topics = self
            .topics
            .iter()
            .enumerate()
            .filter(|(at, topic)| counts[&topic.name].1 == *at)
            .map(|(_, topic)| failed(topic, &error))
            .collect();
        CreateTopicsResponse {
            topics,
            ..CreateTopicsResponse::default()
        }
    }
}

/// How often each name occurs, and where first.
pub(super) fn count_names<'a>(
    names: impl Iterator<Item = &'a Str>,
) -> HashMap<&'a Str, (usize, usize)> {
    let mut counts = HashMap::new();
    for (at, name) in names.enumerate() {
        counts.entry(name).or_insert((0, at)).0 += 1;
    }
    counts
}

/// Partitions the whole request asks for, whoever may create them.
fn partitions_wanted(request: &CreateTopicsRequest, context: &Context<'_>) -> usize {
    let wanted = request.topics.iter().map(|topic| {
        if !topic.assignments.is_empty() {
            topic.assignments.len()
        } else if topic.num_partitions == -1 {
            usize::try_from(context.settings.num_partitions).unwrap_or_default()
        } else {
            usize::try_from(topic.num_partitions).unwrap_or_default()
        }
    });
    wanted.fold(0, usize::saturating_add)
}

/// The checks before authorization, and authorization.
fn permit(
    topic: &CreatableTopic,
    count: usize,
    context: &Context<'_>,
) -> Result<Permit<Topic, Create>, RowError> {
    if count > 1 {
        return Err(RowError::invalid_request("Duplicate topic name."));
    }
    if topic.name == *topic_name::CLUSTER_METADATA {
        let text = format!("Creation of internal topic {} is prohibited.", &*topic.name);
        return Err(RowError::invalid_request(text));
    }
    Ok(context
        .rights
        .ask(|access| access.create_topic(&topic.name))?)
}

fn new_topic(
    permit: &Permit<Topic, Create>,
    topic: &CreatableTopic,
    context: &mut Context<'_>,
) -> Result<NewTopic, RowError> {
    permit.covers(&topic.name);
    check_name(&topic.name, context)?;
    let config = settings_of(topic)?;
    check_lengths(&config, &ConfigMap::default())?;
    topic_config::validate(&config, &context.settings.topic_defaults)
        .map_err(|error| RowError::new(ErrorCode::INVALID_CONFIG, error.to_string()))?;
    let id = context.random_id();
    let (partitions, replication_factor) = if topic.assignments.is_empty() {
        placed(topic, id, context)?
    } else {
        assigned(topic, id, context)?
    };
    Ok(NewTopic {
        id,
        config,
        partitions,
        replication_factor,
    })
}

fn check_name(name: &str, context: &Context<'_>) -> Result<(), RowError> {
    topic_name::validate(name)
        .map_err(|text| RowError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, text))?;
    if context.image.topics.get(name).is_some() {
        let text = format!("Topic '{name}' already exists.");
        return Err(RowError::new(ErrorCode::TOPIC_ALREADY_EXISTS, text));
    }
    if let Some(other) = context.image.topics.colliding(name) {
        let text = format!("Topic '{name}' collides with existing topic: {other}");
        return Err(RowError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, text));
    }
    Ok(())
}

/// The settings of the request; of a key given twice the last one counts.
fn settings_of(topic: &CreatableTopic) -> Result<ConfigMap, RowError> {
    let nulls: Vec<String> = topic
        .configs
        .iter()
        .filter(|config| config.value.is_none())
        .map(|config| foreign::name(&config.name))
        .collect();
    if !nulls.is_empty() {
        let text = format!(
            "Null value not supported for topic configs: {}",
            nulls.join(",")
        );
        return Err(RowError::new(ErrorCode::INVALID_CONFIG, text));
    }
    let pairs = topic
        .configs
        .iter()
        .filter_map(|config| Some((&*config.name, config.value.as_deref()?)));
    Ok(pairs.collect())
}

fn placed(
    topic: &CreatableTopic,
    id: Uuid,
    context: &mut Context<'_>,
) -> Result<(Vec<PartitionRecord>, usize), RowError> {
    let replicas = match topic.replication_factor {
        -1 => context.settings.default_replication_factor,
        set => set,
    };
    let replicas = usize::try_from(replicas)
        .ok()
        .filter(|replicas| *replicas > 0)
        .ok_or_else(|| {
            RowError::new(
                ErrorCode::INVALID_REPLICATION_FACTOR,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            )
        })?;
    let count = match topic.num_partitions {
        -1 => context.settings.num_partitions,
        set => set,
    };
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| {
            RowError::new(
                ErrorCode::INVALID_PARTITIONS,
                "Number of partitions was set to an invalid non-positive value.",
            )
        })?;
    let start = context.random_below(context.image.brokers.len().max(1));
    let brokers = &context.image.brokers;
    let placement = Placement::new(brokers, replicas, start)?;
    let partitions = (0..count)
        .map(|partition| new_partition(brokers, id, partition, placement.replicas_of(partition)))
        .collect();
    Ok((partitions, replicas))
}

fn assigned(
    topic: &CreatableTopic,
    id: Uuid,
    context: &Context<'_>,
) -> Result<(Vec<PartitionRecord>, usize), RowError> {
    const MANUAL: &str = "A manual partition assignment was specified, but";
    if topic.replication_factor != -1 {
        let text = format!("{MANUAL} replication factor was not set to -1.");
        return Err(RowError::invalid_request(text));
    }
    if topic.num_partitions != -1 {
        let text = format!("{MANUAL} numPartitions was not set to -1.");
        return Err(RowError::invalid_request(text));
    }
    let mut by_index: Vec<Option<&[i32]>> = vec![None; topic.assignments.len()];
    for assignment in &topic.assignments {
        let index = assignment.partition_index;
        let slot = usize::try_from(index)
            .ok()
            .and_then(|index| by_index.get_mut(index));
        let refused = |text: String| RowError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text);
        let Some(slot) = slot else {
            let text = "partitions should be a consecutive 0-based integer sequence";
            return Err(refused(text.to_owned()));
        };
        if slot.replace(&assignment.broker_ids).is_some() {
            let text = format!("Found multiple manual partition assignments for partition {index}");
            return Err(refused(text));
        }
    }
    let brokers = &context.image.brokers;
    let mut expected = None;
    let mut partitions = Vec::with_capacity(by_index.len());
    for (partition, replicas) in by_index.into_iter().flatten().enumerate() {
        let replicas = check_assignment(brokers, partition, replicas, expected)?;
        expected = Some(replicas.len());
        partitions.push(new_partition(brokers, id, partition, replicas));
    }
    Ok((partitions, expected.unwrap_or_default()))
}

fn add_records(topic: &CreatableTopic, new: NewTopic, records: &mut Vec<MetadataRecord>) {
    let name = topic.name.to_string();
    records.push(MetadataRecord::Topic {
        id: new.id,
        name: name.clone(),
    });
    records.extend(new.partitions.into_iter().map(MetadataRecord::Partition));
    for (key, value) in new.config.iter() {
        records.push(MetadataRecord::Config {
            resource_type: ConfigResourceType::Topic,
            resource_name: name.clone(),
            key: key.to_owned(),
            value: Some(value.to_owned()),
        });
    }
}

fn change(topic: &CreatableTopic, new: &NewTopic) -> (Action, Change) {
    let mut after = format!(
        "id={} partitions={} replicas={}",
        new.id,
        new.partitions.len(),
        new.replication_factor
    );
    for (key, value) in new.config.iter() {
        after.push_str(&format!(" {key}={value}"));
    }
    let target = format!("topic {}", &*topic.name);
    (
        Action::TopicCreate,
        Change {
            target,
            after: Some(after),
            ..Change::default()
        },
    )
}

fn created(topic: &CreatableTopic, new: &NewTopic, context: &Context<'_>) -> CreatableTopicResult {
    let mut row = CreatableTopicResult {
        name: topic.name.clone(),
        topic_id: new.id,
        error_message: None,
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    };
    let described = context
        .rights
        .probe(|access| access.probe_topic::<DescribeConfigs>(&topic.name));
    if described.is_none() {
        // The topic is created all the same; only what it is like stays unsaid.
        row.topic_config_error_code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
        return row;
    }
    row.num_partitions = i32::try_from(new.partitions.len()).unwrap_or(i32::MAX);
    row.replication_factor = i16::try_from(new.replication_factor).unwrap_or(i16::MAX);
    let entries = topic_config::created(&context.settings.topic_defaults, &new.config);
    row.configs = Some(
        entries
            .into_iter()
            .map(|entry| CreatableTopicConfigs {
                name: Str::from(entry.name),
                value: entry.value.map(Str::from),
                config_source: entry.source.code(),
                ..CreatableTopicConfigs::default()
            })
            .collect(),
    );
    row
}

fn failed(topic: &CreatableTopic, error: &RowError) -> CreatableTopicResult {
    CreatableTopicResult {
        name: topic.name.clone(),
        error_code: error.code,
        error_message: error.text(),
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}

#[cfg(test)]
mod tests;
