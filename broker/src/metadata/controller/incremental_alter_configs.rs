//! IncrementalAlterConfigs (44, KIP-339): sets, removes, appends and subtracts single keys.

use std::collections::HashSet;

use palisade_protocol::ErrorCode;
use palisade_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::config_changes::{Altered, Target, authorize, check_shape, decide_each, refuse_each};
use super::row::RowError;
use super::{Context, ControllerError, ControllerRequest, Decision};
use crate::foreign;
use crate::metadata::image::ConfigMap;
use crate::metadata::topic_config::{ConfigKind, join_list, list_items, lookup};

/// What happens to one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl ControllerRequest for IncrementalAlterConfigsRequest {
    type Response = IncrementalAlterConfigsResponse;

    fn rows(&self) -> usize {
        self.resources.len()
    }

    fn decide(
        &self,
        _version: i16,
        context: &mut Context<'_>,
    ) -> Decision<IncrementalAlterConfigsResponse> {
        let context = &*context;
        decide_each(
            &self.resources,
            self.validate_only,
            |resource| (resource.resource_type, &resource.resource_name),
            |resource, count| alter(resource, count, context),
            row,
        )
        .map(answer)
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> IncrementalAlterConfigsResponse {
        answer(refuse_each(&self.resources, error, row))
    }
}

fn answer(responses: Vec<AlterConfigsResourceResponse>) -> IncrementalAlterConfigsResponse {
    IncrementalAlterConfigsResponse {
        responses,
        ..IncrementalAlterConfigsResponse::default()
    }
}

fn alter(
    resource: &AlterConfigsResource,
    count: usize,
    context: &Context<'_>,
) -> Result<Altered, RowError> {
    let keys = resource.configs.iter().map(|config| &config.name);
    let resource_type = check_shape(resource.resource_type, count, keys)?;
    let operations: Vec<(&AlterableConfig, Operation)> = resource
        .configs
        .iter()
        .map(|config| Ok((config, operation_of(config)?)))
        .collect::<Result<_, RowError>>()?;
    let target = authorize(resource_type, &resource.resource_name, context)?;
    let mut settings = target.settings(context);
    for (config, operation) in operations {
        apply(&target, &mut settings, config, operation)?;
    }
    target.change(&settings, context)
}

/// The operation of a key, with the checks that come before rights.
fn operation_of(config: &AlterableConfig) -> Result<Operation, RowError> {
    let operation = match config.config_operation {
        0 => Operation::Set,
        1 => Operation::Delete,
        2 => Operation::Append,
        3 => Operation::Subtract,
        other => {
            let key = foreign::name(&config.name);
            let text = format!("Unknown operation {other} for the key {key}.");
            return Err(RowError::invalid_request(text));
        }
    };
    if operation != Operation::Delete && config.value.is_none() {
        let key = foreign::name(&config.name);
        return Err(RowError::invalid_request(format!(
            "Null value not supported for : {key}"
        )));
    }
    Ok(operation)
}

fn apply(
    target: &Target<'_>,
    settings: &mut ConfigMap,
    config: &AlterableConfig,
    operation: Operation,
) -> Result<(), RowError> {
    let value = config.value.as_deref().unwrap_or_default();
    match operation {
        Operation::Set => settings.set(&config.name, Some(value)),
        Operation::Delete => settings.set(&config.name, None),
        Operation::Append | Operation::Subtract => {
            let key = match target {
                Target::Topic(..) => lookup(&config.name),
                // No key of a group is a list.
                Target::Group(..) => None,
            };
            let key = key.filter(|key| key.kind == ConfigKind::List);
            let Some(key) = key else {
                let verb = if operation == Operation::Append {
                    "APPEND to"
                } else {
                    "SUBTRACT from"
                };
                let name = foreign::name(&config.name);
                let text = format!("Can't {verb} key {name} because its type is not LIST.");
                return Err(RowError::new(ErrorCode::INVALID_CONFIG, text));
            };
            // The base is the topic's own list or the built-in one, never the node's setting.
            let base = settings.get(key.name).or(key.default).unwrap_or_default();
            let mut items = list_items(base);
            let named = list_items(value);
            if operation == Operation::Append {
                items.extend(named);
            } else {
                let named: HashSet<String> = named.into_iter().collect();
                items.retain(|item| !named.contains(item));
            }
            // Read again: items that were there are not there twice.
            let items = join_list(&list_items(&join_list(&items)));
            settings.set(key.name, Some(&items));
        }
    }
    Ok(())
}

fn row(resource: &AlterConfigsResource, error: Option<&RowError>) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse {
        error_code: error.map_or(ErrorCode::NONE, |error| error.code),
        error_message: error.and_then(RowError::text),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
    }
}

#[cfg(test)]
mod tests;
