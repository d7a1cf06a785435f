//! DeleteTopics (20): by name, from v6 also by id (KIP-516).

use std::collections::HashMap;
use std::sync::Arc;

use palisade_auth::acl::Operation;
use palisade_auth::audit::{Action, Change};
use palisade_auth::grant::{Delete, Topic};
use palisade_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use palisade_protocol::{ErrorCode, Str, Uuid};

use super::row::RowError;
use super::{Context, ControllerError, ControllerRequest, Decision};
use crate::metadata::actor::Permit;
use crate::metadata::image::TopicImage;
use crate::metadata::record::MetadataRecord;

/// One topic that the request names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Name(Str),
    Id(Uuid),
    /// Both, or neither.
    Neither {
        name: Option<Str>,
        id: Uuid,
        text: &'static str,
    },
}

/// What becomes of one row.
enum Outcome {
    Delete {
        permit: Permit<Topic, Delete>,
        topic: Arc<TopicImage>,
    },
    Fail {
        name: Option<Str>,
        id: Uuid,
        error: RowError,
    },
}

impl ControllerRequest for DeleteTopicsRequest {
    type Response = DeleteTopicsResponse;

    fn rows(&self) -> usize {
        self.topics.len() + self.topic_names.len()
    }

    fn timeout_ms(&self) -> Option<i32> {
        Some(self.timeout_ms)
    }

    fn decide(&self, version: i16, context: &mut Context<'_>) -> Decision<DeleteTopicsResponse> {
        if !context.settings.delete_topic_enable {
            let code = if version < 3 {
                ErrorCode::INVALID_REQUEST
            } else {
                ErrorCode::TOPIC_DELETION_DISABLED
            };
            return Decision::only(refuse_all(self, &RowError::bare(code)));
        }
        let mut outcomes: Vec<Outcome> = distinct(self)
            .into_iter()
            .map(|(wanted, count)| judge(wanted, count, context))
            .collect();
        refuse_twice(&mut outcomes);
        let mut records = Vec::new();
        let mut changes = Vec::new();
        let mut responses = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            responses.push(match outcome {
                Outcome::Fail { name, id, error } => row(name, id, Some(&error)),
                Outcome::Delete { permit, topic } => {
                    permit.covers(&topic.name);
                    records.push(MetadataRecord::RemoveTopic { id: topic.id });
                    changes.push(change(&topic));
                    row(Some(Str::copy(&topic.name)), topic.id, None)
                }
            });
        }
        let response = DeleteTopicsResponse {
            responses,
            ..DeleteTopicsResponse::default()
        };
        Decision {
            records,
            response,
            changes,
        }
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> DeleteTopicsResponse {
        refuse_all(self, &RowError::from(error))
    }
}

fn wanted(request: &DeleteTopicsRequest) -> impl Iterator<Item = Wanted> {
    let by_name = request.topic_names.iter().cloned().map(Wanted::Name);
    let by_state = request.topics.iter().map(|state| {
        let neither = |text| Wanted::Neither {
            name: state.name.clone(),
            id: state.topic_id,
            text,
        };
        match (&state.name, state.topic_id) {
            (Some(name), Uuid::NIL) => Wanted::Name(name.clone()),
            (None, Uuid::NIL) => neither("Neither topic name nor id were specified."),
            (None, id) => Wanted::Id(id),
            (Some(_), _) => neither("You may not specify both topic name and topic id."),
        }
    });
    by_name.chain(by_state)
}

/// Each name and id once, in order, with how often it occurs.
fn distinct(request: &DeleteTopicsRequest) -> Vec<(Wanted, usize)> {
    let mut places: HashMap<(Option<Str>, Uuid), usize> = HashMap::new();
    let mut distinct: Vec<(Wanted, usize)> = Vec::new();
    for wanted in wanted(request) {
        let key = match &wanted {
            Wanted::Name(name) => (Some(name.clone()), Uuid::NIL),
            Wanted::Id(id) => (None, *id),
            Wanted::Neither { .. } => {
                distinct.push((wanted, 1));
                continue;
            }
        };
        match places.get(&key) {
            Some(place) => distinct[*place].1 += 1,
            None => {
                places.insert(key, distinct.len());
                distinct.push((wanted, 1));
            }
        }
    }
    distinct
}

