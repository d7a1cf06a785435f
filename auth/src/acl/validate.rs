//! Which ACLs CreateAcls may store (spec/security.md §4.6).

use std::net::IpAddr;

use thiserror::Error;

use super::{AclBinding, CLUSTER_NAME, Operation, PatternType, Permission, ResourceType};
use crate::host::{HostError, HostRule};

/// The longest topic name, in bytes.
const TOPIC_NAME_MAX: usize = 249;

/// The longest principal, host or resource name of another type, in bytes.
const TEXT_MAX: usize = 1024;

/// Why an ACL is not stored; the wire answer is INVALID_REQUEST.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AclError {
    /// The type is UNKNOWN or ANY.
    #[error("resource type {0} cannot be stored")]
    ResourceType(ResourceType),
    /// The pattern is neither LITERAL nor PREFIXED.
    #[error("pattern type {0} cannot be stored; LITERAL or PREFIXED is needed")]
    PatternType(PatternType),
    /// The operation is UNKNOWN or ANY.
    #[error("operation {0} cannot be stored")]
    Operation(Operation),
    /// The permission is neither ALLOW nor DENY.
    #[error("permission type {0} cannot be stored; ALLOW or DENY is needed")]
    Permission(Permission),
    /// The resource has no name.
    #[error("the resource name is empty")]
    EmptyName,
    /// A CLUSTER resource with a name of its own.
    #[error("the only CLUSTER resource is named {CLUSTER_NAME}")]
    ClusterName,
    /// A text field is too long to be meant.
    #[error("the {field} has {length} bytes; {limit} are allowed")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A text field with control characters.
    #[error("the {0} contains a control character")]
    Control(&'static str),
    /// The principal has no colon, no type or no name.
    #[error("the principal is not of the form <type>:<name>")]
    Principal,
    /// The host looks like a range but is none.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Something odd about an ACL that is stored nevertheless, as the reference does.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AclWarning {
    /// The host is no address, so nobody matches.
    #[error("host `{0}` is neither an address, a range nor *; the ACL matches nobody")]
    HostMatchesNobody(String),
    /// The operation means nothing on this type.
    #[error("operation {operation} means nothing on {resource_type}; the ACL never matches")]
    Meaningless {
        /// The operation.
        operation: Operation,
        /// The type.
        resource_type: ResourceType,
    },
}

impl AclBinding {
    /// Decides whether this ACL may be stored, and what is odd about it.
    ///
    /// # Errors
    /// The first rule of spec/security.md §4.6 that it breaks.
    pub fn validate(&self) -> Result<Vec<AclWarning>, AclError> {
        if matches!(
            self.resource_type,
            ResourceType::Unknown | ResourceType::Any
        ) {
            return Err(AclError::ResourceType(self.resource_type));
        }
        if !matches!(
            self.pattern_type,
            PatternType::Literal | PatternType::Prefixed
        ) {
            return Err(AclError::PatternType(self.pattern_type));
        }
        if matches!(self.operation, Operation::Unknown | Operation::Any) {
            return Err(AclError::Operation(self.operation));
        }
        if !matches!(self.permission, Permission::Deny | Permission::Allow) {
            return Err(AclError::Permission(self.permission));
        }
        if self.resource_name.is_empty() {
            return Err(AclError::EmptyName);
        }
        if self.resource_type == ResourceType::Cluster && self.resource_name != CLUSTER_NAME {
            return Err(AclError::ClusterName);
        }
        let name_max = if self.resource_type == ResourceType::Topic {
            TOPIC_NAME_MAX
        } else {
            TEXT_MAX
        };
        check_text("resource name", &self.resource_name, name_max)?;
        check_text("principal", &self.principal, TEXT_MAX)?;
        check_text("host", &self.host, TEXT_MAX)?;
        match self.principal.split_once(':') {
            Some((kind, name)) if !kind.is_empty() && !name.is_empty() => {}
            _ => return Err(AclError::Principal),
        }
        self.warnings()
    }

