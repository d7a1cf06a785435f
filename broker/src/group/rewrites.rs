//! How much of classic groups a principal may have converted in a time.
//!
//! A heartbeat of forty bytes has a group of up to a batch read, written and replayed, and the next
//! one has it turned back: over and over that takes the processor from all others. So whoever had
//! large groups converted owes their bytes, pays off so many with each millisecond, and is told to
//! come again while he owes too much. That is counted on the node, since groups are in many shards.

use std::collections::HashMap;

use palisade_auth::principal::Principal;
use palisade_protocol::types::TimestampMs;
use parking_lot::Mutex;

use super::error::GroupError;

/// Bytes paid off in a millisecond.
const RATE: usize = 256;
/// Who owes less gets another conversion: hundreds of groups of ten members, or one of any size,
/// go through at once.
const BURST: usize = 1 << 20;
/// Groups whose records take no more are neither counted nor held back.
const SMALL: usize = 4096;
/// Principals who may owe something at a time.
const MOST: usize = 1024;

/// How far the times of two shards may be apart, in milliseconds.
const LAG: i64 = 60_000;

/// What principals owe for conversions.
#[derive(Debug, Default)]
pub(crate) struct Conversions(Mutex<HashMap<Principal, Debt>>);

#[derive(Clone, Copy, Debug)]
struct Debt {
    bytes: usize,
    at: TimestampMs,
}

impl Debt {
    /// Bytes still owed. The time of a shard that has worked for long is older than another's; a
    /// clock that was set back would hold for as long as it went.
    fn left(self, now: TimestampMs) -> usize {
        let age = now.millis_since(self.at);
        if age < -LAG {
            return 0;
        }
        let paid = usize::try_from(age).unwrap_or(0).saturating_mul(RATE);
        self.bytes.saturating_sub(paid)
    }
}

impl Conversions {
    /// Counts the conversion of a group whose records take so many bytes.
    ///
    /// # Errors
    /// `ConvertedMuch` where the principal is to come again; nothing is counted then.
    pub(crate) fn admit(
        &self,
        by: &Principal,
        bytes: usize,
        now: TimestampMs,
    ) -> Result<(), GroupError> {
        if bytes <= SMALL {
            return Ok(());
        }
        let mut debts = self.0.lock();
        debts.retain(|_, debt| debt.left(now) > 0);
        let debt = debts.get(by).copied();
        let owed = debt.map_or(0, |debt| debt.left(now));
        if (debt.is_none() && debts.len() >= MOST) || owed >= BURST {
            return Err(GroupError::ConvertedMuch);
        }
        let bytes = owed.saturating_add(bytes);
        let at = debt.map_or(now, |debt| debt.at.max(now));
        debts.insert(by.clone(), Debt { bytes, at });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(conversions: &Conversions, by: &str, bytes: usize, now: i64) -> bool {
        let admitted = conversions.admit(&Principal::user(by), bytes, TimestampMs::new(now));
        if let Err(error) = &admitted {
            assert_eq!(*error, GroupError::ConvertedMuch);
        }
        admitted.is_ok()
    }

    #[test]
    fn who_converts_much_waits_as_long_as_it_was_much() {
        let conversions = Conversions::default();
        let admits = |by: &str, bytes, now| admits(&conversions, by, bytes, now);
        assert!(admits("mallory", BURST - 1, 0));
        assert!(admits("mallory", BURST, 0), "he owed less than the burst");
        assert!(!admits("mallory", SMALL + 1, 0));
        assert!(admits("mallory", SMALL, 0), "small ones go on");
        assert!(admits("alice", BURST, 0), "so do others");
        let paid = i64::try_from(BURST / RATE).unwrap();
        assert!(!admits("mallory", BURST, paid - 1));
        assert!(admits("mallory", BURST, paid), "refusals are not counted");
        assert!(!admits("mallory", BURST, paid));
        assert!(!admits("mallory", BURST, paid - 1), "another shard's time");
        assert!(!admits("mallory", BURST, paid - LAG));
        assert!(admits("mallory", BURST, paid - LAG - 1), "the clock went");
    }

    /// What is owed is paid off from the latest time that anybody brought.
    #[test]
    fn an_older_time_makes_no_debt_older() {
        let conversions = Conversions::default();
        let admits = |bytes, now| admits(&conversions, "mallory", bytes, now);
        assert!(admits(BURST - 1, 1000));
        assert!(admits(BURST, 0), "another shard's time");
        let paid = 1000 + i64::try_from(BURST / RATE).unwrap();
        assert!(!admits(BURST, paid - 1));
        assert!(admits(BURST, paid));
    }

    #[test]
    fn a_migration_goes_through_at_once() {
        let conversions = Conversions::default();
        let large = 3000 * 340;
        assert!(admits(&conversions, "alice", large, 0));
        for _ in 0..1000 {
            assert!(admits(&conversions, "bob", SMALL, 0));
        }
        for _ in 0..200 {
            assert!(admits(&conversions, "carol", SMALL + 1000, 0));
        }
    }

    #[test]
    fn debts_are_forgotten_and_few() {
        let conversions = Conversions::default();
        for number in 0..MOST {
            assert!(admits(&conversions, &format!("u{number}"), SMALL + 1, 0));
        }
        assert!(!admits(&conversions, "late", SMALL + 1, 0));
        assert!(admits(&conversions, "u0", SMALL + 1, 0));
        assert!(admits(&conversions, "late", SMALL + 1, 1000));
        assert_eq!(conversions.0.lock().len(), 1);
    }
}
