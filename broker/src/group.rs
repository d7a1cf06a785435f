//! The group coordinator: who consumes what, and how far they have come.
//!
//! Every group belongs to one partition of `__consumer_offsets`, whose leader coordinates it. A
//! request is decided against the state of that partition, the records of the decision are
//! appended, replayed into the state, and answered once the high watermark has passed them: state
//! changes in replay only, so a new leader that reads the log arrives at the same state.

pub(crate) mod assignor;
pub(crate) mod budget;
pub(crate) mod classic;
pub(crate) mod config;
pub(crate) mod consumer;
pub(crate) mod coordinator;
pub(crate) mod decision;
pub(crate) mod embedded;
pub(crate) mod error;
pub(crate) mod expressions;
mod load;
pub(crate) mod look_up;
pub(crate) mod offsets;
pub(crate) mod partitions;
pub(crate) mod record;
mod rewrites;
mod runtime;
pub(crate) mod shard;
pub(crate) mod step;
mod timers;
pub(crate) mod topic_pattern;
mod write;

pub(crate) use coordinator::{GroupCoordinator, TOPIC};

#[cfg(test)]
mod coordinator_tests;
#[cfg(test)]
mod record_tests;
