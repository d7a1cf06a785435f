//! The whole of it on real files: start, submit, stop, start again.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use palisade_auth::audit::{Action, AuditEvent, AuditSink, Change};
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use palisade_protocol::types::TimestampMs;
use palisade_protocol::{ErrorCode, Str, Uuid};
use palisade_storage::LogDirOptions;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::super::controller::testing::{internal, settings, user};
use super::super::controller::{
    Context, ControllerError, ControllerRequest, Decision, RegisterBroker, SetBrokerFenced,
};
use super::super::delta::ClusterDelta;
use super::super::handle::ImageListener;
use super::super::intents::AuditTrail;
use super::super::record::{BrokerEndpoint, MetadataRecord};
use super::*;
use crate::task::BoxFuture;

fn start(directory: &Path, snapshot_bytes: u64) -> (MetadataService, Arc<LogDir>) {
    start_with(directory, snapshot_bytes, settings())
}

fn start_with(
    directory: &Path,
    snapshot_bytes: u64,
    settings: ControllerSettings,
) -> (MetadataService, Arc<LogDir>) {
    let fs = palisade_storage::fs::real();
    let options = LogDirOptions {
        ballast_bytes: 0,
        ..LogDirOptions::default()
    };
    let log_dir = Arc::new(LogDir::open(directory, Arc::clone(&fs), options).unwrap());
    let service = MetadataService::start(MetadataOptions {
        node_id: BrokerId::new(0),
        log_dir: Arc::clone(&log_dir),
        fs,
        directory: directory.to_owned(),
        snapshot_bytes,
        settings,
        bootstrap: Bootstrap {
            cluster_id: "cluster".to_owned(),
            fake_salt_secret: Secret::new(vec![1; 32]),
            scram: Vec::new(),
            features: vec![("metadata.version".to_owned(), 1)],
        },
        clock: Arc::new(|| TimestampMs::new(1_700_000_000_000)),
    })
    .unwrap();
    (service, log_dir)
}

async fn register(service: &MetadataService) {
    let broker_id = BrokerId::new(0);
    let registration = RegisterBroker {
        cluster_id: "cluster".to_owned(),
        broker_id,
        incarnation: Uuid::from_bytes([3; 16]),
        endpoints: vec![BrokerEndpoint {
            listener: "CLIENT".to_owned(),
            host: "localhost".to_owned(),
            port: 9092,
            security_protocol: 3,
        }],
        rack: None,
    };
    let controller = service.controller();
    let broker_epoch = controller
        .submit(registration, 0, internal())
        .await
        .unwrap()
        .unwrap();
    let let_in = SetBrokerFenced {
        broker_id,
        broker_epoch,
        fenced: false,
    };
    controller
        .submit(let_in, 0, internal())
        .await
        .unwrap()
        .unwrap();
}

