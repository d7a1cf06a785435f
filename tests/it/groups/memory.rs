//! What members may keep in the node's memory: who is refused, and that others go on.

use std::collections::VecDeque;
use std::fs;
use std::thread;

use palisade_protocol::api::ApiKey;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::delete_groups::DeleteGroupsRequest;
use palisade_protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use palisade_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::offset_fetch::OffsetFetchRequest;
use palisade_protocol::text::Str;
use palisade_tests::access::Access;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::wire::Connection;

use super::{PATIENCE, describe};

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
    requests::join(group, vec![7; metadata].into())
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
    let status = fs::read_to_string(format!("/proc/{}/status", node.process().id()));
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

/// The text beside each offset of the group `texts`; so many of them make an answer of sixteen megabytes.
const TEXT: usize = 32_000;
const TEXTS: i32 = 512;

fn commit_texts(from: i32, to: i32) -> OffsetCommitRequest {
    let partitions = (from..to).map(|index| OffsetCommitRequestPartition {
        partition_index: index,
        committed_offset: 1,
        committed_metadata: Some("x".repeat(TEXT).into()),
        ..OffsetCommitRequestPartition::default()
    });
    OffsetCommitRequest {
        group_id: "texts".into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "wide".into(),
            partitions: partitions.collect(),
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

/// Somebody asks for much, again and again, and reads nothing: no text is copied while he cannot be answered, and no
/// answer made before the one in front of it has left.
#[test]
fn answers_that_nobody_reads_are_not_made() {
    const COMMIT: i16 = 8;
    const FETCH: i16 = 7;
    const ASKED: usize = 24;
    const AT_ONCE: usize = 8;
    let mut node = Node::prepare();
    let hold = node.dir().join("hold");
    node.set("palisade.log.flush.policy", "ack")
        .set("offset.metadata.max.bytes", TEXT.to_string())
        .set("group.initial.rebalance.delay.ms", "0")
        .env(
            "PALISADE_FAILPOINT",
            format!("flusher.before_sync:hold={}", hold.display()),
        );
    node.run();
    let access = node.certificate();
    let mut connection = super::coordinator(&access, "texts");
    requests::create_topic(&mut connection, "wide", TEXTS, &[]).expect("a topic");
    for from in (0..TEXTS).step_by(16) {
        let request = commit_texts(from, from + 16);
        let answer = connection.call(COMMIT, &request).expect("an answer");
        let rows = &answer.topics[0].partitions;
        assert!(
            rows.iter().all(|row| !row.error_code.is_error()),
            "{rows:?}"
        );
    }
    let mut other = Connection::open(&access).expect("a login");

    // No answer about the group before this commit is on disk, and no end of that before the file goes.
    fs::write(&hold, "").expect("a scratch file can be written");
    let held = connection.ask(COMMIT, &commit_texts(0, 1)).expect("sent");
    let before = resident_kib(&node, "VmHWM");
    let ask = OffsetFetchRequest {
        group_id: "texts".into(),
        topics: None,
        ..OffsetFetchRequest::default()
    };
    let asked: Vec<_> = (0..ASKED)
        .map(|_| connection.ask(FETCH, &ask).expect("sent"))
        .collect();
    // Time to ask for all of them, if more than the first were asked for.
    describe(&mut other, "behind");
    fs::remove_file(&hold).expect("the scratch file can go");

    let answer = connection.answer::<OffsetCommitRequest>(COMMIT, held);
    assert!(
        !answer.expect("an answer").topics[0].partitions[0]
            .error_code
            .is_error()
    );
    for id in asked {
        let answer = connection.answer::<OffsetFetchRequest>(FETCH, id);
        let answer = answer.expect("an answer");
        let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let texts = rows.filter(|row| row.metadata.as_ref().map(|text| text.len()) == Some(TEXT));
        assert_eq!(texts.count(), TEXTS as usize);
    }
    let grown = resident_kib(&node, "VmHWM") - before;
    let one = TEXT * TEXTS as usize / 1024;
    println!(
        "{grown} KiB more at the peak; one answer has {one} KiB, all {}",
        ASKED * one
    );
    assert!(grown < AT_ONCE * one, "{grown} KiB, {one} an answer");
}

/// What is in the making for a group that nobody knows is many times as long as its name, and nobody has to read it.
#[test]
fn deletions_of_unknown_groups_take_little() {
    const NAMES: usize = 20_000;
    const ASKED: usize = 8;
    /// Half of what is left when all of them are in the making.
    const MOST_TIMES: usize = 40;
    let mut node = Node::prepare();
    node.set("palisade.danger.disable.audit", "true")
        .allow("palisade.danger.disable.audit")
        .allow("the audit log is switched off");
    node.run();
    let mut connection = super::coordinator(&node.certificate(), "any");
    let names = (0..NAMES).map(|number| Str::from(format!("{number:05}")));
    let ask = DeleteGroupsRequest {
        groups_names: names.collect(),
    };
    let newest = requests::newest(ApiKey::DeleteGroups);
    let before = resident_kib(&node, "VmHWM");
    let asked: Vec<_> = (0..ASKED)
        .map(|_| connection.ask(newest, &ask).expect("sent"))
        .collect();
    for id in asked {
        let answer = connection.answer::<DeleteGroupsRequest>(newest, id);
        let rows = answer.expect("an answer").results;
        let unknown = rows
            .iter()
            .filter(|row| row.error_code == ErrorCode::GROUP_ID_NOT_FOUND);
        assert_eq!(unknown.count(), NAMES);
    }
    let grown = resident_kib(&node, "VmHWM") - before;
    let sent = ASKED * NAMES * 6 / 1024;
    println!("{grown} KiB more at the peak; {sent} KiB asked");
    assert!(grown < MOST_TIMES * sent, "{grown} KiB for {sent}");
}
