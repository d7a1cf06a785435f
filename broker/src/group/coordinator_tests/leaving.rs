//! Many members that go at once, on their way into the log.

use super::*;
use crate::group::classic::Identity;
use crate::group::shard::ListedGroup;

impl Rig {
    /// The groups, once they are read.
    async fn listed(&self) -> Vec<ListedGroup> {
        loop {
            let asked = self.groups.ask("g".into(), |shard, _, asker| {
                Step::decided(Decision::answer(shard.list()), asker)
            });
            match asked.await {
                Ok(awaited) => return awaited.answer().await.unwrap().unwrap(),
                Err(GroupError::Loading) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Members of a group leave together.
async fn leave(rig: &Rig, ids: &[String]) {
    let leaving = ids.iter().map(|id| Identity {
        member_id: Str::copy(id),
        instance_id: None,
    });
    let leaving: Vec<_> = leaving.collect();
    let asked = rig.groups.ask("g".into(), move |shard, moment, asker| {
        shard.leave(&"g".into(), &leaving, asker, moment)
    });
    let left = asked.await.unwrap().answer().await.unwrap();
    assert_eq!(left, Ok(vec![Ok(()); ids.len()]));
    assert_eq!(rig.listed().await[0].state, "Empty");
}

#[tokio::test]
async fn more_members_than_a_batch_removes_leave_together() {
    const MEMBERS: usize = 40;
    let small = [("max.message.bytes", "2048")];
    let mut rig = Rig::over(TestNode::new().topic(TOPIC, 1, &small));
    let ids: Vec<String> = (0..MEMBERS).map(|n| format!("member-{n}")).collect();
    for id in &ids {
        rig.beats(id, 0, Some("t.*")).await;
    }
    leave(&rig, &ids).await;
    rig.elect(2, 1);
    rig.elect(1, 2);
    assert_eq!(rig.listed().await[0].state, "Empty");
}

/// Expressions of an empty group that no batch removes together.
#[tokio::test]
async fn a_classic_member_joins_where_much_is_to_be_removed() {
    let small = [("max.message.bytes", "2048")];
    let rig = Rig::over(TestNode::new().topic(TOPIC, 1, &small));
    let ids: Vec<String> = (0..40).map(|n| format!("member-{n}")).collect();
    for id in &ids {
        let pattern = format!("{id}{}", "x".repeat(100));
        let (_, wanted) = rig.beats(id, 0, Some(&pattern)).await;
        rig.finds(&wanted, |_| 0).await;
    }
    leave(&rig, &ids).await;
    let joined = rig.join("g", 1, Duration::from_secs(45)).await;
    let joined = joined.answer().await.unwrap();
    assert!(joined.is_ok(), "{joined:?}");
    assert_eq!(rig.listed().await[0].kind, "classic");
}
