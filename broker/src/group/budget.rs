//! What members keep in this node's memory: counted where it is kept, bounded per group and in all.
//!
//! Whoever may read one group may send JoinGroup after JoinGroup with as much metadata as a frame
//! takes, and all of it stays until sessions run out. So members live in [`Kept`], which weighs
//! what comes, changes and goes, and tells the node's [`Budget`]; dropping a group, or a whole
//! shard, gives its bytes back. What is asked for is compared with the budget beforehand; what the
//! log holds is taken in any case.
//!
//! Of the limit one group gets a quarter, so that its members cannot keep other groups' out. The
//! last eighth of both is for members that are there already: after an assignment consumers name
//! in their metadata what they own, and must not fail for that.
//!
//! Not counted: assignments that this node makes, which are bounded by the partitions there are,
//! and committed offsets.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use palisade_protocol::Str;

use super::error::GroupError;

/// Of the limit, what one group may hold.
const GROUP_SHARE: usize = 4;
/// Of a limit, what only members that are there already get.
const GROWTH_SHARE: usize = 8;
/// What an entry costs beside its bytes: its fields, its place in the map, its timer.
const ENTRY: usize = 512;
/// What each text or byte string in it costs beside its bytes.
pub(super) const PART: usize = 96;

/// A value with the bytes that it keeps.
pub(crate) trait Weigh {
    /// How many these are, its key and its place not counted.
    fn weigh(&self) -> usize;
}

impl Weigh for () {
    fn weigh(&self) -> usize {
        0
    }
}

/// Weight of a text or byte string.
pub(super) fn part(bytes: &[u8]) -> usize {
    bytes.len() + PART
}

/// Weight of one that may be missing.
pub(super) fn optional(text: Option<&Str>) -> usize {
    text.map_or(0, |text| part(text.as_bytes()))
}

/// Weight of a member by the length of its id.
pub(super) fn entry(id: &str, value: usize) -> usize {
    id.len() + ENTRY + value
}

/// The bytes of all members of a node, and how many there may be.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// Nothing is held; `limit` in bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
        })
    }

    /// Bytes held.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Sets bytes aside for a member of a group that holds `group` so far.
    ///
    /// `before`: what the member holds, none for one that is to come. `after`: what it would hold.
    ///
    /// # Errors
    /// `MembersFull` where it would hold more than before, and the group or the node too much.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        group: usize,
        before: Option<usize>,
        after: usize,
    ) -> Result<Reserved, GroupError> {
        let growth = after.saturating_sub(before.unwrap_or(0));
        let may_hold = |limit: usize| match before {
            Some(_) => limit,
            None => limit - limit / GROWTH_SHARE,
        };
        let full = |limit| Err(GroupError::MembersFull { limit });
        let group_limit = self.limit / GROUP_SHARE;
        if growth > 0 && group.saturating_add(growth) > may_hold(group_limit) {
            return full(group_limit);
        }
        let used = self.used.fetch_add(growth, Ordering::Relaxed);
        let reserved = Reserved {
            budget: Arc::clone(self),
            bytes: growth,
        };
        if growth > 0 && used.saturating_add(growth) > may_hold(self.limit) {
            return full(self.limit);
        }
        Ok(reserved)
    }

    fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "{bytes} bytes of {before} given back");
    }
}

/// Bytes set aside until those that they stand for are counted; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// Values by id, with the bytes that they keep. They change through it only.
#[derive(Debug)]
pub(crate) struct Kept<V> {
    values: BTreeMap<Str, V>,
    account: Account,
}

/// Bytes, and the budget that hears of them once there is one.
#[derive(Debug, Default)]
struct Account {
    bytes: usize,
    budget: Option<Arc<Budget>>,
}

impl Account {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        if let Some(budget) = &self.budget {
            budget.take(bytes);
        }
    }

    fn subtract(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if let Some(budget) = &self.budget {
            budget.give_back(bytes);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give_back(self.bytes);
        }
    }
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            account: Account::default(),
        }
    }
}

impl<V> Deref for Kept<V> {
    type Target = BTreeMap<Str, V>;

    fn deref(&self) -> &Self::Target {
        &self.values
    }
}

impl<V: Weigh> Kept<V> {
    /// Bytes of all of them.
    pub(crate) fn held(&self) -> usize {
        self.account.bytes
    }

    /// Has a node's budget hear of them.
    pub(crate) fn attach(&mut self, budget: &Arc<Budget>) {
        let bytes = self.account.bytes;
        budget.take(bytes);
        self.account = Account {
            bytes,
            budget: Some(Arc::clone(budget)),
        };
    }

    /// Puts one in; gives the one that was there.
    pub(crate) fn insert(&mut self, id: Str, value: V) -> Option<V> {
        let before = self.remove(&id);
        self.account.add(entry(&id, value.weigh()));
        self.values.insert(id, value);
        before
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, id: &str) -> Option<V> {
        let value = self.values.remove(id)?;
        self.account.subtract(entry(id, value.weigh()));
        Some(value)
    }

    /// Changes one.
    pub(crate) fn change<T>(&mut self, id: &str, change: impl FnOnce(&mut V) -> T) -> Option<T> {
        let value = self.values.get_mut(id)?;
        self.account.subtract(value.weigh());
        let outcome = change(value);
        self.account.add(value.weigh());
        Some(outcome)
    }

    /// Changes all of them.
    pub(crate) fn change_all(&mut self, mut change: impl FnMut(&Str, &mut V)) {
        for (id, value) in &mut self.values {
            self.account.subtract(value.weigh());
            change(id, value);
            self.account.add(value.weigh());
        }
    }

    /// Bytes of all of them, weighed anew.
    #[cfg(test)]
    pub(crate) fn weighed_anew(&self) -> usize {
        let all = self.values.iter();
        all.map(|(id, value)| entry(id, value.weigh())).sum()
    }
}

#[cfg(test)]
mod tests;
