//! What `start` and `dev` have in common: the process they make of themselves, and its end.

use std::{
    env, fmt, io,
    path::PathBuf,
    process::{self, ExitCode},
    sync::Arc,
};

use rustix::{
    fs::Mode,
    process::{
        DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
    },
};
use thiserror::Error;

use super::{client::ClientError, output};
use crate::{
    config::{ConfigErrors, OtherWriter, Warnings},
    foreign,
    logging::{self, LogFormat},
    shutdown::{CallOff, Signals},
    startup::{StartError, StopError},
};

/// Exit status of a process that SIGINT has ended, as shells have it.
const INTERRUPTED: i32 = 128 + 2;

/// Why a node did not start, or not stop, as it should.
#[derive(Debug, Error)]
pub(crate) enum NodeError {
    /// The configuration; every problem of it.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The broker did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The broker did not stop cleanly.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// Key material of a development broker.
    #[error(transparent)]
    Material(#[from] super::dev::material::MaterialError),
    /// The command makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Another process works in the directory.
    #[error(
        "{} is in use by another palisade dev{}; stop that one, or give --data-dir another \
         directory",
        dir.display(), Pid(*pid)
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process, if it said its number.
        pid: Option<u32>,
    },
    /// Others may replace the authority's key and the administrator's password.
    #[error(
        "{} {who}, who could replace the keys and the password that are kept there; {}",
        dir.display(), who.remedy(dir)
    )]
    Shared {
        /// The directory.
        dir: PathBuf,
        /// Who may.
        who: OtherWriter,
    },
    /// No client would succeed, and nothing can be declared.
    #[error(
        "the audit log {} cannot be written ({reason}), and nobody logs in without a line in it; see \
         that its disk has room",
        path.display()
    )]
    Audit {
        /// Its file.
        path: PathBuf,
        /// The word of whoever tried.
        reason: String,
    },
    /// A client would not succeed.
    #[error("a client cannot use this broker: {0}")]
    Client(#[from] ClientError),
    /// Anything else that the system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's word for it.
        source: io::Error,
    },
}

struct Pid(Option<u32>);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, ", process {pid}"))
    }
}

impl NodeError {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::Usage(_) | Self::Shared { .. } => 2,
            _ => 1,
        })
    }
}

/// Runs a node on threads of its own until it ends; `default_filter` is for `PALISADE_LOG` unset.
pub(crate) fn run(
    default_filter: &str,
    node: impl Future<Output = Result<(), NodeError>>,
) -> ExitCode {
    let filter = env::var("PALISADE_LOG").unwrap_or_else(|_| default_filter.to_owned());
    let format = match env::var("PALISADE_LOG_FORMAT").as_deref() {
        Ok("json") => LogFormat::Json,
        _ => LogFormat::Text,
    };
    logging::init(&filter, format);
    harden();
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(node);
            // What still blocks a thread is nothing that an end depends on, as the removal of
            // leftovers, which the next start goes on with.
            runtime.shutdown_background();
            outcome
        }
        Err(source) => Err(NodeError::system("threads")(source)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::warn(&error.to_string());
            error.exit_code()
        }
    }
}

/// Waits until a node has started. A signal calls the start off, which `called_off` is told; Ctrl-C
/// after that ends the process at once. `None` where the start heard of it, and nothing runs.
pub(crate) async fn started<T>(
    starting: impl Future<Output = Result<T, NodeError>>,
    signals: &mut Signals,
    call_off: &CallOff,
    called_off: impl FnOnce(),
    at_once: impl FnOnce(),
) -> Result<Option<T>, NodeError> {
    tokio::pin!(starting);
    let started = tokio::select! {
        started = &mut starting => started,
        () = signals.requested() => {
            call_off.call_off();
            called_off();
            unless_interrupted(starting, signals, at_once).await
        }
    };
    match started {
        Err(NodeError::Start(StartError::CalledOff)) => Ok(None),
        started => started.map(Some),
    }
}

/// Waits until a node has ended, unless Ctrl-C comes again: then the process ends at once, with the
/// status of one that the signal has ended. What it acknowledged is as safe as after a kill.
pub(crate) async fn unless_interrupted<T>(
    ending: impl Future<Output = T>,
    signals: &mut Signals,
    at_once: impl FnOnce(),
) -> T {
    tokio::pin!(ending);
    tokio::select! {
        // What is dropped here is a reference: the node itself could not be dropped at once.
        ended = &mut ending => ended,
        () = signals.interrupted() => {
            at_once();
            process::exit(INTERRUPTED);
        }
    }
}

/// Files of this process are its owner's alone, and no core dump carries its keys away.
fn harden() {
    umask(Mode::RWXG | Mode::RWXO);
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
}

/// Takes as many file descriptors as the process may have, as Java's runtime does for Kafka: shells
/// often begin with 1,024 of many, and each partition holds one.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, all)
    {
        tracing::warn!(%error, "the limit of file descriptors stays as it was");
    }
}

/// Says what is odd about the configuration, once.
pub(crate) fn warn(warnings: &Warnings) {
    for warning in &warnings.0 {
        tracing::warn!("{}", foreign::line(&warning.to_string()));
    }
}

/// The machine's name, as it is advertised where nothing else is.
pub(crate) fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name.into_owned()
    }
}

/// Any error as the reason of a failed preparation.
pub(crate) fn prepare_error(
    error: impl std::error::Error + Send + Sync + 'static,
) -> crate::startup::PrepareError {
    Box::new(error)
}

/// What keeps every client from succeeding, if that is it.
pub(crate) fn audit_trouble(broker: &crate::broker::Broker) -> Option<NodeError> {
    let (path, reason) = broker.audit_log.as_ref()?.trouble()?;
    Some(NodeError::Audit { path, reason })
}

/// The broker as preparations see it.
pub(crate) type SharedBroker = Arc<crate::broker::Broker>;
