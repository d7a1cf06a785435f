use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use super::*;
use crate::group::coordinator::TOPIC;
use crate::metadata::Internal;
use crate::partition::testing::TestNode;

/// The log comes to be there while it is looked at in vain: it is looked at again at once.
#[tokio::test]
async fn a_retry_in_the_middle_of_a_load_is_heeded() {
    let node = TestNode::new().topic(TOPIC, 1, &[]);
    let index = PartitionIndex::new(0);
    let (handle, events) = ShardHandle::new(index, Uuid::NIL, LeaderEpoch::new(0));
    let looks = Arc::new(AtomicUsize::new(0));
    let open: Open = {
        let (handle, looks) = (Arc::clone(&handle), Arc::clone(&looks));
        let topics = Arc::clone(&node.replicas);
        Box::new(move || {
            if looks.fetch_add(1, Ordering::Relaxed) == 0 {
                assert_eq!(handle.phase(), Phase::Loading);
                handle.retry();
                return Err(PartitionError::Offline);
            }
            topics.own_partition(&Internal::for_purpose("test"), TOPIC, index)
        })
    };
    let config = GroupConfig::defaults();
    let runner = Runner {
        handle: Arc::clone(&handle),
        open,
        events,
        budget: Budget::new(config.members_max_bytes),
        config: Arc::new(config),
        metadata: MetadataHandle::new(Arc::clone(&node.image)),
        clock: Clock,
        shutdown: Shutdown::new(),
    };
    let mut run = pin!(runner.run());
    let mut poll_once = async || {
        let ended = poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_ready())).await;
        assert!(!ended);
    };
    poll_once().await;
    assert_eq!(looks.load(Ordering::Relaxed), 2, "without a pause");
    while handle.phase() != Phase::Active {
        tokio::task::yield_now().await;
        poll_once().await;
    }
}
