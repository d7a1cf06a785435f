//! The sessions of a node, bounded in number and in what all of them remember.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use palisade_auth::principal::Principal;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::session::{Remembered, Session, SessionHandle};

/// Partitions that all sessions of a node remember at most; each takes about 250 bytes.
///
/// Whoever may log in may name partitions, existing or not: sessions alone would bound nothing.
const MAX_PARTITIONS: usize = 256 * 1024;
/// Shards of the cache, taken in turn by new sessions.
const SHARDS: usize = 8;
/// A session unused for longer may be evicted by anyone; one younger is safe from others.
const EVICTION_AGE: Duration = Duration::from_secs(120);
/// Tries to find an id that is not taken before a session is given up.
const ID_TRIES: usize = 16;

/// Every fetch session of this node, by id (records.md §8.4).
#[derive(Debug)]
pub struct FetchSessions {
    shards: Vec<Mutex<Shard>>,
    turn: AtomicUsize,
    looks: AtomicU64,
    remembered: Arc<AtomicUsize>,
    max_partitions: usize,
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
            remembered: Arc::default(),
            max_partitions: MAX_PARTITIONS,
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
        let mut shard = shard.lock();
        let owned = shard
            .sessions
            .get(&id)
            .is_some_and(|cached| cached.handle.owner == *owner);
        if owned {
            shard.sessions.remove(&id);
        }
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
        let Some(remembered) = self.remember(partitions, now) else {
            return Err(session);
        };
        let mut shard = shard.lock();
        if !shard.make_room(partitions, now) {
            return Err(session);
        }
        let Some(id) = shard.free_id(turn, self.shards.len()) else {
            return Err(session);
        };
        let handle = Arc::new(SessionHandle::new(id, owner, session, remembered));
        let cached = Cached {
            handle: Arc::clone(&handle),
            created: now,
            used: now,
        };
        shard.sessions.insert(id, cached);
        Ok(handle)
    }

    /// Notes how many partitions a session has by now; false when all of them together are too
    /// many, and it has to end.
    pub(crate) fn note_partitions(&self, handle: &SessionHandle, partitions: usize) -> bool {
        handle.set_partitions(partitions);
        self.remembered.load(Ordering::Relaxed) <= self.max_partitions
    }

    /// Counts the partitions of a new session, in place of sessions that nobody uses if need be.
    fn remember(&self, partitions: usize, now: Instant) -> Option<Remembered> {
        let count = || Remembered::within(&self.remembered, partitions, self.max_partitions);
        count().or_else(|| {
            // What cannot fit throws nobody out.
            if partitions > self.max_partitions {
                return None;
            }
            for shard in &self.shards {
                let mut shard = shard.lock();
                shard.sessions.retain(|_, cached| !cached.is_idle(now));
            }
            count()
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
}

impl Shard {
    /// Makes room for a session of `partitions`; false when every other is worth more.
    fn make_room(&mut self, partitions: usize, now: Instant) -> bool {
        if self.sessions.len() < self.slots {
            return true;
        }
        let idle = self
            .sessions
            .iter()
            .min_by_key(|(_, cached)| cached.used)
            .filter(|(_, cached)| cached.is_idle(now))
            .map(|(id, _)| *id);
        let victim = idle.or_else(|| {
            self.sessions
                .iter()
                .filter(|(_, cached)| now.duration_since(cached.created) > EVICTION_AGE)
                .min_by_key(|(id, cached)| (cached.handle.partitions(), **id))
                .filter(|(_, cached)| cached.handle.partitions() < partitions)
                .map(|(id, _)| *id)
        });
        match victim {
            Some(id) => {
                self.sessions.remove(&id);
                self.slots > 0
            }
            None => false,
        }
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
mod tests {
    use palisade_auth::acl::AclCache;
    use palisade_protocol::Str;
    use palisade_protocol::types::{Offset, PartitionIndex};

    use super::super::list::{FetchList, TopicKey, Wanted};
    use super::*;

    fn session(partitions: i32) -> Session {
        let mut list = FetchList::new();
        for index in 0..partitions {
            list.upsert(Wanted {
                topic: TopicKey::Name(Str::from("t")),
                index: PartitionIndex::new(index),
                fetch_offset: Offset::ZERO,
                max_bytes: 1,
                current_leader_epoch: None,
                last_fetched_epoch: None,
            });
        }
        Session::new(list, false, Arc::new(AclCache::default()))
    }

    fn alice() -> Principal {
        Principal::user("alice")
    }

    /// `seconds` after some first instant.
    fn times() -> impl Fn(u64) -> Instant {
        let first = Instant::now();
        move |seconds| first + Duration::from_secs(seconds)
    }

    #[test]
    fn young_sessions_are_not_evicted() {
        let at = times();
        let cache = FetchSessions::new(1);
        let first = cache.insert(session(1), alice(), at(0)).unwrap();
        assert!(cache.insert(session(9), alice(), at(120)).is_err());
        cache.find(first.id, &alice(), at(121)).unwrap();
        assert!(cache.insert(session(1), alice(), at(121)).is_err());
        let larger = cache.insert(session(2), alice(), at(121)).unwrap();
        assert!(cache.find(first.id, &alice(), at(122)).is_none());
        assert!(cache.find(larger.id, &alice(), at(122)).is_some());
    }

    #[test]
    fn an_idle_session_makes_room() {
        let at = times();
        let cache = FetchSessions::new(1);
        cache.insert(session(9), alice(), at(0)).unwrap();
        cache.insert(session(1), alice(), at(121)).unwrap();
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_session_belongs_to_its_principal() {
        let at = times();
        let cache = FetchSessions::new(1000);
        let handle = cache.insert(session(1), alice(), at(0)).unwrap();
        assert!(handle.id > 0);
        let mallory = Principal::user("mallory");
        assert!(cache.find(handle.id, &mallory, at(0)).is_none());
        cache.remove(handle.id, &mallory);
        assert_eq!(cache.len(), 1);
        cache.remove(handle.id, &alice());
        assert!(cache.is_empty());
    }

    #[test]
    fn all_sessions_share_a_bound_of_partitions() {
        let at = times();
        let mut cache = FetchSessions::new(1000);
        cache.max_partitions = 10;
        let first = cache.insert(session(6), alice(), at(0)).unwrap();
        let second = cache.insert(session(4), alice(), at(0)).unwrap();
        assert!(cache.insert(session(1), alice(), at(0)).is_err());
        assert_eq!(cache.remembered.load(Ordering::Relaxed), 10);

        // One that grows past the bound has to go.
        assert!(cache.note_partitions(&second, 3));
        assert!(!cache.note_partitions(&second, 5));
        cache.remove(second.id, &alice());
        drop(second);
        assert_eq!(cache.remembered.load(Ordering::Relaxed), 6);

        // Those that nobody uses make room, but not for what will never fit.
        assert!(cache.insert(session(5), alice(), at(120)).is_err());
        assert!(cache.insert(session(11), alice(), at(121)).is_err());
        assert_eq!(cache.len(), 1);
        drop(first);
        cache.insert(session(10), alice(), at(121)).unwrap();
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn no_slots_means_no_sessions() {
        let none = FetchSessions::new(0);
        assert!(none.insert(session(1), alice(), times()(0)).is_err());
    }

    #[test]
    fn epochs_advance_and_wrap() {
        let acls = Arc::new(AclCache::default());
        let mut session = session(1);
        assert_eq!(
            session.begin(2, false, &acls),
            Err(palisade_protocol::ErrorCode::INVALID_FETCH_SESSION_EPOCH)
        );
        assert_eq!(
            session.begin(1, true, &acls),
            Err(palisade_protocol::ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR)
        );
        session.begin(1, false, &acls).unwrap();
        session.begin(2, false, &acls).unwrap();
    }
}
