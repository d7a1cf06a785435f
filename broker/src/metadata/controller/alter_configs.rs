//! AlterConfigs (33): replaces all settings of a resource; a key left out returns to its default.

use palisade_protocol::ErrorCode;
use palisade_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::config_changes::{Altered, authorize, check_shape, decide_each, refuse_each};
use super::row::RowError;
use super::{Context, ControllerError, ControllerRequest, Decision};
use crate::foreign;
use crate::metadata::image::ConfigMap;
use crate::metadata::record::ConfigResourceType;

impl ControllerRequest for AlterConfigsRequest {
    type Response = AlterConfigsResponse;

    fn rows(&self) -> usize {
        self.resources.len()
    }

    fn decide(&self, _version: i16, context: &mut Context<'_>) -> Decision<AlterConfigsResponse> {
        let context = &*context;
        decide_each(
            &self.resources,
            self.validate_only,
            |resource| (resource.resource_type, &resource.resource_name),
            |resource, count| replace(resource, count, context),
            row,
        )
        .map(answer)
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> AlterConfigsResponse {
        answer(refuse_each(&self.resources, error, row))
    }
}

fn answer(responses: Vec<AlterConfigsResourceResponse>) -> AlterConfigsResponse {
    AlterConfigsResponse {
        responses,
        ..AlterConfigsResponse::default()
    }
}

fn replace(
    resource: &AlterConfigsResource,
    count: usize,
    context: &Context<'_>,
) -> Result<Altered, RowError> {
    let keys = resource.configs.iter().map(|config| &config.name);
    let resource_type = check_shape(resource.resource_type, count, keys)?;
    let nulls: Vec<String> = resource
        .configs
        .iter()
        .filter(|config| config.value.is_none())
        .map(|config| foreign::name(&config.name))
        .collect();
    if !nulls.is_empty() {
        let text = format!("Null value not supported for : {}", nulls.join(","));
        return Err(RowError::invalid_request(text));
    }
    if resource_type == ConfigResourceType::BrokerLogger {
        let text = "Loggers are changed with IncrementalAlterConfigs.";
        return Err(RowError::invalid_request(text));
    }
    let target = authorize(resource_type, &resource.resource_name, context)?;
    let settings: ConfigMap = resource
        .configs
        .iter()
        .filter_map(|config| Some((&*config.name, config.value.as_deref()?)))
        .collect();
    target.change(&settings, context)
}

fn row(resource: &AlterConfigsResource, error: Option<&RowError>) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse {
        error_code: error.map_or(ErrorCode::NONE, |error| error.code),
        error_message: error.and_then(RowError::text),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
    }
}
