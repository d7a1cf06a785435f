//! ACLs and the index that decisions read; the index follows the set, not the whole image.

use std::sync::Arc;

use palisade_auth::acl::{AclBinding, AclCache, AclSet};

/// The ACLs of the cluster.
#[derive(Debug, Clone, Default)]
pub struct AclsImage {
    set: AclSet,
    cache: Arc<AclCache>,
}

impl AclsImage {
    /// Every ACL.
    #[must_use]
    pub fn set(&self) -> &AclSet {
        &self.set
    }

    /// What the authorizer decides by; shared by images whose ACLs are the same.
    #[must_use]
    pub fn cache(&self) -> &Arc<AclCache> {
        &self.cache
    }

    /// Whether an ACL exists.
    #[must_use]
    pub fn contains(&self, acl: &AclBinding) -> bool {
        self.set.contains(acl)
    }

    /// Adds an ACL; false when it was there. The index is stale until [`Self::reindex`].
    pub(in crate::metadata) fn insert(&mut self, acl: AclBinding) -> bool {
        self.set.insert(acl)
    }

    /// Takes an ACL away; false when it was not there. The index is stale until [`Self::reindex`].
    pub(in crate::metadata) fn remove(&mut self, acl: &AclBinding) -> bool {
        self.set.remove(acl)
    }

    /// Builds the index anew; once per published image, not once per record.
    pub(in crate::metadata) fn reindex(&mut self) {
        self.cache = Arc::new(AclCache::build(&self.set));
    }
}
