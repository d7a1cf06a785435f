//! How the broker reads the metadata, and how it is told of changes.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::delta::ClusterDelta;
use super::image::ClusterImage;

/// Told of every change, in order.
///
/// Calls come from the raft thread, after the image is visible and before any request that led to
/// it is answered: a topic can be opened before its creator learns that it exists. A listener must
/// not block for long, for all of the metadata waits, and must not call [`MetadataHandle::listen`].
pub trait ImageListener: Send + Sync {
    /// The image has changed by this delta.
    fn changed(&self, delta: &ClusterDelta, image: &Arc<ClusterImage>);
}

/// The current metadata, for everyone; cheap to clone.
#[derive(Clone)]
pub struct MetadataHandle {
    shared: Arc<Shared>,
}

struct Shared {
    image: ArcSwap<ClusterImage>,
    watch: watch::Sender<Arc<ClusterImage>>,
    listeners: Mutex<Vec<Arc<dyn ImageListener>>>,
}

impl MetadataHandle {
    /// Starts with an image; only the machine publishes others.
    #[must_use]
    pub fn new(image: Arc<ClusterImage>) -> MetadataHandle {
        MetadataHandle {
            shared: Arc::new(Shared {
                image: ArcSwap::new(Arc::clone(&image)),
                watch: watch::Sender::new(image),
                listeners: Mutex::new(Vec::new()),
            }),
        }
    }

    /// The image as of now; a request takes one and keeps it.
    #[must_use]
    pub fn image(&self) -> Arc<ClusterImage> {
        self.shared.image.load_full()
    }

    /// A view that always shows the latest image and wakes its owner when there is a newer one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.shared.watch.subscribe()
    }

    /// Adds a listener; it is first told of everything there is, then of every change.
    pub fn listen(&self, listener: Arc<dyn ImageListener>) {
        let mut listeners = self.shared.listeners.lock();
        let image = self.image();
        listener.changed(&ClusterDelta::everything(&image), &image);
        listeners.push(listener);
    }

    /// Runs `work` with the image that every listener knows, and lets no other one come meanwhile.
    ///
    /// All of the metadata waits for it; it must not call [`MetadataHandle::listen`]. Who comes
    /// again at once finds a change that has waited done.
    pub(crate) fn between_changes(&self, work: impl FnOnce(&Arc<ClusterImage>)) {
        let listeners = self.shared.listeners.lock();
        work(&self.image());
        MutexGuard::unlock_fair(listeners);
    }

    /// Makes an image the current one and tells everyone.
    pub(crate) fn publish(&self, delta: &ClusterDelta, image: &Arc<ClusterImage>) {
        let listeners = self.shared.listeners.lock();
        self.shared.image.store(Arc::clone(image));
        for listener in listeners.iter() {
            listener.changed(delta, image);
        }
        self.shared.watch.send_replace(Arc::clone(image));
    }
}

impl fmt::Debug for MetadataHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataHandle")
            .field("offset", &self.image().offset)
            .finish()
    }
}
