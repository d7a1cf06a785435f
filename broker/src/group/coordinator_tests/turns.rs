//! What shares an append, and who gets a turn while much of one kind is to be done.

use palisade_protocol::batch::BatchIter;

use super::*;
use crate::group::offsets::WALKED;

/// Offsets of one test: several chunks of an expiry.
const OFFSETS: usize = 5_000;
/// Many groups with few offsets, or few with many.
const GROUPS: [usize; 2] = [2_500, 20];
/// Whether the asker runs between two chunks is the scheduler's choice; not each time it is left
/// out.
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
            left => is_between |= left < OFFSETS,
        }
    }
}

fn offset_of(group: usize, topic: &str, at: usize) -> GroupRecord {
    GroupRecord::Offset {
        group: format!("group-{group}").into(),
        topic: Str::copy(topic),
        partition: i32::try_from(at).unwrap(),
        value: Some(OffsetCommitValue {
            offset: 7,
            leader_epoch: -1,
            metadata: Str::EMPTY,
            commit_timestamp: NOW.value(),
            expire_timestamp: -1,
            topic_id: Uuid::NIL,
        }),
    }
}

/// A log of so many groups with offsets in one topic.
async fn many(groups: usize) -> TestNode {
    let offsets = 0..OFFSETS;
    node_with(offsets.map(|at| offset_of(at % groups, "t", at))).await
}

async fn is_served_while_offsets_expire(groups: usize) -> bool {
    let config = GroupConfig {
        offsets_retention: Duration::ZERO,
        offsets_retention_check_interval: Duration::ZERO,
        ..GroupConfig::defaults()
    };
    let rig = Rig::with(many(groups).await, config);
    is_served_in_between(&rig).await
}

#[tokio::test]
async fn members_are_served_while_offsets_expire() {
    for groups in GROUPS {
        let mut attempts = 0;
        while !is_served_while_offsets_expire(groups).await {
            attempts += 1;
            assert!(attempts < ATTEMPTS, "{groups} groups and nobody is served");
        }
    }
}

/// Has the coordinator hear that topics are gone.
fn drop_topics(rig: &Rig, names: impl IntoIterator<Item = String>) {
    let image = &rig.node.image;
    let topics = names.into_iter().filter_map(|name| image.topics.get(&name));
    let delta = ClusterDelta {
        topics_deleted: topics.map(|topic| (topic.id, Arc::clone(topic))).collect(),
        ..ClusterDelta::default()
    };
    rig.groups.changed(&delta, image);
}

async fn is_served_while_a_topic_is_dropped(groups: usize) -> bool {
    let rig = Rig::over(many(groups).await.topic("t", 1, &[]));
    assert_eq!(count(&rig).await, OFFSETS);
    drop_topics(&rig, ["t".to_owned()]);
    is_served_in_between(&rig).await
}

#[tokio::test]
async fn members_are_served_while_a_topic_is_dropped() {
    for groups in GROUPS {
        let mut attempts = 0;
        while !is_served_while_a_topic_is_dropped(groups).await {
            attempts += 1;
            assert!(attempts < ATTEMPTS, "{groups} groups and nobody is served");
        }
    }
}

#[tokio::test]
async fn offsets_of_many_deleted_topics_are_found_in_one_walk() {
    const GROUPS: usize = 10;
    const TOPICS: usize = 30;
    let names = || (0..TOPICS).map(|topic| format!("t{topic:0>2}"));
    let all: Vec<_> = names()
        .flat_map(|name| (0..GROUPS).map(move |group| offset_of(group, &name, 0)))
        .collect();
    let mut node = node_with(all).await;
    for name in names() {
        node = node.topic(&name, 1, &[]);
    }
    let rig = Rig::over(node);
    assert_eq!(count(&rig).await, GROUPS * TOPICS);
    let walked = WALKED.get();
    // All but one, whose offsets stay.
    drop_topics(&rig, names().skip(1));
    while count(&rig).await > GROUPS {}
    assert_eq!(WALKED.get() - walked, GROUPS * TOPICS);
    // Of a topic in which nobody has an offset nothing is looked for.
    drop_topics(&rig, names().skip(1));
    assert_eq!(count(&rig).await, GROUPS);
    assert_eq!(WALKED.get() - walked, GROUPS * TOPICS);
}

/// Of one that is gone nobody has an offset when the walk begins, and some have before they are
/// walked: all but the few who were walked already.
#[tokio::test]
async fn what_is_committed_while_topics_are_dropped_is_dropped_too() {
    const COMMITS: usize = 100;
    let node = many(GROUPS[0]).await;
    let rig = Rig::over(node.topic("t", 1, &[]).topic("u", 1, &[]));
    assert_eq!(count(&rig).await, OFFSETS);
    drop_topics(&rig, ["t", "u"].map(str::to_owned));
    // The walk begins before these are in the mailbox.
    tokio::task::yield_now().await;
    let mut commits = Vec::new();
    for group in 0..COMMITS {
        let asked = rig.groups.ask("nobody".into(), move |_, _, asker| {
            let decision = Decision {
                records: vec![offset_of(group, "u", 0)],
                ..Decision::answer(())
            };
            Step::decided(decision, asker)
        });
        commits.push(asked.await.unwrap());
    }
    for commit in commits {
        commit.answer().await.unwrap().unwrap();
    }
    loop {
        let asked = rig.groups.ask("nobody".into(), |shard, _, asker| {
            Step::decided(Decision::answer(shard.has_offsets_in("t")), asker)
        });
        if !asked.await.unwrap().answer().await.unwrap().unwrap() {
            break;
        }
    }
    let left = count(&rig).await;
    assert!(left < COMMITS, "all of them");
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
