//! Starts a broker from its configuration, and stops it without losing anything.
//!
//! ```text
//! start: log directory -> audit log -> metadata -> partitions -> listeners
//!        -> let in by the cluster
//! stop:  listeners drain -> raft -> partitions and log directory (clean marker)
//!        -> audit log
//! ```
//!
//! A start that fails once its logs are open, as for a port that is busy, closes what it has opened
//! like a stop; one that fails before it opens any leaves the directory with the marker it had. One
//! that is called off while it opens logs gives up what it has opened, without a marker. Logs that
//! it had not come to keep their seals, so the next start does not look through them either.

mod audit;
mod credentials;
mod error;
mod identity;
mod reactions;
mod running;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use palisade_auth::audit::{Action, AuditContext, AuditEvent, AuditSink, Outcome};
use palisade_auth::sasl::{Mechanisms, SaslDeps};
use palisade_auth::scram::ScramCredential;
use palisade_auth::{Authorizer, AuthorizerConfig, Secret, SuperUsers};
use palisade_protocol::types::BrokerId;
use palisade_storage::{LogDir, LogDirOptions, StorageError};

use self::credentials::ImageCredentials;
use crate::broker::Broker;
use crate::clock::{self, Clock};
use crate::config::{Config, ListenerConfig, SecurityProtocol};
use crate::decoding::Decoding;
use crate::fetch_session::FetchSessions;
use crate::group::GroupCoordinator;
use crate::metadata::controller::{RegisterBroker, SetBrokerFenced};
use crate::metadata::group_config::GroupDefaults;
use crate::metadata::{
    Actor, Bootstrap, BrokerEndpoint, ControllerSettings, Descriptors, Internal, MetadataHandle,
    MetadataOptions, MetadataService,
};
use crate::partition::{
    Cleaners, MaintenanceIntervals, ReplicaManager, Scrubbers, maintain, settings_of,
};
use crate::producer_ids::ProducerIds;
use crate::server::{Bound, ListenerState, Server};
use crate::shutdown::{CallOff, Shutdown, Signals, Stage};
use crate::task;

pub(crate) use self::error::unusable;
pub use self::error::{PrepareError, RunError, StartError, StopError};
use self::running::END_TIME;
pub use self::running::Running;

pub(crate) use self::audit::AuditLog;

/// Bytes of metadata records between two snapshots.
const SNAPSHOT_BYTES: u64 = 20 << 20;

/// Starts a broker; it serves when this returns.
///
/// `first_users` get SCRAM credentials if the cluster is new, and are ignored if it is not.
///
/// # Errors
/// See [`StartError`]; nothing is left running.
pub async fn start(
    config: Config,
    first_users: Vec<(String, ScramCredential)>,
) -> Result<Running, StartError> {
    let call_off = CallOff::default();
    start_prepared(config, first_users, &call_off, async |_| Ok(())).await
}

/// As [`start`]; `prepare` runs when the node has joined its cluster, before a listener answers.
/// While the logs are opened it may be called off.
///
/// # Errors
/// See [`StartError`]; what `prepare` fails with becomes [`StartError::Prepare`].
pub async fn start_prepared(
    config: Config,
    first_users: Vec<(String, ScramCredential)>,
    call_off: &CallOff,
    prepare: impl AsyncFnOnce(&Arc<Broker>) -> Result<(), PrepareError>,
) -> Result<Running, StartError> {
    let shutdown = Shutdown::new();
    let started = start_within(config, first_users, call_off, prepare, shutdown.clone()).await;
    if started.is_err() {
        shutdown.advance(Stage::Stopped);
    }
    started
}

async fn start_within(
    config: Config,
    first_users: Vec<(String, ScramCredential)>,
    call_off: &CallOff,
    prepare: impl AsyncFnOnce(&Arc<Broker>) -> Result<(), PrepareError>,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    let config = Arc::new(config);
    let opened = {
        let (config, call_off) = (Arc::clone(&config), call_off.clone());
        blocking(move || open(&config, first_users, &call_off)).await??
    };
    match begin(&config, &opened, prepare, &shutdown).await {
        Ok(begun) => Ok(Running {
            listeners: begun.listeners,
            broker: begun.broker,
            server: begun.server,
            broker_epoch: begun.broker_epoch,
            metadata: opened.metadata,
            cleaners: begun.cleaners,
            scrubbers: begun.scrubbers,
            log_dir: opened.log_dir,
            audit: opened.audit,
            shutdown,
        }),
        Err(error) => {
            shutdown.advance(Stage::Stopped);
            // What does not end in that time is refused by closed logs.
            let _ = tokio::time::timeout(END_TIME, shutdown.gate().emptied()).await;
            let node_id = BrokerId::new(config.node_id);
            blocking(move || opened.close(node_id)).await?;
            Err(error)
        }
    }
}

