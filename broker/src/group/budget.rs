//! What members keep in this node's memory: counted where it is kept, and for who brought it.
//!
//! Whoever may read one group may send JoinGroup after JoinGroup with as much metadata as a frame
//! takes, and all of it stays until sessions run out. So members live in [`Kept`], which weighs
//! what comes, changes and goes, and tells the node's [`Budget`]; dropping a group, or a whole
//! shard, gives its bytes back. What is asked for is compared with the budget beforehand; what the
//! log holds is taken in any case.
//!
//! Of the limit one group gets a quarter, so that its members cannot keep other groups' out, and
//! one principal half of what all others leave, so that his cannot, in however many groups they
//! are.
//!
//! What was read from the log is nobody's until its member is heard, and then may turn out to be
//! anybody's. So whoever wants more is judged as if all of it were his: a restart gives nobody a
//! second share. Who would fit in without it is told to come again, since within a session timeout
//! each member has spoken or is gone. An eighth of what he would get if it were others' he gets at
//! once: members that somebody lets be silent for half an hour must not keep all others out.
//!
//! After an assignment consumers name in their metadata what they own, and must not fail for that.
//! So the last eighth of a group's quarter and of a principal's share is for members that are
//! there already: his own newcomers leave it to them. Others may take half of what is left
//! whatever he holds, so that a share can become smaller than what its owner has; therefore a
//! member's first bytes ([`ROOM`]) are counted from the beginning, said or not, and whoever says
//! no more than those is never refused; of a classic member's, half are for its assignment. An
//! eighth of the limit for growth of all would be had by whoever grows first: nothing tells a
//! member that has just come from one that was there.
//!
//! Not counted: assignments that this node makes, which are bounded by the partitions there are,
//! and committed offsets.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use palisade_auth::principal::Principal;
use palisade_protocol::Str;

use super::error::GroupError;
use super::rewrites::Rewrites;
use crate::shares::{Shares, share};

/// Of the limit, what one group may hold.
const GROUP_SHARE: usize = 4;
/// Of a group's or a principal's part, what only members that are there already get.
const GROWTH_SHARE: usize = 8;
/// Of what a principal would get if what is nobody's were others', what he gets at once.
const UNHEARD_SHARE: usize = 8;
/// What an entry costs beside its bytes: its fields, its place in the map, its timer.
const ENTRY: usize = 512;
/// What each text or byte string in it costs beside its bytes.
pub(super) const PART: usize = 96;
/// What a member is counted with at least: it may say that much without growing.
pub(super) const ROOM: usize = 2048;

/// Bytes, and whose they are; `None` is nobody.
pub(super) type Part = (Option<Principal>, usize);

/// A value with the bytes that it keeps.
pub(crate) trait Weigh {
    /// How many these are by who brought them. The key and the place come to the first.
    fn parts(&self) -> [Part; 2];

    /// All of them, without the key and the place.
    fn weigh(&self) -> usize {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }
}

/// A place that somebody asked for, with nothing in it yet.
impl Weigh for Principal {
    fn parts(&self) -> [Part; 2] {
        [(Some(self.clone()), 0), (None, 0)]
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

/// What a request makes a member keep, beyond what it keeps already.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Growth {
    /// Whose the member is from then on.
    pub(crate) owner: Principal,
    /// Bytes that the group holds more.
    pub(crate) bytes: usize,
    /// Bytes that the owner holds more: with a member of another's that he makes grow he takes
    /// over all of it.
    pub(crate) owed: usize,
    /// The member is to come.
    pub(crate) is_new: bool,
}

impl Growth {
    /// From what there is, with whose it is, to what there would be. Who makes nothing grow takes
    /// nothing over, unless it is nobody's.
    pub(super) fn of(
        before: Option<(usize, Option<&Principal>)>,
        after: usize,
        by: &Principal,
    ) -> Self {
        let (before, owner, is_new) = match before {
            Some((before, owner)) => (before, owner, false),
            None => (0, None, true),
        };
        let grows = after > before;
        let own = if owner == Some(by) { before } else { 0 };
        Self {
            owner: owner.filter(|_| !grows).unwrap_or(by).clone(),
            bytes: after.saturating_sub(before),
            owed: if grows { after - own } else { 0 },
            is_new,
        }
    }
}

/// The bytes of all members of a node, whose they are, and how many there may be.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    shares: Shares,
    /// What those cost who turn groups from one kind into the other.
    rewrites: Rewrites,
}

