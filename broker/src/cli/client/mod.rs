//! A small client for administration, against any Kafka broker.

mod admin;
mod connection;
mod error;
mod hint;
mod known_keys;
mod scram;
mod settings;
mod words;

pub use admin::Admin;
pub use connection::Connection;
pub use error::ClientError;
pub(crate) use error::printable;
pub use scram::ScramError;
pub use settings::{ClientSettings, Credentials};