/// What a start adds to what it has opened.
struct Begun {
    listeners: Vec<Arc<ListenerState>>,
    broker: Arc<Broker>,
    server: Arc<Server>,
    broker_epoch: i64,
    cleaners: Cleaners,
    scrubbers: Scrubbers,
}

async fn begin(
    config: &Arc<Config>,
    opened: &Opened,
    prepare: impl AsyncFnOnce(&Arc<Broker>) -> Result<(), PrepareError>,
    shutdown: &Shutdown,
) -> Result<Begun, StartError> {
    let handle = opened.metadata.metadata().clone();
    // Bound before the cluster learns of them: ports that the system chooses are known only now.
    let bound = bind(config, &handle)?;
    let listeners: Vec<_> = bound.iter().map(|one| Arc::clone(&one.state)).collect();
    let broker = assemble(config, opened, shutdown);
    let server = Server::new(Arc::clone(&broker) as Arc<_>, shutdown.clone())?;
    handle.listen(Arc::new(reactions::EndedLogins::new(&server)));
    let (cleaners, scrubbers) = schedule(&broker, shutdown)?;
    let broker_epoch = join(&broker, &listeners).await?;
    // Joining elects this node anew: groups are read once, in the epoch that lasts.
    handle.listen(Arc::clone(&broker.groups) as Arc<_>);
    prepare(&broker).await.map_err(StartError::Prepare)?;
    record_in_force(&broker);
    // What recovery verified is below the recovery points from now on: should the next start
    // find it damaged, it will not be taken for a torn tail (storage.md §7 step 7).
    let verified = Arc::clone(&opened.log_dir);
    blocking(move || verified.checkpoint()).await??;
    serve(&server, bound);
    Ok(Begun {
        listeners,
        broker,
        server,
        broker_epoch,
        cleaners,
        scrubbers,
    })
}

/// What is opened on a thread that may block, and closed on one where the start fails later.
struct Opened {
    topics: Arc<ReplicaManager>,
    metadata: MetadataService,
    authorizer: Authorizer,
    audit: Option<Arc<AuditLog>>,
    log_dir: Arc<LogDir>,
}

impl Opened {
    /// Closes all of it as a stop does, so that the next start has nothing to recover; blocks.
    fn close(self, node_id: BrokerId) {
        let image = self.metadata.metadata().image();
        // That of the last start that came so far.
        let broker_epoch = image.brokers.get(node_id).map_or(-1, |one| one.epoch);
        if let Err(error) = self.metadata.stop() {
            tracing::warn!(%error, "the metadata log was not closed");
        }
        if let Err(error) = self.topics.close(broker_epoch) {
            tracing::warn!(%error, "not closed cleanly, the next start recovers");
        }
        if let Some(audit) = self.audit {
            audit.close();
        }
    }
}

/// Says what is to be expected of the logs: those of a clean stop are not looked through.
fn tell_last_stop(log_dir: &LogDir) {
    let last_stop = match (log_dir.meta(), log_dir.was_clean()) {
        (None, _) => "none",
        (Some(_), None) => "unclean",
        (Some(_), Some(_)) => "clean",
    };
    tracing::info!(path = %log_dir.path().display(), last_stop, "log directory opened");
}

