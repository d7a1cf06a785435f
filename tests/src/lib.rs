//! What the integration tests stand on: brokers as child processes, certificates, client settings and a raw client.
//!
//! Every test starts the brokers it needs on free ports of 127.0.0.1, in a directory of its own, and ends
//! only the processes it started. Nothing here reaches into the broker: it is driven as a user would drive it.

pub mod access;
pub mod audit;
pub mod certs;
pub mod check;
pub mod conversions;
pub mod dev;
pub mod door;
pub mod history;
pub mod kafka;
pub mod liar;
pub mod load;
pub mod members;
pub mod node;
pub mod paths;
pub mod process;
pub mod requests;
pub mod scram;
pub mod suites;
pub mod target;
pub mod tools;
pub mod tunnel;
pub mod wire;
