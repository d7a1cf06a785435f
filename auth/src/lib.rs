//! Who is it, may he do that, and how is it remembered.
//!
//! - [`tls`]: contexts from PEM, principals from certificates.
//! - [`sasl`], [`scram`]: PLAIN and SCRAM exchanges, bytes in, bytes out.
//! - [`acl`], [`authorizer`], [`decision`]: ACLs, who judges by them, and the answer.
//! - [`access`], [`grant`]: one request's questions, and [`grant::Granted`], the proof of a
//!   decision that functions touching data ask for.
//! - [`audit`]: events, their hash chain, and a queue that never forgets in silence.
//!
//! This crate knows bytes, names and certificates. It knows no sockets, no API keys, no wire
//! enums, and no clock: time is an argument.

#![forbid(unsafe_code)]

pub mod access;
pub mod acl;
pub mod audit;
pub mod authorizer;
pub mod decision;
pub mod grant;
pub mod host;
pub mod principal;
pub mod sasl;
pub mod scram;
pub mod secret;
pub mod tls;

pub use access::Access;
pub use authorizer::{Authorizer, AuthorizerConfig, SuperUsers};
pub use decision::{Decision, Denied};
pub use grant::Granted;
pub use principal::{Caller, Principal};
pub use secret::Secret;
