//! Where batches are opened: on helper threads, in turns, within one budget for the whole node.
//!
//! Decompressing costs up to a second of one core per batch, at the sender's choice. Work is cut
//! into slices of [`SLICE`] plain bytes; the batches in work take turns, slice by slice, on a few
//! threads. A connection has one batch in work at a time, so none gets more than its turn. Memory
//! is reserved, first come first served, before anything is decompressed. Look-ups by timestamp,
//! which open stored batches, are a few at a time too.

use std::sync::Arc;

use palisade_protocol::ErrorCode;
use palisade_storage::failpoint;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::error;

use super::error::PartitionError;
use super::validate::refusal::Refusal;
use super::validate::{GRAIN, Opening, Progress, ValidBatch};

/// Memory for all batches in work, in bytes; one that needs more than this waits for all of it.
const MEMORY: usize = 64 * 1024 * 1024;
/// Plain bytes per turn: some milliseconds, beside which a hop to a thread is little.
const SLICE: usize = 2 * 1024 * 1024;
/// Look-ups by timestamp at a time: they read the disk, and open stored batches.
const LOOK_UPS: usize = 2;
/// Plain bytes of a small batch that may be opened without a hop.
const IN_PLACE: usize = 64 * 1024;

/// Opens the batches of one node.
#[derive(Debug)]
pub(crate) struct Opener {
    turns: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    look_ups: Arc<Semaphore>,
}

impl Opener {
    /// An opener for half of the processors: the other half is for those who need none of this.
    pub(crate) fn new() -> Opener {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Opener {
            turns: Arc::new(Semaphore::new(processors.div_ceil(2))),
            memory: Arc::new(Semaphore::new(MEMORY / GRAIN)),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS)),
        }
    }

    /// Runs a look-up that may read the disk and open batches, first come first served.
    ///
    /// Not on the disk thread, which others wait for to roll and to allocate.
    ///
    /// # Errors
    /// `Offline` when it panicked.
    pub(crate) async fn look_up<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PartitionError> {
        let turn = take(&self.look_ups, 1).await;
        let work = move || {
            let found = job();
            drop(turn);
            found
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| PartitionError::Offline)
    }

    /// Opens one batch.
    ///
    /// A dropped call stops at the end of the slice in work.
    ///
    /// # Errors
    /// [`Refusal`], with Kafka's code and texts.
    pub(crate) async fn open(&self, mut opening: Box<Opening>) -> Result<ValidBatch, Refusal> {
        if opening.is_small()
            && let Progress::Done(batch) = opening.step(IN_PLACE)?
        {
            return Ok(batch);
        }
        let grains = opening.memory().min(MEMORY).div_ceil(GRAIN);
        let memory = u32::try_from(grains).unwrap_or(u32::MAX);
        opening.hold(take(&self.memory, memory).await);
        loop {
            let turn = take(&self.turns, 1).await;
            let slice = move || {
                // A test holds the work here.
                let held = failpoint::hit("produce.before_open");
                let progress = match held {
                    Ok(()) => opening.step(SLICE),
                    Err(_) => Err(Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR)),
                };
                drop(turn);
                (opening, progress)
            };
            match tokio::task::spawn_blocking(slice).await {
                Ok((_, Ok(Progress::Done(batch)))) => return Ok(batch),
                Ok((back, Ok(Progress::More))) => opening = back,
                Ok((_, Err(refusal))) => return Err(refusal),
                Err(panic) => {
                    error!(error = %panic, "a batch could not be opened");
                    return Err(Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR));
                }
            }
        }
    }
}

async fn take(semaphore: &Arc<Semaphore>, permits: u32) -> OwnedSemaphorePermit {
    Arc::clone(semaphore)
        .acquire_many_owned(permits)
        .await
        .expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use palisade_auth::grant::Write;
    use palisade_protocol::batch::{BatchBuilder, Codec};
    use palisade_protocol::types::PartitionIndex;

    use super::*;
    use crate::partition::testing::{NOW, ROOT, TestNode, batch_with};

    /// With one helper thread, so that it can be kept busy.
    #[test]
    fn memory_is_held_until_the_batch_is_written() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(1).build();
        runtime.unwrap().block_on(memory_is_held());
    }

    async fn memory_is_held() {
        let node = TestNode::new().topic("t", 1, &[("compression.type", "gzip")]);
        let grant = node.access(ROOT).topic::<Write>("t").unwrap();
        let partition = node.replicas.partition(&grant, PartitionIndex::new(0));
        let partition = partition.unwrap();
        let opener = node.replicas.directories()[0].opener();
        let free = || opener.memory.available_permits() * GRAIN;
        let sent = || batch_with(BatchBuilder::new(Codec::Zstd), 5000).freeze();

        let valid = partition.check(sent(), NOW).await.unwrap();
        let held = MEMORY - free();
        assert!(held >= valid.len() - 61 && held < valid.len() + GRAIN);
        let epoch = partition.leader_epoch();
        partition.append(valid, epoch, NOW).await.unwrap();
        assert_eq!(free(), MEMORY);

        // One that nobody waits for any more ends with the slice in work.
        let (release, held) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || held.recv());
        let mut check = Box::pin(partition.check(sent(), NOW));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(check.as_mut().poll(&mut cx), Poll::Pending));
        assert!(free() < MEMORY);
        drop(check);
        assert!(free() < MEMORY);
        drop(release);
        assert!(busy.await.unwrap().is_err());
        let all = u32::try_from(MEMORY / GRAIN).unwrap();
        drop(take(&opener.memory, all).await);
        assert_eq!(free(), MEMORY);
    }

    #[tokio::test]
    async fn more_at_once_than_there_is_memory_for_all_end_well() {
        let node = TestNode::new().topic("t", 1, &[("compression.type", "snappy")]);
        let grant = node.access(ROOT).topic::<Write>("t").unwrap();
        let partition = node.replicas.partition(&grant, PartitionIndex::new(0));
        let partition = partition.unwrap();
        // Each claims more than eight MiB for its LZ4 blocks.
        let batch = || batch_with(BatchBuilder::new(Codec::Lz4), 3000).freeze();
        let checks: Vec<_> = (0..40).map(|_| partition.check(batch(), NOW)).collect();
        let mut records = 0;
        for check in futures(checks).await {
            records += check.unwrap().records();
        }
        assert_eq!(records, 40 * 3000);
    }

    /// Runs all to their ends, side by side.
    async fn futures<F: Future>(all: Vec<F>) -> Vec<F::Output> {
        let mut running: Vec<_> = all.into_iter().map(Box::pin).collect();
        let mut done = Vec::new();
        std::future::poll_fn(|cx| {
            running.retain_mut(|future| match future.as_mut().poll(cx) {
                Poll::Ready(output) => {
                    done.push(output);
                    false
                }
                Poll::Pending => true,
            });
            match running.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        done
    }
}