fn judge(wanted: Wanted, count: usize, context: &Context<'_>) -> Outcome {
    match wanted {
        Wanted::Neither { name, id, text } => Outcome::Fail {
            name,
            id,
            error: RowError::invalid_request(text),
        },
        Wanted::Name(name) if count > 1 => Outcome::Fail {
            name: Some(name),
            id: Uuid::NIL,
            error: RowError::invalid_request("Duplicate topic name."),
        },
        Wanted::Id(id) if count > 1 => Outcome::Fail {
            name: None,
            id,
            error: RowError::invalid_request("Duplicate topic id."),
        },
        Wanted::Name(name) => by_name(name, context),
        Wanted::Id(id) => by_id(id, context),
    }
}

fn by_name(name: Str, context: &Context<'_>) -> Outcome {
    // Asked before the topic is looked for: a name without rights says nothing of its existence.
    match context.rights.ask(|access| access.delete_topic(&name)) {
        Err(denied) => Outcome::Fail {
            name: Some(name),
            id: Uuid::NIL,
            error: RowError::from(denied),
        },
        Ok(permit) => match context.image.topics.get(&name) {
            Some(topic) => Outcome::Delete {
                permit,
                topic: Arc::clone(topic),
            },
            None => Outcome::Fail {
                name: Some(name),
                id: Uuid::NIL,
                error: RowError::new(
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    "This server does not host this topic-partition.",
                ),
            },
        },
    }
}

fn by_id(id: Uuid, context: &Context<'_>) -> Outcome {
    let Some(topic) = context.image.topics.by_id(id) else {
        let text = "This server does not host this topic ID.";
        let error = RowError::new(ErrorCode::UNKNOWN_TOPIC_ID, text);
        return Outcome::Fail {
            name: None,
            id,
            error,
        };
    };
    match context
        .rights
        .ask(|access| access.delete_topic(&topic.name))
    {
        Ok(permit) => Outcome::Delete {
            permit,
            topic: Arc::clone(topic),
        },
        Err(denied) => {
            // Who may not even describe the topic must not learn the name behind an id.
            let hidden = denied.operation == Operation::Describe;
            let name = (!hidden).then(|| Str::copy(&topic.name));
            Outcome::Fail {
                name,
                id,
                error: RowError::from(denied),
            }
        }
    }
}

/// A topic named once by its name and once by its id: one row, and it stays.
fn refuse_twice(outcomes: &mut Vec<Outcome>) {
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    let mut twice = Vec::new();
    for (place, outcome) in outcomes.iter().enumerate() {
        if let Outcome::Delete { topic, .. } = outcome
            && let Some(first) = places.insert(topic.id, place)
        {
            twice.push((first, place));
        }
    }
    // From the back, so that the places in front stay right.
    for (first, second) in twice.into_iter().rev() {
        if let Outcome::Delete { topic, .. } = outcomes.remove(second) {
            outcomes[first] = Outcome::Fail {
                name: Some(Str::copy(&topic.name)),
                id: topic.id,
                error: RowError::invalid_request(
                    "The provided topic name maps to an ID that was already supplied.",
                ),
            };
        }
    }
}

fn change(topic: &TopicImage) -> (Action, Change) {
    let before = format!("id={} partitions={}", topic.id, topic.partitions.len());
    let target = format!("topic {}", topic.name);
    (
        Action::TopicDelete,
        Change {
            target,
            before: Some(before),
            ..Change::default()
        },
    )
}

fn refuse_all(request: &DeleteTopicsRequest, error: &RowError) -> DeleteTopicsResponse {
    let responses = wanted(request)
        .map(|wanted| match wanted {
            Wanted::Name(name) => row(Some(name), Uuid::NIL, Some(error)),
            Wanted::Id(id) => row(None, id, Some(error)),
            Wanted::Neither { name, id, .. } => row(name, id, Some(error)),
        })
        .collect();
    DeleteTopicsResponse {
        responses,
        ..DeleteTopicsResponse::default()
    }
}

fn row(name: Option<Str>, topic_id: Uuid, error: Option<&RowError>) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id,
        error_code: error.map_or(ErrorCode::NONE, |error| error.code),
        error_message: error.and_then(RowError::text),
    }
}

#[cfg(test)]
mod tests;
