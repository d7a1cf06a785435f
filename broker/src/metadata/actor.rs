//! On whose behalf the controller acts, and what that one may do.

use std::sync::Arc;

use palisade_auth::acl::AclCache;
use palisade_auth::audit::{AuditContext, AuditSink};
use palisade_auth::grant::{OperationKind, ResourceKind};
use palisade_auth::{Access, Authorizer, Caller, Denied, Granted};

/// Who asks the controller for something.
#[derive(Debug, Clone)]
pub enum Actor {
    /// A client, as its connection authenticated it.
    Client {
        /// Principal and address.
        caller: Caller,
        /// What the audit log says of connection and request.
        audit: AuditContext,
    },
    /// The broker itself.
    Internal(Internal),
}

impl Actor {
    /// A client's request.
    #[must_use]
    pub fn client(caller: Caller, audit: AuditContext) -> Actor {
        Actor::Client { caller, audit }
    }

    /// The broker's own request.
    #[must_use]
    pub fn internal(token: Internal) -> Actor {
        Actor::Internal(token)
    }
}

/// Proof that the broker itself asks: no ACL binds it.
///
/// Only code that no client request reaches may make one: start-up, coordinators creating their
/// own topics, replication. Automatic topic creation is a client's request and uses its caller.
#[derive(Debug, Clone)]
pub struct Internal {
    purpose: &'static str,
}

impl Internal {
    /// Makes a token; `purpose` says what for, in logs.
    pub(crate) const fn for_purpose(purpose: &'static str) -> Internal {
        Internal { purpose }
    }

    /// What the token was made for.
    #[must_use]
    pub fn purpose(&self) -> &'static str {
        self.purpose
    }
}

/// Permission to do `O` to a resource: the authorizer's grant, or the broker's own right.
#[derive(Debug)]
pub enum Permit<R: ResourceKind, O: OperationKind> {
    /// The authorizer granted it.
    Granted(Granted<R, O>),
    /// The broker acts for itself.
    Internal,
}

impl<R: ResourceKind, O: OperationKind> Permit<R, O> {
    /// Asserts that the permission is for the resource of this name.
    ///
    /// # Panics
    /// A grant for another resource: a fault of the caller that must not go through.
    pub fn covers(&self, name: &str) {
        if let Permit::Granted(granted) = self {
            assert_eq!(granted.name(), name, "a grant is used for what it names");
        }
    }
}

/// One request's view of what its actor may do.
pub enum Rights {
    /// A client's, judged by the ACLs of one moment.
    Client(Box<Access>),
    /// The broker's own.
    Internal,
}

impl Rights {
    /// Takes the snapshot of ACLs that answers every question of one request.
    #[must_use]
    pub fn of(
        actor: Actor,
        authorizer: &Authorizer,
        acls: &Arc<AclCache>,
        audit: Option<Arc<dyn AuditSink>>,
    ) -> Rights {
        match actor {
            Actor::Internal(_) => Rights::Internal,
            Actor::Client {
                caller,
                audit: context,
            } => Rights::Client(Box::new(authorizer.access(
                Arc::clone(acls),
                caller,
                audit,
                context,
            ))),
        }
    }

    /// Whether the broker itself asks.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        matches!(self, Rights::Internal)
    }

    /// Forgets the questions asked so far: the audit log is told of none of them.
    pub(super) fn forget(&self) {
        if let Rights::Client(access) = self {
            access.forget();
        }
    }

    /// Asks one question of the access, or answers it for the broker itself.
    ///
    /// # Errors
    /// `Denied`, as `ask` says.
    pub fn ask<R: ResourceKind, O: OperationKind>(
        &self,
        ask: impl FnOnce(&Access) -> Result<Granted<R, O>, Denied>,
    ) -> Result<Permit<R, O>, Denied> {
        match self {
            Rights::Client(access) => ask(access).map(Permit::Granted),
            Rights::Internal => Ok(Permit::Internal),
        }
    }

    /// Asks one quiet question: a denial is no denial in the audit log.
    pub fn probe<R: ResourceKind, O: OperationKind>(
        &self,
        ask: impl FnOnce(&Access) -> Option<Granted<R, O>>,
    ) -> Option<Permit<R, O>> {
        match self {
            Rights::Client(access) => ask(access).map(Permit::Granted),
            Rights::Internal => Some(Permit::Internal),
        }
    }
}
