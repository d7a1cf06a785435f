//! How many partitions the sessions remember, and whose they are.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use palisade_auth::principal::Principal;
use parking_lot::Mutex;

/// What one principal may have of something that there is `most` of, while others have so much:
/// half of what they leave. So there is always something left for who comes next, whatever anybody
/// asks for.
pub(super) fn share(most: usize, others: usize) -> usize {
    most.saturating_sub(others).div_ceil(2)
}

/// The partitions that all sessions remember, by principal.
#[derive(Debug)]
pub(super) struct Ledger {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Nobody with nothing.
    by_owner: HashMap<Principal, usize>,
}

impl Ledger {
    /// A ledger of at most so many partitions.
    pub(super) fn new(most: usize) -> Arc<Ledger> {
        Arc::new(Ledger {
            most,
            taken: Mutex::default(),
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
        self.taken.lock().all
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
        let mut taken = self.ledger.taken.lock();
        let before = self.own.swap(partitions, Ordering::Relaxed);
        let owned = taken.by_owner.get(&self.owner).copied().unwrap_or(0);
        let others = taken.all - owned;
        let owned = owned - before + partitions;
        taken.all = others + owned;
        match owned {
            0 => taken.by_owner.remove(&self.owner),
            _ => taken.by_owner.insert(self.owner.clone(), owned),
        };
        partitions <= before || owned <= share(self.ledger.most, others)
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
        assert!(ledger.taken.lock().by_owner.is_empty());
    }
}
