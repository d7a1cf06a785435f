//! Starts a broker from its configuration, and stops it without losing anything.
//!
//! ```text
//! start: log directory -> audit log -> metadata -> partitions -> listeners -> let in by the cluster
//! stop:  listeners drain -> raft -> partitions and log directory (clean marker) -> audit log
//! ```

mod audit;
mod credentials;
mod identity;
mod reactions;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use palisade_auth::audit::{AuditSink, WriterError};
use palisade_auth::principal::PrincipalError;
use palisade_auth::sasl::{Mechanisms, MechanismsError, Phase, SaslDeps};
use palisade_auth::scram::ScramCredential;
use palisade_auth::{Authorizer, AuthorizerConfig, Secret, SuperUsers};
use palisade_protocol::ErrorCode;
use palisade_protocol::types::BrokerId;
use palisade_storage::{LogDir, LogDirOptions, StorageError};

use self::credentials::ImageCredentials;
use self::identity::IdentityError;
use crate::broker::Broker;
use crate::clock::{self, Clock};
use crate::config::{Config, ListenerConfig, SecurityProtocol};
use crate::decoding::Decoding;
use crate::fetch_session::FetchSessions;
use crate::group::GroupCoordinator;
use crate::metadata::controller::{RegisterBroker, SetBrokerFenced};
use crate::metadata::group_config::GroupDefaults;
use crate::metadata::{
    Actor, Bootstrap, BrokerEndpoint, ControllerError, ControllerSettings, Internal,
    MetadataOptions, MetadataService,
};
use crate::partition::{
    Cleaners, MaintenanceIntervals, ReplicaManager, Scrubbers, StartScrubError, maintain,
    settings_of,
};
use crate::producer_ids::ProducerIds;
use crate::raft::RaftError;
use crate::server::{Bound, BudgetTooSmall, ListenError, ListenerState, Server};
use crate::shutdown::{Shutdown, Signals, Stage};
use crate::task;

pub(crate) use self::audit::AuditLog;

/// Bytes of metadata records between two snapshots.
const SNAPSHOT_BYTES: u64 = 20 << 20;
/// How long a stop waits for requests in work; with what follows it stays below the ten seconds
/// that container runtimes grant.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How long it then waits for connections to end.
const END_TIME: Duration = Duration::from_secs(2);

