//! A broker that serves, and how it stops.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use palisade_storage::LogDir;

use super::{AuditLog, StopError, blocking};
use crate::broker::Broker;
use crate::metadata::MetadataService;
use crate::partition::{Cleaners, Scrubbers};
use crate::server::{ListenerState, Server};
use crate::shutdown::{Shutdown, Stage};

/// How long a stop waits for requests in work; with what follows it stays below the ten seconds
/// that container runtimes grant.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How long it then waits for connections to end.
pub(super) const END_TIME: Duration = Duration::from_secs(2);

/// A broker that serves.
pub struct Running {
    pub(super) listeners: Vec<Arc<ListenerState>>,
    pub(super) broker: Arc<Broker>,
    pub(super) server: Arc<Server>,
    pub(super) broker_epoch: i64,
    pub(super) metadata: MetadataService,
    pub(super) cleaners: Cleaners,
    pub(super) scrubbers: Scrubbers,
    pub(super) log_dir: Arc<LogDir>,
    pub(super) audit: Option<Arc<AuditLog>>,
    pub(super) shutdown: Shutdown,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// Names, addresses and ports of the listeners, as bound.
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        let named = self.listeners.iter();
        named
            .map(|one| (one.config.name.clone(), one.address))
            .collect()
    }

    /// The parts of the running broker.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Stops: finishes the requests in work (bounded), then closes everything cleanly.
    ///
    /// # Errors
    /// What could not be closed; the next start recovers it.
    pub async fn shutdown(self) -> Result<(), StopError> {
        self.stop(true).await
    }

    /// The same for a directory that is removed next: nothing waits until it is safe on disk.
    ///
    /// # Errors
    /// A thread panicked.
    pub async fn discard(self) -> Result<(), StopError> {
        self.stop(false).await
    }

    async fn stop(self, is_kept: bool) -> Result<(), StopError> {
        tracing::info!("stopping");
        self.shutdown.advance(Stage::Draining);
        let drained = tokio::time::timeout(DRAIN_TIME, self.server.gate().emptied()).await;
        if drained.is_err() {
            tracing::warn!("requests are still in work; they are given up");
        }
        self.shutdown.advance(Stage::Stopped);
        let all = async {
            self.server.gate().emptied().await;
            self.shutdown.gate().emptied().await;
        };
        if tokio::time::timeout(END_TIME, all).await.is_err() {
            let left = self.server.gate().inside() + self.shutdown.gate().inside();
            tracing::warn!(left, "tasks did not end");
        }
        blocking(move || self.close(is_kept)).await?
    }

    fn close(self, is_kept: bool) -> Result<(), StopError> {
        // A pass ends at its next step; what it was writing is left out.
        drop(self.cleaners);
        drop(self.scrubbers);
        self.metadata.stop().map_err(StopError::System)?;
        let closed = match is_kept {
            true => self.broker.topics.close(self.broker_epoch),
            false => {
                // Nothing is to be made in what is removed next.
                self.broker.topics.stop_changing();
                Ok(())
            }
        };
        drop(self.log_dir);
        if let Some(audit) = self.audit {
            audit.close();
        }
        tracing::info!("stopped");
        Ok(closed?)
    }
}
