//! Whose parts of something bounded are, so that nobody has so much of it that others get none.

use std::collections::HashMap;

use palisade_auth::principal::Principal;
use parking_lot::Mutex;

/// What one principal may have of something that there is `most` of, while others have so much:
/// half of what they leave. So there is always something left for who comes next, whatever anybody
/// asks for.
pub(crate) fn share(most: usize, others: usize) -> usize {
    most.saturating_sub(others).div_ceil(2)
}

/// How much there is, and who has it.
#[derive(Debug, Default)]
pub(crate) struct Shares(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    nobodys: usize,
    /// None with nothing.
    by_owner: HashMap<Principal, usize>,
}

/// What a principal has, and what there is beside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    pub(crate) owned: usize,
    /// Others have it, or nobody.
    pub(crate) others: usize,
    /// Of that, what nobody has.
    pub(crate) nobodys: usize,
}

impl Shares {
    /// Counts `after` where `before` was counted for a principal; `None` is nobody.
    ///
    /// # Panics
    /// Where less than `before` was counted for it.
    pub(crate) fn set(&self, owner: Option<&Principal>, before: usize, after: usize) -> Standing {
        let mut taken = self.0.lock();
        let owned = match owner {
            Some(owner) => taken.by_owner.get(owner).copied().unwrap_or(0),
            None => taken.nobodys,
        };
        assert!(owned >= before, "{before} of {owned} given back");
        let others = taken.all - owned;
        let owned = owned - before + after;
        taken.all = others + owned;
        match owner {
            None => taken.nobodys = owned,
            Some(owner) if owned == 0 => drop(taken.by_owner.remove(owner)),
            Some(owner) => match taken.by_owner.get_mut(owner) {
                Some(counted) => *counted = owned,
                None => drop(taken.by_owner.insert(owner.clone(), owned)),
            },
        }
        Standing {
            owned,
            others,
            nobodys: owner.map_or(0, |_| taken.nobodys),
        }
    }

    /// Who has most, and how much.
    pub(crate) fn largest(&self) -> Option<(Principal, usize)> {
        let taken = self.0.lock();
        let largest = taken.by_owner.iter().max_by_key(|(_, owned)| **owned)?;
        Some((largest.0.clone(), *largest.1))
    }

    /// How much there is.
    #[cfg(test)]
    pub(crate) fn all(&self) -> usize {
        self.0.lock().all
    }

    /// What everybody has.
    #[cfg(test)]
    pub(crate) fn by_owner(&self) -> HashMap<Principal, usize> {
        self.0.lock().by_owner.clone()
    }
}
