//! What changes of the metadata set in motion.

use std::sync::{Arc, Weak};

use palisade_auth::scram::ScramMechanism;
use parking_lot::Mutex;

use crate::clock;
use crate::metadata::{ClusterDelta, ClusterImage, ImageListener};
use crate::partition::ReplicaManager;
use crate::server::Server;

/// Opens, configures and deletes the partitions of this node.
pub(super) struct Partitions {
    topics: Arc<ReplicaManager>,
}

impl Partitions {
    pub(super) fn new(topics: &Arc<ReplicaManager>) -> Self {
        Partitions {
            topics: Arc::clone(topics),
        }
    }
}

impl ImageListener for Partitions {
    fn changed(&self, delta: &ClusterDelta, image: &Arc<ClusterImage>) {
        self.topics.apply(delta, image, clock::now());
    }
}

/// Ends the sessions whose credential was deleted or replaced (security.md §3.6).
pub(super) struct EndedLogins {
    /// The server goes away with its connections; the metadata outlives it.
    server: Weak<Server>,
    before: Mutex<Option<Arc<ClusterImage>>>,
}

impl EndedLogins {
    pub(super) fn new(server: &Arc<Server>) -> Self {
        EndedLogins {
            server: Arc::downgrade(server),
            before: Mutex::new(None),
        }
    }
}

impl ImageListener for EndedLogins {
    fn changed(&self, _delta: &ClusterDelta, image: &Arc<ClusterImage>) {
        let Some(before) = self.before.lock().replace(Arc::clone(image)) else {
            return;
        };
        let Some(server) = self.server.upgrade() else {
            return;
        };
        server.revoke(|session| {
            let Some(mechanism) = ScramMechanism::from_name(&session.mechanism) else {
                return false;
            };
            let name = &session.principal.name;
            let old = before.scram.get(name, mechanism);
            let new = image.scram.get(name, mechanism);
            match (old, new) {
                (Some(old), Some(new)) => {
                    !Arc::ptr_eq(old, new) && old.fingerprint() != new.fingerprint()
                }
                (Some(_), None) => true,
                (None, _) => false,
            }
        });
    }
}