fn create(name: String) -> CreateTopicsRequest {
    let topic = CreatableTopic {
        name: Str::from(name),
        num_partitions: 3,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    CreateTopicsRequest {
        topics: vec![topic],
        ..CreateTopicsRequest::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Remembers which topics it was told of.
#[derive(Default)]
struct Seen {
    topics: Mutex<Vec<String>>,
    resets: AtomicUsize,
}

impl ImageListener for Seen {
    fn changed(&self, delta: &ClusterDelta, image: &Arc<ClusterImage>) {
        self.resets
            .fetch_add(usize::from(delta.reset), Ordering::Relaxed);
        for topic in delta.topics_created.values() {
            assert!(image.topics.by_id(topic.id).is_some());
            self.topics.lock().push(topic.name.to_string());
        }
    }
}

#[test]
fn topics_are_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = runtime();
    for life in 0..3_usize {
        let (service, log_dir) = start(directory.path(), 2_000);
        let image = service.metadata().image();
        assert_eq!(&*image.cluster_id, "cluster");
        assert_eq!(image.topics.len(), life * 30);
        assert!(image.topics.iter().all(|topic| topic.partitions.len() == 3));
        runtime.block_on(async {
            register(&service).await;
            for number in 0..30 {
                let request = create(format!("t-{life}-{number}"));
                let answer = service.controller().answer(request, 7, user("root")).await;
                assert_eq!(answer.topics[0].error_code, ErrorCode::NONE);
            }
        });
        assert!(directory.path().join("raft-snapshot").exists());
        service.stop().unwrap();
        drop(service);
        log_dir.close(0).unwrap();
    }
}

#[test]
fn many_want_the_same_name_and_one_gets_it() {
    let directory = tempfile::tempdir().unwrap();
    let (service, _log_dir) = start(directory.path(), 1 << 20);
    let codes = runtime().block_on(async {
        register(&service).await;
        let submit = |_| {
            service
                .controller()
                .answer(create("same".to_owned()), 7, user("root"))
        };
        let (a, b, c) = tokio::join!(submit(0), submit(1), submit(2));
        [a, b, c].map(|answer| answer.topics[0].error_code)
    });
    let won = codes
        .iter()
        .filter(|code| **code == ErrorCode::NONE)
        .count();
    let lost = codes
        .iter()
        .filter(|code| **code == ErrorCode::TOPIC_ALREADY_EXISTS)
        .count();
    assert_eq!((won, lost), (1, 2), "{codes:?}");
}

#[test]
fn listeners_know_before_the_answer_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let (service, _log_dir) = start(directory.path(), 1 << 20);
    let seen = Arc::new(Seen::default());
    runtime().block_on(async {
        register(&service).await;
        service
            .controller()
            .answer(create("before".to_owned()), 7, user("root"))
            .await;
        service
            .metadata()
            .listen(Arc::clone(&seen) as Arc<dyn ImageListener>);
        assert_eq!(*seen.topics.lock(), ["before"], "told of what is there");
        let mut view = service.metadata().subscribe();
        view.mark_unchanged();
        service
            .controller()
            .answer(create("after".to_owned()), 7, user("root"))
            .await;
        assert_eq!(*seen.topics.lock(), ["before", "after"]);
        assert!(view.has_changed().unwrap());
        assert!(view.borrow().topics.get("after").is_some());
    });
    assert_eq!(seen.resets.load(Ordering::Relaxed), 1);
}

/// What follows from it is another thing each time it is asked.
#[derive(Default)]
struct Fickle {
    decided: AtomicUsize,
}

impl ControllerRequest for Arc<Fickle> {
    type Response = Result<(), ControllerError>;

    fn decide(&self, _version: i16, context: &mut Context<'_>) -> Decision<Self::Response> {
        let round = self.decided.fetch_add(1, Ordering::Relaxed);
        let change = Change {
            target: format!("round {round}"),
            ..Change::default()
        };
        Decision {
            records: vec![MetadataRecord::Topic {
                id: context.random_id(),
                name: "never".to_owned(),
            }],
            response: Ok(()),
            changes: vec![(Action::TopicCreate, change)],
        }
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> Self::Response {
        Err(error.clone())
    }
}

/// How announcements ended.
#[derive(Default)]
struct Trail(Mutex<Vec<(String, &'static str)>>);

impl AuditSink for Trail {
    fn record(&self, event: AuditEvent) {
        let outcome = event.reason.unwrap_or(event.outcome.name());
        let change = event.change.expect("only changes are recorded");
        self.0.lock().push((change.target, outcome));
    }
}

impl AuditTrail for Trail {
    fn record_ahead(&self, events: Vec<AuditEvent>) -> BoxFuture<'_, bool> {
        events.into_iter().for_each(|event| self.record(event));
        Box::pin(std::future::ready(true))
    }
}

#[test]
fn what_is_announced_is_decided_once_more() {
    let directory = tempfile::tempdir().unwrap();
    let trail = Arc::new(Trail::default());
    let settings = ControllerSettings {
        audit: Some(Arc::clone(&trail) as Arc<dyn AuditTrail>),
        ..settings()
    };
    let (service, _log_dir) = start_with(directory.path(), 1 << 20, settings);
    runtime().block_on(async {
        register(&service).await;
        let fickle = Arc::new(Fickle::default());
        let submitted = service
            .controller()
            .submit(Arc::clone(&fickle), 0, user("root"))
            .await;
        assert_eq!(submitted, Err(ControllerError::Busy));
        let of = |outcome| {
            trail
                .0
                .lock()
                .iter()
                .filter(|line| line.1 == outcome)
                .count()
        };
        let intents = of("intent");
        assert!(intents > 1);
        assert_eq!(fickle.decided.load(Ordering::Relaxed), intents + 1);
        // The last of them is taken back behind the answer.
        let taken_back = async {
            while of("not_executed") < intents {
                tokio::task::yield_now().await;
            }
        };
        let taken_back = timeout(Duration::from_secs(20), taken_back).await;
        assert!(taken_back.is_ok(), "{:?}", trail.0.lock());
        assert_eq!(of("not_executed"), intents);
    });
}

#[test]
fn no_time_is_no_change_and_a_stopped_node_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (service, _log_dir) = start(directory.path(), 1 << 20);
    runtime().block_on(async {
        register(&service).await;
        let hurried = CreateTopicsRequest {
            timeout_ms: 0,
            ..create("never".to_owned())
        };
        let answer = service.controller().answer(hurried, 7, user("root")).await;
        assert_eq!(answer.topics[0].error_code, ErrorCode::REQUEST_TIMED_OUT);
        assert!(service.metadata().image().topics.is_empty());
        let status = service.controller().quorum();
        assert_eq!(status.leader, Some(BrokerId::new(0)));
        assert_eq!(status.voters, [BrokerId::new(0)]);
        service.stop().unwrap();
        let late = service
            .controller()
            .submit(create("late".to_owned()), 7, user("root"))
            .await;
        assert_eq!(late, Err(ControllerError::Stopped));
    });
}
