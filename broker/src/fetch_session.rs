//! Fetch sessions (KIP-227): what a client wants of its partitions, remembered between requests.
//!
//! A session subscribes to its partitions and is told which have news, so that an incremental
//! fetch looks at those alone. A fetch without session uses the same list for one request.

mod cache;
mod ledger;
mod list;
mod session;

pub use cache::FetchSessions;
pub(crate) use list::{Entry, FetchList, Sent, TopicKey, Wanted};
pub(crate) use session::{Session, SessionHandle};
