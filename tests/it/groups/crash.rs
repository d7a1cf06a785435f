//! Killed in mid-rebalance and mid-commit, again and again.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use palisade_protocol::messages::leave_group::LeaveGroupRequest;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use palisade_protocol::text::Str;
use palisade_tests::access::Access;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::wire::Connection;

use super::{committed, coordinator};
use crate::crash::{next, seed};

const TOPIC: &str = "group-crash";
const GROUP: &str = "group-crash";
const ROUNDS: u64 = 50;
const MEMBERS: i32 = 3;
/// Session and rebalance timeout of every member, in milliseconds.
const TIMEOUT_MS: i32 = 2000;
/// A member that the kill left behind is gone after its session; the others need a moment more.
const UNSTUCK: Duration = Duration::from_secs(20);

/// A member that joins, commits to a partition of its own, and sometimes leaves.
struct Member {
    partition: i32,
    id: Str,
    random: u64,
    /// The highest offset that was sent.
    attempted: i64,
    /// The highest offset whose commit was acknowledged.
    acknowledged: i64,
}

impl Member {
    fn new(partition: i32, seed: u64) -> Member {
        Member {
            partition,
            id: Str::EMPTY,
            random: seed | 1,
            attempted: -1,
            acknowledged: -1,
        }
    }

    /// Goes on until the connection breaks.
    fn run(&mut self, access: &Access, progress: &AtomicU64) {
        let Ok(mut connection) = Connection::open(access) else {
            return;
        };
        while self.cycle(&mut connection, progress).is_ok() {}
    }

    /// One generation: join, sync, a few commits, maybe a farewell.
    fn cycle(&mut self, connection: &mut Connection, progress: &AtomicU64) -> io::Result<()> {
        let request = JoinGroupRequest {
            group_id: GROUP.into(),
            session_timeout_ms: TIMEOUT_MS,
            rebalance_timeout_ms: TIMEOUT_MS,
            member_id: self.id.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: vec![0, 0, 0, 0, 0, 0, 255, 255, 255, 255].into(),
            }],
            ..JoinGroupRequest::default()
        };
        let joined = connection.call(3, &request)?;
        match joined.error_code {
            ErrorCode::NONE => self.id = joined.member_id.clone(),
            ErrorCode::UNKNOWN_MEMBER_ID => {
                self.id = Str::EMPTY;
                return Ok(());
            }
            code => return retry(code),
        }
        let assignments = joined
            .members
            .iter()
            .map(|member| SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: vec![7].into(),
            });
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: joined.generation_id,
            member_id: self.id.clone(),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        let synced = connection.call(3, &request)?;
        if synced.error_code.is_error() {
            return retry(synced.error_code);
        }
        for _ in 0..1 + next(&mut self.random) % 10 {
            match self.commit(connection, joined.generation_id)? {
                ErrorCode::NONE => progress.fetch_add(1, Ordering::Relaxed),
                code => return retry(code),
            };
        }
        if next(&mut self.random).is_multiple_of(4) {
            let request = LeaveGroupRequest {
                group_id: GROUP.into(),
                member_id: std::mem::take(&mut self.id),
                ..LeaveGroupRequest::default()
            };
            connection.call(2, &request)?;
        }
        Ok(())
    }

    fn commit(&mut self, connection: &mut Connection, generation: i32) -> io::Result<ErrorCode> {
        self.attempted += 1;
        let request = OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: generation,
            member_id: self.id.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: TOPIC.into(),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: self.partition,
                    committed_offset: self.attempted,
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let answer = connection.call(8, &request)?;
        let code = answer.topics[0].partitions[0].error_code;
        if code == ErrorCode::NONE {
            self.acknowledged = self.attempted;
        }
        Ok(code)
    }
}

/// Codes after which a member joins again.
fn retry(code: ErrorCode) -> io::Result<()> {
    match code {
        ErrorCode::REBALANCE_IN_PROGRESS
        | ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => Ok(()),
        code => Err(io::Error::other(format!("unexpected {}", code.name()))),
    }
}

/// No committed offset is lost or moves back, and the group always goes on.
#[test]
fn killed_in_rebalances_and_commits() {
    let mut random = seed() | 1;
    let mut node = Node::prepare();
    node.set("palisade.log.flush.policy", "ack");
    node.set("group.initial.rebalance.delay.ms", "100");
    node.set("group.min.session.timeout.ms", "500");
    node.run();
    let access = node.certificate();
    let mut connection = coordinator(&access, GROUP);
    requests::create_topic(&mut connection, TOPIC, MEMBERS, &[]).expect("a topic");
    drop(connection);
    let mut members: Vec<_> = (0..MEMBERS)
        .map(|partition| Member::new(partition, next(&mut random)))
        .collect();
    let mut commits = 0;
    for round in 0..ROUNDS {
        let progress = AtomicU64::new(0);
        let wanted = 1 + next(&mut random) % 60;
        std::thread::scope(|scope| {
            for member in &mut members {
                let (access, progress) = (&access, &progress);
                scope.spawn(move || member.run(access, progress));
            }
            eventually(
                &format!("round {round}: the group to go on"),
                UNSTUCK,
                || match progress.load(Ordering::Relaxed) {
                    done if done >= wanted => Ok(()),
                    done => Err(format!("{done} of {wanted} commits")),
                },
            );
            node.kill();
        });
        commits += progress.into_inner();

        node.run();
        let mut connection = Connection::open(&access).expect("a login after the kill");
        let found = eventually("the coordinator to have loaded", UNSTUCK, || {
            committed(&mut connection, GROUP, TOPIC, MEMBERS)
        });
        for (member, found) in members.iter_mut().zip(found) {
            let allowed = member.acknowledged..=member.attempted;
            assert!(
                allowed.contains(&found),
                "round {round}, partition {}: {found} is not in {allowed:?}",
                member.partition
            );
            member.acknowledged = found;
        }
    }
    println!("{ROUNDS} kills, {commits} commits acknowledged, none lost");
}
