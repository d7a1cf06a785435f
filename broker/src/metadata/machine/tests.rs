//! Decisions between proposal and commit, on an engine whose disk is memory.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use palisade_auth::audit::AuditSink;
use palisade_protocol::messages::create_topics::{
    CreatableTopic, CreateTopicsRequest, CreateTopicsResponse,
};
use palisade_protocol::{ErrorCode, Str};
use palisade_storage::fs::{Crash, FaultyFs};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::controller::testing::{internal, settings, user};
use super::super::controller::{RegisterBroker, Reply, SetBrokerFenced, Verdict, submission};
use super::*;
use crate::metadata::controller::{ControllerRequest, Descriptors};
use crate::metadata::intents::AuditTrail;
use crate::metadata::record::BrokerEndpoint;
use crate::raft::engine::{Engine, EngineFiles, EngineOptions};
use crate::raft::memory_log::MemoryLog;
use crate::raft::testing::{DIR, now};
use crate::raft::transport::NoPeers;
use crate::task::BoxFuture;
use palisade_protocol::Uuid;

/// A node whose disk outlives it.
struct Node {
    engine: Engine<MetadataMachine>,
    metadata: MetadataHandle,
}

fn start(fs: &FaultyFs, log: &MemoryLog, cluster_id: &str) -> Node {
    start_with(fs, log, cluster_id, settings())
}

fn start_with(
    fs: &FaultyFs,
    log: &MemoryLog,
    cluster_id: &str,
    settings: ControllerSettings,
) -> Node {
    let shared = fs.as_fs();
    if !shared.exists(Path::new(DIR)).unwrap() {
        shared.create_dir(Path::new(DIR)).unwrap();
        shared.sync_dir(Path::new("/")).unwrap();
    }
    let metadata = MetadataHandle::new(Arc::new(ClusterImage::empty()));
    let machine = MetadataMachine::new(
        metadata.clone(),
        Arc::new(settings),
        vec![MetadataRecord::ClusterId(cluster_id.to_owned())],
    );
    let files = EngineFiles::new(&shared, Path::new(DIR));
    let recovered = files.recover().unwrap();
    let options = EngineOptions {
        node_id: BrokerId::new(0),
        initial_voters: vec![BrokerId::new(0)],
        snapshot_bytes: u64::MAX,
    };
    let mut engine = Engine::open(
        &options,
        files,
        recovered,
        Box::new(log.clone()),
        Box::new(NoPeers),
        machine,
    )
    .unwrap();
    engine.campaign_if_sole().unwrap();
    engine.drive(now()).unwrap();
    Node { engine, metadata }
}

type Answer<R> = oneshot::Receiver<Reply<R>>;

/// The answer; changes are announced only where there is an audit log.
fn answered<T>(verdict: Verdict<T>) -> T {
    match verdict {
        Verdict::Answer(response) => response,
        Verdict::Announce(plan) => panic!("{plan:?}"),
    }
}

impl Node {
    /// Hands a request over; nothing is written before the next drive.
    fn offer<R: ControllerRequest>(&mut self, request: R, actor: Actor) -> Answer<R> {
        let (submission, answer) = submission(Arc::new(request), 7, actor, None);
        self.engine.handle(submission);
        answer
    }

    fn submit<R: ControllerRequest>(&mut self, request: R, actor: Actor) -> R::Response {
        let mut answer = self.offer(request, actor);
        self.engine.drive(now()).unwrap();
        answered(answer.try_recv().unwrap().unwrap())
    }

    fn register(&mut self) {
        let registration = RegisterBroker {
            cluster_id: "one".to_owned(),
            broker_id: BrokerId::new(0),
            incarnation: Uuid::from_bytes([1; 16]),
            endpoints: vec![BrokerEndpoint {
                listener: "CLIENT".to_owned(),
                host: "localhost".to_owned(),
                port: 9092,
                security_protocol: 3,
            }],
            rack: None,
        };
        let broker_epoch = self.submit(registration, internal()).unwrap();
        let broker_id = BrokerId::new(0);
        let let_in = SetBrokerFenced {
            broker_id,
            broker_epoch,
            fenced: false,
        };
        self.submit(let_in, internal()).unwrap();
    }
}

