//! What the authorizer answers: yes or no, and by which rule.

use std::sync::Arc;

use thiserror::Error;

use crate::acl::{AclBinding, Operation, ResourceType};

/// A decision and the rule that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed: the caller is a super user.
    SuperUser,
    /// Allowed by this ACL, and no DENY applies.
    Allowed(Arc<AclBinding>),
    /// Allowed: no ACL on the resource, and `allow.everyone.if.no.acl.found` is on.
    DefaultAllow,
    /// Allowed: there is no authorizer.
    NoAuthorizer,
    /// Denied by this ACL.
    Denied(Arc<AclBinding>),
    /// Denied: nothing allows it.
    DefaultDeny,
    /// Refused: the ACLs are not known yet (KIP-801).
    NotReady,
}

impl Decision {
    /// Tells whether it permits.
    pub fn is_allowed(&self) -> bool {
        matches!(
            self,
            Self::SuperUser | Self::Allowed(_) | Self::DefaultAllow | Self::NoAuthorizer
        )
    }

    /// The name of the rule in the audit log.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::SuperUser => "super_user",
            Self::Allowed(_) | Self::Denied(_) => "acl",
            Self::DefaultAllow => "default_allow",
            Self::NoAuthorizer => "no_authorizer",
            Self::DefaultDeny => "default_deny",
            Self::NotReady => "not_ready",
        }
    }

    /// The ACL that decided, if one did.
    pub fn acl(&self) -> Option<&Arc<AclBinding>> {
        match self {
            Self::Allowed(acl) | Self::Denied(acl) => Some(acl),
            _ => None,
        }
    }
}

/// The answer "no", with what the handler needs to choose an error code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{operation} on {resource_type} is not permitted")]
pub struct Denied {
    /// What was asked for; for a check of several steps, the step that failed.
    pub operation: Operation,
    /// The type of the resource.
    pub resource_type: ResourceType,
    /// The ACLs are not loaded yet: the wire answer is UNKNOWN_SERVER_ERROR.
    pub not_ready: bool,
}
