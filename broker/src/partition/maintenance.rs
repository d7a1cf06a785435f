//! The periodic work on this node's partitions, and their clean end.

use std::sync::Arc;
use std::time::Duration;

use palisade_protocol::types::TimestampMs;
use palisade_storage::{Log, StorageError};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use super::directory::Directory;
use super::replica_manager::ReplicaManager;

/// How often logs look at their clocks: flushes by interval, rolls by age, delayed removals.
const TICK: Duration = Duration::from_secs(1);

/// Logs whose epochs are stored before other jobs of a directory's thread have their turns: each
/// takes two syncs or more.
const LOGS_AT_A_TIME: usize = 16;

/// How often the periodic work runs.
#[derive(Debug, Clone, Copy)]
pub struct MaintenanceIntervals {
    /// Between two passes of retention (`log.retention.check.interval.ms`).
    pub retention: Duration,
    /// Between two checkpoints (`replica.high.watermark.checkpoint.interval.ms`).
    pub checkpoint: Duration,
    /// Between two tries to open logs that could not be opened.
    pub reopen: Duration,
}

impl Default for MaintenanceIntervals {
    fn default() -> Self {
        MaintenanceIntervals {
            retention: Duration::from_secs(300),
            checkpoint: Duration::from_secs(5),
            reopen: Duration::from_secs(2),
        }
    }
}

/// Runs until it is dropped; everything that may block goes to other threads.
///
/// `reopen`: tries again to open logs; may block, and is not called again before it has ended.
pub async fn maintain(
    replicas: Arc<ReplicaManager>,
    intervals: MaintenanceIntervals,
    reopen: impl Fn() + Clone + Send + 'static,
    now: impl Fn() -> TimestampMs + Send + Sync,
) {
    // Side by side: to open one log may take minutes, and the others must not wait for it.
    tokio::join!(
        look_after(&replicas, intervals, now),
        try_again(&replicas, intervals.reopen, reopen),
    );
}

/// Does for all open logs what is due.
async fn look_after(
    replicas: &ReplicaManager,
    intervals: MaintenanceIntervals,
    now: impl Fn() -> TimestampMs,
) {
    let mut tick = timer(TICK);
    let mut retention = timer(intervals.retention);
    let mut checkpoint = timer(intervals.checkpoint);
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
        }
    }
}

/// Has logs opened that could not be, one round after the other.
async fn try_again(
    replicas: &ReplicaManager,
    every: Duration,
    reopen: impl Fn() + Clone + Send + 'static,
) {
    let mut waiting = timer(every);
    loop {
        waiting.tick().await;
        if replicas.waiting().is_empty() {
            continue;
        }
        // Not on a directory's thread, which the opening of a log may have to wait for.
        if let Err(error) = tokio::task::spawn_blocking(reopen.clone()).await {
            warn!(%error, "logs not tried again");
        }
    }
}

