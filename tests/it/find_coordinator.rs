//! A first look for a coordinator makes the topic that groups are kept in.

use std::fs;
use std::thread;
use std::time::Duration;

use palisade_protocol::messages::find_coordinator::{Coordinator, FindCoordinatorRequest};
use palisade_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use palisade_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use palisade_protocol::{ApiKey, ErrorCode, Str};
use palisade_tests::check::eventually;
use palisade_tests::dev::Dev;
use palisade_tests::node::Node;
use palisade_tests::requests::{self, newest};
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

/// While the topic cannot be made, whoever may describe a group does not fill the log.
#[test]
fn a_topic_that_cannot_be_made_is_told_now_and_then() {
    const ASKED: usize = 500;
    let mut node = Node::prepare();
    node.allow("not created").run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    // Points and underscores are one in names of metrics, so Kafka lets no two topics differ in them alone.
    requests::create_topic(&mut connection, "__consumer.offsets", 1, &[]).expect("a topic");
    let look = FindCoordinatorRequest {
        key: "group".into(),
        ..FindCoordinatorRequest::default()
    };
    for _ in 0..ASKED {
        let found = connection.call(3, &look).expect("an answer");
        assert_eq!(found.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    }
    let said = node.terminate();
    let said = said.iter().filter(|line| line.contains("not created"));
    let said = said.inspect(|line| assert!(line.contains("collides with"), "{line}"));
    let said = said.count();
    // Once a second at most, however long the questions took.
    assert!((1..ASKED / 4).contains(&said), "{said} lines");
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
            ErrorCode::NONE => {
                // Kafka's word for no error, up to the version that knows several keys.
                assert_eq!(found.error_message.as_deref(), Some("NONE"));
                Ok(())
            }
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
    eventually("an id", PATIENCE, || {
        let joined = connection.call(5, &join).expect("an answer");
        match joined.error_code {
            ErrorCode::MEMBER_ID_REQUIRED => Ok(()),
            // A coordinator is found before it has read its log.
            code @ ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => Err(code.name().to_owned()),
            other => panic!("{group}: {other}"),
        }
    });
}

/// So many keys that waits one after the other would outlast the patience of the connection.
const KEYS: usize = 50;

/// Nobody is sent to groups that the node leads and has not taken up, and the keys of one request share one wait.
#[test]
fn nobody_is_sent_to_groups_that_are_not_taken_up() {
    let mut node = Node::prepare();
    let hold = node.dir().join("hold");
    node.env(
        "PALISADE_FAILPOINT",
        format!("groups.before_take_up:hold={}", hold.display()),
    );
    node.run();
    let [mut maker, mut other] =
        [(); 2].map(|()| Connection::open(&node.certificate()).expect("a login"));
    let version = newest(ApiKey::FindCoordinator);
    let keys = (0..KEYS).map(|number| Str::from(format!("group-{number}")));
    let look = FindCoordinatorRequest {
        coordinator_keys: keys.collect(),
        ..FindCoordinatorRequest::default()
    };
    let judge = |found: &[Coordinator], node_id: i32, code: ErrorCode| {
        assert_eq!(found.len(), KEYS);
        for one in found {
            assert_eq!((one.node_id, one.error_code), (node_id, code), "{one:?}");
        }
    };

    fs::write(&hold, "").expect("a scratch file can be written");
    let made = maker.ask(version, &look).expect("sent");
    until_groups_are_led(&mut other);
    let found = other.call(version, &look).expect("an answer");
    judge(
        &found.coordinators,
        -1,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
    );
    assert!(!maker.has_input(), "the topic is not made yet");

    fs::remove_file(&hold).expect("the scratch file can go");
    let found = maker.answer::<FindCoordinatorRequest>(version, made);
    judge(&found.expect("an answer").coordinators, 1, ErrorCode::NONE);
    let found = other.call(version, &look).expect("an answer");
    judge(&found.coordinators, 1, ErrorCode::NONE);
}

/// Waits until the metadata names leaders of the topic that groups are kept in.
fn until_groups_are_led(connection: &mut Connection) {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("__consumer_offsets".into()),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    eventually("leaders", PATIENCE, || {
        let answer = connection.call(newest(ApiKey::Metadata), &request);
        let topic = answer.expect("an answer").topics.remove(0);
        match topic.error_code {
            ErrorCode::NONE => Ok(()),
            code => Err(code.name().to_owned()),
        }
    });
}
