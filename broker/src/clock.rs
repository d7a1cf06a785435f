//! The wall clock, read in this one place.
//!
//! Timers and deadlines use tokio's monotonic clock; wall time is only for what is written down:
//! record timestamps, audit lines, expiry instants that other machines gave.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use palisade_auth::audit::UnixMicros;
use palisade_protocol::types::TimestampMs;

/// The current time in milliseconds since the Unix epoch; before the epoch counts as the epoch.
pub fn now() -> TimestampMs {
    TimestampMs::new(i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX))
}

/// The current time in microseconds since the Unix epoch, for the audit log.
pub fn now_micros() -> UnixMicros {
    UnixMicros::new(i64::try_from(since_epoch().as_micros()).unwrap_or(i64::MAX))
}

/// The time since some moment in the life of this process, which neither jumps nor goes back.
pub(crate) fn monotonic() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// A handle to the wall clock, for those that are given their time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The current time in milliseconds since the Unix epoch.
    pub fn now(&self) -> TimestampMs {
        now()
    }
}
