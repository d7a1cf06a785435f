//! A development broker inside the process of a test suite.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use thiserror::Error;
use tokio::sync::oneshot;

use super::{DevArgs, announce::Announcement, home::Home, topic, user};
use crate::{
    cli::{acl, node::NodeError},
    shutdown::CallOff,
};

/// Threads of one broker; a suite may start many of them.
const WORKERS: usize = 2;

/// Why a broker for tests did not start, or not stop, as it should.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct TestBrokerError(#[source] Failure);

#[derive(Debug, Error)]
enum Failure {
    #[error("{0}")]
    Declaration(String),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("the broker's thread ended early")]
    Ended,
}

impl From<Failure> for TestBrokerError {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<NodeError> for TestBrokerError {
    fn from(error: NodeError) -> Self {
        Self(Failure::Node(error))
    }
}

/// A broker for the integration tests of a Rust program: what `palisade dev` starts, in this
/// process.
///
/// It listens on free ports of 127.0.0.1 and is secured as in production: TLS by an authority of
/// its own, SCRAM logins, and nothing allowed that no ACL allows; only the administrator may do
/// everything. It has threads of its own, so that it serves whatever the test does with its
/// runtime. Dropping it stops it, and removes the directory if it was a temporary one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use palisade::TestBroker;
///
/// let broker = TestBroker::builder()
///     .topic("orders", 3)
///     .user("alice", "secret")
///     .acl("allow User:alice read,write topic:orders")
///     .start()
///     .await?;
///
/// // For `rdkafka::ClientConfig`, pair by pair.
/// let alice = broker.client_config_of("alice", "secret");
/// assert!(alice.contains(&("bootstrap.servers".to_owned(), broker.bootstrap().to_owned())));
/// assert!(broker.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
/// broker.stop().await?;
/// # Ok(())
/// # }
/// ```
pub struct TestBroker {
    said: Announcement,
    ca_pem: String,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<Result<(), NodeError>>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for TestBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestBroker")
            .field("bootstrap", &self.said.bootstrap)
            .field("data_dir", &self.said.data_dir)
            .finish_non_exhaustive()
    }
}

impl TestBroker {
    /// What is to be there when the first client comes.
    pub fn builder() -> TestBrokerBuilder {
        TestBrokerBuilder::default()
    }

    /// A broker with nothing but its administrator.
    ///
    /// # Errors
    /// Those of [`TestBrokerBuilder::start`].
    pub async fn start() -> Result<Self, TestBrokerError> {
        Self::builder().start().await
    }

    /// `host:port` of the SASL_SSL listener.
    pub fn bootstrap(&self) -> &str {
        &self.said.bootstrap
    }

    /// `host:port` of the SSL listener, whose clients come with a certificate.
    pub fn ssl_bootstrap(&self) -> &str {
        self.address("SSL").unwrap_or_default()
    }

    /// `host:port` of the listener without TLS and login, if it was asked for.
    pub fn plaintext_bootstrap(&self) -> Option<&str> {
        self.address("PLAINTEXT")
    }

    fn address(&self, listener: &str) -> Option<&str> {
        let row = self.said.listeners.get(listener)?;
        Some(&row.address)
    }

    /// Name of the administrator, who may do everything.
    pub fn admin_user(&self) -> &str {
        &self.said.admin.username
    }

    /// The administrator's password; `None` when a kept directory holds another one than was set.
    pub fn admin_password(&self) -> Option<&str> {
        self.said.admin.password.as_deref()
    }

    /// The certificate of the authority that clients must trust, as PEM text.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The same as a file, for clients that want one; it goes with a temporary directory.
    pub fn ca_file(&self) -> &Path {
        &self.said.files.ca_pem
    }

    /// Directory of the broker.
    pub fn data_dir(&self) -> &Path {
        &self.said.data_dir
    }

    /// Settings of the administrator for librdkafka, key and value.
    pub fn client_config(&self) -> Vec<(String, String)> {
        self.client_config_of(self.admin_user(), self.admin_password().unwrap_or_default())
    }

    /// Settings of another user for librdkafka, key and value.
    pub fn client_config_of(&self, user: &str, password: &str) -> Vec<(String, String)> {
        [
            ("bootstrap.servers", self.bootstrap()),
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanisms", self.said.admin.mechanism),
            ("sasl.username", user),
            ("sasl.password", password),
            ("ssl.ca.pem", self.ca_pem()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Stops the broker as a production node stops: requests in work are finished first.
    ///
    /// # Errors
    /// What could not be closed.
    pub async fn stop(mut self) -> Result<(), TestBrokerError> {
        drop(self.stop.take());
        let Some(ended) = self.ended.take() else {
            return Ok(());
        };
        ended.await.map_err(|_| Failure::Ended)??;
        Ok(())
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported where it happened.
            let _ = thread.join();
        }
    }
}

/// What a [`TestBroker`] has when it starts; all of it optional.
#[derive(Debug, Clone, Default)]
pub struct TestBrokerBuilder {
    topics: Vec<String>,
    users: Vec<String>,
    acls: Vec<String>,
    plaintext: bool,
    overrides: Vec<String>,
    data_dir: Option<PathBuf>,
}

impl TestBrokerBuilder {
    /// Creates a topic with this many partitions.
    pub fn topic(mut self, name: &str, partitions: u32) -> Self {
        self.topics.push(format!("{name}:{partitions}"));
        self
    }

    /// Creates a SCRAM user, who may do nothing until an ACL says so.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push(format!("{name}:{password}"));
        self
    }

    /// Adds an ACL, written as for `palisade acl add`: `allow User:alice read topic:orders`.
    pub fn acl(mut self, rule: &str) -> Self {
        self.acls.push(rule.to_owned());
        self
    }

    /// Adds a loopback listener without TLS and login, whose clients are `User:ANONYMOUS`.
    pub fn plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// Sets a configuration key of the node.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.overrides.push(format!("{key}={value}"));
        self
    }