fn open(
    config: &Arc<Config>,
    first_users: Vec<(String, ScramCredential)>,
    call_off: &CallOff,
) -> Result<Opened, StartError> {
    let fs = palisade_storage::fs::real();
    let log_dir = LogDir::open(&config.data_dir, Arc::clone(&fs), LogDirOptions::default())
        .map_err(|error| not_opened(&config.data_dir, error))?;
    tell_last_stop(&log_dir);
    let log_dir = Arc::new(log_dir);
    let node_id = BrokerId::new(config.node_id);
    let (cluster_id, audit, authorizer) = open_around(config, &log_dir).inspect_err(|_| {
        if let Err(error) = log_dir.give_back() {
            tracing::warn!(%error, "the mark of the last stop is lost, the next start recovers");
        }
    })?;
    let metadata = MetadataService::start(MetadataOptions {
        node_id,
        log_dir: Arc::clone(&log_dir),
        fs,
        directory: config.data_dir.clone(),
        snapshot_bytes: SNAPSHOT_BYTES,
        settings: ControllerSettings {
            num_partitions: config.topics.num_partitions,
            default_replication_factor: config.topics.default_replication_factor,
            delete_topic_enable: config.topics.delete_enabled,
            descriptors: Descriptors::of_process(),
            topic_defaults: config.topic_defaults.clone(),
            group_defaults: GroupDefaults::of(config),
            authorizer: authorizer.clone(),
            audit: audit.clone().map(|audit| audit as Arc<_>),
        },
        bootstrap: Bootstrap {
            cluster_id,
            fake_salt_secret: identity::random_secret()?,
            scram: first_users,
            features: Vec::new(),
        },
        clock: Arc::new(clock::now),
    })?;
    let settings_of = settings_of(config);
    let topics = ReplicaManager::new(node_id, vec![Arc::clone(&log_dir)], settings_of)?
        .with_recovery_threads(config.log.recovery_threads)
        .with_call_off(call_off.clone());
    let topics = Arc::new(topics);
    metadata
        .metadata()
        .listen(Arc::new(reactions::Partitions::new(&topics)));
    if call_off.is_called_off() {
        // Dropped, not closed: the marker of a clean stop would speak of logs that nobody opened.
        return Err(StartError::CalledOff);
    }
    Ok(Opened {
        log_dir,
        audit,
        authorizer,
        metadata,
        topics,
    })
}

/// What comes before the first log: the cluster's id, the audit log and the authorizer.
fn open_around(
    config: &Config,
    log_dir: &LogDir,
) -> Result<(String, Option<Arc<AuditLog>>, Authorizer), StartError> {
    let node_id = BrokerId::new(config.node_id);
    let cluster_id = identity::settle(log_dir, node_id, config.cluster_id.as_deref())?;
    let audit = match &config.audit {
        Some(settings) => Some(AuditLog::open(settings, &cluster_id, node_id)?),
        None => {
            tracing::warn!("the audit log is switched off");
            None
        }
    };
    let authorizer = Authorizer::new(AuthorizerConfig {
        super_users: SuperUsers::parse(&config.authorizer.super_users.join(";"))?,
        allow_everyone_if_no_acl_found: config.authorizer.allow_everyone_if_no_acl_found,
        enabled: config.authorizer.enabled,
    });
    Ok((cluster_id, audit, authorizer))
}

fn bind(config: &Config, metadata: &MetadataHandle) -> Result<Vec<Bound>, StartError> {
    let credentials = ImageCredentials::new(metadata.clone());
    let mut bound = Vec::with_capacity(config.listeners.len());
    for listener in &config.listeners {
        let sasl = sasl_deps(listener, &credentials, metadata)?;
        let tls = listener.tls.as_ref();
        bound.push(Bound::bind(listener.clone(), &config.limits, tls, sasl)?);
    }
    Ok(bound)
}

/// Puts together what handlers work with.
fn assemble(config: &Arc<Config>, opened: &Opened, shutdown: &Shutdown) -> Arc<Broker> {
    let node_id = BrokerId::new(config.node_id);
    let handle = opened.metadata.metadata();
    let groups = GroupCoordinator::new(
        config,
        node_id,
        Arc::clone(&opened.topics),
        handle.clone(),
        shutdown.clone(),
    );
    Arc::new(Broker {
        groups,
        node_id,
        metadata: handle.clone(),
        controller: opened.metadata.controller().clone(),
        topics: Arc::clone(&opened.topics),
        fetch_sessions: Arc::new(FetchSessions::new(config.limits.fetch_session_slots)),
        producer_ids: Arc::new(ProducerIds::new()),
        decoding: Decoding::new(),
        authorizer: opened.authorizer.clone(),
        audit: opened
            .audit
            .clone()
            .map(|audit| audit as Arc<dyn AuditSink>),
        audit_log: opened.audit.clone(),
        clock: Clock,
        config: Arc::clone(config),
    })
}

/// Begins the work that nobody asks for: cleaners, scrubbers, retention, checkpoints.
fn schedule(
    broker: &Arc<Broker>,
    shutdown: &Shutdown,
) -> Result<(Cleaners, Scrubbers), StartError> {
    let (topics, log) = (&broker.topics, &broker.config.log);
    let cleaners = Cleaners::start(Arc::clone(topics), log.cleaner.clone(), clock::now)?;
    let scrubbers = Scrubbers::start(topics, log.scrub, clock::now)?;
    let (reopened, seen) = (Arc::clone(broker), broker.metadata.clone());
    let maintenance = maintain(
        Arc::clone(topics),
        MaintenanceIntervals {
            retention: log.retention_check_interval,
            checkpoint: log.checkpoint_interval,
            ..MaintenanceIntervals::default()
        },
        move || reactions::reopen(&seen, &reopened),
        clock::now,
    );
    let stopping = shutdown.clone();
    task::spawn_in(shutdown.gate(), "maintenance", async move {
        tokio::select! {
            () = task::missed("maintenance of the logs", maintenance) => {}
            () = stopping.reached(Stage::Stopped) => {}
        }
    });
    Ok((cleaners, scrubbers))
}

