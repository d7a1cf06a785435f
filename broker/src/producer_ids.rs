//! Producer ids of this node: blocks from the controller, handed out one by one.
//!
//! An id is never given out twice in the life of a cluster. A block's rest is lost when the node
//! stops, which 63 bits can bear.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palisade_protocol::types::{BrokerId, ProducerId};
use parking_lot::Mutex;
use tokio::time::timeout;
use tracing::warn;

use crate::logging::Throttle;
use crate::metadata::controller::AllocateProducerIds;
use crate::metadata::{Actor, Controller, Internal};

/// Longest wait of one request for an id, those for others' turns included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where blocks come from.
pub(crate) trait BlockSource: Sync {
    /// A block that nobody else gets; none while there is no controller to ask.
    fn allocate(&self) -> impl Future<Output = Option<Range<i64>>> + Send;
}

/// This node's own request for a block.
pub(crate) struct NodeBlocks<'a> {
    /// Who hands blocks out.
    pub(crate) controller: &'a Controller,
    /// This node.
    pub(crate) node: BrokerId,
}

impl BlockSource for NodeBlocks<'_> {
    async fn allocate(&self) -> Option<Range<i64>> {
        let image = self.controller.metadata().image();
        // Only a registered node gets blocks, each on record with its registration.
        let registration = image.brokers.get(self.node)?;
        let request = AllocateProducerIds {
            broker_id: self.node,
            broker_epoch: registration.epoch,
        };
        let actor = Actor::internal(Internal::for_purpose("producer ids"));
        match self.controller.answer(request, 0, actor).await {
            Ok(block) => {
                let first = block.first.value();
                Some(first..first.saturating_add(block.count))
            }
            Err(code) => {
                // Asked again by every producer that starts meanwhile.
                static SAID: Throttle = Throttle::new();
                if SAID.may_speak() {
                    warn!(code = code.name(), "no block of producer ids");
                }
                None
            }
        }
    }
}

/// The rest of this node's block.
#[derive(Debug, Default)]
pub struct ProducerIds {
    rest: Mutex<Range<i64>>,
    /// One request at a time asks for a new block; the others wait for what comes of it. Held while
    /// the controller is asked, with nothing else held or taken beside `rest`.
    refill: tokio::sync::Mutex<()>,
    /// How often asking came to nothing.
    failures: AtomicU64,
}

impl ProducerIds {
    /// Without a block yet: the first request asks for one.
    pub fn new() -> ProducerIds {
        ProducerIds::default()
    }

    /// The next id; none while no block can be had, after [`PATIENCE`] at the latest.
    pub(crate) async fn next(&self, source: &impl BlockSource) -> Option<ProducerId> {
        self.next_within(PATIENCE, source).await
    }

    async fn next_within(
        &self,
        patience: Duration,
        source: &impl BlockSource,
    ) -> Option<ProducerId> {
        if let Some(id) = self.take() {
            return Some(id);
        }
        timeout(patience, self.refilled(source)).await.ok()?
    }

    async fn refilled(&self, source: &impl BlockSource) -> Option<ProducerId> {
        let failures = self.failures.load(Ordering::Relaxed);
        let _turn = self.refill.lock().await;
        // Whoever had the turn before may have brought a block for all, or learned that there is
        // none.
        if let Some(id) = self.take() {
            return Some(id);
        }
        if self.failures.load(Ordering::Relaxed) != failures {
            return None;
        }
        let Some(mut block) = source.allocate().await else {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        // Others take of it as soon as it is there; who fetched it has had its share by then.
        let first = block.next();
        *self.rest.lock() = block;
        first.map(ProducerId::new)
    }

    fn take(&self) -> Option<ProducerId> {
        self.rest.lock().next().map(ProducerId::new)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI64};
    use std::thread;

    use super::*;

    #[derive(Default)]
    struct Blocks {
        given: AtomicI64,
    }

    impl BlockSource for Blocks {
        async fn allocate(&self) -> Option<Range<i64>> {
            tokio::task::yield_now().await;
            let start = self.given.fetch_add(2, Ordering::Relaxed);
            (start < 4).then_some(start..start + 2)
        }
    }

    #[tokio::test]
    async fn every_id_is_given_once() {
        let ids = ProducerIds::new();
        let blocks = Blocks::default();
        let (a, b, c) = tokio::join!(ids.next(&blocks), ids.next(&blocks), ids.next(&blocks));
        let mut given: Vec<i64> = [a, b, c].iter().flatten().map(|id| id.value()).collect();
        given.sort_unstable();
        assert_eq!(given, [0, 1, 2]);
        assert_eq!(ids.next(&blocks).await, Some(ProducerId::new(3)));
        assert_eq!(ids.next(&blocks).await, None);
    }

    /// Blocks of one id.
    #[derive(Default)]
    struct Single {
        given: AtomicI64,
    }

    impl BlockSource for Single {
        async fn allocate(&self) -> Option<Range<i64>> {
            let id = self.given.fetch_add(1, Ordering::Relaxed);
            Some(id..id + 1)
        }
    }

    /// However many others take what is there, who fetched a block has an id of it.
    #[tokio::test]
    async fn who_fetches_a_block_gets_its_first_id() {
        const BLOCKS: i64 = 200_000;
        let ids = Arc::new(ProducerIds::new());
        let is_over = Arc::new(AtomicBool::new(false));
        let takers = [(); 4].map(|()| {
            let (ids, is_over) = (Arc::clone(&ids), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut taken = 0;
                while !is_over.load(Ordering::Relaxed) {
                    taken += usize::from(ids.take().is_some());
                }
                taken
            })
        });
        let single = Single::default();
        let mut without = 0;
        for _ in 0..BLOCKS {
            without += usize::from(ids.next(&single).await.is_none());
        }
        is_over.store(true, Ordering::Relaxed);
        let taken = takers.map(|taker| taker.join().unwrap());
        assert_eq!((without, taken), (0, [0; 4]));
    }

    /// Answers with nothing, or not at all.
    struct Nobody {
        asked: AtomicI64,
        silent: bool,
    }

    impl BlockSource for Nobody {
        async fn allocate(&self) -> Option<Range<i64>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            match self.silent {
                true => std::future::pending().await,
                false => None,
            }
        }
    }

    #[tokio::test]
    async fn those_who_wait_share_one_failure() {
        let ids = ProducerIds::new();
        let nobody = Nobody {
            asked: AtomicI64::new(0),
            silent: false,
        };
        let all = tokio::join!(ids.next(&nobody), ids.next(&nobody), ids.next(&nobody));
        assert_eq!(all, (None, None, None));
        assert_eq!(nobody.asked.load(Ordering::Relaxed), 1);
        // Whoever comes later tries for itself.
        assert_eq!(ids.next(&nobody).await, None);
        assert_eq!(nobody.asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn waiting_for_others_is_bounded_too() {
        let ids = ProducerIds::new();
        let nobody = Nobody {
            asked: AtomicI64::new(0),
            silent: true,
        };
        let second = tokio::select! {
            biased;
            first = ids.next(&nobody) => panic!("before its deadline: {first:?}"),
            second = ids.next_within(Duration::from_millis(1), &nobody) => second,
        };
        assert_eq!(second, None);
        assert_eq!(nobody.asked.load(Ordering::Relaxed), 1);
    }
}
