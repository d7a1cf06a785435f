//! The bound on what members keep in memory.

use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;

use super::*;
use crate::group::classic::JoinAnswer;
use crate::group::consumer::{Client, Heartbeat};
use crate::group::expressions::judge;

/// 224 KiB for newcomers of one group, 256 KiB with what they add later.
const LIMIT: usize = 1 << 20;

fn bench() -> (Bench, Arc<Budget>) {
    let budget = Budget::new(LIMIT);
    let mut bench = Bench::new();
    bench.shard = Shard::new(Arc::clone(&budget));
    (bench, budget)
}

impl Bench {
    fn brings(
        &mut self,
        group: &'static str,
        id: &Str,
        bytes: usize,
        with: impl FnOnce(&mut JoinAsk),
    ) -> oneshot::Receiver<Verdict<JoinAnswer>> {
        let mut ask = JoinAsk {
            member_id: id.clone(),
            protocols: vec![("range".into(), vec![0; bytes].into())],
            ..JoinAsk::of_a_consumer(Uuid::from_bytes([self.shard.next_token as u8; 16]))
        };
        with(&mut ask);
        self.ask(|shard, moment, asker| shard.join(&group.into(), ask, asker, moment))
    }

    fn beats(&mut self, request: ConsumerGroupHeartbeatRequest) -> Result<Heartbeat, GroupError> {
        self.beats_as("alice", request)
    }

