//! Topics of expressions on their way into the log.

use std::collections::BTreeSet;
use std::sync::Mutex;

use palisade_auth::principal::Principal;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;

use super::*;
use crate::group::consumer::{Client, Found, Heartbeat};
use crate::group::expressions::judge;
use crate::group::look_up::{LookUpAsk, look_up};
use crate::group::shard::{HeartbeatAsk, LookedUp};
use crate::group::step::deliver;
use crate::partition::testing::ROOT;

impl Rig {
    /// A heartbeat of a member, and the expressions that it has looked up.
    pub(super) async fn beats(
        &self,
        member: &str,
        epoch: i32,
        pattern: Option<&str>,
    ) -> (Heartbeat, Vec<Str>) {
        let (answer, patterns) = self.tries(member, epoch, pattern).await;
        (answer.unwrap(), patterns)
    }

    /// The same of one that may be refused.
    async fn tries(
        &self,
        member: &str,
        epoch: i32,
        pattern: Option<&str>,
    ) -> (Result<Heartbeat, GroupError>, Vec<Str>) {
        let asked_for = Arc::new(Mutex::new(Vec::new()));
        let says = || {
            let sink = Arc::clone(&asked_for);
            let look_up = move |patterns: Vec<Str>| sink.lock().unwrap().extend(patterns);
            says("g", (member, epoch), pattern, Box::new(look_up))
        };
        let heartbeat = self.sends(says).await;
        let patterns = asked_for.lock().unwrap().clone();
        (heartbeat, patterns)
    }