    /// Keeps everything in this directory; without it a temporary one goes with the broker.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// Starts the broker; it serves when this returns.
    ///
    /// # Errors
    /// A name or rule that is none, a configuration that is refused, a directory that is in use.
    pub async fn start(self) -> Result<TestBroker, TestBrokerError> {
        let arguments = self.arguments()?;
        let (started, starting) = oneshot::channel();
        let (stop, stopping) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("test broker".to_owned())
            .spawn(move || {
                // Whoever asked may be gone; then nobody waits for the outcome.
                let _ = end.send(live(arguments, started, stopping));
            })
            .map_err(NodeError::system("threads"))?;
        let Ok(said) = starting.await else {
            return match ended.await {
                Ok(Err(error)) => Err(error.into()),
                _ => Err(Failure::Ended.into()),
            };
        };
        let mut broker = TestBroker {
            said,
            ca_pem: String::new(),
            stop: Some(stop),
            ended: Some(ended),
            thread: Some(thread),
        };
        broker.ca_pem = fs::read_to_string(broker.ca_file())
            .map_err(NodeError::system("certificate of the authority"))?;
        Ok(broker)
    }

    fn arguments(self) -> Result<DevArgs, TestBrokerError> {
        fn all<T>(
            texts: &[String],
            parse: impl Fn(&str) -> Result<T, String>,
        ) -> Result<Vec<T>, Failure> {
            let parsed = texts.iter().map(|text| {
                parse(text).map_err(|reason| Failure::Declaration(format!("{text:?}: {reason}")))
            });
            parsed.collect()
        }
        let users = self.users.iter().map(|text| {
            // The text holds a password, which no error may show.
            user(text).map_err(|reason| Failure::Declaration(format!("user: {reason}")))
        });
        // A mistake in them is told here, where no option is spoken of.
        all(&self.acls, acl::new_rule)?;
        Ok(DevArgs {
            data_dir: self.data_dir,
            bind: "127.0.0.1".to_owned(),
            port: Some(0),
            json: false,
            topics: all(&self.topics, topic)?,
            users: users.collect::<Result<_, _>>()?,
            acls: self.acls,
            plaintext: self.plaintext,
            overrides: self.overrides,
        })
    }
}

/// The whole life of a broker, on a thread of its own.
fn live(
    arguments: DevArgs,
    started: oneshot::Sender<Announcement>,
    stopping: oneshot::Receiver<()>,
) -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("test broker")
        .enable_all()
        .build()
        .map_err(NodeError::system("threads"))?;
    runtime.block_on(async {
        let rules = arguments.check()?;
        let home = Home::open(arguments.data_dir.as_deref())?;
        let (running, announcement) = arguments.start(&home, rules, &CallOff::default()).await?;
        // An owner who is gone by now, or goes later, means the same: the end.
        if started.send(announcement).is_ok() {
            let _ = stopping.await;
        }
        home.stop(running).await?;
        home.close().map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_starts_beside_others_and_leaves_nothing() {
        let one = TestBroker::builder()
            .topic("orders", 2)
            .plaintext()
            .start()
            .await
            .unwrap();
        let other = TestBroker::start().await.unwrap();
        assert_ne!(one.bootstrap(), other.bootstrap());
        assert!(one.plaintext_bootstrap().is_some() && other.plaintext_bootstrap().is_none());
        let dirs = [one.data_dir().to_owned(), other.data_dir().to_owned()];
        assert!(dirs.iter().all(|dir| dir.is_dir()));
        one.stop().await.unwrap();
        drop(other);
        assert!(!dirs.iter().any(|dir| dir.exists()));
    }

    #[tokio::test]
    async fn a_kept_directory_has_one_broker_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let builder = TestBroker::builder().data_dir(dir.path());
        let first = builder.clone().start().await.unwrap();
        let error = builder.clone().start().await.unwrap_err().to_string();
        let expected = format!(
            "in use by another palisade dev, process {}",
            std::process::id()
        );
        assert!(error.contains(&expected), "{error}");
        let password = first.admin_password().map(str::to_owned);
        drop(first);
        let second = builder.start().await.unwrap();
        assert_eq!(second.admin_password(), password.as_deref());
    }

    #[tokio::test]
    async fn what_cannot_be_is_said() {
        let builder = TestBroker::builder;
        for (builder, part) in [
            (builder().topic("orders", 0), "\"orders:0\""),
            (
                builder().acl("allow alice all topic:t"),
                "expected Type:name",
            ),
            (builder().user("alice", ""), "user: expected NAME:PASSWORD"),
            (
                builder().set("nonsense.key", "1"),
                "unknown key nonsense.key",
            ),
            (
                builder().set("listeners", "PLAINTEXT://:1"),
                "--override listeners",
            ),
        ] {
            let error = builder.start().await.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
