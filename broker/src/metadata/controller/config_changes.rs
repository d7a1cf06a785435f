//! What AlterConfigs and IncrementalAlterConfigs share: who may change which resource, and how the
//! resulting settings of a topic become records (configs.md §5).
//!
//! Only topics can be changed yet. The other resources are authorized first, so that what a caller
//! learns of them is what the rights allow, and then refused.

use std::collections::{HashMap, HashSet};

use palisade_auth::audit::{Action, Change};
use palisade_auth::grant::{AlterConfigs, Topic};
use palisade_protocol::{ErrorCode, Str};

use super::row::RowError;
use super::{Context, ControllerError, Decision};
use crate::metadata::actor::Permit;
use crate::metadata::image::{ConfigMap, TopicImage};
use crate::metadata::record::{ConfigResourceType, MetadataRecord};
use crate::metadata::topic_config;
use crate::metadata::topic_name;

/// What changes one resource, and what the audit log says of it.
pub(super) type Altered = (Vec<MetadataRecord>, (Action, Change));

/// Decides each resource of a request; the response is the rows of the answer.
///
/// `named`: kind and name of a resource. `alter` is told how often the request names it.
pub(super) fn decide_each<R, Row>(
    resources: &[R],
    validate_only: bool,
    named: impl Fn(&R) -> (i8, &Str),
    alter: impl Fn(&R, usize) -> Result<Altered, RowError>,
    row: impl Fn(&R, Option<&RowError>) -> Row,
) -> Decision<Vec<Row>> {
    let mut counts = HashMap::new();
    for resource in resources {
        *counts.entry(named(resource)).or_insert(0) += 1;
    }
    let mut decision = Decision {
        records: Vec::new(),
        response: Vec::with_capacity(resources.len()),
        changes: Vec::new(),
    };
    for resource in resources {
        let decided = alter(resource, counts[&named(resource)]);
        decision
            .response
            .push(row(resource, decided.as_ref().err()));
        if let Ok((records, change)) = decided
            && !validate_only
            && !records.is_empty()
        {
            decision.records.extend(records);
            decision.changes.push(change);
        }
    }
    decision
}

/// The rows of an answer in which every resource fails alike.
pub(super) fn refuse_each<R, Row>(
    resources: &[R],
    error: &ControllerError,
    row: impl Fn(&R, Option<&RowError>) -> Row,
) -> Vec<Row> {
    let error = RowError::from(error);
    resources
        .iter()
        .map(|resource| row(resource, Some(&error)))
        .collect()
}

/// The checks that come before rights: repeats and unknown kinds.
pub(super) fn check_shape<'a>(
    code: i8,
    count: usize,
    keys: impl Iterator<Item = &'a Str>,
) -> Result<ConfigResourceType, RowError> {
    if count > 1 {
        return Err(RowError::invalid_request(
            "The resource is named more than once.",
        ));
    }
    let mut seen = HashSet::new();
    for key in keys {
        if !seen.insert(key) {
            let text = format!(
                "The key {} is named more than once.",
                topic_name::shown(key)
            );
            return Err(RowError::invalid_request(text));
        }
    }
    ConfigResourceType::from_code(code)
        .ok_or_else(|| RowError::invalid_request(format!("Unknown resource type {code}.")))
}

/// The topic to change and the right to do so.
pub(super) fn authorize<'a>(
    resource_type: ConfigResourceType,
    name: &str,
    context: &'a Context<'_>,
) -> Result<(Permit<Topic, AlterConfigs>, &'a TopicImage), RowError> {
    let not_built = |what: &str| {
        Err(RowError::invalid_request(format!(
            "Settings of {what} cannot be changed yet."
        )))
    };
    let permit = match resource_type {
        ConfigResourceType::Topic => context
            .rights
            .ask(|access| access.topic::<AlterConfigs>(name))?,
        ConfigResourceType::Group => {
            context
                .rights
                .ask(|access| access.group::<AlterConfigs>(name))?;
            return not_built("groups");
        }
        ConfigResourceType::Broker => {
            context
                .rights
                .ask(|access| access.cluster::<AlterConfigs>())?;
            return not_built("brokers");
        }
        ConfigResourceType::BrokerLogger => {
            context
                .rights
                .ask(|access| access.cluster::<AlterConfigs>())?;
            return not_built("loggers");
        }
        ConfigResourceType::ClientMetrics => {
            context
                .rights
                .ask(|access| access.cluster::<AlterConfigs>())?;
            return not_built("client metrics");
        }
    };
    if name.is_empty() {
        return Err(RowError::invalid_request(
            "Default topic resources are not allowed.",
        ));
    }
    topic_name::validate(name)
        .map_err(|text| RowError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, text))?;
    let topic = context.image.topics.get(name).ok_or_else(|| {
        let text = format!("The topic '{name}' does not exist.");
        RowError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, text)
    })?;
    Ok((permit, topic))
}

/// Checks the complete new settings of a topic and answers the records that lead to them.
pub(super) fn change_topic(
    permit: &Permit<Topic, AlterConfigs>,
    topic: &TopicImage,
    settings: &ConfigMap,
    context: &Context<'_>,
) -> Result<Vec<MetadataRecord>, RowError> {
    permit.covers(&topic.name);
    topic_config::validate(settings, &context.settings.topic_defaults)
        .map_err(|error| RowError::new(ErrorCode::INVALID_CONFIG, error.to_string()))?;
    let record = |key: &str, value: Option<&str>| MetadataRecord::Config {
        resource_type: ConfigResourceType::Topic,
        resource_name: topic.name.to_string(),
        key: key.to_owned(),
        value: value.map(str::to_owned),
    };
    let removed = topic
        .config
        .iter()
        .filter(|(key, _)| settings.get(key).is_none());
    let set = settings
        .iter()
        .filter(|(key, value)| topic.config.get(key) != Some(*value));
    Ok(removed
        .map(|(key, _)| record(key, None))
        .chain(set.map(|(key, value)| record(key, Some(value))))
        .collect())
}

/// What the audit log says of a change of settings.
pub(super) fn change(topic: &TopicImage, records: &[MetadataRecord]) -> (Action, Change) {
    let mut before = Vec::new();
    let mut after = Vec::new();
    for record in records {
        if let MetadataRecord::Config { key, value, .. } = record {
            before.extend(topic.config.get(key).map(|old| format!("{key}={old}")));
            after.extend(value.as_ref().map(|new| format!("{key}={new}")));
        }
    }
    let change = Change {
        target: format!("topic {}", topic.name),
        before: Some(before.join(" ")),
        after: Some(after.join(" ")),
        ..Change::default()
    };
    (Action::ConfigAlter, change)
}
