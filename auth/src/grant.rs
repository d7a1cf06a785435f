//! Grants: proof, as a value, that somebody was permitted to do something.
//!
//! A [`Granted`] comes out of [`Access`](crate::access::Access) and from nowhere else. The
//! functions that append, read, create or delete for a client take one, so that a handler
//! which forgot to ask does not compile, and a grant to read cannot append.
//!
//! ```
//! use palisade_auth::acl::AclCache;
//! use palisade_auth::grant::{Granted, Topic, Write};
//! use palisade_auth::{Authorizer, AuthorizerConfig, Caller, Principal, SuperUsers};
//!
//! fn append(grant: &Granted<Topic, Write>) -> String {
//!     format!("appended to {}", grant.name())
//! }
//!
//! let authorizer = Authorizer::new(AuthorizerConfig {
//!     super_users: SuperUsers::parse("User:admin").unwrap(),
//!     ..AuthorizerConfig::default()
//! });
//! let acls = std::sync::Arc::new(AclCache::build(&Default::default()));
//! let ask = |name: &'static str| {
//!     let caller = Caller::new(Principal::user(name), [127, 0, 0, 1].into());
//!     authorizer.access(acls.clone(), caller, None, Default::default())
//! };
//! let grant = ask("admin").topic("orders").unwrap();
//! assert_eq!(append(&grant), "appended to orders");
//! assert!(ask("alice").topic::<Write>("orders").is_err());
//! ```
//!
//! It cannot be made outside this crate:
//!
//! ```compile_fail
//! use palisade_auth::grant::{Granted, Topic, Write};
//! let forged: Granted<Topic, Write> = Granted { name: "orders".into() };
//! ```
//!
//! ```compile_fail
//! use palisade_auth::grant::{Granted, Topic, Write};
//! let forged: Granted<Topic, Write> = Granted::new("orders".into(), panic!());
//! ```
//!
//! nor copied into another one, of another operation or for another kind of resource:
//!
//! ```compile_fail
//! use palisade_auth::grant::{Granted, Read, Topic, Write};
//! fn widen(grant: Granted<Topic, Read>) -> Granted<Topic, Write> {
//!     grant
//! }
//! ```
//!
//! ```compile_fail
//! use palisade_auth::grant::{Granted, Topic, Write};
//! fn forge() -> Granted<Topic, Write> {
//!     Default::default()
//! }
//! ```
//!
//! nor can another crate name a kind of its own:
//!
//! ```compile_fail
//! struct Everything;
//! impl palisade_auth::grant::OperationKind for Everything {
//!     const OPERATION: palisade_auth::acl::Operation = palisade_auth::acl::Operation::All;
//! }
//! ```

use std::fmt;
use std::marker::PhantomData;

use crate::acl::{Operation, ResourceType};
use crate::decision::Decision;

mod sealed {
    pub trait Sealed {}
}

/// A kind of resource, as a type.
pub trait ResourceKind: sealed::Sealed + Send + Sync + 'static {
    /// The same as a value.
    const TYPE: ResourceType;
}

/// An operation, as a type.
pub trait OperationKind: sealed::Sealed + Send + Sync + 'static {
    /// The same as a value.
    const OPERATION: Operation;
}

macro_rules! kinds {
    ($trait:ident, $constant:ident: $type:ident { $($(#[$doc:meta])* $name:ident,)+ }) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub enum $name {}
            impl sealed::Sealed for $name {}
            impl $trait for $name {
                const $constant: $type = $type::$name;
            }
        )+
    };
}

kinds! {
    ResourceKind, TYPE: ResourceType {
        /// A topic.
        Topic,
        /// A group.
        Group,
        /// The cluster.
        Cluster,
        /// A transactional id.
        TransactionalId,
    }
}

kinds! {
    OperationKind, OPERATION: Operation {
        /// READ.
        Read,
        /// WRITE.
        Write,
        /// CREATE.
        Create,
        /// DELETE.
        Delete,
        /// ALTER.
        Alter,
        /// DESCRIBE.
        Describe,
        /// CLUSTER_ACTION.
        ClusterAction,
        /// DESCRIBE_CONFIGS.
        DescribeConfigs,
        /// ALTER_CONFIGS.
        AlterConfigs,
        /// IDEMPOTENT_WRITE.
        IdempotentWrite,
    }
}

/// Permission to do `O` to the one resource of kind `R` that it names.
///
/// It holds the name, the decision, and nothing else; it is not bound to a time, so a handler
/// must not keep it beyond its request.
pub struct Granted<R: ResourceKind, O: OperationKind> {
    name: Box<str>,
    decision: Decision,
    kind: PhantomData<fn() -> (R, O)>,
}

impl<R: ResourceKind, O: OperationKind> Granted<R, O> {
    pub(crate) fn new(name: &str, decision: Decision) -> Self {
        assert!(decision.is_allowed(), "a denial became a grant");
        Self {
            name: name.into(),
            decision,
            kind: PhantomData,
        }
    }

    /// The name of the resource; `kafka-cluster` for the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why it was permitted.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }
}

impl Granted<Cluster, ClusterAction> {
    /// A node that may act for the cluster reads every topic without a check of its own, as
    /// followers do (spec/security.md §4.10, Fetch as follower).
    pub fn read_topic(&self, name: &str) -> Granted<Topic, Read> {
        Granted::new(name, self.decision.clone())
    }
}

impl<R: ResourceKind, O: OperationKind> fmt::Debug for Granted<R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Granted({} {} {:?})", O::OPERATION, R::TYPE, self.name)
    }
}
