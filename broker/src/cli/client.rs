//! A small client for administration and for records, against any Kafka broker.

mod admin;
mod cluster;
mod connection;
mod error;
mod hint;
mod known_keys;
mod line;
mod requests;
mod retry;
mod scram;
mod settings;
mod tls_words;
mod words;

pub use admin::Admin;
pub(crate) use cluster::{Cluster, Listed, TopicPartition};
pub use connection::Connection;
pub use error::ClientError;
pub(crate) use error::printable;
pub(crate) use line::Line;
pub(crate) use requests::{COMMIT_BY_NAME, offset_commit};
pub(crate) use retry::Backoff;
pub use scram::ScramError;
pub use settings::{ClientSettings, Credentials};
pub(crate) use words::Right;