/// A broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log directory is not there and cannot be made.
    #[error("log.dirs: {} cannot be made: {}", path.display(), Unmade(path, source))]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// The system's word for it.
        source: std::io::Error,
    },
    /// The log directory or a log in it.
    #[error("log directory: {0}")]
    Storage(#[from] StorageError),
    /// The directory belongs to another node or cluster.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] WriterError),
    /// The metadata log.
    #[error("metadata: {0}")]
    Raft(#[from] RaftError),
    /// The cluster did not take this node.
    #[error("the cluster does not take this node: {0}")]
    Controller(#[from] ControllerError),
    /// The cluster refused this node.
    #[error("the cluster refuses this node: {}", .0.name())]
    Refused(ErrorCode),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The mechanisms of a listener.
    #[error("listener {0}: {1}")]
    Mechanisms(String, MechanismsError),
    /// The limits do not fit each other.
    #[error(transparent)]
    Budget(#[from] BudgetTooSmall),
    /// What was to be in force before the first client.
    #[error("{0}")]
    Prepare(#[source] PrepareError),
    /// The threads that read sealed segments again.
    #[error("scrub: {0}")]
    Scrub(#[from] StartScrubError),
    /// `super.users`.
    #[error("super.users: {0}")]
    SuperUsers(#[from] PrincipalError),
    /// No randomness, or a thread that cannot be started.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Why a directory cannot be made: what is missing above it, or the system's word.
struct Unmade<'a>(&'a Path, &'a std::io::Error);

impl fmt::Display for Unmade<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let above = self
            .0
            .parent()
            .filter(|above| !above.as_os_str().is_empty());
        match above.filter(|above| !above.exists()) {
            Some(above) => write!(f, "{} is not there; make it first", above.display()),
            None => self.1.fmt(f),
        }
    }
}

/// Why a preparation failed: whatever its owner says.
pub type PrepareError = Box<dyn std::error::Error + Send + Sync>;

/// A broker that serves.
pub struct Running {
    listeners: Vec<Arc<ListenerState>>,
    broker: Arc<Broker>,
    server: Arc<Server>,
    broker_epoch: i64,
    metadata: MetadataService,
    cleaners: Cleaners,
    scrubbers: Scrubbers,
    log_dir: Arc<LogDir>,
    audit: Option<Arc<AuditLog>>,
    shutdown: Shutdown,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

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
    start_prepared(config, first_users, async |_| Ok(())).await
}

/// As [`start`]; `prepare` runs when the node has joined its cluster, before a listener answers.
///
/// # Errors
/// See [`StartError`]; what `prepare` fails with becomes [`StartError::Prepare`].
pub async fn start_prepared(
    config: Config,
    first_users: Vec<(String, ScramCredential)>,
    prepare: impl AsyncFnOnce(&Arc<Broker>) -> Result<(), PrepareError>,
) -> Result<Running, StartError> {
    let shutdown = Shutdown::new();
    let started = start_within(config, first_users, prepare, shutdown.clone()).await;
    if started.is_err() {
        shutdown.advance(Stage::Stopped);
    }
    started
}

async fn start_within(
    config: Config,
    first_users: Vec<(String, ScramCredential)>,
    prepare: impl AsyncFnOnce(&Arc<Broker>) -> Result<(), PrepareError>,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    let config = Arc::new(config);
    let opened = {
        let config = Arc::clone(&config);
        blocking(move || open(&config, first_users)).await??
    };
    let Opened {
        log_dir,
        audit,
        authorizer,
        metadata,
        topics,
    } = opened;
    let handle = metadata.metadata().clone();
    let node_id = BrokerId::new(config.node_id);

    // Bound before the cluster learns of them: ports that the system chooses are known only now.
    let credentials = ImageCredentials::new(handle.clone());
    let mut bound = Vec::with_capacity(config.listeners.len());
    for listener in &config.listeners {
        let sasl = sasl_deps(listener, &credentials, &handle)?;
        let tls = listener.tls.as_ref();
        bound.push(Bound::bind(listener.clone(), &config.limits, tls, sasl)?);
    }
    let listeners: Vec<_> = bound.iter().map(|one| Arc::clone(&one.state)).collect();

    let groups = GroupCoordinator::new(
        &config,
        node_id,
        Arc::clone(&topics),
        handle.clone(),
        shutdown.clone(),
    );
    let broker = Arc::new(Broker {
        groups,
        node_id,
        metadata: handle.clone(),
        controller: metadata.controller().clone(),
        topics: Arc::clone(&topics),
        fetch_sessions: Arc::new(FetchSessions::new(config.limits.fetch_session_slots)),
        producer_ids: Arc::new(ProducerIds::new()),
        decoding: Decoding::new(),
        authorizer,
        audit: audit.clone().map(|audit| audit as Arc<dyn AuditSink>),
        audit_log: audit.clone(),
        clock: Clock,
        config: Arc::clone(&config),
    });
    let server = Server::new(Arc::clone(&broker) as Arc<_>, shutdown.clone())?;
    handle.listen(Arc::new(reactions::EndedLogins::new(&server)));

    let cleaners = Cleaners::start(Arc::clone(&topics), config.log.cleaner.clone(), clock::now)?;
    let (reopened, seen) = (Arc::clone(&broker), handle.clone());
    let scrubbers = Scrubbers::start(&topics, config.log.scrub, clock::now)?;
    let maintenance = maintain(
        topics,
        MaintenanceIntervals {
            retention: config.log.retention_check_interval,
            checkpoint: config.log.checkpoint_interval,
        },
        move || reactions::reopen(&seen, &reopened),
        clock::now,
    );
    let stopping = shutdown.clone();
    task::spawn_in(shutdown.gate(), "maintenance", async move {
        tokio::select! {
            () = maintenance => {}
            () = stopping.reached(Stage::Stopped) => {}
        }
    });
    let broker_epoch = join(&broker, &listeners).await?;
    // Joining elects this node anew: groups are read once, in the epoch that lasts.
    handle.listen(Arc::clone(&broker.groups) as Arc<_>);
    prepare(&broker).await.map_err(StartError::Prepare)?;
    // What recovery verified is below the recovery points from now on: should the next start
    // find it damaged, it will not be taken for a torn tail (storage.md §7 step 7).
    let verified = Arc::clone(&log_dir);
    blocking(move || verified.checkpoint()).await??;
    for one in bound {
        tracing::info!(
            listener = %one.state.config.name,
            protocol = %one.state.config.protocol.name(),
            address = %one.state.address,
            "listening"
        );
        server.serve(one);
    }
    Ok(Running {
        listeners,
        broker,
        server,
        broker_epoch,
        metadata,
        cleaners,
        scrubbers,
        log_dir,
        audit,
        shutdown,
    })
}

/// What is opened on a thread that may block.
struct Opened {
    log_dir: Arc<LogDir>,
    audit: Option<Arc<AuditLog>>,
    authorizer: Authorizer,
    metadata: MetadataService,
    topics: Arc<ReplicaManager>,
}

fn open(
    config: &Arc<Config>,
    first_users: Vec<(String, ScramCredential)>,
) -> Result<Opened, StartError> {
    let fs = palisade_storage::fs::real();
    let log_dir = LogDir::open(&config.data_dir, Arc::clone(&fs), LogDirOptions::default())
        .map_err(|error| not_opened(&config.data_dir, error))?;
    let log_dir = Arc::new(log_dir);
    let node_id = BrokerId::new(config.node_id);
    let cluster_id = identity::settle(&log_dir, node_id, config.cluster_id.as_deref())?;
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
        .with_recovery_threads(config.log.recovery_threads);
    let topics = Arc::new(topics);
    metadata
        .metadata()
        .listen(Arc::new(reactions::Partitions::new(&topics)));
    Ok(Opened {
        log_dir,
        audit,
        authorizer,
        metadata,
        topics,
    })
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
    metadata: &crate::metadata::MetadataHandle,
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
        phase: Phase::Authentication,
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

impl Running {
    /// Names, addresses and ports of the listeners, as bound.
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        let named = self.listeners.iter();
        named
            .map(|one| (one.config.name.clone(), one.address))
            .collect()
    }

    /// The parts of the running broker.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Stops: finishes the requests in work (bounded), then closes everything cleanly.
    ///
    /// # Errors
    /// What could not be closed; the next start recovers it.
    pub async fn shutdown(self) -> Result<(), StopError> {
        self.stop(true).await
    }

    /// The same for a directory that is removed next: nothing waits until it is safe on disk.
    ///
    /// # Errors
    /// A thread panicked.
    pub async fn discard(self) -> Result<(), StopError> {
        self.stop(false).await
    }

    async fn stop(self, is_kept: bool) -> Result<(), StopError> {
        tracing::info!("stopping");
        self.shutdown.advance(Stage::Draining);
        let drained = tokio::time::timeout(DRAIN_TIME, self.server.gate().emptied()).await;
        if drained.is_err() {
            tracing::warn!("requests are still in work; they are given up");
        }
        self.shutdown.advance(Stage::Stopped);
        let all = async {
            self.server.gate().emptied().await;
            self.shutdown.gate().emptied().await;
        };
        if tokio::time::timeout(END_TIME, all).await.is_err() {
            let left = self.server.gate().inside() + self.shutdown.gate().inside();
            tracing::warn!(left, "tasks did not end");
        }
        blocking(move || self.close(is_kept)).await?
    }

    fn close(self, is_kept: bool) -> Result<(), StopError> {
        // A pass ends at its next step; what it was writing is left out.
        drop(self.cleaners);
        drop(self.scrubbers);
        self.metadata.stop().map_err(StopError::System)?;
        let closed = match is_kept {
            true => self.broker.topics.close(self.broker_epoch),
            false => Ok(()),
        };
        drop(self.log_dir);
        if let Some(audit) = self.audit {
            audit.close();
        }
        tracing::info!("stopped");
        Ok(closed?)
    }
}

/// A broker did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A log directory could not be closed; it will be recovered.
    #[error("log directory: {0}")]
    Storage(#[from] StorageError),
    /// A thread panicked.
    #[error("{0}")]
    System(#[from] std::io::Error),
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

/// A broker did not start or not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It did not stop cleanly.
    #[error(transparent)]
    Stop(#[from] StopError),
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, std::io::Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)
}
