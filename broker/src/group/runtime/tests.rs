use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use super::*;
use crate::group::coordinator::TOPIC;
use crate::metadata::Internal;
use crate::partition::testing::TestNode;

/// The task of the first partition of a node.
fn runner(
    node: &TestNode,
    handle: &Arc<ShardHandle>,
    events: mpsc::Receiver<Command>,
    open: Open,
) -> Runner {
    let config = GroupConfig::defaults();
    Runner {
        handle: Arc::clone(handle),
        open,
        events,
        budget: Budget::new(config.members_max_bytes),
        config: Arc::new(config),
        metadata: MetadataHandle::new(Arc::clone(&node.image)),
        clock: Clock,
        shutdown: Shutdown::new(),
    }
}

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
    let mut run = pin!(runner(&node, &handle, events, open).run());
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

/// Events that take long, one behind the other: after each of them other tasks run.
#[tokio::test]
async fn others_run_between_two_long_events() {
    const EVENTS: usize = 10;
    let node = TestNode::new().topic(TOPIC, 1, &[]);
    let index = PartitionIndex::new(0);
    let (handle, events) = ShardHandle::new(index, Uuid::NIL, LeaderEpoch::new(0));
    let open: Open = {
        let topics = Arc::clone(&node.replicas);
        Box::new(move || topics.own_partition(&Internal::for_purpose("test"), TOPIC, index))
    };
    // The turns of this task, as each event saw them.
    let turns = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..EVENTS {
        let (turns, seen) = (Arc::clone(&turns), Arc::clone(&seen));
        let run: Event = Box::new(move |_, _| {
            seen.lock().push(turns.load(Ordering::Relaxed));
            let began = Instant::now();
            while began.elapsed() <= WORK {
                std::hint::spin_loop();
            }
            Step::none()
        });
        let group = Some("g".into());
        handle
            .mailbox
            .try_send(Command {
                group,
                rows: 0,
                run,
            })
            .expect("room");
    }
    let mut run = pin!(runner(&node, &handle, events, open).run());
    while seen.lock().len() < EVENTS {
        turns.fetch_add(1, Ordering::Relaxed);
        let ended = poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_ready())).await;
        assert!(!ended);
        tokio::task::yield_now().await;
    }
    let seen = seen.lock().clone();
    assert!(seen.windows(2).all(|two| two[0] < two[1]), "{seen:?}");
}
