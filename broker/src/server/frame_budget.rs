//! One budget for the bytes of request frames that are being received.
//!
//! A length prefix is only a claim. The first [`FREE_BYTES`] of a frame are read without asking;
//! whoever claims more waits here, first come first served, for the whole rest at once. Taking it
//! piecemeal would let several half-received frames block each other for ever, so the largest
//! legal frame must fit, which is checked at start.
//!
//! A claim costs nothing, so a user has, and stands in the common line for, at most half of the
//! budget, or one frame that is larger; what more he claims waits in a line of his own. Before a
//! login there is no user: a large token stands in the common line alone.
//!
//! A connection receives one frame at a time and holds its reservation until the ordered stage of
//! the handler is over, so its share is capped at one frame by construction.

use std::sync::Arc;

use palisade_auth::principal::Principal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::turns::{Lines, Part, take};

/// Bytes of a frame that are read without a reservation.
pub(crate) const FREE_BYTES: usize = 64 * 1024;
/// The grain of the budget; a semaphore counts in u32 and frames may be large.
const GRAIN: usize = 1024;

/// The bytes that all connections together may hold in unfinished request frames.
#[derive(Clone, Debug)]
pub(crate) struct FrameBudget {
    grains: Arc<Semaphore>,
    total: usize,
    lines: Lines,
}

/// A part of the budget, given back on drop.
///
/// Fields drop in order: the place among the user's own is free before the bytes are.
#[derive(Debug)]
pub(crate) struct Reservation {
    _part: Option<Part>,
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
            lines: Lines::new(grains(total / 2)),
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

    /// Users who have a line, in no order.
    #[cfg(test)]
    pub(crate) fn users(&self) -> Vec<Principal> {
        self.lines.users()
    }

    /// Waits, in turn, for `bytes` bytes. Cancel-safe: a dropped wait leaves its lines.
    ///
    /// `user`: whose share they count against; `None` stands in the common line alone.
    pub(crate) async fn reserve(self, user: Option<Principal>, bytes: usize) -> Reservation {
        let wanted = grains(bytes.min(self.total));
        let part = match user {
            Some(user) => Some(self.lines.enter(&user, wanted).await),
            None => None,
        };
        let permit = take(&self.grains, wanted).await;
        Reservation {
            _part: part,
            _permit: permit,
        }
    }
}

fn grains(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::{Pin, pin};
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
        let Poll::Ready(first) = pin!(budget.clone().reserve(None, 512 << 10))
            .as_mut()
            .poll(&mut cx)
        else {
            panic!("the budget was empty");
        };
        let mut large = pin!(budget.clone().reserve(None, 1 << 20));
        assert!(large.as_mut().poll(&mut cx).is_pending());
        let mut small = pin!(budget.clone().reserve(None, 1 << 10));
        assert!(small.as_mut().poll(&mut cx).is_pending(), "overtaken");
        drop(first);
        assert!(large.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn dropping_gives_back() {
        let budget = FrameBudget::new(1 << 20, 1 << 20).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(held) = pin!(budget.clone().reserve(None, 100_000))
            .as_mut()
            .poll(&mut cx)
        else {
            panic!("free");
        };
        assert!(budget.available() < budget.total());
        drop(held);
        assert_eq!(budget.available(), budget.total());
    }

    type Claim = Pin<Box<dyn Future<Output = Reservation>>>;

    fn claim(budget: &FrameBudget, user: &str, bytes: usize) -> Claim {
        let user = Principal::user(user);
        Box::pin(budget.clone().reserve(Some(user), bytes))
    }

    /// What a claim has got by now.
    fn got(claim: &mut Claim) -> Option<Reservation> {
        let mut cx = Context::from_waker(Waker::noop());
        match claim.as_mut().poll(&mut cx) {
            Poll::Ready(reservation) => Some(reservation),
            Poll::Pending => None,
        }
    }

    /// Fifty claims of a quarter each; those that wait, and what the others got.
    fn fifty(budget: &FrameBudget, user: &str) -> (VecDeque<Claim>, VecDeque<Reservation>) {
        let (mut waiting, mut held) = (VecDeque::new(), VecDeque::new());
        for _ in 0..50 {
            let mut one = claim(budget, user, budget.total() / 4);
            match got(&mut one) {
                Some(reservation) => held.push_back(reservation),
                None => waiting.push_back(one),
            }
        }
        (waiting, held)
    }

    #[test]
    fn a_user_has_half_of_it_and_waits_in_a_line_of_his_own() {
        let budget = FrameBudget::new(1 << 20, 1 << 20).unwrap();
        let (mut waiting, mut held) = fifty(&budget, "mallory");
        let hers = got(&mut claim(&budget, "alice", 512 << 10));
        assert!(hers.is_some(), "alice waits for mallory");
        assert_eq!((waiting.len(), held.len()), (48, 2));
        drop(hers);

        // Alone he gets on, one after the other; a wait that is dropped is none.
        drop(waiting.pop_front());
        while let Some(mut next) = waiting.pop_front() {
            assert!(got(&mut next).is_none());
            drop(held.pop_front());
            held.extend(got(&mut next));
            assert_eq!(held.len(), 2, "{} still wait", waiting.len());
        }
        assert_eq!(budget.users(), [Principal::user("mallory")]);
        drop(held);
        assert_eq!(budget.users(), []);
        assert_eq!(budget.available(), budget.total());
    }

    #[test]
    fn half_of_it_is_all_that_a_user_stands_in_the_common_line_for() {
        let budget = FrameBudget::new(1 << 20, 1 << 20).unwrap();
        let all = got(&mut claim(&budget, "bob", 1 << 20)).unwrap();
        let (mut waiting, held) = fifty(&budget, "mallory");
        assert!(held.is_empty());
        let mut hers = claim(&budget, "alice", 512 << 10);
        assert!(got(&mut hers).is_none());
        drop(all);
        let hers = got(&mut hers);
        assert!(hers.is_some(), "alice waits for mallory");
        let his: Vec<_> = waiting.iter_mut().filter_map(got).collect();
        assert_eq!(his.len(), 2);

        // Whoever waits no more has no line either, in whichever he stood.
        drop((waiting, his));
        assert_eq!(budget.users(), [Principal::user("alice")]);
        drop(hers);
        assert_eq!(budget.users(), []);
        assert_eq!(budget.available(), budget.total());
    }

    #[test]
    fn a_frame_larger_than_half_of_it_is_the_only_one_of_its_user() {
        let budget = FrameBudget::new(1 << 20, 1 << 20).unwrap();
        let first = got(&mut claim(&budget, "mallory", 1 << 20)).unwrap();
        let mut second = claim(&budget, "mallory", 1 << 20);
        assert!(got(&mut second).is_none());
        let mut hers = claim(&budget, "alice", 1 << 20);
        assert!(got(&mut hers).is_none());
        drop(first);
        let hers = got(&mut hers);
        assert!(hers.is_some(), "alice waits for mallory");
        assert!(got(&mut second).is_none());
        drop(hers);
        assert!(got(&mut second).is_some());
    }
}
