//! Filters of DescribeAcls and DeleteAcls (spec/security.md §4.6).

use thiserror::Error;

use super::{AclBinding, Operation, PatternType, Permission, ResourceType, WILDCARD};

/// A filter with a code that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    /// The resource type is UNKNOWN.
    #[error("the filter's resource type is unknown")]
    ResourceType,
    /// The pattern type is UNKNOWN.
    #[error("the filter's pattern type is unknown")]
    PatternType,
    /// The operation is UNKNOWN.
    #[error("the filter's operation is unknown")]
    Operation,
    /// The permission is UNKNOWN.
    #[error("the filter's permission type is unknown")]
    Permission,
}

/// Chooses ACLs. Principal and host compare as text: `User:*` finds only ACLs written so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclFilter {
    /// The type, or ANY.
    pub resource_type: ResourceType,
    /// The name; `None` is every name.
    pub resource_name: Option<String>,
    /// How the name compares: LITERAL, PREFIXED, ANY or MATCH.
    pub pattern_type: PatternType,
    /// The principal's text; `None` is every one.
    pub principal: Option<String>,
    /// The host's text; `None` is every one.
    pub host: Option<String>,
    /// The operation, or ANY; ALL finds only ALL.
    pub operation: Operation,
    /// The permission, or ANY.
    pub permission: Permission,
}

impl AclFilter {
    /// The filter that every ACL passes.
    pub fn any() -> Self {
        Self {
            resource_type: ResourceType::Any,
            resource_name: None,
            pattern_type: PatternType::Any,
            principal: None,
            host: None,
            operation: Operation::Any,
            permission: Permission::Any,
        }
    }

    /// Refuses a filter with an UNKNOWN code, which would otherwise match nothing in silence.
    ///
    /// # Errors
    /// The first field that is UNKNOWN; the wire answer is INVALID_REQUEST.
    pub fn validate(&self) -> Result<(), FilterError> {
        if self.resource_type == ResourceType::Unknown {
            return Err(FilterError::ResourceType);
        }
        if self.pattern_type == PatternType::Unknown {
            return Err(FilterError::PatternType);
        }
        if self.operation == Operation::Unknown {
            return Err(FilterError::Operation);
        }
        if self.permission == Permission::Unknown {
            return Err(FilterError::Permission);
        }
        Ok(())
    }

    /// Tells whether an ACL passes.
    pub fn matches(&self, acl: &AclBinding) -> bool {
        let same = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == text)
        };
        (self.resource_type == ResourceType::Any || self.resource_type == acl.resource_type)
            && self.matches_pattern(acl)
            && same(&self.principal, &acl.principal)
            && same(&self.host, &acl.host)
            && (self.operation == Operation::Any || self.operation == acl.operation)
            && (self.permission == Permission::Any || self.permission == acl.permission)
    }

    fn matches_pattern(&self, acl: &AclBinding) -> bool {
        let name = self.resource_name.as_deref();
        let same_name = name.is_none_or(|name| name == acl.resource_name);
        match self.pattern_type {
            PatternType::Unknown => false,
            PatternType::Any => same_name,
            PatternType::Literal | PatternType::Prefixed => {
                self.pattern_type == acl.pattern_type && same_name
            }
            PatternType::Match => match acl.pattern_type {
                PatternType::Literal => same_name || acl.resource_name == WILDCARD,
                PatternType::Prefixed => name.is_none_or(|n| n.starts_with(&acl.resource_name)),
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(pattern_type: PatternType, name: &str) -> AclBinding {
        AclBinding {
            resource_type: ResourceType::Topic,
            resource_name: name.into(),
            pattern_type,
            principal: "User:alice".into(),
            host: "10.0.0.1".into(),
            operation: Operation::All,
            permission: Permission::Allow,
        }
    }

    #[test]
    fn pattern_types_choose_as_kip_290_says() {
        use PatternType::*;
        let acls = [
            acl(Literal, "foo"),
            acl(Literal, "*"),
            acl(Prefixed, "foo"),
            acl(Prefixed, "fo"),
            acl(Prefixed, "food"),
            acl(Literal, "bar"),
        ];
        let cases: [(PatternType, Option<&str>, &[usize]); 8] = [
            (Literal, Some("foo"), &[0]),
            (Literal, Some("*"), &[1]),
            (Prefixed, Some("foo"), &[2]),
            (Any, Some("foo"), &[0, 2]),
            (Match, Some("foo"), &[0, 1, 2, 3]),
            (Match, None, &[0, 1, 2, 3, 4, 5]),
            (Literal, None, &[0, 1, 5]),
            (Unknown, Some("foo"), &[]),
        ];
        for (pattern_type, name, expected) in cases {
            let filter = AclFilter {
                pattern_type,
                resource_name: name.map(str::to_owned),
                ..AclFilter::any()
            };
            let found: Vec<usize> = (0..acls.len())
                .filter(|i| filter.matches(&acls[*i]))
                .collect();
            assert_eq!(found, expected, "{pattern_type} {name:?}");
        }
    }

    #[test]
    fn other_fields_are_exact() {
        let acl = acl(PatternType::Literal, "foo");
        let check = |change: fn(&mut AclFilter), expected: bool| {
            let mut filter = AclFilter::any();
            change(&mut filter);
            assert_eq!(filter.matches(&acl), expected, "{filter:?}");
        };
        check(|f| f.principal = Some("User:alice".into()), true);
        check(|f| f.principal = Some("User:*".into()), false);
        check(|f| f.host = Some("10.0.0.1".into()), true);
        check(|f| f.host = Some("*".into()), false);
        check(|f| f.operation = Operation::All, true);
        check(|f| f.operation = Operation::Read, false);
        check(|f| f.permission = Permission::Deny, false);
        check(|f| f.resource_type = ResourceType::Topic, true);
        check(|f| f.resource_type = ResourceType::Group, false);
    }

    #[test]
    fn unknown_codes_are_refused() {
        assert_eq!(AclFilter::any().validate(), Ok(()));
        let filter = AclFilter {
            operation: Operation::Unknown,
            ..AclFilter::any()
        };
        assert_eq!(filter.validate(), Err(FilterError::Operation));
    }
}
