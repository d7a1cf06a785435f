//! Access control lists: what they are made of, and which ones may be stored.
//!
//! Codes are those of the wire and of the metadata log (spec/security.md §4.1, KIP-140,
//! KIP-290). The decision itself is made by [`AclCache`] and [`crate::authorizer`].

mod filter;
pub(crate) mod index;
mod set;
mod validate;

use std::fmt;

pub use filter::{AclFilter, FilterError};
pub use index::AclCache;
pub use set::AclSet;
pub use validate::{AclError, AclWarning};

/// The name of the only CLUSTER resource.
pub const CLUSTER_NAME: &str = "kafka-cluster";

/// The name of a LITERAL ACL that covers every resource of its type.
pub const WILDCARD: &str = "*";

/// The principal of an ACL that means every principal of any type.
pub(crate) const EVERYONE: &str = "User:*";

macro_rules! coded {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the codes.
            pub const VALUES: &'static [Self] = &[$(Self::$variant,)+];

            /// The number used on the wire and in the metadata log.
            pub const fn code(self) -> i8 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The value of a number; `Unknown` for one that this version does not know.
            pub const fn from_code(code: i8) -> Self {
                match code { $($code => Self::$variant,)+ _ => Self::Unknown }
            }

            /// The name in Kafka's own spelling, `UPPER_CASE`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Finds the value of a name, in any case, with `_`, `-` or nothing between words.
            pub fn from_name(name: &str) -> Option<Self> {
                let bare = |text: &str| -> String {
                    text.chars()
                        .filter(|c| !matches!(c, '_' | '-'))
                        .map(|c| c.to_ascii_uppercase())
                        .collect()
                };
                let wanted = bare(name);
                Self::VALUES.iter().copied().find(|value| bare(value.name()) == wanted)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

coded! {
    /// The kind of thing an ACL protects.
    ResourceType {
        /// A code from the future; never stored.
        Unknown = 0 "UNKNOWN",
        /// In filters: every type.
        Any = 1 "ANY",
        /// A topic, by name.
        Topic = 2 "TOPIC",
        /// A group of any protocol, by its id.
        Group = 3 "GROUP",
        /// The cluster, always named `kafka-cluster`.
        Cluster = 4 "CLUSTER",
        /// A transactional id.
        TransactionalId = 5 "TRANSACTIONAL_ID",
        /// A delegation token, by its id.
        DelegationToken = 6 "DELEGATION_TOKEN",
        /// A principal in its text form.
        User = 7 "USER",
    }
}

coded! {
    /// How the name of an ACL is compared with the name of a resource.
    PatternType {
        /// A code from the future; never stored.
        Unknown = 0 "UNKNOWN",
        /// In filters: LITERAL or PREFIXED.
        Any = 1 "ANY",
        /// In filters: everything that is relevant to a resource of the name.
        Match = 2 "MATCH",
        /// The same name; `*` covers all names.
        Literal = 3 "LITERAL",
        /// Every name that begins with it; `*` is nothing special.
        Prefixed = 4 "PREFIXED",
    }
}

coded! {
    /// What the caller wants to do, or what an ACL speaks of.
    Operation {
        /// A code from the future; never stored.
        Unknown = 0 "UNKNOWN",
        /// In filters: every operation.
        Any = 1 "ANY",
        /// In ACLs: every operation.
        All = 2 "ALL",
        /// Read records, or take part in a group.
        Read = 3 "READ",
        /// Append records, or use a transactional id.
        Write = 4 "WRITE",
        /// Create.
        Create = 5 "CREATE",
        /// Delete.
        Delete = 6 "DELETE",
        /// Change what is not a configuration.
        Alter = 7 "ALTER",
        /// See that it exists and what it is like.
        Describe = 8 "DESCRIBE",
        /// What nodes do among themselves.
        ClusterAction = 9 "CLUSTER_ACTION",
        /// Read configurations.
        DescribeConfigs = 10 "DESCRIBE_CONFIGS",
        /// Change configurations.
        AlterConfigs = 11 "ALTER_CONFIGS",
        /// Get a producer id without a transactional id.
        IdempotentWrite = 12 "IDEMPOTENT_WRITE",
        /// Create delegation tokens for somebody (KIP-373).
        CreateTokens = 13 "CREATE_TOKENS",
        /// Describe delegation tokens of somebody (KIP-373).
        DescribeTokens = 14 "DESCRIBE_TOKENS",
        /// Use two-phase commit with a transactional id (KIP-939).
        TwoPhaseCommit = 15 "TWO_PHASE_COMMIT",
    }
}

coded! {
    /// Whether an ACL forbids or permits.
    Permission {
        /// A code from the future; never stored.
        Unknown = 0 "UNKNOWN",
        /// In filters: both.
        Any = 1 "ANY",
        /// Forbids, whatever else permits.
        Deny = 2 "DENY",
        /// Permits, unless something forbids.
        Allow = 3 "ALLOW",
    }
}

impl ResourceType {
    /// The operations that mean something on this type (spec/security.md §4.1).
    ///
    /// DELETE on CLUSTER is honoured by DeleteTopics but belongs to no type's list, so it
    /// never shows in the bit field of KIP-430.
    pub const fn operations(self) -> &'static [Operation] {
        use Operation::*;
        match self {
            Self::Unknown | Self::Any => &[],
            Self::Topic => &[
                Read,
                Write,
                Create,
                Delete,
                Alter,
                Describe,
                DescribeConfigs,
                AlterConfigs,
            ],
            Self::Group => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
            Self::Cluster => &[
                Create,
                Alter,
                Describe,
                ClusterAction,
                DescribeConfigs,
                AlterConfigs,
                IdempotentWrite,
            ],
            Self::TransactionalId => &[Write, Describe, TwoPhaseCommit],
            Self::DelegationToken => &[Describe],
            Self::User => &[CreateTokens, DescribeTokens],
        }
    }
}

impl Operation {
    /// Tells whether an ALLOW of `self` permits `asked`.
    pub(crate) const fn allow_covers(self, asked: Self) -> bool {
        use Operation::*;
        matches!(
            (self, asked),
            (All, _) | (Read | Write | Delete | Alter, Describe) | (AlterConfigs, DescribeConfigs)
        ) || self.code() == asked.code()
    }

    /// Tells whether a DENY of `self` forbids `asked`: a denial implies nothing.
    pub(crate) const fn deny_covers(self, asked: Self) -> bool {
        matches!(self, Self::All) || self.code() == asked.code()
    }
}

/// One ACL: who, from where, may or may not do what, to which resources.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AclBinding {
    /// The type of the resources.
    pub resource_type: ResourceType,
    /// The name, or the prefix of the names.
    pub resource_name: String,
    /// How `resource_name` is to be read: LITERAL or PREFIXED.
    pub pattern_type: PatternType,
    /// The principal as text, `User:*` for everyone.
    pub principal: String,
    /// An address, a range, or `*`; any other text matches nobody.
    pub host: String,
    /// The operation, ALL for every one.
    pub operation: Operation,
    /// ALLOW or DENY.
    pub permission: Permission,
}

