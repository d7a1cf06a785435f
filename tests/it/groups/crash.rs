//! Killed in mid-rebalance and mid-commit, again and again, with groups of both protocols.

mod readers;
mod told;

use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::join_group::JoinGroupRequest;
use palisade_protocol::messages::leave_group::LeaveGroupRequest;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use palisade_protocol::text::Str;
use palisade_tests::access::Access;
use palisade_tests::check::{eventually, tell};
use palisade_tests::conversions;
use palisade_tests::node::Node;
use palisade_tests::requests;
use palisade_tests::wire::{self, Connection};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use self::readers::{Kind, Readers};
use self::told::Told;
use super::{committed, coordinator, joining};
use crate::crash::{next, seed};
use crate::rdkafka::config;

const TOPIC: &str = "group-crash";
const GROUP: &str = "group-crash";
const ROUNDS: u64 = 50;
const MEMBERS: i32 = 3;
/// Session and rebalance timeout of every member, in milliseconds.
const TIMEOUT_MS: i32 = 2000;
/// A member that the kill left behind is gone after its session; the others need a moment more.
const UNSTUCK: Duration = Duration::from_secs(20);

/// A member that joins, commits to a partition of its own, and sometimes leaves.
struct Member<'a> {
    told: &'a Told,
    partition: i32,
    id: Str,
    random: u64,
    /// The highest offset that was sent.
    attempted: i64,
    /// The highest offset whose commit was acknowledged.
    acknowledged: i64,
}

