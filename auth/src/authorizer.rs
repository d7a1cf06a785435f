//! The authorizer: may this caller do this to that? (spec/security.md §4.2)

use std::collections::HashSet;
use std::sync::Arc;

use crate::acl::index::Verdict;
use crate::acl::{AclCache, Operation, ResourceType};
use crate::decision::Decision;
use crate::principal::{Caller, Principal, PrincipalError};

/// The principals that no ACL binds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuperUsers(HashSet<Principal>);

impl SuperUsers {
    /// Reads `super.users`: `type:name` separated by `;`, because names hold commas.
    ///
    /// # Errors
    /// An item that is not `type:name`.
    pub fn parse(text: &str) -> Result<Self, PrincipalError> {
        let items = text.split(';').map(str::trim);
        let users: Result<_, _> = items
            .filter(|item| !item.is_empty())
            .map(str::parse)
            .collect();
        users.map(Self)
    }

    /// Tells whether exactly this principal is listed.
    pub fn contains(&self, principal: &Principal) -> bool {
        self.0.contains(principal)
    }

    /// Adds one, for example the principal that nodes use among themselves.
    pub fn add(&mut self, principal: Principal) {
        self.0.insert(principal);
    }

    /// Every super user, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Principal> {
        self.0.iter()
    }
}

/// What the configuration says about authorization.
#[derive(Debug, Clone)]
pub struct AuthorizerConfig {
    /// `super.users`.
    pub super_users: SuperUsers,
    /// `allow.everyone.if.no.acl.found`.
    pub allow_everyone_if_no_acl_found: bool,
    /// False only when the operator asked for a broker without authorizer.
    pub enabled: bool,
}

impl Default for AuthorizerConfig {
    /// Deny by default, nobody above the rules.
    fn default() -> Self {
        Self {
            super_users: SuperUsers::default(),
            allow_everyone_if_no_acl_found: false,
            enabled: true,
        }
    }
}

/// Answers authorization questions from ACLs that are handed to it.
#[derive(Debug, Clone)]
pub struct Authorizer {
    config: Arc<AuthorizerConfig>,
}

impl Authorizer {
    /// Makes an authorizer with these rules.
    pub fn new(config: AuthorizerConfig) -> Self {
        Self {
            config: Arc::new(config),
        }
    }

    /// Tells whether there is one at all; without it the ACL APIs answer SECURITY_DISABLED.
    pub fn is_enabled(&self) -> bool {
        self.config.enabled
    }

    /// Decides one question (spec/security.md §4.2). `caller.host` must be canonical.
    pub fn decide(
        &self,
        acls: &AclCache,
        caller: &Caller,
        operation: Operation,
        resource_type: ResourceType,
        name: &str,
    ) -> Decision {
        if let Some(decision) = self.decide_without_acls(acls, caller) {
            return decision;
        }
        // The reference would let `*` match; nothing is ever named so.
        if name.is_empty() {
            return Decision::DefaultDeny;
        }
        self.judge(acls.decide(caller, operation, resource_type, name))
    }

    /// Decides whether the operation is allowed on some resource (§4.4, KIP-679).
    pub fn decide_any(
        &self,
        acls: &AclCache,
        caller: &Caller,
        operation: Operation,
        resource_type: ResourceType,
    ) -> Decision {
        if let Some(decision) = self.decide_without_acls(acls, caller) {
            return decision;
        }
        // Step 1: what holds for a name that no ACL can hold, holds for names without ACLs.
        let elsewhere = self.judge(acls.decide(caller, operation, resource_type, "\0"));
        if elsewhere.is_allowed() {
            return elsewhere;
        }
        match acls.decide_any(caller, operation, resource_type) {
            // The open regime was judged in step 1.
            Verdict::NoneRelevant | Verdict::NoneApplies => Decision::DefaultDeny,
            verdict => self.judge(verdict),
        }
    }

    fn decide_without_acls(&self, acls: &AclCache, caller: &Caller) -> Option<Decision> {
        if !self.config.enabled {
            Some(Decision::NoAuthorizer)
        } else if self.config.super_users.contains(&caller.principal) {
            Some(Decision::SuperUser)
        } else if !acls.is_loaded() {
            Some(Decision::NotReady)
        } else {
            None
        }
    }

    fn judge(&self, verdict: Verdict) -> Decision {
        match verdict {
            Verdict::Denied(acl) => Decision::Denied(acl),
            Verdict::Allowed(acl) => Decision::Allowed(acl),
            Verdict::NoneRelevant if self.config.allow_everyone_if_no_acl_found => {
                Decision::DefaultAllow
            }
            Verdict::NoneRelevant | Verdict::NoneApplies => Decision::DefaultDeny,
        }
    }
}

#[cfg(test)]
mod tests;