impl fmt::Display for AclBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {} host {}",
            self.permission,
            self.principal,
            self.operation,
            self.resource_type,
            self.pattern_type,
            self.resource_name,
            self.host
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_wire() {
        for code in i8::MIN..=i8::MAX {
            let value = Operation::from_code(code);
            assert!(value.code() == code || value == Operation::Unknown);
        }
        assert_eq!(Operation::VALUES.len(), 16);
        assert_eq!(Operation::IdempotentWrite.code(), 12);
        assert_eq!(Operation::from_code(16), Operation::Unknown);
        assert_eq!(ResourceType::from_code(7), ResourceType::User);
        assert_eq!(ResourceType::from_code(-1), ResourceType::Unknown);
        assert_eq!(PatternType::Prefixed.code(), 4);
        assert_eq!(Permission::Allow.code(), 3);
    }

    #[test]
    fn names_are_found_in_every_spelling() {
        for text in ["DESCRIBE_CONFIGS", "DescribeConfigs", "describe-configs"] {
            assert_eq!(Operation::from_name(text), Some(Operation::DescribeConfigs));
        }
        assert_eq!(ResourceType::from_name("topics"), None);
    }

    #[test]
    fn only_these_imply_something() {
        use Operation::*;
        for held in Operation::VALUES.iter().copied() {
            for asked in Operation::VALUES.iter().copied() {
                let implied = held == asked
                    || held == All
                    || (asked == Describe && [Read, Write, Delete, Alter].contains(&held))
                    || (asked == DescribeConfigs && held == AlterConfigs);
                assert_eq!(held.allow_covers(asked), implied, "{held} {asked}");
                let denied = held == asked || held == All;
                assert_eq!(held.deny_covers(asked), denied, "{held} {asked}");
            }
        }
    }
}
