//! One group, everything that was answered, and every timer that runs.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use palisade_auth::principal::Principal;
use palisade_protocol::types::TimestampMs;
use palisade_protocol::{ErrorCode, Str, Uuid};

use crate::group::classic::{
    ClassicGroup, Effects, Identity, JoinAsk, Joined, Reply, SyncAsk, Token,
};
use crate::group::config::GroupConfig;
use crate::group::decision::{TimerChange, TimerKey};
use crate::group::error::GroupError;
use crate::group::record::{GroupMetadataValue, GroupRecord};

pub(super) const NOW: TimestampMs = TimestampMs::new(1_000_000);

pub(super) struct Scene {
    pub(super) group: ClassicGroup,
    pub(super) config: GroupConfig,
    pub(super) timers: HashMap<TimerKey, Duration>,
    pub(super) stored: Vec<GroupRecord>,
    /// What becomes of the next record.
    pub(super) store: Result<(), GroupError>,
    replies: HashMap<Token, Reply>,
    next: u64,
}

/// What came of a request: nothing yet, an answer, a code with the id beside it, or silence.
#[derive(Debug, PartialEq)]
pub(super) enum Fate {
    Parked,
    Joined(Joined),
    Refused(ErrorCode, Str),
    Synced(Bytes),
    Failed(ErrorCode),
    Forgotten,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            group: ClassicGroup::new("g".into()),
            config: GroupConfig::defaults(),
            timers: HashMap::new(),
            stored: Vec::new(),
            store: Ok(()),
            replies: HashMap::new(),
            next: 0,
        }
    }

    pub(super) fn take(&mut self, effects: Effects) {
        let anew = self.group.weighed_anew().into_iter();
        assert_eq!(
            self.group.held(),
            anew.map(|(_, bytes)| bytes).sum::<usize>()
        );
        for change in effects.timers {
            match change {
                TimerChange::Set { key, after } => drop(self.timers.insert(key, after)),
                TimerChange::Cancel { key } => drop(self.timers.remove(&key)),
            }
        }
        for reply in effects.replies {
            let (Reply::Join(token, _) | Reply::Sync(token, _) | Reply::Forget(token)) = &reply;
            let before = self.replies.insert(*token, reply);
            assert_eq!(before, None, "answered twice");
        }
        if let Some((record, then)) = effects.store {
            let result = std::mem::replace(&mut self.store, Ok(()));
            if result.is_ok() {
                self.stored.push(record);
            }
            let more = self.group.stored(then, result, NOW, &self.config);
            self.take(more);
        }
    }

    fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    /// A join with the protocol `range`, changed by `with`.
    pub(super) fn join(&mut self, id: &str, with: impl FnOnce(&mut JoinAsk)) -> Token {
        let token = self.token();
        let mut chance = [0; 16];
        chance[15] = token.0 as u8;
        let mut ask = JoinAsk {
            member_id: Str::copy(id),
            protocols: vec![("range".into(), Bytes::from_static(b"meta"))],
            ..JoinAsk::of_a_consumer(Uuid::from_bytes(chance))
        };
        with(&mut ask);
        let effects = self.group.join(ask, token, NOW, &self.config);
        self.take(effects);
        token
    }

    pub(super) fn sync(
        &mut self,
        id: &str,
        generation: i32,
        assignments: &[(&str, &'static [u8])],
        with: impl FnOnce(&mut SyncAsk),
    ) -> Token {
        let token = self.token();
        let assignments = assignments.iter();
        let mut ask = SyncAsk {
            principal: Principal::user("alice"),
            member_id: Str::copy(id),
            instance_id: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignments: assignments
                .map(|(id, bytes)| (Str::copy(id), Bytes::from_static(bytes)))
                .collect(),
        };
        with(&mut ask);
        let effects = self.group.sync(ask, token);
        self.take(effects);
        token
    }

    pub(super) fn heartbeat(&mut self, id: &str, generation: i32) -> Result<(), GroupError> {
        let (answer, effects) = self.group.heartbeat(&Str::copy(id), None, generation);
        self.take(effects);
        answer
    }

    pub(super) fn leave(&mut self, id: &str, instance: Option<&str>) -> Result<(), GroupError> {
        let leaving = Identity {
            member_id: Str::copy(id),
            instance_id: instance.map(Str::copy),
        };
        let (mut answers, effects) = self.group.leave(&[leaving], NOW, &self.config);
        self.take(effects);
        answers.remove(0)
    }

    /// Lets a timer that runs go off.
    pub(super) fn fire(&mut self, key: TimerKey) {
        assert!(self.timers.remove(&key).is_some(), "{key:?} does not run");
        let (now, config) = (NOW, &self.config);
        let effects = match &key {
            TimerKey::Session { member, .. } => self.group.session_expired(member, now, config),
            TimerKey::Pending { member, .. } => self.group.pending_expired(member, now),
            TimerKey::Join { .. } => self.group.join_expired(now, config),
            TimerKey::Sync { .. } => self.group.sync_expired(now, config),
            other => panic!("{other:?} is no timer of a classic group"),
        };
        self.take(effects);
    }

    pub(super) fn fate(&mut self, token: Token) -> Fate {
        match self.replies.get(&token) {
            None => Fate::Parked,
            Some(Reply::Forget(_)) => Fate::Forgotten,
            Some(Reply::Join(_, Ok(joined))) => Fate::Joined(joined.clone()),
            Some(Reply::Join(_, Err(refused))) => {
                Fate::Refused(refused.error.code(), refused.member_id.clone())
            }
            Some(Reply::Sync(_, Ok(synced))) => Fate::Synced(synced.assignment.clone()),
            Some(Reply::Sync(_, Err(error))) => Fate::Failed(error.code()),
        }
    }

    pub(super) fn joined(&mut self, token: Token) -> Joined {
        match self.fate(token) {
            Fate::Joined(joined) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }

    /// A stable group of `count` dynamic members; their ids, the leader's first.
    pub(super) fn stable(count: usize) -> (Self, Vec<Str>) {
        let mut scene = Self::new();
        let ids = scene.make_stable(count, |_, _| {});
        (scene, ids)
    }

    /// Has `count` new members join an empty group and get assignments.
    pub(super) fn make_stable(
        &mut self,
        count: usize,
        with: impl Fn(usize, &mut JoinAsk),
    ) -> Vec<Str> {
        let tokens: Vec<_> = (0..count)
            .map(|index| self.join("", |ask| with(index, ask)))
            .collect();
        while self.timers.contains_key(&join_timer()) {
            self.fire(join_timer());
        }
        let mut joined: Vec<_> = tokens.into_iter().map(|token| self.joined(token)).collect();
        joined.sort_by_key(|one| one.members.is_empty());
        let ids: Vec<_> = joined.iter().map(|one| one.member_id.clone()).collect();
        let generation = joined[0].generation;
        for id in ids.iter().rev() {
            let token = self.sync(id, generation, &[(&ids[0], b"lead")], |_| {});
            if *id == ids[0] {
                assert_eq!(self.fate(token), Fate::Synced(Bytes::from_static(b"lead")));
            }
        }
        ids
    }

    /// The last stored record.
    pub(super) fn last_stored(&self) -> &GroupMetadataValue {
        match self.stored.last() {
            Some(GroupRecord::Group {
                value: Some(value), ..
            }) => value,
            other => panic!("not a group: {other:?}"),
        }
    }
}

pub(super) fn join_timer() -> TimerKey {
    TimerKey::Join { group: "g".into() }
}

pub(super) fn sync_timer() -> TimerKey {
    TimerKey::Sync { group: "g".into() }
}

pub(super) fn session_timer(member: &Str) -> TimerKey {
    TimerKey::Session {
        group: "g".into(),
        member: member.clone(),
    }
}

pub(super) fn pending_timer(member: &Str) -> TimerKey {
    TimerKey::Pending {
        group: "g".into(),
        member: member.clone(),
    }
}