impl Budget {
    /// Nothing is held; `limit` in bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            shares: Shares::default(),
            rewrites: Rewrites::default(),
        })
    }

    /// What conversions of groups, and members written anew, cost whom.
    pub(super) fn rewrites(&self) -> &Rewrites {
        &self.rewrites
    }

    /// Bytes held, and whose.
    #[cfg(test)]
    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Bytes held.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.shares.all()
    }

    /// The principal whose members hold most, and how many bytes these are.
    pub(super) fn largest(&self) -> Option<(Principal, usize)> {
        self.shares.largest()
    }

    /// Sets bytes aside for a member of a group that holds `group` so far; none where it does not
    /// grow.
    ///
    /// # Errors
    /// `MembersFull` where the group or the owner would hold too much; `MembersUnheard` where the
    /// owner might, as long as some bytes are nobody's.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        group: usize,
        growth: &Growth,
    ) -> Result<Option<Reserved>, GroupError> {
        if growth.owed == 0 {
            return Ok(None);
        }
        let may_hold = |limit: usize| match growth.is_new {
            true => limit - limit / GROWTH_SHARE,
            false => limit,
        };
        let full = |limit| Err(GroupError::MembersFull { limit });
        let group_limit = self.limit / GROUP_SHARE;
        if growth.bytes > 0 && group.saturating_add(growth.bytes) > may_hold(group_limit) {
            return full(group_limit);
        }
        let standing = self.shares.set(Some(&growth.owner), 0, growth.owed);
        let reserved = Reserved {
            budget: Arc::clone(self),
            part: (Some(growth.owner.clone()), growth.owed),
        };
        let share_beside = |others| share(self.limit, others);
        let share = share_beside(standing.others - standing.nobodys);
        let as_his = may_hold(share).saturating_sub(standing.nobodys);
        let at_once = may_hold(share_beside(standing.others)) / UNHEARD_SHARE;
        match standing.owned {
            owned if owned > may_hold(share) => full(share),
            owned if owned > as_his.max(at_once) => Err(GroupError::MembersUnheard),
            _ => Ok(Some(reserved)),
        }
    }

    /// Counts one part where another was.
    fn replace(&self, before: &Part, after: &Part) {
        if before.0 == after.0 {
            if before.1 != after.1 {
                self.shares.set(before.0.as_ref(), before.1, after.1);
            }
            return;
        }
        self.shares.set(before.0.as_ref(), before.1, 0);
        self.shares.set(after.0.as_ref(), 0, after.1);
    }
}

/// Bytes set aside until those that they stand for are counted; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: Arc<Budget>,
    part: Part,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.replace(&self.part, &(None, 0));
    }
}

/// Values by id, with the bytes that they keep. They change through it only.
#[derive(Debug)]
pub(crate) struct Kept<V: Weigh> {
    values: BTreeMap<Str, V>,
    bytes: usize,
    /// It hears of them once there is one.
    budget: Option<Arc<Budget>>,
}

impl<V: Weigh> Default for Kept<V> {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            bytes: 0,
            budget: None,
        }
    }
}

impl<V: Weigh> Deref for Kept<V> {
    type Target = BTreeMap<Str, V>;

    fn deref(&self) -> &Self::Target {
        &self.values
    }
}

impl<V: Weigh> Drop for Kept<V> {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            for (id, value) in &self.values {
                recount(Some(budget), parts(id, value), NOTHING);
            }
        }
    }
}

const NOTHING: [Part; 2] = [(None, 0), (None, 0)];

/// What is counted for a value and its key.
fn parts<V: Weigh>(id: &str, value: &V) -> [Part; 2] {
    let [(owner, own), given] = value.parts();
    [(owner, entry(id, own)), given]
}

/// Tells a budget; gives how many bytes there were and are.
fn recount(budget: Option<&Arc<Budget>>, before: [Part; 2], after: [Part; 2]) -> (usize, usize) {
    let (mut was, mut is) = (0, 0);
    for (before, after) in before.iter().zip(&after) {
        was += before.1;
        is += after.1;
        if let Some(budget) = budget {
            budget.replace(before, after);
        }
    }
    (was, is)
}

impl<V: Weigh> Kept<V> {
    /// Bytes of all of them.
    pub(crate) fn held(&self) -> usize {
        self.bytes
    }

    /// Has a node's budget hear of them, which had none before.
    pub(crate) fn attach(&mut self, budget: &Arc<Budget>) {
        for (id, value) in &self.values {
            recount(Some(budget), NOTHING, parts(id, value));
        }
        let before = self.budget.replace(Arc::clone(budget));
        assert!(before.is_none(), "counted twice");
    }

    fn count(&mut self, before: [Part; 2], after: [Part; 2]) {
        let (was, is) = recount(self.budget.as_ref(), before, after);
        self.bytes = self.bytes - was + is;
    }

    /// Puts one in; gives the one that was there.
    pub(crate) fn insert(&mut self, id: Str, value: V) -> Option<V> {
        let after = parts(&id, &value);
        let old = self.values.insert(id.clone(), value);
        let before = old.as_ref().map_or(NOTHING, |old| parts(&id, old));
        self.count(before, after);
        old
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, id: &str) -> Option<V> {
        let value = self.values.remove(id)?;
        self.count(parts(id, &value), NOTHING);
        Some(value)
    }

    /// Changes one.
    pub(crate) fn change<T>(&mut self, id: &str, change: impl FnOnce(&mut V) -> T) -> Option<T> {
        let value = self.values.get_mut(id)?;
        let before = parts(id, value);
        let outcome = change(value);
        let after = parts(id, value);
        self.count(before, after);
        Some(outcome)
    }

    /// Changes all of them.
    pub(crate) fn change_all(&mut self, mut change: impl FnMut(&Str, &mut V)) {
        let mut bytes = 0;
        for (id, value) in &mut self.values {
            let before = parts(id, value);
            change(id, value);
            bytes += recount(self.budget.as_ref(), before, parts(id, value)).1;
        }
        self.bytes = bytes;
    }

    /// All that is counted of them, weighed anew.
    #[cfg(test)]
    pub(crate) fn weighed_anew(&self) -> Vec<Part> {
        let all = self.values.iter();
        all.flat_map(|(id, value)| parts(id, value)).collect()
    }
}

#[cfg(test)]
mod tests;
