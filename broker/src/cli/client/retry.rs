//! Pauses between attempts, growing up to a second, within a time that bounds them all.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Attempts at one thing.
#[derive(Debug)]
pub(crate) struct Backoff {
    deadline: Instant,
    next: Duration,
}

impl Backoff {
    /// Begins; no attempt starts later than `patience` from now.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            deadline: Instant::now() + patience,
            next: FIRST,
        }
    }

    /// Begins to bound anew, `patience` from now: something was achieved. Pauses stay as long.
    pub(crate) fn extend(&mut self, patience: Duration) {
        self.deadline = Instant::now() + patience;
    }

    /// Waits before the next attempt; false, at once, when there is no time for one.
    pub(crate) async fn pause(&mut self) -> bool {
        if Instant::now() + self.next > self.deadline {
            return false;
        }
        sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST);
        true
    }
}