    fn warnings(&self) -> Result<Vec<AclWarning>, AclError> {
        let mut warnings = Vec::new();
        if HostRule::parse(&self.host)? == HostRule::Nobody {
            let host = self.host.escape_debug().to_string();
            warnings.push(AclWarning::HostMatchesNobody(host));
        }
        let meant = self.operation == Operation::All
            || self.resource_type.operations().contains(&self.operation)
            // DeleteTopics honours it, though no list names it.
            || (self.resource_type, self.operation) == (ResourceType::Cluster, Operation::Delete);
        if !meant {
            warnings.push(AclWarning::Meaningless {
                operation: self.operation,
                resource_type: self.resource_type,
            });
        }
        Ok(warnings)
    }

    /// The ALLOW that would just permit one denied question, for the audit line's `needs`.
    pub(crate) fn minimal_allow(
        principal: &str,
        host: IpAddr,
        operation: Operation,
        resource_type: ResourceType,
        resource_name: &str,
    ) -> Self {
        Self {
            resource_type,
            resource_name: resource_name.to_owned(),
            pattern_type: PatternType::Literal,
            principal: principal.to_owned(),
            host: crate::host::java_text(host),
            operation,
            permission: Permission::Allow,
        }
    }
}

fn check_text(field: &'static str, text: &str, limit: usize) -> Result<(), AclError> {
    if text.len() > limit {
        return Err(AclError::TooLong {
            field,
            length: text.len(),
            limit,
        });
    }
    if text.chars().any(char::is_control) {
        return Err(AclError::Control(field));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> AclBinding {
        AclBinding {
            resource_type: ResourceType::Topic,
            resource_name: "orders".into(),
            pattern_type: PatternType::Literal,
            principal: "User:alice".into(),
            host: "*".into(),
            operation: Operation::Read,
            permission: Permission::Allow,
        }
    }

    #[test]
    fn a_good_one_passes_without_a_word() {
        assert_eq!(good().validate(), Ok(vec![]));
    }

    #[test]
    fn each_rule_refuses() {
        let refused = |change: fn(&mut AclBinding), expected: AclError| {
            let mut acl = good();
            change(&mut acl);
            assert_eq!(acl.validate(), Err(expected));
        };
        refused(
            |a| a.resource_type = ResourceType::Any,
            AclError::ResourceType(ResourceType::Any),
        );
        refused(
            |a| a.pattern_type = PatternType::Match,
            AclError::PatternType(PatternType::Match),
        );
        refused(
            |a| a.operation = Operation::Unknown,
            AclError::Operation(Operation::Unknown),
        );
        refused(
            |a| a.permission = Permission::Any,
            AclError::Permission(Permission::Any),
        );
        refused(|a| a.resource_name.clear(), AclError::EmptyName);
        refused(
            |a| {
                a.resource_type = ResourceType::Cluster;
                a.resource_name = "foo".into();
            },
            AclError::ClusterName,
        );
        refused(
            |a| a.resource_name = "x".repeat(1 << 20),
            AclError::TooLong {
                field: "resource name",
                length: 1 << 20,
                limit: 249,
            },
        );
        refused(
            |a| a.principal = "User:a\0".into(),
            AclError::Control("principal"),
        );
        for principal in ["alice", ":", "User:", ":alice"] {
            let acl = AclBinding {
                principal: principal.into(),
                ..good()
            };
            assert_eq!(acl.validate(), Err(AclError::Principal), "{principal}");
        }
        let acl = AclBinding {
            host: "10.0.0.0/33".into(),
            ..good()
        };
        assert!(matches!(acl.validate(), Err(AclError::Host(_))));
    }

    #[test]
    fn oddities_are_told() {
        let acl = AclBinding {
            host: "db.example.com".into(),
            operation: Operation::ClusterAction,
            ..good()
        };
        assert_eq!(acl.validate().unwrap().len(), 2);
        let delete = AclBinding {
            resource_type: ResourceType::Cluster,
            resource_name: CLUSTER_NAME.into(),
            operation: Operation::Delete,
            ..good()
        };
        assert_eq!(delete.validate(), Ok(vec![]));
    }
}
