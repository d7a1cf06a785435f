//! Decisions between proposal and commit, on an engine whose disk is memory.

use std::path::Path;

use palisade_protocol::messages::create_topics::{
    CreatableTopic, CreateTopicsRequest, CreateTopicsResponse,
};
use palisade_protocol::{ErrorCode, Str};
use palisade_storage::fs::{Crash, FaultyFs};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::controller::testing::{internal, settings, user};
use super::super::controller::{RegisterBroker, SetBrokerFenced, submission};
use super::*;
use crate::metadata::controller::ControllerRequest;
use crate::metadata::record::BrokerEndpoint;
use crate::raft::engine::{Engine, EngineFiles, EngineOptions};
use crate::raft::memory_log::MemoryLog;
use crate::raft::testing::{DIR, now};
use crate::raft::transport::NoPeers;
use palisade_protocol::Uuid;

/// A node whose disk outlives it.
struct Node {
    engine: Engine<MetadataMachine>,
    metadata: MetadataHandle,
}

fn start(fs: &FaultyFs, log: &MemoryLog, cluster_id: &str) -> Node {
    let shared = fs.as_fs();
    if !shared.exists(Path::new(DIR)).unwrap() {
        shared.create_dir(Path::new(DIR)).unwrap();
        shared.sync_dir(Path::new("/")).unwrap();
    }
    let metadata = MetadataHandle::new(Arc::new(ClusterImage::empty()));
    let machine = MetadataMachine::new(
        metadata.clone(),
        Arc::new(settings()),
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

type Answer<R> = oneshot::Receiver<Result<<R as ControllerRequest>::Response, ControllerError>>;

impl Node {
    /// Hands a request over; nothing is written before the next drive.
    fn offer<R: ControllerRequest>(&mut self, request: R, actor: Actor) -> Answer<R> {
        let (submission, answer) = submission(Arc::new(request), 7, actor);
        self.engine.handle(submission);
        answer
    }

    fn submit<R: ControllerRequest>(&mut self, request: R, actor: Actor) -> R::Response {
        let mut answer = self.offer(request, actor);
        self.engine.drive(now()).unwrap();
        answer.try_recv().unwrap().unwrap()
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
    assert_eq!(code(&first.try_recv().unwrap().unwrap()), ErrorCode::NONE);
    assert_eq!(
        code(&second.try_recv().unwrap().unwrap()),
        ErrorCode::TOPIC_ALREADY_EXISTS
    );
    assert_eq!(node.metadata.image().topics.len(), 1);
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
    let (parked, mut answer) = submission(Arc::new(create("a")), 7, user("root"));
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
    let (parked, mut answer) = submission(Arc::new(create("a")), 7, user("root"));
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
    assert_eq!(code(&kept.try_recv().unwrap().unwrap()), ErrorCode::NONE);
    assert_eq!(
        lost.try_recv().unwrap(),
        Err(ControllerError::LeadershipLost)
    );
    assert_eq!(
        after.try_recv().unwrap(),
        Err(ControllerError::LeadershipLost)
    );
}
