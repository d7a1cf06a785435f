//! ACLs arranged for decisions: by type, then literal names in a hash, prefixes in order.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::{
    AclBinding, AclSet, EVERYONE, Operation, PatternType, Permission, ResourceType, WILDCARD,
};
use crate::host::HostRule;
use crate::principal::Caller;

/// What the ACLs alone say to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This DENY applies.
    Denied(Arc<AclBinding>),
    /// No DENY applies, and this ALLOW does.
    Allowed(Arc<AclBinding>),
    /// Nothing applies, though there are ACLs on the resource.
    NoneApplies,
    /// There is no ACL at all on the resource.
    NoneRelevant,
}

/// An immutable index over one [`AclSet`].
///
/// A question looks at one hash bucket, the wildcard bucket and one bucket per stored prefix
/// of the name, and in each only at the rules of the caller and of everyone.
#[derive(Debug, Default)]
pub struct AclCache {
    loaded: bool,
    len: usize,
    types: HashMap<ResourceType, TypeIndex>,
}

#[derive(Debug, Default)]
struct TypeIndex {
    wildcard: Bucket,
    literals: HashMap<Box<str>, Bucket>,
    prefixes: BTreeMap<Box<[u8]>, Bucket>,
    /// Every ALLOW of the type once more, so that one caller's are found without a walk
    /// through all resources.
    allows: Bucket,
}

/// The rules of one pattern.
#[derive(Debug, Default)]
struct Bucket {
    everyone: Vec<Rule>,
    /// By the principal's name without its type.
    named: HashMap<Box<str>, Vec<Rule>>,
}

#[derive(Debug)]
struct Rule {
    kind: Box<str>,
    host: HostRule,
    binding: Arc<AclBinding>,
}

impl Rule {
    fn speaks_of(&self, caller: &Caller) -> bool {
        self.host.matches(caller.host)
    }
}

impl Bucket {
    fn add(&mut self, binding: &Arc<AclBinding>) {
        // A host that does not parse came from an older or foreign writer: it matches nobody.
        let host = HostRule::parse(&binding.host).unwrap_or(HostRule::Nobody);
        let rule = |kind: &str| Rule {
            kind: kind.into(),
            host,
            binding: Arc::clone(binding),
        };
        if binding.principal == EVERYONE {
            self.everyone.push(rule(""));
        } else if let Some((kind, name)) = binding.principal.split_once(':') {
            self.named.entry(name.into()).or_default().push(rule(kind));
        } else {
            // No principal is written without a colon, so this one never applies, yet it
            // counts as an ACL on the resource.
            self.named.entry("".into()).or_default().push(rule(""));
        }
    }

    /// The rules that speak of this caller at this host.
    fn applying<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Arc<AclBinding>> {
        let named = self
            .named
            .get(&*caller.principal.name)
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .filter(|rule| *rule.kind == *caller.principal.kind);
        self.everyone
            .iter()
            .chain(named)
            .filter(|rule| rule.speaks_of(caller))
            .map(|rule| &rule.binding)
    }

    fn is_empty(&self) -> bool {
        self.everyone.is_empty() && self.named.is_empty()
    }
}

impl TypeIndex {
    /// The buckets whose pattern covers the name.
    fn relevant<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Bucket> {
        let wildcard = Some(&self.wildcard).filter(|bucket| !bucket.is_empty());
        let literal = self.literals.get(name);
        wildcard
            .into_iter()
            .chain(literal)
            .chain(self.prefixes_of(name.as_bytes()).map(|(_, bucket)| bucket))
    }

    /// Walks down from the name: each step lands on a prefix of it, or jumps to what the
    /// stored prefix found there has in common with the name.
    fn prefixes_of<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a Bucket)> {
        let mut bound = Some(Bound::Included(name));
        std::iter::from_fn(move || {
            loop {
                let below = (Bound::Unbounded, bound.take()?);
                let (prefix, bucket) = self.prefixes.range::<[u8], _>(below).next_back()?;
                let common = prefix.iter().zip(name).take_while(|(a, b)| a == b).count();
                let shared = name.get(..common)?;
                if common == prefix.len() {
                    bound = Some(Bound::Excluded(shared));
                    return Some((shared, bucket));
                }
                bound = Some(Bound::Included(shared));
            }
        })
    }
}

