//! Producer ids of this node: blocks from the controller, handed out one by one.
//!
//! An id is never given out twice in the life of a cluster. A block's rest is lost when the node
//! stops, which 63 bits can bear.

use std::ops::Range;

use palisade_protocol::types::{BrokerId, ProducerId};
use parking_lot::Mutex;
use tracing::warn;

use crate::logging::Throttle;
use crate::metadata::controller::AllocateProducerIds;
use crate::metadata::{Actor, Controller, Internal};

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
    /// One request at a time asks for a new block; the others wait for it.
    refill: tokio::sync::Mutex<()>,
}

impl ProducerIds {
    /// Without a block yet: the first request asks for one.
    pub fn new() -> ProducerIds {
        ProducerIds::default()
    }

    /// The next id; none while no block can be had.
    pub(crate) async fn next(&self, source: &impl BlockSource) -> Option<ProducerId> {
        if let Some(id) = self.take() {
            return Some(id);
        }
        let _turn = self.refill.lock().await;
        // Whoever had the turn before may have brought a block for all.
        if let Some(id) = self.take() {
            return Some(id);
        }
        let block = source.allocate().await?;
        *self.rest.lock() = block;
        self.take()
    }

    fn take(&self) -> Option<ProducerId> {
        self.rest.lock().next().map(ProducerId::new)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

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
}