    fn beats_as(
        &mut self,
        user: &str,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Result<Heartbeat, GroupError> {
        let group = request.group_id.clone();
        let ask = HeartbeatAsk {
            member_id: request.member_id.clone(),
            client: Client {
                id: "c".into(),
                host: "/h".into(),
                principal: Principal::user(user),
            },
            judged: judge(&request),
            request,
            look_up: Box::new(|_| {}),
        };
        let asked =
            self.ask(|shard, moment, asker| shard.consumer_heartbeat(&group, ask, asker, moment));
        answered(asked)
    }
}

/// Waits in the group, as the last thing that it heard.
fn waits<T>(answer: &mut oneshot::Receiver<Verdict<T>>) -> bool {
    matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

fn refused(answer: oneshot::Receiver<Verdict<JoinAnswer>>) -> Option<ErrorCode> {
    answered(answer).err().map(|refused| refused.error.code())
}

const FULL: Option<ErrorCode> = Some(ErrorCode::GROUP_MAX_SIZE_REACHED);

#[test]
fn a_group_takes_members_up_to_its_share_and_others_go_on() {
    let (mut bench, budget) = bench();
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(bench.brings("g", &Str::EMPTY, 50_000, |_| {}));
    }
    assert!(members.iter_mut().all(waits));
    assert!(budget.used() > 200_000 && budget.used() < 210_000);
    assert_eq!(
        refused(bench.brings("g", &Str::EMPTY, 50_000, |_| {})),
        FULL
    );
    assert!(waits(&mut bench.brings(
        "other",
        &Str::EMPTY,
        50_000,
        |_| {}
    )));
    let key = TimerKey::Join { group: "g".into() };
    // Once more, since members came in its first round.
    for _ in 0..2 {
        let step = bench.with(|shard, moment| shard.expired(&key, moment));
        bench.take(step);
    }
    let ids: Vec<Str> = members
        .into_iter()
        .map(|member| answered(member).unwrap().member_id)
        .collect();
    // As much as before always passes, and somewhat more.
    let same = bench.brings("g", &ids[0], 50_000, |_| {});
    assert_eq!(answered(same).unwrap().member_id, ids[0]);
    assert!(waits(&mut bench.brings("g", &ids[1], 75_000, |_| {})));
    assert_eq!(refused(bench.brings("g", &ids[2], 90_000, |_| {})), FULL);
    let leaving: Vec<_> = ids
        .into_iter()
        .map(|member_id| Identity {
            member_id,
            instance_id: None,
        })
        .collect();
    let left = bench.ask(|shard, moment, asker| shard.leave(&"g".into(), &leaving, asker, moment));
    assert_eq!(
        answered(left).unwrap(),
        vec![Ok(()); 4],
        "refused, not removed"
    );
    assert!(budget.used() < 60_000, "{}", budget.used());
    bench.shard = Shard::new(Arc::clone(&budget));
    assert_eq!(budget.used(), 0);
}

/// A JoinGroup of this user.
fn of(user: &str) -> impl Fn(&mut JoinAsk) {
    let principal = Principal::user(user);
    move |ask| ask.principal = principal.clone()
}

/// What a user's members hold.
fn held_by(budget: &Budget, user: &str) -> usize {
    let shares = budget.shares().by_owner();
    shares.get(&Principal::user(user)).copied().unwrap_or(0)
}

#[test]
fn groups_of_one_principal_leave_room_for_the_others() {
    let (mut bench, budget) = bench();
    for group in ["a", "b"] {
        let mut joins = bench.brings(group, &Str::EMPTY, 220_000, of("mallory"));
        assert!(waits(&mut joins));
    }
    let refused_in_c = refused(bench.brings("c", &Str::EMPTY, 50_000, of("mallory")));
    assert_eq!(refused_in_c, FULL);
    let is_there = bench.shard.groups.contains_key("c");
    assert!(!is_there, "nothing is left of it");
    let mut joins = bench.brings("d", &Str::EMPTY, 220_000, of("alice"));
    assert!(waits(&mut joins));
    assert!(waits(&mut bench.brings(
        "e",
        &Str::EMPTY,
        100_000,
        of("bob")
    )));
    assert!(held_by(&budget, "mallory") < LIMIT / 2);
    assert!(budget.used() <= LIMIT);
}

/// The answers of a member that is alone in its group.
fn alone(bench: &mut Bench, group: &'static str, id: &Str, bytes: usize, user: &str) -> Joined {
    let answer = bench.brings(group, id, bytes, of(user));
    let group = group.into();
    let step = bench.with(|shard, moment| shard.expired(&TimerKey::Join { group }, moment));
    bench.take(step);
    answered(answer).unwrap()
}

/// Whoever grows first would have the last eighth of the whole; whose growth leaves others theirs
/// has half of what is left only.
#[test]
fn who_is_there_grows_whatever_another_does() {
    let (mut bench, budget) = bench();
    let hers = alone(&mut bench, "hers", &Str::EMPTY, 150_000, "alice");
    let his_ids =
        ["a", "b"].map(|group| alone(&mut bench, group, &Str::EMPTY, 190_000, "mallory").member_id);
    alone(&mut bench, "a", &his_ids[0], 220_000, "mallory");
    alone(&mut bench, "b", &his_ids[1], 220_000, "mallory");
    let more = bench.brings("a", &his_ids[0], 230_000, of("mallory"));
    assert_eq!(refused(more), FULL);
    assert!(held_by(&budget, "mallory") > 440_000);
    alone(&mut bench, "hers", &hers.member_id, 150_050, "alice");
    // What every member may say is counted when it comes.
    let small = alone(&mut bench, "small", &Str::EMPTY, 100, "alice");
    let before = budget.used();
    alone(&mut bench, "small", &small.member_id, 300, "alice");
    assert_eq!(budget.used(), before);
}

/// A member that the log holds is nobody's until it is heard, in either kind of group.
#[test]
fn what_was_read_is_its_speakers() {
    let (mut bench, _) = bench();
    let id = bench.member("g", subscribed_to_a());
    let native = native("m", 0);
    let epoch = bench.beats_as("mallory", native).unwrap().member_epoch;
    let budget = Budget::new(LIMIT);
    bench.shard = Shard::new(Arc::clone(&budget));
    for record in &bench.log {
        bench.shard.replay(record, Source::Log);
    }
    assert!(budget.used() > 0 && budget.shares().by_owner().is_empty());
    bench.shard.hear("g", &id, &Principal::user("alice"));
    bench.shard.assert_counted();
    let alices = held_by(&budget, "alice");
    let silent = ConsumerGroupHeartbeatRequest {
        group_id: "k".into(),
        member_id: "m".into(),
        member_epoch: epoch,
        ..ConsumerGroupHeartbeatRequest::default()
    };
    bench.beats_as("mallory", silent.clone()).unwrap();
    assert_eq!(alices + held_by(&budget, "mallory"), budget.used());
    // Another's word changes nothing, as long as it does not make it grow.
    bench.beats_as("alice", silent).unwrap();
    assert_eq!(held_by(&budget, "alice"), alices);
}

/// A restart gives nobody a second share: what is nobody's may be his who asks. Who is refused for
/// that alone hears that he is to come again.
#[test]
fn what_is_nobodys_is_not_shared_out_again() {
    let (mut bench, _) = bench();
    let says = |group: &'static str, epoch, topics: usize| ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        subscribed_topic_names: Some((0..topics).map(|n| Str::from(format!("t{n}"))).collect()),
        ..native("m", epoch)
    };
    for group in ["a", "b"] {
        bench.beats_as("mallory", says(group, 0, 1000)).unwrap();
    }
    let epoch = bench.beats_as("alice", says("hers", 0, 1)).unwrap();
    let epoch = epoch.member_epoch;
    let budget = Budget::new(LIMIT);
    bench.shard = Shard::new(Arc::clone(&budget));
    for record in &bench.log {
        bench.shard.replay(record, Source::Log);
    }
    assert!(budget.used() > 390_000 && budget.shares().by_owner().is_empty());

