//! The periodic work on this node's partitions, and their clean end.

use std::sync::Arc;
use std::time::Duration;

use palisade_protocol::types::TimestampMs;
use palisade_storage::StorageError;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use super::directory::Directory;
use super::replica_manager::ReplicaManager;

/// How often logs look at their clocks: flushes by interval, rolls by age, delayed removals.
const TICK: Duration = Duration::from_secs(1);

/// How often logs that could not be opened are tried again.
const REOPEN: Duration = Duration::from_secs(2);

/// How often the periodic work runs.
#[derive(Debug, Clone, Copy)]
pub struct MaintenanceIntervals {
    /// Between two passes of retention (`log.retention.check.interval.ms`).
    pub retention: Duration,
    /// Between two checkpoints (`replica.high.watermark.checkpoint.interval.ms`).
    pub checkpoint: Duration,
}

impl Default for MaintenanceIntervals {
    fn default() -> Self {
        MaintenanceIntervals {
            retention: Duration::from_secs(300),
            checkpoint: Duration::from_secs(5),
        }
    }
}

/// Runs until it is dropped; everything that may block goes to other threads.
///
/// `reopen`: tries again to open logs; may block, and is called only where one waits for it.
pub async fn maintain(
    replicas: Arc<ReplicaManager>,
    intervals: MaintenanceIntervals,
    reopen: impl Fn() + Clone + Send + 'static,
    now: impl Fn() -> TimestampMs + Send + Sync,
) {
    let timer = |period: Duration| {
        let mut timer = interval_at(Instant::now() + period, period);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer
    };
    let mut tick = timer(TICK);
    let mut retention = timer(intervals.retention);
    let mut checkpoint = timer(intervals.checkpoint);
    let mut waiting = timer(REOPEN);
    loop {
        // Cancel-safe: each arm is the tick of a timer.
        tokio::select! {
            _ = tick.tick() => {
                for directory in replicas.directories() {
                    directory.storage().tick(now());
                }
            }
            _ = retention.tick() => {
                replicas.apply_retention(now());
                replicas.expire_producers(now());
            }
            _ = checkpoint.tick() => replicas.checkpoint(),
            _ = waiting.tick() => if !replicas.waiting().is_empty() {
                // Not on a directory's thread, which the opening of a log may have to wait for.
                let tried = tokio::task::spawn_blocking(reopen.clone()).await;
                if let Err(error) = tried {
                    warn!(%error, "logs not tried again");
                }
            },
        }
    }
}

impl ReplicaManager {
    /// Starts one pass of retention over all partitions, on their directories' threads.
    pub fn apply_retention(&self, now: TimestampMs) {
        for replica in self.replicas() {
            let directory = Arc::clone(&replica.directory);
            directory.storage().spawn(move || {
                if replica.is_offline() {
                    return;
                }
                let high_watermark = replica.high_watermark();
                match replica.log.apply_retention(high_watermark, now) {
                    Ok(0) => {}
                    Ok(segments) => info!(
                        topic = %replica.topic,
                        partition = %replica.index,
                        segments,
                        "old segments removed"
                    ),
                    Err(error) => warn!(
                        topic = %replica.topic,
                        partition = %replica.index,
                        %error,
                        "retention failed"
                    ),
                }
            });
        }
    }

    /// Forgets producers that were idle for too long, on the directories' threads.
    pub fn expire_producers(&self, now: TimestampMs) {
        for directory in self.directories() {
            let owner = Arc::clone(directory);
            let directory = Arc::clone(directory);
            owner
                .storage()
                .spawn(move || directory.storage().expire_producers(now));
        }
    }

    /// Writes recovery points, log starts and high watermarks, on the directories' threads.
    pub fn checkpoint(&self) {
        for directory in self.directories() {
            let directory = Arc::clone(directory);
            let owner = Arc::clone(&directory);
            owner.storage().spawn(move || write_checkpoint(&directory));
        }
    }

    /// Syncs and closes every directory, so that the next start has nothing to recover; blocks.
    ///
    /// Every directory is closed even if another fails.
    ///
    /// # Errors
    /// The first failure; that directory will be recovered at the next start.
    pub fn close(&self, broker_epoch: i64) -> Result<(), StorageError> {
        let mut first_failure = Ok(());
        for replica in self.replicas() {
            replica.go_offline();
        }
        for directory in self.directories() {
            let closed = directory.storage().close(broker_epoch);
            if first_failure.is_ok() {
                first_failure = closed;
            }
        }
        first_failure
    }
}

fn write_checkpoint(directory: &Directory) {
    if let Err(error) = directory.storage().checkpoint() {
        warn!(path = %directory.storage().path().display(), %error, "checkpoint not written");
    }
}
