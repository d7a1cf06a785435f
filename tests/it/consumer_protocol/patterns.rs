//! Expressions over a socket: what a member may see, what it may not, and what is no expression.

use std::collections::BTreeSet;

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use palisade_protocol::messages::create_acls::AclCreation;
use palisade_protocol::uuid::Uuid;
use palisade_tests::check::eventually;
use palisade_tests::requests;
use palisade_tests::target::Target;
use palisade_tests::wire::Connection;

use super::{PATIENCE, coordinator};

const MECHANISM: &str = "SCRAM-SHA-512";
const GROUP: &str = "matching";

fn heartbeat(
    connection: &mut Connection,
    epoch: i32,
    pattern: Option<&str>,
) -> ConsumerGroupHeartbeatResponse {
    let joins = epoch == 0;
    let request = ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: "member".into(),
        member_epoch: epoch,
        rebalance_timeout_ms: if joins { 60_000 } else { -1 },
        subscribed_topic_regex: pattern.map(|pattern| pattern.to_owned().into()),
        topic_partitions: joins.then(Vec::new),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    connection.call(1, &request).expect("an answer")
}

#[test]
fn only_what_may_be_described_is_assigned() {
    let target = Target::start();
    let access = target.scram(MECHANISM);
    let mut admin = coordinator(&access, GROUP);
    let ids = ["shown-a", "shown-b", "hidden"]
        .map(|topic| requests::create_topic(&mut admin, topic, 1, &[]).expect("a topic"));
    requests::set_user(&mut admin, "matcher", MECHANISM, "matcher-secret").expect("a user");
    let topics = AclCreation {
        resource_pattern_type: 4,
        ..requests::allow("matcher", 2, "shown-", 8)
    };
    let rules = vec![requests::allow("matcher", 3, GROUP, 3), topics];
    requests::add_acls(&mut admin, rules).expect("rules can be added");
    let mut user = eventually("the user's first login", PATIENCE, || {
        Connection::open(&access.as_user(MECHANISM, "matcher", "matcher-secret"))
            .map_err(|error| error.to_string())
    });

    // What would hold others for ever, or is no expression at all.
    let mut wrong = vec!["(", "(?=a)", r"(a)\1"];
    if matches!(target, Target::Palisade(_)) {
        // The reference runs out of memory over it, and says that something unexpected happened.
        wrong.push("((a{999}){999}){999}");
    }
    for pattern in wrong {
        let answer = heartbeat(&mut user, 0, Some(pattern));
        assert_eq!(
            answer.error_code,
            ErrorCode::INVALID_REGULAR_EXPRESSION,
            "{pattern}"
        );
        assert_eq!((answer.member_id, answer.member_epoch), (None, 0));
    }
    let first = heartbeat(&mut user, 0, Some(".*(a|a)*.*"));
    assert_eq!((first.error_code, first.member_epoch), (ErrorCode::NONE, 1));
    assert!(
        first
            .assignment
            .expect("an assignment")
            .topic_partitions
            .is_empty()
    );
    let mut epoch = first.member_epoch;
    let expected: BTreeSet<Uuid> = ids[..2].iter().copied().collect();
    eventually("both topics", PATIENCE, || {
        let answer = heartbeat(&mut user, epoch, None);
        assert_eq!(answer.error_code, ErrorCode::NONE);
        epoch = answer.member_epoch;
        let Some(assignment) = answer.assignment else {
            return Err(format!("nothing new at {epoch}"));
        };
        let topics: BTreeSet<Uuid> = assignment
            .topic_partitions
            .iter()
            .map(|topic| topic.topic_id)
            .collect();
        match topics == expected {
            true => Ok(()),
            false => Err(format!("{topics:?}")),
        }
    });
}
