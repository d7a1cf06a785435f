//! Which partitions a fetch is about: the session table of records.md §8.4.

use std::sync::Arc;

use palisade_auth::principal::Principal;
use palisade_protocol::ErrorCode;
use palisade_protocol::messages::fetch::{FetchRequest, FetchTopic, ForgottenTopic};
use palisade_protocol::types::{LeaderEpoch, Offset, PartitionIndex};

use tokio::time::Instant;

use super::{HeldSession, Scene};
use crate::fetch_session::{FetchList, Session, SessionHandle, TopicKey, Wanted};

/// Closes the session, or says that there is none.
const FINAL_EPOCH: i32 = -1;
/// Creates a session.
const INITIAL_EPOCH: i32 = 0;

/// How a fetch begins.
pub(super) enum Opening {
    /// A session fault: the whole answer.
    Refused(ErrorCode),
    /// All partitions are in the request.
    Fresh {
        /// They, due for a look.
        list: FetchList,
        /// The client wants a session of them.
        sessionful: bool,
    },
    /// The request changes a session.
    Continue {
        /// The session.
        handle: Arc<SessionHandle>,
        /// The change.
        update: Update,
    },
}

/// What an incremental request changes in its session; holds no bytes of the request.
pub(super) struct Update {
    epoch: i32,
    wanted: Vec<Wanted>,
    forgotten: Vec<(TopicKey, PartitionIndex)>,
}

/// The partitions of a fetch, and the session they belong to.
pub(super) enum Holder {
    /// Partitions of this request alone.
    Single {
        /// They.
        list: FetchList,
        /// A session is to be made of them when the answer is known.
        sessionful: bool,
    },
    /// Partitions of a session.
    Session {
        /// Its place in the cache.
        handle: Arc<SessionHandle>,
        /// Its state.
        session: HeldSession,
        /// It grew too large to be kept: the answer tells the client that it is over.
        ended: bool,
    },
}

/// Decides what the request is about.
pub(super) fn open(scene: &Scene, request: &FetchRequest, by_id: bool) -> Opening {
    let owner = owner(scene);
    let (id, epoch) = (request.session_id, request.session_epoch);
    match epoch {
        INITIAL_EPOCH | FINAL_EPOCH => {
            scene.sessions.remove(id, owner);
            let mut list = FetchList::new();
            for wanted in all_wanted(&request.topics, by_id) {
                list.upsert(wanted);
            }
            Opening::Fresh {
                list,
                sessionful: epoch == INITIAL_EPOCH,
            }
        }
        _ => match scene.sessions.find(id, owner, Instant::now()) {
            None => Opening::Refused(ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
            Some(handle) => Opening::Continue {
                handle,
                update: Update {
                    epoch,
                    wanted: all_wanted(&request.topics, by_id).collect(),
                    forgotten: all_forgotten(&request.forgotten_topics_data, by_id).collect(),
                },
            },
        },
    }
}

/// Applies an incremental request to its session.
///
/// # Errors
/// The session faults; the session is unchanged then.
pub(super) fn begin(
    scene: &Scene,
    handle: &Arc<SessionHandle>,
    mut session: HeldSession,
    update: Update,
    by_id: bool,
) -> Result<Holder, ErrorCode> {
    session.begin(update.epoch, by_id, scene.image.acls.cache())?;
    for wanted in update.wanted {
        session.list.upsert(wanted);
    }
    for (topic, index) in update.forgotten {
        session.list.forget(topic, index);
    }
    if session.list.is_empty() {
        // Nothing left to remember: the session ends and the answer is that of none.
        scene.sessions.remove(handle.id, owner(scene));
        return Ok(Holder::fresh(FetchList::new(), false));
    }
    let kept = handle.set_partitions(session.list.capacity());
    if !kept {
        scene.sessions.remove(handle.id, owner(scene));
    }
    Ok(Holder::Session {
        handle: Arc::clone(handle),
        session,
        ended: !kept,
    })
}

impl Holder {
    /// Partitions of one request.
    pub(super) fn fresh(list: FetchList, sessionful: bool) -> Holder {
        Holder::Single { list, sessionful }
    }

    /// Whether only what changed is answered.
    pub(super) fn is_incremental(&self) -> bool {
        matches!(self, Holder::Session { .. })
    }

    /// Whether the partitions will be remembered.
    pub(super) fn is_remembered(&self) -> bool {
        match self {
            Holder::Single { sessionful, .. } => *sessionful,
            Holder::Session { .. } => true,
        }
    }

    /// The partitions.
    pub(super) fn list(&self) -> &FetchList {
        match self {
            Holder::Single { list, .. } => list,
            Holder::Session { session, .. } => &session.list,
        }
    }

    /// The partitions, to change.
    pub(super) fn list_mut(&mut self) -> &mut FetchList {
        match self {
            Holder::Single { list, .. } => list,
            Holder::Session { session, .. } => &mut session.list,
        }
    }

    /// Ends the request; the id that the answer carries, 0 for no session.
    pub(super) fn finish(self, scene: &Scene, by_id: bool) -> i32 {
        match self {
            Holder::Session {
                handle,
                mut session,
                ended,
            } => {
                session.finish();
                if ended { 0 } else { handle.id }
            }
            Holder::Single {
                sessionful: false, ..
            } => 0,
            Holder::Single { list, .. } => {
                let acls = Arc::clone(scene.image.acls.cache());
                let session = Session::new(list, by_id, acls);
                match scene
                    .sessions
                    .insert(session, owner(scene).clone(), Instant::now())
                {
                    Ok(handle) => handle.id,
                    Err(_) => 0,
                }
            }
        }
    }
}

fn owner(scene: &Scene) -> &Principal {
    &scene.access.caller().principal
}

fn all_wanted(topics: &[FetchTopic], by_id: bool) -> impl Iterator<Item = Wanted> + '_ {
    topics.iter().flat_map(move |topic| {
        let key = if by_id {
            TopicKey::Id(topic.topic_id)
        } else {
            TopicKey::Name(topic.topic.detached())
        };
        topic.partitions.iter().map(move |partition| Wanted {
            topic: key.clone(),
            index: PartitionIndex::new(partition.partition),
            fetch_offset: Offset::new(partition.fetch_offset),
            max_bytes: partition.partition_max_bytes,
            current_leader_epoch: epoch(partition.current_leader_epoch),
            last_fetched_epoch: epoch(partition.last_fetched_epoch),
        })
    })
}

fn all_forgotten(
    topics: &[ForgottenTopic],
    by_id: bool,
) -> impl Iterator<Item = (TopicKey, PartitionIndex)> + '_ {
    topics.iter().flat_map(move |topic| {
        let key = if by_id {
            TopicKey::Id(topic.topic_id)
        } else {
            TopicKey::Name(topic.topic.detached())
        };
        topic
            .partitions
            .iter()
            .map(move |index| (key.clone(), PartitionIndex::new(*index)))
    })
}

/// Negative numbers mean "not told".
fn epoch(value: i32) -> Option<LeaderEpoch> {
    (value >= 0).then(|| LeaderEpoch::new(value))
}
