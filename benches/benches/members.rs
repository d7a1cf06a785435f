//! Five thousand members of groups in a whole node: what their heartbeats cost, in either protocol, and
//! what expressions cost that take other engines exponential time.
//!
//! `PALISADE_BENCH_BINARY` measures another build.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use palisade_benches::client::{Client, accepted};
use palisade_benches::node::{self, Node};
use palisade_benches::{coordinator, figures, load, machine};
use palisade_protocol::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    RequestTopicPartitions,
};
use palisade_protocol::messages::heartbeat::HeartbeatRequest;
use palisade_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use palisade_protocol::{ErrorCode, Request, Str, frame};
use tempfile::TempDir;

const MEMBERS: usize = 5_000;
/// Members of one group of the consumer protocol: each has its own, some share one, all share one.
const SIZES: [usize; 3] = [1, 100, MEMBERS];
/// Heartbeats of each member while they are measured.
const BEATS: usize = 20;
/// Requests on their way at once.
const PIPELINE: usize = 100;
/// Groups that are asked for beforehand: enough that every partition of the offsets' topic, of which
/// there are fifty, has loaded.
const PROBES: usize = 500;
/// Longest time until every member has its partitions.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(1);

const TOPIC: &str = "members";
const PARTITIONS: i32 = 100;
/// Topics that expressions are tried on, each with as many `a` in its name as fit well.
const NAMES: usize = 1_000;
const LETTERS: usize = 200;
/// The one topic that each expression finds.
const FOUND: &str = "found";
/// Groups that ask for the same expression.
const ROUNDS: usize = 20;
/// What finds nothing among the long names: in a plain way, and in ways that make a backtracking
/// engine try all splits of a name.
const EXPRESSIONS: [(&str, &str); 4] = [
    ("plain", "a*b"),
    ("(a+)+b", "(a+)+b"),
    ("(a|a)*(a*)*b", "(a|a)*(a*)*b"),
    ("(.*a){12}b", "(.*a){12}b"),
];

const JOIN_GROUP_VERSION: i16 = 3;
const HEARTBEAT_VERSION: i16 = 3;
const NATIVE_VERSION: i16 = 1;

fn main() -> ExitCode {
    palisade_benches::run("members", measure)
}

fn measure() -> Result<()> {
    let binary = node::binary()?;
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    machine::print(scratch);
    println!("binary: {}", binary.display());
    println!("client: one connection, SASL_SSL, {PIPELINE} requests on their way");
    println!();
    figures::heads();
    Rig::open(&binary, scratch)?.classic()?;
    for size in SIZES {
        Rig::open(&binary, scratch)?.native(size)?;
    }
    Rig::open(&binary, scratch)?.expressions()
}

/// A node of its own, and the connection that all members share.
struct Rig {
    client: Client,
    node: Node,
    _dir: TempDir,
}

impl Rig {
    fn open(binary: &Path, scratch: &Path) -> Result<Self> {
        let dir = TempDir::with_prefix_in("members-", scratch)?;
        let log = dir.path().join("log");
        let settings = [
            "group.initial.rebalance.delay.ms=0",
            "group.consumer.session.timeout.ms=60000",
            "group.consumer.assignment.interval.ms=0",
        ];
        let settings = settings.map(str::to_owned);
        let mut node = Node::spawn_with(binary, &dir.path().join("data"), &log, &settings)?;
        let served = node.wait().and_then(|access| Client::open(&access));
        let mut client = served.with_context(|| node::end_of_log(&log))?;
        coordinator::find(&mut client, &Str::from(TOPIC))?;
        load::create_topic_with(&mut client, TOPIC, PARTITIONS, &[])?;
        for number in 0..PROBES {
            let stranger = HeartbeatRequest {
                group_id: Str::from(format!("probe-{number}")),
                ..HeartbeatRequest::default()
            };
            coordinator::patiently(|| {
                let answer = client.call(HEARTBEAT_VERSION, &stranger)?;
                Ok(match answer.error_code {
                    ErrorCode::UNKNOWN_MEMBER_ID => (ErrorCode::NONE, ()),
                    code => (code, ()),
                })
            })?;
        }
        Ok(Self {
            client,
            node,
            _dir: dir,
        })
    }