    /// Sends a heartbeat, until the log is read.
    async fn sends(&self, says: impl Fn() -> HeartbeatAsk) -> Result<Heartbeat, GroupError> {
        loop {
            let ask = says();
            let group = ask.request.group_id.clone();
            let asked = self.groups.ask(group.clone(), move |shard, moment, asker| {
                shard.consumer_heartbeat(&group, ask, asker, moment)
            });
            match asked.await {
                Ok(awaited) => return awaited.answer().await.unwrap(),
                Err(GroupError::Loading) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A heartbeat of Alice's in a group, whose expressions are looked up as those of clients.
    async fn alices(&self, group: &str, epoch: i32, pattern: Option<&str>) -> Heartbeat {
        let says = || {
            let look_up = look_up(LookUpAsk {
                groups: Arc::clone(&self.groups),
                group: Str::copy(group),
                image: Arc::clone(&self.node.image),
                access: self.node.access(ROOT),
                principal: Principal::user("alice"),
            });
            says(group, ("m", epoch), pattern, look_up)
        };
        self.sends(says).await.unwrap()
    }

    /// What the group's members subscribe to.
    async fn subscribed(&self) -> BTreeSet<String> {
        let asked = self.groups.ask("g".into(), |shard, _, asker| Step {
            deliveries: vec![deliver(asker, shard.subscribed_topics("g"))],
            ..Step::none()
        });
        asked.await.unwrap().answer().await.unwrap()
    }

    /// Brings topics for expressions as a look-up does.
    pub(super) async fn finds(&self, patterns: &[Str], topics: impl Fn(&Str) -> usize) {
        let topics_of = |pattern: &Str| {
            let names = names(pattern, topics(pattern));
            names.iter().map(|name| Str::copy(name)).collect()
        };
        let found: Found = patterns
            .iter()
            .map(|pattern| (pattern.clone(), topics_of(pattern)))
            .collect();
        let looked_up = LookedUp {
            found,
            version: self.node.image.offset,
            more: false,
            principal: Principal::user("alice"),
        };
        let asked = self.groups.ask("g".into(), move |shard, moment, asker| {
            shard.patterns_found(&"g".into(), looked_up, asker, moment)
        });
        let answer = asked.await.unwrap().answer().await.unwrap();
        assert_eq!(answer, Ok(()));
    }
}

fn says(
    group: &str,
    (member, epoch): (&str, i32),
    pattern: Option<&str>,
    look_up: Box<dyn FnOnce(Vec<Str>) + Send>,
) -> HeartbeatAsk {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: Str::copy(group),
        member_id: Str::copy(member),
        member_epoch: epoch,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_regex: pattern.map(Str::copy),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    HeartbeatAsk {
        member_id: request.member_id.clone(),
        client: Client {
            id: "c".into(),
            host: "/h".into(),
            principal: Principal::user("alice"),
        },
        judged: judge(&request),
        request,
        look_up,
    }
}

/// What an expression stands for.
fn names(pattern: &str, count: usize) -> BTreeSet<String> {
    let name = |number| format!("{pattern}-{number:0>50}");
    (0..count).map(name).collect()
}

/// Batches of two kilobytes, and members with an expression each, none of which is resolved.
async fn expressions(count: usize) -> (Rig, Vec<Str>) {
    let small = [("max.message.bytes", "2048")];
    let rig = Rig::over(TestNode::new().topic(TOPIC, 1, &small));
    let mut patterns = Vec::new();
    for number in 0..count {
        let pattern = format!("p{number}");
        let (_, wanted) = rig.beats(&format!("m{number}"), 0, Some(&pattern)).await;
        patterns.extend(wanted);
        // One look-up at a time; the next member's is to be asked for, too.
        let event = |shard: &mut Shard, moment: &Moment<'_>, asker| {
            let looked_up = LookedUp {
                found: Found::new(),
                version: moment.image.offset,
                more: false,
                principal: Principal::user("alice"),
            };
            shard.patterns_found(&"g".into(), looked_up, asker, moment)
        };
        rig.groups
            .ask("g".into(), event)
            .await
            .unwrap()
            .answer()
            .await
            .unwrap()
            .unwrap();
    }
    patterns.sort();
    patterns.dedup();
    assert_eq!(patterns.len(), count);
    (rig, patterns)
}

#[tokio::test]
async fn topics_that_fill_several_batches_are_known() {
    let (rig, patterns) = expressions(6).await;
    rig.finds(&patterns, |_| 15).await;
    let (_, wanted) = rig.beats("m0", 1, None).await;
    assert_eq!(wanted, Vec::<Str>::new());
    let all = patterns.iter().flat_map(|pattern| names(pattern, 15));
    assert_eq!(rig.subscribed().await, all.collect());
}

#[tokio::test]
async fn topics_that_no_batch_holds_keep_no_others_out() {
    let (rig, patterns) = expressions(3).await;
    rig.finds(
        &patterns,
        |pattern| if *pattern == *"p1" { 100 } else { 15 },
    )
    .await;
    let (_, wanted) = rig.beats("m0", 1, None).await;
    assert!(wanted.iter().all(|pattern| *pattern == *"p1"), "{wanted:?}");
    let others = ["p0", "p2"].map(|pattern| names(pattern, 15));
    assert_eq!(
        rig.subscribed().await,
        others.into_iter().flatten().collect()
    );
}

/// Otherwise whoever sends wrong epochs has one look-up after the other begin beside those that go
/// on.
#[tokio::test]
async fn a_refused_heartbeat_does_not_end_the_look_up_of_another() {
    let rig = Rig::new();
    let (_, wanted) = rig.beats("m0", 0, Some("p0")).await;
    assert_eq!(wanted, ["p0"]);
    let (refused, _) = rig.tries("m0", 99, None).await;
    assert!(
        matches!(refused, Err(GroupError::FencedMemberEpoch(_))),
        "{refused:?}"
    );
    let (_, wanted) = rig.beats("m0", 1, None).await;
    assert_eq!(wanted, Vec::<Str>::new());
}

#[tokio::test]
async fn members_are_answered_while_a_look_up_waits_for_its_turn() {
    let rig = Rig::over(TestNode::new().topic(TOPIC, 1, &[]).topic("ta", 1, &[]));
    let (_, look_ups) = rig.groups.expressions().turns();
    let turn = look_ups.turn(&Principal::user("mallory")).await;
    assert_eq!(rig.alices("g", 0, Some("t.*")).await.member_epoch, 1);
    // It is asked for before its heartbeat is answered; the group's own tasks are no more than
    // these beside it.
    let mut heartbeats = 0;
    while look_ups.users().len() < 2 {
        assert_eq!(rig.alices("g", 1, None).await.member_epoch, 1);
        heartbeats += 1;
        assert!(heartbeats < 100, "not in line: {:?}", look_ups.users());
    }
    let mut users = look_ups.users();
    users.sort();
    assert_eq!(users, ["alice", "mallory"].map(Principal::user));
    assert_eq!(rig.alices("other", 0, Some("")).await.member_epoch, 1);
    assert_eq!(rig.alices("g", 1, None).await.member_epoch, 1);
    assert_eq!(rig.subscribed().await, BTreeSet::new());

    drop(turn);
    while rig.subscribed().await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.subscribed().await, ["ta".to_owned()].into());
    drop(look_ups.all().await);
    assert_eq!(look_ups.users(), []);
}
