//! How fast new connections are taken (`max.connection.creation.rate`).

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Connections that may come at once after a rest, as a share of a second.
const BURST: Duration = Duration::from_secs(1);

/// Spaces out accepts; whoever is too early waits, and the others behind it in the kernel's line.
#[derive(Debug)]
pub(super) struct Pace {
    /// Time between two connections; `None` for no bound.
    interval: Option<Duration>,
    /// When the next connection is due, if they came evenly.
    due: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most `rate` connections per second.
    pub(super) fn new(rate: Option<u32>) -> Self {
        let interval = rate.map(|rate| Duration::from_secs(1) / rate.max(1));
        Pace {
            interval,
            due: Mutex::new(None),
        }
    }

    /// Waits until one more connection is within the rate.
    pub(super) async fn turn(&self) {
        if let Some(at) = self.next(Instant::now()) {
            sleep_until(at).await;
        }
    }

    /// Takes the next turn: `None` now, else when.
    fn next(&self, now: Instant) -> Option<Instant> {
        let interval = self.interval?;
        let mut due = self.due.lock();
        // Time in which nobody came is saved up, but no more than a burst.
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let mine = due.map_or(earliest, |due| due.max(earliest));
        *due = Some(mine + interval);
        (mine > now).then_some(mine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let pace = Pace::new(Some(10));
        let now = Instant::now();
        let waits: Vec<_> = (0..13).map(|_| pace.next(now)).collect();
        let waiting = waits.iter().flatten().count();
        assert_eq!(waiting, 2, "{waits:?}");
        assert_eq!(waits[12], Some(now + Duration::from_millis(200)));
        assert_eq!(pace.next(now + Duration::from_secs(60)), None);
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let pace = Pace::new(None);
        assert!((0..1000).all(|_| pace.next(Instant::now()).is_none()));
    }
}
