//! What heartbeats cost that ask for conversions which cannot be.

use palisade_protocol::batch::{BatchBuilder, Codec};
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;

use super::*;
use crate::group::consumer::{Client, Heartbeat};
use crate::group::decision::{TimerChange, TimerKey};
use crate::group::embedded::{PARSED, Subscription};
use crate::group::error::GroupError;
use crate::group::expressions::judge;
use crate::group::write::size;

fn newcomer() -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "k".into(),
        member_id: "n".into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["a".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

/// Metadata with topics of three letters and more.
fn many(topics: usize) -> Bytes {
    let subscription = Subscription {
        topics: (0..topics).map(|n| Str::from(format!("{n:03}"))).collect(),
        ..Subscription::default()
    };
    subscription.to_bytes(1).expect("short names")
}

impl Bench {
    /// The step of a heartbeat of mallory's, and who waits for its answer.
    fn asks(
        &mut self,
        request: ConsumerGroupHeartbeatRequest,
    ) -> (
        Step,
        oneshot::Receiver<Verdict<Result<Heartbeat, GroupError>>>,
    ) {
        self.asks_as("mallory", request)
    }

    /// The same of another user's.
    fn asks_as(
        &mut self,
        user: &str,
        request: ConsumerGroupHeartbeatRequest,
    ) -> (
        Step,
        oneshot::Receiver<Verdict<Result<Heartbeat, GroupError>>>,
    ) {
        let id = request.group_id.clone();
        let (asker, answer) = oneshot::channel();
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
        let step = self.with(|shard, moment| shard.consumer_heartbeat(&id, ask, asker, moment));
        (step, answer)
    }

    /// The refusal of a heartbeat that nothing is written for.
    fn is_refused(&mut self, request: ConsumerGroupHeartbeatRequest) -> ErrorCode {
        let (step, answer) = self.asks(request);
        assert!(
            step.records.is_empty(),
            "made {} records",
            step.records.len()
        );
        // Without a look at what is counted, which reads all of it.
        self.run(step);
        answered(answer).expect_err("refused").code()
    }
}

/// What members said is read once, however often a conversion is asked for.
fn refused_again_and_again(
    bench: &mut Bench,
    request: &ConsumerGroupHeartbeatRequest,
    code: ErrorCode,
) {
    assert_eq!(bench.is_refused(request.clone()), code);
    let parsed = PARSED.get();
    for _ in 0..20 {
        assert_eq!(bench.is_refused(request.clone()), code);
    }
    assert_eq!(PARSED.get() - parsed, 0, "read anew");
}

#[test]
fn a_group_that_the_log_cannot_take_is_not_read_again() {
    let mut bench = Bench::new();
    bench.member("k", many(120_000));
    let code = ErrorCode::UNKNOWN_SERVER_ERROR;
    refused_again_and_again(&mut bench, &newcomer(), code);
}

#[test]
fn a_group_of_others_is_not_read_again() {
    let mut bench = Bench::new();
    bench.member("k", many(1000));
    let ask = JoinAsk {
        protocols: vec![("range".into(), Bytes::from_static(b"\0"))],
        ..JoinAsk::of_a_consumer(Uuid::from_bytes([9; 16]))
    };
    let _waits = bench.ask(|shard, moment, asker| shard.join(&"k".into(), ask, asker, moment));
    refused_again_and_again(&mut bench, &newcomer(), ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn who_may_not_join_converts_nothing() {
    let mut bench = Bench::new();
    bench.member("k", many(1000));
    let no_expression = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some("(".into()),
        ..newcomer()
    };
    let code = ErrorCode::INVALID_REGULAR_EXPRESSION;
    refused_again_and_again(&mut bench, &no_expression, code);
    bench.config.consumer.max_size = 1;
    let code = ErrorCode::GROUP_MAX_SIZE_REACHED;
    refused_again_and_again(&mut bench, &newcomer(), code);
}

#[test]
fn who_has_no_room_converts_nothing() {
    let mut bench = Bench::new();
    bench.shard = Shard::new(Budget::new(1 << 20));
    bench.member("k", many(2000));
    let code = ErrorCode::GROUP_MAX_SIZE_REACHED;
    refused_again_and_again(&mut bench, &newcomer(), code);
}

/// With what the newcomer brings, and what the assignor makes of it, it may be too much still.
#[test]
fn what_the_log_refused_is_tried_again_after_a_while() {
    let mut bench = Bench::new();
    bench.member("k", many(1000));
    let (mut step, answer) = bench.asks(newcomer());
    assert!(!step.records.is_empty());
    let after = step.after.take().expect("waits for its records");
    let too_large = GroupError::Unknown("larger than the log takes".into());
    let next = bench.with(|shard, moment| after(shard, moment, Err(too_large)));
    drop(step);
    bench.take(next);
    let code = ErrorCode::UNKNOWN_SERVER_ERROR;
    assert_eq!(answered(answer).expect_err("refused").code(), code);
    // Nobody else is held back for it.
    let (step, _) = bench.asks_as("alice", newcomer());
    assert!(!step.records.is_empty());
    drop(step);
    refused_again_and_again(&mut bench, &newcomer(), code);
    bench.now += 9_999;
    refused_again_and_again(&mut bench, &newcomer(), code);
    bench.now += 1;
    let (step, answer) = bench.asks(newcomer());
    bench.take(step);
    assert_eq!(answered(answer).expect("joins").member_id, "n");
}

/// What one says too much for a batch is no reason to refuse others.
#[test]
fn who_says_too_much_is_refused_alone() {
    let mut bench = Bench::new();
    bench.member("k", many(1000));
    let names = (0..120_000).map(|n| Str::from(format!("topic-{n}")));
    let loud = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some(names.collect()),
        ..newcomer()
    };
    let code = ErrorCode::UNKNOWN_SERVER_ERROR;
    refused_again_and_again(&mut bench, &loud, code);
    let (step, _) = bench.asks(newcomer());
    assert!(!step.records.is_empty());
}

/// A member says little, of which each word has all its names written anew: that is held back, and
/// takes nothing from its session; what it says at length is not.
#[test]
fn who_has_many_names_written_anew_is_told_to_come_again() {
    let mut bench = Bench::new();
    let names: Vec<Str> = (0..40_000).map(|n| Str::from(format!("{n:05}"))).collect();
    let joining = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some(names),
        ..newcomer()
    };
    let (step, answer) = bench.asks(joining.clone());
    bench.take(step);
    let member_epoch = answered(answer).expect("joins").member_epoch;
    let on_rack = |rack: usize| ConsumerGroupHeartbeatRequest {
        member_epoch,
        rack_id: Some(Str::from(rack.to_string())),
        subscribed_topic_names: None,
        ..newcomer()
    };
    let written = |bench: &mut Bench, request| {
        let (step, answer) = bench.asks(request);
        let (count, timers) = (step.records.len(), step.timers.clone());
        bench.take(step);
        (count, timers, answered(answer))
    };
    let mut rack = 0;
    let refused = loop {
        assert!(rack < 20, "as often as he likes");
        match written(&mut bench, on_rack(rack)) {
            (0, timers, Err(error)) => break (timers, error),
            (_, _, answer) => answer.expect("one of some"),
        };
        rack += 1;
    };
    assert!(rack > 3, "some are free");
    assert_eq!(refused.1.code(), ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    let is_session = |timer: &TimerChange| {
        matches!(
            timer,
            TimerChange::Set {
                key: TimerKey::Session { .. },
                ..
            }
        )
    };
    assert!(refused.0.iter().any(is_session), "{:?}", refused.0);

    // What changes nothing, and what brings its names, goes on.
    let silent = ConsumerGroupHeartbeatRequest {
        member_epoch,
        subscribed_topic_names: None,
        ..newcomer()
    };
    written(&mut bench, silent).2.expect("goes on");
    let loud = ConsumerGroupHeartbeatRequest {
        member_epoch,
        rack_id: Some("loud".into()),
        ..joining
    };
    written(&mut bench, loud).2.expect("goes on");
    bench.now += 10_000;
    written(&mut bench, on_rack(rack)).2.expect("his turn");
}

/// What fits a batch exactly is not refused beforehand, however many there are; what is past it
/// by a little the log tells, and only that.
#[test]
fn what_fits_a_batch_is_not_refused_beforehand() {
    let mut bench = Bench::new();
    let of_two = |chance: u8, rest: u8| JoinAsk {
        protocols: ["range", "cooperative-sticky"]
            .map(|name| (name.into(), many(2)))
            .to_vec(),
        ..JoinAsk::of_a_consumer(Uuid::from_bytes([
            chance, rest, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]))
    };
    for number in 0..500_u16 {
        let [chance, rest] = number.to_be_bytes();
        let ask = of_two(chance, rest);
        let _waits = bench.ask(|shard, moment, asker| shard.join(&"k".into(), ask, asker, moment));
    }
    let (step, _) = bench.asks(newcomer());
    let pairs = step.records.iter().map(|record| record.encode().unwrap());
    let bytes: usize = pairs.map(|pair| size(&pair)).sum();
    drop(step);
    bench.max_batch_bytes = BatchBuilder::new(Codec::None).uncompressed_len() + bytes;
    let (step, _) = bench.asks(newcomer());
    assert!(!step.records.is_empty(), "{bytes} bytes fit");
    drop(step);
    bench.max_batch_bytes -= 1000;
    let code = ErrorCode::UNKNOWN_SERVER_ERROR;
    refused_again_and_again(&mut bench, &newcomer(), code);
}

impl Bench {
    /// Whether a user's heartbeat joins a group, and leaves it again.
    fn joins_and_leaves(&mut self, user: &str, group: &'static str) -> Result<(), ErrorCode> {
        for member_epoch in [0, -1] {
            let request = ConsumerGroupHeartbeatRequest {
                group_id: group.into(),
                member_epoch,
                ..newcomer()
            };
            let (step, answer) = self.asks_as(user, request);
            let is_idle = step.records.is_empty();
            self.run(step);
            if let Err(error) = answered(answer) {
                assert!(is_idle, "records for a refusal");
                return Err(error.code());
            }
        }
        Ok(())
    }
}

/// Each of these is small as a request and much as work: groups of one user go up and down only so
/// often, whatever their number; those of others, and small ones, as often as they like.
#[test]
fn who_converts_over_and_over_is_held_back() {
    const ROUNDS: usize = 20;
    let mut bench = Bench::new();
    for group in ["k", "l"] {
        bench.member(group, many(20_000));
    }
    bench.member("small", many(100));
    let mut rounds = 0..ROUNDS;
    let refused = rounds.find_map(|round| {
        let turned = ["k", "l"].map(|group| bench.joins_and_leaves("mallory", group));
        let refused = turned.into_iter().find_map(Result::err)?;
        Some((round, refused))
    });
    let (round, code) = refused.expect("refused some time");
    assert!((2..5).contains(&round), "{round}: some are free");
    assert_eq!(code, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    refused_again_and_again(&mut bench, &newcomer(), code);
    assert_eq!(bench.joins_and_leaves("alice", "k"), Ok(()));
    for _ in 0..ROUNDS {
        assert_eq!(bench.joins_and_leaves("mallory", "small"), Ok(()));
    }
    bench.now += 2000;
    assert_eq!(bench.joins_and_leaves("mallory", "k"), Ok(()));
    bench.shard.assert_counted();
}