fn create(name: &'static str) -> CreateTopicsRequest {
    let topic = CreatableTopic {
        name: Str::from(name),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    CreateTopicsRequest {
        topics: vec![topic],
        ..CreateTopicsRequest::default()
    }
}

fn code(response: &CreateTopicsResponse) -> ErrorCode {
    response.topics[0].error_code
}

#[test]
fn a_new_cluster_has_its_first_records_once() {
    let (fs, log) = (FaultyFs::new(), MemoryLog::new());
    let node = start(&fs, &log, "one");
    assert_eq!(&*node.metadata.image().cluster_id, "one");
    assert!(node.metadata.image().acls.cache().is_loaded());
    let offset = node.metadata.image().offset;
    drop(node);
    fs.restart(Crash::PowerLoss);
    let node = start(&fs, &log, "two");
    assert_eq!(&*node.metadata.image().cluster_id, "one");
    // Only the first entry of the new term came on top.
    assert_eq!(node.metadata.image().offset.distance(offset), 1);
    assert_eq!(node.metadata.image().epoch.value(), 2);
}

#[test]
fn of_two_that_cannot_both_win_one_does() {
    let mut node = start(&FaultyFs::new(), &MemoryLog::new(), "one");
    node.register();
    let mut first = node.offer(create("orders"), user("root"));
    let mut second = node.offer(create("orders"), user("root"));
    // Neither may be answered before the records that decide are applied.
    assert!(matches!(first.try_recv(), Err(TryRecvError::Empty)));
    assert!(matches!(second.try_recv(), Err(TryRecvError::Empty)));
    assert!(node.metadata.image().topics.is_empty());
    node.engine.drive(now()).unwrap();
    assert_eq!(
        code(&answered(first.try_recv().unwrap().unwrap())),
        ErrorCode::NONE
    );
    assert_eq!(
        code(&answered(second.try_recv().unwrap().unwrap())),
        ErrorCode::TOPIC_ALREADY_EXISTS
    );
    assert_eq!(node.metadata.image().topics.len(), 1);
}

#[test]
fn a_descriptor_is_given_once() {
    let settings = ControllerSettings {
        // A quarter is kept, and one is left.
        descriptors: Descriptors::fixed(100, || Some(74)),
        ..settings()
    };
    let mut node = start_with(&FaultyFs::new(), &MemoryLog::new(), "one", settings);
    node.register();
    let mut first = node.offer(create("orders"), user("root"));
    let mut second = node.offer(create("payments"), user("root"));
    node.engine.drive(now()).unwrap();
    let code_of = |answer: &mut Answer<CreateTopicsRequest>| {
        code(&answered(answer.try_recv().unwrap().unwrap()))
    };
    assert_eq!(code_of(&mut first), ErrorCode::NONE);
    assert_eq!(code_of(&mut second), ErrorCode::POLICY_VIOLATION);
}

#[test]
fn state_survives_with_and_without_a_snapshot() {
    let (fs, log) = (FaultyFs::new(), MemoryLog::new());
    let mut node = start(&fs, &log, "one");
    node.register();
    assert_eq!(
        code(&node.submit(create("a"), user("root"))),
        ErrorCode::NONE
    );
    let id = node.metadata.image().topics.get("a").unwrap().id;
    drop(node);
    fs.restart(Crash::PowerLoss);
    log.crash();
    let mut node = start(&fs, &log, "one");
    assert_eq!(node.metadata.image().topics.get("a").unwrap().id, id);
    node.engine.take_snapshot().unwrap();
    assert_eq!(
        code(&node.submit(create("b"), user("root"))),
        ErrorCode::NONE
    );
    let before = node.metadata.image();
    drop(node);
    fs.restart(Crash::PowerLoss);
    log.crash();
    let node = start(&fs, &log, "one");
    let after = node.metadata.image();
    assert_eq!(snapshot::records_of(&before), snapshot::records_of(&after));
}

#[test]
fn one_who_does_not_lead_decides_nothing() {
    let mut node = start(&FaultyFs::new(), &MemoryLog::new(), "one");
    let leader = Some(BrokerId::new(7));
    let mut machine = MetadataMachine::new(node.metadata.clone(), Arc::new(settings()), Vec::new());
    machine.role_changed(RoleChange {
        leader,
        term: 5,
        is_leader: false,
    });
    let (parked, mut answer) = submission(Arc::new(create("a")), 7, user("root"), None);
    node.engine
        .with_proposer(|proposer| machine.handle(parked, proposer));
    assert_eq!(
        answer.try_recv().unwrap(),
        Err(ControllerError::NotLeader { leader })
    );

    // Elected, but older entries may still come: the request waits, and fails with the role.
    machine.role_changed(RoleChange {
        leader: None,
        term: 6,
        is_leader: true,
    });
    let (parked, mut answer) = submission(Arc::new(create("a")), 7, user("root"), None);
    node.engine
        .with_proposer(|proposer| machine.handle(parked, proposer));
    assert!(matches!(answer.try_recv(), Err(TryRecvError::Empty)));
    machine.role_changed(RoleChange {
        leader,
        term: 7,
        is_leader: false,
    });
    assert_eq!(
        answer.try_recv().unwrap(),
        Err(ControllerError::NotLeader { leader })
    );
}

#[test]
fn a_proposal_that_another_leader_replaced_is_lost() {
    let mut node = start(&FaultyFs::new(), &MemoryLog::new(), "one");
    node.register();
    let mut kept = node.offer(create("a"), user("root"));
    let mut lost = node.offer(create("b"), user("root"));
    let mut after = node.offer(create("b"), user("root"));
    let next = u64::try_from(node.metadata.image().offset.value()).unwrap() + 1;
    // The log as another leader left it: the first entry is ours, the second is not.
    let records = encode_batch(&[MetadataRecord::Topic {
        id: Uuid::from_bytes([9; 16]),
        name: "a".to_owned(),
    }]);
    node.engine.with_machine(|machine, proposer| {
        machine.apply(next, 1, &records).unwrap();
        machine.apply(next + 1, 2, &[]).unwrap();
        machine.applied(proposer);
    });
    assert_eq!(
        code(&answered(kept.try_recv().unwrap().unwrap())),
        ErrorCode::NONE
    );
    assert_eq!(
        lost.try_recv().unwrap(),
        Err(ControllerError::LeadershipLost)
    );
    assert_eq!(
        after.try_recv().unwrap(),
        Err(ControllerError::LeadershipLost)
    );
}

/// An audit log in memory that can be full.
#[derive(Default)]
struct Trail {
    full: AtomicBool,
    lines: Mutex<Vec<(String, &'static str, Option<String>)>>,
}

impl Trail {
    fn lines(&self) -> Vec<(String, &'static str, Option<String>)> {
        std::mem::take(&mut self.lines.lock())
    }
}

impl AuditSink for Trail {
    fn record(&self, event: AuditEvent) {
        if let Some(change) = event.change {
            let outcome = event.reason.unwrap_or(event.outcome.name());
            self.lines
                .lock()
                .push((change.target, outcome, change.after));
        }
    }
}

impl AuditTrail for Trail {
    fn record_ahead(&self, events: Vec<AuditEvent>) -> BoxFuture<'_, bool> {
        let full = self.full.load(Ordering::Relaxed);
        if !full {
            events.into_iter().for_each(|event| self.record(event));
        }
        Box::pin(async move { !full })
    }
}

/// A node with an audit log.
fn audited() -> (Node, Arc<Trail>) {
    let trail = Arc::new(Trail::default());
    let settings = ControllerSettings {
        audit: Some(Arc::clone(&trail) as Arc<dyn AuditTrail>),
        ..settings()
    };
    let mut node = start_with(&FaultyFs::new(), &MemoryLog::new(), "one", settings);
    node.register();
    (node, trail)
}

impl Node {
    fn try_with(
        &mut self,
        name: &'static str,
        intents: Option<Intents>,
    ) -> Verdict<CreateTopicsResponse> {
        let (submission, mut answer) = submission(Arc::new(create(name)), 7, user("root"), intents);
        self.engine.handle(submission);
        self.engine.drive(now()).unwrap();
        answer.try_recv().unwrap().unwrap()
    }

    fn plan(&mut self, name: &'static str) -> Plan {
        match self.try_with(name, None) {
            Verdict::Announce(plan) => plan,
            Verdict::Answer(answer) => panic!("done without a word: {answer:?}"),
        }
    }
}

async fn announce(trail: &Arc<Trail>, plan: Plan) -> Option<Intents> {
    let trail = Arc::clone(trail) as Arc<dyn AuditTrail>;
    Intents::announce(trail, AuditContext::default(), plan).await
}

#[tokio::test]
async fn a_change_happens_as_it_was_announced() {
    let (mut node, trail) = audited();
    let plan = node.plan("orders");
    assert!(node.metadata.image().topics.get("orders").is_none());
    assert_eq!(trail.lines(), [], "nothing was done, nothing is told");
    let intents = announce(&trail, plan).await;
    let answer = answered(node.try_with("orders", intents));
    assert_eq!(code(&answer), ErrorCode::NONE);
    let id = node.metadata.image().topics.get("orders").unwrap().id;
    let after = Some(format!("id={id} partitions=1 replicas=1"));
    let target = || "topic orders".to_owned();
    assert_eq!(
        trail.lines(),
        [(target(), "intent", after.clone()), (target(), "ok", after)]
    );
}

#[tokio::test]
async fn what_cannot_be_announced_does_not_happen() {
    let (mut node, trail) = audited();
    let plan = node.plan("orders");
    trail.full.store(true, Ordering::Relaxed);
    assert!(announce(&trail, plan).await.is_none());
    assert!(node.metadata.image().topics.get("orders").is_none());
    let told = trail.lines();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1, "audit_unavailable");
}

