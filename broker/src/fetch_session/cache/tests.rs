use palisade_auth::acl::AclCache;
use palisade_protocol::Str;
use palisade_protocol::types::{Offset, PartitionIndex};

use super::*;
use crate::fetch_session::list::{FetchList, TopicKey, Wanted};

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
    cache.remembered = Ledger::new(20);
    let first = cache.insert(session(6), alice(), at(0)).unwrap();
    let second = cache.insert(session(4), alice(), at(0)).unwrap();
    assert!(cache.insert(session(1), alice(), at(0)).is_err());
    let mallory = Principal::user("mallory");
    assert!(cache.insert(session(6), mallory.clone(), at(0)).is_err());
    let hers = cache.insert(session(5), mallory.clone(), at(0)).unwrap();
    assert_eq!(cache.remembered.taken(), 15);
    cache.remove(hers.id, &mallory);
    drop(hers);

    // One that grows past the bound has to go.
    assert!(second.set_partitions(3));
    assert!(!second.set_partitions(5));
    cache.remove(second.id, &alice());
    drop(second);
    assert_eq!(cache.remembered.taken(), 6);

    // Those that nobody uses make room, but not for what will never fit.
    assert!(cache.insert(session(5), alice(), at(120)).is_err());
    assert!(cache.insert(session(11), alice(), at(121)).is_err());
    assert_eq!(cache.len(), 1);
    drop(first);
    cache.insert(session(10), alice(), at(121)).unwrap();
    assert_eq!(cache.len(), 1);
}

#[test]
fn nobody_takes_all_slots() {
    let at = times();
    let cache = FetchSessions::new(8 * SHARDS);
    let many = |name: &'static str, seconds| {
        let sessions =
            (0..100).map(|_| cache.insert(session(1), Principal::user(name), at(seconds)));
        sessions.filter(Result::is_ok).count()
    };
    assert_eq!(many("mallory", 0), 4 * SHARDS);
    assert_eq!(many("eve", 0), 2 * SHARDS);
    assert_eq!(many("alice", 0), SHARDS);
    assert_eq!(many("mallory", 60), 0);
    // What is not used makes room, within a share.
    assert_eq!(many("alice", 121), 4 * SHARDS);
}

#[test]
fn a_larger_session_replaces_an_older_one_of_its_owner_only() {
    let at = times();
    let cache = FetchSessions::new(1);
    let first = cache.insert(session(1), alice(), at(0)).unwrap();
    cache.find(first.id, &alice(), at(121)).unwrap();
    let mallory = Principal::user("mallory");
    assert!(cache.insert(session(9), mallory, at(121)).is_err());
    cache.insert(session(2), alice(), at(121)).unwrap();
    assert!(cache.find(first.id, &alice(), at(121)).is_none());
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
