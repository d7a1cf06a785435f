//! What shares an append, and who gets a turn while much of one kind is to be done.

use palisade_protocol::batch::BatchIter;

use super::*;

/// Groups of one test: several chunks of an expiry.
const GROUPS: usize = 500;
/// Whether the asker runs between two chunks is the scheduler's choice; not each time it is left out.
const ATTEMPTS: usize = 10;

/// How many offsets there are, asked for a group of its own so that nothing must be appended first.
async fn count(rig: &Rig) -> usize {
    loop {
        let asked = rig.groups.ask("nobody".into(), |shard, _, asker| {
            Step::decided(Decision::answer(shard.offset_count()), asker)
        });
        match asked.await {
            Ok(awaited) => return awaited.answer().await.unwrap().unwrap(),
            Err(GroupError::Loading) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn members_that_expire_together_share_an_append() {
    const MEMBERS: u8 = 100;
    let rig = Rig::new();
    assert_eq!(count(&rig).await, 0);
    // Nobody answers in between: all join in one turn, and all sessions are over in the next look.
    for member in 0..MEMBERS {
        let group = format!("group-{member}");
        drop(rig.join(&group, member, Duration::ZERO).await);
    }
    let token = Internal::for_purpose("test");
    let index = PartitionIndex::new(0);
    let node = &rig.node;
    let partition = node.replicas.own_partition(&token, TOPIC, index).unwrap();
    while partition.log_end_offset().value() < i64::from(MEMBERS) {
        tokio::task::yield_now().await;
    }
    let bytes = std::fs::read(node.log_file("__consumer_offsets-0")).unwrap();
    let batches = BatchIter::new(&bytes).map_while(Result::ok).count();
    assert!(batches < usize::from(MEMBERS / 2), "{batches} appends");
}

/// Asks until no offset is left; whether an answer came from in between.
async fn is_served_in_between(rig: &Rig) -> bool {
    let mut is_between = false;
    loop {
        match count(rig).await {
            0 => return is_between,
            left => is_between |= left < GROUPS,
        }
    }
}

/// A log of many groups with one offset each.
async fn many() -> TestNode {
    let names = (0..GROUPS).map(|group| format!("group-{group}"));
    node_with(names.map(|name| commit_of(&name, 7))).await
}

#[tokio::test]
async fn members_are_served_while_offsets_expire() {
    for _ in 0..ATTEMPTS {
        let config = GroupConfig {
            offsets_retention: Duration::ZERO,
            offsets_retention_check_interval: Duration::ZERO,
            ..GroupConfig::defaults()
        };
        let rig = Rig::with(many().await, config);
        if is_served_in_between(&rig).await {
            return;
        }
    }
    panic!("nobody was served in between");
}

#[tokio::test]
async fn members_are_served_while_a_topic_is_dropped() {
    for _ in 0..ATTEMPTS {
        let rig = Rig::over(many().await.topic("t", 1, &[]));
        assert_eq!(count(&rig).await, GROUPS);
        let topic = Arc::clone(rig.node.image.topics.get("t").unwrap());
        let delta = ClusterDelta {
            topics_deleted: [(topic.id, topic)].into_iter().collect(),
            ..ClusterDelta::default()
        };
        rig.groups.changed(&delta, &rig.node.image);
        if is_served_in_between(&rig).await {
            return;
        }
    }
    panic!("nobody was served in between");
}

#[tokio::test]
async fn what_follows_an_event_is_seen_by_the_next_of_the_group() {
    let rig = Rig::new();
    assert_eq!(count(&rig).await, 0);
    let first = rig.groups.ask::<()>("g".into(), |_, _, _| Step {
        after: Some(Box::new(|_, _, _| Step {
            records: vec![commit_of("g", 7)],
            ..Step::default()
        })),
        ..Step::default()
    });
    let second = rig.groups.ask("g".into(), |shard, _, asker| {
        Step::decided(Decision::answer(shard.offset_count()), asker)
    });
    // Both wait in the mailbox before the first is looked at.
    let (first, second) = (first.await, second.await);
    drop(first);
    let second = second.expect("an active coordinator");
    assert_eq!(second.answer().await, Ok(Ok(1)));
}