impl AclCache {
    /// Arranges a set for decisions.
    pub fn build(set: &AclSet) -> Self {
        let mut types: HashMap<ResourceType, TypeIndex> = HashMap::new();
        for binding in set.iter() {
            let index = types.entry(binding.resource_type).or_default();
            let name = binding.resource_name.as_str();
            if binding.permission == Permission::Allow {
                index.allows.add(binding);
            }
            match binding.pattern_type {
                PatternType::Literal if name == WILDCARD => index.wildcard.add(binding),
                PatternType::Literal => index.literals.entry(name.into()).or_default().add(binding),
                PatternType::Prefixed => {
                    let bucket = index.prefixes.entry(name.as_bytes().into()).or_default();
                    bucket.add(binding);
                }
                // Validation never lets these in; a forged one has no effect.
                PatternType::Unknown | PatternType::Any | PatternType::Match => {}
            }
        }
        Self {
            loaded: true,
            len: set.len(),
            types,
        }
    }

    /// The state before the first image: every question but a super user's is refused.
    pub fn not_loaded() -> Self {
        Self::default()
    }

    /// Tells whether the ACLs are known yet (KIP-801).
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// The number of ACLs in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether there is no ACL.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Steps 3 to 6 of spec/security.md §4.2, without the open regime.
    pub(crate) fn decide(
        &self,
        caller: &Caller,
        operation: Operation,
        resource_type: ResourceType,
        name: &str,
    ) -> Verdict {
        let Some(index) = self.types.get(&resource_type) else {
            return Verdict::NoneRelevant;
        };
        let mut relevant = false;
        let mut allowed = None;
        for bucket in index.relevant(name) {
            relevant = true;
            for acl in bucket.applying(caller) {
                match acl.permission {
                    Permission::Deny if acl.operation.deny_covers(operation) => {
                        return Verdict::Denied(Arc::clone(acl));
                    }
                    Permission::Allow
                        if allowed.is_none() && acl.operation.allow_covers(operation) =>
                    {
                        allowed = Some(acl);
                    }
                    _ => {}
                }
            }
        }
        match allowed {
            Some(acl) => Verdict::Allowed(Arc::clone(acl)),
            None if relevant => Verdict::NoneApplies,
            None => Verdict::NoneRelevant,
        }
    }

    /// Steps 2 to 5 of spec/security.md §4.4: is the operation allowed on some resource?
    pub(crate) fn decide_any(
        &self,
        caller: &Caller,
        operation: Operation,
        resource_type: ResourceType,
    ) -> Verdict {
        let Some(index) = self.types.get(&resource_type) else {
            return Verdict::NoneRelevant;
        };
        let find = |bucket: &Bucket, permission: Permission| {
            // No implication here, as in the reference: OP itself or ALL.
            bucket
                .applying(caller)
                .find(|acl| acl.permission == permission && acl.operation.deny_covers(operation))
                .map(Arc::clone)
        };
        if let Some(acl) = find(&index.wildcard, Permission::Deny) {
            return Verdict::Denied(acl);
        }
        if let Some(acl) = find(&index.wildcard, Permission::Allow) {
            return Verdict::Allowed(acl);
        }
        let prefix_deny = |name: &[u8]| {
            index
                .prefixes_of(name)
                .find_map(|(_, bucket)| find(bucket, Permission::Deny))
        };
        let mut dominating = None;
        for allow in index.allows.applying(caller) {
            if !allow.operation.deny_covers(operation) {
                continue;
            }
            let name = allow.resource_name.as_str();
            let deny = match allow.pattern_type {
                // The wildcard was judged above.
                PatternType::Literal if name == WILDCARD => continue,
                PatternType::Literal => index
                    .literals
                    .get(name)
                    .and_then(|bucket| find(bucket, Permission::Deny))
                    .or_else(|| prefix_deny(name.as_bytes())),
                PatternType::Prefixed => prefix_deny(name.as_bytes()),
                _ => continue,
            };
            match deny {
                Some(deny) => dominating = Some(deny),
                None => return Verdict::Allowed(Arc::clone(allow)),
            }
        }
        dominating.map_or(Verdict::NoneApplies, Verdict::Denied)
    }
}

#[cfg(test)]
mod tests;
