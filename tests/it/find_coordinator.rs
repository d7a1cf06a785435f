//! A first look for a coordinator makes the topic that groups are kept in.

use std::thread;
use std::time::Duration;

use palisade_protocol::ErrorCode;
use palisade_protocol::messages::find_coordinator::FindCoordinatorRequest;
use palisade_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use palisade_tests::check::eventually;
use palisade_tests::dev::Dev;
use palisade_tests::wire::Connection;

/// One of them has the topic made, and the others meet it half made.
const ASKERS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn who_is_named_coordinator_while_the_topic_is_made_is_one() {
    let dev = Dev::start(&[]);
    let access = dev.admin();
    thread::scope(|scope| {
        for number in 0..ASKERS {
            let mut connection = Connection::open(&access).expect("a login");
            scope.spawn(move || first_member(&mut connection, &format!("group-{number}")));
        }
    });
}

/// Asks as clients do: at once for the coordinator, at once to join.
fn first_member(connection: &mut Connection, group: &str) {
    let look = FindCoordinatorRequest {
        key: group.to_owned().into(),
        ..FindCoordinatorRequest::default()
    };
    eventually("a coordinator", PATIENCE, || {
        let found = connection.call(3, &look).expect("an answer");
        match found.error_code {
            ErrorCode::NONE => Ok(()),
            // Somebody else has the topic made.
            ErrorCode::COORDINATOR_NOT_AVAILABLE => Err(format!("{found:?}")),
            other => panic!("{other}: {found:?}"),
        }
    });
    let join = JoinGroupRequest {
        group_id: group.to_owned().into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            ..JoinGroupRequestProtocol::default()
        }],
        ..JoinGroupRequest::default()
    };
    let joined = connection.call(5, &join).expect("an answer");
    assert_eq!(joined.error_code, ErrorCode::MEMBER_ID_REQUIRED, "{group}");
}
