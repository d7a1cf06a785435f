//! The group coordinator: who consumes what, and how far they have come.
//!
//! Every group belongs to one partition of `__consumer_offsets`, whose leader coordinates it. A
//! request is decided against the state of that partition, the records of the decision are
//! appended, replayed into the state, and answered once the high watermark has passed them: state
//! changes in replay only, so a new leader that reads the log arrives at the same state.

#![allow(dead_code, reason = "the engines that use it come next")]

pub(crate) mod config;
pub(crate) mod decision;
pub(crate) mod error;
pub(crate) mod record;

#[cfg(test)]
mod record_tests;
