//! How many partitions the sessions remember, and whose they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use palisade_auth::principal::Principal;

use crate::shares::{Shares, share};

/// The partitions that all sessions remember, by principal.
#[derive(Debug)]
pub(super) struct Ledger {
    most: usize,
    taken: Shares,
}

impl Ledger {
    /// A ledger of at most so many partitions.
    pub(super) fn new(most: usize) -> Arc<Ledger> {
        Arc::new(Ledger {
            most,
            taken: Shares::default(),
        })
    }

    /// What nobody can have more of.
    pub(super) fn largest_share(&self) -> usize {
        share(self.most, 0)
    }

    /// Counts the partitions of a new session, if they are within its owner's share.
    pub(super) fn take(
        self: &Arc<Self>,
        owner: &Principal,
        partitions: usize,
    ) -> Option<Remembered> {
        let remembered = Remembered {
            ledger: Arc::clone(self),
            owner: owner.clone(),
            own: AtomicUsize::new(0),
        };
        remembered.set(partitions).then_some(remembered)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.all()
    }
}

/// The partitions of one session, as part of those of all.
#[derive(Debug)]
pub(super) struct Remembered {
    ledger: Arc<Ledger>,
    owner: Principal,
    own: AtomicUsize,
}

impl Remembered {
    /// How many they are.
    pub(super) fn partitions(&self) -> usize {
        self.own.load(Ordering::Relaxed)
    }

    /// Counts so many from now on; false when they are more than the owner's share allows.
    pub(super) fn set(&self, partitions: usize) -> bool {
        // Nearly always: this is asked of every fetch in a session.
        if self.partitions() == partitions {
            return true;
        }
        // Requests of one session come one after the other: nobody else sets it meanwhile.
        let before = self.own.swap(partitions, Ordering::Relaxed);
        let taken = &self.ledger.taken;
        let standing = taken.set(Some(&self.owner), before, partitions);
        partitions <= before || standing.owned <= share(self.ledger.most, standing.others)
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_half_of_what_others_leave() {
        let ledger = Ledger::new(100);
        let [mallory, eve, alice] = ["mallory", "eve", "alice"].map(Principal::user);
        assert!(ledger.take(&mallory, 51).is_none());
        let large = ledger.take(&mallory, 30).unwrap();
        let small = ledger.take(&mallory, 20).unwrap();
        assert!(ledger.take(&mallory, 1).is_none());
        let hers = ledger.take(&eve, 25).unwrap();
        assert!(ledger.take(&eve, 1).is_none() && ledger.take(&alice, 14).is_none());
        drop(ledger.take(&alice, 13).unwrap());
        assert_eq!(ledger.taken(), 75);

        // What shrinks is never too much, what grows is judged like what is new.
        assert!(large.set(29) && large.set(29) && !large.set(31));
        drop(small);
        assert!(large.set(37) && !large.set(39));
        drop((large, hers));
        assert_eq!(ledger.taken(), 0);
        assert!(ledger.taken.by_owner().is_empty());
    }
}
