//! What the arguments of the command say of every batch.

use std::time::Duration;

use palisade_protocol::batch::Codec;

/// What is sent, and how.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) topic: String,
    pub(super) partition: Option<i32>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) codec: Codec,
    pub(super) acks: i16,
    /// How long a batch is tried, and how long the broker may take for one attempt.
    pub(super) timeout_ms: i32,
}

impl Options {
    /// How long a batch is tried.
    pub(super) fn delivery(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.timeout_ms).unwrap_or_default())
    }
}