    let again = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    let refusal = |bench: &mut Bench, user: &str, request| {
        let refused = bench.beats_as(user, request).unwrap_err();
        refused.code()
    };
    assert_eq!(refusal(&mut bench, "mallory", says("c", 0, 1000)), again);
    assert_eq!(
        refusal(&mut bench, "alice", says("hers", epoch, 1000)),
        again
    );
    assert_eq!(
        refused(bench.brings("classic", &Str::EMPTY, 200_000, of("bob"))),
        Some(again)
    );
    let too_much = refusal(&mut bench, "bob", says("c", 0, 5000));
    assert_eq!(Some(too_much), FULL, "more than there would ever be");
    // Whoever lets members be silent does not keep others out.
    bench.beats_as("bob", says("small", 0, 10)).unwrap();
    assert_eq!(refusal(&mut bench, "bob", says("large", 0, 400)), again);

    for group in ["a", "b"] {
        bench
            .shard
            .hear(&Str::from(group), "m", &Principal::user("mallory"));
    }
    let his = refusal(&mut bench, "mallory", says("c", 0, 1000));
    assert_eq!(Some(his), FULL, "he has his share");
    bench.beats_as("alice", says("hers", epoch, 1000)).unwrap();
    bench.shard.assert_counted();
}

/// Who is told to come again is not taken for silent meanwhile: for as long as others' sessions run
/// he hears nothing else.
#[test]
fn who_is_told_to_come_again_lives() {
    let (mut bench, _) = bench();
    let says = |group: &'static str, epoch, topics: usize| ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        subscribed_topic_names: Some((0..topics).map(|n| Str::from(format!("t{n}"))).collect()),
        ..native("m", epoch)
    };
    for group in ["a", "b"] {
        bench.beats_as("mallory", says(group, 0, 1000)).unwrap();
    }
    let native = bench.beats_as("alice", says("native", 0, 1)).unwrap();
    let classic = bench.member("classic", subscribed_to_a());
    bench.shard = Shard::new(Budget::new(LIMIT));
    for record in &bench.log {
        bench.shard.replay(record, Source::Log);
    }
    let again = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    let session = |group: &'static str, member: &Str| TimerKey::Session {
        group: group.into(),
        member: member.clone(),
    };
    bench.timers.clear();
    let says_more = says("native", native.member_epoch, 1000);
    let error = bench.beats_as("alice", says_more).unwrap_err();
    assert_eq!(error.code(), again);
    assert_eq!(bench.timers, [session("native", &native.member_id)]);

    bench.timers.clear();
    let joins = bench.brings("classic", &classic, 200_000, of("alice"));
    assert_eq!(refused(joins), Some(again));
    assert_eq!(bench.timers, [session("classic", &classic)]);

    // Nobody is heard of who is not there, or is not who he says.
    bench.timers.clear();
    let joins = bench.brings("classic", &Str::EMPTY, 200_000, of("alice"));
    assert_eq!(refused(joins), Some(again));
    let error = bench.beats_as("alice", says("new", 0, 1000)).unwrap_err();
    assert_eq!(error.code(), again);
    let fenced = says("native", native.member_epoch + 1, 1000);
    bench.beats_as("alice", fenced).unwrap_err();
    assert_eq!(bench.timers, []);
}

