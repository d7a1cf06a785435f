//! Log output of the process: human lines or JSON on standard error, filtered by `PALISADE_LOG`.
//!
//! Text from outside enters a log line only through `?` (Debug) formatting, which escapes control
//! characters, so that a client cannot write lines of its own.

use std::sync::atomic::{AtomicI64, Ordering};

use tracing_subscriber::EnvFilter;

use crate::clock;

/// Lets one kind of line through at most once per second, so that strangers cannot fill the disk.
#[derive(Debug)]
pub struct Throttle {
    /// Milliseconds since the epoch.
    last: AtomicI64,
}

impl Throttle {
    /// Has said nothing yet.
    pub const fn new() -> Self {
        Throttle {
            last: AtomicI64::new(0),
        }
    }

    /// Whether a line may be written now; the caller then writes it.
    pub fn may_speak(&self) -> bool {
        let now = clock::now().value();
        let last = self.last.load(Ordering::Relaxed);
        // A clock that was set back does not silence us.
        let due = now < last || now - last >= 1000;
        let swapped = Ordering::Relaxed;
        due && self
            .last
            .compare_exchange(last, now, swapped, swapped)
            .is_ok()
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle::new()
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// Installs the process-wide log output; a second call changes nothing.
///
/// `filter` is a tracing filter such as `info` or `palisade=debug`; when it does not parse, `info`
/// is used and a warning says so.
pub fn init(filter: &str, format: LogFormat) {
    let parsed = EnvFilter::try_new(filter);
    let bad = parsed.is_err();
    let filter_layer = parsed.unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter_layer)
        .with_writer(std::io::stderr);
    // An already installed subscriber belongs to the caller (a test, an embedding program).
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if bad {
        tracing::warn!(?filter, "log filter does not parse; using \"info\"");
    }
}
