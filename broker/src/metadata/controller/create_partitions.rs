//! CreatePartitions (37): topics grow, and never shrink.

use palisade_auth::audit::{Action, Change};
use palisade_auth::grant::{Alter, Topic};
use palisade_protocol::ErrorCode;
use palisade_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};

use super::create_topics::{MAX_PARTITIONS, count_names};
use super::descriptors::Room;
use super::placement::{Placement, check_assignment, new_partition};
use super::row::RowError;
use super::{Context, ControllerError, ControllerRequest, Decision};
use crate::metadata::actor::Permit;
use crate::metadata::image::TopicImage;
use crate::metadata::record::{MetadataRecord, PartitionRecord};

impl ControllerRequest for CreatePartitionsRequest {
    type Response = CreatePartitionsResponse;

    fn rows(&self) -> usize {
        self.topics.len()
    }

    fn timeout_ms(&self) -> Option<i32> {
        Some(self.timeout_ms)
    }

    fn decide(
        &self,
        _version: i16,
        context: &mut Context<'_>,
    ) -> Decision<CreatePartitionsResponse> {
        let mut records = Vec::new();
        let mut changes = Vec::new();
        let mut results = Vec::with_capacity(self.topics.len());
        let mut descriptors = Room::default();
        let counts = count_names(self.topics.iter().map(|topic| &topic.name));
        for (at, topic) in self.topics.iter().enumerate() {
            let (count, first) = counts[&topic.name];
            if first != at {
                continue;
            }
            let decided = permit(topic, count, context).and_then(|permit| {
                let room = MAX_PARTITIONS.saturating_sub(records.len());
                let (before, partitions) = grow(&permit, topic, room, context)?;
                descriptors.take(&topic.name, partitions.len(), context)?;
                Ok((before, partitions))
            });
            results.push(row(topic, decided.as_ref().err()));
            if let Ok((before, partitions)) = decided
                && !self.validate_only
            {
                changes.push(change(topic, before));
                records.extend(partitions.into_iter().map(MetadataRecord::Partition));
            }
        }
        let response = CreatePartitionsResponse {
            results,
            ..CreatePartitionsResponse::default()
        };
        Decision {
            records,
            response,
            changes,
        }
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> CreatePartitionsResponse {
        let error = RowError::from(error);
        let counts = count_names(self.topics.iter().map(|topic| &topic.name));
        let results = self
            .topics
            .iter()
            .enumerate()
            .filter(|(at, topic)| counts[&topic.name].1 == *at)
            .map(|(_, topic)| row(topic, Some(&error)))
            .collect();
        CreatePartitionsResponse {
            results,
            ..CreatePartitionsResponse::default()
        }
    }
}

fn permit(
    topic: &CreatePartitionsTopic,
    count: usize,
    context: &Context<'_>,
) -> Result<Permit<Topic, Alter>, RowError> {
    if count > 1 {
        return Err(RowError::invalid_request("Duplicate topic name."));
    }
    Ok(context
        .rights
        .ask(|access| access.topic::<Alter>(&topic.name))?)
}

/// The partitions that are new, and how many there were.
fn grow(
    permit: &Permit<Topic, Alter>,
    wanted: &CreatePartitionsTopic,
    room: usize,
    context: &mut Context<'_>,
) -> Result<(usize, Vec<PartitionRecord>), RowError> {
    permit.covers(&wanted.name);
    let topic = context
        .image
        .topics
        .get(&wanted.name)
        .ok_or(RowError::bare(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
    let before = topic.partitions.len();
    let refused = |text| Err(RowError::new(ErrorCode::INVALID_PARTITIONS, text));
    let count = match usize::try_from(wanted.count) {
        Ok(count) if count > before => count,
        Ok(count) if count == before => {
            return refused(format!("Topic already has {before} partition(s)."));
        }
        _ => {
            return refused(format!(
                "The topic {} currently has {before} partition(s); {} would not be an increase.",
                topic.name, wanted.count
            ));
        }
    };
    if count - before > room {
        let text = "Excessively large number of partitions per request.";
        return Err(RowError::new(ErrorCode::POLICY_VIOLATION, text));
    }
    let partitions = match &wanted.assignments {
        None => placed(topic, before..count, context)?,
        Some(assignments) => {
            let added = count - before;
            if assignments.len() != added {
                let text = format!(
                    "Attempted to add {added} additional partition(s), but only {} assignment(s) \
                     were specified.",
                    assignments.len()
                );
                return Err(RowError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text));
            }
            let brokers = &context.image.brokers;
            let expected = Some(topic.replication_factor());
            (before..count)
                .zip(assignments)
                .map(|(partition, assignment)| {
                    let replicas =
                        check_assignment(brokers, partition, &assignment.broker_ids, expected)?;
                    Ok(new_partition(brokers, topic.id, partition, replicas))
                })
                .collect::<Result<_, RowError>>()?
        }
    };
    Ok((before, partitions))
}

fn placed(
    topic: &TopicImage,
    new: std::ops::Range<usize>,
    context: &mut Context<'_>,
) -> Result<Vec<PartitionRecord>, RowError> {
    let start = context.random_below(context.image.brokers.len().max(1));
    let brokers = &context.image.brokers;
    let placement = Placement::new(brokers, topic.replication_factor(), start)?;
    Ok(new
        .map(|partition| {
            new_partition(
                brokers,
                topic.id,
                partition,
                placement.replicas_of(partition),
            )
        })
        .collect())
}

fn change(topic: &CreatePartitionsTopic, before: usize) -> (Action, Change) {
    let change = Change {
        target: format!("topic {}", &*topic.name),
        before: Some(format!("partitions={before}")),
        after: Some(format!("partitions={}", topic.count)),
        ..Change::default()
    };
    (Action::PartitionsCreate, change)
}

fn row(topic: &CreatePartitionsTopic, error: Option<&RowError>) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult {
        name: topic.name.clone(),
        error_code: error.map_or(ErrorCode::NONE, |error| error.code),
        error_message: error.and_then(RowError::text),
    }
}

#[cfg(test)]
mod tests;
