//! The sessions of a node, bounded in number and in what all of them remember.
//!
//! Of both nobody takes more than half of what the others leave. A session that leaves is dropped
//! when no shard is locked: it takes itself off the waiting list of each of its partitions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use palisade_auth::principal::Principal;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ledger::{Ledger, Remembered};
use super::session::{Session, SessionHandle};
use crate::shares::share;

/// Partitions that all sessions of a node remember at most; each takes about 250 bytes.
///
/// Whoever may log in may name partitions, existing or not: sessions alone would bound nothing.
const MAX_PARTITIONS: usize = 256 * 1024;
/// Shards of the cache, taken in turn by new sessions.
const SHARDS: usize = 8;
/// A session unused for longer may be evicted by anyone, one that exists for longer by a larger one
/// of its owner's.
const EVICTION_AGE: Duration = Duration::from_secs(120);
/// Tries to find an id that is not taken before a session is given up.
const ID_TRIES: usize = 16;

/// Every fetch session of this node, by id (records.md §8.4).
#[derive(Debug)]
pub struct FetchSessions {
    shards: Vec<Mutex<Shard>>,
    turn: AtomicUsize,
    looks: AtomicU64,
    remembered: Arc<Ledger>,
}

#[derive(Debug)]
struct Shard {
    slots: usize,
    sessions: HashMap<i32, Cached>,
}

#[derive(Debug)]
struct Cached {
    handle: Arc<SessionHandle>,
    created: Instant,
    used: Instant,
}

impl FetchSessions {
    /// A cache of `slots` sessions (`max.incremental.fetch.session.cache.slots`); 0 keeps none.
    pub fn new(slots: usize) -> FetchSessions {
        let count = slots.clamp(1, SHARDS);
        let shards = (0..count)
            .map(|shard| {
                let rest = usize::from(shard < slots % count);
                Mutex::new(Shard {
                    slots: slots / count + rest,
                    sessions: HashMap::new(),
                })
            })
            .collect();
        FetchSessions {
            shards,
            turn: AtomicUsize::new(0),
            looks: AtomicU64::new(0),
            remembered: Ledger::new(MAX_PARTITIONS),
        }
    }

    /// How many partitions all fetches have looked at so far; shows that incremental fetches cost
    /// what changed.
    pub fn partitions_looked_at(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// Counts partitions that a fetch looked at.
    pub(crate) fn note_looks(&self, partitions: usize) {
        self.looks.fetch_add(partitions as u64, Ordering::Relaxed);
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().sessions.len())
            .sum()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds a session of `owner` and marks it as used.
    ///
    /// Nobody else's session is found: its id is no secret worth trusting.
    pub(crate) fn find(
        &self,
        id: i32,
        owner: &Principal,
        now: Instant,
    ) -> Option<Arc<SessionHandle>> {
        let mut shard = self.shard_of(id)?.lock();
        let cached = shard.sessions.get_mut(&id)?;
        if cached.handle.owner != *owner {
            return None;
        }
        cached.used = now;
        Some(Arc::clone(&cached.handle))
    }

    /// Drops a session of `owner`; an unknown one is ignored.
    pub(crate) fn remove(&self, id: i32, owner: &Principal) {
        let Some(shard) = self.shard_of(id) else {
            return;
        };
        let removed = {
            let mut shard = shard.lock();
            let found = shard.sessions.get(&id);
            let is_owned = found.is_some_and(|cached| cached.handle.owner == *owner);
            is_owned.then(|| shard.sessions.remove(&id))
        };
        drop(removed);
    }

    /// Keeps a session; gives it back when there is no place for it.
    ///
    /// `now` is compared with the instants of earlier calls to choose what is evicted.
    pub(crate) fn insert(
        &self,
        session: Session,
        owner: Principal,
        now: Instant,
    ) -> Result<Arc<SessionHandle>, Session> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let Some(shard) = self.shards.get(turn) else {
            return Err(session);
        };
        let partitions = session.list.capacity();
        let Some(remembered) = self.remember(&owner, partitions, now) else {
            return Err(session);
        };
        let mut shard = shard.lock();
        let Some(evicted) = shard.make_room(&owner, partitions, now) else {
            return Err(session);
        };
        let inserted = match shard.free_id(turn, self.shards.len()) {
            Some(id) => {
                let handle = Arc::new(SessionHandle::new(id, owner, session, remembered));
                let cached = Cached {
                    handle: Arc::clone(&handle),
                    created: now,
                    used: now,
                };
                shard.sessions.insert(id, cached);
                Ok(handle)
            }
            None => Err(session),
        };
        drop(shard);
        drop(evicted);
        inserted
    }

