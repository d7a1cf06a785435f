//! Costly work on the expressions of groups: on helper threads, with turns among the users.
//!
//! An expression takes up to some milliseconds to compile, and up to a good part of a minute to
//! match with all topics, at the choice of any member: on the task of a shard the groups of a whole
//! partition would wait for it.

use std::time::Duration;

use palisade_auth::principal::Principal;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;

use super::error::GroupError;
use super::topic_pattern::TopicPattern;
use crate::shutdown::{Shutdown, Stage};
use crate::turns::Turns;

/// Checks at a time, and look-ups at a time. Both only compute: a second thread would take a second
/// processor from everybody else.
const AT_A_TIME: usize = 1;

/// After this long without an outcome a group takes its look-up for lost, and asks for another.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(60);

/// Whether a heartbeat's expression compiles. A group that knows the expression does not ask.
pub(crate) type Judgement = Result<(), GroupError>;

/// The turns of one node.
#[derive(Debug)]
pub(crate) struct Expressions {
    /// A heartbeat waits for one of these: they stand in no line with look-ups.
    checks: Turns,
    look_ups: Turns,
    shutdown: Shutdown,
}

impl Expressions {
    pub(super) fn new(shutdown: Shutdown) -> Self {
        Self {
            checks: Turns::new(AT_A_TIME),
            look_ups: Turns::new(AT_A_TIME),
            shutdown,
        }
    }

    /// Finds out whether a heartbeat's expression is one, when `user` has a turn.
    pub(crate) async fn judge(
        &self,
        user: &Principal,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Judgement {
        let Some(pattern) = expression(request) else {
            return Ok(());
        };
        let pattern = pattern.to_owned();
        let judged = self.checks.run(user, move || check(&pattern)).await;
        judged.unwrap_or_else(|_| {
            let text = "the regular expression could not be compiled";
            Err(GroupError::Unknown(text.to_owned()))
        })
    }

    /// Does a piece of a look-up when `user` has a turn. `None`: no turn came while anybody waited
    /// for it, the node stops, or the work panicked.
    pub(crate) async fn look_up<T: Send + 'static>(
        &self,
        user: &Principal,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = tokio::select! {
            turn = tokio::time::timeout(LOST_AFTER, self.look_ups.turn(user)) => turn.ok()?,
            () = self.shutdown.reached(Stage::Draining) => return None,
        };
        turn.run(work).await.ok()
    }

    #[cfg(test)]
    pub(crate) fn turns(&self) -> (&Turns, &Turns) {
        (&self.checks, &self.look_ups)
    }
}

/// What a heartbeat has for an expression; an empty one is none.
fn expression(request: &ConsumerGroupHeartbeatRequest) -> Option<&str> {
    let pattern = request.subscribed_topic_regex.as_deref();
    pattern.filter(|pattern| !pattern.is_empty())
}

fn check(pattern: &str) -> Judgement {
    let parsed = TopicPattern::parse(pattern);
    parsed
        .map(drop)
        .map_err(GroupError::InvalidRegularExpression)
}

/// The same where the caller has all the time that it takes.
#[cfg(test)]
pub(crate) fn judge(request: &ConsumerGroupHeartbeatRequest) -> Judgement {
    expression(request).map_or(Ok(()), check)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn beats(pattern: Option<&'static str>) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            subscribed_topic_regex: pattern.map(Into::into),
            ..ConsumerGroupHeartbeatRequest::default()
        }
    }

    #[tokio::test]
    async fn only_who_has_an_expression_waits_for_a_turn() {
        let expressions = Expressions::new(Shutdown::new());
        let (checks, look_ups) = expressions.turns();
        let [alice, mallory] = ["alice", "mallory"].map(Principal::user);
        // Look-ups hold no check up.
        let _looks_up = look_ups.turn(&mallory).await;
        let turn = checks.turn(&mallory).await;
        let mut cx = Context::from_waker(Waker::noop());
        let requests = [Some("a.*"), Some("(")].map(beats);
        let mut waiting: Vec<_> = requests
            .iter()
            .map(|request| Box::pin(expressions.judge(&alice, request)))
            .collect();
        for judged in &mut waiting {
            assert!(judged.as_mut().poll(&mut cx).is_pending());
        }
        let mut users = checks.users();
        users.sort();
        assert_eq!(users, [&alice, &mallory].map(Clone::clone));
        for request in [None, Some("")].map(beats) {
            assert_eq!(expressions.judge(&alice, &request).await, Ok(()));
        }
        drop(turn);
        let mut judged = Vec::new();
        for one in waiting {
            judged.push(one.await);
        }
        assert!(
            matches!(
                judged[..],
                [Ok(()), Err(GroupError::InvalidRegularExpression(_))]
            ),
            "{judged:?}"
        );
    }

    #[tokio::test]
    async fn who_waits_for_a_turn_does_not_keep_a_node_from_stopping() {
        let shutdown = Shutdown::new();
        let expressions = Expressions::new(shutdown.clone());
        let [alice, mallory] = ["alice", "mallory"].map(Principal::user);
        let _turn = expressions.look_ups.turn(&mallory).await;
        let mut waits = pin!(expressions.look_up(&alice, || ()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        shutdown.advance(Stage::Draining);
        assert_eq!(waits.as_mut().poll(&mut cx), Poll::Ready(None));
    }
}
