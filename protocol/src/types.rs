//! Units: every id and position is a type of its own, so that they do not mix.
//!
//! Wire structs carry plain integers; handlers turn them into these at the edge.

use std::fmt;

pub use crate::records::{RecordSource, Records};
pub use crate::text::Str;
pub use crate::uuid::Uuid;

/// The id of a topic (KIP-516), never reused after a deletion.
pub type TopicId = Uuid;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name($inner);

        impl $name {
            /// Wraps a raw value.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The raw value, for the wire and the disk.
            pub const fn value(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

unit! {
    /// A position in a partition's log, counted in records.
    Offset(i64)
}

unit! {
    /// The epoch of a partition's leader; grows with each election. -1 stands for none on the wire.
    LeaderEpoch(i32)
}

unit! {
    /// The id of an idempotent or transactional producer (KIP-98). -1 stands for none on the wire.
    ProducerId(i64)
}

unit! {
    /// The epoch of a producer id; a higher one fences the lower. -1 stands for none on the wire.
    ProducerEpoch(i16)
}

unit! {
    /// The node id of a broker. -1 stands for none on the wire.
    BrokerId(i32)
}

unit! {
    /// The index of a partition within its topic, from 0.
    PartitionIndex(i32)
}

unit! {
    /// Milliseconds since 1970-01-01 UTC. -1 stands for none on the wire.
    TimestampMs(i64)
}

impl Offset {
    /// The first offset of a new log.
    pub const ZERO: Self = Self(0);

    /// The offset `count` records later, or `None` where the sum does not fit.
    pub const fn checked_add(self, count: i64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Records from `earlier` up to here; negative when `earlier` lies behind, saturating.
    pub const fn distance(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl LeaderEpoch {
    /// No epoch is known.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// The batch has no producer id.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// The batch has no producer epoch.
    pub const NONE: Self = Self(-1);
}

impl BrokerId {
    /// No broker, as for a partition without leader.
    pub const NONE: Self = Self(-1);
}

impl TimestampMs {
    /// No timestamp.
    pub const NONE: Self = Self(-1);

    /// The instant `millis` later, or `None` where the sum does not fit.
    pub const fn checked_add(self, millis: i64) -> Option<Self> {
        match self.0.checked_add(millis) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Milliseconds from `earlier` up to here, saturating.
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_do_not_wrap() {
        assert_eq!(Offset::new(5).checked_add(2), Some(Offset::new(7)));
        assert_eq!(Offset::new(i64::MAX).checked_add(1), None);
        assert_eq!(Offset::new(5).distance(Offset::new(9)), -4);
        assert_eq!(Offset::new(i64::MIN).distance(Offset::new(1)), i64::MIN);
        assert_eq!(Offset::new(7).to_string(), "7");
    }
}