    /// Counts the partitions of a new session, in place of sessions that nobody uses if need be.
    fn remember(&self, owner: &Principal, partitions: usize, now: Instant) -> Option<Remembered> {
        self.remembered.take(owner, partitions).or_else(|| {
            // What cannot fit throws nobody out.
            if partitions > self.remembered.largest_share() {
                return None;
            }
            for shard in &self.shards {
                let idle: Vec<Cached> = {
                    let mut shard = shard.lock();
                    let idle = shard.sessions.extract_if(|_, cached| cached.is_idle(now));
                    idle.map(|(_, cached)| cached).collect()
                };
                drop(idle);
            }
            self.remembered.take(owner, partitions)
        })
    }

    fn shard_of(&self, id: i32) -> Option<&Mutex<Shard>> {
        let id = usize::try_from(id).ok()?;
        self.shards.get(id % self.shards.len())
    }
}

impl Cached {
    /// Unused for so long that anyone may evict it.
    fn is_idle(&self, now: Instant) -> bool {
        now.duration_since(self.used) > EVICTION_AGE
    }

    /// Old enough to make room for one with more partitions, and smaller.
    fn is_smaller(&self, partitions: usize, now: Instant) -> bool {
        now.duration_since(self.created) > EVICTION_AGE && self.handle.partitions() < partitions
    }
}

impl Shard {
    /// Makes room for a session, in place of one that is handed out if need be; `None` when there
    /// is none to be had.
    fn make_room(
        &mut self,
        owner: &Principal,
        partitions: usize,
        now: Instant,
    ) -> Option<Option<Cached>> {
        let is_own = |cached: &Cached| cached.handle.owner == *owner;
        let own = self.sessions.values().filter(|one| is_own(one)).count();
        let others = self.sessions.values();
        let others = others.filter(|one| !is_own(one) && !one.is_idle(now));
        // One is nobody's too many.
        let is_within_share = own < share(self.slots, others.count()).max(1);
        if is_within_share && self.sessions.len() < self.slots {
            return Some(None);
        }
        let may_evict = |cached: &Cached| is_within_share || is_own(cached);
        let idle = self
            .sessions
            .iter()
            .filter(|(_, cached)| may_evict(cached) && cached.is_idle(now))
            .min_by_key(|(_, cached)| cached.used);
        let victim = idle.or_else(|| {
            self.sessions
                .iter()
                .filter(|(_, cached)| is_own(cached) && cached.is_smaller(partitions, now))
                .min_by_key(|(id, cached)| (cached.handle.partitions(), **id))
        });
        let victim = *victim?.0;
        Some(self.sessions.remove(&victim))
    }

    /// A random id above 0 that belongs to this shard and is not taken.
    fn free_id(&self, shard: usize, shards: usize) -> Option<i32> {
        let shards = i32::try_from(shards).ok()?;
        let shard = i32::try_from(shard).ok()?;
        (0..ID_TRIES)
            .filter_map(|_| random_id())
            .map(|random| random - random % shards + shard)
            .find(|id| *id > 0 && !self.sessions.contains_key(id))
    }
}

/// 31 random bits, low enough to be rounded to a shard without overflow.
fn random_id() -> Option<i32> {
    let mut bytes = [0; 4];
    openssl::rand::rand_bytes(&mut bytes).ok()?;
    Some(i32::from_be_bytes(bytes) & (i32::MAX >> 1))
}

#[cfg(test)]
mod tests;
