//! CreateAcls (30): each entry for itself; one that exists already is a success.

use std::collections::HashSet;

use palisade_auth::acl::{AclBinding, Operation, PatternType, Permission, ResourceType};
use palisade_auth::audit::{Action, Change};
use palisade_auth::grant::{Alter, Cluster};
use palisade_protocol::messages::create_acls::{
    AclCreation, AclCreationResult, CreateAclsRequest, CreateAclsResponse,
};
use palisade_protocol::{ErrorCode, Str};
use tracing::warn;

use super::row::RowError;
use super::{Context, ControllerError, ControllerRequest, Decision};
use crate::logging::Throttle;
use crate::metadata::actor::Permit;
use crate::metadata::record::MetadataRecord;

impl ControllerRequest for CreateAclsRequest {
    type Response = CreateAclsResponse;

    fn rows(&self) -> usize {
        self.creations.len()
    }

    fn decide(&self, _version: i16, context: &mut Context<'_>) -> Decision<CreateAclsResponse> {
        if let Err(error) = permit(context) {
            return Decision::only(refuse_all(self, &error));
        }
        let mut new: HashSet<AclBinding> = HashSet::new();
        let mut records = Vec::new();
        let mut changes = Vec::new();
        let mut results = Vec::with_capacity(self.creations.len());
        for creation in &self.creations {
            let checked = binding(creation);
            results.push(row(checked.as_ref().err()));
            let Ok(acl) = checked else { continue };
            if !context.image.acls.contains(&acl) && new.insert(acl.clone()) {
                changes.push((
                    Action::AclCreate,
                    Change {
                        target: "acl".to_owned(),
                        after: Some(acl.to_string()),
                        ..Change::default()
                    },
                ));
                records.push(MetadataRecord::Acl(acl));
            }
        }
        let response = CreateAclsResponse {
            results,
            ..CreateAclsResponse::default()
        };
        Decision {
            records,
            response,
            changes,
        }
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> CreateAclsResponse {
        refuse_all(self, &RowError::from(error))
    }
}

/// The right to change ACLs, where there is an authorizer whose ACLs could be changed.
pub(super) fn permit(context: &Context<'_>) -> Result<Permit<Cluster, Alter>, RowError> {
    if !context.settings.authorizer.is_enabled() {
        let text = "No Authorizer is configured.";
        return Err(RowError::new(ErrorCode::SECURITY_DISABLED, text));
    }
    Ok(context.rights.ask(|access| access.cluster::<Alter>())?)
}

fn binding(creation: &AclCreation) -> Result<AclBinding, RowError> {
    let acl = AclBinding {
        resource_type: ResourceType::from_code(creation.resource_type),
        resource_name: creation.resource_name.to_string(),
        pattern_type: PatternType::from_code(creation.resource_pattern_type),
        principal: creation.principal.to_string(),
        host: creation.host.to_string(),
        operation: Operation::from_code(creation.operation),
        permission: Permission::from_code(creation.permission_type),
    };
    let warnings = acl
        .validate()
        .map_err(|error| RowError::invalid_request(error.to_string()))?;
    for warning in warnings {
        static SAID: Throttle = Throttle::new();
        if SAID.may_speak() {
            warn!(warning = ?warning.to_string(), "an ACL that will never match");
        }
    }
    Ok(acl)
}

fn refuse_all(request: &CreateAclsRequest, error: &RowError) -> CreateAclsResponse {
    CreateAclsResponse {
        results: request.creations.iter().map(|_| row(Some(error))).collect(),
        ..CreateAclsResponse::default()
    }
}

fn row(error: Option<&RowError>) -> AclCreationResult {
    AclCreationResult {
        error_code: error.map_or(ErrorCode::NONE, |error| error.code),
        error_message: match error {
            Some(error) => error.text(),
            // Empty and not null, as of the reference.
            None => Some(Str::EMPTY),
        },
    }
}

#[cfg(test)]
mod tests;