impl Member<'_> {
    fn new(told: &Told, partition: i32, seed: u64) -> Member<'_> {
        Member {
            told,
            partition,
            id: Str::EMPTY,
            random: seed | 1,
            attempted: -1,
            acknowledged: -1,
        }
    }

    fn attempted(&self) -> i64 {
        self.attempted
    }

    fn acknowledged(&self) -> i64 {
        self.acknowledged
    }

    /// Goes on until the connection breaks, which it does when the node is killed and not before.
    fn run(&mut self, access: &Access, progress: &AtomicU64, killed: &AtomicBool) {
        let Err(error) = self.work(access, progress);
        let partition = self.partition;
        assert!(wire::is_end(&error), "member {partition}: {error}");
        let was_killed = killed.load(Ordering::SeqCst);
        assert!(was_killed, "member {partition} was cut off: {error}");
    }

    fn work(&mut self, access: &Access, progress: &AtomicU64) -> io::Result<Infallible> {
        let mut connection = Connection::open(access)?;
        loop {
            self.cycle(&mut connection, progress)?;
        }
    }

    /// One generation: join, sync, a few commits, maybe a farewell.
    fn cycle(&mut self, connection: &mut Connection, progress: &AtomicU64) -> io::Result<()> {
        let request = JoinGroupRequest {
            session_timeout_ms: TIMEOUT_MS,
            rebalance_timeout_ms: TIMEOUT_MS,
            member_id: self.id.clone(),
            ..joining(GROUP)
        };
        let joined = connection.call(3, &request)?;
        match joined.error_code {
            ErrorCode::NONE => self.id = joined.member_id.clone(),
            code @ ErrorCode::UNKNOWN_MEMBER_ID => {
                self.told.hear(code.name());
                self.id = Str::EMPTY;
                return Ok(());
            }
            code => panic!("a join is answered {code}"),
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
            return self.rejoin(synced.error_code);
        }
        for _ in 0..1 + next(&mut self.random) % 10 {
            match self.commit(connection, joined.generation_id)? {
                ErrorCode::NONE => progress.fetch_add(1, Ordering::Relaxed),
                code => return self.rejoin(code),
            };
        }
        if next(&mut self.random).is_multiple_of(4) {
            let request = LeaveGroupRequest {
                group_id: GROUP.into(),
                member_id: std::mem::take(&mut self.id),
                ..LeaveGroupRequest::default()
            };
            let code = connection.call(2, &request)?.error_code;
            // Its session may have run out meanwhile.
            let is_known = [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID].contains(&code);
            assert!(is_known, "a farewell is answered {code}");
            if code.is_error() {
                self.told.hear(code.name());
            }
        }
        Ok(())
    }

    /// What a member hears while others come and go; it then joins again.
    fn rejoin(&mut self, code: ErrorCode) -> io::Result<()> {
        self.told.hear(code.name());
        match code {
            ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION => {}
            ErrorCode::UNKNOWN_MEMBER_ID => self.id = Str::EMPTY,
            code => panic!("a member of a generation is answered {code}"),
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

/// Fills the topic of the readers.
fn produce(access: &Access) {
    let producer: BaseProducer = config(access).create().expect("a producer");
    for number in 0..readers::RECORDS * readers::PARTITIONS {
        let record = BaseRecord::<(), _>::to(readers::TOPIC)
            .partition(number % readers::PARTITIONS)
            .payload("x");
        let sent = producer.send(record).map_err(|(error, _)| error);
        sent.expect("queued");
    }
    producer.flush(UNSTUCK).expect("delivered");
}

fn prepare() -> Node {
    let mut node = Node::prepare();
    for (key, value) in [
        ("palisade.log.flush.policy", "ack"),
        ("group.initial.rebalance.delay.ms", "100"),
        ("group.min.session.timeout.ms", "500"),
        ("group.consumer.min.session.timeout.ms", "500"),
        ("group.consumer.session.timeout.ms", "2000"),
        ("group.consumer.min.heartbeat.interval.ms", "50"),
        ("group.consumer.heartbeat.interval.ms", "100"),
        ("group.consumer.assignment.interval.ms", "50"),
    ] {
        node.set(key, value);
    }
    node.run();
    node
}

fn assert_between(round: u64, what: &str, from: &[i64], found: &[i64], to: &[i64]) {
    for (partition, found) in found.iter().enumerate() {
        let allowed = from[partition]..=to[partition];
        assert!(
            allowed.contains(found),
            "round {round}, {what}, partition {partition}: {found} is not in {allowed:?}"
        );
    }
}

/// No committed offset is lost or moves back, and both groups always go on.
#[test]
fn killed_in_rebalances_and_commits() {
    let mut random = seed() | 1;
    let mut node = prepare();
    let access = node.certificate();
    let mut connection = coordinator(&access, GROUP);
    requests::create_topic(&mut connection, TOPIC, MEMBERS, &[]).expect("a topic");
    let made = requests::create_topic(
        &mut connection,
        readers::TOPIC,
        readers::PARTITIONS,
        &[("retention.ms", "-1")],
    );
    made.expect("a topic");
    drop(connection);
    produce(&access);
    let told = Told::default();
    let mut members: Vec<_> = (0..MEMBERS)
        .map(|partition| Member::new(&told, partition, next(&mut random)))
        .collect();
    let readers = Readers::default();
    let mut commits = 0;
    std::thread::scope(|story| {
        let _ending = readers.ending();
        for kind in [Kind::Native, Kind::NativeGuest, Kind::ClassicGuest] {
            let (readers, access, seed) = (&readers, &access, next(&mut random));
            story.spawn(move || readers.run(access, kind, seed));
        }
        for round in 0..ROUNDS {
            let (progress, killed) = (AtomicU64::new(0), AtomicBool::new(false));
            let wanted = 1 + next(&mut random) % 60;
            let read = readers.commits() + 1 + next(&mut random) % 20;
            std::thread::scope(|scope| {
                for member in &mut members {
                    let (access, progress, killed) = (&access, &progress, &killed);
                    scope.spawn(move || member.run(access, progress, killed));
                }
                let what = format!("round {round}: the groups to go on");
                let question = || match (progress.load(Ordering::Relaxed), readers.commits()) {
                    (done, seen) if done >= wanted && seen >= read => Ok(()),
                    (done, seen) => Err(format!("{done} of {wanted}, {seen} of {read} commits")),
                };
                let waiting = AssertUnwindSafe(|| eventually(&what, UNSTUCK, question));
                let waited = catch_unwind(waiting);
                // Also where they are stuck: the members go on until their connections break.
                killed.store(true, Ordering::SeqCst);
                node.kill();
                if let Err(panic) = waited {
                    resume_unwind(panic);
                }
            });
            commits += progress.into_inner();

            let acknowledged = readers.acknowledged();
            node.run();
            let mut connection = Connection::open(&access).expect("a login after the kill");
            let found = eventually("the coordinator to have loaded", UNSTUCK, || {
                committed(&mut connection, GROUP, TOPIC, MEMBERS)
            });
            let [from, to] = [Member::acknowledged, Member::attempted]
                .map(|of| members.iter().map(of).collect::<Vec<_>>());
            assert_between(round, GROUP, &from, &found, &to);
            for (member, found) in members.iter_mut().zip(found) {
                member.acknowledged = found;
            }
            let found = eventually("the coordinator to have loaded", UNSTUCK, || {
                let (group, topic) = (readers::GROUP, readers::TOPIC);
                committed(&mut connection, group, topic, readers::PARTITIONS)
            });
            // Nobody has committed to a partition yet.
            let found: Vec<_> = found.into_iter().map(|offset| offset.max(0)).collect();
            let attempted = readers.attempted();
            assert_between(round, readers::GROUP, &acknowledged, &found, &attempted);
        }
    });
    let read = readers.commits_by_kind();
    let conversions = conversions::count(&node);
    let counted = format!("{commits} and {read:?} commits acknowledged");
    tell(
        "killed_in_rebalances_and_commits",
        &format!(
            "{ROUNDS} kills, {counted}, none lost; classic members were told {told}; \
             of clients {readers}; {conversions} conversions"
        ),
    );
    assert!(
        commits > 0 && read.iter().all(|count| *count > 0),
        "{counted}"
    );
    // Who waits hears it once, and of the classic members one is there at a time. In the other group, where
    // nothing is converted, it is no answer to a JoinGroup at all.
    let waited = readers.were_converted();
    assert!(
        waited <= conversions,
        "REBALANCE_IN_PROGRESS to {waited} JoinGroups, but {conversions} conversions"
    );
}
