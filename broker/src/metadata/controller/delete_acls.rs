//! DeleteAcls (31): each filter answers what it matches; an ACL is removed once.
//!
//! An ACL that many filters match is answered as often: all matches together are bounded as the
//! removals are. Past that the whole request is refused, as Kafka does past ten thousand removals.
//! Each filter looks at all ACLs, whether it matches one or none: filters times ACLs are bounded
//! too.

use std::collections::BTreeSet;
use std::sync::Arc;

use palisade_auth::acl::{AclBinding, AclFilter, Operation, PatternType, Permission, ResourceType};
use palisade_auth::audit::{Action, Change};
use palisade_protocol::messages::delete_acls::{
    DeleteAclsFilter, DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsRequest,
    DeleteAclsResponse,
};
use palisade_protocol::{ErrorCode, Str};

use super::create_acls::permit;
use super::row::RowError;
use super::{Context, ControllerError, ControllerRequest, Decision, MAX_RECORDS};
use crate::metadata::record::MetadataRecord;

/// ACLs that all filters of a request may look at together; nothing else is decided meanwhile.
const MAX_LOOKS: usize = 1000 * MAX_RECORDS;

impl ControllerRequest for DeleteAclsRequest {
    type Response = DeleteAclsResponse;

    fn rows(&self) -> usize {
        self.filters.len()
    }

    fn decide(&self, _version: i16, context: &mut Context<'_>) -> Decision<DeleteAclsResponse> {
        if let Err(error) = permit(context) {
            return Decision::only(refuse_all(self, &error));
        }
        let looks = self.filters.len() * context.image.acls.set().len();
        if looks > MAX_LOOKS {
            return Decision::only(refuse_all(self, &too_many_looks(looks)));
        }
        let mut removed: BTreeSet<Arc<AclBinding>> = BTreeSet::new();
        let mut filter_results = Vec::with_capacity(self.filters.len());
        let mut room = MAX_RECORDS;
        for filter in &self.filters {
            filter_results.push(match acl_filter(filter) {
                Err(error) => failed(&error),
                Ok(filter) => {
                    let matching = context.image.acls.set().matching(&filter);
                    // One more than there is room for tells that it is too much.
                    let matching: Vec<_> = matching.take(room + 1).cloned().collect();
                    if matching.len() > room {
                        return Decision::only(refuse_all(self, &too_many_matches()));
                    }
                    room -= matching.len();
                    let matching_acls = matching.iter().map(|acl| row(acl)).collect();
                    removed.extend(matching);
                    DeleteAclsFilterResult {
                        error_message: None,
                        matching_acls,
                        ..DeleteAclsFilterResult::default()
                    }
                }
            });
        }
        let changes = removed
            .iter()
            .map(|acl| {
                let before = Some(acl.to_string());
                let change = Change {
                    target: "acl".to_owned(),
                    before,
                    ..Change::default()
                };
                (Action::AclDelete, change)
            })
            .collect();
        let records = removed
            .iter()
            .map(|acl| MetadataRecord::RemoveAcl(acl.as_ref().clone()))
            .collect();
        let response = DeleteAclsResponse {
            filter_results,
            ..DeleteAclsResponse::default()
        };
        Decision {
            records,
            response,
            changes,
        }
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> DeleteAclsResponse {
        refuse_all(self, &RowError::from(error))
    }
}

fn too_many_matches() -> RowError {
    let text = format!(
        "The filters match more than {MAX_RECORDS} ACLs, each counted for each filter; nothing was \
         deleted."
    );
    RowError::new(ErrorCode::POLICY_VIOLATION, text)
}

fn too_many_looks(looks: usize) -> RowError {
    let text = format!(
        "The filters times the ACLs that there are make {looks}, more than {MAX_LOOKS}; nothing was \
         deleted, send fewer filters at once."
    );
    RowError::new(ErrorCode::POLICY_VIOLATION, text)
}

fn acl_filter(filter: &DeleteAclsFilter) -> Result<AclFilter, RowError> {
    let text = |text: &Option<Str>| text.as_ref().map(Str::to_string);
    let filter = AclFilter {
        resource_type: ResourceType::from_code(filter.resource_type_filter),
        resource_name: text(&filter.resource_name_filter),
        pattern_type: PatternType::from_code(filter.pattern_type_filter),
        principal: text(&filter.principal_filter),
        host: text(&filter.host_filter),
        operation: Operation::from_code(filter.operation),
        permission: Permission::from_code(filter.permission_type),
    };
    filter
        .validate()
        .map_err(|error| RowError::invalid_request(error.to_string()))?;
    Ok(filter)
}

fn row(acl: &AclBinding) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl {
        error_message: None,
        resource_type: acl.resource_type.code(),
        resource_name: Str::copy(&acl.resource_name),
        pattern_type: acl.pattern_type.code(),
        principal: Str::copy(&acl.principal),
        host: Str::copy(&acl.host),
        operation: acl.operation.code(),
        permission_type: acl.permission.code(),
        ..DeleteAclsMatchingAcl::default()
    }
}

fn failed(error: &RowError) -> DeleteAclsFilterResult {
    DeleteAclsFilterResult {
        error_code: error.code,
        error_message: error.text(),
        matching_acls: Vec::new(),
    }
}

fn refuse_all(request: &DeleteAclsRequest, error: &RowError) -> DeleteAclsResponse {
    DeleteAclsResponse {
        filter_results: request.filters.iter().map(|_| failed(error)).collect(),
        ..DeleteAclsResponse::default()
    }
}
