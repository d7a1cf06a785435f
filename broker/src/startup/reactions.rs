//! What changes of the metadata set in motion.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use crate::broker::Broker;
use crate::clock;
use crate::metadata::{ClusterDelta, ClusterImage, ImageListener, MetadataHandle};
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

/// Opens logs that could not be opened when the metadata named them, and has groups read from
/// those that hold them; blocks. Changes of the metadata wait for one log at a time.
pub(super) fn reopen(metadata: &MetadataHandle, broker: &Broker) {
    reopen_each(metadata, &broker.topics, |image| {
        let everything = ClusterDelta::everything(image);
        broker.groups.changed(&everything, image);
    });
}

/// Gives each log that waits a turn of its own between two changes of the metadata.
fn reopen_each(
    metadata: &MetadataHandle,
    topics: &ReplicaManager,
    opened: impl Fn(&Arc<ClusterImage>),
) {
    for (topic, index) in topics.waiting() {
        metadata.between_changes(|image| {
            if topics.reopen(image, topic, index, clock::now()) {
                opened(image);
            }
        });
    }
}

/// Ends the sessions whose credential was deleted or replaced (security.md §3.6).
pub(super) struct EndedLogins {
    /// The server goes away with its connections; the metadata outlives it.
    server: Weak<Server>,
}

impl EndedLogins {
    pub(super) fn new(server: &Arc<Server>) -> Self {
        EndedLogins {
            server: Arc::downgrade(server),
        }
    }
}

impl ImageListener for EndedLogins {
    fn changed(&self, delta: &ClusterDelta, _image: &Arc<ClusterImage>) {
        if delta.scram.is_empty() && !delta.reset {
            return;
        }
        let Some(server) = self.server.upgrade() else {
            return;
        };
        let users: HashSet<&str> = delta.scram.iter().map(|(user, _)| user.as_str()).collect();
        // Of a snapshot nobody knows who is missing in it. What stands is asked of the image that
        // logins ask, so that PLAIN and SCRAM end alike.
        server.revoke(|session| {
            (delta.reset || users.contains(&*session.principal.name)) && !session.stands()
        });
    }
}

#[cfg(test)]
mod tests;
