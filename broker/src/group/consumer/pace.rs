//! How often an assignor that takes long may run.
//!
//! The only clock in the engines: how long a decision takes is known behind it alone, so no
//! argument can say it. Replay does not ask.

use std::cell::Cell;
use std::time::Duration;

use crate::clock;

/// A group whose assignor took so long waits before it runs again, whatever its interval.
const LONG: Duration = Duration::from_millis(10);
/// It waits so many times as long: that is a twentieth of one processor.
const TIMES: u32 = 20;
/// But no longer than this: a busy machine or a debugger may have taken the time.
const MOST: Duration = Duration::from_secs(30);

/// How long the assignor of a group took last.
#[derive(Debug)]
pub(super) struct Pace {
    /// Tells the time, which does not go back.
    clock: fn() -> Duration,
    /// When it was done, and how long it took.
    last: Cell<Option<(Duration, Duration)>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self::by(clock::monotonic)
    }
}

impl Pace {
    /// A pace by this clock.
    pub(super) fn by(clock: fn() -> Duration) -> Self {
        Self {
            clock,
            last: Cell::new(None),
        }
    }

    /// Whether the group has waited long enough.
    pub(super) fn is_due(&self) -> bool {
        let last = self.last.get();
        last.is_none_or(|(done, took)| {
            let wait = took.saturating_mul(TIMES).min(MOST);
            took < LONG || (self.clock)().saturating_sub(done) >= wait
        })
    }

    /// Runs it, and notes how long that took.
    pub(super) fn run<T>(&self, assign: impl FnOnce() -> T) -> T {
        let began = (self.clock)();
        let assigned = assign();
        let done = (self.clock)();
        self.last.set(Some((done, done.saturating_sub(began))));
        assigned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local!(static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) });

    fn pass(millis: u64) {
        NOW.set(NOW.get() + Duration::from_millis(millis));
    }

    #[test]
    fn who_took_long_waits_long() {
        let pace = Pace::by(|| NOW.get());
        assert!(pace.is_due());
        pace.run(|| pass(9));
        assert!(pace.is_due(), "that was not long");
        pace.run(|| pass(100));
        assert!(!pace.is_due());
        pass(1_999);
        assert!(!pace.is_due());
        pass(1);
        assert!(pace.is_due());
        pace.run(|| pass(60_000));
        pass(29_999);
        assert!(!pace.is_due());
        pass(1);
        assert!(pace.is_due(), "no longer than that");
    }
}
