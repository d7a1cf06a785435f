//! Appending a checked batch: in place when that cannot block, else behind those who came first.

use std::sync::Arc;
use std::time::Instant;

use palisade_protocol::types::{LeaderEpoch, TimestampMs};
use palisade_storage::{AppendAs, Appended, StorageError, TryAppend};
use tokio::sync::SemaphorePermit;

use super::error::PartitionError;
use super::replica::Replica;
use super::validate::ValidBatch;

/// Appends one batch in `epoch` and says where it landed.
///
/// Ordered: batches land in the order in which this was first polled. The queue is bounded by the
/// number of connections, each of which waits for one append at a time. The fast path
/// neither suspends nor allocates. A dropped call has either not begun to write, or writes the
/// whole batch and publishes it.
///
/// # Errors
/// `NotLeader` when the epoch passed while the batch waited, `Storage` for what the log refused.
pub(crate) async fn append(
    replica: &Arc<Replica>,
    mut batch: ValidBatch,
    epoch: LeaderEpoch,
    now: TimestampMs,
) -> Result<Appended, PartitionError> {
    let permit = enter(replica).await?;
    let leadership = replica.lead(None)?;
    if leadership.leader_epoch != epoch {
        return Err(PartitionError::NotLeader {
            leader_epoch: leadership.leader_epoch,
        });
    }
    if !replica.directory.is_slow() {
        match write_in_place(replica, &mut batch, epoch, now)? {
            TryAppend::Done(appended) => {
                note(replica, &appended, batch.len());
                return Ok(appended);
            }
            // A roll or another helper has the log: the disk thread may wait for it, a task not.
            TryAppend::Busy => {}
        }
    }
    write_on_disk_thread(replica, permit, batch, epoch, now).await
}

/// Takes the partition's turn, first come first served.
async fn enter(replica: &Replica) -> Result<SemaphorePermit<'_>, PartitionError> {
    if let Ok(permit) = replica.gate.try_acquire() {
        return Ok(permit);
    }
    // The semaphore is never closed while the replica lives.
    replica
        .gate
        .acquire()
        .await
        .map_err(|_| PartitionError::Offline)
}

fn write_in_place(
    replica: &Replica,
    batch: &mut ValidBatch,
    epoch: LeaderEpoch,
    now: TimestampMs,
) -> Result<TryAppend, StorageError> {
    let began = Instant::now();
    let how = AppendAs::Leader { epoch };
    let asker = batch.asker();
    let (head, section) = batch.pieces();
    let done = replica.log.try_append_split(head, section, how, asker, now);
    replica.directory.note_write(began.elapsed());
    done
}

async fn write_on_disk_thread(
    replica: &Arc<Replica>,
    permit: SemaphorePermit<'_>,
    mut batch: ValidBatch,
    epoch: LeaderEpoch,
    now: TimestampMs,
) -> Result<Appended, PartitionError> {
    // The job owns the turn: it ends with the write, not with a caller that may go away.
    permit.forget();
    let turn = Turn(Arc::clone(replica));
    let job = move || {
        let replica = &turn.0;
        let began = Instant::now();
        let how = AppendAs::Leader { epoch };
        let asker = batch.asker();
        let (head, section) = batch.pieces();
        let done = replica.log.append_split(head, section, how, asker, now);
        replica.directory.note_write(began.elapsed());
        if let Ok(appended) = &done {
            note(replica, appended, batch.len());
        }
        done
    };
    Ok(replica.directory.run(job).await??)
}

/// Publishes what was appended; a duplicate moved nothing.
fn note(replica: &Replica, appended: &Appended, bytes: usize) {
    if !appended.duplicate {
        replica.appended(appended.log_end_offset, bytes);
    }
}

/// The turn of an append that runs elsewhere; given back when dropped.
struct Turn(Arc<Replica>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.gate.add_permits(1);
    }
}
