//! What background work on disks may cost: bytes per second.

use std::time::{Duration, Instant};

/// Longest wait for one step: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the bytes read and written so far have cost in time.
#[derive(Debug, Default)]
pub(super) struct Tab {
    /// Until then nothing more may be spent.
    paid_until: Option<Instant>,
}

impl Tab {
    /// Pays for bytes at a rate per second; answers until when the payer has to wait.
    pub(super) fn pay(&mut self, bytes: u64, rate: f64, now: Instant) -> Option<Instant> {
        let price = Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(Duration::MAX);
        let from = self.paid_until.filter(|until| *until > now).unwrap_or(now);
        // A rate so low that no clock reaches its end lets nothing more pass.
        let until = from.checked_add(price).unwrap_or(from + LONGEST);
        self.paid_until = Some(until);
        Some(until).filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_paid_in_time() {
        let mut tab = Tab::default();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(tab.pay(1 << 40, f64::INFINITY, now), None);
        assert_eq!(tab.pay(500, 1000.0, now), Some(now + second / 2));
        assert_eq!(
            tab.pay(500, 1000.0, now),
            Some(now + second),
            "one tab for all"
        );
        let later = now + 5 * second;
        assert_eq!(
            tab.pay(1000, 1000.0, later),
            Some(later + second),
            "nothing is saved up"
        );
        assert!(tab.pay(u64::MAX, 1e-300, later).is_some());
    }
}