    /// Asks all, several at once, and hands each answer to whoever asked.
    fn ask<A, R: Request>(
        &mut self,
        askers: &mut [A],
        version: i16,
        question: impl Fn(&A) -> R,
        mut hear: impl FnMut(&mut A, R::Response) -> Result<()>,
    ) -> Result<()> {
        for chunk in askers.chunks_mut(PIPELINE) {
            for asker in &*chunk {
                let frame = frame::encode_request(version, 0, Some("bench"), &question(asker))?;
                self.client.send(&frame)?;
            }
            for asker in chunk {
                let answer = self.client.receive()?;
                hear(asker, frame::decode_response::<R>(version, answer)?.1)?;
            }
        }
        Ok(())
    }

    /// Members of the classic protocol, each in a group of its own.
    fn classic(mut self) -> Result<()> {
        let mut members: Vec<HeartbeatRequest> = (0..MEMBERS)
            .map(|number| HeartbeatRequest {
                group_id: Str::from(format!("classic-{number}")),
                ..HeartbeatRequest::default()
            })
            .collect();
        let (empty, idle) = (self.node.anonymous_memory()?, self.node.cpu_seconds()?);
        self.ask(&mut members, JOIN_GROUP_VERSION, join, |member, answer| {
            accepted(answer.error_code, "JoinGroup")?;
            member.generation_id = answer.generation_id;
            member.member_id = answer.member_id;
            Ok(())
        })?;
        let memory = self.node.anonymous_memory()?.saturating_sub(empty);
        let joined = self.node.cpu_seconds()?;
        for _ in 0..BEATS {
            self.ask(
                &mut members,
                HEARTBEAT_VERSION,
                HeartbeatRequest::clone,
                |_, answer| accepted(answer.error_code, "Heartbeat"),
            )?;
        }
        let beaten = self.node.cpu_seconds()?;
        report(
            "classic, one in a group",
            memory,
            joined - idle,
            beaten - joined,
        )
    }

    /// Members of the consumer protocol.
    fn native(mut self, size: usize) -> Result<()> {
        let mut members: Vec<Native> = (0..MEMBERS)
            .map(|number| Native::new(number, size))
            .collect();
        let (empty, idle) = (self.node.anonymous_memory()?, self.node.cpu_seconds()?);
        let began = Instant::now();
        // Every join raises the epoch of its group, which begins with 1.
        let last = i32::try_from(size)? + 1;
        let all = MEMBERS / size * usize::try_from(PARTITIONS)?;
        loop {
            let news = self.beat(&mut members)?;
            let owned: usize = members.iter().map(|member| member.owned).sum();
            let arrived = members
                .iter()
                .all(|member| member.beat.member_epoch == last);
            if news == 0 && arrived && owned == all {
                break;
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "members have {owned} of {all} partitions"
            );
        }
        let memory = self.node.anonymous_memory()?.saturating_sub(empty);
        let settled = self.node.cpu_seconds()?;
        for _ in 0..BEATS {
            ensure!(
                self.beat(&mut members)? == 0,
                "a member still gets partitions"
            );
        }
        let beaten = self.node.cpu_seconds()?;
        let name = format!("consumer protocol, {size} in a group");
        report(&name, memory, settled - idle, beaten - settled)
    }

    /// One heartbeat of each; how many answers brought anything new.
    fn beat(&mut self, members: &mut [Native]) -> Result<usize> {
        let mut news = 0;
        let request = |member: &Native| member.beat.clone();
        self.ask(members, NATIVE_VERSION, request, |member, answer| {
            news += usize::from(member.hear(answer)?);
            Ok(())
        })?;
        Ok(news)
    }