/// Topics of an expression are its members' who speak, not nobody's until they are looked up anew.
#[test]
fn topics_of_expressions_that_were_read_are_their_speakers() {
    let (mut bench, _) = bench();
    let joins = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some("x.*".into()),
        ..native("m", 0)
    };
    bench.beats_as("mallory", joins).unwrap();
    let looked_up = LookedUp {
        found: [("x.*".into(), ["x1".into()].into())].into(),
        version: Offset::ZERO,
        more: false,
        principal: Principal::user("mallory"),
    };
    let answer = bench
        .ask(|shard, moment, asker| shard.patterns_found(&"k".into(), looked_up, asker, moment));
    answered(answer).unwrap();
    let budget = Budget::new(LIMIT);
    bench.shard = Shard::new(Arc::clone(&budget));
    for record in &bench.log {
        bench.shard.replay(record, Source::Log);
    }
    bench
        .shard
        .hear(&Str::from("k"), "m", &Principal::user("alice"));
    bench.shard.assert_counted();
    assert_eq!(held_by(&budget, "alice"), budget.used());
}

/// Nothing stays nobody's of a static member that comes back under a new id.
#[test]
fn what_was_read_is_whose_who_takes_the_place() {
    let (mut bench, _) = bench();
    let named = |ask: &mut JoinAsk| ask.instance_id = Some("i".into());
    let answer = bench.brings("g", &Str::EMPTY, 100, named);
    let key = TimerKey::Join { group: "g".into() };
    let step = bench.with(|shard, moment| shard.expired(&key, moment));
    bench.take(step);
    let member_id = answered(answer).unwrap().member_id;
    let ask = SyncAsk {
        principal: Principal::user("alice"),
        member_id: member_id.clone(),
        instance_id: Some("i".into()),
        generation: 1,
        protocol_type: None,
        protocol: None,
        assignments: vec![(member_id, vec![0; 5000].into())],
    };
    let answer = bench.ask(|shard, moment, asker| shard.sync(&"g".into(), ask, asker, moment));
    answered(answer).unwrap();

    let matches = |member, epoch| ConsumerGroupHeartbeatRequest {
        instance_id: Some("i".into()),
        subscribed_topic_names: None,
        subscribed_topic_regex: Some("x.*".into()),
        ..native(member, epoch)
    };
    bench.beats(matches("m", 0)).unwrap();
    let looked_up = LookedUp {
        found: [("x.*".into(), ["x1".into()].into())].into(),
        version: Offset::ZERO,
        more: false,
        principal: Principal::user("alice"),
    };
    let answer = bench
        .ask(|shard, moment, asker| shard.patterns_found(&"k".into(), looked_up, asker, moment));
    answered(answer).unwrap();
    bench.beats(matches("m", -2)).unwrap();

    let budget = Budget::new(LIMIT);
    bench.shard = Shard::new(Arc::clone(&budget));
    for record in &bench.log {
        bench.shard.replay(record, Source::Log);
    }
    assert!(budget.used() > 0 && held_by(&budget, "alice") == 0);
    answered(bench.brings("g", &Str::EMPTY, 100, named)).unwrap();
    bench.beats(matches("n", 0)).unwrap();
    bench.shard.assert_counted();
    assert_eq!(held_by(&budget, "alice"), budget.used());
}

