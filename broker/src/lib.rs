//! A secure, Kafka-compatible broker.

pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod context;
mod decoding;
pub mod dispatch;
pub mod fetch_session;
mod foreign;
mod group;
mod handlers;
pub mod logging;
pub mod metadata;
pub mod partition;
pub mod producer_ids;
pub mod raft;
mod rng;
pub mod server;
mod shares;
pub mod shutdown;
pub mod startup;
pub mod task;
mod turns;

pub use cli::dev::{TestBroker, TestBrokerBuilder, TestBrokerError};
pub use startup::{Running, StartError, run, start};
