//! One budget for the bytes of request frames that are being received.
//!
//! A length prefix is only a claim. The first [`FREE_BYTES`] of a frame are read without asking;
//! whoever claims more waits here, first come first served, for the whole rest at once. Taking it
//! piecemeal would let several half-received frames block each other for ever, so the largest
//! legal frame must fit, which is checked at start.
//!
//! A connection receives one frame at a time and holds its reservation until the ordered stage of
//! the handler is over, so its share is capped at one frame by construction.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a frame that are read without a reservation.
pub(crate) const FREE_BYTES: usize = 64 * 1024;
/// The grain of the budget; a semaphore counts in u32 and frames may be large.
const GRAIN: usize = 1024;

/// The bytes that all connections together may hold in unfinished request frames.
#[derive(Clone, Debug)]
pub(crate) struct FrameBudget {
    grains: Arc<Semaphore>,
    total: usize,
}

/// A part of the budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    _permit: OwnedSemaphorePermit,
}

/// The budget is smaller than the largest legal frame.
#[derive(Debug, thiserror::Error)]
#[error("{budget} bytes for request frames, but one frame may take {largest_frame}")]
pub struct BudgetTooSmall {
    /// The configured budget in bytes.
    pub budget: usize,
    /// The largest frame the broker accepts, in bytes.
    pub largest_frame: usize,
}

impl FrameBudget {
    /// A budget of `total` bytes for frames of up to `largest_frame` bytes.
    ///
    /// # Errors
    /// [`BudgetTooSmall`] when one legal frame could never be received.
    pub(crate) fn new(total: usize, largest_frame: usize) -> Result<Self, BudgetTooSmall> {
        let total = total
            .min(Semaphore::MAX_PERMITS)
            .min(u32::MAX as usize * GRAIN);
        if grains(largest_frame) as usize > total / GRAIN {
            return Err(BudgetTooSmall {
                budget: total,
                largest_frame,
            });
        }
        Ok(FrameBudget {
            grains: Arc::new(Semaphore::new(total / GRAIN)),
            total,
        })
    }

    /// The whole budget in bytes.
    #[cfg(test)]
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Bytes nobody holds.
    #[cfg(test)]
    pub(crate) fn available(&self) -> usize {
        self.grains.available_permits() * GRAIN
    }

    /// Waits, in turn, for `bytes` bytes. Cancel-safe: a dropped wait leaves the line.
    pub(crate) async fn reserve(self, bytes: usize) -> Reservation {
        let wanted = grains(bytes.min(self.total));
        let permit = Arc::clone(&self.grains)
            .acquire_many_owned(wanted)
            .await
            .expect("the semaphore is never closed");
        Reservation { _permit: permit }
    }
}

fn grains(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn the_largest_frame_must_fit() {
        assert!(FrameBudget::new(1 << 20, 2 << 20).is_err());
        assert!(FrameBudget::new(2 << 20, 2 << 20).is_ok());
    }

    #[test]
    fn a_large_claim_is_not_overtaken_by_small_ones() {
        let budget = FrameBudget::new(1 << 20, 1 << 20).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(budget.clone().reserve(512 << 10))
            .as_mut()
            .poll(&mut cx)
        else {
            panic!("the budget was empty");
        };
        let mut large = pin!(budget.clone().reserve(1 << 20));
        assert!(large.as_mut().poll(&mut cx).is_pending());
        let mut small = pin!(budget.clone().reserve(1 << 10));
        assert!(small.as_mut().poll(&mut cx).is_pending(), "overtaken");
        drop(first);
        assert!(large.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn dropping_gives_back() {
        let budget = FrameBudget::new(1 << 20, 1 << 20).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(held) = pin!(budget.clone().reserve(100_000)).as_mut().poll(&mut cx) else {
            panic!("free");
        };
        assert!(budget.available() < budget.total());
        drop(held);
        assert_eq!(budget.available(), budget.total());
    }
}