fn native(member: &'static str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "k".into(),
        member_id: member.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

#[test]
fn a_group_that_is_converted_stays_its_members() {
    let (mut bench, budget) = bench();
    bench.member("k", subscribed_to_a());
    let classic = held_by(&budget, "alice");
    bench.beats_as("mallory", native("m", 0)).unwrap();
    let mallorys = held_by(&budget, "mallory");
    assert!(mallorys > 0 && held_by(&budget, "alice") > 0);
    assert_eq!(budget.used(), mallorys + held_by(&budget, "alice"));
    bench.beats_as("mallory", native("m", -1)).unwrap();
    assert!(matches!(
        bench.shard.groups.get("k").map(|entry| &entry.group),
        Some(Group::Classic(_))
    ));
    assert_eq!(held_by(&budget, "alice"), classic);
    assert_eq!(budget.used(), classic);
}

/// Topics of classic members take more room as those of a consumer group.
#[test]
fn a_conversion_does_not_go_past_the_bound() {
    use crate::group::embedded::Subscription;
    let (mut bench, budget) = bench();
    let subscription = Subscription {
        topics: (0..2000).map(|n| Str::from(format!("t{n}"))).collect(),
        ..Subscription::default()
    };
    bench.member("k", subscription.to_bytes(1).expect("fits"));
    assert!(budget.used() < 50_000);
    let refused = bench.beats(native("m", 0)).unwrap_err();
    assert_eq!(refused.code(), FULL.unwrap());
    assert!(budget.used() < 50_000);
}

/// Topics that an expression stands for are counted for whose heartbeat had it looked up.
#[test]
fn topics_of_expressions_are_within_a_share() {
    let (mut bench, budget) = bench();
    let pattern = |member: &'static str, pattern: &'static str| ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(pattern.into()),
        ..native(member, 0)
    };
    bench.beats_as("mallory", pattern("m", "x.*")).unwrap();
    let mut finds = |count: usize| {
        let topics = (0..count).map(|number| Str::from(format!("x{number}")));
        let looked_up = LookedUp {
            found: [("x.*".into(), topics.collect())].into(),
            version: Offset::ZERO,
            more: false,
            principal: Principal::user("mallory"),
        };
        let answer = bench.ask(|shard, moment, asker| {
            shard.patterns_found(&"k".into(), looked_up, asker, moment)
        });
        answered(answer).unwrap();
        held_by(&budget, "mallory")
    };
    let before = finds(0);
    let some = finds(1000);
    assert!(some > before + 96_000);
    assert_eq!(finds(3000), some, "too many for a group");
    assert_eq!(finds(0), before);
    assert_eq!(budget.used(), before);
}

#[test]
fn ids_that_are_handed_out_count_and_are_forgotten_with_the_refusal() {
    let (mut bench, budget) = bench();
    let known = |ask: &mut JoinAsk| ask.needs_known_id = true;
    let answer = bench.brings("g", &Str::EMPTY, 1000, known);
    let JoinRefused { error, member_id } = answered(answer).unwrap_err();
    assert_eq!(error, GroupError::MemberIdRequired);
    assert!(budget.used() > 0);
    assert_eq!(refused(bench.brings("g", &member_id, 300_000, known)), FULL);
    assert_eq!(budget.used(), 0);
    assert!(!bench.shard.groups.contains_key("g"));
    // Not handed out to whom it will not help.
    assert_eq!(
        refused(bench.brings("g", &Str::EMPTY, 300_000, known)),
        FULL
    );
}

#[test]
fn assignments_of_a_leader_count() {
    let (mut bench, _) = bench();
    let answer = bench.brings("g", &Str::EMPTY, 1000, |_| {});
    let key = TimerKey::Join { group: "g".into() };
    let step = bench.with(|shard, moment| shard.expired(&key, moment));
    bench.take(step);
    let member_id = answered(answer).unwrap().member_id;
    let mut assign = |bytes: usize| {
        let ask = SyncAsk {
            principal: Principal::user("alice"),
            member_id: member_id.clone(),
            instance_id: None,
            generation: 1,
            protocol_type: None,
            protocol: None,
            assignments: vec![(member_id.clone(), vec![0; bytes].into())],
        };
        let answer = bench.ask(|shard, moment, asker| shard.sync(&"g".into(), ask, asker, moment));
        answered(answer).map(|synced| synced.assignment.len())
    };
    // Which no client takes for the end, and none answers at once.
    let again = ErrorCode::COORDINATOR_NOT_AVAILABLE;
    assert_eq!(assign(300_000).unwrap_err().code(), again);
    assert_eq!(assign(200_000).unwrap(), 200_000);
}

