//! What AlterConfigs and IncrementalAlterConfigs share: who may change which resource, and how the
//! resulting settings become records (configs.md §5).
//!
//! Only topics and groups can be changed yet. The other resources are authorized first, so that
//! what a caller learns of them is what the rights allow, and then refused.

use std::collections::{HashMap, HashSet};

use palisade_auth::audit::{Action, Change};
use palisade_auth::grant::{AlterConfigs, Group, Topic};
use palisade_protocol::{ErrorCode, Str};

use super::row::RowError;
use super::{Context, ControllerError, Decision};
use crate::foreign;
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
            let text = format!("The key {} is named more than once.", foreign::name(key));
            return Err(RowError::invalid_request(text));
        }
    }
    ConfigResourceType::from_code(code)
        .ok_or_else(|| RowError::invalid_request(format!("Unknown resource type {code}.")))
}

/// A resource to change and the right to do so.
pub(super) enum Target<'a> {
    /// A topic.
    Topic(Permit<Topic, AlterConfigs>, &'a TopicImage),
    /// A group, which need not exist.
    Group(Permit<Group, AlterConfigs>, &'a str),
}

/// What is to be changed, if the caller may and it can be.
pub(super) fn authorize<'a>(
    resource_type: ConfigResourceType,
    name: &'a str,
    context: &'a Context<'_>,
) -> Result<Target<'a>, RowError> {
    let not_built = |what: &str| {
        context
            .rights
            .ask(|access| access.cluster::<AlterConfigs>())?;
        Err(RowError::invalid_request(format!(
            "Settings of {what} cannot be changed yet."
        )))
    };
    match resource_type {
        ConfigResourceType::Topic => topic(name, context),
        ConfigResourceType::Group => {
            let rights = context.rights;
            let permit = rights.ask(|access| access.group::<AlterConfigs>(name))?;
            if name.is_empty() {
                return Err(RowError::invalid_request(
                    "Default group resources are not allowed.",
                ));
            }
            Ok(Target::Group(permit, name))
        }
        ConfigResourceType::Broker => not_built("brokers"),
        ConfigResourceType::BrokerLogger => not_built("loggers"),
        ConfigResourceType::ClientMetrics => not_built("client metrics"),
    }
}

fn topic<'a>(name: &str, context: &'a Context<'_>) -> Result<Target<'a>, RowError> {
    let permit = context
        .rights
        .ask(|access| access.topic::<AlterConfigs>(name))?;
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
    Ok(Target::Topic(permit, topic))
}

impl Target<'_> {
    /// The settings as they are.
    pub(super) fn settings(&self, context: &Context<'_>) -> ConfigMap {
        match self {
            Target::Topic(_, topic) => topic.config.clone(),
            Target::Group(_, name) => {
                let groups = &context.image.configs;
                let settings = groups.get(ConfigResourceType::Group, name);
                settings.cloned().unwrap_or_default()
            }
        }
    }

    /// Checks the complete new settings; answers the records that lead to them, and what the audit
    /// log says of it.
    pub(super) fn change(
        &self,
        settings: &ConfigMap,
        context: &Context<'_>,
    ) -> Result<Altered, RowError> {
        let present = self.settings(context);
        check_lengths(settings, &present)?;
        let invalid = |text| RowError::new(ErrorCode::INVALID_CONFIG, text);
        let (resource_type, kind, name) = match self {
            Target::Topic(permit, topic) => {
                permit.covers(&topic.name);
                topic_config::validate(settings, &context.settings.topic_defaults)
                    .map_err(|error| invalid(error.to_string()))?;
                (ConfigResourceType::Topic, "topic", &*topic.name)
            }
            Target::Group(permit, name) => {
                permit.covers(name);
                let defaults = &context.settings.group_defaults;
                defaults
                    .validate(settings)
                    .map_err(|error| invalid(error.to_string()))?;
                (ConfigResourceType::Group, "group", *name)
            }
        };
        let record = |key: &str, value: Option<&str>| MetadataRecord::Config {
            resource_type,
            resource_name: name.to_owned(),
            key: key.to_owned(),
            value: value.map(str::to_owned),
        };
        let removed = present
            .iter()
            .filter(|(key, _)| settings.get(key).is_none());
        let set = settings
            .iter()
            .filter(|(key, value)| present.get(key) != Some(*value));
        let records: Vec<_> = removed
            .map(|(key, _)| record(key, None))
            .chain(set.map(|(key, value)| record(key, Some(value))))
            .collect();
        let change = change(format!("{kind} {name}"), &present, &records);
        Ok((records, change))
    }
}

/// Refuses texts that would be too long to be told again; those of before may stay as they are.
pub(super) fn check_lengths(settings: &ConfigMap, before: &ConfigMap) -> Result<(), RowError> {
    const LONGEST: usize = ConfigMap::LONGEST;
    let mut changed = settings
        .iter()
        .filter(|(key, value)| before.get(key) != Some(*value));
    let Some((key, value)) = changed.find(|(_, value)| value.len() > LONGEST) else {
        return Ok(());
    };
    let (key, length) = (foreign::name(key), value.len());
    let text = format!(
        "The value of {key} would have {length} bytes; {LONGEST} is the most that an answer can \
         carry."
    );
    Err(RowError::new(ErrorCode::INVALID_CONFIG, text))
}

/// What the audit log says of a change of settings.
fn change(target: String, present: &ConfigMap, records: &[MetadataRecord]) -> (Action, Change) {
    let mut before = Vec::new();
    let mut after = Vec::new();
    for record in records {
        if let MetadataRecord::Config { key, value, .. } = record {
            before.extend(present.get(key).map(|old| format!("{key}={old}")));
            after.extend(value.as_ref().map(|new| format!("{key}={new}")));
        }
    }
    let change = Change {
        target,
        before: Some(before.join(" ")),
        after: Some(after.join(" ")),
        ..Change::default()
    };
    (Action::ConfigAlter, change)
}