fn timer(period: Duration) -> Interval {
    let mut timer = interval_at(Instant::now() + period, period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
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
            owner.storage().spawn(move || {
                let logs = directory.storage().logs_with_new_epochs();
                checkpoint_behind(directory, logs);
            });
        }
    }

    /// Syncs and closes every directory, so that the next start has nothing to recover; blocks,
    /// also while a log is being opened.
    ///
    /// Every directory is closed even if another fails.
    ///
    /// # Errors
    /// The first failure; that directory will be recovered at the next start.
    pub fn close(&self, broker_epoch: i64) -> Result<(), StorageError> {
        self.stop_changing();
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

/// Stores the epochs of these logs, a few at a time, so that other jobs of the directory's thread
/// have their turns in between, and then writes the checkpoint.
fn checkpoint_behind(directory: Arc<Directory>, mut logs: Vec<Arc<Log>>) {
    if logs.is_empty() {
        return write_checkpoint(&directory);
    }
    let owner = Arc::clone(&directory);
    owner.storage().spawn(move || {
        let rest = logs.split_off(logs.len().min(LOGS_AT_A_TIME));
        for log in logs {
            // The checkpoint tries again, and tells what fails.
            let _ = log.store_new_epochs();
        }
        checkpoint_behind(directory, rest);
    });
}

fn write_checkpoint(directory: &Directory) {
    if let Err(error) = directory.storage().checkpoint() {
        warn!(path = %directory.storage().path().display(), %error, "checkpoint not written");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use palisade_storage::fs::FaultyFs;
    use parking_lot::Mutex;
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::timeout;

    use super::*;
    use crate::config::FlushPolicyName;
    use crate::partition::testing::{NOW, TestNode, batch, open_on};

    const PATIENCE: Duration = Duration::from_secs(60);
    const AT_ONCE: Duration = Duration::from_millis(1);

    /// Whoever writes may have to wait for the directory's thread.
    #[tokio::test]
    async fn new_epochs_of_many_logs_leave_the_thread_to_others() {
        const PARTITIONS: i32 = 100;
        let fs = FaultyFs::new();
        let mut node = TestNode::new();
        node.replicas = open_on(Path::new("/logs"), fs.as_fs(), FlushPolicyName::Os);
        node = node.topic("t", PARTITIONS, &[]);
        for partition in 0..PARTITIONS {
            node.append("t", partition, batch(1)).await;
        }
        let stored = move || {
            let has_file = |partition: &i32| {
                let file = format!("/logs/t-{partition}/leader-epoch-checkpoint");
                fs.content(Path::new(&file)).is_some()
            };
            (0..PARTITIONS).filter(has_file).count()
        };
        assert_eq!(stored(), 0);
        let directory = Arc::clone(&node.replicas.directories()[0]);
        let (go, gone) = channel::<()>();
        directory.storage().spawn(move || {
            gone.recv().unwrap_err();
        });
        node.replicas.checkpoint();
        let (tell, told) = channel();
        // Who comes next, and whoever comes then.
        for _ in 0..3 {
            let (tell, stored, owner) = (tell.clone(), stored.clone(), Arc::clone(&directory));
            directory.storage().spawn(move || {
                owner.storage().spawn(move || tell.send(stored()).unwrap());
            });
        }
        drop(go);
        for _ in 0..3 {
            assert!(told.recv().unwrap() <= LOGS_AT_A_TIME);
        }
        let all = async {
            while stored() < 100 {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(PATIENCE, all).await.is_ok(), "{} stored", stored());
    }

    #[tokio::test]
    async fn a_log_that_takes_long_to_open_holds_nothing_up() {
        let fs = FaultyFs::new();
        let mut node = TestNode::new();
        node.replicas = open_on(Path::new("/logs"), fs.as_fs(), FlushPolicyName::Os);
        node = node.topic("open", 1, &[]);
        fs.set_capacity(fs.used());
        node = node.topic("shut", 1, &[]);
        fs.set_capacity(1 << 40);
        // It looks at the space again.
        let directory = node.replicas.directories()[0].storage();
        directory.tick(NOW);
        assert_eq!(node.replicas.waiting().len(), 1);

        let (begun, mut begins) = unbounded_channel();
        let (permit, permits) = channel::<()>();
        let permits = Arc::new(Mutex::new(permits));
        let inside = Arc::new(AtomicUsize::new(0));
        let reopen = move || {
            let before = inside.fetch_add(1, Ordering::SeqCst);
            let _ = begun.send(before);
            // Over as well when the test is.
            let _ = permits.lock().recv();
            inside.fetch_sub(1, Ordering::SeqCst);
        };
        let intervals = MaintenanceIntervals {
            checkpoint: AT_ONCE,
            reopen: AT_ONCE,
            ..MaintenanceIntervals::default()
        };
        let maintenance = maintain(Arc::clone(&node.replicas), intervals, reopen, || NOW);
        let maintenance = crate::task::spawn("maintenance", maintenance);
        assert_eq!(begins.recv().await, Some(0));
        let file = Path::new("/logs/replication-offset-checkpoint");
        // What was asked for before is over.
        let (done, is_done) = channel();
        directory.spawn(move || done.send(()).unwrap());
        is_done.recv().unwrap();
        let before = fs.content(file);
        node.append("open", 0, batch(1)).await;
        let written = async {
            while fs.content(file) == before {
                tokio::task::yield_now().await;
            }
        };
        let written = timeout(PATIENCE, written).await;
        assert!(written.is_ok(), "no checkpoint meanwhile");
        assert!(begins.try_recv().is_err(), "one round at a time");
        permit.send(()).unwrap();
        assert_eq!(begins.recv().await, Some(0), "and then the next one");
        maintenance.abort();
    }
}
