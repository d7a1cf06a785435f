//! The partitions of this node: role, positions, append, read, and everyone who waits for them.
//!
//! [`ReplicaManager`] follows the metadata; [`Partition`] is one replica opened with a grant.
//! Lock order within a partition: waiting list, followers, then a fetch's ready list. None of them
//! is held across an await, a write or a sync.

mod append;
mod cleaner;
mod directory;
mod error;
mod failures;
mod handle;
mod high_watermark;
mod hosted;
mod isr;
mod log_opening;
mod maintenance;
mod opener;
pub(crate) mod own;
pub(crate) mod read;
pub(crate) mod ready;
mod replica;
mod replica_manager;
mod scrubber;
mod settings;
mod tab;
#[cfg(test)]
pub(crate) mod testing;
mod topic_settings;
pub(crate) mod validate;
pub(crate) mod waiter;
mod waiting;

pub(crate) use isr::Leadership;
pub(crate) use replica::Subscribed;

pub use cleaner::Cleaners;
pub use error::PartitionError;
pub use handle::Partition;
pub use maintenance::{MaintenanceIntervals, maintain};
pub use read::{Isolation, ReadLimits, ReadOutcome};
pub use replica_manager::{ReplicaManager, SettingsOf};
pub use scrubber::{Scrubbers, StartScrubError};
pub use settings::{PartitionSettings, RecordRules};
pub use topic_settings::settings_of;
pub use validate::ValidBatch;
pub use validate::refusal::{RecordFault, Refusal};

#[cfg(test)]
mod tests;