#[test]
fn a_subscription_may_not_grow_past_the_bound() {
    let (mut bench, budget) = bench();
    let names = |count: usize| {
        let names = (0..count).map(|number| Str::from(format!("topic-{number}")));
        Some(names.collect::<Vec<_>>())
    };
    let joins = |member: &'static str, count| ConsumerGroupHeartbeatRequest {
        group_id: "k".into(),
        member_id: member.into(),
        member_epoch: 0,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: names(count),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let joined = bench.beats(joins("m", 900)).unwrap();
    assert!(budget.used() > 900 * 200);
    assert_eq!(
        bench.beats(joins("n", 900)).unwrap_err().code(),
        FULL.unwrap()
    );
    let silent = ConsumerGroupHeartbeatRequest {
        group_id: "k".into(),
        member_id: "m".into(),
        member_epoch: joined.member_epoch,
        ..ConsumerGroupHeartbeatRequest::default()
    };
    bench.beats(silent.clone()).unwrap();
    let grown = |count| ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: names(count),
        topic_partitions: Some(Vec::new()),
        ..silent.clone()
    };
    assert_eq!(bench.beats(grown(2000)).unwrap_err().code(), FULL.unwrap());
    bench.beats(grown(1100)).expect("the last eighth");
    // Its log is read in any case, and counted.
    let small = Budget::new(1000);
    let mut reloaded = Shard::new(Arc::clone(&small));
    for record in &bench.log {
        reloaded.replay(record, Source::Log);
    }
    reloaded.assert_counted();
    assert_eq!(small.used(), budget.used());
    bench
        .beats(ConsumerGroupHeartbeatRequest {
            member_epoch: -1,
            ..silent
        })
        .unwrap();
    assert_eq!(budget.used(), 0);
}

/// A classic member of a consumer group, whose topics are kept beside its metadata.
#[test]
fn classic_members_of_consumer_groups_count() {
    use crate::group::embedded::Subscription;
    let (mut bench, _) = bench();
    let native = ConsumerGroupHeartbeatRequest {
        group_id: "k".into(),
        member_id: "m".into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    bench.beats(native).unwrap();
    let metadata = |count: usize| {
        let subscription = Subscription {
            topics: (0..count)
                .map(|number| Str::from(format!("t{number}")))
                .collect(),
            ..Subscription::default()
        };
        vec![(Str::from("range"), subscription.to_bytes(1).expect("fits"))]
    };
    let many = bench.brings("k", &Str::EMPTY, 0, |ask| ask.protocols = metadata(2000));
    assert_eq!(refused(many), FULL);
    let few = bench.brings("k", &Str::EMPTY, 0, |ask| ask.protocols = metadata(10));
    assert!(answered(few).is_ok());
}

/// Who is not let in hears why, full group or not: a full one is the end for a client.
#[test]
fn who_is_not_known_hears_so_in_a_full_group() {
    let (mut bench, _) = bench();
    let not_known = ErrorCode::UNKNOWN_MEMBER_ID;
    let unknown = Some(not_known);
    let gone = Str::from("gone");
    for _ in 0..4 {
        assert!(waits(&mut bench.brings("g", &Str::EMPTY, 50_000, |_| {})));
    }
    assert_eq!(refused(bench.brings("g", &gone, 300_000, |_| {})), unknown);
    assert_eq!(
        refused(bench.brings("none", &gone, 300_000, |_| {})),
        unknown
    );
    let instance = |ask: &mut JoinAsk| ask.instance_id = Some("i".into());
    assert_eq!(
        refused(bench.brings("g", &gone, 300_000, instance)),
        unknown
    );

    let native = |member: &Str, epoch, count: usize| ConsumerGroupHeartbeatRequest {
        group_id: "k".into(),
        member_id: member.clone(),
        member_epoch: epoch,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some((0..count).map(|n| Str::from(format!("t{n}"))).collect()),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let member = Str::from("m");
    let epoch = bench.beats(native(&member, 0, 900)).unwrap().member_epoch;
    let mut code = |request| bench.beats(request).unwrap_err().code();
    assert_eq!(code(native(&gone, 0, 900)), FULL.unwrap());
    assert_eq!(code(native(&gone, 1, 900)), not_known);
    let fenced = ErrorCode::FENCED_MEMBER_EPOCH;
    assert_eq!(code(native(&member, epoch + 1, 5000)), fenced);
    assert_eq!(code(native(&member, epoch, 5000)), FULL.unwrap());
}

#[test]
fn who_takes_an_empty_groups_place_counts_once() {
    let (mut bench, budget) = bench();
    let mut native = ConsumerGroupHeartbeatRequest {
        group_id: "k".into(),
        member_id: "m".into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    bench.beats(native.clone()).unwrap();
    native.member_epoch = -1;
    bench.beats(native).unwrap();
    for group in ["a", "k"] {
        assert!(waits(&mut bench.brings(
            group,
            &Str::EMPTY,
            200_000,
            |_| {}
        )));
    }
    assert!(budget.used() > 400_000);
}
