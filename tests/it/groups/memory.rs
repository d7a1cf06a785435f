//! What members may keep in the node's memory: who is refused, and that others go on.

use std::collections::VecDeque;
use std::thread;

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use palisade_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use palisade_protocol::text::Str;
use palisade_tests::access::Access;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::wire::Connection;

use super::PATIENCE;

const CONNECTIONS: usize = 20;
const JOINS: usize = 100;
/// Fewer than the node reads on behind an answer that waits.
const AHEAD: usize = 48;
const METADATA: usize = 200_000;
/// 4 MiB: a group gets a quarter, and newcomers seven eighths of that, which four of these fit in.
const LIMIT: &str = "4194304";
const FITTING: usize = 4;
/// The attack sends 400 MB; what passes through buffers meanwhile is not kept.
const GROWTH_KIB: usize = 150 * 1024;

fn join(group: &str, metadata: usize) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.to_owned().into(),
        session_timeout_ms: 300_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: vec![7; metadata].into(),
        }],
        ..JoinGroupRequest::default()
    }
}

/// Sends joins as fast as they are taken, with so many answers outstanding.
fn attack(access: &Access, group: &str) -> Vec<JoinGroupResponse> {
    let mut connection = Connection::open(access).expect("a login");
    let request = join(group, METADATA);
    let mut asked = VecDeque::new();
    let mut answers = Vec::with_capacity(JOINS);
    while answers.len() < JOINS {
        if asked.len() < AHEAD && answers.len() + asked.len() < JOINS {
            asked.push_back(connection.ask(3, &request).expect("it is taken"));
            continue;
        }
        let id = asked.pop_front().expect("one was asked");
        let answer = connection.answer::<JoinGroupRequest>(3, id);
        answers.push(answer.expect("an answer"));
    }
    answers
}

fn resident_kib(node: &Node, of: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.process().id()));
    let status = status.expect("a running process");
    let line = status.lines().find(|line| line.starts_with(of));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.expect("a number").parse().expect("KiB")
}

/// security.md §6.4, group membership flood: 2000 members with 200 KB each in one group.
#[test]
fn a_flood_of_members_is_bounded() {
    let mut node = Node::prepare();
    node.set("palisade.group.members.max.bytes", LIMIT)
        .set("group.initial.rebalance.delay.ms", "2000")
        .allow("member refused");
    node.run();
    node.create_admin();
    let access = node.certificate();
    let mut connection = super::coordinator(&access, "attacked");
    let before = resident_kib(&node, "VmRSS");
    let answers: Vec<JoinGroupResponse> = thread::scope(|scope| {
        let attacks: Vec<_> = (0..CONNECTIONS)
            .map(|_| scope.spawn(|| attack(&access, "attacked")))
            .collect();
        let attacks = attacks.into_iter();
        attacks
            .flat_map(|one| one.join().expect("it ended"))
            .collect()
    });
    let peak = resident_kib(&node, "VmHWM");
    let mut refused = 0;
    let mut members = Vec::new();
    for answer in answers {
        match answer.error_code {
            ErrorCode::NONE => members.push(answer.member_id),
            ErrorCode::GROUP_MAX_SIZE_REACHED => refused += 1,
            other => panic!("{other}"),
        }
    }
    println!(
        "{before} KiB before, {peak} at most, {} after",
        resident_kib(&node, "VmRSS")
    );
    assert!(peak < before + GROWTH_KIB, "{before} KiB became {peak}");
    assert_eq!(
        (members.len(), refused),
        (FITTING, CONNECTIONS * JOINS - FITTING)
    );
    // Another group has its own share.
    let other = connection
        .call(3, &join("other", 100_000))
        .expect("an answer");
    assert_eq!(other.error_code, ErrorCode::NONE);
    let leaving = members.into_iter().map(|member_id: Str| MemberIdentity {
        member_id,
        ..MemberIdentity::default()
    });
    let leave = LeaveGroupRequest {
        group_id: "attacked".into(),
        members: leaving.collect(),
        ..LeaveGroupRequest::default()
    };
    let left = connection.call(4, &leave).expect("an answer");
    assert!(left.members.iter().all(|one| !one.error_code.is_error()));
    eventually("a place", PATIENCE, || {
        let answer = connection
            .call(3, &join("attacked", 500_000))
            .expect("an answer");
        match answer.error_code {
            ErrorCode::NONE => Ok(()),
            other => Err(other.to_string()),
        }
    });
}