#[tokio::test]
async fn an_intent_that_came_to_nothing_says_so() {
    let (mut node, trail) = audited();
    let plans = [node.plan("orders"), node.plan("orders")];
    let mut answers = Vec::new();
    for plan in plans {
        let intents = announce(&trail, plan).await;
        answers.push(code(&answered(node.try_with("orders", intents))));
    }
    assert_eq!(answers, [ErrorCode::NONE, ErrorCode::TOPIC_ALREADY_EXISTS]);
    // A client that goes away between its intent and its change.
    let plan = node.plan("other");
    drop(announce(&trail, plan).await);
    let outcomes: Vec<_> = trail.lines().into_iter().map(|line| line.1).collect();
    assert_eq!(
        outcomes,
        [
            "intent",
            "ok",
            "intent",
            "not_executed",
            "intent",
            "not_executed"
        ]
    );
}

#[tokio::test]
async fn other_changes_than_announced_are_announced_anew() {
    let (mut node, trail) = audited();
    let mut plan = node.plan("orders");
    plan.chance.clear();
    let intents = announce(&trail, plan).await;
    // Other chance, another topic id: not what the log says.
    let Verdict::Announce(plan) = node.try_with("orders", intents) else {
        panic!("changed without a word");
    };
    let intents = announce(&trail, plan).await;
    let answer = answered(node.try_with("orders", intents));
    assert_eq!(code(&answer), ErrorCode::NONE);
    let outcomes: Vec<_> = trail.lines().into_iter().map(|line| line.1).collect();
    assert_eq!(outcomes, ["intent", "not_executed", "intent", "ok"]);
}

#[tokio::test]
async fn a_proposal_that_was_lost_is_told_as_such() {
    let (mut node, trail) = audited();
    let plan = node.plan("orders");
    let intents = announce(&trail, plan).await;
    let (submission, mut answer) = submission(Arc::new(create("orders")), 7, user("root"), intents);
    node.engine.handle(submission);
    let next = u64::try_from(node.metadata.image().offset.value()).unwrap() + 1;
    node.engine.with_machine(|machine, proposer| {
        machine.apply(next, 2, &[]).unwrap();
        machine.applied(proposer);
    });
    assert_eq!(
        answer.try_recv().unwrap(),
        Err(ControllerError::LeadershipLost)
    );
    let outcomes: Vec<_> = trail.lines().into_iter().map(|line| line.1).collect();
    assert_eq!(outcomes, ["intent", "leadership_lost"]);
}