/// Leaves in the audit log what is in force from here on, so that two starts can be compared.
fn record_in_force(broker: &Broker) {
    let Some(audit) = &broker.audit else { return };
    let acls = broker.metadata.image().acls.set().len();
    let settings = broker.config.fingerprint();
    for (action, detail) in [
        (Action::ConfigEffective, format!("sha256 {settings}")),
        (Action::AclLoaded, format!("{acls} ACLs")),
    ] {
        let event = AuditEvent::new(action, Outcome::Ok, AuditContext::default());
        audit.record(event.with_detail(detail));
    }
}

fn serve(server: &Arc<Server>, bound: Vec<Bound>) {
    for one in bound {
        tracing::info!(
            listener = %one.state.config.name,
            protocol = %one.state.config.protocol.name(),
            address = %one.state.address,
            "listening"
        );
        server.serve(one);
    }
}

/// Storage names the kind of a failure; where there is no directory the system's word says more.
fn not_opened(dir: &Path, error: StorageError) -> StartError {
    match error {
        StorageError::Io {
            os_code: Some(code),
            ..
        } if !dir.exists() => StartError::DataDir {
            path: dir.to_owned(),
            source: std::io::Error::from_raw_os_error(code),
        },
        error => error.into(),
    }
}

fn sasl_deps(
    listener: &ListenerConfig,
    credentials: &Arc<ImageCredentials>,
    metadata: &MetadataHandle,
) -> Result<Option<SaslDeps>, StartError> {
    let Some(sasl) = &listener.sasl else {
        return Ok(None);
    };
    let names: Vec<_> = sasl
        .mechanisms
        .iter()
        .map(|mechanism| mechanism.name())
        .collect();
    let enabled = Mechanisms::parse(&names.join(","))
        .map_err(|error| StartError::Mechanisms(listener.name.clone(), error))?;
    let image = metadata.image();
    let cluster_secret = image.scram.fake_salt_secret();
    Ok(Some(SaslDeps {
        enabled,
        credentials: credentials.with_plain_users(&sasl.plain_users)?,
        cluster_secret: cluster_secret
            .map_or_else(|| Secret::new(Vec::new()), |one| (**one).clone()),
        strict_nonce: sasl.strict_nonce,
    }))
}

/// Registers this node with the cluster and asks to be let in; gives its broker epoch.
async fn join(broker: &Broker, listeners: &[Arc<ListenerState>]) -> Result<i64, StartError> {
    let endpoints = listeners.iter().map(|listener| {
        let advertised = listener.advertised();
        BrokerEndpoint {
            listener: listener.config.name.clone(),
            host: advertised.host,
            port: advertised.port,
            security_protocol: match listener.config.protocol {
                SecurityProtocol::Plaintext => 0,
                SecurityProtocol::Ssl => 1,
                SecurityProtocol::SaslPlaintext => 2,
                SecurityProtocol::SaslSsl => 3,
            },
        }
    });
    let register = RegisterBroker {
        cluster_id: broker.cluster_id().to_string(),
        broker_id: broker.node_id,
        incarnation: identity::random_uuid()?,
        endpoints: endpoints.collect(),
        rack: broker.config.rack.clone(),
    };
    let actor = || Actor::internal(Internal::for_purpose("node start"));
    let registered = broker.controller.submit(register, 0, actor()).await?;
    let broker_epoch = registered.map_err(StartError::Refused)?;
    let let_in = SetBrokerFenced {
        broker_id: broker.node_id,
        broker_epoch,
        fenced: false,
    };
    let answered = broker.controller.submit(let_in, 0, actor()).await?;
    answered.map_err(StartError::Refused)?;
    Ok(broker_epoch)
}

/// Starts a broker and serves until the process is asked to stop.
///
/// # Errors
/// See [`StartError`] and [`StopError`].
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut signals = Signals::listen().map_err(StopError::System)?;
    let running = start(config, Vec::new()).await?;
    signals.requested().await;
    Ok(running.shutdown().await?)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, std::io::Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)
}
