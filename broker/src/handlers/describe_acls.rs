//! DescribeAcls (key 29), versions 1 to 3: the ACLs that a filter matches.
//!
//! v1 pattern types (KIP-290), v3 USER resources (KIP-373).

use std::collections::BTreeMap;

use palisade_auth::acl::{AclBinding, AclFilter, Operation, PatternType, Permission, ResourceType};
use palisade_auth::grant::Describe;
use palisade_protocol::messages::describe_acls::{
    AclDescription, DescribeAclsRequest, DescribeAclsResource, DescribeAclsResponse,
};
use palisade_protocol::{ErrorCode, Str};

use crate::context::RequestContext;
use crate::dispatch::Handled;

/// Answers a DescribeAcls request; needs DESCRIBE on CLUSTER.
pub(crate) async fn handle(
    ctx: &RequestContext,
    req: DescribeAclsRequest,
) -> Handled<DescribeAclsResponse> {
    Handled::Now(match describe(ctx, &req) {
        Ok(resources) => DescribeAclsResponse {
            resources,
            ..DescribeAclsResponse::default()
        },
        Err((error_code, message)) => DescribeAclsResponse {
            error_code,
            error_message: Some(message),
            ..DescribeAclsResponse::default()
        },
    })
}

fn describe(
    ctx: &RequestContext,
    req: &DescribeAclsRequest,
) -> Result<Vec<DescribeAclsResource>, (ErrorCode, Str)> {
    if ctx.access().cluster::<Describe>().is_err() {
        let text = Str::from("DESCRIBE on the cluster is needed to list ACLs");
        return Err((ErrorCode::CLUSTER_AUTHORIZATION_FAILED, text));
    }
    if !ctx.broker.authorizer.is_enabled() {
        let text = Str::from("No Authorizer is configured on the broker");
        return Err((ErrorCode::SECURITY_DISABLED, text));
    }
    let filter = filter(req);
    if let Err(error) = filter.validate() {
        return Err((ErrorCode::INVALID_REQUEST, Str::from(error.to_string())));
    }

    // The answer groups by resource; a sorted map makes equal questions give equal answers.
    let mut found: BTreeMap<(ResourceType, PatternType, &str), Vec<AclDescription>> =
        BTreeMap::new();
    for acl in ctx
        .image
        .acls
        .set()
        .iter()
        .filter(|acl| filter.matches(acl))
    {
        let resource = (
            acl.resource_type,
            acl.pattern_type,
            acl.resource_name.as_str(),
        );
        found.entry(resource).or_default().push(description(acl));
    }
    let resources =
        found.into_iter().map(
            |((resource_type, pattern_type, name), acls)| DescribeAclsResource {
                resource_type: resource_type.code(),
                resource_name: Str::copy(name),
                pattern_type: pattern_type.code(),
                acls,
            },
        );
    Ok(resources.collect())
}

fn filter(req: &DescribeAclsRequest) -> AclFilter {
    let text = |text: &Option<Str>| text.as_ref().map(Str::to_string);
    // A code beyond the known ones reads as UNKNOWN, which the filter's check then refuses.
    AclFilter {
        resource_type: ResourceType::from_code(req.resource_type_filter),
        resource_name: text(&req.resource_name_filter),
        pattern_type: PatternType::from_code(req.pattern_type_filter),
        principal: text(&req.principal_filter),
        host: text(&req.host_filter),
        operation: Operation::from_code(req.operation),
        permission: Permission::from_code(req.permission_type),
    }
}

fn description(acl: &AclBinding) -> AclDescription {
    AclDescription {
        principal: Str::copy(&acl.principal),
        host: Str::copy(&acl.host),
        operation: acl.operation.code(),
        permission_type: acl.permission.code(),
    }
}