    /// Groups that subscribe to expressions.
    fn expressions(mut self) -> Result<()> {
        load::create_topic(&mut self.client, FOUND)?;
        for number in 0..NAMES {
            let name = format!("{}{number}", "a".repeat(LETTERS));
            load::create_topic(&mut self.client, &name)?;
        }
        for (name, expression) in EXPRESSIONS {
            let cpu = self.node.cpu_seconds()?;
            let mut times = Vec::with_capacity(ROUNDS);
            for round in 0..ROUNDS {
                times.push(self.find(&format!("{name}-{round}"), expression)?);
            }
            let cpu = (self.node.cpu_seconds()? - cpu) / f64::from(u32::try_from(ROUNDS)?);
            figures::durations(
                &format!("{NAMES} names of {LETTERS} letters, {name}: found"),
                &mut times,
                "",
            );
            figures::once("  processor for it", &format!("{:.1} ms", cpu * 1e3), "");
        }
        self.node.stop()
    }

    /// From a member's first heartbeat to the one that brings it the topic.
    fn find(&mut self, group: &str, expression: &str) -> Result<Duration> {
        let mut member = Native::new(0, 1);
        member.beat.group_id = Str::copy(group);
        member.beat.subscribed_topic_names = None;
        member.beat.subscribed_topic_regex = Some(Str::from(format!("({expression})|{FOUND}")));
        let began = Instant::now();
        while member.owned == 0 {
            ensure!(began.elapsed() < PATIENCE, "{expression} finds nothing");
            let answer = self.client.call(NATIVE_VERSION, &member.beat)?;
            member.hear(answer)?;
            thread::sleep(PAUSE);
        }
        Ok(began.elapsed())
    }
}

fn join(member: &HeartbeatRequest) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: member.group_id.clone(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: Str::from("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Str::from("range"),
            // A subscription to nothing, version 0.
            metadata: vec![0, 0, 0, 0, 0, 0, 255, 255, 255, 255].into(),
        }],
        ..JoinGroupRequest::default()
    }
}

/// Prints what the members cost; times are processor seconds of all of them.
fn report(name: &str, memory: u64, joined: f64, beaten: f64) -> Result<()> {
    let members = f64::from(u32::try_from(MEMBERS)?);
    let beats = members * f64::from(u32::try_from(BEATS)?);
    let micros = |seconds: f64, count: f64| format!("{:.1} us", seconds / count * 1e6);
    figures::once(
        &format!("{name}: a heartbeat, processor"),
        &micros(beaten, beats),
        "",
    );
    figures::once(
        "  until each has its place, processor",
        &micros(joined, members),
        "",
    );
    let each = memory / u64::try_from(MEMBERS)?;
    figures::once("  memory of each", &format!("{each} B"), "");
    Ok(())
}

/// A member of the consumer protocol, and the heartbeat it sends next.
struct Native {
    beat: ConsumerGroupHeartbeatRequest,
    owned: usize,
}

impl Native {
    /// The `number`th of all members, of which `size` are in one group.
    fn new(number: usize, size: usize) -> Self {
        let beat = ConsumerGroupHeartbeatRequest {
            group_id: Str::from(format!("native-{}", number / size)),
            member_id: Str::from(format!("00000000-0000-4000-8000-{number:012}")),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![Str::from(TOPIC)]),
            topic_partitions: Some(Vec::new()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        Self { beat, owned: 0 }
    }

    /// Takes an answer; whether it brought anything new.
    fn hear(&mut self, answer: ConsumerGroupHeartbeatResponse) -> Result<bool> {
        accepted(answer.error_code, "ConsumerGroupHeartbeat")?;
        let is_news = answer.member_epoch != self.beat.member_epoch || answer.assignment.is_some();
        if let Some(Assignment { topic_partitions }) = &answer.assignment {
            self.owned = topic_partitions
                .iter()
                .map(|topic| topic.partitions.len())
                .sum();
        }
        let owned = answer.assignment.map(|assignment| {
            let topics = assignment.topic_partitions.into_iter();
            let topics = topics.map(|topic| RequestTopicPartitions {
                topic_id: topic.topic_id,
                partitions: topic.partitions,
            });
            topics.collect()
        });
        self.beat = ConsumerGroupHeartbeatRequest {
            group_id: self.beat.group_id.clone(),
            member_id: self.beat.member_id.clone(),
            member_epoch: answer.member_epoch,
            topic_partitions: owned,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        Ok(is_news)
    }
}
