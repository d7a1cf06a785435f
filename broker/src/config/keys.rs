//! The table of configuration keys: type, default, range, and what becomes of each here.
//!
//! Source: configs.md §3. A key is one of:
//! - `effect`: read, checked and obeyed;
//! - `no meaning`: checked and reported, but nothing here depends on it; all such keys that are set
//!   are named in one warning;
//! - `gone`: a key of older releases of Kafka, treated the same but never reported;
//! - `refused`: it asks for something this broker does not do and would be missed in silence.

mod cluster;
mod groups;
mod log;
mod network;
mod own;
mod remote;
mod security;
mod tables;

pub use tables::{all, find};
pub(crate) use tables::{nearest, nearest_of};

/// Type of a value, named as DescribeConfigs names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits, signed.
    Int,
    /// 16 bits, signed.
    Short,
    /// 64 bits, signed.
    Long,
    /// 64 bits, floating.
    Double,
    /// Items separated by commas.
    List,
    /// Name of a Java class; data here, never loaded.
    Class,
    /// A secret.
    Password,
}

impl Kind {
    /// Code of the type in DescribeConfigs v3 and later.
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }
}

/// Which values of its type a key takes; bounds are inclusive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Valid {
    /// Every value of the type.
    Any,
    /// Whole numbers from here up.
    Min(i64),
    /// Whole numbers between these.
    Between(i64, i64),
    /// Whole numbers but zero.
    NotZero,
    /// -1, or whole numbers between these.
    MinusOneOr(i64, i64),
    /// Fractions between these.
    Fraction(f64, f64),
    /// One of these words, or for a list only these words.
    OneOf(&'static [&'static str]),
    /// The same with letters of either case.
    OneOfAnyCase(&'static [&'static str]),
    /// Anything but an empty text or list.
    NotEmpty,
}

/// What this broker does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It is obeyed.
    Effect,
    /// It is accepted and reported.
    NoMeaning,
    /// It is accepted, though Kafka itself no longer knows it.
    Gone,
    /// Values other than `harmless` (and than the default) are errors.
    Refused {
        /// Values that ask for nothing.
        harmless: &'static [&'static str],
        /// What is missing, and what to do instead.
        reason: &'static str,
    },
}

/// Where a key may be changed while Kafka runs (configs.md §3, column "dyn").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dynamic {
    /// Nowhere.
    No,
    /// For the whole cluster or for one node.
    Cluster,
    /// For one node only.
    PerBroker,
}

/// Which prefixes a key may carry (security.md §1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// None.
    No,
    /// `listener.name.<listener>.`
    Listener,
    /// `listener.name.<listener>.` and `listener.name.<listener>.<mechanism>.`
    Mechanism,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// The name.
    pub name: &'static str,
    /// Type of the value.
    pub kind: Kind,
    /// Canonical text of the default; `None` where there is none.
    pub default: Option<&'static str>,
    /// Range of the value.
    pub valid: Valid,
    /// What becomes of it here.
    pub usage: Use,
    /// Where Kafka lets it be changed at run time.
    pub dynamic: Dynamic,
    /// Prefixes that it takes.
    pub prefix: Prefix,
    /// Whether Kafka lists it in DescribeConfigs even when it is not set (configs.md §3.9).
    pub listed: bool,
}

impl Key {
    /// Whether its values must never be shown.
    pub fn is_secret(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Whether it is one of this broker's own.
    pub fn is_own(&self) -> bool {
        self.name.starts_with("palisade.")
    }

    const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            default: None,
            valid: Valid::Any,
            usage: Use::NoMeaning,
            dynamic: Dynamic::No,
            prefix: Prefix::No,
            listed: true,
        }
    }

    const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn min(self, bound: i64) -> Self {
        self.valid(Valid::Min(bound))
    }

    const fn within(self, low: i64, high: i64) -> Self {
        self.valid(Valid::Between(low, high))
    }

    const fn one_of(self, words: &'static [&'static str]) -> Self {
        self.valid(Valid::OneOf(words))
    }

    const fn valid(mut self, valid: Valid) -> Self {
        self.valid = valid;
        self
    }

    const fn effect(mut self) -> Self {
        self.usage = Use::Effect;
        self
    }

    const fn gone(mut self) -> Self {
        self.usage = Use::Gone;
        self.listed = false;
        self
    }

    const fn refused(mut self, harmless: &'static [&'static str], reason: &'static str) -> Self {
        self.usage = Use::Refused { harmless, reason };
        self
    }

    const fn dynamic(mut self) -> Self {
        self.dynamic = Dynamic::Cluster;
        self
    }

    const fn per_broker(mut self) -> Self {
        self.dynamic = Dynamic::PerBroker;
        self
    }

    const fn per_listener(mut self) -> Self {
        self.prefix = Prefix::Listener;
        self
    }

    const fn per_mechanism(mut self) -> Self {
        self.prefix = Prefix::Mechanism;
        self
    }

    const fn internal(mut self) -> Self {
        self.listed = false;
        self
    }
}

const fn boolean(name: &'static str) -> Key {
    Key::new(name, Kind::Boolean)
}

const fn string(name: &'static str) -> Key {
    Key::new(name, Kind::String)
}

const fn int(name: &'static str) -> Key {
    Key::new(name, Kind::Int)
}

const fn short(name: &'static str) -> Key {
    Key::new(name, Kind::Short)
}

const fn long(name: &'static str) -> Key {
    Key::new(name, Kind::Long)
}

const fn double(name: &'static str) -> Key {
    Key::new(name, Kind::Double)
}

const fn list(name: &'static str) -> Key {
    Key::new(name, Kind::List)
}

const fn class(name: &'static str) -> Key {
    Key::new(name, Kind::Class)
}

const fn password(name: &'static str) -> Key {
    Key::new(name, Kind::Password)
}
