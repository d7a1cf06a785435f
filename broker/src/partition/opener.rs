//! Where batches are opened: on helper threads, in turns, within one budget for the whole node.
//!
//! Decompressing costs up to a second of one core per batch, at the sender's choice. Work is cut
//! into slices of [`SLICE`] plain bytes; the batches in work take turns, slice by slice, on a few
//! threads. A connection has one batch in work at a time, so none gets more than its turn. Memory
//! is reserved, first come first served, before anything is decompressed.

use std::sync::Arc;

use palisade_protocol::ErrorCode;
use palisade_storage::failpoint;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::error;

use super::validate::refusal::Refusal;
use super::validate::{Opening, Progress, ValidBatch};

/// Memory for all batches in work, in bytes; one that needs more than this waits for all of it.
const MEMORY: usize = 64 * 1024 * 1024;
/// The grain of that budget, in bytes.
const GRAIN: usize = 1024;
/// Plain bytes per turn: some milliseconds, beside which a hop to a thread is little.
const SLICE: usize = 2 * 1024 * 1024;
/// Plain bytes of a small batch that may be opened without a hop.
const IN_PLACE: usize = 64 * 1024;

/// Opens the batches of one node.
#[derive(Debug)]
pub(crate) struct Opener {
    turns: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

impl Opener {
    /// An opener for half of the processors: the other half is for those who need none of this.
    pub(crate) fn new() -> Opener {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Opener {
            turns: Arc::new(Semaphore::new(processors.div_ceil(2))),
            memory: Arc::new(Semaphore::new(MEMORY / GRAIN)),
        }
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
