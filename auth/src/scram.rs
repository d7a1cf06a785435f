//! SCRAM-SHA-256 and SCRAM-SHA-512, the server's half (RFC 5802, RFC 7677, KIP-84;
//! spec/security.md §3.3 to §3.5).

mod alter;
mod credential;
mod crypto;
mod describe;
mod exchange;
mod fake;
mod mechanism;
mod message;

pub use alter::{
    AlterError, Deletion, ScramChange, Upsertion, UserResult, plan as plan_alterations,
};
pub use credential::{
    CredentialError, DEFAULT_ITERATIONS, MAX_ITERATIONS, MIN_ITERATIONS, ScramCredential,
    random_salt,
};
pub use describe::{CredentialInfo, DescribeError, Described, describe};
pub use exchange::ScramServer;
pub(crate) use fake::plain_credential as fake_plain_credential;
pub use mechanism::ScramMechanism;
