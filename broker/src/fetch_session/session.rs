//! One session: its partitions and the epoch its next request must carry.

use std::sync::Arc;

use palisade_auth::acl::AclCache;
use palisade_auth::principal::Principal;
use palisade_protocol::ErrorCode;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::ledger::Remembered;
use super::list::FetchList;

/// The state of one session, held by the request that serves it.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its partitions.
    pub(crate) list: FetchList,
    /// The epoch of the next request: 1 after creation and after the largest, never 0.
    next_epoch: i32,
    /// Whether it was created by a version that names topics by id.
    by_id: bool,
    /// A request was dropped half-way: its ready list may have been drained in vain.
    interrupted: bool,
    /// The ACLs of the last request: when they change, every partition is asked again.
    acls: Arc<AclCache>,
}

impl Session {
    /// A session that was just created, with epoch 1 to come.
    pub(crate) fn new(list: FetchList, by_id: bool, acls: Arc<AclCache>) -> Session {
        Session {
            list,
            next_epoch: 1,
            by_id,
            interrupted: false,
            acls,
        }
    }

    /// Accepts an incremental request and moves on to the next epoch.
    ///
    /// # Errors
    /// `INVALID_FETCH_SESSION_EPOCH`, `FETCH_SESSION_TOPIC_ID_ERROR`; the session is unchanged.
    pub(crate) fn begin(
        &mut self,
        epoch: i32,
        by_id: bool,
        acls: &Arc<AclCache>,
    ) -> Result<(), ErrorCode> {
        if epoch != self.next_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if by_id != self.by_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        self.next_epoch = epoch.checked_add(1).unwrap_or(1);
        // A revoked right must show on partitions without news as well.
        if self.interrupted || !Arc::ptr_eq(&self.acls, acls) {
            self.list.look_at_all();
            self.acls = Arc::clone(acls);
        }
        self.interrupted = true;
        Ok(())
    }

    /// Notes that the request was answered.
    pub(crate) fn finish(&mut self) {
        self.interrupted = false;
    }
}

/// A cached session, shared between the cache and the request that serves it.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    /// Its id, above 0.
    pub(crate) id: i32,
    /// Who created it; nobody else may continue it.
    pub(crate) owner: Principal,
    /// Partitions, for the cache's choice of what to evict and its bound of all.
    remembered: Remembered,
    state: Arc<Mutex<Session>>,
}

impl SessionHandle {
    pub(super) fn new(
        id: i32,
        owner: Principal,
        session: Session,
        remembered: Remembered,
    ) -> SessionHandle {
        SessionHandle {
            id,
            owner,
            remembered,
            state: Arc::new(Mutex::new(session)),
        }
    }

    /// Takes the session for one request; none while an earlier request holds it.
    pub(crate) fn try_lock(&self) -> Option<OwnedMutexGuard<Session>> {
        Arc::clone(&self.state).try_lock_owned().ok()
    }

    /// Takes the session for one request, after the earlier ones.
    pub(crate) async fn lock(&self) -> OwnedMutexGuard<Session> {
        Arc::clone(&self.state).lock_owned().await
    }

    /// Notes how many partitions the session has now; false when they are too many.
    pub(crate) fn set_partitions(&self, partitions: usize) -> bool {
        self.remembered.set(partitions)
    }

    /// How many partitions the session has.
    pub(super) fn partitions(&self) -> usize {
        self.remembered.partitions()
    }
}
