//! How much of groups a principal may have written anew in a time.
//!
//! A heartbeat of forty bytes has a group of up to a batch converted, that is read, written and
//! replayed, and the next one has it turned back; or it says another rack of a member that has
//! named a hundred thousand topics, whose record is written anew with all of them. Over and over
//! that takes the processor from all others. So whoever had much written owes those bytes, pays off
//! so many with each millisecond, and is told to come again while he owes too much. That is counted
//! on the node, since groups are in many shards.

use std::collections::HashMap;

use palisade_auth::principal::Principal;
use palisade_protocol::types::TimestampMs;
use parking_lot::Mutex;

use super::error::GroupError;

/// Bytes paid off in a millisecond.
const RATE: usize = 256;
/// Who owes less gets another rewrite: hundreds of groups of ten members, or one of any size,
/// go through at once.
const BURST: usize = 1 << 20;
/// Groups, and members, whose records take no more are neither counted nor held back.
const SMALL: usize = 4096;
/// Principals who may owe something at a time.
const MOST: usize = 1024;

/// How far the times of two shards may be apart, in milliseconds.
const LAG: i64 = 60_000;

/// What principals owe for what was written anew.
#[derive(Debug, Default)]
pub(crate) struct Rewrites(Mutex<HashMap<Principal, Debt>>);

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

impl Rewrites {
    /// Counts so many bytes of records that are written anew.
    ///
    /// # Errors
    /// `RewroteMuch` where the principal is to come again; nothing is counted then.
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
            return Err(GroupError::RewroteMuch);
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

    fn admits(rewrites: &Rewrites, by: &str, bytes: usize, now: i64) -> bool {
        let admitted = rewrites.admit(&Principal::user(by), bytes, TimestampMs::new(now));
        if let Err(error) = &admitted {
            assert_eq!(*error, GroupError::RewroteMuch);
        }
        admitted.is_ok()
    }

    #[test]
    fn who_converts_much_waits_as_long_as_it_was_much() {
        let rewrites = Rewrites::default();
        let admits = |by: &str, bytes, now| admits(&rewrites, by, bytes, now);
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
        let rewrites = Rewrites::default();
        let admits = |bytes, now| admits(&rewrites, "mallory", bytes, now);
        assert!(admits(BURST - 1, 1000));
        assert!(admits(BURST, 0), "another shard's time");
        let paid = 1000 + i64::try_from(BURST / RATE).unwrap();
        assert!(!admits(BURST, paid - 1));
        assert!(admits(BURST, paid));
    }

    #[test]
    fn a_migration_goes_through_at_once() {
        let rewrites = Rewrites::default();
        let large = 3000 * 340;
        assert!(admits(&rewrites, "alice", large, 0));
        for _ in 0..1000 {
            assert!(admits(&rewrites, "bob", SMALL, 0));
        }
        for _ in 0..200 {
            assert!(admits(&rewrites, "carol", SMALL + 1000, 0));
        }
    }

    #[test]
    fn debts_are_forgotten_and_few() {
        let rewrites = Rewrites::default();
        for number in 0..MOST {
            assert!(admits(&rewrites, &format!("u{number}"), SMALL + 1, 0));
        }
        assert!(!admits(&rewrites, "late", SMALL + 1, 0));
        assert!(admits(&rewrites, "u0", SMALL + 1, 0));
        assert!(admits(&rewrites, "late", SMALL + 1, 1000));
        assert_eq!(rewrites.0.lock().len(), 1);
    }
}
