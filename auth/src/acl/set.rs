//! The set of all ACLs, as part of an immutable image of the cluster.

use std::sync::Arc;

use imbl::OrdSet;

use super::{AclBinding, AclFilter};

/// A persistent set of ACLs: a clone is cheap, a change costs what changed.
///
/// Equal ACLs are one. Iteration is in a fixed order (type, name, pattern, principal, ...), so
/// that answers and snapshots are the same on every node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AclSet(OrdSet<Arc<AclBinding>>);

impl AclSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an ACL and tells whether it was new.
    pub fn insert(&mut self, acl: AclBinding) -> bool {
        self.0.insert(Arc::new(acl)).is_none()
    }

    /// Removes an ACL and tells whether it was there.
    pub fn remove(&mut self, acl: &AclBinding) -> bool {
        self.0.remove(acl).is_some()
    }

    /// Tells whether an ACL is there.
    pub fn contains(&self, acl: &AclBinding) -> bool {
        self.0.contains(acl)
    }

    /// Every ACL, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<AclBinding>> {
        self.0.iter()
    }

    /// The ACLs that pass a filter, in order.
    pub fn matching<'a>(
        &'a self,
        filter: &'a AclFilter,
    ) -> impl Iterator<Item = &'a Arc<AclBinding>> {
        self.iter().filter(|acl| filter.matches(acl))
    }

    /// The number of ACLs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<AclBinding> for AclSet {
    fn from_iter<I: IntoIterator<Item = AclBinding>>(acls: I) -> Self {
        Self(acls.into_iter().map(Arc::new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{Operation, PatternType, Permission, ResourceType};

    fn acl(name: &str) -> AclBinding {
        AclBinding {
            resource_type: ResourceType::Topic,
            resource_name: name.into(),
            pattern_type: PatternType::Literal,
            principal: "User:alice".into(),
            host: "*".into(),
            operation: Operation::Read,
            permission: Permission::Allow,
        }
    }

    #[test]
    fn equal_acls_are_one_and_clones_are_apart() {
        let mut set = AclSet::new();
        assert!(set.insert(acl("a")));
        assert!(!set.insert(acl("a")));
        let before = set.clone();
        assert!(set.insert(acl("b")));
        assert!(set.remove(&acl("a")));
        assert!(!set.remove(&acl("a")));
        assert_eq!((before.len(), set.len()), (1, 1));
        assert!(before.contains(&acl("a")) && set.contains(&acl("b")));
    }
}
